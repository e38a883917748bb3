"""The order of parts and wires within their columns: with as few crossings as can be found.

Sweeps over the columns sort each by the middle of its neighbours, then neighbours change places as long as that
saves crossings. Reference: Sugiyama, Tagawa & Toda 1981; Gansner et al. 1993, section 3.
"""

from __future__ import annotations

from itertools import combinations

from cellula.printers.diagram.columns import Columns, Net

__all__ = ["Order", "good_orders"]

# The stops of every column from top to bottom.
Order = tuple[tuple[int, ...], ...]

_SWEEPS, _ROUNDS = 10, 12
# No column has more places than this.
_PLACES = 10_000


def good_orders(columns: Columns, count: int) -> list[Order]:
    """The best orders that the search finds, the one with the fewest crossings first.

    Args:
        columns: what is to be ordered.
        count: how many to give at most.
    """
    search = _Search(columns)
    members = columns.members()
    for start in (members, [column[::-1] for column in members]):
        search.run(start, rightwards=True)
        search.run(start, rightwards=False)
    ranked = sorted(search.found.items(), key=lambda item: (item[1], item[0]))
    return [order for order, _ in ranked[:count]]


class _Search:
    """Orders that were seen, with their crossings."""

    def __init__(self, columns: Columns) -> None:
        self.columns, self.stops = columns, columns.stops
        self.found: dict[Order, int] = {}
        self.order: list[list[int]] = []
        self.place = [0] * len(self.stops)
        # For every stop the nets that arrive at it, and the net that leaves it.
        self.arriving: list[list[Net]] = [[] for _ in self.stops]
        self.leaving: list[Net | None] = [None] * len(self.stops)
        for net in (net for gap in columns.gaps for net in gap):
            self.leaving[net[0]] = net
            for stop in dict.fromkeys(stop for stop, _ in net[1]):
                self.arriving[stop].append(net)

    def run(self, start: list[list[int]], rightwards: bool) -> None:
        """Sweep to and fro from one order, and note the best that comes by."""
        self.order = [sorted(column, key=lambda stop: self.stops[stop].level) for column in start]
        for column in range(len(self.order)):
            self._number(column)
        for sweep in range(_SWEEPS):
            forwards = rightwards == (sweep % 2 == 0)
            numbers = range(1, len(self.order)) if forwards else range(len(self.order) - 2, -1, -1)
            for column in numbers:
                self._sort(column, forwards)
            # Each round saves a crossing; what is left after so many is not worth the wait.
            for _ in range(_ROUNDS):
                if sum(self._exchange(column) for column in range(len(self.order))) == 0:
                    break
            self.found.setdefault(tuple(map(tuple, self.order)), self._crossings())

    def _number(self, column: int) -> None:
        for place, stop in enumerate(self.order[column]):
            self.place[stop] = place

    def _sort(self, column: int, forwards: bool) -> None:
        def middle(stop: int) -> tuple[float, float]:
            net = self.leaving[stop]
            if forwards:
                near = [self.place[net[0]] for net in self.arriving[stop] for end in net[1] if end[0] == stop]
            else:
                near = [self.place[end] for end, _ in net[1]] if net else []
            return self.stops[stop].level, sum(near) / len(near) if near else self.place[stop]

        self.order[column].sort(key=middle)
        self._number(column)

    def _exchange(self, column: int) -> bool:
        """Exchange neighbours of a column where that saves crossings; whether any was exchanged."""
        stops, better = self.order[column], False
        for upper in range(len(stops) - 1):
            one, other = stops[upper], stops[upper + 1]
            if self.stops[one].level != self.stops[other].level:
                continue
            before = self._between(one, other)
            self.place[one], self.place[other] = upper + 1, upper
            if self._between(one, other) < before:
                stops[upper], stops[upper + 1] = other, one
                better = True
            else:
                self.place[one], self.place[other] = upper, upper + 1
        return better

    def _between(self, one: int, other: int) -> int:
        """The crossings of the nets at two neighbours: all that changes where they change places."""
        total = sum(
            self._pair(first, second)
            for first in self.arriving[one]
            for second in self.arriving[other]
            if first is not second
        )
        leaving, following = self.leaving[one], self.leaving[other]
        return total + (self._pair(leaving, following) if leaving and following else 0)

    def _crossings(self) -> int:
        pairs = (pair for gap in self.columns.gaps for pair in combinations(gap, 2))
        return sum(self._pair(one, other) for one, other in pairs)

    def _pair(self, one: Net, other: Net) -> int:
        """How often two nets cross that share their way until they fork."""
        if self.place[one[0]] > self.place[other[0]]:
            one, other = other, one
        upper, lower = self._arrivals(one), self._arrivals(other)
        highest, lowest = min(lower), max(upper)
        if lowest <= highest:
            return 0
        return min(sum(end > highest for end in upper), sum(end < lowest for end in lower))

    def _arrivals(self, net: Net) -> list[int]:
        """Where a net's ends arrive, as numbers that grow downwards."""
        place, here = self.place, self.place[net[0]]
        # The entries of a part follow the order of what they come from.
        return [place[stop] * _PLACES + here for stop, _ in net[1]]
