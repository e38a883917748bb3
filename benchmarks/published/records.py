"""Results row by row: each is saved as soon as it is known, and what is there is not run again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers.machine import machine
from tqdm import tqdm

from cellula.errors import DataError
from cellula.tasks.atomic import write_atomic
from cellula.tasks.plain import json_text, plain

__all__ = ["RESULTS", "Records", "Row", "run_cases"]

RESULTS = Path(__file__).resolve().parents[1] / "results"
Row = dict[str, Any]
Case = Mapping[str, Any]


@dataclass(frozen=True)
class Records:
    """The rows of one experiment in a JSON file.

    Args:
        path: the file; its folder is made where it is missing.
    """

    path: Path

    def rows(self) -> list[Row]:
        """All rows that are saved.

        Raises:
            DataError: the file is no list of rows.
        """
        if not self.path.exists():
            return []
        try:
            rows = json.loads(self.path.read_text(encoding="utf-8"))["rows"]
            assert all(isinstance(row["case"], dict) for row in rows)
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            raise DataError(f"{self.path} is no file of results ({error!r}): move it away, or name another") from error
        return rows

    def has(self, case: Case) -> bool:
        """Is there a row for exactly this case?"""
        return any(row["case"] == plain(case) for row in self.rows())

    def add(self, case: Case, found: Mapping[str, Any]) -> None:
        """Save a row; it takes the place of an earlier one for the same case."""
        row = {"case": plain(case), **found}
        rows = [other for other in self.rows() if other["case"] != row["case"]]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, json_text({"rows": [*rows, row]}).encode())


def run_cases(
    records: Records, cases: Iterable[Case], run: Callable[[Case, tqdm], Mapping[str, Any]], *, again: bool = False
) -> None:
    """Run every case that has no row yet, save it, and print one line about each.

    Args:
        records: where the rows are and go.
        cases: what names a row, as plain values: the cell, the seed, the recipe.
        run: trains one case; it moves the bar that it is given and returns the row.
        again: also run the cases that have a row.
    """
    for case in cases:
        name = f"{case['cell']}, seed {case['seed']}"
        if records.has(case) and not again:
            tqdm.write(f"{name}: is there")
            continue
        # None: shown where stderr is a terminal.
        with tqdm(disable=None, desc=name, dynamic_ncols=True, leave=False) as bar:
            found = run(case, bar)
        records.add(case, {**found, "machine": machine()})
        tqdm.write(f"{name}: {found['summary']}")
