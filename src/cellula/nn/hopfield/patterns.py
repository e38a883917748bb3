"""Patterns and states as they are given: any array, one or many; checked before anything is done with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cellula.errors import DataError

__all__ = ["as_numbers", "as_states", "join", "restore_buffers"]


def as_states(value: Any, shape: tuple[int, ...] | None, like: Tensor, what: str) -> tuple[Tensor, bool]:
    """States of -1 and 1 in the dtype and on the device of `like`: [B, *shape], and whether a single one was given.

    Args:
        value: a tensor, an array or nested lists.
        shape: of one state; None where it is not known yet: one axis is a single state then.
        like: a tensor of the memory.
        what: it is called in messages.

    Raises:
        DataError: a value is neither -1 nor 1, or the shape does not fit.
    """
    states, single = as_numbers(value, shape, like, what)
    wrong = (states.abs() != 1).nonzero()
    if len(wrong):
        place = tuple(wrong[0].tolist())
        found = states[place].item()
        shown = ", ".join(map(str, place[1:] if single else place))
        raise DataError(
            f"{what} holds {found:g} at [{shown}], but a unit is -1 or 1; to_pattern(image) makes that of an image, "
            "where(values > 0, 1, -1) of numbers"
        )
    return states, single


def as_numbers(value: Any, shape: tuple[int, ...] | None, like: Tensor, what: str) -> tuple[Tensor, bool]:
    """Finite real numbers, otherwise as `as_states`."""
    numbers = _tensor(value, what)
    if numbers.is_complex() or (numbers.is_floating_point() and not bool(numbers.isfinite().all())):
        raise DataError(f"{what} holds values that are no finite real numbers")
    numbers = numbers.to(like)
    if shape is None:
        if numbers.ndim == 0:
            raise DataError(f"{what} is a single number; give [P, *shape], patterns along the first axis")
        return (numbers[None], True) if numbers.ndim == 1 else (numbers, False)
    if tuple(numbers.shape) == shape:
        return numbers[None], True
    if tuple(numbers.shape[1:]) != shape or numbers.ndim != len(shape) + 1:
        one, many = ", ".join(map(str, shape)), ", ".join(map(str, ("B", *shape)))
        raise DataError(
            f"{what} has the shape {list(numbers.shape)}, but the patterns are [{one}]; give [{one}] or [{many}]"
        )
    return numbers, False


def join(patterns: Tensor, new: Tensor) -> Tensor:
    """All patterns [Q, *shape]: those that are there (none, or of the same shape) and the new ones.

    Raises:
        DataError: the new ones are none, or have no units.
    """
    if new.numel() == 0:
        raise DataError(f"there are no patterns to store: the shape is {list(new.shape)}; give [P, *shape]")
    return torch.cat([patterns, new]) if len(patterns) else new.clone()


def _tensor(value: Any, what: str) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Sequence) and value and all(isinstance(part, Tensor) for part in value):
        if len({part.shape for part in value}) > 1:
            raise DataError(f"{what} differ in shape: {sorted({tuple(part.shape) for part in value})}; give one shape")
        return torch.stack(list(value))
    try:
        array = np.array(value)
    except ValueError as error:
        raise DataError(f"{what} differ in length; give an array of one shape") from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"{what} is an array of numbers, not of {array.dtype} ({type(value).__name__})")
    return torch.from_numpy(array.astype(np.float64))


def restore_buffers(module: nn.Module, state_dict: Mapping[str, Any], prefix: str) -> None:
    """Make room for saved buffers, whose sizes are known only once something was stored."""
    for name, buffer in module.named_buffers(recurse=False):
        saved = state_dict.get(prefix + name)
        if isinstance(saved, Tensor):
            setattr(module, name, buffer.new_zeros(saved.shape))
