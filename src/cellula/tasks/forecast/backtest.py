"""The honest comparison: the network and three baselines on the same windows, none of them seen before."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from cellula.errors import DataError
from cellula.tasks.forecast.checks import Grid
from cellula.tasks.forecast.model import Block, ForecastModel
from cellula.tasks.forecast.preparing import Prepared
from cellula.tasks.forecast.scores import Coverage, ErrorSums
from cellula.tasks.forecast.tracking import starting_trackers, tracked_forecasts
from cellula.tasks.forecast.windows import Scale, Windows
from cellula.tasks.plain import plain

__all__ = ["METHODS", "Backtest", "ForecastExample", "evaluate"]

METHODS = ("network", "ridge", "seasonal_naive", "persistence")
EXAMPLES = 6


@dataclass(frozen=True)
class ForecastExample:
    """One window to look at, in the data's own units.

    Args:
        series: its name; empty where there is only one.
        target: what is forecast.
        history_time: stamps of the history, datetime64 (whole numbers where the data has no times), [W].
        history: values of the history, [W].
        time: stamps of the horizon, [T].
        truth: what came, or None; NaN where it was not measured, [T].
        forecast: the median, [T].
        lower: lower bounds by level, [T].
        upper: upper bounds by level, [T].
        baselines: the other forecasts by name, [T].
    """

    series: str
    target: str
    history_time: np.ndarray
    history: np.ndarray
    time: np.ndarray
    truth: np.ndarray | None
    forecast: np.ndarray
    lower: dict[int, np.ndarray]
    upper: dict[int, np.ndarray]
    baselines: dict[str, np.ndarray]


@dataclass(frozen=True)
class Backtest:
    """How good the forecasts of all windows of the test part are, beside those of the baselines.

    Args:
        target: the first target, which `scores` and `by_step` are about.
        targets: all of them.
        horizon: steps that are forecast.
        window: steps of history.
        season: steps of a season, for the seasonal-naive forecast and MASE.
        windows: how many windows were forecast.
        step_label: a step in words, such as "1 h".
        scores: for each method `mae`, `rmse` and `mase`; for the network also `coverage_80`, `width_80` and so on.
        by_step: for each method the mean absolute error at each step of the horizon.
        examples: some windows, spread over the test part.
        split: when the parts of the data begin and end.
        by_target: `scores` for every target.
    """

    target: str
    targets: tuple[str, ...]
    horizon: int
    window: int
    season: int
    windows: int
    step_label: str
    scores: dict[str, dict[str, float]]
    by_step: dict[str, list[float]]
    examples: tuple[ForecastExample, ...]
    split: dict[str, str]
    by_target: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)

    @property
    def levels(self) -> tuple[int, ...]:
        """The intervals, in percent."""
        names = self.scores["network"]
        return tuple(int(name.removeprefix("coverage_")) for name in names if name.startswith("coverage_"))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes None."""
        found = plain(asdict(self))
        assert isinstance(found, dict)
        return found

    def __str__(self) -> str:
        lines = [
            f"{self.windows} windows, {self.horizon} steps of {self.step_label} ahead from {self.window}; "
            f"test part {self.split['test_start']} to {self.split['test_end']}"
        ]
        for target in self.targets:
            scores = self.by_target.get(target, self.scores)
            lines += ["", f"{target:<16}{'MAE':>12}{'RMSE':>12}{'MASE':>9}"]
            for name in METHODS:
                row = scores[name]
                lines.append(f"{name.replace('_', ' '):<16}{row['mae']:>12.5g}{row['rmse']:>12.5g}{row['mase']:>9.3f}")
            for level in self.levels:
                covered, width = scores["network"][f"coverage_{level}"], scores["network"][f"width_{level}"]
                lines.append(f"{level} % interval: covers {100 * covered:.1f} %, mean width {width:.5g}")
        return "\n".join(lines)


def evaluate(model: ForecastModel, prepared: Prepared, windows: Windows, split: dict[str, str]) -> Backtest:
    """Forecasts every window by every method and scores them in the data's own units.

    Args:
        model: calibrated.
        prepared: the data.
        windows: the windows of its test part.
        split: when the parts begin and end, for the result.

    Raises:
        DataError: where there is no window.
    """
    if not len(windows):
        raise DataError("there is no window to evaluate: the test part is shorter than the horizon")
    sizes, columns, grid = windows.sizes, prepared.grid.panel.columns, prepared.grid
    season = prepared.description.season
    sums = {name: ErrorSums(sizes.horizon, sizes.targets) for name in METHODS}
    coverage = Coverage(model.levels, sizes.targets)
    wanted = np.linspace(0, len(windows) - 1, min(EXAMPLES, len(windows))).round().astype(np.int64)
    examples: list[ForecastExample] = []
    for block in tracked_forecasts(model, windows, starting_trackers(model, prepared, windows)):
        mean, spread, naive_error = scales(windows, block.indices, prepared.description.scale, prepared.numbers)
        found = methods(model, windows, block, season)
        own = {name: forecast * spread + mean for name, forecast in found.items()}
        block = block.in_units(mean, spread)
        for name, forecast in own.items():
            sums[name].add(forecast, block.truth, block.weight, naive_error)
        coverage.add(block.lower, block.upper, block.truth, block.weight)
        examples += [
            show(windows, grid, block, own, model.levels, row)
            for row in np.flatnonzero(np.isin(block.indices, wanted)).tolist()
        ]
    by_target = {
        target: {
            name: sums[name].scores(number) | (coverage.scores(number) if name == "network" else {}) for name in METHODS
        }
        for number, target in enumerate(columns.targets)
    }
    first = columns.targets[0]
    return Backtest(
        target=first,
        targets=columns.targets,
        horizon=sizes.horizon,
        window=sizes.window,
        season=season,
        windows=len(windows),
        step_label=grid.clock.label,
        scores=by_target[first],
        by_step={name: sums[name].by_step(0) for name in METHODS},
        examples=tuple(examples),
        split=split,
        by_target=by_target,
    )


def scales(
    windows: Windows, indices: np.ndarray, scale: Scale, numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and spread of the targets of each window, [B, 1, Y], and the error that MASE divides by, [B, Y]."""
    series, targets = numbers[windows.series(indices)], windows.sizes.targets
    return scale.mean[series, None, :targets], scale.spread[series, None, :targets], scale.naive_error[series]


def methods(model: ForecastModel, windows: Windows, block: Block, season: int) -> dict[str, np.ndarray]:
    """The forecasts of all methods for some windows, scaled, [B, T, Y]."""
    history, future, _, _ = windows.batch(block.indices)
    device = model.offsets.device
    return {
        "network": block.median,
        "ridge": model.network.linear_forecast(history.to(device), future.to(device)).cpu().numpy(),
        "seasonal_naive": windows.seasonal_naive(block.indices, season),
        "persistence": windows.persistence(block.indices),
    }


def show(
    windows: Windows, grid: Grid, block: Block, forecasts: dict[str, np.ndarray], levels: tuple[int, ...], row: int
) -> ForecastExample:
    """A window as an example of the first target.

    Args:
        windows: what the block was cut from.
        grid: the rows.
        block: in the data's own units.
        forecasts: of each method, in the data's own units, [B, T, Y].
        levels: the intervals, in percent.
        row: which window of the block.
    """
    index = block.indices[row : row + 1]
    origin = int(windows.origins[index[0]])
    before, ahead = slice(origin - windows.sizes.window, origin), slice(origin, origin + windows.sizes.horizon)
    own = {name: values[row, :, 0] for name, values in forecasts.items()}
    return ForecastExample(
        series=str(grid.panel.names[int(windows.series(index)[0])]),
        target=grid.panel.columns.targets[0],
        history_time=times(grid, before),
        history=grid.panel.values[before, 0],
        time=times(grid, ahead),
        truth=np.where(block.weight[row, :, 0] > 0, block.truth[row, :, 0], np.nan),
        forecast=own["network"],
        lower={level: block.lower[n, row, :, 0] for n, level in enumerate(levels)},
        upper={level: block.upper[n, row, :, 0] for n, level in enumerate(levels)},
        baselines={name: values for name, values in own.items() if name != "network"},
    )


def times(grid: Grid, rows: slice) -> np.ndarray:
    """Stamps for a picture: the local clock, without a zone."""
    local = grid.clock.local(grid.positions[rows])
    return local if grid.clock.kind == "index" else local.astype("datetime64[us]")
