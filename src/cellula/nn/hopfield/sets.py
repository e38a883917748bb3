"""What the Hopfield layers share: sets as they are given, masks, how a layer starts and prints itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cellula.errors import UsageError
from cellula.nn.hopfield.association import Association

__all__ = ["check_units", "masked", "reset", "shown", "with_batch_in_front"]

_ASSOCIATION: Mapping[str, Any] = {"num_heads": 1, "beta": None, "num_steps": 1, "dropout": 0.0}


def reset(*maps: nn.Linear) -> None:
    """Matrices after Glorot and Bengio, biases 0."""
    for linear in maps:
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)


def check_units(value: Any, units: int, what: str) -> None:
    """A tensor of floating point numbers whose last axis has this many units."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        found = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise UsageError(f"{what} is a tensor of floating point numbers, not {found}")
    if value.ndim == 0 or value.shape[-1] != units:
        raise UsageError(f"{what} is [..., {units}], not {list(value.shape)}")


def with_batch_in_front(value: Any, units: int, batch_first: bool, what: str) -> Tensor:
    """A set with its batch in front [B, S, ...]."""
    check_units(value, units, what)
    if value.ndim != 3 or 0 in value.shape[:2]:
        wanted = f"[B, S, {units}]" if batch_first else f"[S, B, {units}]"
        raise UsageError(f"{what} is {wanted} with at least one pattern, not {list(value.shape)}")
    return value if batch_first else value.transpose(0, 1)


def masked(stored: Tensor, mask: Tensor | None, batch_first: bool) -> tuple[Tensor, Tensor | None]:
    """Stored patterns [B, S, ...] with 0 where there are none, and the mask [B, S]."""
    if mask is None:
        return stored, None
    wanted = list(stored.shape[:2] if batch_first else stored.shape[1::-1])
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or list(mask.shape) != wanted:
        found = f"{mask.dtype} {list(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        raise UsageError(f"the mask is a tensor of truth values {wanted}, not {found}")
    mask = mask if batch_first else mask.transpose(0, 1)
    # What is not there may hold anything, NaN too, and must not reach a product.
    return torch.where(mask[..., None], stored, torch.zeros_like(stored)), mask


def shown(module: nn.Module, sizes: tuple[int, int], defaults: Mapping[str, Any]) -> str:
    """The constructor call."""
    association = module.association
    assert isinstance(association, Association)
    given = {name: getattr(module, name) for name in defaults}
    given |= {name: getattr(association, name) for name in _ASSOCIATION}
    given |= {"batch_first": getattr(module, "batch_first", False)}
    standard = {**defaults, **_ASSOCIATION, "batch_first": False}
    parts = [*map(repr, sizes), *(f"{name}={value!r}" for name, value in given.items() if value != standard[name])]
    return f"{type(module).__name__}({', '.join(parts)})"
