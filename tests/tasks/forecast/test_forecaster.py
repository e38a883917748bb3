"""The verbs of the forecaster, over every kind of data and of cell."""

from __future__ import annotations

import copy
import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from cellula import DataError, Forecaster, FormulaError, RunError, UsageError
from cellula.cells.catalogue import cells, load_cell
from cellula.tasks.forecast.backtest import METHODS
from cellula.tasks.options import TrainingOptions
from cellula.tasks.run import load_model, save_model
from tasks.forecast.series import QUICK, hourly, panel, small, wave
from zoo_sizes import fitting, own_sizes

KINDS = {
    "pandas": (lambda frame: frame, pd.DataFrame),
    "polars": (pl.from_pandas, pl.DataFrame),
    "pyarrow": (lambda frame: pa.Table.from_pandas(frame, preserve_index=False), pa.Table),
}


def as_pandas(frame):
    return frame.to_pandas() if isinstance(frame, (pl.DataFrame, pa.Table)) else frame


@pytest.mark.parametrize("kind", KINDS)
def test_every_dataframe_gives_its_own_kind_back(kind):
    convert, expected = KINDS[kind]
    forecast = small().fit(convert(hourly())).predict()
    assert isinstance(forecast, expected)
    table = as_pandas(forecast)
    assert list(table.columns) == ["ds", "y", "y_lo_80", "y_hi_80", "y_lo_95", "y_hi_95"]
    assert table["ds"].tolist() == pd.date_range("2020-01-17 16:00", periods=6, freq="h").tolist()
    here = small().fit(hourly()).predict()
    np.testing.assert_allclose(table["y"].to_numpy(), here["y"].to_numpy(), rtol=1e-6)


def test_an_array_gives_a_dict_of_arrays():
    forecast = small().fit(wave()).predict()
    assert {name: values.shape for name, values in forecast.items()} == dict.fromkeys(
        ["y", "y_lo_80", "y_hi_80", "y_lo_95", "y_hi_95"], (6,)
    )


def test_every_column_of_an_array_is_a_target_unless_told_otherwise():
    table = np.stack([wave(seed=0), wave(seed=1), wave(seed=2)], axis=1)
    assert [name for name in small().fit(table).predict() if "_" not in name] == ["0", "1", "2"]
    some = small(past=["2"]).fit(table).predict()
    assert [name for name in some if "_" not in name] == ["0", "1"]


def test_intervals_are_nested_around_the_forecast():
    forecast = small().fit(hourly()).predict()
    order = forecast[["y_lo_95", "y_lo_80", "y", "y_hi_80", "y_hi_95"]].to_numpy()
    assert (np.diff(order, axis=1) >= 0).all()
    assert list(small().fit(hourly()).predict(level=80).columns) == ["ds", "y", "y_lo_80", "y_hi_80"]


def test_without_levels_there_is_the_forecast_alone():
    forecaster = small(level=[]).fit(hourly())
    assert list(forecaster.predict().columns) == ["ds", "y"]
    assert forecaster.backtest().levels == ()
    assert list(small().fit(hourly()).predict(level=[]).columns) == ["ds", "y"]


@pytest.mark.parametrize("wrong", ["80", [101], [80, 80], [True], [80.5]])
def test_levels_are_whole_percentages(wrong):
    with pytest.raises(UsageError, match="level="):
        small(level=wrong).fit(wave())


def test_a_level_that_was_not_learned_is_refused():
    with pytest.raises(UsageError, match=r"level=50 was not learned: expected some of \[80, 95\]"):
        small().fit(hourly()).predict(level=[50])


def test_several_series_are_scaled_each_by_itself():
    forecaster = small().fit(panel())
    forecast = forecaster.predict()
    assert forecast["unique_id"].tolist() == ["a"] * 6 + ["b"] * 6
    a, b = (forecast[forecast["unique_id"] == name]["y"] for name in "ab")
    assert a.between(5, 15).all() and b.between(0, 10_000).all()
    # The order of the rows of different series does not matter.
    mixed = panel().sort_values("ds", kind="stable")
    np.testing.assert_allclose(small().fit(mixed).predict()["y"], forecast["y"], rtol=1e-5)


def test_a_forecast_starts_after_the_data_that_is_given():
    data = hourly(420)
    forecaster = small().fit(data.iloc[:400])
    later = forecaster.predict(data)
    assert later["ds"].iloc[0] == pd.Timestamp("2020-01-18 12:00")
    with pytest.raises(DataError, match="the data has 20 rows: the forecast reads the last 24"):
        forecaster.predict(data.iloc[:20])
    one = small().fit(panel()).predict(panel().query("unique_id == 'b'"))
    assert one["unique_id"].unique().tolist() == ["b"]


def test_an_unknown_series_is_refused():
    with pytest.raises(DataError, match="series 'c' is not one of those"):
        small().fit(panel()).predict(panel().replace({"unique_id": {"b": "c"}}))


def test_several_targets_are_forecast_together():
    forecaster = small(target=["y", "z"]).fit(hourly(z=wave(seed=5) * 100))
    assert {"y", "z", "z_lo_80"} <= set(forecaster.predict().columns)
    backtest = forecaster.backtest()
    assert backtest.targets == ("y", "z")
    assert backtest.by_target["z"]["ridge"]["mae"] > 10 * backtest.by_target["y"]["ridge"]["mae"]
    assert "\nz " in str(backtest)


def test_known_covariates_are_asked_for_and_used():
    generator = np.random.default_rng(3)
    flag = generator.integers(0, 2, 412).astype(float)
    data = hourly(412, flag=flag)
    data["y"] += 20 * flag
    forecaster = small(known="flag").fit(data.iloc[:400])
    ahead = data.iloc[400:][["ds", "flag"]]
    forecast = forecaster.predict(known=ahead)
    expected = data["y"].iloc[400:406].to_numpy()
    assert np.abs(forecast["y"].to_numpy() - expected).max() < 3
    np.testing.assert_allclose(forecaster.predict(known=ahead.iloc[::-1])["y"], forecast["y"])
    with pytest.raises(UsageError, match=r"reads 'flag', known ahead: give known=.* 6 rows from 2020-01-17 16:00"):
        forecaster.predict()
    with pytest.raises(DataError, match=r"no row for 2020-01-17 20:00:00 \(2 of 6 rows are missing\)"):
        forecaster.predict(known=ahead.iloc[:4])
    with pytest.raises(DataError, match="no value of 'flag' for 2020-01-17 16:00:00"):
        forecaster.predict(known=ahead.assign(flag=np.nan))
    with pytest.raises(DataError, match="no column 'flag'"):
        forecaster.predict(known=ahead[["ds"]])
    with pytest.raises(UsageError, match="without known covariates"):
        small().fit(hourly()).predict(known=ahead)


def test_known_covariates_of_an_array_and_of_several_series():
    flag = (np.arange(400) % 5 == 0).astype(float)
    forecaster = small(target="0", known="1").fit(np.stack([wave() + 9 * flag, flag], axis=1))
    assert forecaster.predict(known=np.ones(6))["0"].shape == (6,)
    with pytest.raises(DataError, match=r"shape \[5\]: expected the 6 rows"):
        forecaster.predict(known=np.ones(5))
    data = panel().assign(flag=1.0)
    ahead = pd.DataFrame({"ds": pd.date_range("2020-01-13 12:00", periods=6, freq="h"), "flag": 1.0})
    several = small(known="flag").fit(data)
    both = pd.concat([ahead.assign(unique_id=name) for name in "ba"])
    assert len(several.predict(known=both)) == 12
    with pytest.raises(DataError, match="no rows for series 'b'"):
        several.predict(known=ahead.assign(unique_id="a"))


def test_past_covariates_help_where_they_should():
    cause = np.random.default_rng(1).normal(size=406)
    data = hourly(400, cause=cause[6:])
    data["y"] = cause[:400]
    with_cause = small(past="rest", window=12).fit(data)
    assert with_cause.description_.columns.past == ("cause",)
    assert with_cause.backtest().scores["network"]["mae"] < 0.5 * with_cause.backtest().scores["persistence"]["mae"]


@pytest.mark.parametrize("cell", list(cells()))
def test_any_cell_of_the_zoo(cell):
    graph = load_cell(cell)
    forecaster = small(cell, hidden_size=fitting(graph, 6), settings=own_sizes(graph)).fit(wave())
    assert np.isfinite(forecaster.predict()["y"]).all()


FORMULAS = {
    "no memory": "h[t] = tanh(x[t] @ W + b)",
    "own state names": (
        "slow[t] = 0.9 * slow[t-1] + 0.1 * tanh(x[t] @ W + fast[t-1] @ U)\n"
        "fast[t] = relu(slow[t] @ V + b)\ny[t] = fast[t] - slow[t]"
    ),
    "two steps back": "h[t] = tanh(x[t] @ W + h[t-1] @ U + h[t-2] @ V)",
    "input equals hidden": "h[t] = 0.5 * h[t-1] + 0.5 * x[t] * a",
}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_formula_of_ones_own(name, tmp_path):
    file = tmp_path / "my.cell"
    file.write_text(f'"""Mine."""\n{FORMULAS[name]}\n')
    forecaster = small(str(file), num_layers=2).fit(wave())
    forecaster.save(tmp_path / "model.safetensors")
    file.unlink()
    np.testing.assert_array_equal(
        Forecaster.load(tmp_path / "model.safetensors").predict()["y"], forecaster.predict()["y"]
    )


def test_a_cell_with_settings_of_its_own(tmp_path):
    text = "leak = setting(0.1)\nm[t]: wide = tanh(x[t] @ W)\nh[t] = (1 - leak) * h[t-1] + leak * tanh(m[t] @ U)"
    forecaster = small(text, settings={"leak": 0.3, "wide": 5}).fit(wave())
    forecaster.save(tmp_path / "m.safetensors")
    again = Forecaster.load(tmp_path / "m.safetensors")
    assert again.settings == {"leak": 0.3, "wide": 5}
    np.testing.assert_array_equal(again.predict()["y"], forecaster.predict()["y"])
    with pytest.raises(UsageError, match="no setting or size 'leek'"):
        small(text, settings={"leek": 0.3, "wide": 5}).fit(wave())


def test_a_wrong_formula_is_shown():
    with pytest.raises(FormulaError, match="tnah"):
        small("h[t] = tnah(x[t] @ W)").fit(wave())


def test_backtest_compares_on_all_windows_of_the_test_part():
    forecaster = small().fit(hourly())
    backtest = forecaster.backtest()
    assert backtest.windows == 80 - 6 + 1
    assert set(backtest.scores) == set(backtest.by_step) == set(METHODS)
    assert all(len(errors) == 6 for errors in backtest.by_step.values())
    assert backtest.step_label == "1 h"
    assert backtest.split == {
        "train_start": "2020-01-01 00:00:00",
        "train_end": "2020-01-12 15:00:00",
        "validation_start": "2020-01-12 16:00:00",
        "validation_end": "2020-01-14 07:00:00",
        "test_start": "2020-01-14 08:00:00",
        "test_end": "2020-01-17 15:00:00",
    }
    assert backtest.levels == (80, 95)
    json.dumps(backtest.to_dict())
    example = backtest.examples[0]
    assert example.time[0] == np.datetime64("2020-01-14T08:00")
    assert example.truth is not None
    np.testing.assert_allclose(example.truth, hourly()["y"].iloc[320:326])
    np.testing.assert_allclose(example.history, hourly()["y"].iloc[296:320])
    np.testing.assert_allclose(example.baselines["persistence"], hourly()["y"].iloc[319], rtol=1e-6)
    np.testing.assert_allclose(example.baselines["seasonal_naive"], hourly()["y"].iloc[308:314], rtol=1e-6)
    score = 1 - backtest.scores["network"]["mae"] / backtest.scores["seasonal_naive"]["mae"]
    assert forecaster.score() == pytest.approx(score)


def test_backtest_of_given_data_uses_unseen_rows_only():
    data = hourly(500)
    forecaster = small().fit(data.iloc[:400])
    assert forecaster.backtest(data.iloc[:400]).scores == forecaster.backtest().scores
    assert forecaster.backtest(data).windows == 180 - 6 + 1
    with pytest.raises(DataError, match="has seen the rows up to 2020-01-14 07:00:00"):
        forecaster.backtest(data.iloc[:300])
    whole = small(split=(0.9, 0.1, 0.0)).fit(data.iloc[:400])
    with pytest.raises(DataError, match="nothing to test on"):
        whole.backtest()


def test_nothing_of_the_test_part_reaches_the_model():
    data = hourly(400)
    changed = data.copy()
    changed.loc[320:, "y"] = 1e6 * np.random.default_rng(9).normal(size=80)
    first, second = small().fit(data), small().fit(changed)
    assert first.description_.scale.mean == pytest.approx(second.description_.scale.mean, abs=0)
    for name, tensor in first._model.state_dict().items():
        # What a forecast after the end of the data starts from: the newest rows, and what they say of the intervals.
        if name not in ("context", "newest_offsets"):
            assert torch.equal(tensor, second._model.state_dict()[name]), name


def test_validation_does_not_reach_scale_ridge_or_training_windows():
    data = hourly(400)
    changed = data.copy()
    changed.loc[280:319, "y"] += 50
    one_step = TrainingOptions(epochs=1, batch_size=32, steps_per_epoch=3, device="cpu")
    first, second = small(training=one_step).fit(data), small(training=one_step).fit(changed)
    for name, tensor in first._model.state_dict().items():
        if name not in ("context", "offsets", "rates", "newest_offsets"):
            assert torch.equal(tensor, second._model.state_dict()[name]), name
    assert not torch.equal(first._model.offsets, second._model.offsets)


def test_intervals_cover_what_they_should_on_noise():
    generator = np.random.default_rng(0)
    noise = generator.normal(size=12000) * (1 + (np.arange(12000) % 12 > 5))
    backtest = small(split=(0.5, 0.25, 0.25), level=[50, 80, 95]).fit(noise).backtest()
    network = backtest.scores["network"]
    assert [network[f"coverage_{level}"] for level in (50, 80, 95)] == pytest.approx([0.5, 0.8, 0.95], abs=0.03)
    assert network["width_50"] < network["width_80"] < network["width_95"]


def test_save_and_load_give_equal_predictions(tmp_path):
    data = panel()
    forecaster = small(known=(), past=()).fit(data)
    forecaster.save(tmp_path / "model.safetensors")
    again = Forecaster.load(tmp_path / "model.safetensors")
    pd.testing.assert_frame_equal(again.predict(data), forecaster.predict())
    # Without data it goes on from the rows it was fitted on.
    np.testing.assert_array_equal(again.predict()["y"], forecaster.predict()["y"])
    assert again.predict()["ds"].tolist() == forecaster.predict()["ds"].tolist()
    assert again.backtest(data).scores == forecaster.backtest().scores
    own, loaded = forecaster.get_params(), again.get_params()
    assert {name: value for name, value in own.items() if name != "cell"} == {
        name: value for name, value in loaded.items() if name != "cell"
    }
    with pytest.raises(UsageError, match="a loaded forecaster has no data"):
        again.backtest()


def test_a_run_directory_holds_everything(tmp_path):
    forecaster = small().fit(hourly(), run=tmp_path / "run")
    backtest = forecaster.backtest()
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["scores"] == backtest.scores
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["parameters"]["hidden_size"] == 6 and config["data"]["rows"] == 400
    again = Forecaster.load(tmp_path / "run")
    np.testing.assert_array_equal(again.predict()["y"], forecaster.predict()["y"])
    with pytest.raises(RunError, match="already holds a run"):
        small().fit(hourly(), run=tmp_path / "run")
    with pytest.raises(RunError, match=r"hidden_size: the run has 6, now 7"):
        small(hidden_size=7).fit(hourly(), run=tmp_path / "run", resume=True)
    with pytest.raises(RunError, match="fingerprint"):
        small().fit(hourly(seed=1), run=tmp_path / "run", resume=True)
    resumed = small().fit(hourly(), run=tmp_path / "run", resume=True)
    np.testing.assert_array_equal(resumed.predict()["y"], forecaster.predict()["y"])
    small(hidden_size=7).fit(hourly(), run=tmp_path / "run", overwrite=True)


def test_a_fit_is_a_function_of_data_and_seed():
    first = small().fit(hourly())._model
    torch.manual_seed(5)
    second = small().fit(hourly())._model
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


@pytest.mark.parametrize("damage", ["truncated", "changed", "empty", "text", "missing"])
def test_a_damaged_file_is_refused(damage, tmp_path):
    path = tmp_path / "model.safetensors"
    small().fit(wave()).save(path)
    data = path.read_bytes()
    changed = bytearray(data)
    changed[-3] ^= 0xFF
    texts = {"truncated": data[: len(data) // 2], "changed": bytes(changed), "empty": b"", "text": b"time,y\n1,2\n"}
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(texts[damage])
    with pytest.raises(RunError, match=r"model\.safetensors"):
        Forecaster.load(path)


def test_a_model_of_a_training_that_did_not_end_says_so(tmp_path):
    path = tmp_path / "model.safetensors"
    small().fit(hourly()).save(path)
    tensors, metadata = load_model(path)
    tensors["offsets"].fill_(float("nan"))
    save_model(path, tensors, metadata)
    with pytest.warns(UserWarning, match="did not come to its end, so the intervals are not calibrated"):
        forecaster = Forecaster.load(path)
    assert np.isfinite(forecaster.predict()["y_lo_80"]).all()


EDITS = {
    "another task": (("forecaster", "task"), "speech", "is not a forecaster's"),
    "a newer version": (("forecaster", "version"), 99, "version is 99"),
    "a huge network": (("forecaster", "sizes", "hidden_size"), 10**7, "expected"),
    "many layers": (("forecaster", "sizes", "num_layers"), 10**6, "num_layers"),
    "a negative spread": (("forecaster", "scale", "spread"), [[-1.0]], "the scale"),
    "no columns": (("forecaster", "columns", "targets"), [], "contradict"),
    "a path for a formula": (("forecaster", "cell"), "/etc/passwd", "formula"),
    "another formula": (("forecaster", "cell"), "h[t] = tanh(x[t] @ W)", "does not fit the network"),
    "an unknown zone": (("forecaster", "clock", "calendar_zone"), "Mars/Olympus", "cannot be used"),
    "an unknown clock": (("forecaster", "clock", "kind"), "sundial", "sundial"),
    "a wrong parameter": (("parameters", "missing"), "guess", "expected one of"),
    "an unknown parameter": (("parameters", "colour"), "red", "colour"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_file_that_does_not_fit_itself_is_refused(edit, tmp_path):
    path = tmp_path / "model.safetensors"
    small().fit(hourly()).save(path)
    tensors, metadata = load_model(path)
    (*where, last), value, message = EDITS[edit]
    place = metadata
    for name in where:
        place = place[name]
    place[last] = value
    save_model(path, tensors, metadata)
    with pytest.raises(RunError, match=message):
        Forecaster.load(path)


def test_parameters_as_scikit_learn_has_them():
    forecaster = small(level=[80])
    params = forecaster.get_params(deep=False)
    assert params["cell"] == "gru" and params["training"] is QUICK and params["level"] == [80]
    # What sklearn.base.clone does: copies of the parameters, and the constructor must not touch them.
    copies = {name: copy.deepcopy(value) for name, value in params.items()}
    clone = type(forecaster)(**copies)
    assert all(clone.get_params(deep=False)[name] is copies[name] for name in copies)
    assert clone.set_params(horizon=3, training__epochs=7) is clone
    assert (clone.horizon, clone.training.epochs, clone.training.batch_size) == (3, 7, QUICK.batch_size)
    assert forecaster.training.epochs == 1
    with pytest.raises(UsageError, match="no parameter 'epochs'"):
        clone.set_params(epochs=3)
    assert repr(small(training=QUICK)).startswith("Forecaster(cell='gru', horizon=6, window=24, season=12")


def test_before_fit_there_is_nothing_to_predict():
    with pytest.raises(UsageError, match="not fitted"):
        small().predict()


WRONG = {
    "horizon": (0, "whole number of 1 or more"),
    "window": (2.5, "whole number"),
    "level": ([0], "1 to 99"),
    "adaptive": ("yes", "True or False"),
    "split": ((0.5, 0.5), "shares"),
    "season": ("day", "whole number"),
    "missing": ("guess", "'refuse', 'forward', 'interpolate'"),
    "irregular": ("guess", "'refuse', 'regularize'"),
    "hidden_size": (0, "hidden_size=0"),
    "dropout": (1.0, "below 1"),
    "training": ({"epochs": 3}, "TrainingOptions"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_parameter_out_of_range_is_refused(name):
    value, message = WRONG[name]
    with pytest.raises(UsageError, match=message):
        small(**{name: value}).fit(wave())
