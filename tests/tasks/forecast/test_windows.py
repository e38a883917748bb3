"""Windows, scaling, the ridge forecast, baselines and scores, against values worked out by hand."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

from cellula.errors import UsageError
from cellula.models import ForecastNetwork, ForecastSizes, linear_features
from cellula.tasks.forecast.model import calibrate, move_bounds, pinball_loss, quantiles_of
from cellula.tasks.forecast.ridge import fit_ridge
from cellula.tasks.forecast.scores import Coverage, ErrorSums
from cellula.tasks.forecast.windows import Windows
from tasks.forecast.series import panel, small, wave

SIZES = ForecastSizes(window=4, horizon=2, targets=1, past=1, known=1, calendar=0)


def counted(rows: int = 20, sizes: ForecastSizes = SIZES) -> Windows:
    """Rows 0, 1, 2, ... with a past column 100 higher and a known one 200 higher."""
    values = np.arange(rows, dtype=np.float32)[:, None] + np.array([0, 100, 200], np.float32)
    return Windows(values, None, np.arange(4, rows - 1), np.array([0, rows]), sizes)


def test_a_window_holds_the_past_and_of_the_future_only_what_is_known():
    history, future, truth, weight = counted().batch(np.array([0, 3]))
    assert history[0].tolist() == [[0, 100, 200], [1, 101, 201], [2, 102, 202], [3, 103, 203]]
    assert future.tolist() == [[[204], [205]], [[207], [208]]]
    assert truth.tolist() == [[[4], [5]], [[7], [8]]]
    assert weight.tolist() == [[[1], [1]], [[1], [1]]]


def test_persistence_and_seasonal_naive_by_hand():
    windows = counted()
    assert windows.persistence(np.array([0, 3])).tolist() == [[[3], [3]], [[6], [6]]]
    assert windows.seasonal_naive(np.array([0, 3]), 3).tolist() == [[[1], [2]], [[4], [5]]]
    # A season shorter than the horizon repeats and never reaches into it.
    assert windows.seasonal_naive(np.array([0]), 1).tolist() == [[[3], [3]]]


def test_windows_of_several_series_never_mix():
    forecaster = small().fit(panel())
    prepared = forecaster._prepared
    assert prepared is not None
    windows = prepared.windows(forecaster.description_.split.train_start, None)
    starts = windows.starts[windows.series(np.arange(len(windows)))]
    assert (windows.origins - 24 >= starts).all() and (windows.origins + 6 <= starts + 300).all()
    assert len(windows) == 2 * (300 - 24 - 6 + 1)


def test_parts_do_not_overlap_in_time():
    forecaster = small().fit(wave())
    prepared, split = forecaster._prepared, forecaster.description_.split
    assert prepared is not None
    training = prepared.windows(split.train_start, split.validation_start).origins
    validation = prepared.windows(split.validation_start, split.test_start).origins
    test = prepared.windows(split.test_start, None).origins
    assert (training.min(), training.max() + 6, validation.min()) == (24, 280, 280)
    assert (validation.max() + 6, test.min(), test.max() + 6) == (320, 320, 400)


def test_scale_is_that_of_the_training_part_of_each_series():
    forecaster = small().fit(panel())
    scale, frame = forecaster.description_.scale, panel()
    for number, name in enumerate("ab"):
        rows = frame.loc[frame["unique_id"] == name, "y"].to_numpy()[:210]
        assert scale.mean[number, 0] == pytest.approx(rows.mean())
        assert scale.spread[number, 0] == pytest.approx(rows.std())
        assert scale.naive_error[number, 0] == pytest.approx(np.abs(rows[12:] - rows[:-12]).mean())


def test_a_constant_column_is_no_division_by_zero():
    forecaster = small(past="1", target="0").fit(np.stack([wave(), np.full(400, 7.0)], axis=1))
    assert forecaster.description_.scale.spread[0, 1] == 1.0
    assert np.isfinite(forecaster.predict()["0"]).all()
    flat = small().fit(np.full(400, 3.0))
    np.testing.assert_allclose(flat.predict()["y"], 3.0, atol=0.5)


def test_windows_are_not_copies():
    rows = np.random.default_rng(0).normal(size=(200_000, 3)).astype(np.float32)
    sizes = replace(SIZES, window=168, horizon=24)
    tracemalloc.start()
    windows = Windows(rows, None, np.arange(168, 200_000 - 23), np.array([0, 200_000]), sizes)
    for indices in np.split(np.random.default_rng(1).permutation(len(windows))[:5120], 20):
        history, _, _, _ = windows.batch(indices)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert windows.rows is rows
    assert history.shape == (256, 168, 3)
    # All windows together would take 400 MB; the row numbers and one batch take a few.
    assert peak < 8e6


def test_ridge_finds_a_linear_rule():
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(3000, 3)).astype(np.float32)
    # Two steps ahead of a window: three times the past column three rows before, and the known column.
    rows[3:, 0] = 3 * rows[:-3, 1] - 2 * rows[3:, 2]
    windows = Windows(rows, None, np.arange(4, 2990), np.array([0, 3000]), SIZES)
    weights = fit_ridge(windows)
    history, future, truth, _ = windows.batch(np.arange(500))
    found = history[:, -1:, :1] + (linear_features(history, future, SIZES) @ weights).view(-1, 2, 1)
    assert float((found - truth).abs().max()) < 0.05
    assert weights.dtype == torch.float32


def test_linear_features_of_zero_weights_are_persistence():
    network = ForecastNetwork(SIZES, "elman")
    history, future, _, _ = counted().batch(np.array([0]))
    assert network.linear_forecast(history, future).tolist() == [[[3], [3]]]
    assert linear_features(history, future, SIZES).shape == (1, SIZES.linear_columns)


def test_carried_values_come_from_a_season_before():
    network = ForecastNetwork(replace(SIZES, carried=(4, 1)), "elman")
    history, _, _, _ = counted().batch(np.array([0]))
    assert network.carried_values(history).tolist() == [[[0, 3], [1, 3]]]


def test_the_network_starts_at_the_linear_forecast():
    network = ForecastNetwork(SIZES, "gru").eval()
    history, future, _, _ = counted().batch(np.array([0]))
    quantiles = network(history, future)
    assert quantiles.shape == (1, 2, 1, 3)
    assert quantiles[0, 0, 0].tolist() == pytest.approx([3 - 0.4, 3, 3 + 0.4])


def test_a_patch_that_does_not_divide_the_window_leaves_out_the_oldest_rows():
    network = ForecastNetwork(replace(SIZES, window=4, patch=3), "elman").eval()
    history, future, _, _ = counted().batch(np.array([0]))
    other = history.clone()
    other[:, 0] = 50.0
    assert torch.equal(network(history, future), network(other, future))


@pytest.mark.parametrize(
    "change",
    [{"window": 0}, {"carried": (5,)}, {"quantiles": (0.5, 0.1)}, {"quantiles": ()}, {"dropout": 1.0}, {"patch": 0}],
)
def test_sizes_that_cannot_be_are_refused(change):
    with pytest.raises(UsageError):
        replace(SIZES, **change)


def test_scores_by_hand():
    sums = ErrorSums(horizon=2, targets=1)
    truth = np.array([[[1.0], [2.0]], [[3.0], [9.0]]])
    forecast = np.array([[[2.0], [2.0]], [[0.0], [0.0]]])
    weight = np.array([[[1.0], [1.0]], [[1.0], [0.0]]])
    sums.add(forecast, truth, weight, np.array([[2.0], [0.5]]))
    # Errors 1, 0 and 3; the last one was not measured.
    assert sums.scores(0) == pytest.approx({"mae": 4 / 3, "rmse": np.sqrt(10 / 3), "mase": (0.5 + 0 + 6) / 3})
    assert sums.by_step(0) == [2.0, 0.0]


def test_coverage_by_hand():
    coverage = Coverage((80,), targets=1)
    truth = np.array([[[1.0], [2.0], [3.0], [4.0]]])
    lower, upper = np.array([[[[0.0], [0.0], [0.0], [0.0]]]]), np.array([[[[1.0], [1.5], [4.0], [2.0]]]])
    weight = np.array([[[1.0], [1.0], [1.0], [0.0]]])
    coverage.add(lower, upper, truth, weight)
    assert coverage.scores(0) == pytest.approx({"coverage_80": 2 / 3, "width_80": (1 + 1.5 + 4) / 3})


def test_quantiles_are_those_of_the_levels_and_the_median():
    assert quantiles_of((80, 95)) == (0.025, 0.1, 0.5, 0.9, 0.975)
    assert quantiles_of((95, 80)) == quantiles_of((80, 95))
    assert quantiles_of(()) == (0.5,)


def test_pinball_loss_by_hand():
    truth, weight = torch.tensor([[[1.0], [7.0]]]), torch.tensor([[[1.0], [0.0]]])

    def model(history, future):
        return torch.tensor([[[[0.0, 3.0]], [[0.0, 0.0]]]])

    loss = pinball_loss((0.1, 0.5))(model, (truth, truth, truth, weight))
    # 0.1 * 1 for the lower quantile, 0.5 * 2 for the median; the second step was not measured.
    assert float(loss) == pytest.approx((0.1 + 1.0) / 2)


def test_calibration_moves_each_step_by_its_own_quantile():
    model = small(level=[80]).fit(wave(2000, noise=1.0))._model
    prepared = small(level=[80]).fit(wave(2000, noise=1.0))._prepared
    assert prepared is not None
    split = prepared.description.split
    validation = prepared.windows(split.validation_start, split.test_start)
    calibrate(model, validation)
    history, future, truth, _ = validation.batch(np.arange(len(validation)))
    median, lower, upper = model.intervals(history, future)
    lower, upper = move_bounds(median, lower, upper, model.offsets.numpy()[:, None])
    inside = ((lower[0] <= truth.numpy()) & (truth.numpy() <= upper[0])).mean(axis=0)[:, 0]
    wanted = np.ceil(0.8 * (len(validation) + 1)) / len(validation)
    np.testing.assert_allclose(inside, wanted, atol=1.01 / len(validation))
