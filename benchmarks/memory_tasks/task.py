"""What a task is: sequences, a loss, a score, and the score without memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Batch", "Task"]


@dataclass(frozen=True)
class Batch:
    """Sequences and what is wanted.

    Args:
        x: the inputs, `[T, B, I]`.
        target: what is wanted, in the form that the task's loss and score read.
    """

    x: Tensor
    target: Tensor


@dataclass(frozen=True)
class Task:
    """A problem for a cell with a linear layer on its output.

    Args:
        name: of the task, as it stands in the results.
        title: for people.
        source: who posed it.
        input_size: numbers of a step's input.
        output_size: numbers that the linear layer gives for every step.
        draw: sequences to train on: how many, and where their randomness comes from.
        validation: sequences that choose the weights and the learning rate.
        test: sequences that are scored once, at the end.
        loss: of outputs `[T, B, O]`; small is good.
        score: of outputs, in `unit`.
        unit: of the score.
        higher_is_better: whether a high score is good.
        without_memory: the score that remembering nothing gives at best.
        solved: the score from which on the task counts as solved.
        stop: training ends early where the loss on the validation sequences is at most this, twice in a row.
        batch: sequences of a training step.
        steps: of training at most.
    """

    name: str
    title: str
    source: str
    input_size: int
    output_size: int
    draw: Callable[[int, torch.Generator], Batch]
    validation: Callable[[], Batch]
    test: Callable[[], Batch]
    loss: Callable[[Tensor, Batch], Tensor]
    score: Callable[[Tensor, Batch], float]
    unit: str
    higher_is_better: bool
    without_memory: float
    solved: float
    stop: float
    batch: int
    steps: int

    def is_solved(self, score: float) -> bool:
        """Whether a score is good enough."""
        return score >= self.solved if self.higher_is_better else score <= self.solved
