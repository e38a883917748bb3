"""How the layers of torch.nn are formulas: which cell they are, and how its parameters lie in torch's stacked ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from cellula.backends import chosen_backend, compile
from cellula.cells.catalogue import load_cell
from cellula.plan.plan import make_plan

if TYPE_CHECKING:
    from cellula.backends import Program

__all__ = ["MODES", "Form", "form_of", "program_of"]

# What torch.nn.RNN may apply, and what torch calls the `mode` of a layer that does.
MODES = {"tanh": "RNN_TANH", "relu": "RNN_RELU"}


@dataclass(frozen=True)
class Form:
    """One kind of layer of torch.nn as a formula.

    Args:
        cell: a cell of the zoo, or a formula.
        inputs, recurrent, biases: the formula's parameters in the order in which torch stacks its gates.
        states: the formula's states in the order in which torch gives and takes them.
        apart: what the formula calls the second bias of the last gate, where it does not just add to the first.
    """

    cell: str
    inputs: tuple[str, ...]
    recurrent: tuple[str, ...]
    biases: tuple[str, ...]
    states: tuple[str, ...]
    apart: str | None = None

    def parameters(
        self, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor | None, bias_hh: Tensor | None,
        weight_hr: Tensor | None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """The formula's parameters, as views of torch's; the two biases of a gate are added."""
        gates = len(self.inputs)
        made = dict(zip(self.inputs, weight_ih.mT.chunk(gates, 1), strict=True))
        made.update(zip(self.recurrent, weight_hh.mT.chunk(gates, 1), strict=True))
        if bias_ih is None or bias_hh is None:
            zero = weight_ih.new_zeros(weight_ih.shape[0] // gates)
            made.update((name, zero) for name in self.biases)
            if self.apart is not None:
                made[self.apart] = zero
        else:
            made.update(zip(self.biases, (bias_ih + bias_hh).chunk(gates), strict=True))
            if self.apart is not None:
                made[self.biases[-1]] = bias_ih.chunk(gates)[-1]
                made[self.apart] = bias_hh.chunk(gates)[-1]
        if weight_hr is not None:
            made["W_h"] = weight_hr.mT
        return made


def _gated(cell: str, gates: str, states: tuple[str, ...], apart: str | None = None) -> Form:
    inputs, recurrent, biases = (tuple(f"{kind}_{gate}" for gate in gates) for kind in "WUb")
    return Form(cell, inputs, recurrent, biases, states, apart)


def _simple(cell: str) -> Form:
    return Form(cell, ("W",), ("U",), ("b",), ("h",))


_PROJECTED_RNN = "m[t] = {}(x[t] @ W + h[t-1] @ U + b)\nh[t]: proj = m[t] @ W_h"

# By what torch calls `mode`, and whether there is a projection.
_FORMS: dict[tuple[str, bool], Form] = {
    ("LSTM", False): _gated("lstm", "ifgo", ("h", "c")),
    ("LSTM", True): _gated("projected_lstm", "ifgo", ("h", "c")),
    ("GRU", False): _gated("gru_torch", "rzn", ("h",), "c_n"),
    ("GRU", True): _gated("projected_gru", "rzn", ("h", "m"), "c_n"),
    ("RNN_TANH", False): _simple("elman"),
    ("RNN_TANH", True): _simple(_PROJECTED_RNN.format("tanh")),
    ("RNN_RELU", False): _simple("irnn"),
    ("RNN_RELU", True): _simple(_PROJECTED_RNN.format("relu")),
}

# A table, since torch.compile looks through functools.cache, and cannot compile a plan.
_PROGRAMS: dict[str, Program] = {}


def form_of(mode: str, projected: bool) -> Form:
    """The form of a layer with this `mode`, such as `"LSTM"` or `"RNN_TANH"`."""
    return _FORMS[mode, projected]


def program_of(form: Form) -> Program:
    """The program that runs a form, made when it is first asked for."""
    backend = chosen_backend()
    key = f"{backend} {form.cell}"
    if key not in _PROGRAMS:
        _PROGRAMS[key] = compile(make_plan(load_cell(form.cell)), backend)
    return _PROGRAMS[key]
