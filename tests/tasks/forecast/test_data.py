"""Data that cannot be used as it is: refused with its place, or mended as asked and said."""

from __future__ import annotations

import warnings
from datetime import date, datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest

from cellula import DataError, UsageError
from cellula.tasks.forecast.checks import DataWarning, fill_gaps, put_on_grid
from cellula.tasks.forecast.table import Columns, find_columns, read_panel
from tasks.forecast.series import hourly, panel, small, wave

PLAIN = Columns("ds", None, ("y",), (), ())


def grid_of(frame, irregular="refuse"):
    return put_on_grid(read_panel(frame, PLAIN), irregular)


def changed(row, column, value):
    frame = hourly()
    frame[column] = frame[column].astype(object) if isinstance(value, str) else frame[column]
    frame.loc[row, column] = value
    return frame


def without(*rows):
    return hourly().drop(index=list(rows)).reset_index(drop=True)


def swapped():
    order = [*range(100), 101, 100, *range(102, 400)]
    return hourly().iloc[order].reset_index(drop=True)


# What is given, what is asked, and what the message says.
REFUSED = {
    "missing value": (
        lambda: changed(17, "y", np.nan),
        {},
        r"column 'y' is missing in row 17 \(counting from 0\), at 2020-01-01 17:00:00 \(1 value is .*missing='forward'",
    ),
    "infinite": (lambda: changed(17, "y", np.inf), {"missing": "forward"}, r"column 'y' is inf in row 17"),
    "huge": (lambda: hourly().assign(y=wave() * 1e300), {}, "column 'y' has numbers too large to square"),
    "text among numbers": (lambda: changed(17, "y", "n/a"), {}, r"column 'y' holds 'n/a' in row 17 .*expected numbers"),
    "text column": (lambda: hourly(wind="NW"), {"past": "wind"}, r"column 'wind' holds 'NW' in row 0"),
    "hole": (
        lambda: without(50),
        {},
        r"row 50 .*'ds' goes from 2020-01-03 01:00:00 to 2020-01-03 03:00:00, but the step is 1 h .*regularize",
    ),
    "double": (
        lambda: pd.concat([hourly().iloc[:51], hourly().iloc[50:]]),
        {},
        r"row 51 .*is 2020-01-03 02:00:00, which has the same stamp as the row above .*summer time.*series=",
    ),
    "unsorted": (swapped, {}, r"row 101 .*is 2020-01-05 04:00:00, which comes before the row above it"),
    "no time": (lambda: changed(17, "ds", pd.NaT), {}, r"column 'ds' has no time in row 17"),
    "bad time": (lambda: changed(17, "ds", "17 o'clock"), {}, r"column 'ds' holds .* in row .*expected a time"),
    "time of numbers": (lambda: hourly().assign(ds=np.arange(400) / 2), {}, r"holds 0\.0 in row 0 .*expected a time"),
    "no column": (hourly, {"target": "temprature"}, r"no column 'temprature' \(given as target\): there are 'ds', 'y'"),
    "near column": (
        lambda: hourly(temperature=1.0),
        {"target": "temprature"},
        r"no column 'temprature' .*did you mean 'temperature'\?",
    ),
    "two parts": (hourly, {"past": "y"}, r"column 'y' is given as target and as past"),
    "no target": (lambda: hourly().rename(columns={"y": "z"}), {}, r"no target .* one of 'ds', 'z'"),
    "short": (lambda: hourly(40), {}, r"has 28 rows in the training part .*window \+ horizon = 24 \+ 6"),
    "shorter than a season": (lambda: hourly(12), {}, r"has 8 rows in the training part .*season of 12 steps"),
    "short validation": (lambda: hourly(50), {"window": 12}, r"validation part has no window"),
    "short series": (lambda: pd.concat([panel(), hourly(25).assign(unique_id="c")]), {}, r"series 'c' has 25 rows"),
    "no rows": (lambda: hourly().iloc[:0], {}, "the data has no rows"),
    "no value": (lambda: hourly(z=np.nan), {"past": "z", "missing": "forward"}, "column 'z' has no value at all"),
    "series without a name": (
        lambda: panel().assign(unique_id=["a", None] * 300),
        {},
        r"column 'unique_id' is empty in row 1",
    ),
    "lazy": (lambda: pl.from_pandas(hourly()).lazy(), {}, r"lazy frame: give data\.collect\(\)"),
    "no data": (lambda: "weather.csv", {}, "the data is str: expected a dataframe"),
    "a list": (lambda: [1.0, 2.0], {}, "the data is list"),
    "array of text": (lambda: np.array(["a", "b"]), {}, "the array holds <U1: expected numbers"),
    "array of three axes": (lambda: np.zeros((4, 4, 4)), {"target": "0"}, r"shape \[4, 4, 4\]"),
    "array with a hole": (lambda: np.where(np.arange(400) == 9, np.nan, wave()), {}, r"missing in row 9 .*at 9 "),
    "times in the index": (lambda: hourly().set_index("ds"), {}, r"give data\.reset_index\(\) and time='ds'"),
    "unknown zone": (hourly, {"timezone": "Mars/Olympus"}, "timezone='Mars/Olympus' is not known"),
    "zone for local stamps": (hourly, {"timezone": "Europe/Paris"}, "the stamps carry no time zone"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_its_place(name):
    data, asked, message = REFUSED[name]
    with pytest.raises((DataError, UsageError), match=message):
        small(**asked).fit(data())


def test_every_row_is_named_as_it_was_given():
    frame = panel()
    frame.loc[450, "y"] = np.nan
    with pytest.raises(DataError, match=r"row 450 \(counting from 0\) of series 'b', at 2020-01-07 06:00:00"):
        small().fit(frame)
    with pytest.raises(DataError, match=r"row 450 .*of series 'b'.*goes from 2020-01-07 05:00:00 to 2020-01-07 07"):
        small().fit(frame.drop(index=450))
    mixed = frame.sort_values("ds", kind="stable").reset_index(drop=True)
    row = int(np.flatnonzero(mixed["y"].isna())[0])
    with pytest.raises(DataError, match=rf"row {row} "):
        small().fit(mixed)


def test_forward_fill_is_causal_and_said():
    frame = hourly()
    frame.loc[[100, 101, 399], "y"] = np.nan
    with pytest.warns(DataWarning, match=r"missing='forward': 3 values \(0.75 %\) of 'y' were filled; with the last"):
        forecaster = small(missing="forward").fit(frame)
    assert forecaster.notes_ == ("missing='forward': 3 values (0.75 %) of 'y' were filled; with the last value before",)
    filled = fill_gaps(grid_of(frame), "forward")
    assert filled.panel.values[[100, 101, 399], 0].tolist() == frame["y"].iloc[[99, 99, 398]].tolist()
    # A value that was put in is neither trained on nor scored.
    truth = forecaster.backtest().examples[-1].truth
    assert truth is not None and np.isnan(truth[-1]) and np.isfinite(truth[:-1]).all()


def test_interpolation_draws_no_line_across_a_border_and_hides_the_windows_that_would_know():
    frame = hourly()
    frame.loc[[100, 279, 280, 281], "y"] = np.nan
    with pytest.warns(DataWarning, match="on a line between their neighbours; windows that end in such a row"):
        forecaster = small(missing="interpolate").fit(frame)
    prepared = forecaster._prepared
    assert prepared is not None
    values = prepared.grid.panel.values[:, 0]
    assert values[100] == pytest.approx((frame["y"][99] + frame["y"][101]) / 2)
    # Row 280 begins the validation part: up to it only what came before is known.
    assert values[279:282].tolist() == [frame["y"][278]] * 3
    split = forecaster.description_.split
    assert 101 not in prepared.windows(split.train_start, split.validation_start).origins
    assert 102 in prepared.windows(split.train_start, split.validation_start).origins


def test_first_rows_without_a_value_are_left_out():
    frame = hourly(z=wave(seed=3))
    frame.loc[:4, "z"] = np.nan
    with pytest.warns(DataWarning, match="the first 5 rows were left out"):
        forecaster = small(past="z", missing="forward").fit(frame)
    assert forecaster.backtest().split["train_start"] == "2020-01-01 05:00:00"


def test_regularize_sorts_keeps_the_last_of_doubles_and_puts_holes_in():
    frame = hourly()
    later = frame.iloc[[60]].assign(y=-1.0)
    given = pd.concat([frame.iloc[200:], frame.drop(index=[50, 51]).iloc[:198], later])
    with pytest.warns(DataWarning) as said:
        forecaster = small(irregular="regularize", missing="forward").fit(given)
    text = "\n".join(str(warning.message) for warning in said)
    for part in ("out of order and have been sorted", "1 row had the stamp", "2 missing rows were put in"):
        assert part in text
    prepared = forecaster._prepared
    assert prepared is not None and len(prepared.rows) == 400
    assert prepared.grid.panel.values[[50, 51, 60], 0].tolist() == [frame["y"][49], frame["y"][49], -1.0]
    with (
        pytest.raises(DataError, match=r"missing in a row that was put in, at 2020-01-03 02:00:00"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        small(irregular="regularize").fit(given)


def test_regularize_never_moves_a_value_to_an_earlier_time():
    frame = hourly()
    frame.loc[70, "ds"] += pd.Timedelta(minutes=7)
    grid = grid_of(frame, "regularize")
    assert len(grid.positions) == 400
    assert np.isnan(grid.panel.values[70, 0])
    # At 22:07 and at 23:00: both belong to the step that ends at 23:00, and the last one counts.
    assert grid.panel.values[71, 0] == frame["y"][71]
    assert any("moved to the next full 1 h" in note for note in grid.notes)


def test_clean_data_gives_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        small(irregular="regularize", missing="interpolate").fit(hourly())


def test_times_may_be_text_dates_or_numbers():
    stamps = pd.date_range("2020-01-01", periods=400, freq="h")
    expected = small().fit(hourly()).predict()
    text = small().fit(hourly().assign(ds=stamps.strftime("%Y-%m-%dT%H:%M:%S"))).predict()
    pd.testing.assert_frame_equal(text, expected, check_dtype=False)
    python = small().fit(hourly().assign(ds=pd.Series(list(stamps.to_pydatetime()), dtype=object))).predict()
    np.testing.assert_allclose(python["y"], expected["y"])
    days = [date.fromordinal(700_000 + row) for row in range(400)]
    daily = small().fit(pl.DataFrame({"ds": days, "y": wave()})).predict()
    assert daily["ds"].to_list() == [date.fromordinal(700_400 + row) for row in range(6)]
    numbered = small().fit(hourly().assign(ds=np.arange(400) * 5)).predict()
    assert numbered["ds"].tolist() == [2000, 2005, 2010, 2015, 2020, 2025]
    with pytest.raises(DataError, match="no time zone, unlike the rows before"):
        mixed = [f"{stamp.isoformat()}{'Z' * (row < 7)}" for row, stamp in enumerate(stamps)]
        small().fit(hourly().assign(ds=mixed))


def test_a_zone_is_given_back_and_a_model_keeps_to_its_kind_of_time():
    zoned = hourly().assign(ds=pd.date_range("2020-03-20", periods=400, freq="h", tz="Europe/Paris"))
    forecaster = small().fit(zoned)
    first = forecaster.predict()["ds"].iloc[0]
    assert first == zoned["ds"].iloc[-1] + pd.Timedelta(hours=1) and str(first.tz) == "Europe/Paris"
    with pytest.raises(DataError, match="of another kind than the model was fitted on: times without a zone"):
        forecaster.predict(hourly())
    same = forecaster.predict(zoned.assign(ds=zoned["ds"].dt.tz_convert("UTC")))
    np.testing.assert_allclose(same["y"], forecaster.predict()["y"])
    with pytest.raises(DataError, match="but the step is 1 h"):
        forecaster.predict(zoned.iloc[::2])


def test_usual_names_and_parts_of_columns():
    frame = panel().assign(z=1.0, w=2.0)
    found = find_columns(frame, target=None, time=None, series=None, past="rest", known="w")
    assert found == Columns("ds", "unique_id", ("y",), ("z",), ("w",))
    renamed = frame.rename(columns={"ds": "when", "unique_id": "who", "y": "what"})
    found = find_columns(renamed, target="what", time="when", series="who", past=(), known=())
    assert found == Columns("when", "who", ("what",), (), ())


def test_booleans_and_whole_numbers_are_numbers():
    frame = pl.DataFrame(
        {"ds": [datetime(2020, 1, 1 + row) for row in range(3)], "y": [1, 2, None], "z": [True, False, True]}
    )
    panel_read = read_panel(frame, Columns("ds", None, ("y",), ("z",), ()))
    np.testing.assert_array_equal(panel_read.values, [[1, 1], [2, 0], [np.nan, 1]])
    nullable = pd.DataFrame({"ds": [1, 2], "y": pd.array([1, None], dtype="Int64")})
    np.testing.assert_array_equal(read_panel(nullable, PLAIN).values, [[1], [np.nan]])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["1.5", "2", "broken", "3"] * 100, "holds 'broken' in row 2 .* mend it"),
        (["1.5", "2"] * 200, "numbers written as text: convert"),
        (["1,5", "2,5"] * 200, "decimal comma"),
        (["a", "b"] * 200, "one column of 0 and 1 for each value"),
    ],
)
def test_text_among_numbers_names_the_culprit(values, message):
    with pytest.raises(DataError, match=message):
        small().fit(hourly().assign(y=values))


def test_times_that_are_not_used_are_mentioned():
    data = hourly().rename(columns={"ds": "when"})
    with pytest.warns(DataWarning, match="column 'when' holds times: say time="):
        assert "'when'" in small().fit(data).notes_[0]
