"""A lens as text for people."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cellula.inspection.recorded import Recorded

if TYPE_CHECKING:
    from cellula.inspection.lens import Lens

__all__ = ["print_lens"]

_WIDTH = 100


def print_lens(lens: Lens) -> str:
    """The summary: what was looked at, a line for every node, the memory, the hints."""
    rows = f"{lens.rows} sequences" if lens.rows > 1 else "1 sequence"
    step = f" of {lens.shown.step}" if lens.shown.step else ""
    layers = f", {lens.layers} layers" if lens.layers > 1 else ""
    part = f", {lens.part}" if lens.part else ""
    parts = [f"{lens.cell}{part}: {lens.steps} steps{step}, {rows}{layers}", ""]
    header = ("node", "what it is", "units", "mean", "spread", "low", "high", "steps alike")
    lines: list[tuple[str, ...]] = [header, *(_line(node, lens.layers > 1) for node in lens.nodes)]
    parts.append(_table(lines))
    if any(node.limits is not None for node in lens.nodes):
        parts.append(
            "  low, high: share of steps and units where a gate is below 0.1 or above 0.9, a tanh beyond -0.9 or 0.9;\n"
            "  steps alike: the time constant of the middle unit"
        )
    if lens.memory is not None:
        parts += ["", *textwrap.wrap(f"memory  {lens.memory}", _WIDTH, subsequent_indent="        ")]
    for hint in lens.hints:
        parts += textwrap.wrap(f"hint    {hint}", _WIDTH, subsequent_indent="        ")
    return "\n".join(parts)


def _line(node: Recorded, layered: bool) -> tuple[str, ...]:
    """One node: its name, what it is, and its numbers over all units."""
    what = "state" if node.is_state and node.role == "combination" else node.role
    what = f"{what}, state" if node.is_state and node.role != "combination" else what
    low, high = ("", "")
    if node.limits is not None:
        low = f"{node.low_share.mean():.0%}"
        high = "" if np.isinf(node.limits[1]) else f"{node.high_share.mean():.0%}"
    alike = float(np.median(node.time_constant)) if node.values.shape[0] > 1 else 0.0
    numbers = (f"{np.nanmean(node.mean):.3g}" if not np.isnan(node.mean).all() else "not finite",)
    numbers += (f"{np.nanmean(node.spread):.3g}" if not np.isnan(node.spread).all() else "not finite",)
    name = f"{node.name} [{node.layer}]" if layered else node.name
    return name, what, str(node.units), *numbers, low, high, "still" if np.isinf(alike) else f"{alike:.1f}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their longest entry, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [f"{e:<{w}}" if c < 2 else f"{e:>{w}}" for c, (e, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)
