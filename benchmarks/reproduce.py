"""Published results, trained anew with the cells of this project: `python benchmarks/reproduce.py EXPERIMENT`.

    python benchmarks/reproduce.py chorales --data JSB_Chorales.mat    # two to five minutes a cell and seed
    python benchmarks/reproduce.py chorales --data JSB_Chorales.mat --cells lstm,gru --seeds 0,1,2
    python benchmarks/reproduce.py reber                                # some minutes
    python benchmarks/reproduce.py spikes                               # some minutes
    python benchmarks/reproduce.py tables                               # what is saved, as tables, and the picture

Every row is saved in benchmarks/results/ as soon as it is known; a case that has a row is not run again, unless
`--again` is given. The packages beside torch: `pip install cellula[bench]`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from published import chorales, pictures, reber, spikes, tables
from published.records import RESULTS, Records, run_cases

from cellula.errors import CellulaError, UsageError


@dataclass(frozen=True)
class Experiment:
    """What can be trained.

    Args:
        cells: that are trained where no others are named.
        seeds: likewise.
        recipe: how, for a cell.
        train: makes the function that trains one case, out of the options.
    """

    cells: Sequence[str]
    seeds: Sequence[int]
    recipe: Callable[[str], Any]
    train: Callable[[argparse.Namespace], Callable[..., dict[str, Any]]]


def train_chorales(options: argparse.Namespace) -> Callable[..., dict[str, Any]]:
    """With the data, which does not come with the project."""
    if options.data is None:
        raise UsageError(f"--data is missing: {chorales.WHERE}")
    return partial(chorales.train_case, chorales.read_chorales(options.data))


EXPERIMENTS = {
    "chorales": Experiment(chorales.MAIN + chorales.ODYSSEY, (0, 1), chorales.recipe_for, train_chorales),
    "reber": Experiment(reber.CELLS, range(8), lambda cell: reber.Recipe(), lambda options: reber.train_case),
    "spikes": Experiment(spikes.CELLS, range(4), lambda cell: spikes.Recipe(), lambda options: spikes.train_case),
}


def words(text: str) -> list[str]:
    return text.split(",")


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=[*EXPERIMENTS, "tables"])
    parser.add_argument("--data", type=Path, help="JSB_Chorales.mat, for the chorales")
    parser.add_argument("--cells", type=words, help="cells of the zoo, with commas between them")
    parser.add_argument("--seeds", type=numbers, help="seeds, with commas between them")
    parser.add_argument("--again", action="store_true", help="also run the cases that have a row")
    parser.add_argument("--threads", type=int, default=1, help="of torch (1)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of the results (benchmarks/results)")
    return parser.parse_args()


def run(options: argparse.Namespace) -> None:
    """Train what is asked for and not yet there."""
    experiment = EXPERIMENTS[options.experiment]
    train = experiment.train(options)
    names, seeds = options.cells or experiment.cells, options.seeds or experiment.seeds
    # All cells with the first seed first: a run that is broken off has something to compare.
    cases = [
        {"cell": name, "seed": seed, "recipe": asdict(experiment.recipe(name))} for seed in seeds for name in names
    ]
    run_cases(
        Records(options.out / f"{options.experiment}.json"),
        cases,
        lambda case, bar: train(case["cell"], case["seed"], experiment.recipe(case["cell"]), bar),
        again=options.again,
    )


def main() -> int:
    """Run, or say what is wrong."""
    options = read_options()
    torch.set_num_threads(options.threads)
    try:
        if options.experiment == "tables":
            print(tables.write_tables(options.out))
            pictures.draw(options.out)
        else:
            run(options)
    except CellulaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("broken off; what was trained to the end is saved", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
