"""What a call is like, as whole numbers: all that the binding must know to allocate, run a kernel, and go back."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence

import torch
from torch import Tensor

from cellula.backends.c.launch.calls import Shape
from cellula.backends.c.launch.kernels import home, thread_functions

__all__ = ["make_recipe"]


def make_recipe(
    shape: Shape, names: Sequence[str], settings: Sequence[float], size: tuple[int, int, int], wanted: Sequence[bool],
    stacked: bool, single: bool,
) -> Tensor | None:  # fmt: skip
    """The numbers of `Head` in binding.cpp in its order, and the lists behind them; None for what Python does better.

    Args:
        shape: the kernel and its sizes.
        names: the parameters in the order of the formula.
        settings: in the kernel's order.
        size: of the input, [T, B, I].
        wanted: whose gradients are wanted, the input, the states and the parameters in the order of the formula; empty
            where none is.
        stacked: whether states are [1, B, H], not [B, H].
        single: whether there is one step, and input and output are [B, I] and [B, H].
    """
    steps, batch, width = size
    kernel, back, compiled = shape.kernel, shape.kernel.backward, shape.compiled
    if kernel.once or shape.records:
        return None
    jobs: Sequence[int] = ()
    results: Sequence[int] = ()
    factors: Sequence[int] = ()
    begun = written = wants_input = False
    if wanted and back is not None:
        if not shape.is_small(steps, batch):
            return None
        begun, written, wants_input = back.input is not None, back.input is not None or bool(back.inputs), wanted[0]
        wants = dict(zip(names, wanted[1 + len(shape.states) :], strict=True))
        small = shape.small(steps, batch, tuple(wants[name] for name in shape.parameters), wants_input, width)
        jobs, results, factors = small.array, tuple(small.results), small.matrices
    functions = [compiled.forward, compiled.backward if wanted else None, compiled.products]
    addresses = [ctypes.cast(one, ctypes.c_void_p).value or 0 if one is not None else 0 for one in functions]
    lists = (
        shape.states,
        [names.index(name) for name in shape.parameters],
        [shape.states[number] for number in shape.series],
        shape.totals,
        shape.units,
        struct.unpack(f"{len(settings)}q", struct.pack(f"{len(settings)}d", *settings)),
        results,
        factors,
        jobs,
    )
    head = [
        *(steps, batch, width, shape.output), *addresses, *thread_functions(), home(),
        *(shape.work, shape.extra, begun, written, wants_input, stacked, single),
        *(len(shape.states), len(names), len(shape.parameters), len(shape.layout.matrices), len(shape.series)),
        *(len(shape.totals), len(shape.units), len(settings), len(results), len(factors), len(jobs) // 13),
    ]  # fmt: skip
    numbers = [int(number) for part in (head, *lists) for number in part]
    return torch.tensor(numbers, dtype=torch.int64, device="cpu")
