"""The bare matrix products of a cell at the same shapes: what no program that calls the same products can beat."""

from __future__ import annotations

import torch
from torch import Tensor

from peers.problem import CELLS, Contestant, Problem

__all__ = ["make_roof"]


def make_roof(problem: Problem) -> Contestant:
    """One product for all inputs and one per step; in training one per step and three for all steps more."""
    batch, steps, units = problem.case.shape
    columns = CELLS[problem.case.cell].gates * units
    w, u = problem.weights["W"], problem.weights["U"]
    x, hidden = problem.x.flatten(0, 1), problem.x.clone()
    gates = torch.empty(steps, batch, columns)
    whole = gates.flatten(0, 1)
    before, flat = list(hidden.unbind(0)), hidden.flatten(0, 1)
    step = list(gates.unbind(0))
    dx, dh = torch.empty_like(x), torch.empty(batch, units)
    dw, du = torch.empty_like(w), torch.empty_like(u)

    def forward() -> None:
        torch.mm(x, w, out=whole)
        for h, out in zip(before, step, strict=True):
            torch.mm(h, u, out=out)

    def backward() -> None:
        for d in reversed(step):
            torch.mm(d, u.T, out=dh)
        torch.mm(whole, w.T, out=dx)
        torch.mm(x.T, whole, out=dw)
        torch.mm(flat.T, whole, out=du)

    def run() -> Tensor:
        with torch.inference_mode():
            forward()
            if problem.training:
                backward()
        return whole

    return Contestant(run, None)
