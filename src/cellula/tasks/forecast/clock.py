"""Time as positions on a regular grid: what a step is, which stamps follow, what the calendar says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from cellula.errors import UsageError

__all__ = ["DAY", "Clock", "calendar_names", "cycles_within", "find_clock", "to_local", "zone_of"]

SECOND = 1_000_000
MINUTE, HOUR, DAY, WEEK = 60 * SECOND, 3600 * SECOND, 86_400 * SECOND, 7 * 86_400 * SECOND
YEAR = 365 * DAY
# Offsets of all time zones change on multiples of this.
QUARTER = 15 * MINUTE

UNITS = ((WEEK, "week"), (DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (SECOND, "s"), (1000, "ms"), (1, "µs"))


@dataclass(frozen=True)
class Clock:
    """The grid on which the rows of a series lie.

    Args:
        kind: "index" (whole numbers), "time" (a fixed duration), "wall" (whole days by the local clock, which are not
            all equally long) or "months".
        step: the distance of two rows: in units of the index, in microseconds, or in months.
        anchor: for months, microseconds from the start of the month; negative: before the start of the next one.
        zone: the time zone of the stamps; None where they carry none.
        calendar_zone: the time zone of the calendar features; None: as the stamps.
        cycles: which cycles the calendar features tell: of "day", "week" and "year" those that the step can resolve.

    Positions are whole numbers: the index itself, microseconds since 1970 (in UTC; for "wall" by the local clock), or
    months since 1970.
    """

    kind: str
    step: int
    anchor: int = 0
    zone: str | None = None
    calendar_zone: str | None = None
    cycles: tuple[str, ...] = ("day", "week", "year")

    @property
    def label(self) -> str:
        """A step in words: "1 h", "30 min", "3 months", "1 step"."""
        if self.kind == "index":
            return f"{self.step} step{'s' * (self.step > 1)}"
        if self.kind == "months":
            return f"{self.step} month{'s' * (self.step > 1)}"
        return duration(self.step)

    @property
    def season(self) -> int:
        """The usual season in steps: a day, a week of days, a year of weeks or months; 1 where there is none."""
        if self.kind == "index":
            return 1
        if self.kind == "months":
            return 12 // self.step if 12 % self.step == 0 else 1
        if self.step < DAY:
            return DAY // self.step if DAY % self.step == 0 else 1
        return {DAY: 7, WEEK: 52}.get(self.step, 1)

    def positions(self, stamps: np.ndarray) -> np.ndarray:
        """Positions of stamps (whole numbers, or microseconds in UTC), int64."""
        return POSITIONS[self.kind](self, stamps)

    def stamps(self, positions: np.ndarray) -> np.ndarray:
        """The stamps at positions: the inverse of `positions`."""
        return STAMPS[self.kind](self, positions)

    def words(self, position: int) -> str:
        """A position as people write it: ISO time, or the index."""
        stamp = int(self.stamps(np.array([position]))[0])
        return str(stamp) if self.kind == "index" else iso(stamp, self.zone)

    def calendar(self, positions: np.ndarray) -> np.ndarray:
        """Calendar features of positions, [rows, len(calendar_names(self))], float32."""
        features = [feature(self.local(positions)) for _, feature in calendar_parts(self)]
        empty = np.zeros((len(positions), 0), np.float32)
        return np.concatenate([empty, *features], axis=1).astype(np.float32)

    def local(self, positions: np.ndarray) -> np.ndarray:
        """Microseconds of the local clock at positions."""
        return to_local(self.stamps(positions), self.calendar_zone or self.zone)


def duration(microseconds: int) -> str:
    """A duration in the largest unit that divides it."""
    size, unit = next(pair for pair in UNITS if microseconds % pair[0] == 0)
    return f"{microseconds // size} {unit}"


def iso(stamp: int, zone: str | None) -> str:
    """Microseconds in UTC as ISO time of the zone."""
    try:
        moment = datetime.fromtimestamp(stamp // SECOND, UTC).replace(microsecond=stamp % SECOND)
    except (OverflowError, ValueError, OSError):
        return f"{stamp} µs since 1970"
    return (moment.astimezone(zone_of(zone)) if zone else moment.replace(tzinfo=None)).isoformat(sep=" ")


def zone_of(name: str) -> ZoneInfo:
    """The time zone of a name; UsageError where there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageError(
            f"timezone={name!r} is not known here: expected a name such as 'Europe/Paris' "
            "(where the system has no time zones: pip install tzdata)"
        ) from error


def to_local(stamps: np.ndarray, zone: str | None) -> np.ndarray:
    """Microseconds in UTC to microseconds of the local clock; without a zone they stay as they are."""
    return stamps if zone in (None, "UTC") else stamps + offsets(stamps, zone, from_local=False)


def to_utc(local: np.ndarray, zone: str | None) -> np.ndarray:
    """Microseconds of the local clock to UTC; of an hour that comes twice, the first."""
    return local if zone in (None, "UTC") else local - offsets(local, zone, from_local=True)


def offsets(stamps: np.ndarray, zone: str | None, *, from_local: bool) -> np.ndarray:
    """The offset from UTC at each stamp, in microseconds; looked up once for each quarter of an hour."""
    assert zone is not None
    place = zone_of(zone)
    quarters, where = np.unique(stamps // QUARTER, return_inverse=True)
    found = np.empty(len(quarters), np.int64)
    for row, quarter in enumerate(quarters.tolist()):
        moment = datetime.fromtimestamp(quarter * QUARTER // SECOND, UTC)
        moment = moment.replace(tzinfo=place) if from_local else moment.astimezone(place)
        offset = moment.utcoffset()
        assert offset is not None
        found[row] = round(offset.total_seconds() * SECOND)
    return found[where]


def months_of(stamps: np.ndarray) -> np.ndarray:
    """Months since 1970 of microseconds."""
    return stamps.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)


def month_start(months: np.ndarray) -> np.ndarray:
    """Microseconds at the start of months since 1970."""
    return months.astype("datetime64[M]").astype("datetime64[us]").astype(np.int64)


POSITIONS: dict[str, Callable[[Clock, np.ndarray], np.ndarray]] = {
    "index": lambda clock, stamps: stamps,
    "time": lambda clock, stamps: stamps,
    "wall": lambda clock, stamps: to_local(stamps, clock.zone),
    "months": lambda clock, stamps: months_of(to_local(stamps, clock.zone)),
}
STAMPS: dict[str, Callable[[Clock, np.ndarray], np.ndarray]] = {
    "index": lambda clock, positions: positions,
    "time": lambda clock, positions: positions,
    "wall": lambda clock, positions: to_utc(positions, clock.zone),
    "months": lambda clock, positions: to_utc(month_start(positions + (clock.anchor < 0)) + clock.anchor, clock.zone),
}


def angles(turns: np.ndarray) -> np.ndarray:
    """Sine and cosine of a share of a turn, once and twice around, [rows, 4]."""
    full = 2 * np.pi * turns
    return np.stack([np.sin(full), np.cos(full), np.sin(2 * full), np.cos(2 * full)], axis=1)


def time_of_day(local: np.ndarray) -> np.ndarray:
    """Where in the day, as angles."""
    return angles(local % DAY / DAY)


def day_of_week(local: np.ndarray) -> np.ndarray:
    """Seven columns, one of them 1: Monday first."""
    # 1970-01-01 was a Thursday.
    return np.eye(7)[(local // DAY + 3) % 7]


def time_of_year(local: np.ndarray) -> np.ndarray:
    """Where in the year, as angles."""
    moments = local.astype("datetime64[us]")
    year = moments.astype("datetime64[Y]")
    start = year.astype("datetime64[us]").astype(np.int64)
    end = (year + 1).astype("datetime64[us]").astype(np.int64)
    return angles((local - start) / (end - start))


@dataclass(frozen=True)
class CalendarPart:
    """Features that tell where in a cycle a time lies; of no use where a step is as long as `longest_step`."""

    cycle: str
    length: int
    longest_step: int
    names: tuple[str, ...]
    features: Callable[[np.ndarray], np.ndarray]


WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
CALENDAR = (
    CalendarPart("day", DAY, DAY, tuple(f"time of day {n}" for n in range(4)), time_of_day),
    CalendarPart("week", WEEK, WEEK, WEEKDAYS, day_of_week),
    CalendarPart("year", YEAR, YEAR, tuple(f"time of year {n}" for n in range(4)), time_of_year),
)


def cycles_within(span: int) -> tuple[str, ...]:
    """The cycles that come whole within so many microseconds; of half a cycle nothing can be learned for the rest."""
    return tuple(part.cycle for part in CALENDAR if part.length <= span)


def calendar_parts(clock: Clock) -> list[tuple[tuple[str, ...], Callable[[np.ndarray], np.ndarray]]]:
    """The calendar features that make sense at this step, with the names of their columns."""
    if clock.kind == "index":
        return []
    step = clock.step if clock.kind != "months" else YEAR // 12
    return [(part.names, part.features) for part in CALENDAR if part.cycle in clock.cycles and step < part.longest_step]


def calendar_names(clock: Clock) -> tuple[str, ...]:
    """The names of the calendar features."""
    return tuple(name for names, _ in calendar_parts(clock) for name in names)


def find_clock(series: list[np.ndarray], zone: str | None, *, index: bool) -> Clock:
    """The grid that the stamps of all series lie on.

    Args:
        series: for each series its stamps, ascending and different: whole numbers, or microseconds in UTC.
        zone: the time zone of the stamps, or None.
        index: whether the stamps are whole numbers.

    Returns:
        The clock whose grid fits every stamp; where none does, the one whose step is the commonest distance.
    """
    if index:
        return Clock("index", commonest_step(series))
    clocks = [Clock("time", commonest_step(series), zone=zone)]
    local = [to_local(stamps, zone) for stamps in series]
    day_steps = commonest_step(local)
    if zone is not None and day_steps % DAY == 0:
        clocks.append(Clock("wall", day_steps, zone=zone))
    anchor = month_anchor(np.concatenate(local))
    if anchor is not None:
        clocks.append(Clock("months", commonest_step([months_of(stamps) for stamps in local]), anchor, zone))
    # A grid without holes is better than one with holes; of equals the first.
    holes = [sum(count_holes(clock, stamps) for stamps in series) for clock in clocks]
    return clocks[int(np.argmin(holes))]


def commonest_step(series: list[np.ndarray]) -> int:
    """The distance of neighbouring stamps that comes most often; 1 where there is none."""
    distances = np.concatenate([np.diff(stamps) for stamps in series]) if series else np.zeros(0, np.int64)
    distances = distances[distances > 0]
    if not len(distances):
        return 1
    values, counts = np.unique(distances, return_counts=True)
    return int(values[np.argmax(counts)])


def count_holes(clock: Clock, stamps: np.ndarray) -> int:
    """How often the distance of neighbouring stamps is not one step."""
    return int((np.diff(clock.positions(stamps)) != clock.step).sum())


def month_anchor(local: np.ndarray) -> int | None:
    """Where in its month every stamp lies: from its start, or before its end (negative); None where they differ."""
    months = months_of(local)
    for reference in (month_start(months), month_start(months + 1)):
        distance = np.unique(local - reference)
        if len(distance) == 1 and len(np.unique(months)) == len(np.unique(local)):
            return int(distance[0])
    return None
