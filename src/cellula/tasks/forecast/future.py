"""From the newest rows to the forecast that a user gets: what is known ahead is looked up, units are put back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import narwhals as nw
import numpy as np
import torch

from cellula.errors import DataError, UsageError
from cellula.tasks.forecast.clock import Clock
from cellula.tasks.forecast.description import Description
from cellula.tasks.forecast.model import ForecastModel, move_bounds
from cellula.tasks.forecast.table import Columns, Origin, Panel, listed, read_panel, write_frame

__all__ = ["Newest", "forecast_frame", "future_rows", "stored_origin"]


@dataclass(frozen=True)
class Newest:
    """Where a forecast starts.

    Args:
        history: the last window of each series, scaled, [S, W, C].
        ends: the position of the last row of each series, [S].
        numbers: for each series its number in the description, [S].
        origin: the form in which the forecast is given back.
        offsets: how far the intervals of each series are moved, [S, levels, T, Y].
    """

    history: np.ndarray
    ends: np.ndarray
    numbers: np.ndarray
    origin: Origin
    offsets: np.ndarray


def stored_origin(description: Description) -> Origin:
    """The form of the data that a loaded model was fitted on."""
    clock = description.clock
    if not description.form:
        return Origin()
    index = clock.kind == "index"
    kind = nw.Int64() if index else nw.Datetime("us", clock.zone)
    return Origin(description.form, kind, clock.zone, index)


def future_positions(newest: Newest, description: Description) -> np.ndarray:
    """The positions of the horizon of each series, [S, T]."""
    steps = np.arange(1, description.sizes.horizon + 1) * description.clock.step
    return newest.ends[:, None] + steps


def forecast_frame(
    model: ForecastModel, description: Description, newest: Newest, known: Any, levels: tuple[int, ...]
) -> Any:
    """Forecasts the horizon of each series.

    Args:
        model: calibrated.
        description: of the model.
        newest: where to start.
        known: the covariates known ahead, for the rows of the horizon; None where the model has none.
        levels: the intervals to give, in percent.

    Returns:
        A dataframe as the data was (a dict of arrays for an array): series, time, each target and its bounds.

    Raises:
        DataError: where a row or a value of `known` is missing.
        UsageError: where `known` is needed and not given, or the other way round.
    """
    positions = future_positions(newest, description)
    horizon = positions.shape[1]
    clock, columns = description.clock, description.columns
    mean = description.scale.mean[newest.numbers, None]
    spread = description.scale.spread[newest.numbers, None]
    future = future_rows(known, description, newest)
    median, lower, upper = model.intervals(torch.from_numpy(newest.history), future)
    lower, upper = move_bounds(median, lower, upper, newest.offsets.swapaxes(0, 1))
    found: dict[str, np.ndarray] = {}
    if columns.series is not None:
        names = np.array([description.series[number] for number in newest.numbers], dtype=object)
        found[columns.series] = np.repeat(names, horizon)
    if columns.time is not None:
        found[columns.time] = clock.stamps(positions.reshape(-1))
    for number, target in enumerate(columns.targets):
        size, shift = spread[:, :, number], mean[:, :, number]
        found[target] = (median[:, :, number] * size + shift).reshape(-1)
        for level in levels:
            row = model.levels.index(level)
            found[f"{target}_lo_{level}"] = (lower[row, :, :, number] * size + shift).reshape(-1)
            found[f"{target}_hi_{level}"] = (upper[row, :, :, number] * size + shift).reshape(-1)
    return write_frame(found, columns.time, newest.origin)


def future_rows(known: Any, description: Description, newest: Newest) -> torch.Tensor:
    """The scaled rows of the horizon, as the network reads them, [S, T, future_columns]."""
    positions = future_positions(newest, description)
    ahead = known_ahead(known, description, newest, positions)  # [S, T, K]
    mean = description.scale.mean[newest.numbers, None]
    spread = description.scale.spread[newest.numbers, None]
    scaled = (ahead - mean[:, :, -ahead.shape[2] :]) / spread[:, :, -ahead.shape[2] :] if ahead.shape[2] else ahead
    calendar = description.clock.calendar(positions.reshape(-1)).reshape(*positions.shape, -1)
    return torch.from_numpy(np.concatenate([scaled, calendar], axis=2).astype(np.float32))


def known_ahead(known: Any, description: Description, newest: Newest, positions: np.ndarray) -> np.ndarray:
    """The user's covariates for the rows of the horizon, in their own units, [S, T, K]."""
    names, clock = description.columns.known, description.clock
    series, horizon = positions.shape
    if not names:
        if known is not None:
            raise UsageError("known= is given, but the model was fitted without known covariates: leave it out")
        return np.zeros((series, horizon, 0))
    if known is None:
        raise UsageError(
            f"the model reads {listed(names)}, known ahead: give known=, a dataframe with these columns for the "
            f"{horizon} rows from {clock.words(int(positions.min()))} to {clock.words(int(positions.max()))}"
        )
    if isinstance(known, np.ndarray):
        return known_array(known, names, horizon)
    columns = description.columns
    panel = read_panel(known, Columns(columns.time, columns.series, (), (), names))
    if columns.time is None:
        return known_array(panel.values, names, horizon)
    numbers = {name: row for row, name in enumerate(panel.names)}
    found = np.empty((series, horizon, len(names)))
    for row, number in enumerate(newest.numbers.tolist()):
        name = description.series[number]
        if name not in numbers:
            raise DataError(f"known= has no rows for series {name!r}")
        found[row] = look_up(panel, numbers[name], clock, positions[row], names)
    return found


def known_array(known: np.ndarray, names: tuple[str, ...], horizon: int) -> np.ndarray:
    """Covariates of a single series whose rows are only numbered."""
    table = np.asarray(known, dtype=np.float64).reshape(len(known), -1)
    if table.shape != (horizon, len(names)) or not np.isfinite(table).all():
        raise DataError(
            f"known= has shape {list(known.shape)}: expected the {horizon} rows of the horizon by {len(names)} "
            "columns, all finite"
        )
    return table[None]


def look_up(panel: Panel, number: int, clock: Clock, wanted: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """The rows of one series of `known` at some positions; DataError where one or a value is missing."""
    part = slice(int(panel.starts[number]), int(panel.starts[number + 1]))
    positions = clock.positions(panel.stamps[part])
    order = np.argsort(positions, kind="stable")
    place = np.minimum(np.searchsorted(positions[order], wanted), len(positions) - 1)
    rows = order[place]
    absent = positions[rows] != wanted
    where = f" of series {panel.names[number]!r}" if panel.columns.series else ""
    if absent.any():
        first = clock.words(int(wanted[np.argmax(absent)]))
        raise DataError(f"known= has no row for {first}{where} ({int(absent.sum())} of {len(wanted)} rows are missing)")
    values = panel.values[part][rows]
    if np.isnan(values).any():
        step, column = (int(index) for index in np.argwhere(np.isnan(values))[0])
        raise DataError(f"known= has no value of {names[column]!r} for {clock.words(int(wanted[step]))}{where}")
    return values
