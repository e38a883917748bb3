"""Embedded Reber grammar: after how many sequences a small network tells every legal successor.

After Hochreiter & Schmidhuber 1997, experiment 1: 256 strings to learn from, drawn as they come, and 256 others to test
with, none of which is among the first and no two of which are equal; both are drawn anew for every seed. A network has
solved it when at every step of every string of both sets all symbols that may follow have a higher output than all that
may not. The step before the last tells whether it kept the second symbol of the string in memory all the while.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from cellula import Recurrent
from published.grammar import SYMBOLS, Batch, distinct_examples, draw_example, encode

__all__ = ["CELLS", "Recipe", "SymbolModel", "all_right", "right_steps", "train_case"]

CELLS = ("lstm", "gru", "elman")
STRINGS = 256


@dataclass(frozen=True)
class Recipe:
    """How a cell is trained; one recipe for all cells.

    Args:
        hidden_size: units of the one layer.
        learning_rate: of Adam.
        batch_size: sequences a step of Adam; every one of them counts.
        clip: largest norm of the gradient.
        sequences: at most.
        check_every: sequences between two looks at whether it is solved.
    """

    hidden_size: int = 8
    learning_rate: float = 3e-2
    batch_size: int = 4
    clip: float = 1.0
    sequences: int = 40_000
    check_every: int = 400


class SymbolModel(nn.Module):
    """One recurrent layer and a linear output with one logit a symbol."""

    def __init__(self, cell: str, hidden_size: int, backend: str | None = "auto") -> None:
        super().__init__()
        self.recurrent = Recurrent(cell, len(SYMBOLS), hidden_size, backend=backend)
        self.output = nn.Linear(self.recurrent.output_size, len(SYMBOLS))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.output(self.recurrent(x, lengths=lengths)[0])  # [T, B, 7]


def right_steps(outputs: Tensor, legal: Tensor) -> Tensor:
    """Where every legal symbol has a higher output than every other: [..., 7] to [...]."""
    lowest_legal = outputs.masked_fill(~legal, torch.inf).amin(-1)
    return lowest_legal > outputs.masked_fill(legal, -torch.inf).amax(-1)


@torch.no_grad()
def all_right(model: SymbolModel, batch: Batch) -> tuple[float, float]:
    """The share of strings that are right at every step, and of those that are right at the step before the last."""
    x, _, legal, lengths = batch
    right = right_steps(model(x, lengths), legal)  # [T, B]
    whole = right | (torch.arange(len(x))[:, None] >= lengths)
    # The last input is the second T or P, that before it the E of the inner string, which T or P must follow.
    before_last = right.gather(0, lengths[None] - 2)
    return float(whole.all(0).float().mean()), float(before_last.float().mean())


def train_batch(model: SymbolModel, optimizer: torch.optim.Optimizer, batch: Batch, clip: float) -> None:
    """One step of Adam on the cross-entropy of the symbol that follows, averaged over all steps."""
    x, following, _, lengths = batch
    alive = torch.arange(len(x))[:, None] < lengths  # [T, B]
    loss = nn.functional.cross_entropy(model(x, lengths)[alive], following[alive])
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()


def draw_batch(whole: Batch, generator: random.Random, size: int) -> Batch:
    """So many strings of a set, cut to the longest of them."""
    columns = generator.sample(range(len(whole.lengths)), size)
    lengths = whole.lengths[columns]
    steps = int(lengths.max())
    inputs, following, legal = (part[:steps, columns] for part in whole[:3])
    return Batch(inputs, following, legal, lengths)


def train_case(cell: str, seed: int, recipe: Recipe, bar: tqdm) -> dict[str, Any]:
    """Train one cell until it has solved the task, or to the end of the recipe.

    Args:
        cell: a name of the zoo.
        seed: of the strings, the first weights and the order.
        recipe: how to train.
        bar: moved by the sequences.
    """
    began, cpu_began = time.perf_counter(), time.process_time()
    torch.manual_seed(seed)
    generator = random.Random(seed)
    strings = [draw_example(generator) for _ in range(STRINGS)]
    others = distinct_examples(generator, STRINGS, strings)
    sets = {"train": encode(strings), "test": encode(others)}
    model = SymbolModel(cell, recipe.hidden_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate)
    shown, solved = 0, False
    bar.reset(recipe.sequences)
    while shown < recipe.sequences and not solved:
        for _ in range(recipe.check_every // recipe.batch_size):
            train_batch(model, optimizer, draw_batch(sets["train"], generator, recipe.batch_size), recipe.clip)
        shown += recipe.check_every
        right = {name: all_right(model, batch) for name, batch in sets.items()}
        solved = all(whole == 1.0 for whole, _ in right.values())
        bar.set_postfix(strings=f"{right['test'][0]:.2f}", before_last=f"{right['test'][1]:.2f}", refresh=False)
        bar.update(recipe.check_every)
    verdict = "solved" if solved else "not solved"
    return {
        "summary": f"{verdict} after {shown} sequences, right test strings {right['test'][0]:.3f}",
        "solved": solved,
        "sequences": shown,
        "right_strings": {name: whole for name, (whole, _) in right.items()},
        "right_before_last": {name: before_last for name, (_, before_last) in right.items()},
        "longest_string": max(len(example.text) for example in others),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu_began,
        "backend": model.recurrent.backend,
    }
