"""What training on a very long sequence takes in memory: every case in a process of its own."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from peers.ours import make_module, ran_by
from peers.timing import Pace

__all__ = ["measure", "plan"]

BATCH, HIDDEN, STEPS, QUICK_STEPS = 8, 64, 100_000, 5_000


def plan(options: Any) -> list[dict[str, Any]]:
    """With segments of the square root of the length, and without."""
    steps = QUICK_STEPS if options.quick else STEPS
    segment = math.isqrt(steps)
    return [{"steps": steps, "checkpoint_every": every, "alone": True} for every in (segment, None)]


def peak() -> float:
    """The most memory that this process has had in RAM, in GB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def measure(task: Mapping[str, Any], pace: Pace, report: Callable[..., None]) -> list[dict[str, Any]]:
    """One training step of an LSTM, its gradients of all parameters."""
    torch.manual_seed(0)
    before, steps = peak(), task["steps"]
    module = make_module("lstm", HIDDEN, HIDDEN, task["backend"], checkpoint_every=task["checkpoint_every"])
    x = torch.randn(steps, BATCH, HIDDEN)
    report(ready=0.0)
    begin = time.perf_counter()
    module(x)[0].square().mean().backward()
    seconds = time.perf_counter() - begin
    row = {"cell": "lstm", "steps": steps, "batch": BATCH, "hidden": HIDDEN}
    row |= {"checkpoint every": task["checkpoint_every"] or "never", "seconds": seconds}
    return [row | {"GB at the start": before, "GB at the peak": peak(), "back end": ran_by(module)}]
