"""From data as it was given to what a network can be trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from cellula.errors import DataError, UsageError
from cellula.graph.graph import Graph
from cellula.models import ForecastNetwork, ForecastSizes
from cellula.printers.formula import print_formula
from cellula.tasks.forecast.checks import IRREGULAR, MISSING, Grid, check_choice, fill_gaps, put_on_grid, say
from cellula.tasks.forecast.clock import DAY, Clock, calendar_names, cycles_within, zone_of
from cellula.tasks.forecast.description import Description
from cellula.tasks.forecast.model import ForecastModel, quantiles_of
from cellula.tasks.forecast.ridge import fit_ridge
from cellula.tasks.forecast.settings import ForecastSettings
from cellula.tasks.forecast.table import columns_of_times, find_columns, read_panel
from cellula.tasks.forecast.windows import (
    Split,
    Windows,
    find_split,
    measure_scale,
    part_origins,
    scaled_rows,
)

__all__ = [
    "MOST_VALIDATION",
    "Prepared",
    "build_model",
    "newest_rows",
    "prepare",
    "prepare_again",
    "split_words",
    "training_parts",
]

# A default window is not longer than this, and a season longer than it is not carried over.
LONGEST_WINDOW = 512
# Validation windows that are looked at after each epoch, at most.
MOST_VALIDATION = 4096


@dataclass(frozen=True)
class Prepared:
    """Data that a forecaster can read.

    Args:
        grid: rows in order, without gaps.
        rows: the same, scaled, with the calendar, float32, [R, C].
        numbers: for each series its number in the description.
        description: what the model is made for.
    """

    grid: Grid
    rows: np.ndarray
    numbers: np.ndarray
    description: Description

    def windows(self, begin: int, end: int | None) -> Windows:
        """The windows whose horizons lie within a part of the data, given by positions."""
        sizes = self.description.sizes
        origins = part_origins(self.grid, begin, end, sizes.window, sizes.horizon)
        filled = self.grid.filled[:, : sizes.targets]
        present = ~filled if filled.any() else None
        return Windows(self.rows, present, origins, self.grid.panel.starts, sizes)


def prepare(data: Any, settings: ForecastSettings, graph: Graph) -> Prepared:
    """Reads, checks, mends as asked, splits and scales data for a new model.

    Args:
        data: a dataframe or an array.
        settings: what is asked for.
        graph: the cell.

    Raises:
        DataError: where the data cannot be used; the message names row and column.
        UsageError: where a setting does not fit the data.
    """
    columns = find_columns(
        data,
        target=settings.target,
        time=settings.time,
        series=settings.series,
        past=settings.past,
        known=settings.known,
    )
    panel = read_panel(data, columns)
    check_zone(settings.timezone, panel.origin.zone)
    grid = put_on_grid(panel, settings.irregular, calendar_zone=settings.timezone)
    split = find_split(grid, settings.split)
    grid = fill_gaps(grid, settings.missing, (split.validation_start, split.test_start))
    grid = replace(grid, notes=(*notes_on_time(data, columns.time), *grid.notes))
    say(grid.notes)
    # First rows without a value are gone by now.
    split = replace(split, train_start=int(grid.positions.min()))
    grid = replace(grid, clock=with_known_cycles(grid.clock, split))
    description = describe(grid, split, settings, graph)
    numbers = np.arange(len(grid.panel.names))
    return Prepared(grid, scaled_rows(grid, description.scale, numbers), numbers, description)


def notes_on_time(data: Any, time: str | None) -> tuple[str, ...]:
    """That times are there and not used, which is hardly ever meant."""
    unused = columns_of_times(data) if time is None else ()
    if not unused:
        return ()
    return (f"no time column was named, so the rows are only numbered; column {unused[0]!r} holds times: say time=",)


def describe(grid: Grid, split: Split, settings: ForecastSettings, graph: Graph) -> Description:
    """What a model for this data is made for."""
    columns = grid.panel.columns
    season, horizon, window = lengths(settings, grid.clock)
    sizes = ForecastSizes(
        window=window,
        horizon=horizon,
        targets=len(columns.targets),
        past=len(columns.past),
        known=len(columns.known),
        calendar=len(calendar_names(grid.clock)),
        carried=tuple(lag for lag in carried_lags(grid.clock, season) if lag <= window),
        quantiles=quantiles_of(settings.level),
        hidden_size=settings.hidden_size,
        num_layers=settings.num_layers,
        dropout=settings.dropout,
        patch=settings.patch,
    )
    return Description(
        cell=print_formula(graph),
        settings=dict(settings.settings or {}),
        sizes=sizes,
        levels=settings.level,
        season=season,
        columns=columns,
        clock=grid.clock,
        series=grid.panel.names,
        scale=measure_scale(grid, split, season),
        split=split,
        ends=tuple(int(grid.positions[stop - 1]) for stop in grid.panel.starts[1:]),
        form=getattr(grid.panel.origin.backend, "value", ""),
    )


def prepare_again(data: Any, description: Description, missing: str, irregular: str) -> Prepared:
    """Reads data for a model that exists; nothing is measured on it.

    Raises:
        DataError: where the data cannot be used, has another step than the model, or an unknown series.
    """
    check_choice("missing", missing, MISSING)
    check_choice("irregular", irregular, IRREGULAR)
    panel = read_panel(data, description.columns)
    grid = put_on_grid(panel, irregular, clock=description.clock)
    split = description.split
    grid = fill_gaps(grid, missing, (split.validation_start, split.test_start))
    say(grid.notes)
    known = {name: number for number, name in enumerate(description.series)}
    for name in grid.panel.names:
        if name not in known:
            raise DataError(
                f"series {name!r} is not one of those the model was fitted on, so its scale is not known: "
                f"expected one of {', '.join(map(repr, description.series[:20]))}; fit it with the others"
            )
    numbers = np.array([known[name] for name in grid.panel.names])
    return Prepared(grid, scaled_rows(grid, description.scale, numbers), numbers, description)


def with_known_cycles(clock: Clock, split: Split) -> Clock:
    """The clock whose calendar has only cycles that the training part has seen whole."""
    if clock.kind == "index":
        return clock
    start, stop = clock.stamps(np.array([split.train_start, split.validation_start])).tolist()
    return replace(clock, cycles=cycles_within(stop - start))


def check_zone(asked: str | None, zone: str | None) -> None:
    """UsageError where the local clock is asked for and the stamps do not say which moment they mean."""
    if asked is None:
        return
    zone_of(asked)
    if zone is None:
        raise UsageError(
            f"timezone={asked!r} is given, but the stamps carry no time zone: give the time column its zone, "
            "or leave out timezone= (the stamps are then taken as the local clock)"
        )


def lengths(settings: ForecastSettings, clock: Clock) -> tuple[int, int, int]:
    """Season, horizon and window in steps: as asked, else by what is usual for the step."""
    season = settings.season or clock.season
    horizon = settings.horizon or max(season, 1)
    if clock.kind == "index" and season == 1 and settings.horizon is None:
        raise UsageError("the rows have no time to tell a season from: give horizon= (and season=, where there is one)")
    within_a_day = clock.kind == "time" and clock.step < DAY
    usual = season * 7 if within_a_day or season <= 7 else season * 2
    window = settings.window or min(max(usual, horizon), LONGEST_WINDOW)
    return season, horizon, window


def carried_lags(clock: Clock, season: int) -> tuple[int, ...]:
    """From how long before values are carried over: a season, and a week where the season is a day."""
    if clock.kind == "time" and season * clock.step == DAY:
        return season, 7 * season
    return (season,)


def training_parts(prepared: Prepared) -> tuple[Windows, Windows]:
    """The windows to train on and those to validate on.

    Raises:
        DataError: where there is none; the message says how many rows are needed.
    """
    split, sizes, clock = prepared.description.split, prepared.description.sizes, prepared.grid.clock
    training = prepared.windows(split.train_start, split.validation_start)
    for name, part in prepared.grid.panel.parts():
        count = int(np.searchsorted(prepared.grid.positions[part], split.validation_start))
        if count < sizes.window + sizes.horizon:
            where = f"series {name!r}" if prepared.grid.panel.columns.series else "the data"
            raise DataError(
                f"{where} has {count} rows in the training part (before {clock.words(split.validation_start)}): "
                f"expected at least window + horizon = {sizes.window} + {sizes.horizon}; "
                "give more data, or a shorter window= or horizon="
            )
    validation = prepared.windows(split.validation_start, split.test_start)
    for part_name, windows in (("training", training), ("validation", validation)):
        if not len(windows):
            raise DataError(
                f"the {part_name} part has no window: it is shorter than the horizon of {sizes.horizon} steps; "
                "give more data, a shorter horizon=, or another split="
            )
    return training, validation


def newest_rows(prepared: Prepared) -> np.ndarray:
    """The last window of each series, scaled, [S, W, C].

    Raises:
        DataError: where a series is shorter than the window.
    """
    window, pieces = prepared.description.sizes.window, []
    for name, part in prepared.grid.panel.parts():
        if part.stop - part.start < window:
            where = f"series {name!r}" if prepared.grid.panel.columns.series else "the data"
            raise DataError(f"{where} has {part.stop - part.start} rows: the forecast reads the last {window}")
        pieces.append(prepared.rows[part.stop - window : part.stop])
    return np.stack(pieces)


def build_model(prepared: Prepared, graph: Graph, seed: int, settings: Mapping[str, float]) -> ForecastModel:
    """A model for the data: random weights from the seed, its linear part at the ridge solution."""
    training, _ = training_parts(prepared)
    description = prepared.description
    # The caller's own random numbers are left as they are.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ForecastNetwork(description.sizes, graph, settings)
    network.linear.copy_(fit_ridge(training))
    return ForecastModel(network, description.levels, torch.from_numpy(newest_rows(prepared)))


def split_words(split: Split, clock: Clock) -> dict[str, str]:
    """When the parts begin and end, in words."""
    return {
        "train_start": clock.words(split.train_start),
        "train_end": clock.words(split.validation_start - clock.step),
        "validation_start": clock.words(split.validation_start),
        "validation_end": clock.words(split.test_start - clock.step),
        "test_start": clock.words(split.test_start),
        "test_end": clock.words(split.test_end),
    }
