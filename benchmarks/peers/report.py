"""The numbers as text: what was aimed at first, then what was lost, then every line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from peers.goals import WIDE, Row, geometric_mean, shape_of, verdicts
from peers.machine import describe

__all__ = ["write_report"]

ABOUT = """Paired in one run: in every round each contestant once. `x1.20 (1.15-1.31)`: the peer takes 1.20 times our
time, the median of the rounds' ratios, with the lowest and the highest tenth beside it; below 1 we are slower. Shapes
are (batch, steps, input = hidden), float32. Training is forward and backward with the gradients of all weights, biases
and the input; inference is forward alone. `roof` is the time of the bare matrix products."""


def write_report(record: Mapping[str, Any]) -> str:
    """The record of a run as markdown."""
    rows: Mapping[str, Sequence[Row]] = record["rows"]
    versus = rows.get("peers", ())
    parts = ["# Recurrent cells on the CPU", describe(record["machine"]), ABOUT, *_goals(rows)]
    if versus:
        by = sorted({row["backend"] for row in versus if "backend" in row})
        parts.append(f"Ours ran by: {'; '.join(by)}.")
        parts += [
            "## Summary",
            *_table(_summary(versus)),
            "## Where we are slower",
            *_losses(versus),
            *_details(versus),
        ]
    for name, section in rows.items():
        if name != "peers" and section:
            parts += [f"## {name}", *_table(section)]
    for title, lines in (("Left out", record["left_out"]), ("Errors", record["errors"])):
        if lines:
            parts += [f"## {title}", "\n".join(f"- {line}" for line in lines)]
    return "\n\n".join(parts) + "\n"


def _table(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """A markdown table; the first row's keys are its head."""
    rows = list(rows)
    if not rows:
        return ["nothing"]
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([_text(row[key]) for key in head] for row in rows)]
    return ["\n".join(f"| {' | '.join(line)} |" for line in lines)]


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def _goals(rows: Mapping[str, Sequence[Row]]) -> list[str]:
    found = verdicts(rows)
    lines = [
        {"goal": one.goal, "threads": one.threads, "found": one.found, "at": one.where, "rows": one.rows}
        | {"": "met" if one.met else "**missed**"}
        for one in found
    ]
    met = sum(one.met for one in found)
    return ["## Goals", f"{met} of {len(found)} met.", *_table(lines)] if found else []


def _groups(rows: Sequence[Row], *keys: str) -> dict[tuple, list[Row]]:
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def _peers(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["peer"] != "ours"]


def _summary(rows: Sequence[Row]) -> Iterable[dict[str, Any]]:
    for (cell, mode, threads, peer), group in _groups(_peers(rows), "cell", "mode", "threads", "peer").items():
        least, most = (choose(group, key=lambda row: row["ratio"]) for choose in (min, max))
        wide = [row["ratio"] for row in group if row["units"] >= WIDE]
        yield {
            "cell": cell, "mode": mode, "threads": threads, "peer": peer, "shapes": len(group),
            "geometric mean": geometric_mean([row["ratio"] for row in group]),
            f"units >= {WIDE}": geometric_mean(wide) if wide else "",
            "least": least["ratio"], "at": str(shape_of(least)), "most": most["ratio"], "there": str(shape_of(most)),
        }  # fmt: skip


def _losses(rows: Sequence[Row]) -> list[str]:
    lost = [row for row in _peers(rows) if row["ratio"] < 1 and row["peer"] != "roof"]
    lines = [
        {key: row[key] for key in ("cell", "mode", "threads")}
        | {"shape": str(shape_of(row)), "peer": row["peer"], "ours ms": row["ours_ms"], "its ms": row["ms"]}
        | {"times": f"x{row['ratio']:.2f} ({row['ratio_low']:.2f}-{row['ratio_high']:.2f})"}
        for row in sorted(lost, key=lambda row: row["ratio"])
    ]
    return _table(lines)


def _details(rows: Sequence[Row]) -> list[str]:
    parts = []
    for (cell, mode, threads), group in _groups(rows, "cell", "mode", "threads").items():
        peers = list(dict.fromkeys(row["peer"] for row in _peers(group)))
        lines = [_line(peers, shape, some) for shape, some in _groups(group, "batch", "steps", "units").items()]
        parts += [f"## {cell}, {mode}, {threads} thread{'s' * (threads > 1)}", *_table(lines)]
    return parts


def _line(peers: Sequence[str], shape: tuple, rows: Sequence[Row]) -> dict[str, Any]:
    """One shape: our time, and every peer's beside it."""
    # A loop that is compiled was paired with runs of ours in its own process; the first are those of the others.
    named = {row["peer"]: row for row in reversed(rows)}
    line: dict[str, Any] = {"shape": f"({', '.join(map(str, shape))})", "ours ms": named["ours"]["ms"]}
    line |= {f"{peer} ms": _beside(named[peer]) if peer in named else "-" for peer in peers}
    differences = [row["deviation"] for row in rows if row["deviation"] is not None]
    return line | {"largest difference": max(differences, default="-")}


def _beside(row: Row) -> str:
    """A peer's time and how many times ours that is."""
    text = f"{_text(row['ms'])} x{row['ratio']:.2f} ({row['ratio_low']:.2f}-{row['ratio_high']:.2f})"
    return f"{text}, ready after {row['first_call_s']:.0f} s" if row["peer"] == "compile" else text
