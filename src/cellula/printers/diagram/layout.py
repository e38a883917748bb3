"""A drawing with a place for everything: parts, wires, the frame of the cell."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from cellula.printers.diagram.columns import Columns, make_columns
from cellula.printers.diagram.order import Order, good_orders
from cellula.printers.diagram.parts import Drawing
from cellula.printers.diagram.place import Apart, Placing, place
from cellula.printers.diagram.route import Trunk, conflicts, route_gap
from cellula.printers.diagram.shapes import Shape
from cellula.printers.diagram.wires import TRACK, Place, Point, Wire, WireMaker, crossings

__all__ = ["Layout", "arrange"]

# From the edge of a gap to its first upright line, and behind its last one, where arrows end.
_BEFORE, _BEHIND = 9.0, 14.0
# The frame keeps clear of what it holds, and of the states at its sides.
_MARGIN, _SIDE = 14.0, 12.0
# How many orders are tried to the end, but for pictures with so many parts and passing wires.
_TRIED, _LARGE = 4, 250
# How often wires that lie on each other are moved apart.
_MENDED = 4


@dataclass(frozen=True)
class Layout:
    """A picture of one cell; places are measured from its own zero, which may lie within the picture.

    Args:
        drawing: what is drawn.
        places: of the parts.
        wires: every line once.
        forks: where lines fork, with the part whose value it is.
        last: for every part and entry, the end of its wire from the last place where it can fork.
        frame: left, top, right and bottom of the cell's frame.
    """

    drawing: Drawing
    places: tuple[Place, ...]
    wires: tuple[Wire, ...]
    forks: tuple[tuple[int, Point], ...]
    last: dict[tuple[int, int], tuple[Point, ...]]
    frame: tuple[float, float, float, float]

    @cached_property
    def crossings(self) -> list[Point]:
        """Where wires of different values cross."""
        return crossings(self.wires)


def arrange(drawing: Drawing) -> Layout:
    """Give everything its place: of several good orders, the one whose picture has the fewest crossings."""
    columns = make_columns(drawing)
    tried = _TRIED if len(columns.stops) < _LARGE else 1
    found = [_lay(columns, *_placed(columns, order)) for order in good_orders(columns, tried)]
    return min(found, key=lambda layout: (len(layout.crossings), _length(layout)))


def _placed(columns: Columns, order: Order) -> tuple[Placing, list[list[Trunk]]]:
    """Heights, and tracks for all wires; where two wires would lie on each other, heights that keep them apart."""
    apart: list[Apart] = []
    placing = place(columns, order)
    for _ in range(_MENDED):
        trunks = [route_gap(columns, placing, gap) for gap in range(len(columns.gaps))]
        found = [pair for gap in trunks for pair in conflicts(gap)]
        if not found:
            break
        for start, stop, entry, below in found:
            for side in (below, not below):
                try:
                    placing = place(columns, order, [*apart, (start, stop, entry, side)])
                except ValueError:
                    continue
                apart.append((start, stop, entry, side))
                break
    return placing, [route_gap(columns, placing, gap) for gap in range(len(columns.gaps))]


def _length(layout: Layout) -> float:
    """How long all wires are, with a charge for each corner."""
    legs = [leg for wire in layout.wires for leg in pairwise(wire.points)]
    return sum(abs(x - a) + abs(y - b) + 10 for (x, y), (a, b) in legs)


def _lay(columns: Columns, placing: Placing, trunks: list[list[Trunk]]) -> Layout:
    """The picture of one placing."""
    axes, starts, left, right = _across(columns, placing.shapes, trunks)
    roomy = [stop for column in columns.members() for stop in column]
    top = min(placing.heights[stop] - placing.shapes[stop].up for stop in roomy) - _MARGIN
    bottom = max(placing.heights[stop] + placing.shapes[stop].down for stop in roomy) + _MARGIN
    top, bottom = (
        min(top, min(placing.arrivals.values()) - _MARGIN),
        max(bottom, max(placing.arrivals.values()) + _MARGIN),
    )
    places = [
        Place(axes[stop.column], float(height), shape)
        for stop, height, shape in zip(columns.stops, placing.heights, placing.shapes, strict=True)
    ]
    maker = WireMaker(columns, places, top, bottom)
    for gap, found in enumerate(trunks):
        for trunk in found:
            maker.add(trunk, starts[gap])
    maker.add_taps()
    frame = left, top, right, bottom
    parts = tuple(places[: len(columns.drawing.parts)])
    return Layout(columns.drawing, parts, maker.wires(), tuple(maker.forks), maker.last, frame)


def _across(
    columns: Columns, shapes: tuple[Shape, ...], trunks: list[list[Trunk]]
) -> tuple[list[float], list[float], float, float]:
    """The middle of every column, the first upright line of every gap, and the left and right of the frame."""
    axes: list[float] = []
    starts: list[float] = []
    cursor, frame = 0.0, []
    members = columns.members()
    for column, stops in enumerate(members):
        axes.append(cursor + max((shapes[stop].left for stop in stops), default=0.0))
        cursor = axes[-1] + max((shapes[stop].right for stop in stops), default=0.0)
        if column == len(members) - 1:
            break
        tracks = 1 + max((trunk.track for trunk in trunks[column] if trunk.track is not None), default=0)
        if column == 0:
            cursor += _SIDE
            frame.append(cursor)
        starts.append(cursor + _BEFORE)
        cursor += _BEFORE + (tracks - 1) * TRACK + _BEHIND
        if column == len(members) - 2:
            frame.append(cursor)
            cursor += _SIDE
    return axes, starts, frame[0], frame[1]
