"""Windows over the rows: gathered when they are wanted, never stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from cellula.errors import DataError
from cellula.models import ForecastSizes
from cellula.tasks.forecast.checks import Grid

__all__ = ["Scale", "Split", "Windows", "find_split", "measure_scale", "part_origins", "scaled_rows"]

# A column that varies less than this, relative to its size, is taken as constant.
SMALLEST_SPREAD = 1e-9


@dataclass(frozen=True)
class Split:
    """Where, in time, the parts of the data begin and end, as positions of the clock.

    Args:
        train_start: the first row.
        validation_start: the first row that is not for training.
        test_start: the first row of the test part.
        test_end: the last row.
    """

    train_start: int
    validation_start: int
    test_start: int
    test_end: int


@dataclass(frozen=True)
class Scale:
    """Mean and spread of each column of numbers in the training part, for each series; and the size of an error.

    Args:
        mean: [S, C].
        spread: standard deviation, 1 for a constant column, [S, C].
        naive_error: mean absolute error of the seasonal-naive forecast within the training part, [S, Y]: what MASE
            divides by; 1 where it is 0.
    """

    mean: np.ndarray
    spread: np.ndarray
    naive_error: np.ndarray


def find_split(grid: Grid, shares: tuple[float, float, float]) -> Split:
    """Cuts all series at the same two moments, so that the given shares of all rows lie between."""
    ordered = np.sort(grid.positions, kind="stable")
    cuts = [min(len(ordered) - 1, round(len(ordered) * share)) for share in (shares[0], shares[0] + shares[1])]
    end = int(ordered[-1])
    test_start = int(ordered[cuts[1]]) if shares[2] > 0 else end + grid.clock.step
    return Split(int(ordered[0]), int(ordered[cuts[0]]), test_start, end)


def measure_scale(grid: Grid, split: Split, season: int) -> Scale:
    """Mean and spread of every series, from its rows in the training part alone.

    Raises:
        DataError: where a series has no more than one season of rows in the training part, or numbers near the
            largest there are.
    """
    targets = len(grid.panel.columns.targets)
    means, spreads, errors = [], [], []
    for name, part in grid.panel.parts():
        count = int(np.searchsorted(grid.positions[part], split.validation_start))
        if count <= season:
            where = f"series {name!r}" if grid.panel.columns.series else "the data"
            raise DataError(
                f"{where} has {count} rows in the training part (before "
                f"{grid.clock.words(split.validation_start)}): expected more than the season of {season} steps; "
                "give more data, or a shorter season="
            )
        rows = grid.panel.values[part.start : part.start + count]
        with np.errstate(over="ignore"):
            mean, spread = rows.mean(axis=0), rows.std(axis=0)
        if not np.isfinite(spread).all():
            column = grid.panel.columns.numbers[int(np.argmin(np.isfinite(spread)))]
            raise DataError(f"column {column!r} has numbers too large to square: give it another unit")
        means.append(mean)
        spreads.append(np.where(spread > SMALLEST_SPREAD * np.maximum(np.abs(mean), 1e-300), spread, 1.0))
        error = np.abs(rows[season:, :targets] - rows[:-season, :targets]).mean(axis=0)
        # Where the seasonal-naive forecast is exact there is nothing to divide by.
        errors.append(np.where(error > SMALLEST_SPREAD * spreads[-1][:targets], error, 1.0))
    return Scale(np.stack(means), np.stack(spreads), np.stack(errors))


def scaled_rows(grid: Grid, scale: Scale, numbers: np.ndarray) -> np.ndarray:
    """The rows as the network reads them: scaled columns, then the calendar, [R, C + calendar], float32.

    Args:
        grid: rows without gaps.
        scale: mean and spread of the series of the fitted data.
        numbers: for each series of the grid its row in the scale.
    """
    calendar = grid.clock.calendar(grid.positions)
    rows = np.empty((len(calendar), grid.panel.values.shape[1] + calendar.shape[1]), np.float32)
    for number, (_, part) in zip(numbers, grid.panel.parts(), strict=True):
        rows[part, : scale.mean.shape[1]] = (grid.panel.values[part] - scale.mean[number]) / scale.spread[number]
    rows[:, scale.mean.shape[1] :] = calendar
    return rows


def part_origins(grid: Grid, begin: int, end: int | None, window: int, horizon: int) -> np.ndarray:
    """The first rows of every horizon that lies wholly within a part of the data.

    Windows whose newest row was put in with the help of a later one are left out.

    Args:
        grid: rows without gaps.
        begin: the position at which the part begins.
        end: the position before which it ends; None: the end of the data.
        window: steps of history that must lie before; they may reach into the part before.
        horizon: steps of the horizon.

    Returns:
        Row numbers, ascending, [N].
    """
    found = []
    for _, part in grid.panel.parts():
        positions = grid.positions[part]
        first = max(window, int(np.searchsorted(positions, begin)))
        stop = len(positions) if end is None else int(np.searchsorted(positions, end))
        found.append(part.start + np.arange(first, stop - horizon + 1))
    origins = np.concatenate(found)
    return origins[~grid.filled[origins - 1].any(axis=1)] if grid.looks_ahead else origins


@dataclass(frozen=True)
class Windows:
    """Examples for training and evaluation: a history, what is known of the future, and the truth.

    A window is a row number. Its numbers are gathered from the rows, which exist once, when a batch is asked for.

    Args:
        rows: scaled rows, float32, [R, C]: targets, past, known, calendar.
        present: which targets were measured and not put in, [R, Y]; None: all.
        origins: the first row of the horizon of each window, [N].
        starts: where the series begin, [S + 1].
        sizes: the meaning of the columns.
    """

    rows: np.ndarray
    present: np.ndarray | None
    origins: np.ndarray
    starts: np.ndarray
    sizes: ForecastSizes

    def __len__(self) -> int:
        return len(self.origins)

    def batch(self, indices: np.ndarray, /) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Gathers windows.

        Args:
            indices: which ones, [B].

        Returns:
            History [B, W, C], future [B, T, known], truth [B, T, Y], weight of each true value [B, T, Y].
        """
        sizes = self.sizes
        origins = self.origins[indices][:, None]
        ahead = origins + np.arange(sizes.horizon)
        history = self.rows[origins + np.arange(-sizes.window, 0)]
        future = self.rows[ahead]
        truth = future[:, :, : sizes.targets]
        weight = np.ones_like(truth) if self.present is None else self.present[ahead].astype(np.float32)
        known = future[:, :, sizes.targets + sizes.past :]
        history, known, truth, weight = (np.ascontiguousarray(part) for part in (history, known, truth, weight))
        return torch.from_numpy(history), torch.from_numpy(known), torch.from_numpy(truth), torch.from_numpy(weight)

    def seasonal_naive(self, indices: np.ndarray, season: int) -> np.ndarray:
        """The targets one season before, repeated over the horizon, [B, T, Y]; never from within the horizon."""
        steps = np.arange(self.sizes.horizon) % season - season
        wanted = self.origins[indices][:, None] + steps
        # Where the series is younger than a season, its first row stands in.
        first = self.starts[self.series(indices)][:, None]
        return self.rows[np.maximum(wanted, first)][:, :, : self.sizes.targets]

    def persistence(self, indices: np.ndarray) -> np.ndarray:
        """The last value of each target, repeated, [B, T, Y]."""
        last = self.rows[self.origins[indices] - 1][:, None, : self.sizes.targets]
        return np.repeat(last, self.sizes.horizon, axis=1)

    def series(self, indices: np.ndarray) -> np.ndarray:
        """The number of each window's series, [B]."""
        return np.searchsorted(self.starts, self.origins[indices], side="right") - 1

    def thinned(self, most: int) -> Windows:
        """At most so many of the windows, spread evenly."""
        if len(self) <= most:
            return self
        chosen = np.linspace(0, len(self) - 1, most).round().astype(np.int64)
        return replace(self, origins=self.origins[chosen])

    def blocks(self, size: int = 512) -> Iterator[np.ndarray]:
        """The indices of all windows in blocks."""
        for first in range(0, len(self), size):
            yield np.arange(first, min(first + size, len(self)))
