"""A layer that reads a signal sample after sample and keeps its own state."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cellula.backends.c.launch.stepper import Stepper, is_plain
from cellula.errors import UsageError

if TYPE_CHECKING:
    from cellula.nn.recurrent import Recurrent

__all__ = ["Stream"]

_pointer: Callable[[Any], int] = Tensor.data_ptr


class Stream:
    """A layer at work on an endless signal: one call a sample, the state inside, nothing else kept.

    What it gives is what `layer.step` gives, without gradients, and with less around every step: the state lies in two
    places that take turns. Weights that change, by training or loading, count from the next sample on. One stream is
    for one thread; any number of streams may share a layer.

    Args:
        layer: the layer, not bidirectional.
        state: where to start, as `layer.step` takes it; None: the layer's own initial state.

    Raises:
        UsageError: the layer is bidirectional.

    Example:
        >>> import torch
        >>> from cellula import Recurrent
        >>> stream = Recurrent("gru", 3, 8).stream()
        >>> for sample in torch.zeros(4, 1, 3):
        ...     output = stream(sample)
        >>> output.shape, stream.state.h.shape
        (torch.Size([1, 8]), torch.Size([1, 1, 8]))
    """

    def __init__(self, layer: Recurrent, state: Any = None) -> None:
        if layer.bidirectional:
            raise UsageError("a bidirectional layer needs the whole sequence; make a stream of one with one direction")
        self.layer = layer
        self._kept, self._again = state, None
        self._runner: _Runner | None = None

    def __reduce__(self) -> tuple:
        return Stream, (self.layer, self.state)

    def __repr__(self) -> str:
        return f"Stream({self.layer!r})"

    @property
    def state(self) -> Any:
        """The state after the last sample, a named tuple of tensors [L, B, H]; None before the first one."""
        return self._kept if self._runner is None else self._runner.state()

    def reset(self, rows: Tensor | None = None) -> None:
        """Begin anew at the next sample, from the layer's own initial state.

        Args:
            rows: which rows do, booleans [B]; None: all of them.
        """
        if rows is None:
            self._kept, self._runner, self._again = None, None, None
        else:
            self._again = rows if self._again is None else self._again | rows

    def __call__(self, x: Tensor) -> Tensor:
        """Read one sample, or a chunk of them.

        Args:
            x: one sample [B, I], or a chunk [T, B, I] ([B, T, I] with `batch_first`).

        Returns:
            The output [B, H], or those of the chunk.

        Raises:
            UsageError: a shape does not fit.
        """
        runner = self._runner
        if runner is not None and self._again is None:
            output = runner(x)
            if output is not None:
                return output
        return self._by_the_layer(x)

    def _by_the_layer(self, x: Tensor) -> Tensor:
        layer, again = self.layer, self._again
        with torch.no_grad():
            if x.ndim == 3:
                mask = None
                if again is not None:
                    axis = 1 if layer.batch_first else 0
                    mask = torch.zeros(x.shape[:2], dtype=torch.bool)
                    mask.select(axis, 0).copy_(again)
                output, state = layer(x, self.state, reset=mask)
            else:
                output, state = layer._step(x, self.state, again)
        self._kept, self._again = state, None
        self._runner = _Runner.of(layer, state)
        return output


class _Runner:
    """The kernels of a layer's steps, with all that does not change from sample to sample worked out."""

    def __init__(self, layer: Recurrent, steppers: Sequence[tuple[Stepper, Mapping[str, Tensor | None]]], state: Any):
        self.layer, self.draws = layer, layer._draws
        self.turns = [[value.contiguous().clone() for value in state], [torch.empty_like(value) for value in state]]
        self.type, self.turn = type(state), 0
        self.dtype = state[0].dtype if state else torch.float32
        self.shape = (state[0].shape[1], layer.input_size)
        self.layers = [_Layer(self, number, stepper, own) for number, (stepper, own) in enumerate(steppers)]

    @classmethod
    def of(cls, layer: Recurrent, state: Any) -> _Runner | None:
        """What runs from this state; None where each step needs the whole way."""
        steppers = layer.__dict__.get("_steppers")
        if not steppers or not state or not all(isinstance(value, Tensor) and value.is_cpu for value in state):
            return None
        if any(stepper.dtype != state[0].dtype or not stepper.seen for stepper, _ in steppers):
            return None
        return cls(layer, steppers, state)

    def state(self) -> Any:
        return self.type._make([value.clone() for value in self.turns[self.turn]])

    def __call__(self, x: Tensor) -> Tensor | None:
        """The output of a sample; None where the whole way must be gone."""
        if (
            x.shape != self.shape
            or x.dtype is not self.dtype
            or not is_plain(x)
            or (self.draws and self.layer.training)
        ):
            return None
        turn = self.turn
        try:
            if any(list(map(_pointer, layer.values)) != layer.seen for layer in self.layers):
                return None
        except TypeError:
            # A parameter that was taken out is None.
            return None
        for layer in self.layers:
            output = x.new_empty(layer.shape)
            pointers = layer.pointers[turn]
            pointers[0], pointers[layer.place] = _pointer(x), _pointer(output)
            if layer.function(layer.numbers, layer.addresses[turn], layer.settings):
                raise MemoryError("there is not enough memory for the kernel's scratch space; use a smaller batch")
            x = output
        self.turn = 1 - turn
        return x


class _Layer:
    """What the kernel of one layer is told, for either place of the state."""

    def __init__(self, runner: _Runner, number: int, stepper: Stepper, own: Mapping[str, Tensor | None]) -> None:
        batch = runner.shape[0]
        self.values = own.values()
        self.seen, self.function = stepper.seen, stepper.function
        self.shape = (batch, stepper.output)
        self.place = 1 + len(stepper.pointers)
        places = [[value[number].data_ptr() for value in turn] for turn in runner.turns]
        self.pointers = [
            array("Q", (0, *stepper.pointers, 0, *start, *final, 0)) for start, final in (places, reversed(places))
        ]
        # The arrays are kept, as the kernel is told where they lie.
        self.kept = stepper.numbers_for(batch), stepper.settings_array
        self.numbers, self.settings = (part.buffer_info()[0] for part in self.kept)
        self.addresses = [part.buffer_info()[0] for part in self.pointers]
