"""torch.nn.LSTM, torch.nn.GRU and torch.nn.RNN."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from peers.problem import Contestant, Problem, Unavailable, by_autograd

__all__ = ["make_torch"]

MODULES = {"lstm": nn.LSTM, "gru": nn.GRU, "elman": nn.RNN}
NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def make_torch(problem: Problem) -> Contestant:
    """torch's module with our weights; of its second bias only the part that ours has is not 0."""
    if problem.case.cell not in MODULES:
        raise Unavailable(f"torch.nn has no {problem.case.cell}")
    units = problem.case.shape.units
    module = MODULES[problem.case.cell](units, units).train(problem.training)
    with torch.no_grad():
        module.weight_ih_l0.copy_(problem.weights["W"].T)
        module.weight_hh_l0.copy_(problem.weights["U"].T)
        module.bias_ih_l0.copy_(problem.weights["b"])
        module.bias_hh_l0.zero_()
        if "c" in problem.weights:
            module.bias_hh_l0[-units:].copy_(problem.weights["c"])

    def named(gradients: Sequence[Tensor]) -> dict[str, Tensor]:
        w, u, b, c = gradients
        found = {"W": w.T, "U": u.T, "b": b}
        return {**found, "c": c[-units:]} if "c" in problem.weights else found

    return by_autograd(problem, lambda x: module(x)[0], [getattr(module, name) for name in NAMES], named)
