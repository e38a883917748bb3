"""The report of a real, if tiny, forecaster: what it says is what the forecaster is."""

import numpy as np
import pandas as pd
import pytest

from cellula import Forecaster
from cellula.tasks.forecast.facts import listed, report_on
from cellula.tasks.forecast.report import render_report
from cellula.tasks.options import TrainingOptions

FORMULA = '"""A leaky unit."""\nkeep = setting(0.5)\nh[t] = keep * h[t-1] + (1 - keep) * tanh(x[t] @ W + b)\n'


@pytest.fixture(scope="module")
def forecaster() -> Forecaster:
    hours = pd.date_range("2024-01-01", periods=300, freq="h")
    wave = np.sin(np.arange(300) * 2 * np.pi / 24)
    table = pd.DataFrame({"when": hours, "load": wave + 2, "wind": wave**2})
    quick = TrainingOptions(epochs=2, steps_per_epoch=2, seed=3)
    given = Forecaster(
        FORMULA,
        target="load",
        time="when",
        past="wind",
        horizon=6,
        window=24,
        hidden_size=5,
        settings={"keep": 0.25},
        training=quick,
    )
    return given.fit(table)


def test_the_report_says_what_the_forecaster_is(forecaster):
    report = report_on(forecaster, forecaster.backtest(), data={"source": "made up"}, units={"load": "MW"})
    assert report.title == "Forecast of load, 6 h ahead"
    assert (report.cell, report.unit) == ("A leaky unit", "MW")
    assert "h[t] = keep * h[t-1]" in report.formula
    assert report.data["source"] == "made up" and report.data["covariates, past"] == "wind"
    assert report.model["hidden units"] == 5 and report.model["setting keep"] == 0.25
    assert report.options["seed"] == 3
    assert len(report.epochs) == 2 and report.seconds == sum(record["seconds"] for record in report.epochs)


def test_its_page_can_be_made(forecaster):
    text = render_report(report_on(forecaster, forecaster.backtest()))
    assert "Forecast of load, 6 h ahead" in text and text.count("<svg") == 3


def test_a_loaded_forecaster_has_a_report_too(forecaster, tmp_path):
    forecaster.save(tmp_path / "model.safetensors")
    loaded = Forecaster.load(tmp_path / "model.safetensors")
    report = report_on(loaded, forecaster.backtest())
    assert report.epochs == () and report.seconds is None
    assert report.model["hidden units"] == 5


def test_a_long_list_of_names_is_cut():
    assert listed([str(number) for number in range(10)]) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"
