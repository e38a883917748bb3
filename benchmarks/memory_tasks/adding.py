"""The adding problem: two of many numbers are marked; say their sum at the end.

Every step shows a number, drawn evenly from 0 to 1, and a mark: 1 at two steps, one in each half of the sequence, else
0. Wanted after the last step is the sum of the two marked numbers. What is to be kept is a number, not a symbol.

Reference: Hochreiter & Schmidhuber 1997, Long Short-Term Memory, Neural Computation 9(8), section 5.4; in this form
Le, Jaitly & Hinton 2015, https://arxiv.org/abs/1504.00941
"""

from __future__ import annotations

import torch
from torch import Tensor

from memory_tasks.task import Batch, Task

__all__ = ["ADDING", "LENGTH", "draw", "loss", "score"]

LENGTH = 64
# The variance of the sum of two even draws: who always answers 1 has this error.
WITHOUT_MEMORY = 2 / 12
VALIDATION_SEED, TEST_SEED = 1_000_001, 1_000_002


def draw(count: int, generator: torch.Generator, length: int = LENGTH) -> Batch:
    """Sequences and their sums.

    Args:
        count: how many.
        generator: where the numbers and marks come from.
        length: steps of a sequence.

    Returns:
        x `[T, B, 2]`: number, mark; target `[B]`.
    """
    numbers = torch.rand(length, count, generator=generator)
    first = torch.randint(0, length // 2, (count,), generator=generator)
    second = torch.randint(length // 2, length, (count,), generator=generator)
    marks = torch.zeros(length, count)
    columns = torch.arange(count)
    marks[first, columns] = 1.0
    marks[second, columns] = 1.0
    return Batch(torch.stack([numbers, marks], dim=2), (numbers * marks).sum(0))


def loss(outputs: Tensor, batch: Batch) -> Tensor:
    """Mean squared error of the last step's output `[T, B, 1]`."""
    return (outputs[-1, :, 0] - batch.target).square().mean()


def score(outputs: Tensor, batch: Batch) -> float:
    """The same as a number."""
    return loss(outputs, batch).item()


ADDING = Task(
    name="adding",
    title=f"adding problem, {LENGTH} steps",
    source="Hochreiter & Schmidhuber 1997",
    input_size=2,
    output_size=1,
    draw=draw,
    validation=lambda: draw(256, torch.Generator().manual_seed(VALIDATION_SEED)),
    test=lambda: draw(1000, torch.Generator().manual_seed(TEST_SEED)),
    loss=loss,
    score=score,
    unit="mean squared error",
    higher_is_better=False,
    without_memory=WITHOUT_MEMORY,
    solved=0.01,
    stop=0.002,
    batch=32,
    steps=1200,
)
