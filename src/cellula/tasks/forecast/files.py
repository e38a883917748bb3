"""Tables from files and back: CSV and Parquet, compressed too."""

from __future__ import annotations

import bz2
import csv as plain_csv
import gzip
import io
import lzma
import re
import zipfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import narwhals as nw
import pyarrow
from pyarrow import csv, parquet

from cellula.errors import DataError
from cellula.tasks.atomic import write_atomic

__all__ = ["FORMATS", "read_table", "to_csv", "to_rows", "write_table"]

_TEXT = {".csv": ",", ".tsv": "\t", ".txt": ","}
_PARQUET = (".parquet", ".pq")
_SHEETS = (".xlsx", ".xls", ".ods")
_UNPACK: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": lambda path: pyarrow.input_stream(str(path), compression="zstd"),
    ".zip": lambda path: _only_member(path),
}
FORMATS = f"{', '.join((*_TEXT, *_PARQUET))}; CSV also packed as {', '.join(_UNPACK)}"


def read_table(path: str | Path) -> pyarrow.Table:
    """Read a table of numbers, times and names.

    Args:
        path: a CSV file with a line of column names (`.csv`, `.tsv`, also packed: `.csv.gz`, `.csv.zip`, ...), or a
            Parquet file. `NA`, `NaN`, `null` and empty fields are missing values.

    Returns:
        The table.

    Raises:
        DataError: there is no such file, it is empty, or it is not what its name says.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path} is a folder; expected a file ({FORMATS})")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes[-1:] and suffixes[-1] in _UNPACK
    kind = (suffixes[-2:-1] if packed else suffixes[-1:]) or [".csv" if packed else ""]
    if kind[0] in _SHEETS:
        raise DataError(f"{path} is a spreadsheet: save it as CSV; expected {FORMATS}")
    if kind[0] not in _TEXT and kind[0] not in _PARQUET:
        raise DataError(f"{path}: cannot tell what this file is from its name; expected {FORMATS}")
    try:
        with _UNPACK[suffixes[-1]](path) if packed else path.open("rb") as file:
            data = file.read()
        if not data.strip():
            raise DataError(f"{path} is empty; expected a table with a line of column names")
        table = _parse(data, kind[0])
    except (OSError, EOFError, zipfile.BadZipFile, lzma.LZMAError, pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise DataError(_explain(path, error)) from error
    if table.num_rows == 0:
        raise DataError(f"{path} has column names ({', '.join(table.column_names[:8])}) but no rows")
    return table


def write_table(path: str | Path, frame: Any) -> None:
    """Write a dataframe as CSV or Parquet, whole or not at all.

    Args:
        path: ending in `.csv`, `.tsv` or `.parquet`.
        frame: a dataframe of any kind.

    Raises:
        DataError: the ending says nothing.
        RunError: the file cannot be written.
    """
    path = Path(path)
    kind, buffer = path.suffix.lower(), io.BytesIO()
    if kind in _PARQUET:
        parquet.write_table(nw.from_native(frame, eager_only=True).to_arrow(), buffer)
    elif kind in _TEXT:
        buffer.write(to_csv(frame, _TEXT[kind]).encode())
    else:
        raise DataError(f"{path}: cannot tell what to write from the name; expected .csv, .tsv or .parquet")
    write_atomic(path, buffer.getvalue())


def to_csv(frame: Any, delimiter: str = ",") -> str:
    """A dataframe as CSV text; numbers with seven digits, times in ISO form."""
    rows, buffer = to_rows(frame), io.StringIO()
    writer = plain_csv.writer(buffer, delimiter=delimiter, lineterminator="\n")
    writer.writerow(nw.from_native(frame, eager_only=True).columns)
    for row in rows:
        writer.writerow([f"{value:.7g}" if isinstance(value, float) else value for value in row.values()])
    return buffer.getvalue()


def to_rows(frame: Any) -> list[dict[str, Any]]:
    """A dataframe as a list of plain rows for JSON; times in ISO form."""
    rows = nw.from_native(frame, eager_only=True).rows(named=True)
    return [{k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items()} for row in rows]


def _parse(data: bytes, kind: str) -> pyarrow.Table:
    if kind in _PARQUET:
        return parquet.read_table(io.BytesIO(data))
    options = csv.ParseOptions(delimiter=_delimiter(data, _TEXT[kind]))
    nulls = ["", "NA", "NaN", "nan", "N/A", "null", "NULL", "None"]
    convert = csv.ConvertOptions(null_values=nulls, strings_can_be_null=True)
    table = csv.read_csv(io.BytesIO(data), parse_options=options, convert_options=convert)
    if options.delimiter != "," and any(_has_decimal_commas(column) for column in table.columns):
        convert.decimal_point = ","
        table = csv.read_csv(io.BytesIO(data), parse_options=options, convert_options=convert)
    if any(pyarrow.types.is_binary(column.type) for column in table.columns):
        raise UnicodeDecodeError("utf-8", data[:0], 0, 0, "a column is not UTF-8")
    return table


def _has_decimal_commas(column: pyarrow.ChunkedArray) -> bool:
    """Whether a column of text holds numbers such as 21,5 and nothing else."""
    if not pyarrow.types.is_string(column.type) or column.null_count == len(column):
        return False
    number = re.compile(r"[+-]?\d*(,\d+)?([eE][+-]?\d+)?")
    return all(text is None or number.fullmatch(text) for text in column.to_pylist())


def _delimiter(data: bytes, usual: str) -> str:
    """The usual delimiter, or the one that the line of names uses instead (`;` in many countries)."""
    head = data[:4096].split(b"\n", 1)[0].decode("utf-8-sig")
    if usual in head:
        return usual
    try:
        return plain_csv.Sniffer().sniff(head, ";\t,|").delimiter
    except plain_csv.Error:
        return usual


def _only_member(path: Path) -> IO[bytes]:
    """The one file in a zip archive."""
    archive = zipfile.ZipFile(path)
    members = [name for name in archive.namelist() if not name.endswith("/")]
    if len(members) != 1:
        raise DataError(f"{path} holds {len(members)} files; expected one table")
    return archive.open(members[0])


def _explain(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{path}: there is no such file"
    if isinstance(error, UnicodeDecodeError) or "UTF8" in str(error):
        return f"{path} is not written in UTF-8; save it so (in a spreadsheet: CSV UTF-8), or convert it with iconv"
    reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
    return f"{path} cannot be read as a table: {reason}"
