"""Steps, seasons and the calendar."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cellula import UsageError
from cellula.tasks.forecast.clock import Clock, calendar_names, cycles_within, find_clock, zone_of
from tasks.forecast.series import hourly, small


def stamps_of(index: pd.DatetimeIndex) -> np.ndarray:
    return (
        (index.tz_localize(None) if index.tz is None else index.tz_convert("UTC").tz_localize(None))
        .to_numpy("datetime64[us]")
        .astype(np.int64)
    )


# How the stamps come about, their zone, and the step, kind and season to be found.
SERIES = {
    "hourly": ("h", None, "1 h", "time", 24),
    "half-hourly": ("30min", "Australia/Melbourne", "30 min", "time", 48),
    "every 5 minutes": ("5min", None, "5 min", "time", 288),
    "every 7 hours": ("7h", None, "7 h", "time", 1),
    "daily": ("D", None, "1 d", "time", 7),
    "daily by a local clock": ("D", "Europe/Paris", "1 d", "wall", 7),
    "weekly": ("W", None, "1 week", "time", 52),
    "month starts": ("MS", None, "1 month", "months", 12),
    "month ends": ("ME", None, "1 month", "months", 12),
    "quarters": ("QS", None, "3 months", "months", 4),
    "month starts by a local clock": ("MS", "Europe/Paris", "1 month", "months", 12),
}


@pytest.mark.parametrize("name", SERIES)
def test_the_step_is_found_and_positions_go_both_ways(name):
    rule, zone, label, kind, season = SERIES[name]
    index = pd.date_range("2019-12-31", periods=500, freq=rule, tz=zone)
    stamps = stamps_of(index)
    clock = find_clock([stamps[:300]], zone, index=False)
    assert (clock.label, clock.kind, clock.season) == (label, kind, season)
    positions = clock.positions(stamps)
    assert (np.diff(positions) == clock.step).all()
    np.testing.assert_array_equal(clock.stamps(positions), stamps)


def test_a_hole_does_not_change_the_step():
    stamps = stamps_of(pd.date_range("2020-01-01", periods=300, freq="MS"))
    assert find_clock([np.delete(stamps, 7)], None, index=False).kind == "months"
    assert find_clock([np.array([0, 5, 10, 20])], None, index=True) == Clock("index", 5)


def test_calendar_by_the_local_clock_over_summer_time():
    index = pd.date_range("2020-03-28", periods=96, freq="30min", tz="Europe/Paris")
    clock = find_clock([stamps_of(index)], "Europe/Paris", index=False)
    names, features = calendar_names(clock), clock.calendar(clock.positions(stamps_of(index)))
    assert features.shape == (96, len(names) == 15 and 15)
    hours = np.array([moment.hour + moment.minute / 60 for moment in index])
    np.testing.assert_allclose(features[:, 0], np.sin(2 * np.pi * hours / 24), atol=1e-6)
    np.testing.assert_array_equal(features[:, names.index("Sunday")], index.day_of_week == 6)
    np.testing.assert_allclose(
        features[:, -3], np.cos(2 * np.pi * (index.day_of_year - 1 + hours / 24) / 366), atol=1e-6
    )


def test_calendar_zone_moves_the_clock_but_not_the_stamps():
    stamps = stamps_of(pd.date_range("2020-01-01", periods=48, freq="h", tz="UTC"))
    utc = find_clock([stamps], "UTC", index=False)
    local = Clock(utc.kind, utc.step, zone="UTC", calendar_zone="Asia/Tokyo")
    np.testing.assert_allclose(local.calendar(stamps[:-9]), utc.calendar(stamps[9:]), atol=1e-6)
    assert local.words(int(stamps[0])) == "2020-01-01 00:00:00+00:00"


def test_the_calendar_has_only_what_the_step_can_tell():
    assert len(calendar_names(Clock("time", 3_600_000_000))) == 15
    assert len(calendar_names(Clock("time", 86_400_000_000))) == 11
    assert len(calendar_names(Clock("time", 7 * 86_400_000_000))) == 4
    assert len(calendar_names(Clock("months", 1))) == 4
    assert calendar_names(Clock("index", 1)) == ()
    assert Clock("index", 1).calendar(np.arange(3)).shape == (3, 0)


def test_a_cycle_that_was_not_seen_whole_is_left_out():
    day = 86_400_000_000
    assert cycles_within(day - 1) == () and cycles_within(8 * day) == ("day", "week")
    assert cycles_within(365 * day) == ("day", "week", "year")
    assert small().fit(hourly()).description_.clock.cycles == ("day", "week")
    assert calendar_names(Clock("time", 3_600_000_000, cycles=("day",))) == tuple(f"time of day {n}" for n in range(4))


def test_an_unknown_zone_is_refused():
    with pytest.raises(UsageError, match="timezone='Nowhere' is not known"):
        zone_of("Nowhere")
