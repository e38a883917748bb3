"""What happens at which step of which row: where rows end, where they begin anew, and the way from their ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cellula.errors import UsageError

__all__ = ["alive_mask", "backward_resets", "reset_mask", "reversed_rows"]


def alive_mask(lengths: Tensor | Sequence[int], x: Tensor) -> Tensor:
    """Which rows still run at which step [T, B, 1]."""
    given = torch.as_tensor(lengths, device=x.device)
    if given.shape != x.shape[1:2] or given.is_floating_point():
        raise UsageError(
            f"lengths holds a whole number for each of the {x.shape[1]} rows, not {list(given.shape)} of {given.dtype}"
        )
    if torch.compiler.is_compiling():
        # Numbers of a tensor are not known there; what is compiled checks them when it runs.
        fits = ((given >= 0) & (given <= x.shape[0])).all()
        torch.ops.aten._assert_async.msg(fits, "lengths holds a number that is not from 0 to the number of steps")
    elif wrong := [int(n) for n in given.tolist() if not 0 <= n <= x.shape[0]]:
        raise UsageError(f"lengths holds {wrong[0]}, but the rows have 0 to {x.shape[0]} steps")
    return (torch.arange(x.shape[0], device=x.device)[:, None] < given).unsqueeze(-1)


def reset_mask(reset: Any, x: Tensor, batch_first: bool) -> Tensor:
    """The mask as the programs take it [T, B, 1].

    Args:
        reset: true where the row starts anew at this step [T, B], or [B, T] with `batch_first`.
        x: the input [T, B, I].
        batch_first: whether the caller's batch comes before the steps.

    Raises:
        UsageError: it is not a mask of this shape.
    """
    wanted = x.shape[:2] if not batch_first else x.shape[:2][::-1]
    if not isinstance(reset, Tensor) or reset.dtype != torch.bool:
        found = f"a tensor of {reset.dtype}" if isinstance(reset, Tensor) else type(reset).__name__
        raise UsageError(f"reset is a mask of booleans {list(wanted)}, not {found}; write (done != 0), for example")
    if reset.shape != wanted:
        raise UsageError(f"reset is a mask {list(wanted)}, one value a step and row, not {list(reset.shape)}")
    return (reset.transpose(0, 1) if batch_first else reset).unsqueeze(-1)


def backward_resets(reset: Tensor, alive: Tensor | None) -> Tensor:
    """The mask for a run from the end: what begins anew at a step is cut from the step before it."""
    if alive is not None:
        reset = reset & alive
    return torch.cat([reset[1:], torch.zeros_like(reset[:1])])


def reversed_rows(x: Tensor, alive: Tensor | None) -> Tensor:
    """Each row back to front, within its own length."""
    if alive is None:
        return x.flip(0)
    steps = torch.arange(x.shape[0], device=x.device)[:, None]
    last = alive.sum(0).transpose(0, 1) - 1  # [1, B]
    order = torch.where(steps <= last, last - steps, steps)  # [T, B]
    return x.gather(0, order.unsqueeze(-1).expand_as(x))
