"""ONNX's recurrent nodes as torch modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cellula.backends.onnx.reader import NodeReading, read_node
from cellula.errors import UsageError
from cellula.nn.recurrent import Recurrent

__all__ = ["RecurrentNode"]


class RecurrentNode(nn.Module):
    """An `LSTM`, `GRU` or `RNN` node of ONNX: a formula for each direction, with the node's weights.

    Inputs and outputs are those of the node, in the shapes that ONNX gives them; the parameters can be trained on.

    Args:
        kind: `"LSTM"`, `"GRU"` or `"RNN"`.
        attributes: the node's attributes; those that are missing have ONNX's defaults.
        tensors: W and R, and B, P, `initial_h`, `initial_c`, `sequence_lens` where the node has them as constants.

    Attributes:
        recurrents: a `Recurrent` for each direction, with its formula in `cell_text`.
        reading: what was read.

    Raises:
        UsageError: an attribute or a shape is not as ONNX has it.

    Example:
        >>> import numpy as np, torch
        >>> from cellula.nn import RecurrentNode
        >>> weights = {"W": np.ones((1, 4, 3), "float32"), "R": np.ones((1, 4, 4), "float32")}
        >>> node = RecurrentNode("RNN", {"activations": ["Relu"]}, weights)
        >>> [tuple(value.shape) for value in node(torch.zeros(5, 2, 3))]
        [(5, 1, 2, 4), (1, 2, 4)]

    Reference: ONNX operators LSTM, GRU and RNN, https://onnx.ai/onnx/operators/
    """

    sequence_lens: Tensor | None
    initial_h: Tensor | None
    initial_c: Tensor | None

    def __init__(self, kind: str, attributes: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        weights = {name: tensors[name] for name in ("W", "R", "B", "P") if name in tensors}
        self.reading: NodeReading = read_node(kind, attributes, weights)
        self.recurrents = nn.ModuleList()
        dtype = torch.from_numpy(np.array(tensors["R"])).dtype
        for side in self.reading.sides:
            made = Recurrent(side.formula, self.reading.input_size, self.reading.hidden_size, dtype=dtype)
            with torch.no_grad():
                for name, value in side.tensors.items():
                    getattr(made.layers[0], name).copy_(torch.from_numpy(np.array(value)))
            self.recurrents.append(made)
        # What the file gives as constants is used where the caller gives nothing.
        for name in ("sequence_lens", "initial_h", "initial_c"):
            value = torch.from_numpy(np.array(tensors[name])) if name in tensors else None
            self.register_buffer(name, value)

    @property
    def formulas(self) -> tuple[str, ...]:
        """The formula of each direction."""
        return tuple(recurrent.cell_text for recurrent in self._all())

    def forward(
        self,
        x: Tensor,
        sequence_lens: Tensor | None = None,
        initial_h: Tensor | None = None,
        initial_c: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Run over whole sequences.

        Args:
            x: the input [T, B, I], with layout 1 [B, T, I].
            sequence_lens: steps of every row [B]; None: those of the file, else all T.
            initial_h, initial_c: where the states start [D, B, H], with layout 1 [B, D, H]; None: those of the file,
                else zero.

        Returns:
            `(Y, Y_h)`, or `(Y, Y_h, Y_c)` of an LSTM: the output [T, D, B, H], with layout 1 [B, T, D, H], and the last
            states, shaped as the initial ones.

        Raises:
            UsageError: a shape does not fit.
        """
        turned = self.reading.layout == 1
        given = {"h": initial_h if initial_h is not None else self.initial_h}
        if self.reading.kind == "LSTM":
            given["c"] = initial_c if initial_c is not None else self.initial_c
        lengths = sequence_lens if sequence_lens is not None else self.sequence_lens
        if x.ndim != 3:
            raise UsageError(f"x is {'[B, T, I]' if turned else '[T, B, I]'}, not {list(x.shape)}")
        starts = {slot: self._start(slot, value, x) for slot, value in given.items()}
        x = x.transpose(0, 1) if turned else x
        outputs, lasts = [], []
        for number, (side, recurrent) in enumerate(zip(self.reading.sides, self._all(), strict=True)):
            order = _order(x, lengths) if side.reverse else None
            state = recurrent.state(**{slot: value[number : number + 1] for slot, value in starts.items()})
            output, last = recurrent(_taken(x, order), state, lengths=lengths)
            outputs.append(_taken(output, order))
            lasts.append(last)
        whole = torch.stack(outputs, 1)  # [T, D, B, H]
        states = [torch.cat([getattr(last, slot) for last in lasts]) for slot in given]
        if turned:
            whole, states = whole.permute(2, 0, 1, 3), [state.transpose(0, 1) for state in states]
        return (whole, *states)

    def _all(self) -> list[Recurrent]:
        return [recurrent for recurrent in self.recurrents if isinstance(recurrent, Recurrent)]

    def _start(self, slot: str, value: Tensor | None, x: Tensor) -> Tensor:
        """Where a state starts [D, B, H]."""
        turned, reading = self.reading.layout == 1, self.reading
        rows = x.shape[0 if turned else 1]
        shape = (len(reading.sides), rows, reading.hidden_size)
        if value is None:
            return x.new_zeros(shape)
        value = value.transpose(0, 1) if turned and value.ndim == 3 else value
        if tuple(value.shape) != shape:
            raise UsageError(f"initial_{slot} is [D, B, H] = {list(shape)}, not {list(value.shape)}")
        return value


def _order(x: Tensor, lengths: Tensor | None) -> Tensor:
    """For each row its steps from back to front, within its length [T, B]."""
    steps = torch.arange(x.shape[0], device=x.device)[:, None].expand(-1, x.shape[1])
    last = torch.full_like(steps[0], x.shape[0]) if lengths is None else lengths.to(steps)
    return torch.where(steps < last, last - 1 - steps, steps)


def _taken(x: Tensor, order: Tensor | None) -> Tensor:
    return x if order is None else x.gather(0, order.unsqueeze(-1).expand_as(x))
