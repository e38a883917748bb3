"""Which cell learns what: every cell of a list on three small tasks that ask for memory, one thread, several seeds.

    python benchmarks/choose_a_cell.py             # everything; under an hour on one core of a quiet machine
    python benchmarks/choose_a_cell.py --quick     # three cells, a tenth of the steps, nothing saved
    python benchmarks/choose_a_cell.py --report    # tables and picture again, from what is saved

A run that is broken off goes on where it was; a cell whose formula has changed is trained again. Every training is in
`benchmarks/results/choose_a_cell.json`. From it follow the tables in `choose_a_cell.md` beside it, the main one in
`docs/choose-a-cell.md`, and its picture.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from memory_tasks.picture import draw_picture
from memory_tasks.plan import CELLS, TASKS, Budget, fingerprint, run
from memory_tasks.price import price
from memory_tasks.table import main_table, write_report
from peers.machine import machine

from cellula.tasks.atomic import write_atomic

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "choose_a_cell.json"
PAGE = ROOT / "docs" / "choose-a-cell.md"
PICTURE = ROOT / "docs" / "pictures" / "choose-a-cell.svg"
# Between these lines of the page stands the main table.
BEGIN, END = "<!-- written by benchmarks/choose_a_cell.py -->", "<!-- up to here -->"
QUICK_CELLS = ("mlp", "lstm", "gru")


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    every = [cell for family in CELLS.values() for cell in family]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=every, choices=every, metavar="CELL", help=", ".join(every))
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--quick", action="store_true", help="three cells, a tenth of the steps, nothing saved")
    parser.add_argument("--report", action="store_true", help="only write tables and picture")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE", help="where the results are kept")
    return parser


def read_record(path: Path) -> dict[str, Any]:
    """What was measured before."""
    return json.loads(path.read_text()) if path.exists() else {"budget": {}, "machines": [], "prices": [], "rows": []}


def plain(value: Any) -> Any:
    """The same without numbers that JSON does not know, five digits each."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def write_record(path: Path, record: dict[str, Any]) -> None:
    """All numbers, a training a line."""
    rows = ",\n  ".join(json.dumps(plain(row)) for row in record["rows"])
    head = json.dumps(plain({key: value for key, value in record.items() if key != "rows"}), indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, f'{head[:-2]},\n "rows": [\n  {rows}\n ]\n}}\n'.encode())


def with_table(page: str, table: str) -> str:
    """The page with the table in its place."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def write_results(path: Path, record: dict[str, Any]) -> None:
    """The tables beside the results; where these are the project's own, also the page's table and picture."""
    write_atomic(path.with_suffix(".md"), write_report(record).encode())
    if path == RESULTS:
        write_atomic(PICTURE, draw_picture(record))
        write_atomic(PAGE, with_table(PAGE.read_text(), main_table(record)).encode())


def measure(
    cells: Sequence[str], tasks: Sequence[str], budget: Budget, record: dict[str, Any], path: Path | None
) -> None:
    """Trains what is missing and saves after every training; then takes the time of every cell."""
    place, number = machine(), len(record["machines"])

    def save(row: dict[str, Any]) -> None:
        if number == len(record["machines"]):
            record["machines"].append(place)
        row["machine"] = number
        print(
            f"  rate {row['rate']:g}: {row['score']:.4g} after {row['steps']} steps, {row['seconds']:.1f} s", flush=True
        )
        if path:
            write_record(path, record)

    for what in run(cells, budget, record["rows"], save, tasks):
        print(what, flush=True)
    key = {(row["cell"], row["formula"], row["hidden"]) for row in record["prices"]}
    for cell in cells:
        if (cell, fingerprint(cell), budget.hidden) not in key:
            record["prices"] = [row for row in record["prices"] if row["cell"] != cell]
            record["prices"].append(price(cell, budget.hidden))
    if path:
        write_record(path, record)


def main() -> int:
    """Measures, writes the tables, prints the main one."""
    options = make_parser().parse_args()
    torch.set_num_threads(1)
    # Numbers near 0 would take a hundred times as long.
    torch.set_flush_denormal(True)
    if options.quick:
        record = {"machines": [], "prices": [], "rows": []}
        measure(QUICK_CELLS, options.tasks, Budget(seeds=(0,), share=0.1), record, None)
        print(main_table(record))
        return 0
    record = {"prices": [], **read_record(options.json)}
    if not options.report:
        record["budget"] = asdict(Budget())
        measure(options.cells, options.tasks, Budget(), record, options.json)
    write_results(options.json, plain(record))
    print(main_table(plain(record)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
