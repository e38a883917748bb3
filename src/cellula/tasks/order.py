"""Which examples a step sees and which random numbers it draws: pure functions of the seed and the position.

Nothing here has a state, so a resumed run draws what the uninterrupted one would have drawn.
"""

from __future__ import annotations

import random

import numpy as np
import torch

__all__ = ["epoch_order", "seed_step", "shard", "validation_order"]

# Different words keep the streams of one seed apart.
ORDER_STREAM, STEP_STREAM = 1, 2


def epoch_order(seed: int, epoch: int, examples: int, limit: int | None = None) -> np.ndarray:
    """The examples of an epoch in the order of training.

    Args:
        seed: the seed of the run.
        epoch: the epoch, from 1.
        examples: how many there are.
        limit: at most so many are taken, another random part each epoch; None takes all.

    Returns:
        Indices, [examples] or [limit], int64, each at most once.
    """
    generator = np.random.default_rng(np.random.SeedSequence([ORDER_STREAM, seed, epoch]))
    return generator.permutation(examples)[:limit]


def validation_order(examples: int, limit: int | None = None) -> np.ndarray:
    """The validation examples in order: all, or `limit` of them spread evenly; the same ones every epoch."""
    if limit is None or limit >= examples:
        return np.arange(examples)
    return np.linspace(0, examples - 1, limit).round().astype(np.int64)


def shard(indices: np.ndarray, process: int, processes: int) -> tuple[np.ndarray, float]:
    """The part of a batch that one of several processes computes, and the weight of its mean loss.

    The processes average their gradients. With these weights that average is the gradient of the mean over
    the whole batch, also where the batch does not divide evenly. A process with no example takes the first
    one at weight 0, since all must take part in the exchange.

    Args:
        indices: the whole batch.
        process: the number of this process, from 0.
        processes: how many there are.

    Returns:
        The indices for this process and the factor for its loss.

    Example:
        >>> shard(np.array([5, 6, 7]), 0, 2)
        (array([5, 7]), 1.333...)
        >>> shard(np.array([5, 6, 7]), 1, 2)
        (array([6]), 0.666...)
    """
    mine = indices[process::processes]
    weight = len(mine) * processes / len(indices)
    return (mine, weight) if len(mine) else (indices[:1], 0.0)


def seed_step(seed: int, step: int, process: int, device: torch.device) -> None:
    """Seeds torch (the CPU and the device in use), numpy and Python for one step of one process."""
    words = np.random.SeedSequence([STEP_STREAM, seed, step, process]).generate_state(3, np.uint32)
    # torch takes 64 bits; the other two get a word of their own.
    value = int(words[0]) << 16 ^ int(words[1])
    if device.type == "cpu":
        # torch.manual_seed would also prepare every absent GPU: a millisecond a step.
        torch.default_generator.manual_seed(value)
    else:
        torch.manual_seed(value)
    # The old global generator is what a user's own code may draw from.
    np.random.seed(int(words[1]))  # noqa: NPY002
    random.seed(int(words[2]))
