"""What the drop-ins for LSTM, GRU and RNN have in common: torch's arguments, shapes, names and errors, and more.

They inherit from `torch.nn.RNNBase`, which brings torch's own constructor, its parameters and their start, and not from
`torch.nn.LSTM` and its sisters, since torch.compile refuses whatever is one of those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from cellula.backends.reference import Result
from cellula.errors import ShapeError, UsageError
from cellula.nn.checks import autocasts, check_input, check_starts, parts_of
from cellula.nn.direction import Borrowed, run_backward, run_forward
from cellula.nn.forms import Form, form_of, program_of
from cellula.nn.masks import alive_mask, reset_mask
from cellula.nn.packed import Padded, pad, to_callers_order, to_packed_order

__all__ = ["Layers"]


class Layers(nn.RNNBase):
    """What `LSTM`, `GRU` and `RNN` have in common; not to be made itself.

    Called with `(input, hx)` as the layers of torch.nn are, and with what they lack:

    Args:
        input: [T, B, I], [B, T, I] with `batch_first`, [T, I] without a batch, or a PackedSequence.
        hx: where to start, as torch gives and takes it: h_0, or a tuple where the state has two parts; each
            [L*D, B, H], without a batch [L*D, H]. None for zero.
        lengths: steps of every row, 0 to T; what lies behind is not read and its output is 0. None: all T.
        reset: a mask of booleans, of the shape of the input without its units: where true, the row begins anew, from
            zero, at this step.
        record: names of the formula's nodes to return too, such as `("i", "f")`.

    Returns:
        `(output, hx)`; with `record` `(output, hx, recorded)`, where `recorded["i"]` is [L*D, T, B, H], batch first
        [L*D, B, T, H]. For a PackedSequence the output is one too, and what is recorded is padded.

    Raises:
        ShapeError: a shape does not fit; it is a RuntimeError, as torch's, and a ValueError.
        UsageError: an argument that torch does not have is wrong.
    """

    weight_ih_l0: Tensor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.make_ready()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.make_ready()

    def make_ready(self) -> None:
        """Make the program now, since torch.compile cannot, and drop what a layer of torch keeps beside its weights."""
        program_of(self._form)
        self.__dict__.pop("_flat_weights", None)
        self._flat_weight_refs = []

    @property
    def _form(self) -> Form:
        return form_of(self.mode, self.proj_size > 0)

    # RNNBase keeps a second list of its weights, for cuDNN, and watches whether it is stale. Here every call reads the
    # attributes, so that what replaces them (parametrizations, functional_call, ties) needs no care.
    @property
    def _flat_weights(self) -> list[Tensor | None]:
        return [getattr(self, name, None) for name in self._flat_weights_names]

    def _init_flat_weights(self) -> None:
        """Nothing to keep."""

    def _update_flat_weights(self) -> None:
        """Nothing to update."""

    def _replicate_for_data_parallel(self) -> Any:
        return nn.Module._replicate_for_data_parallel(self)

    def flatten_parameters(self) -> None:
        """Nothing: there is no other layout of the weights that would be faster."""

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        reset: Tensor | None = None,
        record: Sequence[str] = (),
    ) -> Any:
        """Run over whole sequences; see the class."""
        data = input.data if isinstance(input, PackedSequence) else input
        if autocasts(self, data):
            return self._without_autocast(data.device.type, input, hx, lengths, reset, record)
        names = (record,) if isinstance(record, str) else tuple(record)
        starts = parts_of(self, hx, self._form.states)
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise UsageError("a PackedSequence has lengths of its own; leave out lengths=")
            check_input(self, data, (2,))
            output, states, recorded = self._run_packed(pad(input), starts, reset, names)
        else:
            check_input(self, data, (2, 3))
            run = self._run_batch if data.ndim == 3 else self._run_single
            output, states, recorded = run(data, starts, lengths, reset, names)
        hx = states[0] if len(states) == 1 else tuple(states)
        return (output, hx, recorded) if names else (output, hx)

    def _run_batch(
        self, x: Tensor, starts: list[Tensor] | None, lengths: Any, reset: Any, record: tuple[str, ...]
    ) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
        """A batch in the caller's layout."""
        x = x.transpose(0, 1) if self.batch_first else x
        if x.shape[0] == 0:
            raise ShapeError("Expected sequence length to be larger than 0 in RNN")
        check_starts(self, starts, self._state_units(), x.shape[1], 3)
        alive = None if lengths is None else alive_mask(lengths, x)
        again = None if reset is None else reset_mask(reset, x, self.batch_first)
        output, states, recorded = self._run(x, starts, alive, again, record)
        return output.transpose(0, 1) if self.batch_first else output, states, self._laid_out(recorded)

    def _run_single(
        self, x: Tensor, starts: list[Tensor] | None, lengths: Any, reset: Any, record: tuple[str, ...]
    ) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
        """One sequence without a batch [T, I]: a batch of one."""
        check_starts(self, starts, self._state_units(), 1, 2)
        axis = 0 if self.batch_first else 1
        output, states, recorded = self._run_batch(
            x.unsqueeze(axis),
            None if starts is None else [value.unsqueeze(1) for value in starts],
            None if lengths is None else torch.as_tensor(lengths).reshape(-1),
            reset.unsqueeze(axis) if isinstance(reset, Tensor) else reset,
            record,
        )
        recorded = {name: value.squeeze(1 + axis) for name, value in recorded.items()}
        return output.squeeze(axis), [value.squeeze(1) for value in states], recorded

    def _run_packed(
        self, padded: Padded, starts: list[Tensor] | None, reset: Any, record: tuple[str, ...]
    ) -> tuple[PackedSequence, list[Tensor], dict[str, Tensor]]:
        """A packed batch: rows run in the order in which they are packed, and come back in the caller's."""
        packed, x = padded.packed, padded.x
        check_starts(self, starts, self._state_units(), x.shape[1], 3)
        starts = None if starts is None else [to_packed_order(value, packed, 1) for value in starts]
        again = None if reset is None else to_packed_order(reset_mask(reset, x, self.batch_first), packed, 1)
        output, states, recorded = self._run(x, starts, padded.alive, again, record)
        states = [to_callers_order(value, packed, 1) for value in states]
        recorded = {name: to_callers_order(value, packed, 2) for name, value in recorded.items()}
        return padded.pack(output), states, self._laid_out(recorded)

    def _laid_out(self, recorded: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.transpose(1, 2) for name, value in recorded.items()} if self.batch_first else recorded

    def _run(
        self, x: Tensor, starts: list[Tensor] | None, alive: Tensor | None, reset: Tensor | None,
        record: tuple[str, ...],
    ) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:  # fmt: skip
        """All layers and directions on x [T, B, I]."""
        form = self._form
        program, units = program_of(form), self._state_units()
        for name in record:
            if name not in program.equations:
                known = ", ".join(program.equations)
                raise UsageError(f"record={name!r} is not a node of this layer; the nodes are {known}")
        results: list[Result] = []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x = nn.functional.dropout(x, self.dropout, self.training)
            outputs = []
            for side, suffix in enumerate(("", "_reverse") if self.bidirectional else ("",)):
                sizes = {"input": x.shape[-1], "hidden": self.hidden_size, "proj": self.proj_size}
                parameters = self._parameters_of(form, f"l{layer}{suffix}")
                borrowed = Borrowed(program, parameters, sizes, units, self.training)
                if starts is None:
                    start = borrowed.start(x)
                else:
                    start = {name: value[len(results)] for name, value in zip(form.states, starts, strict=True)}
                run = run_backward if side else run_forward
                results.append(run(borrowed, x, start, {}, alive, record, reset))
                outputs.append(results[-1].output)
            x = torch.cat(outputs, -1) if len(outputs) > 1 else outputs[0]
        states = [_stacked([result.state[name] for result in results]) for name in form.states]
        return x, states, {name: _stacked([result.recorded[name] for result in results]) for name in record}

    def _parameters_of(self, form: Form, end: str) -> dict[str, Tensor]:
        """The formula's parameters for one layer in one direction."""
        return form.parameters(
            getattr(self, f"weight_ih_{end}"),
            getattr(self, f"weight_hh_{end}"),
            getattr(self, f"bias_ih_{end}") if self.bias else None,
            getattr(self, f"bias_hh_{end}") if self.bias else None,
            getattr(self, f"weight_hr_{end}") if self.proj_size else None,
        )

    def _state_units(self) -> dict[str, int]:
        """Units of every part of the state; what is projected is h."""
        units = dict.fromkeys(self._form.states, self.hidden_size)
        return units | {"h": self.proj_size or self.hidden_size}

    def _without_autocast(self, device: str, input: Any, hx: Any, lengths: Any, reset: Any, record: Any) -> Any:
        """As if autocast were off, in the type of the parameters, which is never less exact."""
        dtype = self.weight_ih_l0.dtype
        parts = parts_of(self, hx, self._form.states)
        if parts is not None:
            parts = [value.to(dtype) for value in parts]
            hx = parts[0] if len(parts) == 1 else tuple(parts)
        with torch.autocast(device, enabled=False):
            return self.forward(input.to(dtype), hx, lengths=lengths, reset=reset, record=record)


def _stacked(values: list[Tensor]) -> Tensor:
    """[L*D, ...]"""
    return values[0].unsqueeze(0) if len(values) == 1 else torch.stack(values)
