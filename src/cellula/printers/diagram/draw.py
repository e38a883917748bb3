"""A layout -> the items of a scene: one cell with its frame, wires, parts and labels."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import pairwise

from cellula.printers.diagram.layout import Layout
from cellula.printers.diagram.parts import Part
from cellula.printers.diagram.scene import Area, Circle, Group, Item, Points, Stroke, Text
from cellula.printers.diagram.shapes import LINE_HEIGHT, TIP, Port, Shape
from cellula.printers.diagram.style import COLOURS, INSIDE_SIZE, NAME_SIZE, TITLE_SIZE, Colours
from cellula.printers.diagram.text import roman, width
from cellula.printers.diagram.wires import OUTSIDE, Place, Point, Wire

__all__ = [
    "LONG",
    "SHORT",
    "arrow",
    "body",
    "draw_parts",
    "draw_wires",
    "frame",
    "frame_room",
    "outer_place",
    "ring",
    "silhouette",
]

_FRAME_FILL, _FRAME_LINE, _WIRE = "#fbfbfb", "#9a9a9a", "#333333"
_THIN, SHORT, LONG = 1.3, 2.4, 3.4
_CORNER_ROUND = 5.0
# A sign on a wire stands between the wire's bends and its arrow.
_MARK_RADIUS, _MARK_AWAY = 5.0, 13.0


def frame(layout: Layout) -> Area:
    """The frame of a cell."""
    left, top, right, bottom = layout.frame
    return Area(_rectangle(left, top, right, bottom), _FRAME_FILL, _FRAME_LINE, 1.2, 12.0)


def frame_room(layout: Layout) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of all that belongs to a cell."""
    left, top, right, bottom = layout.frame
    for number in range(len(layout.places)):
        place = outer_place(layout, number)
        left, right = min(left, place.x - place.shape.left), max(right, place.x + place.shape.right)
        top, bottom = min(top, place.y - place.shape.up), max(bottom, place.y + place.shape.down)
    return left - 2, top - 2, right + 2, bottom + 2


def outer_place(layout: Layout, number: int) -> Place:
    """Where a part stands: an input below the frame, an output above it, all others in their places."""
    part, place = layout.drawing.parts[number], layout.places[number]
    if part.kind not in ("input", "output"):
        return place
    y = layout.frame[3] + OUTSIDE + 12 if part.kind == "input" else layout.frame[1] - OUTSIDE - 12
    half = max(14.0, width(part.title, TITLE_SIZE) / 2 + 7)
    return Place(place.x, y, Shape("pill", half, 12.0, 12.0, half, half, 12.0, 12.0, (Port(0.0),) * len(part.entries)))


def draw_wires(layout: Layout) -> tuple[Item, ...]:
    """All wires: where two cross, the upright one passes over the other one."""
    styles = [_style(layout, wire) for wire in layout.wires]
    order = sorted(range(len(styles)), key=lambda number: styles[number][1])
    items: list[Item] = [Stroke(layout.wires[n].points, styles[n][0], styles[n][1], _CORNER_ROUND) for n in order]
    for x, y in layout.crossings:
        items += _bridge(layout, styles, x, y)
    for _, (x, y) in layout.forks:
        items.append(Circle(x, y, 2.3, _WIRE))
    for number in order:
        items += _arrows(layout, layout.wires[number], styles[number][0])
    return tuple(items)


def _style(layout: Layout, wire: Wire) -> tuple[str, float]:
    """Colour and width of a wire: thick along a long memory, less thick along a short one."""
    if wire.memory is None:
        return _WIRE, _THIN
    long = layout.drawing.memories[wire.memory].long
    return (COLOURS["long"].fill, LONG) if long else (COLOURS["short"].line, SHORT)


def _bridge(layout: Layout, styles: list[tuple[str, float]], x: float, y: float) -> Iterator[Item]:
    """A gap in the level line where an upright one crosses it."""
    for wire, (colour, thick) in zip(layout.wires, styles, strict=True):
        for (a, top), (b, bottom) in pairwise(wire.points):
            if a == b == x and min(top, bottom) < y < max(top, bottom):
                yield Stroke(((x, y - 5), (x, y + 5)), _FRAME_FILL, thick + 5)
                yield Stroke(((x, y - 6), (x, y + 6)), colour, thick)
                return


def _arrows(layout: Layout, wire: Wire, colour: str) -> Iterator[Item]:
    """The heads at the ends of a wire that enter parts; a ring where a layer reads a value unit by unit."""
    ends = ((wire.starts, wire.points[0], wire.points[1]), (wire.ends, wire.points[-1], wire.points[-2]))
    for target, tip, before in ends:
        if target is None or layout.drawing.parts[target[0]].kind == "join":
            continue
        yield arrow(layout.drawing.parts[target[0]], target[1], tip, before, colour)


def arrow(part: Part, entry: int, tip: Point, before: Point, colour: str) -> Area | Circle:
    """What stands at the end of a wire."""
    if ring(part, entry):
        return Circle(tip[0] - 3.5, tip[1], 3.2, "#ffffff", colour, 1.3)
    return Area(_head(tip, before), colour)


def ring(part: Part, entry: int) -> bool:
    """Whether a layer of neurons reads this value unit by unit, as through a peephole."""
    return part.neurons and part.entries[entry].how == "pointwise"


def _head(tip: Point, before: Point) -> Points:
    """A small arrow head at a tip."""
    (x, y), (a, b) = tip, before
    length = abs(a - x) + abs(b - y) or 1.0
    dx, dy = (x - a) / length, (y - b) / length
    back = x - 7 * dx, y - 7 * dy
    return ((x, y), (back[0] - 3.2 * dy, back[1] + 3.2 * dx), (back[0] + 3.2 * dy, back[1] - 3.2 * dx))


def draw_parts(layout: Layout, without: Collection[int] = ()) -> tuple[Group, ...]:
    """Every part with its labels, but for some."""
    return tuple(_group(layout, number) for number in range(len(layout.places)) if number not in without)


def _group(layout: Layout, number: int) -> Group:
    part, place = layout.drawing.parts[number], outer_place(layout, number)
    items = (*body(part, place, _colours(layout, number, part)), *_labels(part, place))
    return Group(items, part.kind, part.about)


def _colours(layout: Layout, number: int, part: Part) -> Colours:
    for memory in layout.drawing.memories:
        if number in (memory.start, memory.end):
            return COLOURS["long" if memory.long else "short"]
    return COLOURS[part.kind]


def body(part: Part, place: Place, colours: Colours) -> Iterator[Item]:
    """The shape of a part, and the text in it."""
    yield silhouette(place, colours.fill, colours.line, colours.thick)
    if place.shape.form in ("circle", "bar") and part.kind != "join":
        yield from _sign(part.kind, place.x, place.y, colours.text)
    yield from _inside(part, place, colours)


def silhouette(place: Place, fill: str | None, line: str, thick: float, dashed: bool = False) -> Area | Circle:
    """The outline of a part."""
    shape, x, y = place.shape, place.x, place.y
    left, right, top, bottom = x - shape.half, x + shape.half, y - shape.above, y + shape.below
    if shape.form == "circle":
        return Circle(x, y, shape.half, fill, line, thick, dashed)
    points = _rectangle(left, top, right, bottom)
    if shape.form == "dot":
        points = ((x, top), (right, y), (x, bottom), (left, y))
    elif shape.form == "gate":
        points = ((left, top), (right - TIP, top), (right, y), (right - TIP, bottom), (left, bottom))
    rounds = {"pill": min(shape.above, 12.0), "bar": shape.half}
    return Area(points, fill, line, thick, rounds.get(shape.form, 0.0), dashed)


def _sign(kind: str, x: float, y: float, colour: str) -> Iterator[Item]:
    """A plus or a times sign, drawn so that it is the same in every font."""
    far = 5.0 if kind == "sum" else 3.8
    turns = ((far, 0.0), (0.0, far)) if kind == "sum" else ((far, far), (far, -far))
    for a, b in turns:
        yield Stroke(((x - a, y - b), (x + a, y + b)), colour, 1.7)


def _inside(part: Part, place: Place, colours: Colours) -> Iterator[Item]:
    """Title and text of a part, one line below the other."""
    shape = place.shape
    marks = max((width(roman(e.mark), INSIDE_SIZE) + 6 for e in part.entries if e.mark), default=0.0)
    middle = (
        place.x + (0.0 if shape.form in ("circle", "bar") else marks / 2) - (TIP / 3 if shape.form == "gate" else 0.0)
    )
    lines = [(part.title, TITLE_SIZE)] if part.title else []
    lines += [(line, INSIDE_SIZE) for line in part.inside]
    y = place.y + (shape.below - shape.above) / 2 - sum(size for _, size in lines) * LINE_HEIGHT / 2
    for line, size in lines:
        y += size * LINE_HEIGHT
        baseline = y - size * (LINE_HEIGHT - 1) / 2 - size * 0.2
        yield Text(middle, baseline, line, size, colours.text, "middle", 2 * shape.half - marks)
    if shape.form not in ("circle", "bar", "dot"):
        for entry, port in zip(part.entries, shape.ports, strict=True):
            if entry.mark:
                text = roman(entry.mark)
                yield Text(place.x - shape.half + 5, place.y + port.height + 4, text, INSIDE_SIZE, colours.text)


def _labels(part: Part, place: Place) -> Iterator[Item]:
    """The name of a part's value on its wire, and the signs beside its entries."""
    shape = place.shape
    if part.label:
        yield Text(place.x + shape.half + 4, place.y - 5, part.label, NAME_SIZE, room=shape.right - shape.half)
    if shape.form not in ("circle", "bar"):
        return
    for entry, port in zip(part.entries, shape.ports, strict=True):
        if entry.mark and port.side == "left":
            yield from mark(entry.mark, place.x - shape.half - _MARK_AWAY, place.y + port.height)
        elif entry.mark:
            away = shape.half + _MARK_AWAY
            yield from mark(entry.mark, place.x, place.y + (away if port.side == "bottom" else -away))


def mark(sign: str, x: float, y: float) -> Iterator[Item]:
    """A sign on a wire: what comes along it is subtracted, or divides."""
    yield Circle(x, y, _MARK_RADIUS, "#ffffff", _WIRE, 1.1)
    yield Stroke(((x - 3, y), (x + 3, y)), _WIRE, 1.4)
    if sign == "÷":
        yield from (Circle(x, y + rise, 0.9, _WIRE) for rise in (-2.6, 2.6))


def _rectangle(left: float, top: float, right: float, bottom: float) -> Points:
    """The corners of a rectangle."""
    return ((left, top), (right, top), (right, bottom), (left, bottom))
