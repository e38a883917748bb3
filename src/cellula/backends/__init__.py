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

BACKENDS = ("auto", "c", "reference")


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
        raise UsageError(f"{where} is {name!r}: there is no such back end; write one of {', '.join(map(repr, BACKENDS))}")
    return name


def compile(plan: Plan, backend: str | None = None) -> Program:
    """Make a plan runnable.

    Args:
        plan: what runs when.
        backend: `"reference"`, plain torch; `"c"`, generated C, compiled when it first runs; `"auto"`, generated C
            where it can run a call, else the reference. None: `$CELLULA_BACKEND`, or `"auto"` where that is not set.

    Returns:
        A program: call it with the input, the states, the parameters, the settings and the sizes.

    Raises:
        UsageError: there is no such back end.

    Example:
        >>> from cellula import build, compile, make_plan
        >>> program = compile(make_plan(build("h[t] = tanh(x[t] @ W)")), "reference")
    """
    name = chosen_backend(backend)
    # torch is loaded only when something is to run.
    if name == "reference":
        from cellula.backends.reference import ReferenceProgram

        return ReferenceProgram(plan)
    if name == "c":
        from cellula.backends.c.launch.program import CProgram

        return CProgram(plan)
    from cellula.backends.auto import AutoProgram

    return AutoProgram(plan)
