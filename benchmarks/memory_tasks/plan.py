"""What is trained, in which order: every cell on every task with every seed, at the better of two learning rates."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cellula import load_cell
from cellula.printers.formula import print_formula
from memory_tasks.adding import ADDING
from memory_tasks.copy_memory import COPY_MEMORY
from memory_tasks.counting import COUNTING
from memory_tasks.task import Task
from memory_tasks.training import Trained, train

__all__ = ["CELLS", "TASKS", "Budget", "Row", "fingerprint", "run"]

TASKS: Mapping[str, Task] = {task.name: task for task in (ADDING, COPY_MEMORY, COUNTING)}

# Family -> cells.
CELLS: Mapping[str, tuple[str, ...]] = {
    "no memory": ("mlp",),
    "without gates": ("elman", "irnn", "ind_rnn"),
    "LSTM": ("lstm", "lstm_printed", "peephole_lstm", "cifg_lstm", "layer_norm_lstm", "slstm"),
    "GRU": ("gru", "gru_torch", "mgu", "li_gru"),
    "one or two gates": ("ugrnn", "janet", "ran", "fast_grnn"),
    "differential equations": ("antisymmetric_rnn", "co_rnn", "lem"),
    "products with the input alone": ("mingru", "sru", "lru"),
}

Row = dict[str, Any]
PILOT_SEED = 100


@dataclass(frozen=True)
class Budget:
    """How much is trained.

    Args:
        hidden: units of every cell.
        rates: learning rates, the one that is tried first at the front.
        seeds: of the trainings that are reported.
        share: of a task's steps that a training may take; a pilot takes half of it.
    """

    hidden: int = 32
    rates: tuple[float, ...] = (0.01, 0.003)
    seeds: tuple[int, ...] = (0, 1, 2)
    share: float = 1.0

    def steps(self, task: Task, pilot: bool = False) -> int:
        """How many steps a training may take."""
        return round(task.steps * self.share * (0.5 if pilot else 1.0))


def fingerprint(cell: str) -> str:
    """Tells whether equations and starting values are still those that were trained; words do not count."""
    _, *lines = ast.parse(print_formula(load_cell(cell))).body
    return hashlib.sha256(ast.unparse(ast.Module(lines, [])).encode()).hexdigest()[:12]


def run(
    cells: Sequence[str], budget: Budget, rows: list[Row], save: Callable[[Row], None], tasks: Sequence[str]
) -> Iterator[str]:
    """Train what is not in the rows yet; seed by seed, so that what is there at any time compares all cells.

    Args:
        cells: names of the zoo.
        budget: how much.
        rows: what was measured before; new rows are added.
        save: called after every training with the new row.
        tasks: names.

    Returns:
        An iterator that trains as it is read, and says what is trained next.
    """
    for seed in budget.seeds:
        for name in tasks:
            for cell in cells:
                yield f"seed {seed}, {name}, {cell}"
                trainer = _Trainer(cell, TASKS[name], budget, rows, save)
                trainer.get("seed", seed, trainer.choose_rate())


@dataclass(frozen=True)
class _Trainer:
    """A cell on a task: what is measured is not measured again."""

    cell: str
    task: Task
    budget: Budget
    rows: list[Row]
    save: Callable[[Row], None]

    def get(self, phase: str, seed: int, rate: float) -> Row:
        """The row of a training."""
        steps, hidden = self.budget.steps(self.task, phase == "pilot"), self.budget.hidden
        key: Row = {"cell": self.cell, "formula": fingerprint(self.cell), "task": self.task.name, "phase": phase}
        key |= {"seed": seed, "rate": rate, "most_steps": steps, "hidden": hidden}
        for row in self.rows:
            if key.items() <= row.items():
                return row
        trained: Trained = train(self.cell, self.task, hidden, seed, rate, steps)
        row = key | asdict(trained)
        self.rows.append(row)
        self.save(row)
        return row

    def choose_rate(self) -> float:
        """The first learning rate that solves the task in a pilot, else the one with the least validation loss."""
        pilots = []
        for rate in self.budget.rates:
            pilots.append(self.get("pilot", PILOT_SEED, rate))
            if pilots[-1]["solved_at"] is not None:
                return rate
        return min(pilots, key=lambda row: row["validation_loss"])["rate"]
