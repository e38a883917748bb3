"""The honest comparison: the network and three baselines on the same windows, none of them seen before."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from cellula.errors import DataError
from cellula.tasks.forecast.checks import Grid
from cellula.tasks.forecast.model import ForecastModel, forecasts
from cellula.tasks.forecast.scores import Coverage, ErrorSums
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
            f"test part {self.split['validation_end']} to {self.split['test_end']}"
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


def evaluate(
    model: ForecastModel,
    windows: Windows,
    grid: Grid,
    scale: Scale,
    numbers: np.ndarray,
    season: int,
    split: dict[str, str],
) -> Backtest:
    """Forecasts every window by every method and scores them in the data's own units.

    Args:
        model: calibrated.
        windows: the windows of the test part.
        grid: the rows that they are cut from.
        scale: of the fitted data.
        numbers: for each series of the grid its row in the scale.
        season: steps of a season.
        split: when the parts begin and end, for the result.

    Raises:
        DataError: where there is no window.
    """
    if not len(windows):
        raise DataError("there is no window to evaluate: the test part is shorter than the horizon")
    sizes, columns = windows.sizes, grid.panel.columns
    sums = {name: ErrorSums(sizes.horizon, sizes.targets) for name in METHODS}
    coverage = Coverage(model.levels, sizes.targets)
    for indices, median, lower, upper, truth, weight in forecasts(model, windows):
        mean, spread, naive_error = scales(windows, indices, scale, numbers)
        truth = truth * spread + mean
        for name, forecast in methods(model, windows, indices, median, season).items():
            sums[name].add(forecast * spread + mean, truth, weight, naive_error)
        coverage.add(lower * spread + mean, upper * spread + mean, truth, weight)
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
        examples=show(model, windows, grid, scale, numbers, season),
        split=split,
        by_target=by_target,
    )


def scales(
    windows: Windows, indices: np.ndarray, scale: Scale, numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and spread of the targets of each window, [B, 1, Y], and the error that MASE divides by, [B, Y]."""
    series, targets = numbers[windows.series(indices)], windows.sizes.targets
    return scale.mean[series, None, :targets], scale.spread[series, None, :targets], scale.naive_error[series]


def methods(
    model: ForecastModel, windows: Windows, indices: np.ndarray, median: np.ndarray, season: int
) -> dict[str, np.ndarray]:
    """The forecasts of all methods for some windows, scaled, [B, T, Y]."""
    history, future, _, _ = windows.batch(indices)
    device = model.offsets.device
    return {
        "network": median,
        "ridge": model.network.linear_forecast(history.to(device), future.to(device)).cpu().numpy(),
        "seasonal_naive": windows.seasonal_naive(indices, season),
        "persistence": windows.persistence(indices),
    }


def show(
    model: ForecastModel, windows: Windows, grid: Grid, scale: Scale, numbers: np.ndarray, season: int
) -> tuple[ForecastExample, ...]:
    """Some windows, spread evenly, as examples of the first target."""
    few = windows.thinned(EXAMPLES)
    indices, median, lower, upper, truth, weight = next(forecasts(model, few))
    mean, spread, _ = scales(few, indices, scale, numbers)
    found = methods(model, few, indices, median, season)
    own = {name: (forecast * spread + mean)[:, :, 0] for name, forecast in found.items()}
    measured = np.where(weight > 0, truth * spread + mean, np.nan)[:, :, 0]
    bounds = [(bound * spread + mean)[:, :, :, 0] for bound in (lower, upper)]
    panel, examples = grid.panel, []
    for row, origin in enumerate(few.origins.tolist()):
        before, ahead = slice(origin - few.sizes.window, origin), slice(origin, origin + few.sizes.horizon)
        examples.append(
            ForecastExample(
                series=str(panel.names[int(few.series(np.array([row]))[0])]),
                target=panel.columns.targets[0],
                history_time=times(grid, before),
                history=panel.values[before, 0],
                time=times(grid, ahead),
                truth=measured[row],
                forecast=own["network"][row],
                lower={level: bounds[0][n, row] for n, level in enumerate(model.levels)},
                upper={level: bounds[1][n, row] for n, level in enumerate(model.levels)},
                baselines={name: values[row] for name, values in own.items() if name != "network"},
            )
        )
    return tuple(examples)


def times(grid: Grid, rows: slice) -> np.ndarray:
    """Stamps for a picture: the local clock, without a zone."""
    local = grid.clock.local(grid.positions[rows])
    return local if grid.clock.kind == "index" else local.astype("datetime64[us]")
