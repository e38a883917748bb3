"""What the shapes and colours of a picture mean: only those that it shows."""

from __future__ import annotations

from collections.abc import Sequence

from cellula.printers.diagram.draw import LONG, SHORT, body, mark, ring
from cellula.printers.diagram.parts import Drawing, Kind, Part
from cellula.printers.diagram.scene import Circle, Item, Stroke, Text, shifted
from cellula.printers.diagram.shapes import RADIUS, Shape
from cellula.printers.diagram.style import COLOURS
from cellula.printers.diagram.text import roman, width
from cellula.printers.diagram.wires import Place

__all__ = ["Key", "flowed", "keys"]

# A sample around (0, 0), its width, and what it means.
Key = tuple[tuple[Item, ...], float, str]

_ROW, _SIZE, _APART, _BESIDE = 27.0, 12.5, 20.0, 6.0
_KINDS: tuple[tuple[Kind, str, str, float, str], ...] = (
    ("gate", "gate", "", 15.0, "gate node: from 0 to 1, it scales a value"),
    ("layer", "box", "", 15.0, "layer node: weights, sum, activation"),
    ("function", "pill", "f", 15.0, "function of every unit"),
    ("product", "circle", "", RADIUS, "product, unit by unit"),
    ("scale", "pill", "× k", 18.0, "product with weights or a setting"),
    ("sum", "circle", "", RADIUS, "sum"),
    ("parameter", "box", "", 15.0, "weights alone"),
)
_MARKS = (("−", "subtracted from the sum"), ("÷", "divides the product"))


def keys(drawings: Sequence[Drawing]) -> list[Key]:
    """The samples that these pictures need, with words."""
    parts = [part for drawing in drawings for part in drawing.parts]
    memories = [memory for drawing in drawings for memory in drawing.memories]
    kinds = {part.kind for part in parts}
    found: list[Key] = []
    if any(memory.long for memory in memories):
        found.append(_line(COLOURS["long"].fill, LONG, "long memory: carried on unit by unit"))
    if any(not memory.long for memory in memories):
        found.append(_line(COLOURS["short"].line, SHORT, "short memory: made anew at every step"))
    for kind, form, text, half, words in _KINDS:
        if kind in kinds:
            high = half if form == "circle" else 10.0
            shape = Shape(form, half, high, high, half, half, high, high)
            sample = body(Part(kind, title=roman(text)), Place(0.0, 0.0, shape), COLOURS[kind])
            found.append((tuple(sample), 2 * half, words))
    if "join" in kinds:
        shape = Shape("dot", 4.5, 4.5, 4.5, 4.5, 4.5, 4.5, 4.5)
        sample = body(Part("join"), Place(0.0, 0.0, shape), COLOURS["join"])
        found.append((tuple(sample), 9.0, "read together, each with its own weights"))
    if any(ring(part, entry) for part in parts for entry in range(len(part.entries))):
        sample = (Stroke(((-9, 0), (2, 0)), "#333333", 1.3), Circle(5.5, 0, 3.2, "#ffffff", "#333333", 1.3))
        found.append((sample, 18.0, "read unit by unit, as by a peephole"))
    for sign, words in _MARKS:
        if any(entry.mark == sign for part in parts if part.kind in ("sum", "product") for entry in part.entries):
            found.append(((Stroke(((-9, 0), (9, 0)), "#333333", 1.3), *mark(sign, 0.0, 0.0)), 18.0, words))
    return found


def _line(colour: str, thick: float, words: str) -> Key:
    return (Stroke(((-14, 0), (14, 0)), colour, thick),), 28.0, words


def flowed(samples: Sequence[Key], room: float) -> tuple[list[Item], float]:
    """The samples in rows no wider than there is room, and their height."""
    items: list[Item] = []
    x, row = 0.0, 0
    for sample, wide, words in samples:
        whole = wide + _BESIDE + width(roman(words), _SIZE)
        if x and x + whole > room:
            x, row = 0.0, row + 1
        y = (row + 0.5) * _ROW
        items += [shifted(item, x + wide / 2, y) for item in sample]
        items.append(Text(x + wide + _BESIDE, y + 4, roman(words), _SIZE, "#333333", room=whole - wide))
        x += whole + _APART
    return items, (row + 1) * _ROW if samples else 0.0
