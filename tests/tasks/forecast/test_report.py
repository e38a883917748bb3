"""The pictures and the page of a forecasting run: whole, escaped, and alone in one file."""

import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from PIL import Image

from cellula.errors import RunError
from cellula.tasks.forecast.backtest import Backtest, ForecastExample
from cellula.tasks.forecast.page import element, page
from cellula.tasks.forecast.plots import (
    COLOURS,
    METHOD_STYLES,
    forecast_figure,
    learning_figure,
    step_figure,
    to_png,
    to_svg,
)
from cellula.tasks.forecast.report import Report, render_report, write_report
from cellula.tasks.run import RunDirectory

HOSTILE = "<script>alert('a')</script><img src=x onerror=b> \"&$\\frac{$ --> ]]> url(#c) </style></pre></title>"
BASELINES = ("ridge", "seasonal_naive", "persistence")


def example(series: str = "EWR", target: str = "temperature", horizon: int = 24, measured: bool = True):
    hours = np.datetime64("2013-10-20T05:00", "us") + np.arange(72 + horizon) * np.timedelta64(1, "h")
    values = 15 + 5 * np.sin(np.arange(72 + horizon) * 2 * np.pi / 24)
    ahead = values[72:] + 0.5
    return ForecastExample(
        series=series,
        target=target,
        history_time=hours[:72],
        history=values[:72],
        time=hours[72:],
        truth=values[72:] if measured else None,
        forecast=ahead,
        lower={80: ahead - 1, 95: ahead - 2},
        upper={80: ahead + 1, 95: ahead + 2},
        baselines=dict.fromkeys(BASELINES, ahead + 1),
    )


def backtest(name: str = "temperature", horizon: int = 24, examples: tuple[ForecastExample, ...] | None = None):
    errors = {"network": 1.5, "ridge": 2.0, "seasonal_naive": 2.5, "persistence": 4.0}
    scores = {method: {"mae": mae, "rmse": 1.3 * mae, "mase": mae / 2.5} for method, mae in errors.items()}
    scores["network"] |= {"coverage_80": 0.786, "coverage_95": 0.941, "width_80": 5.25, "width_95": 8.5}
    return Backtest(
        target=name,
        targets=(name,),
        horizon=horizon,
        window=72,
        season=24,
        windows=1234,
        step_label="1 h",
        scores=scores,
        by_step={method: [mae * (step + 1) / horizon for step in range(horizon)] for method, mae in errors.items()},
        examples=(example(target=name, horizon=horizon),) if examples is None else examples,
        split={
            "train_start": "2013-01-01T06:00:00",
            "train_end": "2013-08-01T00:00:00",
            "validation_start": "2013-08-01T01:00:00",
            "validation_end": "2013-10-18T00:00:00",
            "test_start": "2013-10-18T01:00:00",
            "test_end": "2013-12-30T23:00:00",
        },
    )


EPOCHS = [
    {"epoch": 1, "train_loss": 0.9, "validation_loss": 0.8},
    {"epoch": 2, "train_loss": 0.5, "validation_loss": 0.4},
    {"epoch": 3, "train_loss": 0.4, "validation_loss": 0.6},
]


def report(title: str = "Temperature", tested: Backtest | None = None, epochs=EPOCHS) -> Report:
    return Report(
        title=title,
        backtest=tested or backtest(),
        epochs=epochs,
        cell="elman",
        formula="h[t] = tanh(x[t] @ W + h[t-1] @ U + b)  # 1 < 2",
        data={"rows": "26,190"},
        model={"hidden": 64},
        options={"seed": 0},
        units={"temperature": "°C"},
        seconds=185,
    )


class Elements(HTMLParser):
    """Collects the elements, attributes and texts that a browser would see, and checks that all are closed."""

    VOID = ("meta", "use", "path", "rect", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def usual_page() -> str:
    return render_report(report())


def test_the_page_tells_the_result_the_comparison_and_the_formula(usual_page):
    seen = " ".join(Elements(usual_page).texts)
    assert "1.50\u00a0°C" in seen and "25.0\u00a0%" in seen
    seen = seen.replace("\u00a0", " ")
    for text in (
        "off by 1.50 °C, 25.0 % less than the best baseline (ridge regression: 2.00 °C)",
        "80 % intervals held 78.6 % of the observed values",
        "1,234 windows",
        "2013-10-18 01:00 to 2013-12-30 23:00",
        "2013-08-01 01:00 to 2013-10-18",
        "h[t] = tanh(x[t] @ W + h[t-1] @ U + b)  # 1 < 2",
        "3 min 5 s",
        "torch",
    ):
        assert text in seen, text


def test_a_network_that_loses_is_said_to_lose():
    tested = backtest()
    tested.scores["network"]["mae"] = 2.5
    assert "25.0 % more than the best baseline (ridge regression" in render_report(report(tested=tested)).replace(
        "\u00a0", " "
    )


def test_the_page_loads_nothing_and_runs_nothing(usual_page):
    found = Elements(usual_page)
    assert not {"script", "link", "iframe", "object", "embed", "img"} & set(found.tags)
    addresses = [value for name, value in found.attributes if name in ("src", "href", "xlink:href")]
    assert all(value is not None and value.startswith("#") for value in addresses)
    assert "@import" not in usual_page and "url(http" not in usual_page
    assert any("default-src 'none'" in (value or "") for _, value in found.attributes)


def test_hostile_names_stay_text_everywhere(usual_page):
    names = backtest(HOSTILE, examples=(example(series=HOSTILE, target=HOSTILE),))
    facts = {HOSTILE: HOSTILE}
    hostile = Report(HOSTILE, names, EPOCHS, HOSTILE, HOSTILE, facts, facts, facts, units=facts)
    found, plain = Elements(render_report(hostile)), Elements(usual_page)
    assert set(found.tags) <= set(plain.tags), "a name has become an element"
    assert not any(name.startswith("on") for name, _ in found.attributes)
    # As it was written: title, heading, sentence, cell, formula, and both sides of every fact.
    assert sum(text.count(HOSTILE) for text in found.texts) >= 10


def test_the_detector_sees_an_element_that_should_be_text():
    found = Elements(f"<p>{HOSTILE.split('<img')[0]}</p>")
    assert "script" in found.tags


@pytest.mark.parametrize(
    "draw",
    [
        lambda: forecast_figure([example()], unit="°C"),
        lambda: forecast_figure([example(HOSTILE, HOSTILE), example("", measured=False)], unit=HOSTILE),
        lambda: forecast_figure([example("東京 Ωmega", horizon=1)]),
        lambda: step_figure(backtest(), unit="°C"),
        lambda: step_figure(backtest(horizon=1)),
        lambda: step_figure(backtest(horizon=500), unit="$"),
        lambda: learning_figure(EPOCHS),
        lambda: learning_figure(EPOCHS[:1]),
        lambda: learning_figure([{"epoch": 1, "train_loss": None, "validation_loss": None}]),
    ],
)
def test_every_figure_is_a_whole_svg_and_a_png_with_nothing_cut_off(draw):
    drawing = draw()
    root = ElementTree.fromstring(to_svg(drawing, "name"))
    assert root.get("viewBox") and root.get("width") is None
    identifiers = [node.get("id") for node in root.iter() if node.get("id")]
    assert len(set(identifiers)) == len(identifiers) and all(each.startswith("name-") for each in identifiers)
    pixels = np.asarray(Image.open(io.BytesIO(to_png(drawing))).convert("L"))
    assert pixels.shape[1] == 1500 and pixels.min() < 100
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert border.min() > 250, "something touches the edge"


def test_references_inside_a_drawing_lead_somewhere():
    text = to_svg(forecast_figure([example()]), "name")
    identifiers = set(re.findall(r' id="([^"]+)"', text))
    used = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
    assert used and used <= identifiers


def test_the_colours_follow_the_page():
    text = to_svg(forecast_figure([example()]), "name")
    assert "var(--network)" in text and "var(--seasonal-naive)" in text
    css = page("title")
    for role, value in COLOURS.items():
        assert css.count(f"--{role.replace('_', '-')}:") == 2, "a light and a dark value"
        assert f"--{role.replace('_', '-')}: {value};" in css
        assert value not in text


def test_the_forecast_picture_shows_each_thing_once_in_its_legend():
    (legend,) = forecast_figure([example(), example("JFK")]).legends
    labels = [text.get_text() for text in legend.get_texts()]
    expected = {"forecast", "80 % interval", "95 % interval", "history", "observed"}
    assert set(labels) == expected | {METHOD_STYLES[name][0] for name in BASELINES}
    assert len(labels) == len(set(labels))


def test_data_without_dates_is_drawn_over_its_steps():
    numbered = replace(example(), history_time=np.arange(72), time=np.arange(72, 96))
    (axes,) = forecast_figure([numbered]).axes
    assert axes.get_xlabel() == "step" and axes.get_title(loc="left") == "EWR: forecast from 72"


def test_a_clock_that_is_put_back_draws_no_backward_line():
    times = example().history_time.copy()
    times[-1] = times[-2]
    (axes,) = forecast_figure([replace(example(), history_time=times)]).axes
    for line in axes.get_lines():
        assert (np.diff(line.get_xdata(orig=False)) > 0).all() or len(set(line.get_xdata(orig=False))) == 1


def test_of_many_examples_some_from_beginning_to_end_are_shown():
    many = [example(series=str(number)) for number in range(6)]
    titles = [axes.get_title(loc="left")[0] for axes in forecast_figure(many).axes]
    assert titles == ["0", "2", "3", "5"]


def test_the_kept_epoch_is_the_best_on_the_validation_part():
    (legend,) = learning_figure(EPOCHS).legends
    assert "kept: epoch 2" in [text.get_text() for text in legend.get_texts()]


def test_drawing_leaves_matplotlib_as_it_was():
    before = dict(matplotlib.rcParams)
    to_png(forecast_figure([example()]))
    assert dict(matplotlib.rcParams) == before


def test_several_targets_have_a_table_each():
    scores = backtest().scores
    tested = replace(backtest(), targets=("temperature", "pressure"))
    tested = replace(tested, by_target={"temperature": scores, "pressure": scores})
    found = Elements(render_report(report(tested=tested)))
    assert found.tags.count("h3") == 2 and "pressure" in found.texts


def test_write_report_leaves_the_page_and_its_pictures(tmp_path):
    with RunDirectory.create(tmp_path / "run") as run:
        names = write_report(run, report())
        assert names == ("report.html", "forecast.png", "error_by_step.png", "learning_curve.png")
        assert (run.path / "report.html").read_text(encoding="utf-8").endswith("</html>\n")
        assert all((run.path / name).stat().st_size > 10_000 for name in names)


def test_a_run_without_epochs_or_examples_still_has_its_scores(tmp_path):
    bare = report(tested=backtest(examples=()), epochs=[])
    with RunDirectory.create(tmp_path / "run") as run:
        assert write_report(run, bare) == ("report.html", "error_by_step.png")
    text = render_report(bare)
    assert "Scores on the test part" in text and "Forecasts</h2>" not in text


def test_a_folder_that_is_gone_is_a_clear_error(tmp_path):
    run = RunDirectory(tmp_path / "gone", writes=True, resuming=False)
    with pytest.raises(RunError, match=r"report\.html"):
        write_report(run, report())


def test_text_in_an_element_and_its_attributes_is_escaped():
    made = element("p", "<b>", attributes={"title": '"><script>'})
    assert made == '<p title="&quot;&gt;&lt;script&gt;">&lt;b&gt;</p>'
