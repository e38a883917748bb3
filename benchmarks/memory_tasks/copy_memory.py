"""Copy memory: read a few symbols, wait, write them down in order.

The first `LENGTH` steps show one of `SYMBOLS` symbols each; then come `DELAY` steps of blanks, the last of which is a
signal to begin, and `LENGTH` more blanks, at which the symbols are wanted. Before, a blank is wanted. What is to be
kept are several symbols and their order, while nothing happens.

Reference: Hochreiter & Schmidhuber 1997, Long Short-Term Memory, Neural Computation 9(8), section 5.1; in this form
Arjovsky, Shah & Bengio 2016, Unitary Evolution Recurrent Neural Networks, ICML, https://arxiv.org/abs/1511.06464
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from memory_tasks.task import Batch, Task

__all__ = ["COPY_MEMORY", "DELAY", "LENGTH", "SYMBOLS", "draw", "loss", "score"]

SYMBOLS, LENGTH, DELAY = 4, 4, 20
BLANK, SIGNAL = SYMBOLS, SYMBOLS + 1
VALIDATION_SEED, TEST_SEED = 2_000_001, 2_000_002


def draw(count: int, generator: torch.Generator) -> Batch:
    """Sequences and what is wanted at every step.

    Args:
        count: how many.
        generator: where the symbols come from.

    Returns:
        x `[T, B, 6]`, one number of a step is 1; target `[T, B]`, the number of a symbol or of the blank.
    """
    symbols = torch.randint(0, SYMBOLS, (LENGTH, count), generator=generator)
    shown = torch.full((LENGTH + DELAY + LENGTH, count), BLANK)
    shown[:LENGTH] = symbols
    shown[LENGTH + DELAY - 1] = SIGNAL
    target = torch.full_like(shown, BLANK)
    target[-LENGTH:] = symbols
    return Batch(functional.one_hot(shown, SYMBOLS + 2).float(), target)


def loss(outputs: Tensor, batch: Batch) -> Tensor:
    """Mean cross-entropy over all steps; outputs `[T, B, 5]`."""
    return functional.cross_entropy(outputs.flatten(0, 1), batch.target.flatten())


def score(outputs: Tensor, batch: Batch) -> float:
    """The share of the wanted symbols that are right."""
    return (outputs[-LENGTH:].argmax(2) == batch.target[-LENGTH:]).float().mean().item()


COPY_MEMORY = Task(
    name="copy_memory",
    title=f"copy memory, {LENGTH} symbols over {DELAY} steps",
    source="Hochreiter & Schmidhuber 1997",
    input_size=SYMBOLS + 2,
    output_size=SYMBOLS + 1,
    draw=draw,
    validation=lambda: draw(256, torch.Generator().manual_seed(VALIDATION_SEED)),
    test=lambda: draw(1000, torch.Generator().manual_seed(TEST_SEED)),
    loss=loss,
    score=score,
    unit="share of symbols right",
    higher_is_better=True,
    without_memory=1 / SYMBOLS,
    solved=0.99,
    stop=0.002,
    batch=32,
    steps=1200,
)
