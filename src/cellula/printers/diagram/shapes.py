"""How much room a part takes, and where wires enter it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cellula.printers.diagram.parts import Part
from cellula.printers.diagram.style import INSIDE_SIZE, NAME_SIZE, TITLE_SIZE
from cellula.printers.diagram.text import roman, width

__all__ = ["LINE_HEIGHT", "RADIUS", "TIP", "Port", "Shape", "shape_of"]

# The radius of a product or sum, of a bundle's dot; how far the tip of a gate sticks out.
RADIUS, _DOT, TIP = 10.0, 4.5, 13.0
# Between two wires that enter side by side; the room that a name takes above the wire that it stands on.
_PITCH, _NAME_ROOM = 15.0, 16.0
# What a sign on a wire takes up in front of its arrow.
_MARK = 16.0
# The height of a line of text as a multiple of its size.
LINE_HEIGHT = 1.25
_PAD, _HEIGHT = 9.0, 26.0


@dataclass(frozen=True)
class Port:
    """Where a wire enters, from the part's middle.

    Args:
        height: how far below the middle; from above or below, how far at least.
        side: `"left"`, or `"top"` and `"bottom"` where the wire turns into the part from above or below.
    """

    height: float
    side: str = "left"


@dataclass(frozen=True)
class Shape:
    """The room of a part around its middle, where its value leaves to the right.

    Args:
        form: `"circle"`, `"dot"`, `"bar"`, `"pill"`, `"box"` or `"gate"`.
        half: half the width of its body.
        above, below: the height of its body above and below the middle.
        left, right, up, down: how far it reaches with all that belongs to it.
        ports: for every entry.
    """

    form: str
    half: float
    above: float
    below: float
    left: float
    right: float
    up: float
    down: float
    ports: tuple[Port, ...] = ()

    def widened(self, half: float) -> Shape:
        """The same shape with a wider body."""
        more = half - self.half
        return replace(self, half=half, left=self.left + more, right=self.right + more)


def shape_of(part: Part, order: Sequence[int], straight: int | None) -> Shape:
    """The shape of a part.

    Args:
        part: what is drawn.
        order: its entries from top to bottom, as their wires come in.
        straight: the entry whose wire goes straight through, None where there is no such entry.
    """
    if part.kind in ("input", "output"):
        return _CORNER
    if part.kind in ("product", "sum", "join") and not part.title and not part.inside:
        shape = _small(part, order, straight)
    else:
        shape = _labelled(part, order, straight)
    if shape.form in ("circle", "bar") and any(entry.mark for entry in part.entries):
        shape = replace(shape, left=shape.left + _MARK)
    if not part.label:
        return shape
    room = max(shape.up, _NAME_ROOM)
    return replace(shape, right=shape.right + width(part.label, NAME_SIZE) + 7, up=room)


def _small(part: Part, order: Sequence[int], straight: int | None) -> Shape:
    """A sign in a circle, or a dot; with many entries a bar."""
    count = len(order)
    radius = _DOT if part.kind == "join" else RADIUS
    if count > 3 or (count == 3 and straight not in (None, order[1])):
        return _bar(order, straight, radius)
    ports = {order[0]: Port(0.0)}
    stub = radius + (7 if part.kind == "join" else 12) + _MARK / 2 * any(entry.mark for entry in part.entries)
    if count == 2:
        through = order[0] if straight is None else straight
        other = order[1] if through == order[0] else order[0]
        below = other == order[1]
        ports = {through: Port(0.0), other: Port(stub if below else -stub, "bottom" if below else "top")}
    elif count == 3:
        ports = {order[0]: Port(-stub, "top"), order[1]: Port(0.0), order[2]: Port(stub, "bottom")}
    found = tuple(ports[entry] for entry in range(count))
    form = "dot" if part.kind == "join" else "circle"
    return Shape(form, radius, radius, radius, radius + 3, radius, radius, radius, found)


def _bar(order: Sequence[int], straight: int | None, radius: float) -> Shape:
    count = len(order)
    middle = order.index(straight) if straight is not None else (count - 1) / 2
    ports = {entry: Port(_PITCH * (place - middle) // 5 * 5) for place, entry in enumerate(order)}
    above, below = max(radius, middle * _PITCH + 6), max(radius, (count - 1 - middle) * _PITCH + 6)
    found = tuple(ports[entry] for entry in range(count))
    return Shape("bar", radius, above, below, radius + 3, radius, above, below, found)


_FORMS = {"gate": "gate", "layer": "box", "parameter": "box"}
# Where the input enters the frame of the cell, and where the output leaves it.
_CORNER = Shape("corner", 0.0, 0.0, 0.0, 8.0, 8.0, 3.0, 3.0, (Port(0.0),))


def _labelled(part: Part, order: Sequence[int], straight: int | None) -> Shape:
    """A body as large as its text, with its entries in the middle, or around the one that goes straight through."""
    form = _FORMS.get(part.kind, "pill")
    wide = max([width(part.title, TITLE_SIZE), *(width(line, INSIDE_SIZE) for line in part.inside)])
    marks = max((width(roman(entry.mark), INSIDE_SIZE) + 6 for entry in part.entries if entry.mark), default=0.0)
    lines = TITLE_SIZE * bool(part.title) + INSIDE_SIZE * len(part.inside)
    high = max(lines * LINE_HEIGHT + (10 if form != "pill" else 6), _HEIGHT)
    last = max(len(order) - 1, 0)
    middle = last / 2 if straight is None else order.index(straight)
    above, below = (max(high / 2, entries * _PITCH + 8) for entries in (middle, last - middle))
    # The ends of a pill are round, the end of a gate is a tip.
    half = wide / 2 + _PAD + marks / 2 + {"gate": TIP / 2, "pill": 3.0}.get(form, 0.0)
    half = max(half, (above + below) / 2 if form == "pill" else 22.0)
    ports = {entry: Port(_PITCH * (place - middle) // 5 * 5) for place, entry in enumerate(order)}
    found = tuple(ports[entry] for entry in range(len(order)))
    return Shape(form, half, above, below, half, half, above, below, found)
