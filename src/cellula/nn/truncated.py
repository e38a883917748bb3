"""Truncated backpropagation through time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cellula.errors import UsageError
from cellula.nn.layers import Layers
from cellula.nn.recurrent import Recurrent

__all__ = ["Chunk", "truncated"]


@dataclass(frozen=True)
class Chunk:
    """One piece of a long sequence.

    Args:
        start, end: its steps, end exclusive.
        output: the output of its steps [end - start, B, D*H], with the graph of the last k2 steps behind it.
        state: the state after its last step, cut from the graph.
    """

    start: int
    end: int
    output: Tensor
    state: Any


def truncated(
    module: Recurrent | Layers, x: Tensor, k1: int, k2: int | None = None, state: Any = None
) -> Iterator[Chunk]:
    """Walk over a long sequence in pieces of k1 steps whose gradients reach k2 steps back.

    The state is carried from piece to piece; the graph is cut. Compute a loss on every chunk's output and step the
    optimizer before asking for the next one: the parameters may change in between. With k2 > k1 the steps before a
    piece are run again with the parameters as they are then, and dropout and zoneout draw anew for them. k1 = k2 = 1 is
    backpropagation within one step.

    Args:
        module: a unidirectional `Recurrent`, or an `LSTM`, `GRU` or `RNN` of `cellula.nn`.
        x: the whole input [T, B, I], or [B, T, I] with `batch_first`.
        k1: steps per piece, 1 or more.
        k2: how many steps gradients reach back, counted from the end of a piece; at least k1, which is its default.
        state: where to start; None for the initial state.

    Yields:
        A `Chunk` for every k1 steps; the last one may be shorter.

    Raises:
        UsageError: k1 or k2 is out of range, or the module is bidirectional.

    Example:
        >>> import torch
        >>> from cellula import Recurrent, truncated
        >>> cell = Recurrent("elman", 2, 4)
        >>> [chunk.end for chunk in truncated(cell, torch.zeros(10, 1, 2), k1=4)]
        [4, 8, 10]

    Reference:
        Williams & Peng 1990, An Efficient Gradient-Based Algorithm for On-Line Training of Recurrent Network
        Trajectories, Neural Computation 2(4).
    """
    k2 = k1 if k2 is None else k2
    if not isinstance(k1, int) or k1 < 1 or not isinstance(k2, int) or k2 < k1:
        raise UsageError(f"k1 = {k1!r}, k2 = {k2!r}; write whole numbers with 1 <= k1 <= k2")
    if module.bidirectional:
        raise UsageError("a bidirectional module needs the whole sequence; truncated() runs forward only")
    return _chunks(module, x, k1, k2, state)


def _chunks(module: Recurrent | Layers, x: Tensor, k1: int, k2: int, state: Any) -> Iterator[Chunk]:
    axis = 1 if module.batch_first else 0
    behind, begin, length = state, 0, x.shape[axis]  # `behind` is the state before step `begin`
    for start in range(0, length, k1):
        end = min(start + k1, length)
        if end - k2 > begin:
            with torch.no_grad():
                _, behind = module(x.narrow(axis, begin, end - k2 - begin), behind)
            begin = end - k2
        output, after = module(x.narrow(axis, begin, end - begin), behind)
        after = _detached(after)
        yield Chunk(start, end, output.narrow(axis, start - begin, end - start), after)
        if k1 == k2:
            behind, begin = after, end


def _detached(state: Any) -> Any:
    """The same state without its graph: a tensor, or a tuple of tensors with or without names."""
    if isinstance(state, Tensor):
        return state.detach()
    cut = [_cut(value) for value in state]
    return type(state)(*cut) if hasattr(state, "_fields") else tuple(cut)


def _cut(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else tuple(part.detach() for part in value)
