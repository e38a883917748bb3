"""Generate timed spikes (GTS): one cell that fires every F = 10 steps, for ever, with nothing to count for it.

After Gers, Schraudolph & Schmidhuber 2002. The input is constant, the target is 1 at every tenth step and else 0. A
network is one cell and one sigmoid unit that sees its output alone. It is never told the target of the step before: it
has to measure the ten steps, fire, and begin anew by itself. A stream ends with the first step at which the output lies
on the wrong side of one half, while training as in the test; so a network first learns to be silent for nine steps,
then to fire, then to be silent again. It has learned the task when 1000 spikes, 10,000 steps, are all right.

Whether one cell gets there hangs on its first weights. So many networks are trained at the same time, each with weights
of its own: a layer whose recurrent matrices are diagonal is as many single cells, none of which sees another.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from cellula import Recurrent
from cellula.cells.catalogue import load_cell
from cellula.printers.formula import print_formula

__all__ = ["CELLS", "PERIOD", "Recipe", "SpikeModels", "first_wrong", "right_spikes", "single_cells", "train_case"]

CELLS = ("peephole_lstm", "lstm")
PERIOD = 10
TEST_SPIKES = 1000


@dataclass(frozen=True)
class Recipe:
    """How the networks of one cell are trained; one recipe for all cells.

    Args:
        networks: trained beside each other.
        deviation: of the normal distribution that all weights are drawn from; the cell's own start is not used.
        learning_rate: of Adam.
        clip: largest norm of a network's gradient.
        periods: of a stream, at most, while training.
        streams: that every network sees, at most.
        check_every: streams between two tests.
    """

    networks: int = 256
    deviation: float = 4.0
    learning_rate: float = 0.03
    clip: float = 1.0
    periods: int = 10
    streams: int = 5000
    check_every: int = 100


def single_cells(cell: str) -> str:
    """The formula of a cell of the zoo with diagonal recurrent matrices: every unit is a cell of its own.

    Example:
        >>> single_cells("elman").splitlines()[0]
        'U = diagonal()'
    """
    graph = load_cell(cell)
    square = [parameter for parameter in graph.parameters if parameter.sizes == ("hidden", "hidden")]
    formula = [line for line in print_formula(graph).splitlines() if "[t] = " in line]
    return "\n".join([*(f"{parameter.name} = diagonal()" for parameter in square), *formula])


class SpikeModels(nn.Module):
    """Single cells beside each other, each with an output of its own."""

    def __init__(self, cell: str, recipe: Recipe, backend: str | None = "auto") -> None:
        super().__init__()
        self.recurrent = Recurrent(single_cells(cell), 1, recipe.networks, backend=backend)
        self.weight, self.bias = (nn.Parameter(torch.zeros(recipe.networks)) for _ in range(2))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(std=recipe.deviation)

    def forward(self, steps: int) -> Tensor:
        """The logits of all networks, [T, N]."""
        output, _ = self.recurrent(torch.ones(steps, 1, 1))
        return output[:, 0] * self.weight + self.bias


def spike_train(periods: int, period: int = PERIOD) -> Tensor:
    """1 at the last step of every period, else 0: [T]."""
    target = torch.zeros(periods, period)
    target[:, -1] = 1.0
    return target.flatten()


def first_wrong(logits: Tensor, target: Tensor) -> Tensor:
    """The first step of each network whose output is on the wrong side of one half; T where there is none: [N]."""
    wrong = (logits > 0) != (target > 0.5)[:, None]
    return torch.where(wrong.any(0), wrong.float().argmax(0), len(target))


@torch.no_grad()
def right_spikes(models: SpikeModels, spikes: int = TEST_SPIKES) -> Tensor:
    """How many whole periods are right before the first wrong step of a stream, for each network: [N]."""
    return first_wrong(models(spikes * PERIOD), spike_train(spikes)) // PERIOD


def clip_each(models: SpikeModels, largest: float) -> None:
    """Scale the gradient of every network by itself to a norm of at most `largest`."""
    gradients = [parameter.grad for parameter in models.parameters() if parameter.grad is not None]
    norms = (
        torch.stack([gradient.square().reshape(-1, gradient.shape[-1]).sum(0) for gradient in gradients]).sum(0).sqrt()
    )
    scale = largest / norms.clamp(min=largest)
    for gradient in gradients:
        gradient *= scale


def train_streams(models: SpikeModels, optimizer: torch.optim.Optimizer, steps: int, recipe: Recipe) -> int:
    """One step of Adam for all networks, each on its stream to its first wrong step.

    Args:
        models, optimizer: what is trained.
        steps: that are looked at.
        recipe: how to train.

    Returns:
        How many steps to look at next: some more than the best network can.
    """
    target = spike_train(recipe.periods)
    logits = models(steps)
    ends = (first_wrong(logits.detach(), target[:steps]) + 1).clamp(min=PERIOD, max=len(target))
    seen = torch.arange(steps)[:, None] < ends  # [T, N]
    expected = target[:steps, None].expand_as(logits)
    losses = nn.functional.binary_cross_entropy_with_logits(logits, expected, reduction="none")
    optimizer.zero_grad()
    # A sum over networks: each gets the gradient of its own mean.
    ((losses * seen).sum(0) / ends.clamp(max=steps)).sum().backward()
    clip_each(models, recipe.clip)
    optimizer.step()
    return min(len(target), int(ends.max()) + PERIOD)


def train_case(cell: str, seed: int, recipe: Recipe, bar: tqdm) -> dict[str, Any]:
    """Train the networks of one cell; how many learn the task, and when.

    Args:
        cell: a name of the zoo.
        seed: of the first weights; all else is the same at every stream.
        recipe: how to train.
        bar: moved by the streams.
    """
    began, cpu_began = time.perf_counter(), time.process_time()
    torch.manual_seed(seed)
    models = SpikeModels(cell, recipe)
    optimizer = torch.optim.Adam(models.parameters(), lr=recipe.learning_rate)
    most = torch.zeros(recipe.networks, dtype=torch.long)
    learned: dict[int, int] = {}
    steps = 2 * PERIOD
    bar.reset(recipe.streams)
    for streams in range(recipe.check_every, recipe.streams + 1, recipe.check_every):
        for _ in range(recipe.check_every):
            steps = train_streams(models, optimizer, steps, recipe)
        most = torch.maximum(most, right_spikes(models))
        for network in (most == TEST_SPIKES).nonzero().flatten().tolist():
            learned.setdefault(network, streams)
        bar.set_postfix(learned=len(learned), refresh=False)
        bar.update(recipe.check_every)
    counts = {str(spikes): int((most >= spikes).sum()) for spikes in (1, 2, 3, 10, 100, TEST_SPIKES)}
    return {
        "summary": f"{len(learned)} of {recipe.networks} networks learned it; right spikes: {counts}",
        "networks": recipe.networks,
        "learned": len(learned),
        "median_streams": statistics.median(learned.values()) if learned else None,
        "streams_until_learned": sorted(learned.values()),
        "networks_with_right_spikes": counts,
        "parameters_of_a_network": sum(parameter.numel() for parameter in models.parameters()) // recipe.networks,
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu_began,
        "backend": models.recurrent.backend,
    }
