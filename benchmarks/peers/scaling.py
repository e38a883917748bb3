"""Ten times the steps, and ten times the batch: how many times the time a training step takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from peers.ours import make_ours
from peers.problem import Case, Shape, make_problem
from peers.timing import Pace, interleave, paired, spread

__all__ = ["measure", "plan"]

STARTS = (Shape(32, 100, 64), Shape(32, 100, 128))


def plan(options: Any) -> list[dict[str, Any]]:
    """One task a cell, shape and direction of growth."""
    starts = STARTS[:1] if options.quick else STARTS
    cells = options.cells[:1] if options.quick else options.cells
    return [
        {"cell": cell, "shape": start, "grows": grows}
        for cell in cells
        for start in starts
        for grows in ("steps", "batch")
    ]


def measure(task: Mapping[str, Any], pace: Pace, report: Callable[..., None]) -> list[dict[str, Any]]:
    """The small and the large run in turn."""
    start, grows = Shape(*task["shape"]), task["grows"]
    large = start._replace(**{grows: 10 * getattr(start, grows)})
    calls = {
        str(shape): make_ours(make_problem(Case(task["cell"], "train", shape)), task["backend"]).run
        for shape in (start, large)
    }
    for call in calls.values():
        call()
    report(ready=0.0)
    small_times, large_times = interleave(calls, pace).values()
    ratio = paired(large_times, small_times)
    row = {"cell": task["cell"], "from": str(start), "to": str(large), "ms": 1e3 * spread(small_times).median}
    row |= {"ten times ms": 1e3 * spread(large_times).median, "times": ratio.median}
    return [row | {"low": ratio.low, "high": ratio.high}]
