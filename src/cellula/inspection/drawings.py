"""The pictures of a lens: units over time, one unit, saturation, memory, coloured text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from cellula.errors import UsageError
from cellula.inspection.coloured import coloured_text
from cellula.inspection.curve import memory_curve
from cellula.inspection.drawing import COLOURS, GATES, INK, LINES, MUTED, STATES, Drawing, drawn
from cellula.inspection.recorded import ORDERS, Recorded, order_units

if TYPE_CHECKING:
    from cellula.inspection.lens import Lens

__all__ = ["coloured_text", "heat_map", "memory_curve", "saturation", "trace"]

# Inches.
WIDTH, PANEL = 10.0, 1.75
# More columns of the input than this are an image, not lines.
MOST_LINES = 6
# Characters stand below the axis of at most so many steps.
MOST_CHARACTERS = 130
# Between these numbers of steps matplotlib may smooth; below, every step is a sharp column.
SHARP = 700


def heat_map(lens: Lens, names: Sequence[str], row: int, layer: int, order: str) -> Drawing:
    """Units over time, one panel a node, below the input."""
    check_row(lens, row)
    if order not in ORDERS:
        raise UsageError(f"order is {order!r}; write {' or '.join(map(repr, ORDERS))}")
    nodes = [lens.node(name, layer) for name in names or default_names(lens)]
    heights = [input_height(lens), *(min(1.4, 0.5 + node.units / 50) for node in nodes)]
    with drawn(WIDTH, 0.9 + PANEL * sum(heights)) as figure:
        grid = figure.add_gridspec(len(nodes) + 1, 2, width_ratios=(1, 0.016), height_ratios=heights)
        top = figure.add_subplot(grid[0, 0])
        draw_input(lens, top, row)
        panels, like, units = [top], nodes[-1], order_units(nodes[-1], order)
        for number, node in enumerate(nodes, start=1):
            axes = figure.add_subplot(grid[number, 0], sharex=top)
            panels.append(axes)
            own = units if node.units == like.units else order_units(node, order)
            image = draw_units(axes, node, own, row, reordered=order != "none")
            bar = figure.colorbar(image, cax=figure.add_subplot(grid[number, 1]))
            bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
            bar.ax.yaxis.set_major_locator(ticks())
            bar.ax.tick_params(labelsize=8.5)
        finish_time_axis(lens, panels)
        title = row_title(lens, row, layer)
        sorting = {"time": "; units that change slowly above", "similarity": "; units that move together side by side"}
        figure.suptitle(title + sorting.get(order, ""), x=0.01, ha="left", fontsize=11.5, fontweight="bold")
    return Drawing(figure)


def draw_units(axes: Axes, node: Recorded, units: np.ndarray, row: int, *, reordered: bool) -> AxesImage:
    """The image of one node, its units downwards."""
    values = node.values[:, row, units].T  # [H, T]
    steps = values.shape[1]
    low, high = node.bounds
    if (low, high) == (0.0, 1.0):
        options = {"cmap": GATES, "vmin": 0.0, "vmax": 1.0}
    else:
        finite = np.abs(values[np.isfinite(values)])
        # One unit far out must not make all others pale.
        most = 1.0 if (low, high) == (-1.0, 1.0) else float(np.quantile(finite, 0.995)) if finite.size else 1.0
        options = {"cmap": STATES, "vmin": -(most or 1.0), "vmax": most or 1.0}
    image = axes.imshow(
        np.ma.masked_invalid(values),
        aspect="auto",
        extent=(-0.5, steps - 0.5, len(units) - 0.5, -0.5),
        interpolation="nearest" if steps <= SHARP else "antialiased",
        **options,
    )
    axes.set_facecolor("#f0c000")
    axes.set_title(node_title(node))
    axes.set_ylabel("units, sorted" if reordered else "unit")
    if reordered:
        axes.set_yticks([])
    else:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    for side in axes.spines.values():
        side.set_visible(False)
    return image


def draw_input(lens: Lens, axes: Axes, row: int) -> None:
    """The input over time: lines, or an image where it has many columns."""
    shown = lens.shown
    values = shown.values[:, row]  # [R, C]
    # Several rows may fall into one step; they spread over its width.
    position = (np.arange(len(values)) + 0.5) / shown.rows_per_step - 0.5
    axes.set_title(shown.title)
    columns = values.shape[1]
    if lens.characters:
        draw_characters(lens, axes, row)
    elif columns > MOST_LINES:
        most = float(np.abs(values).max()) or 1.0
        extent = (-0.5, lens.steps - 0.5, columns - 0.5, -0.5)
        axes.imshow(values.T, aspect="auto", extent=extent, cmap=STATES, vmin=-most, vmax=most, interpolation="nearest")
        axes.set_ylabel("column")
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    else:
        for column, (name, colour) in enumerate(zip(shown.names, COLOURS, strict=False)):
            axes.plot(position, values[:, column], color=colour, lw=1.3, label=shortened(name), ls=LINES[column // 4])
        axes.grid(axis="y")
        axes.yaxis.set_major_locator(ticks())
        if columns > 1:
            beside_title(axes, columns)
        elif shown.names[0] != "x":
            axes.set_title(f"{shown.title}: {shortened(shown.names[0])}")
    axes.set_xlim(-0.5, lens.steps - 0.5)


def draw_characters(lens: Lens, axes: Axes, row: int) -> None:
    """The text that is read, a character above each step."""
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    if lens.steps > MOST_CHARACTERS:
        first = shortened(lens.characters[row], 60)
        axes.text(0.0, 0.5, f"{lens.steps} characters: {first}", transform=axes.transAxes, va="center", color=MUTED)
        return
    size = min(11.0, 900.0 / lens.steps)
    for step, character in enumerate(lens.characters[row]):
        visible = {" ": "·", "\n": "↵", "\t": "→"}.get(character, character)
        letter = axes.text(step, 0.5, visible, ha="center", va="center", fontsize=size, family="DejaVu Sans Mono")
        letter.set_in_layout(False)


def trace(lens: Lens, unit: int, names: Sequence[str], row: int, layer: int) -> Drawing:
    """One unit over time: its gates in one panel, its other nodes in one each."""
    check_row(lens, row)
    chosen = [lens.node(name, layer) for name in names or default_names(lens, layers=True)]
    widest = max(node.units for node in chosen)
    if isinstance(unit, bool) or not isinstance(unit, int) or not 0 <= unit < widest:
        raise UsageError(f"unit {unit!r} is not there; write a number from 0 to {widest - 1}")
    short = [node for node in chosen if unit >= node.units]
    if names and short:
        raise UsageError(f"{short[0].name} has {short[0].units} units, and no unit {unit}")
    chosen = [node for node in chosen if unit < node.units]
    gates = [node for node in chosen if node.bounds == (0.0, 1.0)]
    panels = [*([gates] if gates else []), *([node] for node in chosen if node not in gates)]
    heights = [input_height(lens), *(0.8 for _ in panels)]
    with drawn(WIDTH, 0.9 + PANEL * sum(heights)) as figure:
        grid = figure.add_gridspec(len(panels) + 1, 1, height_ratios=heights)
        top = figure.add_subplot(grid[0])
        draw_input(lens, top, row)
        below = [figure.add_subplot(grid[number], sharex=top) for number in range(1, len(panels) + 1)]
        for axes, nodes in zip(below, panels, strict=True):
            draw_lines(axes, nodes, unit, row)
        finish_time_axis(lens, [top, *below])
        title = f"unit {unit} of {row_title(lens, row, layer)}"
        figure.suptitle(title, x=0.01, ha="left", fontsize=11.5, fontweight="bold")
    return Drawing(figure)


def draw_lines(axes: Axes, nodes: Sequence[Recorded], unit: int, row: int) -> None:
    """One unit of some nodes over time."""
    for number, node in enumerate(nodes):
        values = node.values[:, row, unit]
        colour = COLOURS[number % len(COLOURS)] if len(nodes) > 1 else INK
        marker = "o" if len(values) == 1 else ""
        axes.plot(values, color=colour, ls=LINES[number % len(LINES)], lw=1.5, label=node.name, marker=marker)
    axes.grid(axis="y")
    if nodes[0].bounds == (0.0, 1.0):
        axes.set_ylim(-0.04, 1.04)
        axes.set_yticks([0, 0.5, 1])
    else:
        axes.axhline(0.0, color=MUTED, lw=0.8)
        axes.yaxis.set_major_locator(ticks())
    axes.set_title(node_title(nodes[0]) if len(nodes) == 1 else "gates")
    if len(nodes) > 1:
        beside_title(axes, len(nodes))


def saturation(lens: Lens, layer: int) -> Drawing:
    """How often each unit is saturated, below and above."""
    nodes = [node for node in lens.nodes if node.limits is not None and node.layer == layer]
    if not nodes:
        raise UsageError("no node that was recorded has bounds at which it saturates; a gate or a tanh has")
    columns = min(4, len(nodes))
    lines = math.ceil(len(nodes) / columns)
    with drawn(max(5.2, 2.55 * columns), 0.4 + 2.6 * lines) as figure:
        panels = figure.subplots(lines, columns, squeeze=False)
        for axes, node in zip(panels.flat, nodes, strict=False):
            assert node.limits is not None
            low, high = node.limits
            axes.plot([0, 1], [1, 0], color=MUTED, lw=0.8)
            axes.scatter(node.low_share, node.high_share, s=16, color=COLOURS[0], alpha=0.55, lw=0, clip_on=False)
            axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title=node_title(node, 24))
            axes.set_xticks([0, 0.5, 1])
            axes.set_yticks([0, 0.5, 1])
            axes.grid()
            axes.set_xlabel(f"share below {low:g}" if low > node.bounds[0] else f"share at {low:g}")
            axes.set_ylabel("" if math.isinf(high) else f"share above {high:g}")
        for axes in panels.flat[len(nodes) :]:
            axes.set_visible(False)
        title = f"Saturation: one dot a unit of {lens.cell}"
        figure.suptitle(title + layer_words(lens, layer), x=0.01, ha="left", fontsize=11.5, fontweight="bold")
    return Drawing(figure)


def default_names(lens: Lens, *, layers: bool = False) -> list[str]:
    """All gates and states (and layers), else all that there is."""
    wanted = [n.name for n in lens.nodes if n.is_state or n.role == "gate" or (layers and n.role == "layer")]
    return list(dict.fromkeys(wanted)) or list(lens.names)


def input_height(lens: Lens) -> float:
    """Of its panel: one line of characters needs little."""
    return 0.3 if lens.characters else 0.8


def ticks() -> MaxNLocator:
    """A few round numbers."""
    return MaxNLocator(nbins=4, steps=[1, 2, 5, 10])


def finish_time_axis(lens: Lens, panels: Sequence[Axes]) -> None:
    """Steps below the last panel only."""
    for axes in panels[:-1]:
        axes.tick_params(labelbottom=False)
    last = panels[-1]
    last.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True))
    last.set_xlabel(f"step ({lens.shown.step} each)" if lens.shown.step else "step")


def beside_title(axes: Axes, entries: int) -> None:
    """A legend on the line of the title, at its right end, where it covers no data."""
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.97), ncols=entries, borderaxespad=0.0, handlelength=2.2)


def node_title(node: Recorded, longest: int = 90) -> str:
    """The node's name and what the formula says of it."""
    return shortened(f"{node.name}, {node.comment}" if node.comment else node.name, longest)


def row_title(lens: Lens, row: int, layer: int) -> str:
    """Cell, layer and sequence."""
    name = ""
    if lens.row_names and (lens.rows > 1 or lens.row_names[row]):
        name = f", {shortened(lens.row_names[row])}"
    elif lens.rows > 1:
        name = f", sequence {row}"
    part = f", {lens.part}" if lens.part else ""
    return f"{lens.cell}{part}{layer_words(lens, layer)}{name}"


def layer_words(lens: Lens, layer: int) -> str:
    return f", layer {layer}" if lens.layers > 1 else ""


def check_row(lens: Lens, row: int) -> None:
    """UsageError where there is no such sequence."""
    if isinstance(row, bool) or not isinstance(row, int) or not 0 <= row < lens.rows:
        raise UsageError(f"row {row!r} is not there; write a number from 0 to {lens.rows - 1}")


def shortened(name: str, longest: int = 40) -> str:
    """A name on one line."""
    line = " ".join(str(name).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"
