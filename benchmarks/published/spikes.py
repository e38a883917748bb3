"""Generate timed spikes (GTS): one cell that fires every F = 10 steps, for ever, with nothing to count for it.

After Gers, Schraudolph & Schmidhuber 2002. The input is constant; the target is 1 at every tenth step and 0 elsewhere. The
network is one cell and one sigmoid unit that sees its output alone. It is never told the target of the step before: it
has to measure the ten steps, fire, and begin anew by itself. A stream ends with the first step at which the output lies
on the wrong side of one half; what is measured is how many spikes come before, up to 1000. The task is learned when all
1000 periods are right.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from cellula import Recurrent

__all__ = ["CELLS", "PERIOD", "Recipe", "SpikeModel", "right_spikes", "spike_train", "train_case"]

CELLS = ("peephole_lstm", "lstm")
PERIOD = 10
TEST_SPIKES = 1000


@dataclass(frozen=True)
class Recipe:
    """How a cell is trained; one recipe for all cells.

    Args:
        hidden_size: cells of the one layer.
        learning_rate: of Adam.
        clip: largest norm of the gradient.
        periods: that a stream has at most while training.
        beyond: periods after the first wrong step that are still learned from.
        streams: at most.
        check_every: streams between two looks at whether it is learned.
    """

    hidden_size: int = 1
    learning_rate: float = 1e-2
    clip: float = 1.0
    periods: int = 10
    beyond: int = 1
    streams: int = 20_000
    check_every: int = 100


class SpikeModel(nn.Module):
    """One recurrent layer and one logit."""

    def __init__(self, cell: str, hidden_size: int, backend: str | None = "auto") -> None:
        super().__init__()
        self.recurrent = Recurrent(cell, 1, hidden_size, backend=backend)
        self.output = nn.Linear(self.recurrent.output_size, 1)

    def forward(self, steps: int) -> Tensor:
        output, _ = self.recurrent(torch.ones(steps, 1, 1))
        return self.output(output)[:, 0, 0]  # [T]


def spike_train(periods: int, period: int = PERIOD) -> Tensor:
    """1 at the last step of every period, else 0: [T]."""
    target = torch.zeros(periods, period)
    target[:, -1] = 1.0
    return target.flatten()


def first_wrong(logits: Tensor, target: Tensor) -> int:
    """The first step whose output is on the wrong side of one half; the number of steps where there is none."""
    wrong = ((logits > 0) != (target > 0.5)).nonzero()
    return int(wrong[0]) if len(wrong) else len(target)


@torch.no_grad()
def right_spikes(model: SpikeModel, spikes: int = TEST_SPIKES) -> int:
    """How many whole periods are right before the first wrong step of a stream."""
    return first_wrong(model(spikes * PERIOD), spike_train(spikes)) // PERIOD


def train_stream(model: SpikeModel, optimizer: torch.optim.Optimizer, recipe: Recipe) -> None:
    """One step of Adam on the stream up to a little beyond its first wrong step."""
    target = spike_train(recipe.periods)
    logits = model(len(target))
    seen = (first_wrong(logits, target) // PERIOD + 1 + recipe.beyond) * PERIOD
    loss = nn.functional.binary_cross_entropy_with_logits(logits[:seen], target[:seen])
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
    optimizer.step()


def train_case(cell: str, seed: int, recipe: Recipe, bar: tqdm) -> dict[str, Any]:
    """Train one cell until it has learned the task, or to the end of the recipe.

    Args:
        cell: a name of the zoo.
        seed: of the first weights; all else is the same at every stream.
        recipe: how to train.
        bar: moved by the streams.
    """
    began, cpu_began = time.perf_counter(), time.process_time()
    torch.manual_seed(seed)
    model = SpikeModel(cell, recipe.hidden_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate)
    streams, found, best = 0, 0, 0
    bar.reset(recipe.streams)
    while streams < recipe.streams and found < TEST_SPIKES:
        for _ in range(recipe.check_every):
            train_stream(model, optimizer, recipe)
        streams += recipe.check_every
        found = right_spikes(model)
        best = max(best, found)
        bar.set_postfix(spikes=found, refresh=False)
        bar.update(recipe.check_every)
    return {
        "summary": f"{found} right spikes after {streams} streams (most: {best})",
        "learned": found == TEST_SPIKES,
        "streams": streams,
        "right_spikes": found,
        "most_right_spikes": best,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu_began,
        "backend": model.recurrent.backend,
    }
