"""The ways of the wires: across every gap a value runs along one upright line, from which it forks to where it goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from cellula.printers.diagram.columns import Columns
from cellula.printers.diagram.place import Apart, Placing

__all__ = ["Branch", "Trunk", "conflicts", "route_gap"]

# Two lines nearer than this would touch.
_NEAR = 6
# How often every line may move at most.
_ROUNDS = 20


@dataclass(frozen=True)
class Branch:
    """One end of a net to the right of a gap.

    Args:
        height: at which it arrives.
        stop, entry: where.
    """

    height: int
    stop: int
    entry: int | None


@dataclass(frozen=True)
class Trunk:
    """A value between two columns.

    Args:
        start: the stop that it comes from.
        height: at which it comes in.
        branches: where it goes.
        track: the number of its upright line from the left, None where it goes straight on.
    """

    start: int
    height: int
    branches: tuple[Branch, ...]
    track: int | None = None

    @property
    def span(self) -> tuple[int, int]:
        """The top and the bottom of its upright line."""
        heights = [self.height, *(branch.height for branch in self.branches)]
        return min(heights), max(heights)


def route_gap(columns: Columns, placing: Placing, gap: int) -> list[Trunk]:
    """The nets of a gap with tracks for their upright lines: lines do not lie on each other, and cross little."""
    trunks = []
    for start, ends in columns.gaps[gap]:
        branches = tuple(Branch(placing.arrivals[stop, entry], stop, entry) for stop, entry in ends)
        trunks.append(Trunk(start, placing.heights[start], branches))
    upright = [trunk for trunk in trunks if trunk.span[0] != trunk.span[1]]
    straight = [trunk for trunk in trunks if trunk.span[0] == trunk.span[1]]
    ordered = _ordered(sorted(upright, key=lambda trunk: trunk.height))
    tracks: list[int] = []
    for number, trunk in enumerate(ordered):
        beside = [tracks[other] for other in range(number) if _meet(ordered[other], trunk)]
        tracks.append(max(beside, default=-1) + 1)
    placed = [Trunk(t.start, t.height, t.branches, track) for t, track in zip(ordered, tracks, strict=True)]
    return [*straight, *placed]


def conflicts(trunks: Sequence[Trunk]) -> list[Apart]:
    """Lines of a gap that lie on each other whatever their order: what must stand apart, so that they do not."""
    upright = sorted((t for t in trunks if t.track is not None), key=lambda trunk: trunk.track or 0)
    return [
        (right.start, branch.stop, branch.entry, branch.height >= right.height)
        for left, right in combinations(upright, 2)
        if left.track != right.track
        for branch in left.branches
        if abs(branch.height - right.height) < _NEAR
    ]


def _meet(one: Trunk, other: Trunk) -> bool:
    """Whether two upright lines cannot share a track."""
    (top, bottom), (upper, lower) = one.span, other.span
    return top <= lower + _NEAR and upper <= bottom + _NEAR


def _cost(left: Trunk, right: Trunk) -> int:
    """What it costs to put one upright line left of another: crossings; much where lines would lie on each other."""
    (top, bottom), (upper, lower) = left.span, right.span
    crossings = sum(upper < branch.height < lower for branch in left.branches) + (top < right.height < bottom)
    # The line that comes in on the right one lies on a line that leaves the left one.
    overlap = sum(abs(branch.height - right.height) < _NEAR for branch in left.branches)
    return crossings + 1000 * overlap


def _ordered(trunks: list[Trunk]) -> list[Trunk]:
    """An order from left to right that costs little: each line in turn goes to the best place among the others."""
    costs = [[_cost(one, other) if one is not other else 0 for other in trunks] for one in trunks]
    order = list(range(len(trunks)))
    for _ in range(_ROUNDS):
        before = list(order)
        for line in before:
            order.remove(line)
            # What it costs to stand leftmost, then one place further to the right, and so on.
            cost = best = sum(costs[line][other] for other in order)
            target = 0
            for place, other in enumerate(order, 1):
                cost += costs[other][line] - costs[line][other]
                if cost < best or (cost == best and place <= before.index(line)):
                    best, target = cost, place
            order.insert(target, line)
        if order == before:
            break
    return [trunks[number] for number in order]
