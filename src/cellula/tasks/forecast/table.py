"""Any dataframe or array as plain numbers: which column is what, and where each number stood."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

import narwhals as nw
import numpy as np

from cellula.errors import DataError, UsageError

__all__ = ["Columns", "Origin", "Panel", "columns_of_times", "find_columns", "read_frame", "read_panel", "write_frame"]

# A number written as text.
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
# The names by which a column is known where the user gives none.
USUAL = {"time": "ds", "series": "unique_id", "target": "y"}
# `past="rest"` stands for every column that has no other part.
REST = "rest"


@dataclass(frozen=True)
class Columns:
    """The part that each column plays.

    Args:
        time: the column of stamps; None where the rows are only numbered.
        series: the column that tells several series apart, or None.
        targets: what is forecast.
        past: covariates that are known up to now only.
        known: covariates known ahead.
    """

    time: str | None
    series: str | None
    targets: tuple[str, ...]
    past: tuple[str, ...]
    known: tuple[str, ...]

    @property
    def numbers(self) -> tuple[str, ...]:
        """Every column of numbers, in the order of `Panel.values`."""
        return self.targets + self.past + self.known


@dataclass(frozen=True)
class Origin:
    """What the data came as, so that a forecast can be given back in the same form."""

    backend: Any = None
    time_type: Any = None
    zone: str | None = None
    index: bool = True


@dataclass(frozen=True)
class Panel:
    """The rows of all series, one series after the other.

    Args:
        names: the series, S.
        starts: where each begins and, last, where the last one ends, [S + 1].
        stamps: whole numbers, or microseconds since 1970 in UTC, [R].
        values: the columns of numbers, float64, [R, C]; missing ones are NaN.
        rows: the row of the data as it was given, counting from 0, [R]; -1 for a row that was put in.
        columns: which column is what.
        origin: what the data came as.
    """

    names: tuple[Any, ...]
    starts: np.ndarray
    stamps: np.ndarray
    values: np.ndarray
    rows: np.ndarray
    columns: Columns
    origin: Origin

    def parts(self) -> Iterable[tuple[Any, slice]]:
        """The name of each series and its rows."""
        for number, name in enumerate(self.names):
            yield name, slice(int(self.starts[number]), int(self.starts[number + 1]))

    def place(self, row: int, name: Any) -> str:
        """Where a row stands, in words."""
        where = f"row {self.rows[row]} (counting from 0)" if self.rows[row] >= 0 else "a row that was put in"
        return f"{where} of series {name!r}" if self.columns.series else where


def read_frame(data: Any) -> nw.DataFrame[Any]:
    """Any eager dataframe as a narwhals one.

    Raises:
        DataError: where it is none, or two columns have one name.
    """
    try:
        frame = nw.from_native(data)
        columns = frame.collect_schema().names()
    except (TypeError, ValueError) as error:
        raise DataError(
            f"the data is {type(data).__name__}: expected a dataframe (pandas, polars, a pyarrow table, ...) "
            "or a numpy array"
        ) from error
    if isinstance(frame, nw.LazyFrame):
        raise DataError("the data is a lazy frame: give data.collect() instead")
    for name in columns:
        if not isinstance(name, str):
            raise DataError(f"the column name {name!r} is {type(name).__name__}: expected text; rename the column")
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise DataError(f"two columns are named {twice!r}: rename one")
    return frame


def array_names(count: int) -> tuple[str, ...]:
    """The names of an array's columns: `y` where there is one, else their numbers."""
    return ("y",) if count == 1 else tuple(str(number) for number in range(count))


def find_columns(
    data: Any,
    *,
    target: str | Sequence[str] | None,
    time: str | None,
    series: str | None,
    past: str | Sequence[str],
    known: str | Sequence[str],
) -> Columns:
    """Which column plays which part: as given, else by its usual name.

    Raises:
        DataError: where a column is missing; the nearest name is suggested.
        UsageError: where a column has two parts.
    """
    if isinstance(data, np.ndarray):
        present = array_names(1 if data.ndim < 2 else data.shape[1])
        # Every column of an array is a target unless told otherwise.
        targets = names_of(target) or tuple(n for n in present if n not in (*names_of(past), *names_of(known)))
    else:
        present = tuple(read_frame(data).columns)
        time = time or (USUAL["time"] if USUAL["time"] in present else None)
        if time is None:
            refuse_times_in_index(data)
        series = series or (USUAL["series"] if USUAL["series"] in present else None)
        targets = names_of(target) or usual_target(present)
    ahead = names_of(known)
    rest = tuple(name for name in present if name not in {time, series, *targets, *ahead})
    columns = Columns(time, series, targets, rest if past == REST else names_of(past), ahead)
    refuse_missing(columns, present)
    return columns


def columns_of_times(data: Any) -> tuple[str, ...]:
    """The columns of a dataframe that hold times; none of an array."""
    if isinstance(data, np.ndarray):
        return ()
    frame = read_frame(data)
    return tuple(name for name in frame.columns if frame[name].dtype in (nw.Datetime, nw.Date))


def refuse_times_in_index(data: Any) -> None:
    """DataError where a pandas index holds the times: they would be lost without a word."""
    index = getattr(data, "index", None)
    if type(index).__name__ in ("DatetimeIndex", "PeriodIndex"):
        name = getattr(index, "name", None) or "index"
        raise DataError(f"the times are in the index: give data.reset_index() and time={name!r}")


def names_of(given: str | int | Sequence[str] | None) -> tuple[str, ...]:
    """One name, several or none, as a tuple."""
    if given is None:
        return ()
    return (str(given),) if isinstance(given, (str, int)) else tuple(str(name) for name in given)


def usual_target(present: Sequence[str]) -> tuple[str, ...]:
    """The column `y`; UsageError where there is none."""
    if USUAL["target"] in present:
        return (USUAL["target"],)
    raise UsageError(f"no target was given and there is no column 'y': give target=, one of {listed(present)}")


def listed(names: Sequence[str]) -> str:
    """Names in words, cut where there are many."""
    shown = ", ".join(repr(name) for name in names[:20])
    return shown if len(names) <= 20 else f"{shown}, ... ({len(names)} columns)"


def refuse_missing(columns: Columns, present: Sequence[str]) -> None:
    """Errors for columns that are not there, or are given two parts."""
    parts: dict[str, str] = {}
    roles = [("time", columns.time), ("series", columns.series)]
    roles += [("target", name) for name in columns.targets]
    roles += [("past", name) for name in columns.past] + [("known", name) for name in columns.known]
    for role, name in roles:
        if name is None:
            continue
        if name not in present:
            near = difflib.get_close_matches(name, present, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {listed(present)}"
            raise DataError(f"there is no column {name!r} (given as {role}): {hint}")
        if name in parts:
            raise UsageError(f"column {name!r} is given as {parts[name]} and as {role}: give it one part")
        parts[name] = role


def read_panel(data: Any, columns: Columns) -> Panel:
    """Reads a dataframe or an array; order and distance of the stamps are not checked here.

    Args:
        data: a dataframe with the columns, or an array, [rows] or [rows, columns].
        columns: which column is what.

    Raises:
        DataError: where a column is missing or of a wrong type, or a number is infinite.
    """
    if isinstance(data, np.ndarray):
        return read_array(data, columns)
    frame = read_frame(data)
    present = frame.columns
    refuse_missing(columns, present)
    if len(frame) == 0:
        raise DataError("the data has no rows")
    values = np.stack([read_numbers(frame[name]) for name in columns.numbers], axis=1)
    refuse_infinite(values, columns)
    if columns.time is None:
        stamps, origin = np.arange(len(frame)), Origin(frame.implementation)
    else:
        stamps, origin = read_stamps(frame[columns.time], frame.implementation)
    if columns.series is None:
        return Panel(("",), np.array([0, len(frame)]), stamps, values, np.arange(len(frame)), columns, origin)
    names, codes = read_series(frame[columns.series])
    if columns.time is None:
        raise UsageError("several series need a time column: give time=")
    order = np.argsort(codes, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(names)))])
    return Panel(names, starts, stamps[order], values[order], order, columns, origin)


def read_array(data: np.ndarray, columns: Columns) -> Panel:
    """An array: its rows are numbered from 0."""
    if data.ndim not in (1, 2) or data.size == 0:
        raise DataError(f"the array has shape {list(data.shape)}: expected [rows] or [rows, columns], not empty")
    if data.dtype.kind not in "biuf":
        raise DataError(f"the array holds {data.dtype}: expected numbers")
    table = data.astype(np.float64).reshape(len(data), -1)
    present = array_names(table.shape[1])
    refuse_missing(columns, present)
    values = table[:, [present.index(name) for name in columns.numbers]]
    refuse_infinite(values, columns)
    rows = np.arange(len(values))
    return Panel(("",), np.array([0, len(values)]), rows, values, rows, columns, Origin())


def read_numbers(column: nw.Series[Any]) -> np.ndarray:
    """A column of numbers as float64; missing ones are NaN."""
    if not (column.dtype.is_numeric() or column.dtype == nw.Boolean):
        values = column.to_list()
        if any(value is not None and not is_number(value) for value in values):
            raise no_numbers(column.name, values)
        return np.array([np.nan if v is None else float(v) for v in values])
    return np.asarray(column.cast(nw.Float64).to_numpy(), dtype=np.float64)


def no_numbers(name: str, values: list[Any]) -> DataError:
    """The error for a column with text: the first one that cannot be read as a number is the culprit."""
    texts = [(row, value) for row, value in enumerate(values) if value is not None and not is_number(value)]
    row, value = next(((r, v) for r, v in texts if not (isinstance(v, str) and NUMBER.fullmatch(v))), texts[0])
    where = f"column {name!r} holds {value!r} in row {row} (counting from 0): expected numbers"
    if isinstance(value, str) and NUMBER.fullmatch(value):
        return DataError(f"{where}; these are numbers written as text: convert the column")
    if isinstance(value, str) and NUMBER.fullmatch(value.replace(",", ".", 1)):
        return DataError(f"{where}; with a decimal comma they are text: convert the column")
    if len(texts) <= len(values) // 2 or any(isinstance(v, str) and NUMBER.fullmatch(v) for _, v in texts):
        return DataError(f"{where}; mend it, or leave it empty and say missing=")
    return DataError(f"{where}; turn a text with few values into one column of 0 and 1 for each value")


def is_number(value: object) -> bool:
    """Whether a loose value is a number."""
    return isinstance(value, (bool, int, float, np.number, np.bool_))


def refuse_infinite(values: np.ndarray, columns: Columns) -> None:
    """DataError at the first infinite number."""
    bad = np.argwhere(np.isinf(values))
    if len(bad):
        row, column = bad[0]
        raise DataError(
            f"column {columns.numbers[column]!r} is {values[row, column]} in row {row} (counting from 0): "
            "expected a finite number; mend it, or leave it empty and say missing="
        )


def read_series(column: nw.Series[Any]) -> tuple[tuple[Any, ...], np.ndarray]:
    """The names of the series in the order in which they come, and the number of each row's series."""
    numbers: dict[Any, int] = {}
    codes = np.empty(len(column), np.int64)
    for row, value in enumerate(column.to_list()):
        if value is None or value != value:
            raise DataError(f"column {column.name!r} is empty in row {row} (counting from 0): expected a series name")
        name = value if isinstance(value, (str, int)) and not isinstance(value, bool) else str(value)
        codes[row] = numbers.setdefault(name, len(numbers))
    return tuple(numbers), codes


def read_stamps(column: nw.Series[Any], backend: Any) -> tuple[np.ndarray, Origin]:
    """A time column as whole numbers or microseconds in UTC."""
    empty = column.is_null().to_numpy()
    if empty.any():
        raise DataError(f"column {column.name!r} has no time in row {int(np.argmax(empty))} (counting from 0)")
    kind = column.dtype
    if kind.is_integer():
        return np.asarray(column.to_numpy(), dtype=np.int64), Origin(backend, kind)
    if kind == nw.Datetime:
        zone = getattr(kind, "time_zone", None)
        return microseconds(column), Origin(backend, kind, zone, index=False)
    if kind == nw.Date:
        return microseconds(column.cast(nw.Datetime("us"))), Origin(backend, kind, index=False)
    stamps, zone = parse_stamps(column)
    return stamps, Origin(backend, nw.Datetime("us", zone), zone, index=False)


def microseconds(column: nw.Series[Any]) -> np.ndarray:
    """Microseconds since 1970 in UTC of a column of times."""
    return np.asarray(column.dt.timestamp("us").to_numpy(), dtype=np.int64)


def parse_stamps(column: nw.Series[Any]) -> tuple[np.ndarray, str | None]:
    """Times written as text, or as Python's own objects."""
    stamps = np.empty(len(column), np.int64)
    epoch, zoned = datetime(1970, 1, 1, tzinfo=UTC), None
    for row, value in enumerate(column.to_list()):
        moment = parse_moment(value)
        if moment is None:
            raise DataError(
                f"column {column.name!r} holds {value!r} in row {row} (counting from 0): "
                "expected a time such as 2013-01-31 14:00 (the year first), a date, or whole numbers"
            )
        if zoned is None:
            zoned = moment.tzinfo is not None
        if zoned != (moment.tzinfo is not None):
            raise DataError(
                f"column {column.name!r}, row {row} (counting from 0): {value!r} "
                f"has {'no' if zoned else 'a'} time zone, unlike the rows before"
            )
        passed = moment.replace(tzinfo=moment.tzinfo or UTC) - epoch
        stamps[row] = (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds
    return stamps, "UTC" if zoned else None


def parse_moment(value: object) -> datetime | None:
    """A time out of ISO text or a Python date; None where it is neither."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime.combine(value, time())
    try:
        return datetime.fromisoformat(value.strip()) if isinstance(value, str) else None
    except ValueError:
        return None


def write_frame(columns: dict[str, np.ndarray], time: str | None, origin: Origin) -> Any:
    """Columns of numbers as a dataframe of the kind that the data was; a dict of arrays for an array.

    Args:
        columns: by name, [rows]; the time column as `Panel.stamps`.
        time: the name of the time column.
        origin: what the data came as.
    """
    if origin.backend is None:
        return columns
    plain = dict(columns)
    if time is not None and not origin.index:
        plain[time] = columns[time].astype("datetime64[us]")
    frame = nw.from_dict({name: list_if_text(values) for name, values in plain.items()}, backend=origin.backend)
    if time is None or origin.index:
        return frame.to_native()
    stamps = frame[time]
    if origin.zone is not None:
        stamps = stamps.dt.replace_time_zone("UTC").dt.convert_time_zone(origin.zone)
    return frame.with_columns(stamps.cast(origin.time_type).alias(time)).to_native()


def list_if_text(values: np.ndarray) -> Any:
    """Object arrays as lists, which every kind of dataframe takes."""
    return values.tolist() if values.dtype == object else values
