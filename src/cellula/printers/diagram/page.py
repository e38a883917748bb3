"""Pictures with heading and legend: one cell, or the same cell at several steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from cellula.printers.diagram.draw import draw_parts, draw_wires, frame, frame_room
from cellula.printers.diagram.layout import Layout, arrange
from cellula.printers.diagram.legend import flowed, keys
from cellula.printers.diagram.parts import Drawing, Part
from cellula.printers.diagram.scene import Group, Item, Scene, Text, shifted
from cellula.printers.diagram.text import Line, Run, at_step, widest, width, wrapped

__all__ = ["MARGIN", "cell_items", "cell_scene", "heading"]

# Around the whole picture, and between its pieces.
MARGIN, _GAP = 16.0, 18.0
_HEADING_SIZE, _LEAST_WIDTH, _APART = 16.0, 460.0, 44.0


def cell_scene(drawing: Drawing, steps: int = 1) -> Scene:
    """The picture of a cell.

    Args:
        drawing: the parts of a cell.
        steps: how many cells to chain over time.
    """
    shifts = range(-((steps - 1) // 2), steps // 2 + 1)
    layout = arrange(_lines(drawing, lambda line: widest(line, shifts)))
    items, wide, high = cell_items(layout, drawing, shifts)
    inner = max(wide, _LEAST_WIDTH)
    top, below = heading(drawing, inner)
    placed = [shifted(item, MARGIN, MARGIN + below) for item in items]
    samples, key_height = flowed(keys([drawing]), inner)
    y = MARGIN + below + high + _GAP
    found = (
        *(shifted(item, MARGIN, MARGIN) for item in top),
        *placed,
        *(shifted(sample, MARGIN, y) for sample in samples),
    )
    title = f"{drawing.name}: {drawing.title}" if drawing.title else drawing.name
    return Scene(inner + 2 * MARGIN, y + key_height + MARGIN, found, title)


def heading(drawing: Drawing, room: float) -> tuple[list[Item], float]:
    """Name and title of a cell, and how much height they take."""
    words = drawing.title.split()
    pieces: list[Line] = [(Run(drawing.name, "bold"),)]
    pieces += [(Run(f"   {word}" if number == 0 else f" {word}"),) for number, word in enumerate(words)]
    lines = wrapped((piece for line in pieces for piece in _broken(line, room)), _HEADING_SIZE, room)
    height = _HEADING_SIZE * 1.3
    items: list[Item] = [
        Text(0.0, (number + 0.8) * height, line, _HEADING_SIZE, room=room) for number, line in enumerate(lines)
    ]
    return items, len(lines) * height + _GAP / 2


def _broken(line: Line, room: float) -> list[Line]:
    """A word, in pieces where it is wider than the picture: some scripts set no spaces."""
    (run,) = line
    found, start = [], 0
    for end in range(1, len(run.text) + 1):
        if end - start > 1 and width((Run(run.text[start:end], run.style),), _HEADING_SIZE) > room:
            found.append((Run(run.text[start : end - 1], run.style),))
            start = end - 1
    return [*found, (Run(run.text[start:], run.style),)]


def cell_items(layout: Layout, drawing: Drawing, shifts: Sequence[int] = (0,)) -> tuple[list[Item], float, float]:
    """The items of a cell, chained over the steps: from the top left corner, with width and height."""
    left, top, right, bottom = frame_room(layout)
    ends = [memory for memory in drawing.memories if memory.end is not None]
    period = right - left + _APART
    if ends:
        period = layout.places[ends[0].end or 0].x - layout.places[ends[0].start].x
    items: list[Item] = []
    for number, shift in enumerate(shifts):
        here = replace(layout, drawing=_lines(drawing, lambda line, shift=shift: at_step(line, shift)))
        # Where cells meet, the states that leave one are those that enter the next.
        shared = {memory.start for memory in ends} if number else set()
        found = (frame(here), Group(draw_wires(here), "wires"), *draw_parts(here, shared))
        items += [shifted(item, number * period - left, -top) for item in found]
    return items, right - left + (len(shifts) - 1) * period, bottom - top


def _lines(drawing: Drawing, change: Callable[[Line], Line]) -> Drawing:
    """The drawing with every label changed."""

    def changed(part: Part) -> Part:
        return replace(part, title=change(part.title), inside=tuple(map(change, part.inside)), label=change(part.label))

    return replace(drawing, parts=tuple(map(changed, drawing.parts)))
