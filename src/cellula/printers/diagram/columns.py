"""The columns of a picture: which parts stand above each other, and where wires pass between them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from cellula.printers.diagram.parts import Drawing, Memory
from cellula.printers.diagram.simplex import Distance, tightest

__all__ = ["Columns", "End", "Net", "Stop", "make_columns"]

# Between the levels of the memories along the top (below 0) and along the bottom (above 0) lies everything else.
_MIDDLE, _LOWEST = 0.0, 1000.0
# What holds parts at an edge, against all that pulls them inwards.
_HELD = 999


@dataclass(frozen=True)
class Stop:
    """What takes up room in a column: a part, or a wire on its way past.

    Args:
        source: the part, or the part whose value passes.
        column: from 0 at the left edge.
        passes: whether it is a wire only.
        level: stops of a column stand in the order of their levels; those of one level in any order.
    """

    source: int
    column: int
    passes: bool
    level: float = _MIDDLE


# Where a value arrives: (the stop, the number of the part's entry or None for a wire that passes).
End = tuple[int, int | None]
# A value between two columns: (the stop that it leaves, where it arrives).
Net = tuple[int, tuple[End, ...]]


@dataclass(frozen=True)
class Columns:
    """Every part and every passing wire in its column.

    Args:
        drawing: what is drawn.
        stops: those of the parts by the numbers of the parts, then the passing wires.
        gaps: the nets between a column and the one to its right.
        taps: an output that branches off a wire that passes in its column -> that wire; it takes up no room.
    """

    drawing: Drawing
    stops: tuple[Stop, ...]
    gaps: tuple[tuple[Net, ...], ...]
    taps: dict[int, int]

    def members(self) -> list[list[int]]:
        """The stops that take up room, column by column."""
        found: list[list[int]] = [[] for _ in range(len(self.gaps) + 1)]
        for number, stop in enumerate(self.stops):
            if number not in self.taps:
                found[stop.column].append(number)
        return found


def make_columns(drawing: Drawing) -> Columns:
    """Columns from left to right so that every value comes from further left, with wires as short as can be."""
    *places, last_place = _places(drawing)
    levels = _levels(drawing, places)
    stops = [Stop(number, place, False, levels.get((number, place), _MIDDLE)) for number, place in enumerate(places)]
    gaps: list[list[Net]] = [[] for _ in range(last_place)]
    taps: dict[int, int] = {}
    for source, place in enumerate(places):
        targets = [(number, entry) for start, number, entry in drawing.wires if start == source]
        last, here = max((places[number] for number, _ in targets), default=place), source
        for column in range(place + 1, last + 1):
            ends: list[End] = [(number, entry) for number, entry in targets if places[number] == column]
            if column < last:
                outputs = [number for number, _ in ends if drawing.parts[number].kind == "output"]
                taps |= dict.fromkeys(outputs, len(stops))
                ends = [end for end in ends if end[0] not in outputs]
                ends.append((len(stops), None))
                stops.append(Stop(source, column, True, levels.get((source, column), _MIDDLE)))
            gaps[column - 1].append((here, tuple(ends)))
            here = len(stops) - 1
    return Columns(drawing, tuple(stops), tuple(map(tuple, gaps)), taps)


def _places(drawing: Drawing) -> list[int]:
    """The column of every part, and the last column: states at both edges, the input right behind the left one."""
    count = len(drawing.parts)
    left, right = count, count + 1
    rails = {pair for memory in drawing.memories for pair in pairwise((memory.start, *memory.rail))}
    distances: list[Distance] = [(left, right, 3, 1)]
    for number, part in enumerate(drawing.parts):
        before, held = {"state_in": (0, _HELD), "input": (1, _HELD)}.get(part.kind, (1, 0))
        behind, back = {"state_out": (0, _HELD), "output": (1, _HELD)}.get(part.kind, (2, 0))
        distances += [(left, number, before, held), (number, right, behind, back)]
    for source, number, _ in drawing.wires:
        # Layers keep near what they read, so that they stand above each other at the left.
        weight = 3 if drawing.parts[number].kind in ("gate", "layer", "join") else 1
        distances.append((source, number, 1, 2 if (source, number) in rails else weight))
    found = tightest(count + 2, distances)
    return [place - found[left] for place in (*found[:count], found[right])]


def _levels(drawing: Drawing, places: list[int]) -> dict[tuple[int, int], float]:
    """The levels of what stands or passes along the top and the bottom: by part and column."""
    found: dict[tuple[int, int], float] = {}
    above = [memory for memory in drawing.memories if memory.top]
    below = [memory for memory in drawing.memories if not memory.top]
    for number, memory in enumerate(above):
        _lead(drawing, memory, number - len(above) - 1.0, places, found)
    for number, memory in enumerate(below):
        _lead(drawing, memory, len(below) - number + 1.0, places, found)
    for number in drawing.kinds("input"):
        found[number, places[number]] = _LOWEST
    for number in drawing.kinds("output"):
        # Upwards out of the cell: from above its own memory where that runs along the top.
        source = drawing.parts[number].entries[0].source
        own = found.get((source, places[number]), _MIDDLE)
        found[number, places[number]] = own - 0.5 if own < _MIDDLE else -1.0
    return found


def _lead(
    drawing: Drawing, memory: Memory, level: float, places: list[int], found: dict[tuple[int, int], float]
) -> None:
    """Put a memory's way on its level: from the left edge through its rail to the right edge."""
    way = [memory.start, *memory.rail]
    if memory.end is not None:
        source = drawing.parts[memory.end].entries[0].source
        found.setdefault((memory.end, places[memory.end]), level)
        # A memory made anew comes to its level behind the part that makes it.
        for column in range(places[source] + (source != way[-1]), places[memory.end]):
            found.setdefault((source, column), level)
    for part, following in pairwise(way):
        for column in range(places[part], places[following]):
            found.setdefault((part, column), level)
    found.setdefault((memory.start, places[memory.start]), level)
    if not memory.rail:
        readers = [number for start, number, _ in drawing.wires if start == memory.start]
        inside = (places[number] for number in readers if drawing.parts[number].kind != "state_out")
        for column in range(max(inside, default=0)):
            found.setdefault((memory.start, column), level)
