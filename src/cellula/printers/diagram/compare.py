"""Several cells side by side, with a mark on what differs from the first one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from cellula.printers.diagram.difference import Difference, find_difference
from cellula.printers.diagram.draw import arrow, draw_parts, draw_wires, frame, frame_room, outer_place, silhouette
from cellula.printers.diagram.layout import Layout, arrange
from cellula.printers.diagram.legend import Key, flowed, keys
from cellula.printers.diagram.page import MARGIN, heading
from cellula.printers.diagram.parts import Drawing
from cellula.printers.diagram.scene import Circle, Group, Item, Scene, Stroke, Text, shifted
from cellula.printers.diagram.style import COLOURS
from cellula.printers.diagram.text import roman, wrapped

__all__ = ["compare_scene"]

# Cells stand in a row as long as it is no wider than this; between cells, and between rows.
_ROW_WIDTH, _APART, _BELOW = 2400.0, 40.0, 24.0
_NOTE_SIZE, _LEAST_WIDTH = 14.0, 320.0
_MARK = COLOURS["difference"]
_BADGE_ASIDE = {"circle": -3.0, "box": 14.0, "gate": 14.0}


def compare_scene(drawings: Sequence[Drawing]) -> Scene:
    """A picture of several cells.

    Args:
        drawings: the parts of the cells; what differs from the first one is marked in the others.
    """
    blocks = [_block(drawing, drawings[0]) for drawing in drawings]
    widest = max(wide for _, wide, _ in blocks)
    items: list[Item] = []
    x, y, row, most = 0.0, 0.0, 0.0, 0.0
    for found, wide, high in blocks:
        if x and x + wide > max(_ROW_WIDTH, widest):
            x, y, row = 0.0, y + row + _BELOW, 0.0
        items += [shifted(item, MARGIN + x, MARGIN + y) for item in found]
        most, row = max(most, x + wide), max(row, high)
        x += wide + _APART
    y += row + _BELOW
    samples, height = flowed([*keys(drawings), *_keys()], most)
    items += [shifted(sample, MARGIN, MARGIN + y) for sample in samples]
    title = " and ".join(drawing.name for drawing in drawings)
    return Scene(most + 2 * MARGIN, y + height + 2 * MARGIN, tuple(items), f"{title}, compared")


def _block(drawing: Drawing, base: Drawing) -> tuple[list[Item], float, float]:
    """One cell with its name above and what there is to say below: from the top left, with width and height."""
    layout, difference = arrange(drawing), find_difference(drawing, base)
    left, top, right, bottom = frame_room(layout)
    wide = max(right - left, _LEAST_WIDTH)
    above, height = heading(drawing, wide)
    wires = Group((*draw_wires(layout), *_reads(layout, difference)), "wires")
    cell = (frame(layout), wires, *draw_parts(layout), Group(tuple(_marks(layout, difference)), "differences"))
    items = [*above, *(shifted(item, -left, height - top) for item in cell)]
    y = height + bottom - top
    for number, line in enumerate(_notes(drawing, base, difference)):
        words = [roman(word if place == 0 else f" {word}") for place, word in enumerate(line.split())]
        for part in wrapped(words, _NOTE_SIZE, wide):
            y += _NOTE_SIZE * 1.35
            items.append(Text(0.0, y, part, _NOTE_SIZE, "#333333", room=wide))
        y += 2.0 if number else 0.0
    return items, wide, y + 6


def _marks(layout: Layout, difference: Difference) -> Iterator[Item]:
    """A dashed line around what differs, and a sign: a plus for what is new, an unequal sign for what changed."""
    for number in (*difference.new, *difference.changed):
        place = outer_place(layout, number)
        yield silhouette(place, None, "#ffffff", _MARK.thick + 2.4)
        yield silhouette(place, None, _MARK.line, _MARK.thick, dashed=True)
        # On the corner of what has one, beside what is round.
        aside = _BADGE_ASIDE.get(place.shape.form, 0.0)
        left, top = place.x - place.shape.half + aside, place.y - place.shape.above + min(aside, 0.0)
        yield from _badge(left, top, new=number in difference.new)


def _badge(x: float, y: float, new: bool) -> Iterator[Item]:
    yield Circle(x, y, 7.0, _MARK.fill)
    lines = [((-3.8, 0), (3.8, 0)), ((0, -3.8), (0, 3.8))]
    if not new:
        lines = [((-3.6, -1.7), (3.6, -1.7)), ((-3.6, 1.7), (3.6, 1.7)), ((-2.0, 4.2), (2.0, -4.2))]
    for (a, b), (c, d) in lines:
        yield Stroke(((x + a, y + b), (x + c, y + d)), _MARK.text, 1.6)


def _reads(layout: Layout, difference: Difference) -> Iterator[Item]:
    """The last part of the wires that changed parts read and their matches do not."""
    for number, entry in difference.reads:
        points = layout.last[number, entry]
        yield Stroke(points, _MARK.line, _MARK.thick, 5.0)
        yield arrow(layout.drawing.parts[number], entry, points[-1], points[-2], _MARK.line)


def _keys() -> list[Key]:
    return [
        (tuple(_badge(0.0, 0.0, new=True)), 14.0, "new, compared with the first cell"),
        (tuple(_badge(0.0, 0.0, new=False)), 14.0, "computes or reads something else than in the first cell"),
    ]


def _notes(drawing: Drawing, base: Drawing, difference: Difference) -> list[str]:
    """What differs, in words."""
    if drawing is base:
        return ["What differs from this cell is marked in the others."]
    found = []
    places = [
        f"{', '.join(part.names)} for {', '.join(base.parts[match].names)}"
        for number, match in sorted(difference.pairs.items())
        if (part := drawing.parts[number]).names and set(part.names) != set(base.parts[match].names)
    ]
    found += [f"In the same place: {'; '.join(places)}."] if places else []
    found += [f"New: {names}." for names in [_named(drawing, difference.new)] if names]
    found += [f"Changed: {names}." for names in [_named(drawing, difference.changed)] if names]
    reads = [(drawing.parts[number].entries[place].source, number) for number, place in difference.reads]
    for source, pairs in groupby(sorted(reads), key=lambda pair: pair[0]):
        readers = [name for _, number in pairs for name in drawing.parts[number].names]
        value = _value(drawing, source)
        if readers and value:
            found.append(f"{', '.join(readers)} read{'s' * (len(readers) == 1)} {value} here.")
    found += [f"Without: {', '.join(difference.gone)}."] if difference.gone else []
    return found or ["No difference in what is computed."]


def _value(drawing: Drawing, number: int) -> str:
    """What to call a value in a sentence; "" where it has no name."""
    part = drawing.parts[number]
    if part.kind in ("state_in", "input"):
        return part.about.partition(":")[0]
    return ", ".join(f"{name}[t]" for name in part.names)


def _named(drawing: Drawing, numbers: Sequence[int]) -> str:
    return ", ".join(name for number in numbers for name in drawing.parts[number].names)
