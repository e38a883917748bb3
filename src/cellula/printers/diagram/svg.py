"""A scene -> SVG, as text: no program or package is needed to write it."""

from __future__ import annotations

import re

from cellula.printers.diagram.scene import Area, Circle, Group, Item, Scene, Stroke, Text
from cellula.printers.diagram.text import SMALL, Line, width

__all__ = ["FONTS", "LOWERED", "RAISED", "print_svg", "towards"]

# The fonts that have the widths of `widths.py`, and what comes nearest where none of them is at hand.
FONTS = "'Times New Roman', 'Liberation Serif', 'Nimbus Roman', 'STIXGeneral', 'STIX Two Text', Times, serif"
# How far indices stand below the line, and exponents above it, as parts of the size of the line.
LOWERED, RAISED = 0.22, 0.36
# From this share of its room on, text keeps its width in every font.
_FULL = 0.7
# What XML 1.0 cannot hold, even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}


def print_svg(scene: Scene) -> str:
    """A scene as an SVG file: plain shapes and text, no scripts, no links, nothing loaded from elsewhere.

    Args:
        scene: what to draw.
    """
    size = f'width="{_number(scene.width)}" height="{_number(scene.height)}"'
    box = f'viewBox="0 0 {_number(scene.width)} {_number(scene.height)}"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} {box} role="img" font-family="{FONTS}">']
    lines.append(f"<title>{_escaped(scene.title)}</title>")
    lines.append('<rect width="100%" height="100%" fill="#ffffff"/>')
    for item in scene.items:
        lines += _lines(item)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _lines(item: Item) -> list[str]:
    if isinstance(item, Group):
        kind = f' class="{_escaped(item.kind)}"' if item.kind else ""
        about = [f"<title>{_escaped(item.about)}</title>"] if item.about else []
        return [f"<g{kind}>", *about, *(line for inner in item.items for line in _lines(inner)), "</g>"]
    if isinstance(item, Text):
        return [_text(item)]
    paint = _paint(item)
    if isinstance(item, Circle):
        return [f'<circle cx="{_number(item.x)}" cy="{_number(item.y)}" r="{_number(item.radius)}"{paint}/>']
    return [f'<path d="{_path(item)}"{paint}/>']


def _paint(item: Area | Circle | Stroke) -> str:
    fill = "none" if isinstance(item, Stroke) else item.fill or "none"
    if item.line is None:
        return f' fill="{fill}"'
    dashes = ' stroke-dasharray="5 3"' if item.dashed else ""
    return f' fill="{fill}" stroke="{item.line}" stroke-width="{_number(item.thick)}"{dashes}'


def _path(item: Area | Stroke) -> str:
    """The corners as lines, rounded by quadratic curves."""
    points, closed = item.points, isinstance(item, Area)
    parts: list[str] = []
    count = len(points)
    for place, point in enumerate(points):
        before, after = points[place - 1], points[(place + 1) % count]
        if (not closed and place in (0, count - 1)) or not item.round:
            parts.append(f"{'L' if parts else 'M'}{_pair(point)}")
            continue
        start, end = towards(point, before, item.round), towards(point, after, item.round)
        parts.append(f"{'L' if parts else 'M'}{_pair(start)}Q{_pair(point)} {_pair(end)}")
    return "".join(parts) + ("Z" if closed else "")


def towards(point: tuple[float, float], other: tuple[float, float], far: float) -> tuple[float, float]:
    """The place so far from a corner on the way to the next one, at most in the middle between them."""
    (x, y), (a, b) = point, other
    length = ((a - x) ** 2 + (b - y) ** 2) ** 0.5
    share = min(far / length, 0.5) if length else 0.0
    return x + (a - x) * share, y + (b - y) * share


def _text(item: Text) -> str:
    anchor = "" if item.anchor == "start" else f' text-anchor="{item.anchor}"'
    colour = "" if item.colour == "#000000" else f' fill="{item.colour}"'
    place = f'x="{_number(item.x)}" y="{_number(item.y)}" font-size="{_number(item.size)}"'
    # Where text fills its room, no font may make it wider: a reader without the fonts above sees it narrowed.
    wide = width(item.line, item.size)
    fixed = f' textLength="{_number(wide)}" lengthAdjust="spacingAndGlyphs"' if wide > _FULL * item.room > 0 else ""
    return f'<text {place}{anchor}{colour}{fixed} xml:space="preserve">{_runs(item.line, item.size)}</text>'


def _runs(line: Line, size: float) -> str:
    """Runs as spans; after an index the next span comes back to the line."""
    parts, level = [], 0.0
    for run in line:
        want = {0: 0.0, -1: LOWERED, 1: -RAISED}[run.level] * size
        style = {"italic": ' font-style="italic"', "bold": ' font-weight="bold"'}.get(run.style, "")
        small = f' font-size="{_number(size * SMALL)}"' if run.level else ""
        move = f' dy="{_number(want - level)}"' if want != level else ""
        text = _escaped(run.text)
        parts.append(f"<tspan{style}{small}{move}>{text}</tspan>" if style or small or move else text)
        level = want
    return "".join(parts)


def _escaped(text: str) -> str:
    """Text that can be nothing but text in XML."""
    return "".join(_ESCAPES.get(letter, letter) for letter in _FORBIDDEN.sub("\ufffd", text))


def _pair(point: tuple[float, float]) -> str:
    return f"{_number(point[0])} {_number(point[1])}"


def _number(value: float) -> str:
    """At most two digits behind the point."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
