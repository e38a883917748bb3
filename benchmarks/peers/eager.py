"""A loop over steps in plain torch, written as well as it can be: one product for all inputs, one per step.

The LSTMs keep their gates in the order i, f, o, g, so that one sigmoid serves three of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from peers.problem import Contestant, Problem, by_autograd

__all__ = ["FORWARD", "make_eager", "make_loop", "reordered"]

Weights = Mapping[str, Tensor]


def _hoisted(x: Tensor, weights: Weights) -> tuple[tuple[Tensor, ...], Tensor]:
    """What the inputs of all steps give, step by step [B, G*H], and a state of zeros [B, H]."""
    given = torch.addmm(weights["b"], x.flatten(0, 1), weights["W"]).unflatten(0, x.shape[:2])
    return given.unbind(0), x.new_zeros(x.shape[1], weights["U"].shape[0])


def lstm(x: Tensor, weights: Weights) -> Tensor:
    """[T, B, I] -> [T, B, H]."""
    given, h = _hoisted(x, weights)
    c, units, outputs = h, h.shape[1], []
    for step in given:
        gates = torch.addmm(step, h, weights["U"])
        i, f, o = torch.sigmoid(gates[:, : 3 * units]).chunk(3, 1)
        c = torch.addcmul(f * c, i, torch.tanh(gates[:, 3 * units :]))
        h = o * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs)


def gru(x: Tensor, weights: Weights) -> Tensor:
    """[T, B, I] -> [T, B, H]."""
    given, h = _hoisted(x, weights)
    units, outputs = h.shape[1], []
    for step in given:
        product = h @ weights["U"]
        r, z = torch.sigmoid(step[:, : 2 * units] + product[:, : 2 * units]).chunk(2, 1)
        n = torch.tanh(torch.addcmul(step[:, 2 * units :], r, product[:, 2 * units :] + weights["c"]))
        h = torch.lerp(n, h, z)
        outputs.append(h)
    return torch.stack(outputs)


def elman(x: Tensor, weights: Weights) -> Tensor:
    """[T, B, I] -> [T, B, H]."""
    given, h = _hoisted(x, weights)
    outputs = []
    for step in given:
        h = torch.tanh(torch.addmm(step, h, weights["U"]))
        outputs.append(h)
    return torch.stack(outputs)


def peephole_lstm(x: Tensor, weights: Weights) -> Tensor:
    """[T, B, I] -> [T, B, H]."""
    given, h = _hoisted(x, weights)
    c, units, outputs = h, h.shape[1], []
    both, last = weights["p"][: 2 * units].view(2, units), weights["p"][2 * units :]
    for step in given:
        gates = torch.addmm(step, h, weights["U"])
        two = gates[:, : 2 * units].unflatten(1, (2, units))  # [B, 2, H]
        i, f = torch.sigmoid(torch.addcmul(two, both, c.unsqueeze(1))).unbind(1)
        c = torch.addcmul(f * c, i, torch.tanh(gates[:, 3 * units :]))
        o = torch.sigmoid(torch.addcmul(gates[:, 2 * units : 3 * units], last, c))
        h = o * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs)


FORWARD = {"lstm": lstm, "gru": gru, "elman": elman, "peephole_lstm": peephole_lstm}


def reordered(problem: Problem, tensors: Weights) -> dict[str, Tensor]:
    """From the gates' order i, f, g, o to i, f, o, g, or back; other cells stay as they are."""
    if not problem.case.cell.endswith("lstm"):
        return dict(tensors)
    gated = {kind: tensors[kind].unflatten(-1, (4, -1))[..., [0, 1, 3, 2], :].flatten(-2) for kind in "WUb"}
    return {**tensors, **gated}


def make_loop(problem: Problem, forward: Callable[[Tensor, Weights], Tensor]) -> Contestant:
    """A contestant out of a loop."""
    weights = {kind: value.clone().requires_grad_() for kind, value in reordered(problem, problem.weights).items()}

    def named(gradients: Sequence[Tensor]) -> dict[str, Tensor]:
        return reordered(problem, dict(zip(weights, gradients, strict=True)))

    return by_autograd(problem, lambda x: forward(x, weights), list(weights.values()), named)


def make_eager(problem: Problem) -> Contestant:
    """The loop as it is."""
    return make_loop(problem, FORWARD[problem.case.cell])
