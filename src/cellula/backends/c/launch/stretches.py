"""Resets within a sequence: every stretch from one reset to the next runs as a row of its own, beside all others.

Nothing crosses a reset, so the stretches are independent: the kernels need not know of resets, and what was one long
row becomes many short ones, which run at the same time. Outputs have the bits of the same steps without resets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cellula.backends.reference import Result

__all__ = ["run_stretches"]


@dataclass(frozen=True)
class Group:
    """Stretches of about the same length, one beside the other, and where the steps of [T * B] stand among theirs.

    Args:
        numbers: which stretches.
        alive: which of their steps there are [steps, stretches].
        source: where each step comes from [steps * stretches]; what is no step comes from the stretch's first one.
    """

    numbers: Tensor
    alive: Tensor
    source: Tensor


class _Move(torch.autograd.Function):
    """Rows moved to other places, each at most once; the way back is a move too.

    Args:
        value: [rows, units].
        source, holes: of every new row where it comes from, and whether it comes from nowhere.
        back, back_holes: the same for the way back.
        filled: whether holes are filled with what stands at their source, instead of 0.
    """

    @staticmethod
    def forward(ctx, value: Tensor, source: Tensor, holes: Tensor, back: Tensor, back_holes: Tensor, filled: bool):
        ctx.save_for_backward(source, holes, back, back_holes)
        moved = value.index_select(0, source)
        return moved if filled else moved.masked_fill_(holes.unsqueeze(-1), 0)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        source, holes, back, back_holes = ctx.saved_tensors
        return _Move.apply(gradient, back, back_holes, source, holes, False), *[None] * 5


def run_stretches(
    run: Callable[..., Result], x: Tensor, state: Mapping[str, Tensor], initial: Mapping[str, Tensor], reset: Tensor,
    alive: Tensor | None, masks: Sequence[tuple[Tensor, bool]],
) -> Result:  # fmt: skip
    """Run a call with resets by calls without.

    Args:
        run: takes x, the state and, by name, `alive` and `masks`; returns a `Result`.
        x: the input [T, B, I].
        state: slot -> its value before the first step [B, H].
        initial: slot -> the value that it is set back to [B, H].
        reset: before which step of a row its state is set back [T, B, 1].
        alive: which rows still run at which step [T, B, 1].
        masks: the random masks, and whether each differs from step to step, [T, B, H], or not, [B, H].
    """
    initial = {slot: value.to(x.dtype) for slot, value in initial.items()}
    reset = reset if alive is None else reset & alive
    if not reset[1:].any():
        state = {slot: torch.where(reset[0], initial[slot], value) for slot, value in state.items()}
        return run(x, state, alive=alive, masks=[mask for mask, _ in masks])
    steps, batch, _ = x.shape
    first = reset[:, :, 0].clone()
    first[0] = True
    rows, begins = first.T.nonzero(as_tuple=True)
    ends = torch.full((batch,), steps) if alive is None else alive.sum((0, 2))
    last = torch.cat([rows[1:] != rows[:-1], torch.ones(1, dtype=torch.bool)])
    counts = torch.where(last, ends[rows], begins.roll(-1)) - begins
    own = ((begins == 0) & ~reset[0, rows, 0]).unsqueeze(-1)
    starts = {s: torch.where(own, value[rows], initial[s][rows]) for s, value in state.items()}
    groups = _groups(counts, begins * batch + rows, batch)
    moves = _Moves(groups, steps * batch)
    parts, results = moves.there(x.flatten(0, 1)), []
    for group, part in zip(groups, parts, strict=True):
        given = [_masks_of(group, mask, each, rows) for mask, each in masks]
        own_start = {slot: value[group.numbers] for slot, value in starts.items()}
        whole = None if group.alive.all() else group.alive.unsqueeze(-1)
        results.append(run(part.view(*group.alive.shape, -1), own_start, alive=whole, masks=given))
    order = torch.cat([group.numbers for group in groups])
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))[last]
    final = {slot: torch.cat([one.state[slot] for one in results])[place] for slot in state}
    shape = (steps, batch, -1)
    recorded = {name: moves.back([one.recorded[name] for one in results]).view(shape) for name in results[0].recorded}
    return Result(moves.back([one.output for one in results]).view(shape), final, recorded)


def _groups(counts: Tensor, firsts: Tensor, batch: int) -> list[Group]:
    """Stretches by length: within a group the shortest has more than half the steps of the longest."""
    ordered, numbers = counts.sort(descending=True, stable=True)
    # Of 4 to 7 steps, of 2 and 3, of 1; none goes with the last ones.
    octaves = ordered.clamp(min=1).double().log2().floor()
    if len(counts) * int(ordered[0]) <= 2 * int(counts.sum()):
        octaves = torch.zeros_like(octaves)
    _, widths = octaves.unique_consecutive(return_counts=True)
    groups = []
    for own in numbers.split(widths.tolist()):
        step = torch.arange(max(int(counts[own[0]]), 1)).unsqueeze(-1)
        alive = step < counts[own]
        groups.append(Group(own, alive, (firsts[own] + torch.where(alive, step, 0) * batch).flatten()))
    return groups


class _Moves:
    """The way of all steps [T * B] to the groups and back."""

    def __init__(self, groups: Sequence[Group], rows: int) -> None:
        self.counts = [len(group.source) for group in groups]
        self.source = torch.cat([group.source for group in groups])
        self.holes = ~torch.cat([group.alive.flatten() for group in groups])
        target = torch.full((rows,), -1)
        target[self.source[~self.holes]] = (~self.holes).nonzero().squeeze(-1)
        self.target, self.ended = target.clamp(min=0), target < 0

    def there(self, value: Tensor) -> Sequence[Tensor]:
        """The rows of every group."""
        found: Any = _Move.apply(value, self.source, self.holes, self.target, self.ended, True)
        return found.split(self.counts)

    def back(self, parts: Sequence[Tensor]) -> Tensor:
        """The rows in their places; 0 where a row has ended."""
        value = torch.cat([part.flatten(0, 1) for part in parts])
        found: Any = _Move.apply(value, self.target, self.ended, self.source, self.holes, False)
        return found


def _masks_of(group: Group, mask: Tensor, each_step: bool, rows: Tensor) -> Tensor:
    if not each_step:
        return mask[rows[group.numbers]]
    return mask.flatten(0, 1)[group.source].view(*group.alive.shape, -1)
