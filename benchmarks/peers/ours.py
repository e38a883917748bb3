"""Our own module: what all others are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cellula import Recurrent
from peers.problem import CELLS, Contestant, Problem, by_autograd, joined

__all__ = ["make_module", "make_ours", "ran_by"]


def make_module(cell: str, inputs: int, units: int, backend: str, **others: Any) -> Recurrent:
    """A cell of the zoo, or the text of a formula, on a back end."""
    return Recurrent(cell, inputs, units, backend=backend, **others)


def ran_by(module: Recurrent) -> str:
    """The back end of the last call, and where it is the reference, why."""
    return module.backend.removeprefix("auto, last call: ")


def make_ours(problem: Problem, backend: str) -> Contestant:
    """The cell's formula with the weights of the problem."""
    cell, units = CELLS[problem.case.cell], problem.case.shape.units
    module = make_module(cell.formula, units, units, backend).train(problem.training)
    direction = module.layers[0]
    with torch.no_grad():
        for kind, names in cell.parts.items():
            for name, value in zip(names, problem.weights[kind].chunk(len(names), -1), strict=True):
                getattr(direction, name).copy_(value)
    names = [name for names in cell.parts.values() for name in names]

    def named(gradients: Sequence[Tensor]) -> dict[str, Tensor]:
        return joined(problem, dict(zip(names, gradients, strict=True)))

    wanted = [getattr(direction, name) for name in names]
    return replace(by_autograd(problem, lambda x: module(x)[0], wanted, named), ran_by=lambda: ran_by(module))
