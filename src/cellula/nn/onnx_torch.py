"""torch.nn's recurrent layers as `Recurrent`, for files whose steps stay open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cellula.errors import UsageError
from cellula.nn.direction import Direction
from cellula.nn.recurrent import Recurrent

__all__ = ["as_recurrent"]


@dataclass(frozen=True)
class Mode:
    """How torch keeps the weights of a cell.

    Args:
        cell: the cell of the zoo.
        gates: the endings of its parameters, in torch's order.
        inner: the gate whose two biases are two parameters.
    """

    cell: str
    gates: tuple[str, ...]
    inner: str | None = None


MODES = {
    "LSTM": Mode("lstm", ("_i", "_f", "_g", "_o")),
    "GRU": Mode("gru_torch", ("_r", "_z", "_n"), inner="_n"),
    "RNN_TANH": Mode("elman", ("",)),
    "RNN_RELU": Mode("irnn", ("",)),
}


def as_recurrent(module: nn.RNNBase) -> Recurrent:
    """A `Recurrent` that computes what an `nn.LSTM`, `nn.GRU` or `nn.RNN` does outside training, with its weights.

    Raises:
        UsageError: the module projects its state and is no LSTM.

    Example:
        >>> as_recurrent(torch.nn.GRU(3, 4, num_layers=2, bidirectional=True))
        Recurrent('gru_torch', 3, 4, num_layers=2, bidirectional=True)
    """
    mode, proj = MODES[module.mode], getattr(module, "proj_size", 0)
    if proj and mode.cell != "lstm":
        raise UsageError(f"proj_size={proj} of a {module.mode} has no cell in the zoo; only that of an LSTM has one")
    own: dict[str, Any] = {"proj": proj} if proj else {}
    made = Recurrent(
        "projected_lstm" if proj else mode.cell,
        module.input_size,
        module.hidden_size,
        module.num_layers,
        bool(module.bidirectional),
        batch_first=module.batch_first,
        dtype=next(module.parameters()).dtype,
        **own,
    )
    sides = ("", "_reverse") if module.bidirectional else ("",)
    with torch.no_grad():
        for number, direction in enumerate(made.layers):
            assert isinstance(direction, Direction)
            layer, side = divmod(number, len(sides))
            _copy(module, mode, f"_l{layer}{sides[side]}", direction.tensors())
    return made.eval()


def _copy(module: nn.RNNBase, mode: Mode, end: str, parameters: dict[str, Tensor]) -> None:
    """Fill the parameters of one direction."""
    count = len(mode.gates)
    inputs, states = (getattr(module, f"weight_{what}{end}").chunk(count) for what in ("ih", "hh"))
    zero = inputs[0].new_zeros(count * len(inputs[0]))
    biases = [getattr(module, f"bias_{what}{end}") if module.bias else zero for what in ("ih", "hh")]
    for number, gate in enumerate(mode.gates):
        parameters[f"W{gate}"].copy_(inputs[number].T)
        parameters[f"U{gate}"].copy_(states[number].T)
        first, second = (bias.chunk(count)[number] for bias in biases)
        parameters[f"b{gate}"].copy_(first if gate == mode.inner else first + second)
        if gate == mode.inner:
            parameters[f"c{gate}"].copy_(second)
    if "W_h" in parameters:
        parameters["W_h"].copy_(getattr(module, f"weight_hr{end}").T)
