"""The main section: our cells against the peers, shape by shape."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from peers.compiled import make_compiled
from peers.eager import make_eager
from peers.jax_scan import make_jax
from peers.ours import make_ours
from peers.problem import Case, Contestant, Problem, Shape, Unavailable, compare, make_problem
from peers.roof import make_roof
from peers.timing import Pace, interleave, paired, spread
from peers.torch_nn import make_torch
from peers.torchrecurrent_layer import make_torchrecurrent

__all__ = ["COMPILE_STEPS", "PEERS", "SHAPES", "measure", "plan"]

PEERS: dict[str, Callable[[Problem], Contestant]] = {
    "torch": make_torch,
    "eager": make_eager,
    "compile": make_compiled,
    "torchrecurrent": make_torchrecurrent,
    "jax": make_jax,
    "roof": make_roof,
}
SHAPES = (
    Shape(1, 75, 8),
    Shape(1, 100, 64),
    Shape(1, 100, 256),
    Shape(12, 100, 64),
    Shape(32, 100, 128),
    Shape(32, 100, 256),
    Shape(64, 200, 256),
    Shape(128, 50, 512),
    Shape(32, 1000, 32),
    Shape(32, 1000, 64),
)
# Longer loops are compiled only when asked for: the compiler unrolls them.
COMPILE_STEPS = 100


def plan(options: Any) -> list[dict[str, Any]]:
    """One task a case; the compiled loop has a task of its own, since it may take too long to compile."""
    cases = [
        {"cell": cell, "mode": mode, "shape": shape}
        for cell in options.cells
        for mode in options.modes
        for shape in options.shapes
    ]
    peers = [name for name in options.peers if name != "compile"]
    tasks = [case | {"peers": peers} for case in cases] if peers or "compile" not in options.peers else []
    if "compile" in options.peers:
        short = [case for case in cases if case["shape"].steps <= COMPILE_STEPS or options.compile_all]
        tasks += [case | {"peers": ["compile"], "alone": True} for case in short]
    return tasks


def measure(task: Mapping[str, Any], pace: Pace, report: Callable[..., None]) -> list[dict[str, Any]]:
    """Check all contestants against ours, then time them.

    Args:
        task: cell, mode, shape, peers, backend.
        pace: how long to measure.
        report: called with `ready=seconds` once everybody has run, and with `skipped=text` for a peer that cannot.
    """
    case = Case(task["cell"], task["mode"], Shape(*task["shape"]))
    problem = make_problem(case)
    ours = make_ours(problem, task["backend"])
    assert ours.read is not None
    expected = ours.read(ours.run())
    contestants, deviations, firsts = {"ours": ours}, {}, {}
    for name in task["peers"]:
        try:
            contestant = PEERS[name](problem)
        except Unavailable as reason:
            report(skipped=str(reason))
            continue
        begin = time.perf_counter()
        result = contestant.run()
        firsts[name] = time.perf_counter() - begin
        deviations[name] = compare(name, contestant.read(result), expected) if contestant.read else None
        contestants[name] = contestant
    del expected
    report(ready=sum(firsts.values()))
    found = interleave({name: contestant.run for name, contestant in contestants.items()}, pace)
    where = {"cell": case.cell, "mode": case.mode, **case.shape._asdict()}
    rows = []
    for name, seconds in found.items():
        own, ratio = spread(seconds), paired(seconds, found["ours"])
        row = {"peer": name, "ms": 1e3 * own.median, "ms_low": 1e3 * own.low, "ms_high": 1e3 * own.high}
        row |= {"ours_ms": 1e3 * spread(found["ours"][: len(seconds)]).median, "ratio": ratio.median}
        row |= {"ratio_low": ratio.low, "ratio_high": ratio.high, "rounds": len(seconds)}
        row |= {"deviation": deviations.get(name), "first_call_s": firsts.get(name)}
        ran_by = contestants[name].ran_by
        rows.append(where | row | ({"backend": ran_by()} if ran_by else {}))
    return rows
