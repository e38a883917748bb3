"""Paired, interleaved samples: in every round each contestant once, so that a slow moment of the machine hits all."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Pace", "Spread", "interleave", "paired", "spread"]

# Threads of the contestant before may still spin on a core when a sample begins.
SETTLE = 0.002


@dataclass(frozen=True)
class Pace:
    """How long to measure.

    Args:
        least: rounds that every contestant runs at least.
        most: rounds that one runs at most.
        budget: seconds that the rounds of one contestant should take.
        sample: seconds that a sample lasts at least; calls shorter than that are repeated within it.
    """

    least: int = 5
    most: int = 30
    budget: float = 0.6
    sample: float = 0.002


@dataclass(frozen=True)
class Spread:
    """A median and where the middle eight tenths lie."""

    median: float
    low: float
    high: float


def interleave(contestants: Mapping[str, Callable[[], Any]], pace: Pace) -> dict[str, list[float]]:
    """Seconds per call of every contestant, one sample a round.

    The first one, with which the others are paired, runs in every round; slower ones may stop after fewer rounds.
    """
    single = {name: _estimate(call) for name, call in contestants.items()}
    calls = {name: max(1, math.ceil(pace.sample / seconds)) for name, seconds in single.items()}
    rounds = {name: _rounds(single[name] * calls[name], pace) for name in contestants}
    names = list(contestants)
    found: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.freeze()
    for number in range(rounds[names[0]]):
        gc.collect()
        # A different one begins each time, so that nobody always follows the same neighbour out of the same cache.
        first = number % len(names)
        for name in names[first:] + names[:first]:
            if number < rounds[name]:
                found[name].append(_sample(contestants[name], calls[name], single[name] < 10 * pace.sample))
    gc.unfreeze()
    return found


def _estimate(call: Callable[[], Any]) -> float:
    """Seconds of one call; of a short one the better of two."""
    seconds = _sample(call, 1, False)
    return max(1e-7, seconds if seconds > 0.1 else min(seconds, _sample(call, 1, False)))


def _rounds(seconds: float, pace: Pace) -> int:
    return min(pace.most, max(pace.least, int(pace.budget / seconds)))


def _sample(call: Callable[[], Any], calls: int, warm: bool) -> float:
    """Seconds per call, without the garbage collector."""
    time.sleep(SETTLE)
    gc.disable()
    try:
        if warm:
            call()
        begin = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - begin) / calls
    finally:
        gc.enable()


def spread(values: Sequence[float]) -> Spread:
    """The median, and the limits of the lowest and the highest tenth."""
    if len(values) < 2:
        return Spread(values[0], values[0], values[0])
    tenths = statistics.quantiles(values, n=10, method="inclusive")
    return Spread(statistics.median(values), tenths[0], tenths[-1])


def paired(theirs: Sequence[float], ours: Sequence[float]) -> Spread:
    """How many times our time they take, from the ratios of the rounds that both ran."""
    return spread([their / our for their, our in zip(theirs, ours, strict=False)])
