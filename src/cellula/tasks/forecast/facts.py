"""What the report says about a fitted forecaster: its data, its model and its training, in words and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from cellula.cells.catalogue import load_cell
from cellula.tasks.forecast.backtest import Backtest
from cellula.tasks.forecast.description import Description
from cellula.tasks.forecast.forecaster import Forecaster
from cellula.tasks.forecast.report import Report
from cellula.tasks.options import TrainingOptions

__all__ = ["report_on"]

NOTHING: Mapping[str, Any] = MappingProxyType({})
MOST_NAMES = 8


def report_on(
    forecaster: Forecaster,
    backtest: Backtest,
    *,
    data: Mapping[str, object] = NOTHING,
    units: Mapping[str, str] = NOTHING,
    epochs: Sequence[Mapping[str, Any]] = (),
    seconds: float | None = None,
) -> Report:
    """Gather what the report of a run tells.

    Args:
        forecaster: Fitted or loaded.
        backtest: What its `backtest` gave.
        data: What is known of the data beside its columns: name, source, licence.
        units: The units of columns, where they are known.
        epochs: One record an epoch; left out, those of the forecaster's own training.
        seconds: How long the training took; left out, the time of the epochs where they tell it.

    Returns:
        The report, to be written by `write_report`.
    """
    description = forecaster.description_
    if not epochs and forecaster.history_ is not None:
        epochs = forecaster.history_.epochs
    if seconds is None and epochs and all("seconds" in record for record in epochs):
        seconds = sum(float(record["seconds"]) for record in epochs)
    return Report(
        title=f"Forecast of {' and '.join(backtest.targets)}, {length(backtest.horizon, backtest.step_label)} ahead",
        backtest=backtest,
        epochs=epochs,
        cell=load_cell(description.cell).title or "a formula without a title",
        formula=description.cell.strip("\n"),
        data={**data, **columns(description), **notes(forecaster.notes_)},
        model={**model(description), **intervals(description, forecaster.adaptive)},
        options=options(forecaster.training),
        units=units,
        seconds=seconds,
    )


def length(horizon: int, step_label: str) -> str:
    """How far the forecast reaches: "24 h", "48 steps of 30 min".

    Example:
        >>> length(24, "1 h"), length(48, "30 min"), length(2, "1 month")
        ('24 h', '48 steps of 30 min', '2 months')
    """
    number, _, unit = step_label.partition(" ")
    if number != "1":
        return f"{horizon} steps of {step_label}"
    plural = "s" if unit in ("step", "month", "week") and horizon > 1 else ""
    return f"{horizon} {unit}{plural}"


def columns(description: Description) -> dict[str, str]:
    """Which column is what."""
    parts = description.columns
    facts = {
        "forecast": listed(parts.targets),
        "time column": parts.time,
        "series column": parts.series,
        "series": listed([str(name) for name in description.series]) if parts.series else None,
        "covariates, past": listed(parts.past),
        "covariates, known ahead": listed(parts.known),
        "clock of the pictures": description.clock.calendar_zone or description.clock.zone,
    }
    return {name: text for name, text in facts.items() if text}


def notes(lines: Sequence[str]) -> dict[str, str]:
    """What was mended in the data."""
    return {"mended": "; ".join(lines)} if lines else {}


def model(description: Description) -> dict[str, object]:
    """The sizes of the network, and the settings that its cell was given."""
    sizes = description.sizes
    facts = {
        "hidden units": sizes.hidden_size,
        "layers of encoder and decoder": sizes.num_layers,
        "dropout": sizes.dropout,
        "rows a step of the encoder": sizes.patch,
    }
    return {**facts, **{f"setting {name}": value for name, value in description.settings.items()}}


def intervals(description: Description, adaptive: bool) -> dict[str, str]:
    """How the intervals were calibrated."""
    if not description.levels:
        return {}
    later = ", then by each truth as it came in" if adaptive else " alone"
    return {"intervals calibrated": f"on the validation part{later}"}


def options(training: TrainingOptions) -> dict[str, object]:
    """The settings of the training that decide the result."""
    return {
        "epochs, at most": training.epochs,
        "batch size": training.batch_size,
        "steps an epoch, at most": training.steps_per_epoch or "all",
        "learning rate": training.learning_rate,
        "schedule": training.schedule,
        "weight decay": training.weight_decay,
        "gradient norm, at most": training.clip_norm or "any",
        "seed": training.seed,
        "precision": "float32" if training.precision == "no" else training.precision,
    }


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
