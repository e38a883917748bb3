"""The results as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from peers.machine import describe

from memory_tasks.plan import CELLS, TASKS, Row, fingerprint
from memory_tasks.task import Task

__all__ = ["Summary", "changed_since", "main_table", "summarise", "write_report"]


@dataclass(frozen=True)
class Summary:
    """What a cell reached on a task.

    Args:
        scores: on the test sequences, one a seed, in order; the task's score without memory where a training diverged.
        solved: how many of them are good enough.
        solved_at: steps after which the validation sequences were solved first, the median of the seeds that did.
        rate: the learning rate that the pilots chose.
    """

    scores: tuple[float, ...]
    solved: int
    solved_at: float | None
    rate: float


def summarise(rows: Sequence[Row], cell: str, task: Task) -> Summary | None:
    """The trainings of the formula that was trained last; None where there are none."""
    own = [row for row in rows if (row["cell"], row["task"], row["phase"]) == (cell, task.name, "seed")]
    if not own:
        return None
    kind = {key: own[-1][key] for key in ("formula", "hidden", "most_steps")}
    own = sorted((row for row in own if kind.items() <= row.items()), key=lambda row: row["seed"])
    scores = tuple(task.without_memory if row["score"] is None else row["score"] for row in own)
    found = [row["solved_at"] for row in own if row["solved_at"] is not None]
    return Summary(scores, sum(map(task.is_solved, scores)), median(found) if found else None, own[0]["rate"])


def changed_since(record: Mapping[str, Any]) -> list[str]:
    """Cells whose formula or starting values are no longer those that were trained last."""
    last = {row["cell"]: row["formula"] for row in record["rows"]}
    return [cell for cell, formula in last.items() if formula != fingerprint(cell)]


# Task -> how its score is written.
FORMATS = {"adding": "{:.2g}", "copy_memory": "{:.1%}", "counting": "{:.0f}"}


def number(task: Task, value: float) -> str:
    """A score in words."""
    return FORMATS[task.name].format(value)


def _scores(rows: Sequence[Row], cell: str, task: Task) -> str:
    """Median, lowest and highest seed, how many solved it and after how many steps."""
    found = summarise(rows, cell, task)
    if found is None:
        return "-"
    middle, low, high = (number(task, one(found.scores)) for one in (median, min, max))
    at = f" at {found.solved_at:.0f}" if found.solved and found.solved_at else ""
    spread = middle if low == high else f"{middle} ({low} to {high})"
    return f"{spread}, {found.solved}/{len(found.scores)}{at}"


def _families(record: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Family and cell, of those that were trained."""
    trained = {row["cell"] for row in record["rows"] if row["phase"] == "seed"}
    return ((family, cell) for family, cells in CELLS.items() for cell in cells if cell in trained)


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines))


def main_table(record: Mapping[str, Any]) -> str:
    """Cells and tasks: median of the seeds, lowest and highest, how many solved it; then what a cell costs."""
    prices = {price["cell"]: price for price in record.get("prices", ())}
    lines = []
    for _, cell in _families(record):
        price = prices.get(cell)
        costs = (
            [f"{price['parameters']:,}", f"{price['operations'] / 1000:.0f}", f"{price['milliseconds']:.1f}"]
            if price
            else ["-"] * 3
        )
        scores = [_scores(record["rows"], cell, task) for task in TASKS.values()]
        lines.append([f"[`{cell}`](cells/{cell}.md)", *scores, *costs])
    head = ["cell", "adding: squared error", "copy memory: symbols right", "a^n b^n c^n: right up to n"]
    return _table([*head, "learned", "operations, thousands", "ms"], lines)


def detail_table(record: Mapping[str, Any]) -> str:
    """For every cell and task: the learning rate, the steps to the solution, every seed."""
    lines = []
    for family, cell in _families(record):
        for task in TASKS.values():
            found = summarise(record["rows"], cell, task)
            if found:
                steps = "-" if found.solved_at is None else f"{found.solved_at:.0f}"
                scores = ", ".join(f"{score:.4g}" for score in found.scores)
                lines.append([family, cell, task.name, f"{found.rate:g}", steps, f"{found.solved}", scores])
    return _table(["family", "cell", "task", "rate", "solved at step", "seeds solved", "test scores"], lines)


def write_report(record: Mapping[str, Any]) -> str:
    """All tables, with what was measured where."""
    tasks = [
        [
            task.title,
            task.unit,
            number(task, task.without_memory),
            number(task, task.solved),
            f"{task.steps}",
            task.source,
        ]
        for task in TASKS.values()
    ]
    head = ["task", "score", "without memory", "solved from", "steps at most", "source"]
    rows, hidden = record["rows"], record["budget"]["hidden"]
    minutes, clock = (sum(row[key] for row in rows) / 60 for key in ("seconds", "wall"))
    parts = [
        "# Which cell learns what",
        "Written by `python benchmarks/choose_a_cell.py`; explained in [Choose a cell](../../docs/choose-a-cell.md).",
        _table(head, tasks),
        main_table(record).replace("(cells/", "(../../docs/cells/"),
        "Each training's end:",
        detail_table(record),
        f"{len(rows)} trainings with {hidden} units on one thread: {minutes:.0f} minutes of processor time, "
        f"{clock:.0f} minutes by the clock beside other work. Begun on:",
        "\n".join(f"- {describe(place)}" for place in record["machines"]),
    ]
    changed = changed_since(record)
    parts += [f"Formula or starting values changed since: {', '.join(changed)}."] if changed else []
    return "\n\n".join(parts) + "\n"
