"""What a drop-in accepts, with the messages of torch's own layers where torch has one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cellula.errors import ShapeError, UsageError

__all__ = ["autocasts", "check_input", "check_starts", "parts_of"]


def autocasts(module: nn.Module, data: Any) -> bool:
    """Whether autocast is on where the data are.

    Raises:
        UsageError: the data are not a tensor.
    """
    if not isinstance(data, Tensor):
        raise UsageError(f"the input of a {type(module).__name__} is a tensor, not {type(data).__name__}")
    kind = data.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def parts_of(module: nn.Module, hx: Any, states: tuple[str, ...]) -> list[Tensor] | None:
    """The parts of a state, one for each name.

    Raises:
        UsageError: hx is not a tensor, or not a tuple of them where there are several parts.
    """
    if hx is None:
        return None
    parts = (hx,) if len(states) == 1 else hx
    fits = isinstance(parts, tuple | list) and len(parts) == len(states)
    if not fits or not all(isinstance(part, Tensor) for part in parts):
        wanted = "a tensor" if len(states) == 1 else f"({', '.join(states)})"
        raise UsageError(f"hx of this {type(module).__name__} is {wanted}, not {type(hx).__name__}")
    return list(parts)


def check_input(layers: nn.RNNBase, data: Tensor, dims: tuple[int, ...]) -> None:
    """The input, or the data of a packed one, fits the layers and has one of these numbers of dimensions.

    Raises:
        UsageError: its dtype or number of dimensions does not fit.
        ShapeError: its shape does not fit.
    """
    dtype = layers.weight_ih_l0.dtype
    if data.dtype != dtype:
        raise UsageError(
            f"RNN input dtype ({data.dtype}) does not match weight dtype ({dtype}). "
            f"Convert input: input.to({dtype}), or convert model: model.to({data.dtype})"
        )
    if data.ndim not in dims:
        if len(dims) == 1:
            raise ShapeError(f"input must have {dims[0]} dimensions, got {data.ndim}")
        raise UsageError(f"{type(layers).__name__}: Expected input to be 2D or 3D, got {data.ndim}D instead")
    if data.shape[-1] != layers.input_size:
        raise ShapeError(
            f"input.size(-1) must be equal to input_size. Expected {layers.input_size}, got {data.shape[-1]}"
        )


def check_starts(
    layers: nn.RNNBase, starts: list[Tensor] | None, units: Mapping[str, int], rows: int, dims: int
) -> None:
    """Every part of a start is [L*D, B, H], or [L*D, H] where the input has no batch.

    Raises:
        ShapeError: one is not, or its dtype is not that of the input.
    """
    number = layers.num_layers * (2 if layers.bidirectional else 1)
    dtype = layers.weight_ih_l0.dtype
    for place, (part, size) in enumerate(zip(starts or (), units.values(), strict=False)):
        name = "hidden" if len(units) == 1 else f"hidden[{place}]"
        if part.ndim != dims:
            kind = "batched 3-D" if dims == 3 else "unbatched 2-D"
            raise ShapeError(f"For {kind} input, hx should also be {dims}-D but got {part.ndim}-D tensor")
        expected = (number, rows, size) if dims == 3 else (number, size)
        if tuple(part.shape) != expected:
            raise ShapeError(f"Expected {name} size {expected}, got {list(part.shape)}")
        if part.dtype != dtype:
            raise ShapeError(f"Expected {name} of the dtype of the input, {dtype}, got {part.dtype}")
