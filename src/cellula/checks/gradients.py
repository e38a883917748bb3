"""Are the gradients right: against finite differences, and the derived backward step against autograd."""

from __future__ import annotations

import torch
from torch import Tensor

from cellula.checks.by_hand import run_backward_by_hand
from cellula.checks.case import Case, expect_equal, weighted_sum
from cellula.checks.report import Failed

__all__ = ["check_backward", "check_differences"]

# Central differences in float64. Where the larger step crosses a kink, as of a relu, the smaller one rarely does too.
_STEPS = ((1e-5, 1e-6), (1e-7, 1e-4))
# Random directions for each leaf: an error hides in none of them.
_DIRECTIONS = 2
_BACKWARD_TOLERANCE = 1e-10


def check_differences(case: Case) -> str:
    """The reference's gradient of every leaf, along random directions, against central differences.

    Raises:
        Failed: they differ.
    """
    leaves = {name: value.detach() for name, value in case.leaves.items()}
    exact = case.everything(case.reference)
    draw = torch.Generator().manual_seed(1)
    along = {
        name: torch.randn((_DIRECTIONS, *value.shape), generator=draw, dtype=value.dtype)
        for name, value in leaves.items()
    }
    slopes = {name: _inner(along[name], exact[f"gradient of {name}"]) for name in leaves}
    error = ""
    for step, tolerance in _STEPS:
        try:
            agreed = expect_equal(_differences(case, leaves, along, step), slopes, tolerance, "all gradients")
        except Failed as failure:
            error = error or str(failure)
            continue
        return f"{agreed} of central differences ({len(leaves)} tensors, float64)"
    raise Failed(f"against central differences, {error}")


def _inner(directions: Tensor, gradient: Tensor) -> Tensor:
    """The slope along each direction."""
    return (directions * gradient).reshape(_DIRECTIONS, -1).sum(1)


def _differences(case: Case, leaves: dict[str, Tensor], along: dict[str, Tensor], step: float) -> dict[str, Tensor]:
    """The slopes as quotients, all from one run: moved copies of the cell stand side by side."""
    moved = {name: value.expand(2 * _DIRECTIONS * len(leaves), *value.shape).clone() for name, value in leaves.items()}
    for number, (name, directions) in enumerate(along.items()):
        first = 2 * _DIRECTIONS * number
        moved[name][first : first + _DIRECTIONS] += step * directions
        moved[name][first + _DIRECTIONS : first + 2 * _DIRECTIONS] -= step * directions

    def total(values: dict[str, Tensor]) -> Tensor:
        return weighted_sum(case.with_leaves(values).values(case.reference).values())

    with torch.no_grad():
        found = torch.func.vmap(total)(moved).view(len(leaves), 2, _DIRECTIONS)
    return dict(zip(leaves, (found[:, 0] - found[:, 1]) / (2 * step), strict=True))


def check_backward(case: Case) -> str:
    """The backward step that kernels are made of, run by hand over time, against autograd.

    Raises:
        Failed: they differ.
    """
    output, leaves = case.run(case.reference).output, case.leaves
    weights = torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view_as(output)
    expected = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    if output.requires_grad:
        found = torch.autograd.grad((output * weights).sum(), list(leaves.values()), allow_unused=True)
        expected |= {name: g for name, g in zip(leaves, found, strict=True) if g is not None}
    with torch.no_grad():
        derived = run_backward_by_hand(case, weights)
    return expect_equal(derived, expected, _BACKWARD_TOLERANCE, "derived equations and autograd agree")
