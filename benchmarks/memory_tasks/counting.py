"""a^n b^n c^n: read a string symbol by symbol and say every time which symbols may come next.

After an a another a or a b may come; from the first b on there is but one answer, which takes counting. A string is
right where all four answers (may an a, b, c, the end come?) are right at every step. Trained on n = 1 to 10, tested
on n = 1 to 100: the score is the n up to which all strings are right, so that a score above 10 is counting beyond what
was trained. The language is not context-free.

Reference: Gers & Schmidhuber 2001, LSTM Recurrent Networks Learn Simple Context-Free and Context-Sensitive Languages,
IEEE Transactions on Neural Networks 12(6), https://doi.org/10.1109/72.963769
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from memory_tasks.task import Batch, Task

__all__ = ["COUNTING", "LONGEST", "TRAINED", "loss", "score", "strings"]

TRAINED, LONGEST = 10, 100
START, END = 3, 3


@cache
def strings(longest: int) -> Batch:
    """One string for every n from 1 to the longest.

    Returns:
        x `[T, B, 4]`: a, b, c or start; all 0 after the end of the string. target `[T, B, 4]`: 1 where a, b, c or the
        end may come next, else 0; -1 after the end of the string.
    """
    length = 3 * longest + 1
    x, target = torch.zeros(length, longest, 4), torch.full((length, longest, 4), -1.0)
    for column in range(longest):
        n = column + 1
        shown = torch.tensor([START] + [0] * n + [1] * n + [2] * n)
        follows = torch.tensor([0] * (n + 1) + [1] * (n - 1) + [2] * n + [END])
        x[: len(shown), column] = functional.one_hot(shown, 4).float()
        target[: len(shown), column] = functional.one_hot(follows, 4).float()
        # After an a, a b may come too.
        target[1 : n + 1, column, 1] = 1.0
    return Batch(x, target)


def loss(outputs: Tensor, batch: Batch) -> Tensor:
    """Mean binary cross-entropy of the four answers over the steps of the strings; outputs `[T, B, 4]`."""
    inside = (batch.target >= 0).float()
    return functional.binary_cross_entropy_with_logits(outputs, batch.target.clamp(min=0), inside, reduction="sum") / (
        inside.sum()
    )


def score(outputs: Tensor, batch: Batch) -> float:
    """The n up to which all strings are right; the strings are those of n = 1, 2, 3, ..."""
    right = ((outputs > 0) == (batch.target > 0)) | (batch.target < 0)
    return float(right.all(2).all(0).long().cumprod(0).sum())


COUNTING = Task(
    name="counting",
    title=f"a^n b^n c^n, trained on n = 1 to {TRAINED}",
    source="Gers & Schmidhuber 2001",
    input_size=4,
    output_size=4,
    draw=lambda count, generator: strings(count),
    validation=lambda: strings(TRAINED),
    test=lambda: strings(LONGEST),
    loss=loss,
    score=score,
    unit="n up to which all strings are right",
    higher_is_better=True,
    # The answer after a b is always the same: right for n = 1 only.
    without_memory=1.0,
    solved=float(TRAINED),
    stop=0.0002,
    batch=TRAINED,
    steps=800,
)
