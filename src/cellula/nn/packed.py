"""Packed sequences of torch: to padded tensors and back, by index, so that every kind of derivative passes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

__all__ = ["Padded", "pad", "to_callers_order", "to_packed_order"]


@dataclass(frozen=True)
class Padded:
    """A packed sequence as a padded tensor, rows in the order in which they are packed.

    Args:
        x: the data [T, B, I], zero behind the ends.
        alive: which rows still run at which step [T, B, 1]; None where all have the same length.
        places: where the packed data stand among the T * B steps; None where all have the same length.
        packed: what it was made from.
    """

    x: Tensor
    alive: Tensor | None
    places: Tensor | None
    packed: PackedSequence

    def pack(self, output: Tensor) -> PackedSequence:
        """An output [T, B, H] packed as the input was."""
        data = output.flatten(0, 1)
        data = data if self.places is None else data.index_select(0, self.places)
        return PackedSequence(data, self.packed.batch_sizes, self.packed.sorted_indices, self.packed.unsorted_indices)


def pad(packed: PackedSequence) -> Padded:
    """Lay out a packed sequence as a padded tensor."""
    data, sizes = packed.data, packed.batch_sizes
    steps, rows = len(sizes), int(sizes[0])
    if int(sizes[-1]) == rows:
        return Padded(data.unflatten(0, (steps, rows)), None, None, packed)
    alive = sizes.unsqueeze(1) > torch.arange(rows)  # [T, B]; batch_sizes is on the CPU
    places = alive.flatten().nonzero().squeeze(1).to(data.device)
    x = data.new_zeros(steps * rows, data.shape[1]).index_copy(0, places, data).unflatten(0, (steps, rows))
    return Padded(x, alive.unsqueeze(-1).to(data.device), places, packed)


def to_packed_order(value: Tensor, packed: PackedSequence, dim: int) -> Tensor:
    """The caller's rows in the order in which they are packed."""
    return value if packed.sorted_indices is None else value.index_select(dim, packed.sorted_indices)


def to_callers_order(value: Tensor, packed: PackedSequence, dim: int) -> Tensor:
    """Rows as packed in the order in which the caller gave them."""
    return value if packed.unsorted_indices is None else value.index_select(dim, packed.unsorted_indices)
