"""The picture of how far back the gradient of the last output reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from cellula.errors import UsageError
from cellula.inspection.drawing import COLOURS, INK, LINES, MUTED, Drawing, drawn
from cellula.inspection.memory import GradientOverLags

if TYPE_CHECKING:
    from cellula.inspection.lens import Lens

__all__ = ["draw_memory", "memory_curve"]

# A curve that falls further than this shows no more by being followed down.
DEEPEST = 1e-12
# Near the ends of float64 the numbers of an axis overflow.
HIGHEST = 1e200
# More states than this are too many lines.
MOST_STATES = 4

WORDS = {
    "vanishes": "the gradient vanishes",
    "steady": "the gradient is steady",
    "explodes": "the gradient explodes",
    "no memory": "no step looks back",
    "no gradient": "there is no gradient",
}


def memory_curve(lens: Lens) -> Drawing:
    """The curve of a lens, with its verdict as the title."""
    if lens.memory is None:
        raise UsageError("the input has a single step; a memory needs at least 2")
    step = f" of {lens.shown.step}" if lens.shown.step else ""
    return draw_memory(lens.memory, f"{lens.cell}, {lens.part}" if lens.part else lens.cell, step)


def draw_memory(memory: GradientOverLags, cell: str, step: str = "") -> Drawing:
    """The norm of the gradient over lags, on a logarithmic axis."""
    lags = memory.lags
    with drawn(8.0, 4.2) as figure:
        axes = figure.add_subplot()
        known = (memory.norms <= HIGHEST) & (memory.norms > 0.0)
        for number, (name, norms) in enumerate(list(memory.states.items())[:MOST_STATES]):
            fine = (norms <= HIGHEST) & (norms > 0.0)
            line = {"color": COLOURS[1 + number], "ls": LINES[1 + number % 3], "lw": 1.3}
            axes.plot(lags[fine], norms[fine], label=f"with respect to the state {name}", **line)
        marker = "o" if known.sum() < 25 else ""
        label = "with respect to the input"
        axes.plot(lags[known], memory.norms[known], color=COLOURS[0], lw=2.4, marker=marker, ms=4, label=label)
        axes.set_yscale("log")
        top, bottom = limits(memory)
        axes.set_ylim(bottom, top)
        # What lies below the axis needs no room.
        seen = np.flatnonzero(memory.norms >= bottom)
        last = int(seen[-1]) if seen.size and not np.isinf(memory.norms[-1]) else len(lags) - 1
        axes.set_xlim(-0.5, min(len(lags) - 1, max(1.1 * last, memory.effective_memory + 1)) + 0.5)
        axes.grid(axis="y")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(power))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True))
        if known.any() and memory.verdict in ("vanishes", "steady", "explodes"):
            mark_reach(memory, axes)
        axes.set_xlabel(f"steps{step} back from the last output")
        axes.set_ylabel("norm of its gradient")
        # Beside the title, where it covers neither a curve nor a line.
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)
        figure.suptitle(f"{cell}: {WORDS[memory.verdict]}", x=0.01, ha="left", fontsize=11.5, fontweight="bold")
        axes.set_title(detail(memory), fontsize=9.5, color=MUTED)
    return Drawing(figure)


def mark_reach(memory: GradientOverLags, axes: Axes) -> None:
    """A line where the effective memory ends, and one where the gradient would neither grow nor shrink."""
    start = memory.norms[np.isfinite(memory.norms) & (memory.norms > 0.0)][0]
    axes.axhline(start, color=MUTED, lw=1.0, ls=(0, (2, 2)))
    if memory.not_finite_from is not None:
        axes.axvspan(memory.not_finite_from - 0.5, len(memory.lags) - 0.5, color=COLOURS[1], alpha=0.15, lw=0)
    elif memory.verdict != "explodes":
        axes.axvspan(-0.5, memory.effective_memory + 0.5, color=COLOURS[0], alpha=0.08, lw=0)
        axes.axvline(memory.effective_memory + 0.5, color=INK, lw=1.0)


def detail(memory: GradientOverLags) -> str:
    """The numbers below the title."""
    if memory.verdict in ("no memory", "no gradient"):
        return f"the norm is 0 at all {'lags but the first' if memory.verdict == 'no memory' else 'lags'}"
    if memory.not_finite_from is not None:
        return f"times {memory.growth:.3g} a step back; not finite from lag {memory.not_finite_from} on"
    grows = f"times {memory.growth:.3g} a step back (dotted: times 1)"
    if memory.verdict == "explodes":
        return f"{grows}: {memory.growth ** (len(memory.lags) - 1):.1e}-fold over {len(memory.lags)} steps"
    more = " or more" if memory.is_cut_off else ""
    reach = f"the last {memory.effective_memory + 1}{more} of {len(memory.lags)} steps"
    return f"{grows}\nshaded: {memory.share:.0%} of it comes from {reach}"


def power(value: float, _: object) -> str:
    """10⁻³: matplotlib's own labels are mathematics, which is switched off since names are not."""
    if not 0.0 < value < np.inf:
        return ""
    return "10" + f"{round(np.log10(value))}".translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def limits(memory: GradientOverLags) -> tuple[float, float]:
    """The ends of the logarithmic axis."""
    norms = np.concatenate([memory.norms, *memory.states.values()])
    norms = norms[np.isfinite(norms) & (norms > 0.0)]
    if not norms.size:
        return 10.0, 0.1
    # With a base of at least three decades, a steady gradient looks steady.
    top = min(float(norms.max()), HIGHEST)
    start = memory.norms[memory.norms > 0.0]
    bottom = max(float(norms.min()), DEEPEST * float(start[0] if start.size and np.isfinite(start[0]) else top))
    middle = np.sqrt(top) * np.sqrt(bottom)
    return max(top, middle * 10**1.5) * 3.0, min(bottom, middle / 10**1.5) / 3.0
