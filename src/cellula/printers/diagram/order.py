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

_SWEEPS = 10
# No part has more entries than this many places.
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
        self.parts = columns.drawing.parts
        self.found: dict[Order, int] = {}
        count = len(self.stops)
        # The neighbours of every stop to the left and to the right.
        self.left: list[list[int]] = [[] for _ in range(count)]
        self.right: list[list[int]] = [[] for _ in range(count)]
        for gap in columns.gaps:
            for start, ends in gap:
                for stop, _ in ends:
                    self.left[stop].append(start)
                    self.right[start].append(stop)

    def run(self, start: list[list[int]], rightwards: bool) -> None:
        """Sweep to and fro from one order, and note the best that comes by."""
        self.order = [sorted(column, key=lambda stop: self.stops[stop].level) for column in start]
        self.place = [0] * len(self.stops)
        for column in range(len(self.order)):
            self._number(column)
        for sweep in range(_SWEEPS):
            forwards = rightwards == (sweep % 2 == 0)
            numbers = range(1, len(self.order)) if forwards else range(len(self.order) - 2, -1, -1)
            for column in numbers:
                self._sort(column, self.left if forwards else self.right)
            while self._exchange():
                pass
            self.found.setdefault(
                tuple(map(tuple, self.order)), sum(map(self._crossings, range(len(self.columns.gaps))))
            )

    def _number(self, column: int) -> None:
        for place, stop in enumerate(self.order[column]):
            self.place[stop] = place

    def _sort(self, column: int, neighbours: list[list[int]]) -> None:
        def middle(stop: int) -> tuple[float, float]:
            near = [self.place[other] for other in neighbours[stop]]
            return self.stops[stop].level, sum(near) / len(near) if near else self.place[stop]

        self.order[column].sort(key=middle)
        self._number(column)

    def _exchange(self) -> bool:
        """One round of exchanging neighbours; whether any exchange saved a crossing."""
        better = False
        for column, stops in enumerate(self.order):
            for upper in range(len(stops) - 1):
                one, other = stops[upper], stops[upper + 1]
                if self.stops[one].level != self.stops[other].level:
                    continue
                before = self._beside(column)
                stops[upper], stops[upper + 1] = other, one
                self.place[one], self.place[other] = upper + 1, upper
                if self._beside(column) < before:
                    better = True
                else:
                    stops[upper], stops[upper + 1] = one, other
                    self.place[one], self.place[other] = upper, upper + 1
        return better

    def _beside(self, column: int) -> int:
        """The crossings in the gaps on both sides of a column."""
        gaps = range(max(column - 1, 0), min(column + 1, len(self.columns.gaps)))
        return sum(map(self._crossings, gaps))

    def _crossings(self, gap: int) -> int:
        """Crossings of lines that share their way until they fork."""
        nets = [(self.place[net[0]], self._arrivals(net)) for net in self.columns.gaps[gap]]
        total = 0
        for one, other in combinations(sorted(nets), 2):
            upper, lower = one[1], other[1]
            highest, lowest = min(lower), max(upper)
            if lowest > highest:
                total += min(sum(end > highest for end in upper), sum(end < lowest for end in lower))
        return total

    def _arrivals(self, net: Net) -> list[int]:
        """Where a net's ends arrive, as numbers that grow downwards."""
        found = []
        for stop, entry in net[1]:
            # Entries that may stand in any order follow the order of what they come from.
            ordered = entry is not None and self.parts[stop].ordered
            found.append(self.place[stop] * _PLACES + (entry if ordered and entry is not None else self.place[net[0]]))
        return found
