"""One step at a time with as little as possible around it, for streaming."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack
from torch.autograd import forward_ad

from cellula.backends.c.launch.calls import Shape
from cellula.backends.c.launch.program import DTYPES, CProgram

__all__ = ["Stepper", "can_step", "is_plain"]


def can_step(x: Tensor) -> bool:
    """Whether a step needs nothing but the kernel: no gradients, no transforms, no casts."""
    return not torch.is_grad_enabled() and x.dtype in DTYPES and len(x) > 0 and is_plain(x)


def is_plain(x: Tensor) -> bool:
    """Whether a kernel can read a tensor as it is, and nobody is looking on."""
    return (
        x.is_cpu
        and x.is_contiguous()
        and not x.is_neg()
        and peek_interpreter_stack() is None
        and forward_ad._current_level < 0
        and not torch.is_autocast_enabled("cpu")
        and torch._C._get_tracing_state() is None
        and not torch.compiler.is_compiling()
    )


_pointer: Callable[[Any], int] = Tensor.data_ptr


class Stepper:
    """The steps of one layer in one direction.

    What a call of the kernel is told about its parameters is kept, as long as they lie where they lay.

    Args:
        program: the cell.
        sizes: name -> number of units.
        settings: name -> number.
        attributes: name of a parameter -> what the layer calls it.
    """

    def __init__(
        self, program: CProgram, sizes: Mapping[str, int], settings: Mapping[str, float], attributes: Mapping[str, str]
    ) -> None:
        self.program, self.sizes, self.settings, self.attributes = program, sizes, dict(settings), attributes
        self.shape: Shape | None = None
        self.function: Callable[..., int] = lambda *_: 1
        self.output, self.dtype = 0, torch.float32
        self.seen: list[int] = []
        self.pointers: tuple[int, ...] = ()
        self.prefix, self.settings_array = array("q"), array("d")
        # What a kernel is told for a batch, as long as the parameters lie where they lay.
        self.numbers: dict[int, array[int]] = {}

    def __call__(
        self, x: Tensor, start: Sequence[int], final: Sequence[int], own: Mapping[str, Tensor | None]
    ) -> Tensor | None:
        """The output [B, H] of a step; None where the whole way must be gone.

        Args:
            x: the input [B, I], contiguous.
            start, final: where the states before and after the step lie, in the order of the formula.
            own: the parameters by the names that the layer gives them.
        """
        values = own.values()
        try:
            seen = list(map(_pointer, values))
        except TypeError:
            # A parameter that was taken out is None.
            return None
        if (seen != self.seen or x.dtype != self.dtype) and not self._look(x.dtype, own, seen):
            return None
        batch = len(x)
        output = x.new_empty((batch, self.output))
        numbers = self.numbers.get(batch) or self.numbers_for(batch)
        pointers = array("Q", (_pointer(x), *self.pointers, _pointer(output), *start, *final, 0))
        settings = self.settings_array
        if self.function(numbers.buffer_info()[0], pointers.buffer_info()[0], settings.buffer_info()[0]):
            raise MemoryError("there is not enough memory for the kernel's scratch space; use a smaller batch")
        return output

    def numbers_for(self, batch: int) -> array[int]:
        """The sizes and strides with this many rows."""
        found = array("q", self.prefix)
        found[5] = batch
        if len(self.numbers) > 64:
            self.numbers = {}
        self.numbers[batch] = found
        return found

    def _look(self, dtype: torch.dtype, own: Mapping[str, Tensor | None], seen: list[int]) -> bool:
        """Note where the parameters lie; false where a kernel cannot read them as they are."""
        shape = self.program.shape(False, False, (), dtype, self.sizes)
        found = {name: own.get(attribute) for name, attribute in self.attributes.items()}
        values = [found.get(name) for name in shape.parameters]
        vectors = values[len(shape.layout.matrices) :]
        if any(value is None or value.dtype != dtype for value in values):
            return False
        if not all(value.is_contiguous() for value in vectors if value is not None):
            return False
        self.shape, self.function, self.output = shape, shape.compiled.forward, shape.output
        self.pointers = tuple(value.data_ptr() for value in values if value is not None)
        strides: list[int] = []
        for value in values[: len(shape.layout.matrices)]:
            assert value is not None
            stride = value.stride()
            strides += (*stride, 0) if len(stride) == 2 else (*stride[1:], stride[0])
        self.prefix = array("q", [0, 0, 0, 1, 1, 0, 0, 0, *shape.units, *strides])
        self.settings_array = array("d", [self.settings[name] for name in shape.layout.settings] or [0.0])
        self.numbers, self.seen, self.dtype = {}, seen, dtype
        return True
