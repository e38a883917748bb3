"""Tables come back from files as they were, whatever the format; what is no table is refused by name."""

import bz2
import gzip
import lzma
import zipfile

import pyarrow
import pytest
from pyarrow import parquet

from cellula import DataError, RunError
from cellula.tasks.forecast.files import read_table, to_csv, to_rows, write_table
from cellula.tasks.forecast.job import backtest_run, next_run

TABLE = pyarrow.table({"when": ["2024-01-01", "2024-01-02", "2024-01-03"], "y": [1.5, None, -2.25], "n": [1, 2, 3]})
TEXT = b"when,y,n\n2024-01-01,1.5,1\n2024-01-02,NA,2\n2024-01-03,-2.25,3\n"


def zipped(path, data, *more):
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("table.csv", *more):
            archive.writestr(name, data)


PACKED = {
    "t.csv": lambda path: path.write_bytes(TEXT),
    "t.CSV": lambda path: path.write_bytes(TEXT),
    "t.tsv": lambda path: path.write_bytes(TEXT.replace(b",", b"\t")),
    "semicolons.csv": lambda path: path.write_bytes(TEXT.replace(b",", b";")),
    "decimal_commas.csv": lambda path: path.write_bytes(TEXT.replace(b",", b";").replace(b".", b",")),
    "decimal_commas.tsv": lambda path: path.write_bytes(TEXT.replace(b",", b"\t").replace(b".", b",")),
    "byte_order_mark.csv": lambda path: path.write_bytes(b"\xef\xbb\xbf" + TEXT),
    "t.csv.gz": lambda path: path.write_bytes(gzip.compress(TEXT, mtime=0)),
    "t.csv.bz2": lambda path: path.write_bytes(bz2.compress(TEXT)),
    "t.csv.xz": lambda path: path.write_bytes(lzma.compress(TEXT)),
    "t.csv.zst": lambda path: path.write_bytes(pyarrow.compress(TEXT, "zstd", asbytes=True)),
    "t.csv.zip": lambda path: zipped(path, TEXT),
    "t.zip": lambda path: zipped(path, TEXT),
    "t.parquet": lambda path: parquet.write_table(TABLE, path),
}


@pytest.mark.parametrize("name", PACKED)
def test_every_format_gives_the_same_numbers(tmp_path, name):
    PACKED[name](tmp_path / name)
    table = read_table(tmp_path / name)
    assert table.column_names == ["when", "y", "n"]
    assert table["y"].to_pylist() == [1.5, None, -2.25] and table["n"].to_pylist() == [1, 2, 3]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.parquet"])
def test_what_is_written_is_read_again(tmp_path, name):
    write_table(tmp_path / name, TABLE)
    assert read_table(tmp_path / name)["y"].to_pylist() == TABLE["y"].to_pylist()


def test_text_and_rows():
    assert to_csv(TABLE).splitlines()[1:3] == ["2024-01-01,1.5,1", "2024-01-02,,2"]
    assert to_rows(TABLE)[2] == {"when": "2024-01-03", "y": -2.25, "n": 3}


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("t.csv", None, "there is no such file"),
        ("t.xlsx", TEXT, "is a spreadsheet: save it as CSV"),
        ("t.dat", TEXT, "cannot tell what this file is"),
        ("t.csv", b"", "is empty"),
        ("t.csv", b" \n\n", "is empty"),
        ("t.csv", TEXT.decode().encode("utf-16"), "is not written in UTF-8"),
        ("t.csv", "Größe,y\n1,2\n".encode("latin-1"), "is not written in UTF-8"),
        ("t.csv", "name,y\nKöln,2\n".encode("latin-1"), "is not written in UTF-8"),
        ("t.csv", b"a,b\n", "no rows"),
        ("t.csv", b"a,b\n1,2\n3\n", "cannot be read as a table"),
        ("t.csv.gz", TEXT, "cannot be read as a table"),
        ("t.csv.gz", gzip.compress(TEXT * 99, mtime=0)[:40], "cannot be read as a table"),
        ("t.csv.xz", TEXT, "cannot be read as a table"),
        ("t.zip", TEXT, "cannot be read as a table"),
        ("t.parquet", TEXT, "cannot be read as a table"),
    ],
    ids=[
        "missing",
        "sheet",
        "unknown",
        "empty",
        "blank",
        "utf-16",
        "latin-1-name",
        "latin-1-value",
        "no-rows",
        "ragged",
        "not-gz",
        "cut-gz",
        "not-xz",
        "not-zip",
        "not-parquet",
    ],
)
def test_what_is_no_table_is_refused(tmp_path, name, write, message):
    if write is not None:
        (tmp_path / name).write_bytes(write)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / name)


def test_commas_within_text_stay(tmp_path):
    (tmp_path / "t.csv").write_text("a;b\n1,5;x,y\n2,5;z\n")
    table = read_table(tmp_path / "t.csv")
    assert table["a"].to_pylist() == [1.5, 2.5] and table["b"].to_pylist() == ["x,y", "z"]


def test_a_folder_and_an_archive_of_several_files_are_refused(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for folder in (tmp_path / "folder.csv", tmp_path):
        with pytest.raises(DataError, match="is a folder"):
            read_table(folder)
    zipped(tmp_path / "two.zip", TEXT, "other.csv")
    with pytest.raises(DataError, match="holds 2 files"):
        read_table(tmp_path / "two.zip")


def test_a_file_that_cannot_be_written_is_said(tmp_path):
    with pytest.raises(DataError, match="cannot tell what to write"):
        write_table(tmp_path / "t.xls", TABLE)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file"):
        write_table(tmp_path / "file" / "t.csv", TABLE)


def test_runs_are_numbered_past_those_that_exist(tmp_path):
    (tmp_path / "forecast-1").mkdir()
    assert next_run(tmp_path, "forecast") == tmp_path / "forecast-2"
    assert next_run(tmp_path / "none", "forecast").name == "forecast-1"


def test_a_backtest_of_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError):
        backtest_run(tmp_path)
