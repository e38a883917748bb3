"""Our recurrent cells beside those of torch, JAX and others, and beside the bare matrix products: speed and memory.

    python benchmarks/recurrent.py                                   # everything but torch.compile
    python benchmarks/recurrent.py --quick                           # does it work at all: a minute or two
    python benchmarks/recurrent.py --sections peers --cells lstm --modes train --threads 1 --json lstm.json
    python benchmarks/recurrent.py --sections peers --peers compile  # hours: every loop gets two minutes to compile

Sections: `peers` compares four cells at ten shapes with other programs, `zoo` every cell with our own LSTM, `scaling`
ten times the steps or the batch, `streaming` one step at a time, `memory` a sequence of 100,000 steps.
Each thread count has a process of its own, bound to as many cores. Every peer's outputs and gradients are compared with
ours before it is timed. The packages beside torch: `pip install cellula[bench]`.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from peers.children import cores_for, run_tasks
from peers.goals import verdicts
from peers.machine import machine
from peers.problem import CELLS, Shape
from peers.report import write_report
from peers.timing import Pace
from peers.versus import PEERS, SHAPES
from peers.worker import SECTIONS
from tqdm import tqdm

from cellula.tasks.atomic import write_atomic

RESULTS = Path(__file__).resolve().parent / "results" / "recurrent.json"
MODES = ("train", "inference")
QUICK_SHAPES = (Shape(1, 75, 8), Shape(12, 100, 64), Shape(32, 100, 128))
QUICK_PACE = Pace(least=3, most=5, budget=0.1)
# Its loops compile for minutes.
DEFAULT_PEERS = tuple(name for name in PEERS if name != "compile")


def listed(choices: Any) -> Callable[[str], tuple[str, ...]]:
    """Reads `a,b`; every part must be one of the choices."""

    def read(text: str) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
        wrong = [name for name in names if name not in choices]
        if wrong or not names:
            raise argparse.ArgumentTypeError(f"{(wrong or [text])[0]!r} is none of {', '.join(choices)}")
        return names

    return read


def shapes(text: str) -> tuple[Shape, ...]:
    """Reads `32x100x128,1x75x8`: batch, steps, input = hidden."""
    try:
        found = tuple(Shape(*map(int, part.lower().split("x"))) for part in text.split(","))
    except (TypeError, ValueError):
        found = ()
    if not found or any(size < 1 for shape in found for size in shape):
        raise argparse.ArgumentTypeError(f"{text!r}; write batch x steps x units, such as 32x100x128,1x75x8")
    return found


def counts(text: str) -> tuple[int, ...]:
    """Reads `1,2`."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}; write thread counts, such as 1,2")
    return tuple(map(int, parts))


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", type=listed(SECTIONS), default=tuple(SECTIONS), help=", ".join(SECTIONS))
    parser.add_argument("--cells", type=listed(CELLS), default=tuple(CELLS), help=", ".join(CELLS))
    parser.add_argument("--shapes", type=shapes, help="batch x steps x units: 32x100x128,1x75x8")
    parser.add_argument("--threads", type=counts, default=(1, 2), help="default 1,2")
    parser.add_argument("--peers", type=listed(PEERS), default=DEFAULT_PEERS, help=", ".join(PEERS))
    parser.add_argument("--modes", type=listed(MODES), default=MODES, help=", ".join(MODES))
    parser.add_argument("--backend", default="auto", help="ours: auto (default), c or reference")
    parser.add_argument("--repeats", type=int, metavar="N", help="rounds at most, 1 or more")
    parser.add_argument("--quick", action="store_true", help="few shapes, few rounds; saved only where --json says")
    parser.add_argument("--compile-all", action="store_true", help="compile loops of more than 100 steps too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all numbers; the table goes beside it as .md")
    return parser


def read_options() -> tuple[argparse.Namespace, Pace]:
    """The options, with what they leave open filled in."""
    parser = make_parser()
    options = parser.parse_args()
    if options.repeats is not None and options.repeats < 1:
        parser.error(f"--repeats is {options.repeats}; write 1 or more")
    everything = ("sections", "cells", "shapes", "threads", "peers", "modes", "repeats", "backend")
    partial = options.quick or any(getattr(options, name) != parser.get_default(name) for name in everything)
    if options.json is None and not partial:
        options.json = RESULTS
    options.shapes = options.shapes or (QUICK_SHAPES if options.quick else SHAPES)
    pace = QUICK_PACE if options.quick else Pace()
    if options.repeats:
        pace = replace(pace, least=min(pace.least, options.repeats), most=options.repeats)
    return options, pace


def run(options: argparse.Namespace, pace: Pace, save: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Measure everything; `save` is called after every task, so that a run that is broken off leaves what it had."""
    record: dict[str, Any] = {"machine": machine(), "backend": options.backend, "pace": asdict(pace)}
    record |= {"rows": {name: [] for name in options.sections}, "left_out": [], "errors": []}
    tasks = [
        {"section": name, "backend": options.backend, **task}
        for name in options.sections
        for task in SECTIONS[name].plan(options)
    ]
    with tqdm(total=len(tasks) * len(options.threads), disable=None, unit="case", dynamic_ncols=True) as bar:
        for threads in options.threads:
            cores = cores_for(threads)
            if cores is not None and len(cores) < threads:
                record["left_out"].append(f"{threads} threads: this process may use {len(cores)} cores")
                continue
            run_tasks(tasks, threads, pace, collector(record, threads, bar, save))
    return record


def collector(
    record: dict[str, Any], threads: int, bar: Any, save: Callable[[dict[str, Any]], None]
) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    """Puts what is told about a task into the record."""
    many = f"{threads} thread{'s' * (threads > 1)}"

    def tell(task: dict[str, Any], message: dict[str, Any]) -> None:
        words = [task.get("name") or task.get("cell", ""), task.get("mode"), task.get("shape"), task.get("hidden")]
        where = ", ".join(str(word) for word in (task["section"], *words) if word)
        bar.set_description(f"{many}, {where}", refresh=False)
        for row in message.get("rows", ()):
            record["rows"][task["section"]].append({"threads": threads, **row})
        if "skipped" in message:
            text = message["skipped"]
            text = f"{where}, {many}: {text}" if "compile" in task.get("peers", ()) else text
            record["left_out"] += [text] if text not in record["left_out"] else []
        if "error" in message:
            record["errors"].append(f"{where}, {many}: {message['error']}")
        if "rows" in message or "error" in message:
            save(record)
            bar.update()

    return tell


def write_json(path: Path | None, record: dict[str, Any]) -> None:
    """The numbers and what they say about the goals."""
    if path is not None:
        found = record | {"goals": [asdict(verdict) for verdict in verdicts(record["rows"])]}
        write_atomic(path, (json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode())


def main() -> int:
    """Measures, prints and saves; 1 where a contestant failed or disagreed."""
    options, pace = read_options()
    # A kill lets the process that measures go too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    partial = options.json and options.json.with_suffix(".partial.json")
    if partial:
        partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        record = run(options, pace, lambda record: write_json(partial, record))
    except KeyboardInterrupt:
        print(f"broken off{f'; what was measured is in {partial}' if partial else ''}", file=sys.stderr)
        return 130
    text = write_report(record)
    print(text)
    if partial:
        write_json(options.json, record)
        write_atomic(options.json.with_suffix(".md"), text.encode())
        partial.unlink(missing_ok=True)
        print(f"saved in {options.json} and {options.json.with_suffix('.md').name}")
    else:
        print("not saved: no --json")
    return 1 if record["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
