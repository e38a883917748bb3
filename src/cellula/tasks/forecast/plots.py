"""The pictures of a forecast: what was forecast and what came, how the error grows, how the training went.

Each function gives a matplotlib `Figure` that belongs to no window and no global state; `to_png` and `to_svg` write
it out.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cellula.tasks.forecast.backtest import Backtest, ForecastExample

__all__ = ["COLOURS", "METHOD_STYLES", "forecast_figure", "learning_figure", "step_figure", "to_png", "to_svg"]

# Okabe and Ito's palette, which people with any colour vision can tell apart. The report's style sheet has the same
# names, with lighter values for a dark page.
COLOURS = {
    "ink": "#1b1f24",
    "muted": "#5c6670",
    "grid": "#dde1e6",
    "network": "#0072b2",
    "training": "#d55e00",
    "persistence": "#e69f00",
    "seasonal_naive": "#009e73",
    "ridge": "#cc79a7",
    "other": "#8a6d3b",
}
# What people read, and the dashes of the line.
METHOD_STYLES: dict[str, tuple[str, Any]] = {
    "network": ("network", "-"),
    "persistence": ("persistence", (0, (1, 1.4))),
    "seasonal_naive": ("seasonal naive", (0, (5, 1.5, 1, 1.5))),
    "ridge": ("ridge regression", (0, (4, 1.8))),
}

# Used where installed, for names in scripts that matplotlib's own font lacks.
WIDE_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "SimHei",
)
MOST_PANELS = 4


def style() -> dict[Any, Any]:
    """The settings under which every figure is made and written."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return {
        "font.family": ["DejaVu Sans", *(name for name in WIDE_FONTS if name in installed)],
        "font.size": 10,
        # Names come from the user's data: a dollar sign in one is no formula.
        "text.parse_math": False,
        "text.usetex": False,
        "text.color": COLOURS["ink"],
        "axes.labelcolor": COLOURS["muted"],
        "axes.edgecolor": COLOURS["muted"],
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": COLOURS["grid"],
        "grid.linewidth": 0.8,
        "xtick.color": COLOURS["muted"],
        "ytick.color": COLOURS["muted"],
        "legend.frameon": False,
        "figure.constrained_layout.use": True,
        # Text stays text, so that it can be read aloud and searched for; the salt keeps names inside equal.
        "svg.fonttype": "none",
        "svg.hashsalt": "cellula",
    }


def forecast_figure(examples: Sequence[ForecastExample], *, unit: str = "") -> Figure:
    """Draws forecasts with their intervals, what came, and the baselines: one panel an example.

    Args:
        examples: At least one; of more than four, four spread evenly are drawn.
        unit: The unit of the target, for the axis.

    Returns:
        The figure, 10 inches wide.
    """
    count = min(MOST_PANELS, len(examples))
    shown = [examples[index] for index in np.linspace(0, len(examples) - 1, count).round().astype(int)]
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(10, 0.8 + 2.7 * len(shown)))
        panels = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
        for axes, example in zip(panels, shown, strict=True):
            draw_forecast(axes, example, unit)
        figure.align_ylabels(panels)
        # Beside the forecasts: a narrow page shows this end first.
        add_legend(figure, panels[0], side="right")
    return figure


def draw_forecast(axes: Axes, example: ForecastExample, unit: str) -> None:
    """One forecast, after as much of its history as twice its length."""
    shown = max(2 * len(example.forecast), 24)
    past, blue = example.history[-shown:], COLOURS["network"]
    clock = never_back(np.concatenate([example.history_time[-shown:], example.time]))
    past_time, ahead = clock[: len(past)], clock[len(past) :]
    axes.plot(ahead, example.forecast, color=blue, lw=2.2, marker=one_point(ahead), label="forecast", zorder=4)
    for rank, level in enumerate(sorted(example.lower)):
        bounds, alpha = (example.lower[level], example.upper[level]), 0.26 / (1 + rank)
        axes.fill_between(ahead, *bounds, color=blue, alpha=alpha, lw=0, label=f"{level} % interval")
    draw_observed(axes, past_time, past, ahead, example.truth)
    for name, values in example.baselines.items():
        label, dashes = METHOD_STYLES.get(name, (name.replace("_", " "), ":"))
        # Above the forecast's wide line, so that both are seen where they agree.
        axes.plot(ahead, values, color=colour(name), ls=dashes, lw=1.3, marker=one_point(values), label=label, zorder=5)
    axes.axvline(ahead[0], color=COLOURS["muted"], lw=0.8, ls=(0, (2, 2)))
    axes.set_title(panel_title(example), loc="left", fontsize=10.5, fontweight="bold")
    axes.set_ylabel(with_unit(shortened(example.target, 20), unit))
    axes.margins(x=0.01)
    label_time(axes, ahead)


def draw_observed(
    axes: Axes, past_time: np.ndarray, past: np.ndarray, ahead: np.ndarray, truth: np.ndarray | None
) -> None:
    """The history, and what was observed afterwards, from the history's last value on so that there is no gap."""
    axes.plot(past_time, past, color=COLOURS["muted"], lw=1.3, label="history")
    if truth is None:
        return
    time, values = np.append(past_time[-1:], ahead), np.append(past[-1:], truth)
    dots = {"marker": ".", "ms": 4, "markevery": slice(1, None)}
    axes.plot(time, values, color=COLOURS["ink"], lw=1.5, label="observed", zorder=3, **dots)


def label_time(axes: Axes, time: np.ndarray) -> None:
    """Dates that read well at any zoom; plain numbers where the data has no dates."""
    if time.dtype.kind != "M":
        axes.set_xlabel("step")
        return
    locator = AutoDateLocator(minticks=4, maxticks=9)
    # By level: year, month, day, hour, minute, second. The rest of the date stands once, below the axis.
    formats = ["%Y", "%b", "%d %b", "%H:%M", "%H:%M", "%S.%f"]
    beginnings = ["", "%Y", "%b", "%d %b", "%H:%M", "%H:%M"]
    offsets = ["", "%Y", "%Y", "%d %b %Y", "%d %b %Y", "%d %b %Y %H:%M"]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(
        ConciseDateFormatter(locator, formats=formats, zero_formats=beginnings, offset_formats=offsets)
    )


def never_back(time: np.ndarray) -> np.ndarray:
    """Times that only rise: where the local clock was put back, the one before the change goes on.

    Example:
        >>> hours = ["2013-11-03T00", "2013-11-03T01", "2013-11-03T01", "2013-11-03T02"]
        >>> str(never_back(np.array(hours, "datetime64[h]"))[-1])
        '2013-11-03T03'
    """
    steps = np.diff(time)
    if time.dtype.kind != "M" or not (steps <= np.timedelta64(0)).any():
        return time
    return time[0] + np.arange(len(time)) * np.median(steps.astype(np.int64)).astype(steps.dtype)


def panel_title(example: ForecastExample) -> str:
    """Which series, and from when."""
    start = example.time[0]
    if isinstance(start, np.datetime64):
        start = np.datetime_as_string(start.astype("datetime64[m]")).replace("T", " ")
    begin = f"forecast from {start}"
    return f"{shortened(example.series)}: {begin}" if example.series else begin.capitalize()


def step_figure(backtest: Backtest, *, unit: str = "") -> Figure:
    """Draws how the mean absolute error grows with the distance into the future, for the network and each baseline.

    Args:
        backtest: Its `by_step` and `step_label` are drawn.
        unit: The unit of the target, for the axis.
    """
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(10, 3.6))
        axes = figure.subplots()
        # The network's wide line first, so that the others are seen where they agree with it.
        for name, errors in sorted(backtest.by_step.items(), key=lambda item: item[0] != "network"):
            label, dashes = METHOD_STYLES.get(name, (name.replace("_", " "), ":"))
            steps = np.arange(1, len(errors) + 1)
            width, marker = (2.6, "o" if len(steps) <= 60 else "") if name == "network" else (1.6, one_point(steps))
            axes.plot(steps, errors, color=colour(name), ls=dashes, lw=width, marker=marker, ms=3.5, label=label)
        axes.set_xlabel(f"steps ahead (1 step = {backtest.step_label})")
        axes.set_ylabel(with_unit("mean absolute error", unit))
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True))
        add_legend(figure, axes)
    return figure


def learning_figure(epochs: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws the loss on the training and the validation part by epoch, with the epoch that was kept marked.

    Args:
        epochs: Records with `epoch`, `train_loss` and `validation_loss`.
    """
    number = [int(record["epoch"]) for record in epochs]
    training = [finite(record.get("train_loss")) for record in epochs]
    validation = [finite(record.get("validation_loss")) for record in epochs]
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(10, 3.2))
        axes = figure.subplots()
        axes.plot(number, training, color=COLOURS["training"], lw=1.6, ls="--", marker="s", ms=4, label="training part")
        axes.plot(number, validation, color=COLOURS["network"], lw=2.2, marker="o", ms=4, label="validation part")
        if not np.all(np.isnan(validation)):
            best = int(np.nanargmin(validation))
            ring = {"marker": "o", "ms": 11, "mfc": "none", "mew": 1.6, "ls": "none", "color": COLOURS["ink"]}
            axes.plot(number[best], validation[best], label=f"kept: epoch {number[best]}", **ring)
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True))
        axes.margins(x=0.03, y=0.12)
        add_legend(figure, axes)
    return figure


def add_legend(figure: Figure, axes: Axes, side: str = "left") -> None:
    """A legend above the panels, where it covers no data."""
    handles, labels = axes.get_legend_handles_labels()
    place: Any = f"outside upper {side}"
    figure.legend(handles, labels, loc=place, ncols=min(len(labels), 4), fontsize=9.5)


def colour(method: str) -> str:
    return COLOURS.get(method, COLOURS["other"])


def one_point(values: Sequence[Any] | np.ndarray) -> str:
    """A marker where there is a single point, which a line alone would not show."""
    return "o" if len(values) == 1 else ""


def with_unit(label: str, unit: str) -> str:
    return f"{label} ({shortened(unit, 12)})" if unit else label


def shortened(name: str, longest: int = 40) -> str:
    """A name on one line, at most `longest` characters."""
    line = " ".join(str(name).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def finite(value: Any) -> float:
    """A number of the log; null (a loss that was not finite) is nan."""
    return float("nan") if value is None else float(value)


def to_png(figure: Figure, *, dots_per_inch: int = 150) -> bytes:
    """The figure as a PNG file on white."""
    return written(figure, format="png", dpi=dots_per_inch, facecolor="white")


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an `<svg>` element for a page.

    Args:
        figure: The figure.
        name: Starts every identifier inside, so that several figures can stand on one page; letters only.

    Returns:
        The element, scaling to the width of its place, with the colours of `COLOURS` as CSS variables (`var(--ink)`).
    """
    text = written(figure, format="svg", transparent=True, metadata={"Date": None, "Creator": None}).decode()
    text = text[text.index("<svg") :]
    text = re.sub(r'(<svg [^>]*?)\swidth="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg [^>]*?)\sheight="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'(<[^>]*? id="|<[^>]*?href="#|url\(#)', rf"\g<1>{name}-", text)
    for role, value in COLOURS.items():
        text = text.replace(value, f"var(--{role.replace('_', '-')})")
    return text


def written(figure: Figure, **options: Any) -> bytes:
    """What matplotlib writes of a figure."""
    target = io.BytesIO()
    with matplotlib.rc_context(style()), warnings.catch_warnings():
        # A script that no installed font has shows as boxes in the PNG; the page's text stays whole.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(target, **options)
    return target.getvalue()
