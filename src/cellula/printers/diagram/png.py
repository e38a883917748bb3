"""A scene -> PNG, drawn by matplotlib; imported only when a PNG is wanted, since SVG needs no package."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, get_font_names
from matplotlib.patches import Circle as Round
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path
from matplotlib.textpath import text_to_path
from matplotlib.transforms import Affine2D

from cellula.printers.diagram.scene import Area, Circle, Points, Scene, Stroke, Text
from cellula.printers.diagram.svg import LOWERED, RAISED, towards
from cellula.printers.diagram.text import SMALL

__all__ = ["print_png"]

# Pixels to a point of the scene: sharp on screens of today.
_SCALE = 2
# The first two come with matplotlib; the others have the letters of further scripts, where they are installed.
_FAMILIES = ("STIXGeneral", "DejaVu Serif", "Noto Serif CJK SC", "Noto Sans CJK SC", "Noto Sans", "Arial Unicode MS")


def print_png(scene: Scene) -> bytes:
    """A scene as a PNG file.

    Args:
        scene: what to draw.
    """
    figure = Figure(figsize=(scene.width / 72, scene.height / 72), dpi=72 * _SCALE, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    # From the top left, as the scene counts, in points.
    upright = Affine2D().scale(1, -1).translate(0, scene.height).scale(1 / 72) + figure.dpi_scale_trans
    with warnings.catch_warnings(), io.BytesIO() as file:
        # A letter that no font has shows as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        for number, item in enumerate(scene.leaves()):
            for patch in _letters(item) if isinstance(item, Text) else [_patch(item)]:
                patch.set(transform=upright, zorder=number, clip_on=False)
                figure.add_artist(patch)
        canvas.print_png(file)
        return file.getvalue()


def _patch(item: Area | Circle | Stroke) -> Patch:
    looks: dict[str, Any] = {"linewidth": item.thick if item.line else 0.0, "edgecolor": item.line or "none"}
    looks["facecolor"] = "none" if isinstance(item, Stroke) else item.fill or "none"
    looks["linestyle"] = (0, (5 / item.thick, 3 / item.thick)) if item.dashed else "solid"
    if isinstance(item, Circle):
        return Round((item.x, item.y), item.radius, **looks)
    return PathPatch(_path(item.points, item.round, closed=isinstance(item, Area)), capstyle="butt", **looks)


def _path(points: Points, rounding: float, closed: bool) -> Path:
    """The corners as lines, rounded by quadratic curves."""
    places: list[tuple[float, float]] = []
    codes: list[Any] = []
    for number, point in enumerate(points):
        before, after = points[number - 1], points[(number + 1) % len(points)]
        first = Path.LINETO if codes else Path.MOVETO
        if rounding and (closed or number not in (0, len(points) - 1)):
            places += [towards(point, before, rounding), point, towards(point, after, rounding)]
            codes += [first, Path.CURVE3, Path.CURVE3]
        else:
            places.append(point)
            codes.append(first)
    if closed:
        places.append(places[0])
        codes.append(Path.CLOSEPOLY)
    return Path(places, codes)


def _letters(item: Text) -> Iterator[Patch]:
    """The letters of a line as areas."""
    known = set(get_font_names())
    families = [family for family in _FAMILIES if family in known]
    placed, x = [], 0.0
    for run in item.line:
        size = item.size * (SMALL if run.level else 1.0)
        slant, weight = ("italic" if run.style == "italic" else "normal"), ("bold" if run.style == "bold" else "normal")
        font = FontProperties(family=families, style=slant, weight=weight, size=size)
        rise = {0: 0.0, -1: -LOWERED, 1: RAISED}[run.level] * item.size
        if run.text.strip():
            points, codes = text_to_path.get_text_path(font, run.text, ismath=False)
            placed.append((Path(points, codes), size / text_to_path.FONT_SCALE, x, rise))
        x += text_to_path.get_text_width_height_descent(run.text, font, ismath=False)[0]
    start = item.x - {"start": 0.0, "middle": x / 2, "end": x}[item.anchor]
    for path, scale, left, rise in placed:
        move = Affine2D().scale(scale).translate(left, rise).scale(1, -1).translate(start, item.y)
        yield PathPatch(move.transform_path(path), facecolor=item.colour, linewidth=0)
