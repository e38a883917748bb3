"""The heights of parts and wires: as many wires straight as can be, by the least sum of their steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from cellula.printers.diagram.columns import Columns
from cellula.printers.diagram.order import Order
from cellula.printers.diagram.shapes import Shape, shape_of
from cellula.printers.diagram.simplex import Distance, tightest

__all__ = ["Apart", "Placing", "place"]

# What a wire that passes takes up, and what stays free between neighbours.
_PASSING = Shape("wire", 0.0, 3.0, 3.0, 0.0, 0.0, 3.0, 3.0)
_FREE = 9
# Heights are multiples of this, so that wires that almost meet do meet.
_GRID = 5
# How much a step in a wire weighs: along a memory, and by whether its ends are passing wires. A step is best at
# the end of a wire.
_MEMORY = 100
_WEIGHTS = {(False, False): 8, (True, False): 10, (False, True): 14, (True, True): 16}

# Where a wire arrives: (stop, number of the entry or None for a passing wire).
_Arrival = tuple[int, int | None]
# (a stop, the stop and the entry of an arrival, whether the arrival lies below the first).
Apart = tuple[int, int, int | None, bool]


@dataclass(frozen=True)
class Placing:
    """Where everything stands, from the top.

    Args:
        heights: the middle of every stop.
        shapes: of every stop.
        arrivals: the height at which a wire arrives, by stop and entry.
    """

    heights: tuple[int, ...]
    shapes: tuple[Shape, ...]
    arrivals: Mapping[_Arrival, int]


def place(columns: Columns, order: Order, apart: Sequence[Apart] = ()) -> Placing:
    """Heights for an order of the stops.

    Args:
        columns: what is drawn.
        order: the stops of every column from top to bottom.
        apart: pairs of a stop and a wire's arrival that must not be level: the first above the second or below it.

    Raises:
        ValueError: what must be above and below cannot be.
    """
    shapes = _shapes(columns, order)
    numbers = _Numbers(columns, shapes)
    distances: list[Distance] = []
    for column in order:
        rows = [row for stop in column for row in numbers.rows(stop)]
        # The ceiling ties all columns together.
        distances += [(0, number, 0, 0) for number, _, _ in rows[:1]]
        for (upper, _, down), (lower, up, _) in pairwise(rows):
            distances.append((upper, lower, _steps(down + up), 0))
    distances += _outermost(columns, shapes, numbers)
    distances += numbers.stubs()
    for start, stop, entry, below in apart:
        target, step = numbers.arrival(stop, entry)
        ends = (numbers.of[start], target, 2 - step) if below else (target, numbers.of[start], 2 + step)
        distances.append((*ends, 0))
    count = numbers.count
    for one, other, step, weight in _wires(columns, numbers):
        # A number of its own before both ends: what it costs is the step between them.
        distances += [
            (0, count, -100_000, 0),
            (count, one, max(0, step), weight),
            (count, other, max(0, -step), weight),
        ]
        count += 1
    found = tightest(count, distances)
    heights = tuple((found[numbers.of[stop]] - found[0]) * _GRID for stop in range(len(columns.stops)))
    arrivals: dict[_Arrival, int] = {(stop, None): height for stop, height in enumerate(heights)}
    for stop, shape in enumerate(shapes):
        arrivals |= {(stop, entry): heights[stop] + round(port.height) for entry, port in enumerate(shape.ports)}
    arrivals |= {arrival: (found[number] - found[0]) * _GRID for arrival, number in numbers.stub.items()}
    return Placing(heights, tuple(shapes), arrivals)


def _steps(room: float) -> int:
    """A distance as steps of the grid, rounded up."""
    return math.ceil(room / _GRID)


class _Numbers:
    """The numbers to be found: 0 is the ceiling, then the heights of stops, and of wires that turn into a part."""

    def __init__(self, columns: Columns, shapes: list[Shape]) -> None:
        self.shapes = shapes
        # A memory leaves at the height at which it comes in, so that cells can be chained.
        same = {memory.end: memory.start for memory in columns.drawing.memories if memory.end is not None}
        same |= columns.taps
        own = [stop for stop in range(len(columns.stops)) if stop not in same]
        self.of = {stop: number for number, stop in enumerate(own, 1)}
        self.of |= {stop: self.of[other] for stop, other in same.items()}
        turning = [
            (stop, entry)
            for stop, shape in enumerate(shapes)
            for entry, port in enumerate(shape.ports)
            if port.side != "left"
        ]
        self.stub: dict[_Arrival, int] = {arrival: number for number, arrival in enumerate(turning, len(own) + 1)}
        self.count = 1 + len(own) + len(turning)

    def rows(self, stop: int) -> list[tuple[int, float, float]]:
        """What a stop takes up in its column, from top to bottom: (number, above it, below it)."""
        shape = self.shapes[stop]
        found = [(self.of[stop], shape.up + _FREE / 2, shape.down + _FREE / 2)]
        for entry, port in enumerate(shape.ports):
            if port.side != "left":
                # Towards the part itself a distance of its own holds.
                row = (self.stub[stop, entry], 3 + _FREE / 2, 3 + _FREE / 2)
                if port.side == "top":
                    found.insert(0, (row[0], row[1], -1000.0))
                else:
                    found.append((row[0], -1000.0, row[2]))
        return found

    def arrival(self, stop: int, entry: int | None) -> tuple[int, int]:
        """The number at which a wire arrives, and how many steps below it."""
        if (stop, entry) in self.stub:
            return self.stub[stop, entry], 0
        return self.of[stop], 0 if entry is None else round(self.shapes[stop].ports[entry].height / _GRID)

    def stubs(self) -> list[Distance]:
        """How far wires that turn into a part stay away from its middle; no further than they need."""
        found: list[Distance] = []
        for (stop, entry), number in self.stub.items():
            port = self.shapes[stop].ports[entry or 0]
            ends = (self.of[stop], number) if port.side == "bottom" else (number, self.of[stop])
            found.append((*ends, _steps(abs(port.height)), 1))
        return found


def _outermost(columns: Columns, shapes: list[Shape], numbers: _Numbers) -> list[Distance]:
    """A memory along the top lies above all that is not its own, one along the bottom below."""
    found: list[Distance] = []
    parts, wires = columns.drawing.parts, columns.drawing.wires
    for memory in columns.drawing.memories:
        near = {memory.start, *memory.rail}
        if memory.end is not None:
            near.add(parts[memory.end].entries[0].source)
        readers = {part for source, part, _ in wires if source == memory.start}
        near |= {part for part in readers if parts[part].kind == "join" or len(readers) == 1}
        line = numbers.of[memory.start]
        for stop, place in enumerate(columns.stops):
            if place.level != 0.0 or place.source in near or stop in columns.taps:
                continue
            for number, up, down in numbers.rows(stop):
                if memory.top:
                    found.append((line, number, _steps(_PASSING.down + up + _FREE / 2), 0))
                else:
                    found.append((number, line, _steps(_PASSING.up + down + _FREE / 2), 0))
    return found


def _wires(columns: Columns, numbers: _Numbers) -> list[tuple[int, int, int, int]]:
    """Every piece of wire: (number it comes from, number it goes to, how much lower than that it arrives, weight)."""
    found = []
    memories = _ways(columns)
    for gap in columns.gaps:
        for start, ends in gap:
            for stop, entry in ends:
                target, step = numbers.arrival(stop, entry)
                weight = _WEIGHTS[columns.stops[start].passes, columns.stops[stop].passes]
                if entry is not None and len(ends) > 1:
                    # A wire that forks has an upright line in any case.
                    weight = 1
                if (columns.stops[start].source, columns.stops[stop].source) in memories:
                    weight = _MEMORY
                found.append((numbers.of[start], target, step, weight))
    return found


def _ways(columns: Columns) -> set[tuple[int, int]]:
    """The pairs of parts between which a memory runs, and each with itself."""
    pairs: set[tuple[int, int]] = set()
    parts, wires = columns.drawing.parts, columns.drawing.wires
    for memory in columns.drawing.memories:
        way = [memory.start, *memory.rail]
        pairs |= {(part, part) for part in way} | set(pairwise(way))
        if memory.end is not None:
            source = parts[memory.end].entries[0].source
            pairs |= {(source, source), (source, memory.end)}
        if not memory.rail:
            pairs |= {(memory.start, part) for start, part, _ in wires if start == memory.start}
    return pairs


def _shapes(columns: Columns, order: Order) -> list[Shape]:
    """The shape of every stop; layers of one column are equally wide."""
    parts = columns.drawing.parts
    places = {stop: place for column in order for place, stop in enumerate(column)}
    starts = {(stop, entry): places[start] for gap in columns.gaps for start, ends in gap for stop, entry in ends}
    straight = _straight(columns)
    lowest = {
        columns.drawing.parts[memory.end].entries[0].source
        for memory in columns.drawing.memories
        if memory.end is not None and not memory.top
    }
    shapes: list[Shape] = []
    for stop, found in enumerate(columns.stops):
        if found.passes:
            shapes.append(_PASSING)
            continue
        part = parts[stop]
        entries = list(range(len(part.entries)))
        entries.sort(key=lambda entry: starts.get((stop, entry), 0))
        otherwise = entries[-1] if stop in lowest and entries else None
        shapes.append(shape_of(part, entries, straight.get(stop, otherwise)))
    for column in order:
        boxes = [stop for stop in column if shapes[stop].form in ("box", "gate")]
        half = max((shapes[stop].half for stop in boxes), default=0.0)
        for stop in boxes:
            shapes[stop] = shapes[stop].widened(half)
    return shapes


def _straight(columns: Columns) -> Mapping[int, int]:
    """The entries whose wires go straight through: the ways of the memories."""
    found: dict[int, int] = {}
    for memory in columns.drawing.memories:
        for before, part in pairwise((memory.start, *memory.rail)):
            entries = columns.drawing.parts[part].entries
            found.setdefault(part, next(n for n, entry in enumerate(entries) if entry.source == before))
        readers = [(part, entry) for source, part, entry in columns.drawing.wires if source == memory.start]
        if not memory.rail and len(readers) == 1:
            found.setdefault(*readers[0])
    return found
