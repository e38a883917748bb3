"""Whole numbers as close together as their distances allow: the network simplex method.

It gives both the columns of a picture and the heights of its parts. Reference: Gansner, Koutsofios, North & Vo 1993,
"A technique for drawing directed graphs", sections 2.3 and 4.2.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

__all__ = ["Distance", "tightest"]

# (one, other, least, weight): other stands at least so far behind one; every unit between them costs the weight.
Distance = tuple[int, int, int, int]

# How much of the method is done at most; every cell of the zoo needs less than a tenth of it.
_WORK = 4_000_000


def tightest(count: int, distances: Sequence[Distance]) -> list[int]:
    """Numbers for which the sum of weight times difference is smallest.

    Args:
        count: how many numbers.
        distances: what must lie between them; together they connect all numbers, without a cycle.

    Returns:
        The numbers, from 0.

    Raises:
        ValueError: the distances form a cycle.

    Example:
        >>> tightest(3, [(0, 1, 2, 1), (1, 2, 1, 1), (0, 2, 5, 1)])
        [0, 2, 5]
    """
    if count == 0:
        return []
    numbers = _feasible(count, distances)
    tree = _Tree(count, distances, numbers)
    # Ties could go round in circles, and huge pictures could take minutes: what is reached by then is good enough.
    for _ in range(min(50 * count, _WORK // (count + len(distances)))):
        if not tree.improve():
            break
    lowest = min(numbers)
    return [number - lowest for number in numbers]


def _feasible(count: int, distances: Sequence[Distance]) -> list[int]:
    """The smallest numbers that keep all distances."""
    waiting, after = [0] * count, [[] for _ in range(count)]
    for one, other, least, _ in distances:
        waiting[other] += 1
        after[one].append((other, least))
    numbers, ready, done = [0] * count, deque(n for n in range(count) if not waiting[n]), 0
    while ready:
        one = ready.popleft()
        done += 1
        for other, least in after[one]:
            numbers[other] = max(numbers[other], numbers[one] + least)
            waiting[other] -= 1
            if not waiting[other]:
                ready.append(other)
    if done < count:
        raise ValueError("the distances form a cycle")
    return numbers


class _Tree:
    """A spanning tree of tight distances, improved by exchanging one of them for another."""

    def __init__(self, count: int, distances: Sequence[Distance], numbers: list[int]) -> None:
        self.count, self.distances, self.numbers = count, distances, numbers
        self.pull = [0] * count
        for one, other, _, weight in distances:
            self.pull[one] += weight
            self.pull[other] -= weight
        self.chosen: set[int] = set()
        self.touching: list[list[int]] = [[] for _ in range(count)]
        for place, (one, other, _, _) in enumerate(distances):
            self.touching[one].append(place)
            self.touching[other].append(place)
        self._span()

    def slack(self, place: int) -> int:
        one, other, least, _ = self.distances[place]
        return self.numbers[other] - self.numbers[one] - least

    def _span(self) -> None:
        """Grow the tree by tight distances; where there is none, move the tree until there is one."""
        inside = {0}
        fringe = deque([0])
        while True:
            while fringe:
                node = fringe.popleft()
                for place in self.touching[node]:
                    one, other, _, _ = self.distances[place]
                    far = other if node == one else one
                    if far not in inside and self.slack(place) == 0:
                        inside.add(far)
                        self.chosen.add(place)
                        fringe.append(far)
            if len(inside) == self.count:
                return
            border = (p for p, (one, other, _, _) in enumerate(self.distances) if (one in inside) != (other in inside))
            place = min(border, key=lambda place: (self.slack(place), place))
            shift = self.slack(place) if self.distances[place][0] in inside else -self.slack(place)
            for node in inside:
                self.numbers[node] += shift
            fringe.extend(sorted(inside))

    def improve(self) -> bool:
        """One exchange; false where nothing gets better."""
        order, parent = self._walk()
        below = list(self.pull)
        for node in reversed(order):
            if parent[node] >= 0:
                place = parent[node]
                one, other, _, _ = self.distances[place]
                below[one + other - node] += below[node]
        for node in order:
            place = parent[node]
            if place < 0:
                continue
            # The gain of moving the part of the tree below this distance away from the rest, or towards it.
            outwards = self.distances[place][1] == node
            cut = -below[node] if outwards else below[node]
            if cut < 0:
                self._exchange(place, node, outwards, order, parent)
                return True
        return False

    def _walk(self) -> tuple[list[int], list[int]]:
        """The nodes from the root, and the distance that leads to each."""
        parent, order, seen = [-1] * self.count, [0], {0}
        for node in order:
            for place in self.touching[node]:
                if place in self.chosen:
                    one, other, _, _ = self.distances[place]
                    far = one + other - node
                    if far not in seen:
                        seen.add(far)
                        parent[far] = place
                        order.append(far)
        return order, parent

    def _exchange(self, place: int, top: int, outwards: bool, order: list[int], parent: list[int]) -> None:
        """Drop a distance of the tree for the tightest one that leads the other way across the gap."""
        under = {top}
        for node in order:
            if parent[node] >= 0:
                one, other, _, _ = self.distances[parent[node]]
                if one + other - node in under:
                    under.add(node)
        best, least = -1, 0
        for candidate, (one, other, _, _) in enumerate(self.distances):
            crosses = (one in under and other not in under) if outwards else (other in under and one not in under)
            if crosses and (best < 0 or self.slack(candidate) < least):
                best, least = candidate, self.slack(candidate)
        shift = least if outwards else -least
        for node in under:
            self.numbers[node] += shift
        self.chosen.remove(place)
        self.chosen.add(best)
