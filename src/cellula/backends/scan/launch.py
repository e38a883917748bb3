"""A scan over time in plain torch: `value[t] = a[t] * value[t-1] + b[t]` for all t in a number of calls that grows with
the logarithm of the steps.

Nothing is divided and no logarithm is taken: steps are joined by `(a2 * a1, a2 * b1 + b2)` alone, which holds for every
a, 0 and 1 among them. Several states that depend on each other have matrices [new][old] in place of a; None stands
for an entry that is 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["scan"]

# So many steps are joined one after the other; what is left is a scan of as many times fewer steps.
RADIX = 8

Entries = Sequence[Sequence[Tensor | None]]


def scan(coefficients: Entries, offsets: Sequence[Tensor], start: Sequence[Tensor]) -> list[Tensor]:
    """The values of states that depend on each other unit by unit, after every step.

    Args:
        coefficients: [new][old] of each step, [T, B, H] each.
        offsets: what is added to each state, [T, B, H].
        start: each state before the first step, [B, H].

    Returns:
        Every state after each step, [T, B, H].

    Example:
        >>> import torch
        >>> from cellula.backends.scan.launch import scan
        >>> half, one = torch.full((3, 1, 1), 0.5), torch.ones(3, 1, 1)
        >>> scan([[half]], [one], [torch.zeros(1, 1)])[0].flatten().tolist()
        [1.0, 1.5, 1.75]
    """
    there = tuple(tuple(one is not None for one in row) for row in coefficients)
    given = [one for row in coefficients for one in row if one is not None]
    return list(_Scan.apply(there, *given, *offsets, *start))


def _entries(
    there: Sequence[Sequence[bool]], tensors: Sequence[Tensor | None]
) -> tuple[list[list[Tensor | None]], int]:
    """The entries of a matrix from those that are not 0, and how many these are."""
    left = iter(tensors)
    rows = [[next(left) if one else None for one in row] for row in there]
    return rows, sum(sum(row) for row in there)


def _before(start: Tensor, values: Tensor) -> Tensor:
    """The value before every step."""
    return torch.cat([start.unsqueeze(0), values[:-1]])


class _Scan(torch.autograd.Function):
    """A scan whose gradient is a scan from the last step to the first."""

    generate_vmap_rule = True

    @staticmethod
    def forward(there: Sequence[Sequence[bool]], *tensors: Tensor) -> tuple[Tensor, ...]:
        coefficients, count = _entries(there, tensors)
        size = len(there)
        return tuple(_values(coefficients, tensors[count : count + size], tensors[count + size :]))

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        ctx.there, tensors = inputs[0], inputs[1:]
        size = len(ctx.there)
        # The offsets have done their part.
        kept = (*tensors[: -2 * size], *tensors[-size:], *output)
        ctx.save_for_backward(*kept)
        ctx.save_for_forward(*kept)

    @staticmethod
    def _saved(ctx) -> tuple[list[list[Tensor | None]], list[Tensor], list[Tensor]]:
        """The coefficients, the start and the values before every step."""
        # Where segments are computed again, they may be asked for once only.
        saved, size = ctx.saved_tensors, len(ctx.there)
        coefficients, count = _entries(ctx.there, saved)
        start, values = saved[count : count + size], saved[count + size :]
        return coefficients, list(start), [_before(*pair) for pair in zip(start, values, strict=True)]

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        coefficients, start, before = _Scan._saved(ctx)
        size = range(len(start))
        # What the step after this one carries back goes through that step's matrix, turned.
        turned = [[_late(coefficients[new][old]) for new in size] for old in size]
        found = scan(turned, [one.flip(0) for one in gradients], [torch.zeros_like(one) for one in start])
        offsets = [one.flip(0) for one in found]
        each: list[Tensor] = []
        d_start = [torch.zeros_like(one) for one in start]
        for new in size:
            for old in size:
                entry = coefficients[new][old]
                if entry is not None:
                    each.append(offsets[new] * before[old])
                    d_start[old] = d_start[old] + entry[0] * offsets[new][0]
        return None, *each, *offsets, *d_start

    @staticmethod
    def jvp(ctx, _, *tangents: Tensor | None):
        coefficients, start, before = _Scan._saved(ctx)
        changes, count = _entries(ctx.there, tangents)
        size = len(start)
        offsets = []
        for new, offset in enumerate(tangents[count : count + size]):
            total = torch.zeros_like(before[new]) if offset is None else offset
            for change, value in zip(changes[new], before, strict=True):
                total = total if change is None else total + change * value
            offsets.append(total)
        pairs = zip(tangents[count + size :], start, strict=True)
        starts = [torch.zeros_like(value) if own is None else own for own, value in pairs]
        return tuple(scan(coefficients, offsets, starts))


def _late(entry: Tensor | None) -> Tensor | None:
    """The coefficients from the last step to the second; nothing comes before them."""
    return None if entry is None else torch.cat([torch.zeros_like(entry[:1]), entry[1:].flip(0)])


def _values(a: Entries, b: Sequence[Tensor], start: Sequence[Tensor]) -> list[Tensor]:
    """The values after every step: those of whole blocks of `RADIX` steps first, then those within them."""
    steps = len(b[0])
    blocks = steps // RADIX
    if blocks < 2:
        return _one_by_one(a, b, start)
    whole = blocks * RADIX
    in_blocks = [[_cut(one, blocks) for one in row] for row in a]
    offsets = [one[:whole].reshape(blocks, RADIX, *one.shape[1:]) for one in b]
    joined, ends = _at(in_blocks, 0), [one[:, 0] for one in offsets]
    for r in range(1, RADIX):
        now = _at(in_blocks, r)
        ends = _applied(now, ends, [one[:, r] for one in offsets])
        joined = _product(now, joined)
    ends = _values(joined, ends, start)
    inside: list[list[Tensor]] = []
    values = [_before(*pair) for pair in zip(start, ends, strict=True)]
    for r in range(RADIX):
        values = _applied(_at(in_blocks, r), values, [one[:, r] for one in offsets])
        inside.append(values)
    found = [torch.stack(one, 1).reshape(whole, *one[0].shape[1:]) for one in zip(*inside, strict=True)]
    if whole == steps:
        return found
    rest = [[None if one is None else one[whole:] for one in row] for row in a]
    after = _one_by_one(rest, [one[whole:] for one in b], [one[-1] for one in ends])
    return [torch.cat(pair) for pair in zip(found, after, strict=True)]


def _one_by_one(a: Entries, b: Sequence[Tensor], start: Sequence[Tensor]) -> list[Tensor]:
    values, found = list(start), []
    for t in range(len(b[0])):
        now = [[None if one is None else one[t] for one in row] for row in a]
        values = _applied(now, values, [one[t] for one in b])
        found.append(values)
    return [torch.stack(one) for one in zip(*found, strict=True)]


def _cut(entry: Tensor | None, blocks: int) -> Tensor | None:
    return None if entry is None else entry[: blocks * RADIX].reshape(blocks, RADIX, *entry.shape[1:])


def _at(a: Entries, step: int) -> list[list[Tensor | None]]:
    """The matrices of one step of all blocks."""
    return [[None if one is None else one[:, step] for one in row] for row in a]


def _applied(a: Entries, values: Sequence[Tensor], b: Sequence[Tensor]) -> list[Tensor]:
    """a @ values + b."""
    found = []
    for row, total in zip(a, b, strict=True):
        for entry, value in zip(row, values, strict=True):
            total = total if entry is None else torch.addcmul(total, entry, value)
        found.append(total)
    return found


def _product(left: Entries, right: Entries) -> list[list[Tensor | None]]:
    """left @ right, where None is 0."""
    size = range(len(left))
    return [[_sum_of_products([(left[i][k], right[k][j]) for k in size]) for j in size] for i in size]


def _sum_of_products(pairs: Sequence[tuple[Tensor | None, Tensor | None]]) -> Tensor | None:
    total: Tensor | None = None
    for one, other in pairs:
        if one is not None and other is not None:
            total = one * other if total is None else torch.addcmul(total, one, other)
    return total
