"""What the numbers are meant to reach, and whether they do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peers.problem import Shape

__all__ = ["GOALS", "LIMITS", "Verdict", "geometric_mean", "shape_of", "verdicts"]

WIDE = 128
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Goal:
    """How many times our time a peer must take at least.

    Args:
        cell, mode, peer: which rows.
        kind: `"everywhere"` or `"geometric mean"`.
        bound: the number to reach.
        shapes: these alone; None for all.
        wide: only shapes of 128 units and more.
    """

    cell: str
    mode: str
    peer: str
    kind: str
    bound: float
    shapes: tuple[Shape, ...] | None = None
    wide: bool = False

    def __str__(self) -> str:
        where = "" if self.shapes is None else " at " + ", ".join(map(str, self.shapes))
        kind = "" if self.shapes else f" {self.kind}"
        return f"{self.cell}, {self.mode}, {self.peer}: >= {self.bound:g}{kind}{where}{' (>= 128 units)' * self.wide}"

    def takes(self, row: Row) -> bool:
        """Whether it speaks of a row."""
        same = (row["cell"], row["mode"], row["peer"]) == (self.cell, self.mode, self.peer)
        fits = self.shapes is None or shape_of(row) in self.shapes
        return same and fits and (row["units"] >= WIDE or not self.wide)


@dataclass(frozen=True)
class Limit:
    """What a number of another section may be at most."""

    section: str
    column: str
    bound: float
    only: Mapping[str, str] | None = None

    def __str__(self) -> str:
        which = "".join(f", {value}" for value in (self.only or {}).values())
        return f"{self.section}{which}: {self.column} <= {self.bound:g}"


EVERYWHERE, MEAN = "everywhere", "geometric mean"
GOALS = (
    Goal("lstm", "train", "torch", EVERYWHERE, 1.0),
    Goal("lstm", "train", "torch", MEAN, 1.15, wide=True),
    Goal("lstm", "train", "torch", EVERYWHERE, 1.8, (Shape(1, 100, 64), Shape(32, 1000, 64))),
    Goal("lstm", "inference", "torch", EVERYWHERE, 0.95),
    Goal("lstm", "inference", "torch", MEAN, 1.3),
    Goal("gru", "train", "torch", MEAN, 3.0),
    Goal("gru", "train", "torch", EVERYWHERE, 1.3),
    Goal("gru", "train", "torch", EVERYWHERE, 8.0, (Shape(1, 75, 8),)),
    Goal("gru", "inference", "torch", MEAN, 1.7),
    Goal("gru", "inference", "torch", EVERYWHERE, 1.0),
    Goal("elman", "train", "torch", MEAN, 2.5),
    Goal("elman", "train", "torch", EVERYWHERE, 1.15),
    Goal("elman", "inference", "torch", MEAN, 1.5),
    Goal("elman", "inference", "torch", EVERYWHERE, 1.0),
    Goal("lstm", "train", "jax", EVERYWHERE, 1.5),
    Goal("peephole_lstm", "train", "jax", EVERYWHERE, 1.5),
    Goal("gru", "train", "jax", EVERYWHERE, 1.5),
    Goal("peephole_lstm", "train", "torchrecurrent", EVERYWHERE, 4.0, (Shape(32, 100, 128),)),
    Goal("peephole_lstm", "train", "eager", EVERYWHERE, 4.0, (Shape(32, 100, 128),)),
    Goal("lstm", "train", "roof", EVERYWHERE, 0.8, wide=True),
)
LIMITS = (
    Limit("zoo", "per operation", 1.2),
    Limit("scaling", "times", 10.5),
    Limit("streaming", "µs a step", 25, {"how": "ours, step"}),
    Limit("streaming", "µs a step", 25, {"how": "ours, stream"}),
    Limit("memory", "GB at the peak", 2.0, {"checkpoint every": "316"}),
)


@dataclass(frozen=True)
class Verdict:
    """A goal, what was found with so many threads, where, and out of how many rows."""

    goal: str
    threads: int
    found: float
    where: str
    rows: int
    met: bool


def shape_of(row: Row) -> Shape:
    """The shape of a row."""
    return Shape(row["batch"], row["steps"], row["units"])


def geometric_mean(values: Sequence[float]) -> float:
    """The mean of ratios."""
    return math.exp(sum(map(math.log, values)) / len(values))


def verdicts(rows: Mapping[str, Sequence[Row]]) -> list[Verdict]:
    """Every goal that the rows of the sections say something about, for each thread count."""
    threads = sorted({row["threads"] for section in rows.values() for row in section})
    found = []
    for number in threads:
        for goal in GOALS:
            mine = [row for row in rows.get("peers", ()) if row["threads"] == number and goal.takes(row)]
            found += [_reached(goal, number, mine)] if mine else []
        for limit in LIMITS:
            mine = [row for row in rows.get(limit.section, ()) if row["threads"] == number and _is_meant(limit, row)]
            found += [_kept(limit, number, mine)] if mine else []
    return found


def _reached(goal: Goal, threads: int, rows: Sequence[Row]) -> Verdict:
    if goal.kind == MEAN:
        value = geometric_mean([row["ratio"] for row in rows])
        return Verdict(str(goal), threads, value, "mean", len(rows), value >= goal.bound)
    least = min(rows, key=lambda row: row["ratio"])
    return Verdict(str(goal), threads, least["ratio"], str(shape_of(least)), len(rows), least["ratio"] >= goal.bound)


def _is_meant(limit: Limit, row: Row) -> bool:
    return all(str(row[key]) == value for key, value in (limit.only or {}).items())


def _kept(limit: Limit, threads: int, rows: Sequence[Row]) -> Verdict:
    worst = max(rows, key=lambda row: row[limit.column])
    over = sum(row[limit.column] > limit.bound for row in rows)
    words = [str(value) for key, value in worst.items() if key != "threads" and isinstance(value, str | int)]
    where = ", ".join(words) + (f"; {over} over" if over else "")
    return Verdict(str(limit), threads, worst[limit.column], where, len(rows), not over)
