"""The layers of the package torchrecurrent, which runs each cell of its zoo in a loop over steps."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import torch
from torch import Tensor

from peers.problem import Contestant, Problem, Unavailable, by_autograd

__all__ = ["make_torchrecurrent"]

# Of the four cells it has this one; torch.nn has the others.
LAYERS = {"peephole_lstm": "PeepholeLSTM"}
PARAMETERS = {"weight_ih": "W", "weight_hh": "U", "bias_ih": "b", "weight_ph": "p", "bias_hh": None}


def make_torchrecurrent(problem: Problem) -> Contestant:
    """The package's layer with our weights; its second bias, which we do not have, is 0."""
    if problem.case.cell not in LAYERS:
        raise Unavailable(f"torchrecurrent has no {problem.case.cell}")
    try:
        # Optional: not everyone who measures has it.
        package = import_module("torchrecurrent")
    except ImportError as error:
        raise Unavailable("torchrecurrent is not installed: pip install torchrecurrent==0.2.5") from error
    units = problem.case.shape.units
    module = getattr(package, LAYERS[problem.case.cell])(units, units).train(problem.training)
    tensors = [getattr(module.cells[0], name) for name in PARAMETERS]
    with torch.no_grad():
        for tensor, kind in zip(tensors, PARAMETERS.values(), strict=True):
            if kind is None:
                tensor.zero_()
            else:
                tensor.copy_(problem.weights[kind].T if kind in "WU" else problem.weights[kind])

    def named(gradients: Sequence[Tensor]) -> dict[str, Tensor]:
        pairs = zip(PARAMETERS.values(), gradients, strict=True)
        return {kind: value.T if kind in "WU" else value for kind, value in pairs if kind}

    return by_autograd(problem, lambda x: module(x)[0], tensors, named)
