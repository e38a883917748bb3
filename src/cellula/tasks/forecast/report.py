"""The report of a forecasting run: one HTML page that needs no other file, and its pictures as PNG."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from datetime import time as clock_time
from importlib import metadata
from typing import Any

from matplotlib.figure import Figure

from cellula.tasks.forecast.backtest import Backtest
from cellula.tasks.forecast.page import Html, definitions, element, figure, page, table
from cellula.tasks.forecast.plots import (
    METHOD_STYLES,
    forecast_figure,
    learning_figure,
    step_figure,
    to_png,
    to_svg,
    with_unit,
)
from cellula.tasks.run import RunDirectory

__all__ = ["Report", "render_report", "write_report"]

# What decides the numbers beside the code itself.
LIBRARIES = ("cellula", "torch", "numpy", "accelerate")
# Between a number and its unit, which a narrow window must not part.
NO_BREAK = "\u00a0"
MIDNIGHT = clock_time()


@dataclass(frozen=True)
class Report:
    """What the page tells.

    Args:
        title: The heading, such as "Temperature, 24 hours ahead".
        backtest: The scores and examples on the test part.
        epochs: One record an epoch, as in `log.jsonl`: `epoch`, `train_loss`, `validation_loss`.
        cell: The name of the cell.
        formula: The cell's formula, whole.
        data: What the data is, as names and values in the order of the page (file, rows, series, source, ...).
        model: The network's sizes and settings, as names and values.
        options: The settings of the training, as names and values.
        units: The units of the targets, where they are known.
        seconds: How long the training took; None where it is not known.
    """

    title: str
    backtest: Backtest
    epochs: Sequence[Mapping[str, Any]]
    cell: str
    formula: str
    data: Mapping[str, object] = field(default_factory=dict)
    model: Mapping[str, object] = field(default_factory=dict)
    options: Mapping[str, object] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None

    @property
    def unit(self) -> str:
        """The unit of the first target; empty where it is not known."""
        return self.units.get(self.backtest.target, "")


def write_report(run: RunDirectory, report: Report) -> tuple[str, ...]:
    """Write the page and the pictures into a run directory.

    Args:
        run: Where to.
        report: What to tell.

    Returns:
        The names of the files written: `report.html` first, then the pictures that there is data for, among
        `forecast.png`, `error_by_step.png` and `learning_curve.png`.

    Raises:
        RunError: A file cannot be written.
    """
    figures = draw(report)
    run.write_text("report.html", lay_out(report, figures))
    for name, drawing in figures.items():
        run.write_bytes(f"{name}.png", to_png(drawing))
    return "report.html", *(f"{name}.png" for name in figures)


def render_report(report: Report) -> str:
    """The page as text.

    Args:
        report: What to tell; every text in it is escaped.

    Returns:
        A whole HTML page that loads nothing from elsewhere and runs no script.
    """
    return lay_out(report, draw(report))


def draw(report: Report) -> dict[str, Figure]:
    """The figures that there is data for, by name."""
    backtest, figures = report.backtest, {}
    if backtest.examples:
        figures["forecast"] = forecast_figure(backtest.examples, unit=report.unit)
    if backtest.by_step:
        figures["error_by_step"] = step_figure(backtest, unit=report.unit)
    if report.epochs:
        figures["learning_curve"] = learning_figure(report.epochs)
    return figures


def lay_out(report: Report, figures: Mapping[str, Figure]) -> str:
    """The page around its figures."""
    svg = {name: Html(to_svg(drawing, name.replace("_", ""))) for name, drawing in figures.items()}
    sections = (
        *heading(report),
        *section("Forecasts", forecasts(report, svg)),
        *section("Scores on the test part", scores(report)),
        *section("Error by distance", error_by_step(report, svg)),
        *section("Data", (definitions([*report.data.items(), *parts(report.backtest)]),)),
        *section("Model", model(report)),
        *section("Training", training(report, svg)),
        footer(),
    )
    return page(report.title, *sections)


def section(title: str, content: Sequence[Html]) -> tuple[Html, ...]:
    """A heading and what stands under it; nothing where there is nothing to tell."""
    return (element("h2", title), *content) if content else ()


def heading(report: Report) -> tuple[Html, ...]:
    """The title and the result in a sentence or two."""
    backtest = report.backtest
    subtitle = (
        f"{', '.join(backtest.targets)}: {backtest.horizon} steps of {backtest.step_label} ahead from the "
        f"{backtest.window} before. Cell: {report.cell}"
    )
    return (
        element("h1", report.title),
        element("p", subtitle, attributes={"class": "subtitle"}),
        element("p", conclusion(report), attributes={"class": "summary"}),
    )


def conclusion(report: Report) -> str:
    """How the network stands against the best baseline, and what share its intervals held."""
    errors = {name: row["mae"] for name, row in report.backtest.scores.items()}
    network = errors.pop("network")
    text = f"On average the forecast is off by {quantity(network, report.unit)}"
    if errors:
        best = min(errors, key=lambda name: errors[name])
        change = 100 * (network / errors[best] - 1) if errors[best] else 0.0
        word = "less" if change < 0 else "more"
        text += (
            f", {percent(abs(change))} {word} than the best baseline "
            f"({method(best)}: {quantity(errors[best], report.unit)})"
        )
    if report.backtest.levels:
        level = min(report.backtest.levels)
        share = report.backtest.scores["network"][f"coverage_{level}"]
        text += f". The {level}{NO_BREAK}% intervals held {percent(100 * share)} of the observed values"
    return text + "."


def forecasts(report: Report, svg: Mapping[str, Html]) -> tuple[Html, ...]:
    if "forecast" not in svg:
        return ()
    caption = (
        "Forecasts from the test part, which the training never saw. Shaded: the intervals in which the network "
        "expects the value, with the probability named."
    )
    # A window narrower than the drawing shows its newest end first.
    return (
        figure(
            svg["forecast"], caption, "History, forecast with intervals, observed values and baselines", end_first=True
        ),
    )


def scores(report: Report) -> tuple[Html, ...]:
    """For each target the table of the network and its baselines, and how many values the intervals held."""
    backtest = report.backtest
    by_target = backtest.by_target or {backtest.target: backtest.scores}
    note = (
        f"All {backtest.windows:,} windows of the test part, every step of each. MAE: mean absolute error; RMSE: root "
        "of the mean squared error; MASE: the MAE divided by that of a seasonal-naive forecast "
        f"(season of {backtest.season} steps) on the training part. Less is better."
    )
    pieces = []
    for target, rows in by_target.items():
        if len(by_target) > 1:
            pieces.append(element("h3", target))
        unit = report.units.get(target, "")
        pieces += [score_table(rows, unit), *coverage_table(rows["network"], unit)]
    return *pieces, element("p", note, attributes={"class": "subtitle"})


def score_table(scores: Mapping[str, Mapping[str, float]], unit: str) -> Html:
    """Errors by method, the network's line standing out."""
    largest = max(row["mae"] for row in scores.values())
    rows = [
        [method(name), *(number(row[key]) for key in ("mae", "rmse", "mase")), bar(name, row["mae"], largest)]
        for name, row in scores.items()
    ]
    header = ["", with_unit("MAE", unit), with_unit("RMSE", unit), "MASE", "MAE, compared"]
    return table(header, rows, strong=list(scores).index("network"), look="wide compared")


def coverage_table(row: Mapping[str, float], unit: str) -> tuple[Html, ...]:
    """How many of the observed values the intervals held, and how wide they are."""
    levels = sorted(int(key.removeprefix("coverage_")) for key in row if key.startswith("coverage_"))
    if not levels:
        return ()
    rows = [
        [f"{level} % interval", f"{100 * row[f'coverage_{level}']:.1f} %", number(row[f"width_{level}"])]
        for level in levels
    ]
    return (table(["", "observed values inside", with_unit("mean width", unit)], rows),)


def error_by_step(report: Report, svg: Mapping[str, Html]) -> tuple[Html, ...]:
    if "error_by_step" not in svg:
        return ()
    caption = "Mean absolute error at each step ahead, over all windows of the test part."
    return (figure(svg["error_by_step"], caption, "Lines of the error by step, network and baselines"),)


def parts(backtest: Backtest) -> Iterator[tuple[str, str]]:
    """The split by time, as names and spans."""
    split = backtest.split
    for name, start, end in (
        ("training part", "train_start", "train_end"),
        ("validation part", "validation_start", "validation_end"),
        ("test part", "test_start", "test_end"),
    ):
        if start in split and end in split:
            yield name, f"{moment(split[start])} to {moment(split[end])}"


def model(report: Report) -> tuple[Html, ...]:
    facts = definitions([("cell", report.cell), *report.model.items()])
    lead = element("p", "The cell's formula, from which encoder and decoder were built:")
    return facts, lead, element("pre", report.formula)


def training(report: Report, svg: Mapping[str, Html]) -> tuple[Html, ...]:
    facts = dict(report.options)
    if report.seconds is not None:
        facts["time taken"] = duration(report.seconds)
    parts = [definitions(facts.items())] if facts else []
    if "learning_curve" in svg:
        caption = "The loss by epoch. The weights of the marked epoch, the best on the validation part, were kept."
        parts.append(figure(svg["learning_curve"], caption, "Training and validation loss by epoch"))
    return tuple(parts)


def footer() -> Html:
    """With what the report was made."""
    versions = [f"Python {platform.python_version()}"]
    for name in LIBRARIES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            # Run from the sources, without an installation.
            continue
    return element("footer", "Made with ", ", ".join(versions), ".")


def bar(name: str, value: float, largest: float) -> Html:
    """A value as a length, in the method's colour."""
    share = 100 * value / largest if largest > 0 else 0.0
    role = name.replace("_", "-") if name in METHOD_STYLES else "other"
    filled = element("span", attributes={"style": f"width:{share:.1f}%;background:var(--{role})"})
    return element("span", filled, attributes={"class": "bar"})


def method(name: str) -> str:
    return METHOD_STYLES[name][0] if name in METHOD_STYLES else name.replace("_", " ")


def number(value: float) -> str:
    """Three significant digits at least, and no more decimals than they need."""
    if not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}" if abs(value) >= 100 else f"{value:#.3g}"


def quantity(value: float, unit: str) -> str:
    return f"{number(value)}{NO_BREAK}{unit}".rstrip()


def percent(value: float) -> str:
    return f"{value:.1f}{NO_BREAK}%"


def moment(text: str) -> str:
    """A time of the split as people write it; anything else as it is.

    Example:
        >>> moment("2013-10-19T05:00:00+00:00"), moment("2013-10-19T00:00:00"), moment("340")
        ('2013-10-19 05:00 UTC', '2013-10-19', '340')
    """
    try:
        time = datetime.fromisoformat(text) if "-" in text[1:] else None
    except ValueError:
        time = None
    if time is None:
        return text
    zone = "" if time.tzinfo is None else " UTC" if not time.utcoffset() else f" {time:%z}"
    clock = "" if not zone and time.time() == MIDNIGHT else f" {time:%H:%M:%S}".removesuffix(":00")
    return f"{time:%Y-%m-%d}{clock}{zone}"


def duration(seconds: float) -> str:
    """A time in the two largest units.

    Example:
        >>> duration(12.3), duration(185), duration(7400)
        ('12 s', '3 min 5 s', '2 h 3 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
