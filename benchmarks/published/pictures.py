"""The picture of the chorales: every seed of every cell, with what others published beside it."""

from __future__ import annotations

import io
import statistics
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from cellula.tasks.atomic import write_atomic
from published.records import Records, Row
from published.tables import LETTERS, PUBLISHED, by_cell

__all__ = ["chorales_figure", "draw", "save_svg"]

# Okabe and Ito's colours, which people with any colour vision can tell apart.
OURS, CHUNG, BAI, GRID, INK = "#0072b2", "#d55e00", "#009e73", "#dde1e6", "#1b1f24"


def chorales_figure(rows: Sequence[Row]) -> Figure:
    """One line a cell, the best above; a dot a seed."""
    found = by_cell(rows)
    means = {name: statistics.fmean(row["nll"]["test"] for row in values) for name, values in found.items()}
    order = sorted(found, key=means.__getitem__)
    figure = Figure(figsize=(7.2, 0.34 * len(order) + 1.1), layout="constrained")
    axes = figure.subplots()
    for height, name in enumerate(order):
        scores = [row["nll"]["test"] for row in found[name]]
        axes.plot(scores, [height] * len(scores), "o", color=OURS, zorder=3)
        for value, marker, colour in zip(PUBLISHED.get(name, ()), "sD", (CHUNG, BAI), strict=False):
            axes.plot([value], [height], marker, color=colour, fillstyle="none", markeredgewidth=1.5)
    for marker, colour, fill, label in (
        ("o", OURS, "full", "ours, one dot a seed"),
        ("s", CHUNG, "none", "Chung et al. 2014"),
        ("D", BAI, "none", "Bai et al. 2018"),
    ):
        axes.plot([], [], marker, color=colour, fillstyle=fill, linestyle="none", label=label)
    axes.set_yticks(range(len(order)), [f"{name} ({LETTERS[name]})" if name in LETTERS else name for name in order])
    axes.invert_yaxis()
    axes.set_xlabel("test NLL per step, nats (less is better)")
    axes.grid(axis="x", color=GRID)
    axes.grid(axis="y", color=GRID, linewidth=0.5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, colors=INK)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def draw(folder: Path) -> None:
    """Save the picture beside the results that it shows, where there are any."""
    rows = Records(folder / "chorales.json").rows()
    if rows:
        save_svg(chorales_figure(rows), folder / "published-chorales.svg")


def save_svg(figure: Figure, path: Path) -> None:
    """The same figure gives the same bytes."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "cellula", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())
