"""Do the numbers stay numbers: at ordinary inputs, and at inputs that no one meant."""

from __future__ import annotations

import torch

from cellula.checks.case import Case
from cellula.checks.report import Failed

__all__ = ["check_finite", "check_large"]

LARGE = 1000.0


def check_finite(case: Case) -> str:
    """Outputs, states and gradients are numbers.

    Raises:
        Failed: something is NaN or infinite.
    """
    _expect_finite(case.without_start(), "at ordinary inputs, from states of 0")
    _expect_finite(case, "at ordinary inputs, from states between 0.1 and 1.1")
    return f"outputs, states and gradients over {len(case.x)} steps are numbers"


def check_large(case: Case) -> str:
    """The same in float32 where every input is 0, very large, very small, or jumps between the two.

    Raises:
        Failed: something is NaN or infinite.
    """
    shapes = {"0": 0.0, f"{LARGE:g}": LARGE, f"-{LARGE:g}": -LARGE, f"±{LARGE:g} in turn": None}
    for name, level in shapes.items():
        with torch.no_grad():
            x = torch.full_like(case.x, LARGE if level is None else level)
            if level is None:
                x[::2] *= -1
        given = case.with_leaves({**case.leaves, "x": x}).to(torch.float32)
        _expect_finite(given, f"where the input is {name} throughout")
    return f"inputs of 0, ±{LARGE:g} and jumps between them give numbers, {len(case.x)} steps in float32"


def _expect_finite(case: Case, when: str) -> None:
    for name, value in case.everything(case.reference).items():
        if not bool(value.isfinite().all()):
            kind = "NaN" if bool(value.isnan().any()) else "infinite"
            raise Failed(
                f"{name} is {kind} {when}{_origin(case)}; look at what it divides by, or takes a log or exp of"
            )


def _origin(case: Case) -> str:
    """Where a value that is no number first appears."""
    names = tuple(case.graph.equation)
    with torch.no_grad():
        given = (case.x, case.start, case.parameters, case.settings, case.sizes)
        nodes = case.reference(*given, record=names).recorded
    for step in range(len(case.x)):
        for name in names:
            if not bool(nodes[name][step].isfinite().all()):
                return f" (first in {name}[t], step {step + 1})"
    return " (the values are numbers, their gradients are not)"
