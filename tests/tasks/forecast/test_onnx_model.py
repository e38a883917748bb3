"""A fitted forecaster as an ONNX file: own units in, the same forecast and bounds out."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from cellula import Forecaster, UsageError, export_onnx
from cellula.tasks.forecast.clock import calendar_names
from cellula.tasks.options import TrainingOptions
from onnx_tools import onnx, run_named, runtime

pytestmark = pytest.mark.usefixtures("on_the_reference")

QUICK = TrainingOptions(epochs=1, steps_per_epoch=2)


def table(rows=300):
    """Two series of hourly rows with a covariate known ahead and one that is not; numbers far from zero."""
    random, times = np.random.default_rng(0), pd.date_range("2024-01-01", periods=rows + 6, freq="h")
    parts = []
    for number, name in enumerate(("north", "south")):
        hours = np.arange(rows + 6)
        y = 5e6 + 1000 * (number + 1) * np.sin(hours * 2 * np.pi / 24) + random.normal(0, 50, len(hours))
        wind = random.normal(10 * number, 3, len(hours))
        holiday = (hours // 24 % 7 > 4) * 1.0
        parts.append(pd.DataFrame({"unique_id": name, "ds": times, "y": y, "holiday": holiday, "wind": wind}))
    return pd.concat(parts)


@pytest.fixture(scope="module", params=["gru", "h[t] = tanh(x[t] @ W + h[t-1] @ U + h[t-2] @ V)", "mlp"])
def fitted(request):
    data = table()
    seen = data[data.ds < data.ds.max() - pd.Timedelta(hours=5)]
    made = Forecaster(request.param, horizon=6, window=26, season=24, known="holiday", past="wind", hidden_size=4,
                      num_layers=2, patch=4, training=QUICK)  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CELLULA_BACKEND", "reference")
        return stirred(made.fit(seen)), data, seen


def stirred(forecaster):
    """The forecaster with other weights: after two steps of training its network would hardly say anything."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in forecaster._model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return forecaster


def feeds_of(forecaster, data, seen):
    """The inputs of the file, made from the table alone."""
    horizon, window = 6, 26
    history = [part[["y", "wind", "holiday"]].to_numpy()[-window:] for _, part in seen.groupby("unique_id")]
    known = [part[["holiday"]].to_numpy()[-horizon:] for _, part in data.groupby("unique_id")]
    stamps = data.ds[data.unique_id == "north"].to_numpy()[-(window + horizon) :]
    calendar = forecaster.description_.clock.calendar(stamps.astype("datetime64[us]").astype(np.int64))
    return {
        "history": np.stack(history),
        "known": np.stack(known),
        "calendar": np.stack([calendar, calendar]),
        "series": np.array([0, 1]),
    }


def test_the_file_forecasts_what_the_forecaster_does(fitted, tmp_path):
    forecaster, data, seen = fitted
    forecaster.save(tmp_path / "f.safetensors")
    export_onnx(tmp_path / "f.safetensors", tmp_path / "f.onnx")
    onnx.checker.check_model(str(tmp_path / "f.onnx"), full_check=True)
    file = runtime.InferenceSession(str(tmp_path / "f.onnx"))
    feeds = feeds_of(forecaster, data, seen)
    assert [port.name for port in file.get_inputs()] == list(feeds)
    found = run_named(file, feeds)
    ahead = data[data.ds > seen.ds.max()][["unique_id", "ds", "holiday"]]
    wanted = forecaster.predict(known=ahead)
    for column, value in (
        ("y", found["forecast"][:, :, 0]),
        ("y_lo_80", found["lower"][:, :, 0, 0]),
        ("y_hi_80", found["upper"][:, :, 0, 0]),
        ("y_lo_95", found["lower"][:, :, 0, 1]),
        ("y_hi_95", found["upper"][:, :, 0, 1]),
    ):
        np.testing.assert_allclose(value.reshape(-1), wanted[column].to_numpy(), rtol=0, atol=0.02)
    # Any number of windows: one of the southern series alone, five northern ones.
    one = {name: value[1:] for name, value in feeds.items()}
    np.testing.assert_allclose(run_named(file, one)["forecast"], found["forecast"][1:], atol=1e-2)
    five = {name: np.repeat(value[:1], 5, axis=0) for name, value in feeds.items()}
    assert run_named(file, five)["upper"].shape == (5, 6, 1, 2)


def test_the_file_says_which_column_is_what(fitted, tmp_path):
    forecaster, _, _ = fitted
    export_onnx(forecaster, tmp_path / "f.onnx")
    texts = {entry.key: entry.value for entry in onnx.load(tmp_path / "f.onnx").metadata_props}
    said = json.loads(texts["cellula"])
    assert texts["formula"] == forecaster.description_.cell
    assert said["history"] == ["y", "wind", "holiday"] and said["known"] == ["holiday"]
    assert said["calendar"] == list(calendar_names(forecaster.description_.clock))
    assert said["series"] == ["north", "south"] and said["levels"] == [80, 95] and said["step"] == "1 h"


def test_without_covariates_calendar_and_series_only_the_history_goes_in(tmp_path):
    wave = 3e6 + 100 * np.sin(np.arange(400) * 2 * np.pi / 8) + np.random.default_rng(0).normal(0, 5, 400)
    made = Forecaster("lstm", horizon=4, window=16, season=8, hidden_size=4, level=[], training=QUICK)
    forecaster = stirred(made.fit(wave))
    export_onnx(forecaster, tmp_path / "f.onnx")
    file = runtime.InferenceSession(str(tmp_path / "f.onnx"))
    # Nor are there bounds where no level was learned.
    assert [port.name for port in (*file.get_inputs(), *file.get_outputs())] == ["history", "forecast"]
    found = run_named(file, {"history": wave[-16:].reshape(1, 16, 1)})
    np.testing.assert_allclose(found["forecast"].reshape(-1), forecaster.predict()["y"], atol=0.01)
    operators = [node.op_type for node in onnx.load(tmp_path / "f.onnx").graph.node]
    assert operators.count("LSTM") == 2


def test_what_a_forecaster_cannot_be_exported_as(fitted, tmp_path):
    forecaster, _, _ = fitted
    with pytest.raises(UsageError, match="reads whole windows"):
        export_onnx(forecaster, tmp_path / "f.onnx", streaming=True)
    with pytest.raises(UsageError, match="not fitted"):
        export_onnx(Forecaster(), tmp_path / "f.onnx")
    forecaster._model.to(torch.float64)
    try:
        with pytest.raises(UsageError, match="exported as float32"):
            export_onnx(forecaster, tmp_path / "f.onnx")
    finally:
        forecaster._model.to(torch.float32)
