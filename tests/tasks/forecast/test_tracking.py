"""Intervals follow the truths that have come in, and never know one that has not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cellula import Forecaster
from cellula.tasks.forecast.backtest import Backtest
from cellula.tasks.forecast.preparing import prepare_again
from cellula.tasks.forecast.tracking import Tracker, newest_offsets, starting_trackers, tracked_forecasts
from tasks.forecast.series import hourly, panel, small, wave

HORIZON, TEST_START = 6, 320


def intervals(forecaster: Forecaster, data: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """First rows of the horizons, [N], and all bounds of all test windows, [N, ...]."""
    model, description = forecaster._fitted()
    prepared = prepare_again(data, description, "refuse", "refuse")
    windows = prepared.windows(description.split.test_start, None)
    trackers = starting_trackers(model, prepared, windows)
    blocks = list(tracked_forecasts(model, windows, trackers))
    bounds = np.concatenate([np.stack([block.lower, block.upper]) for block in blocks], axis=2)
    return windows.origins, bounds.transpose(2, 0, 1, 3, 4)


@pytest.mark.parametrize("sizes", [[40], [1] * 40, [3, 30, 7]])
def test_following_is_the_plain_loop_over_what_is_known(sizes):
    generator = np.random.default_rng(0)
    # Some windows are missing, as after a hole in the data.
    origins = np.sort(generator.choice(60, 40, replace=False))
    outside, present = generator.normal(size=(2, 40, 5, 1)), generator.random((40, 5, 1)) > 0.2
    rate, start = generator.random((2, 5, 1)) / 10, generator.normal(size=(2, 5, 1))
    expected = np.empty_like(outside)
    for number, origin in enumerate(origins):
        state = start.copy()
        for past in np.flatnonzero(origins <= origin - 5):
            for level, share in enumerate((0.8, 0.95)):
                step = np.where(outside[level, past] > state[level], share, share - 1)
                state[level] += rate[level] * step * present[past]
        expected[:, number] = state
    tracker = Tracker(start, rate, (80, 95))
    parts = np.split(np.arange(40), np.cumsum(sizes)[:-1])
    found = [tracker.follow(origins[part], outside[:, part], present[part]) for part in parts]
    np.testing.assert_allclose(np.concatenate(found, axis=1), expected, atol=1e-12)


def test_no_truth_reaches_an_interval_that_was_given_before_it():
    data = hourly()
    forecaster = small().fit(data)
    origins, before = intervals(forecaster, data)
    for row in (330, 340, 399):
        changed = data.copy()
        changed.loc[row:, "y"] += 1000.0
        _, after = intervals(forecaster, changed)
        np.testing.assert_array_equal(after[origins <= row], before[origins <= row])
    # The check can fail: what came in does move the intervals that follow, beyond what the network itself says.
    model, prepared = forecaster._model, forecaster._prepared
    assert prepared is not None
    windows = prepared.windows(prepared.description.split.test_start, None)
    tracker = starting_trackers(model, prepared, windows)[0]
    missed = np.full((2, 20, HORIZON, 1), 1e3)
    moved = tracker.follow(np.arange(TEST_START, TEST_START + 20), missed, np.ones((20, HORIZON, 1)))
    assert (moved[:, HORIZON + 1 :] > moved[:, :1]).all() and (moved[:, :HORIZON] == moved[:, :1]).all()


@pytest.mark.parametrize("rows", [321, 335, 360, 394])
def test_predict_gives_the_intervals_that_backtest_scores(rows):
    data = hourly()
    forecaster = small().fit(data)
    origins, bounds = intervals(forecaster, data)
    expected = bounds[int(np.flatnonzero(origins == rows)[0])][:, 0, :, 0]
    forecast = forecaster.predict(data.iloc[:rows])
    scale = forecaster.description_.scale
    for name, bound in zip(("y_lo_80", "y_hi_80"), expected, strict=True):
        np.testing.assert_allclose(forecast[name], bound * scale.spread[0, 0] + scale.mean[0, 0], rtol=1e-5)


@pytest.mark.parametrize("begin", [0, 380])
def test_later_rows_go_on_from_where_fit_ended(begin):
    data = hourly(460)
    forecaster = small().fit(data.iloc[:400])
    model, description = forecaster._fitted()
    # Everything at once, from the end of the calibration on.
    prepared = prepare_again(data, description, "refuse", "refuse")
    windows = prepared.windows(description.split.test_start, None)
    trackers = starting_trackers(model, prepared, windows)
    blocks = list(tracked_forecasts(model, windows, trackers))
    whole = np.concatenate([block.lower for block in blocks], axis=1)
    assert whole.shape[1] == 140 - HORIZON + 1
    later = newest_offsets(model, prepare_again(data.iloc[begin:], description, "refuse", "refuse"))
    if begin == 0:
        np.testing.assert_allclose(later[0], trackers[0].state, atol=1e-6)
    else:
        # The windows between 400 and 380 + window are not there to be counted: the offsets are older, not wrong.
        assert not np.allclose(later[0], model.newest_offsets[0].numpy())
    short = newest_offsets(model, prepare_again(data.iloc[436:], description, "refuse", "refuse"))
    np.testing.assert_array_equal(short, model.newest_offsets.numpy().astype(np.float64))


def test_each_series_follows_its_own_errors(tmp_path):
    data = panel()
    test = (data["unique_id"] == "a") & (data.groupby("unique_id").cumcount() >= 250)
    data.loc[test, "y"] += np.random.default_rng(0).normal(size=int(test.sum())) * 40
    forecaster = small().fit(data)
    first, second = forecaster._model.newest_offsets.numpy()
    assert (first.mean(axis=1) > second.mean(axis=1)).all()
    forecaster.save(tmp_path / "model.safetensors")
    again = Forecaster.load(tmp_path / "model.safetensors")
    pd.testing.assert_frame_equal(again.predict(), forecaster.predict())


def coverage(backtest: Backtest) -> float:
    return backtest.scores["network"]["coverage_80"]


def test_intervals_recover_where_the_errors_grow():
    noise = np.random.default_rng(0).normal(size=4000) * np.where(np.arange(4000) < 2800, 1.0, 1.6)
    split = (0.5, 0.2, 0.3)
    fixed = small(adaptive=False, split=split).fit(noise)
    follows = small(split=split).fit(noise)
    assert coverage(fixed.backtest()) < 0.62
    assert coverage(follows.backtest()) == pytest.approx(0.8, abs=0.05)


def test_fixed_intervals_stay_as_they_were_calibrated():
    forecaster = small(adaptive=False).fit(wave())
    model = forecaster._model
    np.testing.assert_array_equal(model.newest_offsets[0].numpy(), model.offsets.numpy())
    assert float(model.rates.abs().max()) == 0.0
    assert float(small().fit(wave())._model.rates.min()) > 0.0
