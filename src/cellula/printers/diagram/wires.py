"""The nets of all gaps -> lines: where they bend, where they fork, where they end."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from cellula.printers.diagram.columns import Columns
from cellula.printers.diagram.route import Branch, Trunk
from cellula.printers.diagram.shapes import Shape

__all__ = ["OUTSIDE", "TRACK", "Place", "Point", "Target", "Wire", "WireMaker", "crossings"]

Point = tuple[float, float]
# (a part, the number of its entry).
Target = tuple[int, int]

# Between upright lines; how far outside the frame the input and the output stand.
TRACK, OUTSIDE = 9.0, 26.0


@dataclass(frozen=True)
class Place:
    """Where a part stands: the middle, at whose height its value leaves, and its shape around it."""

    x: float
    y: float
    shape: Shape


@dataclass(frozen=True)
class Wire:
    """A line along which one value goes.

    Args:
        source: the part whose value it is.
        points: its corners.
        memory: the number of the memory that runs along it, None where it is no memory's way.
        starts, ends: the part and the entry that its first and its last point reach, None elsewhere.
    """

    source: int
    points: tuple[Point, ...]
    memory: int | None = None
    starts: Target | None = None
    ends: Target | None = None


@dataclass(frozen=True)
class _End:
    """One end of a line within a gap.

    Args:
        points: from the gap outwards.
        passing: the passing stop behind which the line goes on.
        target: the entry that it reaches.
    """

    points: tuple[Point, ...]
    passing: int | None = None
    target: Target | None = None


@dataclass(frozen=True)
class _Piece:
    """A line within one gap, or several joined."""

    source: int
    memory: int | None
    first: _End
    between: tuple[Point, ...]
    second: _End

    @property
    def points(self) -> tuple[Point, ...]:
        """All its corners."""
        points = (*self.first.points[::-1], *self.between, *self.second.points)
        return tuple(point for number, point in enumerate(points) if number == 0 or point != points[number - 1])

    def turned(self) -> _Piece:
        """The same line from its other end."""
        return _Piece(self.source, self.memory, self.second, self.between[::-1], self.first)


class WireMaker:
    """Collects the lines of one picture.

    Args:
        columns: what is drawn.
        places: of all stops.
        top, bottom: of the frame.
    """

    def __init__(self, columns: Columns, places: list[Place], top: float, bottom: float) -> None:
        self.columns, self.places, self.top, self.bottom = columns, places, top, bottom
        self.pieces: list[_Piece] = []
        self.forks: list[tuple[int, Point]] = []
        self.last: dict[Target, tuple[Point, ...]] = {}
        self.ways = _ways(columns)

    def add(self, trunk: Trunk, start: float) -> None:
        """The lines of one net: a memory's way goes first, the rest branches off it or off the upright line."""
        source, height = self.columns.stops[trunk.start].source, float(trunk.height)
        comes = self._leaving(trunk)
        if trunk.track is None:
            x = comes.points[0][0]
        else:
            x = start + trunk.track * TRACK
        ends = [(float(branch.height), self._arriving(branch)) for branch in trunk.branches]
        for level, end in ends:
            if end.target is not None:
                self.last[end.target] = _tidy(((x, height), (x, level), *end.points))
        memories = [self._memory(source, branch) for branch in trunk.branches]
        along = next((number for number, memory in enumerate(memories) if memory is not None), None)
        if along is not None:
            level, end = ends.pop(along)
            self.pieces.append(_Piece(source, memories[along], comes, _tidy(((x, height), (x, level))), end))
            comes = _End(((x, height),))
        if trunk.track is None and ends and along is None:
            self.pieces.append(_Piece(source, None, comes, (), ends[0][1]))
        elif ends:
            self._fork(source, x, [(height, comes), *ends], off=along is not None)

    def _fork(self, source: int, x: float, ends: list[tuple[float, _End]], off: bool) -> None:
        """An upright line with its two outermost ends as one line, and what branches off between them."""
        heights = [height for height, _ in ends]
        top, bottom = min(heights), max(heights)
        main: list[_End] = []
        for height in sorted(set(heights)):
            here = [end for own, end in ends if own == height]
            if height in (top, bottom) and len(here) == 1:
                main.append(here[0])
                if off and height == heights[0]:
                    self.forks.append((source, (x, height)))
                continue
            if height in (top, bottom):
                main.append(_End(((x, height),)))
            self.forks.append((source, (x, height)))
            stub = here[1] if len(here) == 2 else _End(((x, height),))
            self.pieces.append(_Piece(source, None, here[0], (), stub))
        if top == bottom:
            return
        self.pieces.append(_Piece(source, None, main[0], ((x, top), (x, bottom)), main[1]))

    def add_taps(self) -> None:
        """Outputs that branch off upwards from a wire that passes."""
        for output, stop in self.columns.taps.items():
            place = self.places[stop]
            source, target = self.columns.stops[stop].source, (output, 0)
            points = (place.x, place.y), (place.x, self.top - OUTSIDE)
            self.forks.append((source, points[0]))
            self.last[target] = points
            self.pieces.append(_Piece(source, None, _End(points[:1]), (), _End(points[1:], None, target)))

    def _leaving(self, trunk: Trunk) -> _End:
        place, height = self.places[trunk.start], float(trunk.height)
        if self.columns.stops[trunk.start].passes:
            return _End(((place.x, height),), trunk.start)
        if place.shape.form == "corner":
            return _End(((place.x, height), (place.x, self.bottom + OUTSIDE)))
        return _End(((place.x + place.shape.half, height),))

    def _arriving(self, branch: Branch) -> _End:
        place, height = self.places[branch.stop], float(branch.height)
        if branch.entry is None:
            return _End(((place.x, height),), branch.stop)
        target = branch.stop, branch.entry
        if place.shape.form == "corner":
            return _End(((place.x, height), (place.x, self.top - OUTSIDE)), None, target)
        side = place.shape.ports[branch.entry].side
        if side == "left":
            return _End(((place.x - place.shape.half, height),), None, target)
        edge = place.y + (place.shape.half if side == "bottom" else -place.shape.half)
        return _End(((place.x, height), (place.x, edge)), None, target)

    def _memory(self, source: int, branch: Branch) -> int | None:
        """The memory that goes on along a branch."""
        stop = self.columns.stops[branch.stop]
        if branch.entry is None:
            return self.ways.get((source, source)) if stop.level else None
        return self.ways.get((source, branch.stop))

    def wires(self) -> tuple[Wire, ...]:
        """All lines; those that meet at a passing stop are one line."""
        open_ends: dict[int, _Piece] = {}
        found: dict[int, _Piece] = {}
        for piece in self.pieces:
            whole = piece
            for stop in (piece.first.passing, piece.second.passing):
                other = open_ends.pop(stop, None) if stop is not None else None
                if other is not None:
                    del found[id(other)]
                    whole = _joined(other, whole, stop)
            for end in (whole.first, whole.second):
                if end.passing is not None:
                    open_ends[end.passing] = whole
            found[id(whole)] = whole
        return tuple(
            Wire(p.source, _bends(p.points), p.memory, p.first.target, p.second.target) for p in found.values()
        )


def _joined(one: _Piece, other: _Piece, stop: int | None) -> _Piece:
    """Two lines that meet at a passing stop."""
    one = one if one.second.passing == stop else one.turned()
    other = other if other.first.passing == stop else other.turned()
    between = (*one.between, *one.second.points[:-1], *other.first.points[:-1], *other.between)
    return _Piece(one.source, one.memory, one.first, between, other.second)


def _ways(columns: Columns) -> dict[tuple[int, int], int]:
    """From part to part along the memories' ways, with the number of the memory."""
    found: dict[tuple[int, int], int] = {}
    for number, memory in enumerate(columns.drawing.memories):
        way = [memory.start, *memory.rail]
        if memory.end is not None:
            source = columns.drawing.parts[memory.end].entries[0].source
            way += [memory.end] if way[-1] == source else []
            found.setdefault((source, memory.end), number)
            if source != memory.start:
                found.setdefault((source, source), number)
        for pair in pairwise(way):
            found.setdefault(pair, number)
        for part in way:
            found.setdefault((part, part), number)
        if not memory.rail:
            readers = [part for source, part, _ in columns.drawing.wires if source == memory.start]
            found |= {(memory.start, part): number for part in readers if len(readers) == 1}
    return found


def _tidy(points: tuple[Point, ...]) -> tuple[Point, ...]:
    return tuple(point for number, point in enumerate(points) if number == 0 or point != points[number - 1])


def _bends(points: tuple[Point, ...]) -> tuple[Point, ...]:
    """The ends of a line and the corners between them, without points on straight legs."""
    inner = (
        here
        for before, here, after in zip(points, points[1:], points[2:], strict=False)
        if not (before[0] == here[0] == after[0] or before[1] == here[1] == after[1])
    )
    return (points[0], *inner, points[-1])


def crossings(wires: Sequence[Wire]) -> list[Point]:
    """Where wires of different values cross: upright legs with level ones."""
    upright: list[tuple[float, float, float, int]] = []
    level: list[tuple[float, float, float, int]] = []
    for wire in wires:
        for (x, y), (a, b) in pairwise(wire.points):
            if x == a:
                upright.append((x, min(y, b), max(y, b), wire.source))
            else:
                level.append((y, min(x, a), max(x, a), wire.source))
    level.sort()
    heights = [height for height, _, _, _ in level]
    return [
        (x, height)
        for x, top, bottom, source in upright
        for height, left, right, other in level[bisect_right(heights, top) : bisect_left(heights, bottom)]
        if left < x < right and source != other
    ]
