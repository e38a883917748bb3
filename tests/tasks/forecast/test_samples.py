"""The weather that ships is what SOURCE.md says, and the script that made it does what it says."""

import gzip
import hashlib
import importlib.util
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from cellula.tasks.forecast.samples import SAMPLE, load_sample

ROOT = Path(__file__).parents[3]
DATA = ROOT / "src/cellula/tasks/forecast/data"


def test_every_airport_has_every_hour_and_nothing_is_missing():
    table = load_sample()
    assert table.column_names == [SAMPLE.series, SAMPLE.time, *SAMPLE.units]
    assert all(column.null_count == 0 for column in table.columns)
    airports = table.column(SAMPLE.series).to_numpy(zero_copy_only=False)
    hours = table.column(SAMPLE.time).to_numpy()
    for airport in ("EWR", "JFK", "LGA"):
        steps = np.diff(hours[airports == airport])
        assert len(steps) == 8729 and (steps == np.timedelta64(1, "h")).all()


def test_the_values_are_in_the_units_that_are_claimed():
    table = load_sample()
    ranges = {
        "temperature": (-15, 40),
        "dew_point": (-30, 30),
        "humidity": (0, 100),
        "pressure": (960, 1060),
        "wind_speed": (0, 30),
        "precipitation": (0, 60),
        "visibility": (0, 17),
    }
    for name, (low, high) in ranges.items():
        values = table.column(name).to_numpy()
        assert low <= values.min() and values.max() <= high, name
    east, north = table.column("wind_east").to_numpy(), table.column("wind_north").to_numpy()
    # Filled hours aside, the components make up the speed to within their rounding.
    assert np.median(np.abs(np.hypot(east, north) - table.column("wind_speed").to_numpy())) < 0.1


def test_source_md_names_every_column_and_the_hash_of_the_text():
    page = (DATA / "SOURCE.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in load_sample().column_names)
    assert hashlib.sha256(gzip.decompress((DATA / SAMPLE.file).read_bytes())).hexdigest() in page
    assert "CC0" in page and SAMPLE.licence.startswith("CC0")


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("make_weather_sample", ROOT / "tools" / "make_weather_sample.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ROWS = """origin,temp,dewp,humid,wind_dir,wind_speed,precip,pressure,visib,time_hour
EWR,50,32,50,270,10,0,1000,10,2013-02-12T07:00:00Z
EWR,50,32,50,270,1048.36058,0,,10,2013-02-12T08:00:00Z
EWR,59,41,60,180,20,0.1,1004,10,2013-02-12T10:00:00Z
JFK,57,49,74,170,10,0,1000,10,2013-05-09T01:00:00Z
JFK,13.1,12.02,95,80,10,0,1000,10,2013-05-09T02:00:00Z
JFK,59,51,76,170,10,0,1000,10,2013-05-09T03:00:00Z
"""


def test_the_script_fills_gaps_by_the_stated_rule(tool, tmp_path):
    archive = tmp_path / "source.tar.gz"
    with tarfile.open(archive, "w:gz") as target:
        info = tarfile.TarInfo(tool.MEMBER)
        info.size = len(ROWS)
        target.addfile(info, io.BytesIO(ROWS.encode()))
    text = list(tool.lines(tool.read_source(archive)))
    header = text[0].split(",")
    rows = {tuple(line.split(",")[:2]): dict(zip(header, line.split(","), strict=True)) for line in text[1:]}
    newark = [rows["EWR", f"2013-02-12T{hour:02}:00:00Z"] for hour in (7, 8, 9, 10)]
    assert [row["temperature"] for row in newark] == ["10", "10", "12.5", "15"]
    assert [row["pressure"] for row in newark] == ["1000", "1001.3", "1002.7", "1004"]
    assert [row["wind_speed"] for row in newark] == ["4.5", "6", "7.5", "8.9"]
    # From the west is towards the east; from the south is towards the north.
    assert (newark[0]["wind_east"], newark[0]["wind_north"]) == ("4.5", "0")
    assert (newark[3]["wind_east"], newark[3]["wind_north"]) == ("0", "8.9")
    assert rows["JFK", "2013-05-09T02:00:00Z"]["temperature"] == "14.4"
