"""Text whose characters are coloured by one unit: what the unit is at after reading each of them."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure

from cellula.errors import UsageError
from cellula.inspection.drawing import GATES, STATES, Drawing, drawn
from cellula.inspection.recorded import Recorded

if TYPE_CHECKING:
    from cellula.inspection.lens import Lens

__all__ = ["coloured_text"]

# Characters a line, and lines a picture; a page has no end.
COLUMNS, MOST_LINES = 84, 60
_SHOWN = {"\n": "↵", "\t": "→"}


def coloured_text(lens: Lens, unit: int, name: str | None, row: int, layer: int) -> Drawing:
    """A picture and a page of the text."""
    if not lens.characters:
        raise UsageError("the input is not known to be text; give lens(..., characters=text)")
    if isinstance(row, bool) or not isinstance(row, int) or not 0 <= row < lens.rows:
        raise UsageError(f"row {row!r} is not there; write a number from 0 to {lens.rows - 1}")
    node = lens.node(lens.output if name is None else name, layer)
    if isinstance(unit, bool) or not isinstance(unit, int) or not 0 <= unit < node.units:
        raise UsageError(f"unit {unit!r} is not there; {node.name} has units 0 to {node.units - 1}")
    text, values = lens.characters[row], node.values[:, row, unit]
    scale = colour_scale(node, values)
    colours = scale.to_rgba(np.nan_to_num(values))[:, :3]
    title = f"{lens.cell}: unit {unit} of {node.name}, after each character"
    picture = _picture(text, colours, scale, title)
    return Drawing(picture, _page(text, values, colours, scale, title))


def colour_scale(node: Recorded, values: np.ndarray) -> ScalarMappable:
    """Gates from 0 to 1, all else around 0."""
    if node.bounds == (0.0, 1.0):
        return ScalarMappable(Normalize(0.0, 1.0), matplotlib.colormaps[GATES])
    finite = np.abs(values[np.isfinite(values)])
    # A few characters far out must not make all others pale.
    most = float(np.quantile(finite, 0.99)) if finite.size else 0.0
    return ScalarMappable(Normalize(-(most or 1.0), most or 1.0), matplotlib.colormaps[STATES])


def lines_of(text: str, columns: int = COLUMNS) -> list[range]:
    """The positions of every line: broken after a line feed, and where it would be too long."""
    lines, start = [], 0
    for position, character in enumerate(text):
        if character == "\n" or position + 1 - start == columns:
            lines.append(range(start, position + 1))
            start = position + 1
    return [*lines, range(start, len(text))] if start < len(text) else lines


def ink_on(colour: np.ndarray) -> str:
    """Black or white, whichever reads better on a colour."""
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return "#000000" if float(linear @ (0.2126, 0.7152, 0.0722)) > 0.179 else "#ffffff"


def _picture(text: str, colours: np.ndarray, scale: ScalarMappable, title: str) -> Figure:
    lines = lines_of(text)
    shown = lines[:MOST_LINES]
    # Room for the scale beside a short text.
    height = max(5, len(shown))
    with drawn(10.0, 0.45 + 0.24 * height) as figure:
        axes = figure.add_subplot()
        ground = np.ones((height, COLUMNS, 3))
        for line, positions in enumerate(shown):
            for column, at in enumerate(positions):
                ground[line, column] = colours[at]
                options = {"fontsize": 9, "family": "DejaVu Sans Mono", "color": ink_on(colours[at])}
                character = _SHOWN.get(text[at], text[at])
                letter = axes.text(column + 0.5, line + 0.54, character, ha="center", va="center", **options)
                # All of them lie within the axes; measuring each would take seconds.
                letter.set_in_layout(False)
        axes.imshow(ground, extent=(0, COLUMNS, height, 0), aspect="auto", interpolation="nearest")
        axes.set_axis_off()
        more = f" (the first {MOST_LINES} of {len(lines)} lines)" if len(lines) > len(shown) else ""
        bar = figure.colorbar(scale, ax=axes, fraction=0.025, pad=0.01, aspect=1.1 * height)
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        bar.ax.tick_params(labelsize=8.5)
        figure.suptitle(title + more, x=0.01, ha="left", fontsize=11.5, fontweight="bold")
    return figure


def _page(text: str, values: np.ndarray, colours: np.ndarray, scale: ScalarMappable, title: str) -> str:
    """A page of HTML without scripts or other files; the value stands behind every character."""
    spans = []
    for character, value, colour in zip(text, values, colours, strict=True):
        shown = html.escape(_SHOWN.get(character, character))
        style = f"background:{to_hex(colour)};color:{ink_on(colour)}"
        spans.append(f'<span style="{style}" title="{value:.3f}">{shown}</span>' + ("\n" if character == "\n" else ""))
    low, high = scale.get_clim()
    numbers = np.linspace(low or 0.0, high or 1.0, 9)
    legend = "".join(
        f'<span style="background:{to_hex(colour)};color:{ink_on(np.array(colour[:3]))}"> {number:+.2f} </span>'
        for number, colour in zip(numbers, scale.to_rgba(numbers), strict=True)
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n"
        "body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }\n"
        "pre { font: 15px/1.45 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }\n"
        f"</style>\n</head>\n<body>\n<h1>{html.escape(title)}</h1>\n<pre>{legend}</pre>\n<pre>"
        + "".join(spans)
        + "</pre>\n</body>\n</html>\n"
    )
