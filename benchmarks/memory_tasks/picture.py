"""The results as a picture: a panel a task, a row a cell, a dot a seed."""

from __future__ import annotations

import io
from collections.abc import Mapping
from statistics import median
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from memory_tasks.plan import CELLS, TASKS
from memory_tasks.table import summarise
from memory_tasks.task import Task

__all__ = ["draw_picture", "make_figure"]

# Told apart by people who do not see all colours too (Okabe & Ito).
COLOURS = ("#555555", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
AXES = {
    "adding": ("log", "mean squared error (better to the right)", True),
    "copy_memory": ("linear", "share of symbols right", False),
    "counting": ("linear", "right up to this n", False),
}


def draw_picture(record: Mapping[str, Any]) -> bytes:
    """The picture as SVG, the same for the same results."""
    return _as_svg(make_figure(record))


def make_figure(record: Mapping[str, Any]) -> Figure:
    """A panel a task."""
    trained = {row["cell"] for row in record["rows"] if row["phase"] == "seed"}
    shown = [
        (cell, colour)
        for (family, cells), colour in zip(CELLS.items(), COLOURS, strict=True)
        for cell in cells
        if cell in trained
    ]
    figure = Figure(figsize=(10, 1.4 + 0.27 * len(shown)), layout="constrained")
    panels = figure.subplots(1, len(TASKS), sharey=True)
    for axes, task in zip(panels, TASKS.values(), strict=True):
        _draw_panel(axes, task, shown, record)
    panels[0].set_yticks(range(len(shown)), [cell for cell, _ in shown])
    for label, (_, colour) in zip(panels[0].get_yticklabels(), shown, strict=True):
        label.set_color(colour)
    panels[0].set_ylim(len(shown) - 0.4, -0.6)
    keys = [Line2D([], [], color="#888888", linestyle=":", linewidth=1, label="best without memory")]
    keys.append(Line2D([], [], color="#888888", linestyle="--", linewidth=1, label="solved"))
    keys.append(Line2D([], [], color="#333333", marker="o", linestyle="", markersize=4.5, label="a seed"))
    keys.append(Line2D([], [], color="#333333", marker="|", linestyle="", markersize=9, label="their median"))
    figure.legend(handles=keys, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return figure


def _draw_panel(axes: Axes, task: Task, shown: list[tuple[str, str]], record: Mapping[str, Any]) -> None:
    scale, label, falling = AXES[task.name]
    axes.set_xscale(scale)
    for row, (cell, colour) in enumerate(shown):
        found = summarise(record["rows"], cell, task)
        if found is None:
            continue
        # Seeds a little above one another, so that equal scores stay visible.
        places = [row + 0.16 * (place - (len(found.scores) - 1) / 2) for place in range(len(found.scores))]
        axes.plot(found.scores, places, "o", color=colour, markersize=4.5, alpha=0.75, markeredgewidth=0)
        axes.plot([median(found.scores)] * 2, [row - 0.38, row + 0.38], "-", color=colour, linewidth=1.6)
    for value, style in ((task.without_memory, ":"), (task.solved, "--")):
        axes.axvline(value, color="#888888", linestyle=style, linewidth=1, zorder=0)
    if falling:
        axes.invert_xaxis()
    axes.set_xlabel(label, fontsize=8.5)
    axes.set_title(task.title.replace("a^n b^n c^n", "$a^n b^n c^n$"), fontsize=9.5)
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", color="#eeeeee", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _as_svg(figure: Figure) -> bytes:
    """Without the date, and with names that follow from the drawing alone."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "cellula", "svg.fonttype": "path"}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
