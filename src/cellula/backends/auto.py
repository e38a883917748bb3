"""The fastest back end that can run a call; the reference otherwise."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from cellula.backends.c.compiler import CompilerError, NoCompilerError
from cellula.backends.c.launch.program import (
    RESETS,
    CProgram,
    in_single_precision,
    is_compiling,
    run_traced,
    why_not_traced,
)
from cellula.backends.reference import ReferenceProgram, Result
from cellula.plan.plan import Plan

__all__ = ["AutoProgram"]

# A machine without a compiler is told so once.
_told: set[str] = set()


class AutoProgram:
    """A plan that runs as generated C where that can be, else by the reference.

    Args:
        plan: what runs when.

    Attributes:
        last: the back end of the last call and why, such as `"c"` or `"reference: the input is torch.bfloat16, ..."`.
    """

    name = "auto"

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.c = CProgram(plan)
        self.equations = dict(plan.equations)
        self.reference: ReferenceProgram = self.c.reference
        self.broken = ""
        self.last = ""

    def __deepcopy__(self, memo: dict) -> AutoProgram:
        return AutoProgram(self.plan)

    def __reduce__(self) -> tuple:
        return AutoProgram, (self.plan,)

    def __call__(
        self, x: Any, state: Mapping[str, Any], parameters: Mapping[str, Any], settings: Mapping[str, Any],
        sizes: Mapping[str, int], *, alive: Any = None, training: bool = False, record: Sequence[str] = (),
        reset: Any = None, initial: Mapping[str, Any] | None = None, every: int = 0,
    ) -> Result:  # fmt: skip
        """Run all steps; the arguments are those of the reference."""
        options: dict[str, Any] = {"alive": alive, "training": training, "record": record, "every": every}
        resets = {"reset": reset, "initial": initial}
        given = (x, state, parameters)
        x, state, parameters = in_single_precision(*given)
        if is_compiling():
            reason = self.broken or (RESETS if reset is not None else "") or why_not_traced(self.c, x, record)
            if not reason:
                return run_traced(self.c, x, state, parameters, settings, sizes, alive, training)
            return self.reference(*given, settings, sizes, **resets, **options)
        reason = self.broken or self.c.why_not(x, state, parameters, settings, record)
        if not reason:
            try:
                result = self.c.run(x, state, parameters, settings, sizes, **resets, **options)
                self.last = "c"
                return result
            except CompilerError as error:
                # What failed once would fail at every step.
                reason = self.broken = str(error).splitlines()[0]
                _tell(error)
        self.last = f"reference: {reason}"
        return self.reference(*given, settings, sizes, **resets, **options)


def _tell(error: CompilerError) -> None:
    what = "there is no C compiler" if isinstance(error, NoCompilerError) else str(error)
    if what not in _told:
        _told.add(what)
        warnings.warn(f"Cellula runs its slow reference back end: {error}", RuntimeWarning, stacklevel=6)
