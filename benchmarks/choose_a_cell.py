"""Which cell learns what: every cell of a list on three small tasks that ask for memory, one thread, several seeds.

    python benchmarks/choose_a_cell.py             # everything, under an hour on one core of a quiet machine
    python benchmarks/choose_a_cell.py --quick     # three cells, a tenth of the steps, nothing saved
    python benchmarks/choose_a_cell.py --report    # the tables and the picture again, from what is saved

A run that is broken off goes on where it was; a cell whose formula has changed is trained again. Results:
`benchmarks/results/choose_a_cell.json` (every training) and `.md`; the tables and the picture of `docs/choose-a-cell.md`
are written from them.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from cellula.tasks.atomic import write_atomic
from memory_tasks.plan import CELLS, TASKS, Budget, run
from peers.machine import machine

RESULTS = Path(__file__).parent / "results" / "choose_a_cell.json"
QUICK_CELLS = ("mlp", "lstm", "gru")


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    every = [cell for family in CELLS.values() for cell in family]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=every, metavar="CELL", help="names of the zoo")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--quick", action="store_true", help="three cells, a tenth of the steps, nothing saved")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE", help="where the results are kept")
    return parser


def read_record(path: Path) -> dict[str, Any]:
    """What was measured before."""
    return json.loads(path.read_text()) if path.exists() else {"budget": {}, "machines": [], "rows": []}


def plain(value: Any) -> Any:
    """The same without numbers that JSON does not know."""
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
    head = json.dumps({key: value for key, value in record.items() if key != "rows"}, indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, f'{head[:-2]},\n "rows": [\n  {rows}\n ]\n}}\n'.encode())


def main() -> int:
    """Trains what is missing and saves after every training."""
    options = make_parser().parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    budget = Budget(seeds=(0,), share=0.1) if options.quick else Budget()
    cells = QUICK_CELLS if options.quick else options.cells
    record = {"machines": [], "rows": []} if options.quick else read_record(options.json)
    place = machine()
    record["budget"], number = asdict(budget), len(record["machines"])

    def save(row: dict[str, Any]) -> None:
        if number == len(record["machines"]):
            record["machines"].append(place)
        row["machine"] = number
        print(
            f"  rate {row['rate']:g}: {row['score']:.4g} after {row['steps']} steps, {row['seconds']:.1f} s", flush=True
        )
        if not options.quick:
            write_record(options.json, record)

    for what in run(cells, budget, record["rows"], save, options.tasks):
        print(what, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
