"""What is saved, as tables for people and a picture."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cellula.errors import UsageError
from cellula.tasks.atomic import write_atomic
from published.chorales import MAIN
from published.records import Records, Row

__all__ = ["PUBLISHED", "tables", "write_tables"]

# Test NLL per step: Chung et al. 2014, Bai et al. 2018, and what is to be reached here.
PUBLISHED = {"lstm": (8.67, 8.45, 8.55), "gru": (8.54, 8.43, 8.65), "elman": (9.10, 8.91, 8.85)}
# Greff et al. 2017, on music: beside the cell with all parts.
FOUND_BY_GREFF = {
    "peephole_lstm": "the baseline",
    "nig_lstm": "no different",
    "nfg_lstm": "worse",
    "nog_lstm": "no different",
    "niaf_lstm": "no different",
    "noaf_lstm": "worse",
    "cifg_peephole_lstm": "no different",
    "lstm": "no different",
    "fgr_lstm": "worse",
    "cifg_lstm": "not tried",
}
LETTERS = {
    "lstm": "NP",
    "peephole_lstm": "vanilla",
    "cifg_peephole_lstm": "CIFG",
    "cifg_lstm": "CIFG and NP",
} | {f"{name.lower()}_lstm": name for name in ("NIG", "NFG", "NOG", "NIAF", "NOAF", "FGR")}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The mean, with the lowest and the highest where there are several."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def by_cell(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of every cell, in the order of their seeds."""
    found: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["case"]["seed"]):
        found.setdefault(row["case"]["cell"], []).append(row)
    return found


def chorales_columns(rows: Sequence[Row]) -> list[str]:
    """What every table of the chorales says of a cell."""
    return [
        spread([row["nll"]["test"] for row in rows], 3),
        spread([row["nll"]["valid"] for row in rows], 3),
        spread([row["nll"]["train"] for row in rows], 3),
        ", ".join(str(row["case"]["seed"]) for row in rows),
        f"{rows[0]['parameters']:,}",
        spread([row["best_epoch"] for row in rows], 0),
        f"{statistics.fmean(row['cpu_seconds'] for row in rows):.0f} s",
    ]


CHORALES_HEAD = ("ours, test", "validation", "training", "seeds", "parameters", "best epoch", "CPU time")


def main_table(rows: Sequence[Row]) -> str:
    """LSTM, GRU and tanh beside Chung et al. and Bai et al."""
    head = ["cell", "Chung et al. 2014", "Bai et al. 2018", "to reach", *CHORALES_HEAD]
    found = by_cell(rows)
    return table(
        head,
        [
            [f"`{name}`", *(f"{value:.2f}" for value in PUBLISHED[name]), *chorales_columns(found[name])]
            for name in MAIN
            if name in found
        ],
    )


def odyssey_table(rows: Sequence[Row]) -> str:
    """The variants, best first, with what each differs from the baseline by."""
    found = {name: values for name, values in by_cell(rows).items() if name in FOUND_BY_GREFF}
    means = {name: statistics.fmean(row["nll"]["test"] for row in values) for name, values in found.items()}
    baseline = means.get("peephole_lstm")
    head = ["cell", "in the paper", "there, on music", "difference here", *CHORALES_HEAD]
    lines = []
    for name in sorted(found, key=means.__getitem__):
        difference = "" if baseline is None or name == "peephole_lstm" else f"{means[name] - baseline:+.3f}"
        lines.append([f"`{name}`", LETTERS[name], FOUND_BY_GREFF[name], difference, *chorales_columns(found[name])])
    return table(head, lines)


def reber_table(rows: Sequence[Row]) -> str:
    """How many seeds solved the grammar, and after how many sequences."""
    head = ["cell", "parameters", "solved", "sequences until solved", "strings right at the end, test"]
    head += ["right before the last step", "CPU time"]
    lines = []
    for name, found in by_cell(rows).items():
        solved = sorted(row["sequences"] for row in found if row["solved"])
        lines.append(
            [
                f"`{name}`",
                str(found[0]["parameters"]),
                f"{len(solved)} of {len(found)} seeds",
                f"median {statistics.median(solved):,.0f} ({solved[0]:,}–{solved[-1]:,})" if solved else "",
                spread([100 * row["right_strings"]["test"] for row in found], 0) + " %",
                spread([100 * row["right_before_last"]["test"] for row in found], 0) + " %",
                f"{statistics.fmean(row['cpu_seconds'] for row in found):.0f} s",
            ]
        )
    return table(head, lines)


def spikes_table(rows: Sequence[Row]) -> str:
    """How many networks learned to fire in time, and after how many streams."""
    steps = ("1", "2", "3", "10", "100", "1000")
    head = ["cell", "parameters", "seeds", "networks", *(f"{int(step):,} right" for step in steps)]
    head += ["streams until learned, median", "CPU time a seed"]
    lines = []
    for name, found in by_cell(rows).items():
        streams = sorted(number for row in found for number in row["streams_until_learned"])
        reached = [sum(row["networks_with_right_spikes"][step] for row in found) for step in steps]
        lines.append(
            [
                f"`{name}`",
                str(found[0]["parameters_of_a_network"]),
                ", ".join(str(row["case"]["seed"]) for row in found),
                f"{sum(row['networks'] for row in found):,}",
                *(f"{count:,}" for count in reached),
                f"{statistics.median(streams):,.0f} ({streams[0]:,}–{streams[-1]:,})" if streams else "",
                f"{statistics.fmean(row['cpu_seconds'] for row in found):.0f} s",
            ]
        )
    return table(head, lines)


TABLES: dict[str, dict[str, Callable[[Sequence[Row]], str]]] = {
    "chorales": {"JSB Chorales": main_table, "The variants of the LSTM": odyssey_table},
    "reber": {"Embedded Reber grammar": reber_table},
    "spikes": {"Generate timed spikes": spikes_table},
}


def machines(rows: Sequence[Row]) -> str:
    """Where the rows were measured, each place once."""
    found = []
    for row in rows:
        where: dict[str, Any] = row["machine"]
        found.append(f"{where['processor']}, one thread, Python {where['python']}, torch {where['versions']['torch']}")
    return "; ".join(dict.fromkeys(found))


def tables(folder: Path) -> dict[str, str]:
    """Every table whose rows are saved in a folder, by its title.

    Raises:
        UsageError: there is not one.
    """
    found = {}
    for experiment, makers in TABLES.items():
        rows = Records(folder / f"{experiment}.json").rows()
        found |= {title: make(rows) for title, make in makers.items() if rows}
    if not found:
        raise UsageError(f"no results are saved in {folder}: train something first")
    return found


def write_tables(folder: Path) -> str:
    """Save all tables as published.md beside the results; their text."""
    parts = [f"## {title}\n\n{text}\n" for title, text in tables(folder).items()]
    everything = [row for experiment in TABLES for row in Records(folder / f"{experiment}.json").rows()]
    text = "\n".join([*parts, machines(everything), ""])
    write_atomic(folder / "published.md", text.encode())
    return text
