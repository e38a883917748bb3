"""PLAN -> SOMETHING THAT RUNS."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cellula.errors import UsageError
from cellula.plan.plan import Plan

if TYPE_CHECKING:
    from cellula.backends.auto import AutoProgram
    from cellula.backends.c.launch.program import CProgram
    from cellula.backends.reference import ReferenceProgram

    Program = AutoProgram | CProgram | ReferenceProgram

__all__ = ["BACKENDS", "chosen_backend", "compile"]

BACKENDS = ("auto", "c", "c_steps", "scan", "reference")


def chosen_backend(backend: str | None = None) -> str:
    """The name of a back end: the one given, else `$CELLULA_BACKEND`, else `"auto"`.

    Raises:
        UsageError: there is no such back end.

    Example:
        >>> chosen_backend("reference")
        'reference'
    """
    name, where = backend, "backend"
    if name is None:
        name, where = os.environ.get("CELLULA_BACKEND") or "auto", "CELLULA_BACKEND"
    if name not in BACKENDS:
        raise UsageError(
            f"{where} is {name!r}: there is no such back end; write one of {', '.join(map(repr, BACKENDS))}"
        )
    return name


def compile(plan: Plan, backend: str | None = None) -> Program:
    """Make a plan runnable.

    Args:
        plan: what runs when.
        backend: `"auto"`, the fastest of these that can run a call: `"c"`, generated C, compiled when it first runs;
            `"scan"`, plain torch, all steps at once, for cells that are affine in their states; `"reference"`, plain
            torch, step by step. `"c_steps"` is C that never does a block of steps at once, to compare with. None:
            `$CELLULA_BACKEND`, or `"auto"` where that is not set.

    Returns:
        A program: call it with the input, the states, the parameters, the settings and the sizes.

    Raises:
        UsageError: there is no such back end, or `"scan"` cannot run the cell.

    Example:
        >>> from cellula import build, compile, make_plan
        >>> program = compile(make_plan(build("h[t] = tanh(x[t] @ W)")), "reference")
    """
    name = chosen_backend(backend)
    # torch is loaded only when something is to run.
    if name in ("reference", "scan"):
        from cellula.backends.reference import ReferenceProgram

        return ReferenceProgram(plan, scanned=name == "scan")
    if name in ("c", "c_steps"):
        from cellula.backends.c.launch.program import CProgram

        return CProgram(plan, blocks=name == "c")
    from cellula.backends.auto import AutoProgram

    return AutoProgram(plan)
