"""Intervals that follow the latest errors: each truth that comes in moves the bounds a little, in the order of time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from cellula.tasks.forecast.model import Block, ForecastModel, forecasts
from cellula.tasks.forecast.preparing import Prepared
from cellula.tasks.forecast.windows import Windows

__all__ = ["RATE", "Tracker", "first_offsets", "newest_offsets", "starting_trackers", "tracked_forecasts"]

# How far a truth moves an interval, as a share of its half width. Measured by calibrating on the first half of the
# validation parts of three data sets and following the second half: 0.01 keeps the promised share within a few percent
# on all, and larger rates give shares that are too low.
RATE = 0.01


@dataclass
class Tracker:
    """How far the intervals of one series are moved, from one forecast to the next.

    A window counts as soon as its whole horizon has passed, never before: a forecast from row `n` on uses the windows
    that begin at row `n - T` or earlier. A truth outside an interval moves the bounds outwards by `rate * level`, one
    inside moves them inwards by `rate * (1 - level)`; so in the long run the share of misses is the promised one,
    however the data changes.

    Args:
        state: how far each interval is moved after all windows so far, [levels, T, Y].
        rate: how far a truth can move it, [levels, T, Y]; zeros leave the intervals as they are.
        levels: the intervals, in percent.
        counted: windows that begin before this row have been counted in the state already.

    Example:
        >>> zeros, present = np.zeros((1, 2, 1)), np.ones((4, 2, 1))
        >>> tracker = Tracker(zeros, np.full((1, 2, 1), 0.1), levels=(80,))
        >>> missed = np.full((1, 4, 2, 1), 5.0)               # the truth of all four windows lies 5 outside
        >>> tracker.follow(np.arange(4), missed, present)[0, :, 0, 0].round(2).tolist()
        [0.0, 0.0, 0.08, 0.16]

    Reference: Gibbs & Candès 2021, Adaptive Conformal Inference Under Distribution Shift; Angelopoulos, Candès &
    Tibshirani 2023, Conformal PID Control for Time Series Prediction (the quantile tracker).
    """

    state: np.ndarray
    rate: np.ndarray
    levels: tuple[int, ...]
    counted: int = 0

    def __post_init__(self) -> None:
        self.origins = np.zeros(0, np.int64)
        self.states = self.state[None]  # before the first of `origins`, and after each of them

    def follow(self, origins: np.ndarray, outside: np.ndarray, present: np.ndarray) -> np.ndarray:
        """The offsets that the next windows of the series get, and then what their truths teach.

        Args:
            origins: the first row of each horizon, ascending, later than those before, [B].
            outside: how far the truth lies outside the network's own intervals, negative inside, [levels, B, T, Y].
            present: whether the truth was measured, [B, T, Y].

        Returns:
            Offsets, [levels, B, T, Y].
        """
        horizon = self.state.shape[1]
        share = 1 - np.asarray(self.levels, np.float64)[:, None, None] / 100
        counts = (present > 0) & (origins >= self.counted)[:, None, None]
        new = np.empty((len(origins), *self.state.shape))
        for number in range(len(origins)):
            missed = outside[:, number] > self.state
            self.state = self.state + self.rate * (missed - share) * counts[number]
            new[number] = self.state
        known, states = np.concatenate([self.origins, origins]), np.concatenate([self.states, new])
        used = states[np.searchsorted(known, origins - horizon, side="right")]
        self.origins, self.states = known[-horizon:], states[-horizon - 1 :]
        return used.swapaxes(0, 1)


def tracked_forecasts(model: ForecastModel, windows: Windows, trackers: list[Tracker]) -> Iterator[Block]:
    """Forecasts of all windows in blocks, each interval calibrated by what was known when the forecast began.

    Args:
        model: calibrated.
        windows: in the order of series and time.
        trackers: one for each series of the windows; they are moved on.
    """
    for block in forecasts(model, windows):
        offsets = np.empty(block.lower.shape)
        series = windows.series(block.indices)
        for number in np.unique(series).tolist():
            chosen = series == number
            origins = windows.origins[block.indices[chosen]]
            offsets[:, chosen] = trackers[number].follow(origins, block.outside[:, chosen], block.weight[chosen])
        yield block.moved(offsets)


def starting_trackers(model: ForecastModel, prepared: Prepared, windows: Windows) -> list[Tracker]:
    """A tracker for each series, as it is before the first of the windows.

    It starts from the calibration, or, where all windows lie after the data of `fit`, from the newest offsets.
    """
    series, positions = windows.series(np.arange(len(windows))), prepared.grid.positions
    ends, found = prepared.description.ends, []
    for index, number in enumerate(prepared.numbers.tolist()):
        origins = windows.origins[series == index]
        later = len(origins) > 0 and positions[origins[0]] > ends[number]
        found.append(newest_tracker(model, prepared, index) if later else first_tracker(model))
    return found


def first_tracker(model: ForecastModel) -> Tracker:
    """As the validation part calibrated it."""
    return Tracker(model.offsets.double().cpu().numpy(), model.rates.double().cpu().numpy(), model.levels)


def newest_tracker(model: ForecastModel, prepared: Prepared, index: int) -> Tracker:
    """As it was after the last row of `fit`; the windows that it knows are not counted again."""
    description, number = prepared.description, int(prepared.numbers[index])
    start, stop = prepared.grid.panel.starts[index : index + 2].tolist()
    after = start + int(np.searchsorted(prepared.grid.positions[start:stop], description.ends[number], side="right"))
    state = model.newest_offsets[number].double().cpu().numpy()
    rates = model.rates.double().cpu().numpy()
    return Tracker(state, rates, model.levels, counted=after - description.sizes.horizon + 1)


def first_offsets(model: ForecastModel, prepared: Prepared) -> np.ndarray:
    """How far the intervals of each series are moved after the test part of the data of `fit`, [S, levels, T, Y]."""
    return moved_on(model, prepared, [first_tracker(model) for _ in prepared.numbers])


def newest_offsets(model: ForecastModel, prepared: Prepared) -> np.ndarray:
    """How far the intervals of a forecast after the end of some data are moved, [S, levels, T, Y].

    Nothing is used that the model learned from later rows than these.
    """
    ends = prepared.grid.positions[prepared.grid.panel.starts[1:] - 1]
    trackers = []
    for index, number in enumerate(prepared.numbers.tolist()):
        later = ends[index] >= prepared.description.ends[number]
        trackers.append(newest_tracker(model, prepared, index) if later else first_tracker(model))
    return moved_on(model, prepared, trackers)


def moved_on(model: ForecastModel, prepared: Prepared, trackers: list[Tracker]) -> np.ndarray:
    """The offsets after all windows of the test part and later ones that the trackers do not know yet."""
    windows = prepared.windows(prepared.description.split.test_start, None)
    counted = np.array([tracker.counted for tracker in trackers])[windows.series(np.arange(len(windows)))]
    windows = replace(windows, origins=windows.origins[windows.origins >= counted])
    if bool((model.rates != 0).any()):
        for _ in tracked_forecasts(model, windows, trackers):
            pass
    return np.stack([tracker.state for tracker in trackers])
