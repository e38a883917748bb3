"""PLAN -> SOMETHING THAT RUNS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellula.errors import UsageError
from cellula.plan.plan import Plan

if TYPE_CHECKING:
    from cellula.backends.reference import ReferenceProgram

__all__ = ["BACKENDS", "compile"]

BACKENDS = ("reference",)


def compile(plan: Plan, backend: str = "reference") -> ReferenceProgram:
    """Make a plan runnable.

    Args:
        plan: what runs when.
        backend: `"reference"`, plain torch.

    Returns:
        A program: call it with the input, the states, the parameters, the settings and the sizes.

    Raises:
        UsageError: there is no such back end.

    Example:
        >>> from cellula import build, compile, make_plan
        >>> program = compile(make_plan(build("h[t] = tanh(x[t] @ W)")))
    """
    if backend not in BACKENDS:
        raise UsageError(f"there is no back end {backend!r}; write one of {', '.join(map(repr, BACKENDS))}")
    # torch is loaded only when something is to run.
    from cellula.backends.reference import ReferenceProgram

    return ReferenceProgram(plan)
