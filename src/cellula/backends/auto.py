"""The fastest back end that can run a call; the reference, step by step, where no other can."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from cellula.backends.c.compiler import CompilerError, NoCompilerError
from cellula.backends.c.launch.program import (
    RESETS,
    CProgram,
    in_single_precision,
    is_compiling,
    is_tracing,
    run_traced,
    why_not_traced,
)
from cellula.backends.reference import ReferenceProgram, Result
from cellula.plan.plan import Plan
from cellula.plan.scan import Scan, find_scan

__all__ = ["AutoProgram"]

# From so many steps on a scan in plain torch takes less time than the steps one by one: it makes some 60 to 100 calls
# of torch instead of several for each step.
SCAN_STEPS = 32
# A machine without a compiler is told so once.
_told: set[str] = set()


class AutoProgram:
    """A plan that runs as generated C where that can be, else in plain torch: by a scan where that can be and there are
    steps enough, else step by step.

    Args:
        plan: what runs when.

    Attributes:
        last: the back end of the last call and why, such as `"c"` (`"c, blocks of steps"` where each unit runs through
            time by itself), `"scan: ..."` or `"reference: the input is torch.bfloat16, ..."`.
    """

    name = "auto"

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.c = CProgram(plan)
        self.equations = dict(plan.equations)
        self.reference: ReferenceProgram = self.c.reference
        # The program that does all steps at once, if the cell is affine in its states.
        affine = isinstance(find_scan(self.reference.plan), Scan) and bool(plan.updates)
        self.scan = ReferenceProgram(plan, scanned=True) if affine else None
        self.broken = ""
        self.last = ""

    @cached_property
    def quick(self) -> str:
        """What the generated C is called in `last`."""
        return "c, blocks of steps" if self.c.has_blocks else "c"

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
        if not (is_compiling() or self.broken) and self.c.is_simple(alive, training, record, reset, every):
            with suppress(CompilerError):
                # What failed fails again below, and is told there.
                result = self.c.quick(x, state, parameters, settings, sizes)
                if result is not None:
                    self.last = self.quick
                    return result
        options: dict[str, Any] = {"alive": alive, "training": training, "record": record, "every": every}
        resets = {"reset": reset, "initial": initial}
        given = (x, state, parameters)
        x, state, parameters = in_single_precision(*given)
        if is_compiling():
            reason = self.broken or (RESETS if reset is not None else "") or why_not_traced(self.c, x, record)
            if not reason:
                return run_traced(self.c, x, state, parameters, settings, sizes, alive, training)
            return self._torch(len(x))(*given, settings, sizes, **resets, **options)
        reason = self.broken or self.c.why_not(x, state, parameters, settings, record)
        if not reason:
            try:
                result = self.c.run(x, state, parameters, settings, sizes, **resets, **options)
                self.last = self.quick
                return result
            except CompilerError as error:
                # What failed once would fail at every step.
                reason = self.broken = str(error).splitlines()[0]
                _tell(error)
        program = self._torch(len(x))
        self.last = f"{program.name}: {reason}"
        return program(*given, settings, sizes, **resets, **options)

    def _torch(self, steps: int) -> ReferenceProgram:
        """What runs a call in plain torch; a trace sees the steps one by one."""
        if self.scan is None or steps < SCAN_STEPS or is_tracing():
            return self.reference
        return self.scan


def _tell(error: CompilerError) -> None:
    what = "there is no C compiler" if isinstance(error, NoCompilerError) else str(error)
    if what not in _told:
        _told.add(what)
        warnings.warn(f"Cellula runs its slow reference back end: {error}", RuntimeWarning, stacklevel=6)
