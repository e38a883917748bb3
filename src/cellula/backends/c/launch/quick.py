"""Small calls with as little as possible around them: by way of the binding, where it is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack
from torch.autograd import forward_ad

from cellula.backends.c.launch.binding import run_operator
from cellula.backends.c.launch.recipe import make_recipe
from cellula.backends.reference import Result

if TYPE_CHECKING:
    from cellula.backends.c.launch.program import CProgram

__all__ = ["Caller", "Quick"]

# Many lengths may pass by.
MOST_RECIPES = 256
FLOATS = (torch.float32, torch.float64)


def nobody_looks_on() -> bool:
    """Whether tensors are what they seem: no compilation, transform, trace or cast is at work."""
    return (
        not torch.compiler.is_compiling()
        and peek_interpreter_stack() is None
        and forward_ad._current_level < 0
        and not torch.is_autocast_enabled("cpu")
        and torch._C._get_tracing_state() is None
        and torch._C._len_torch_dispatch_stack() == 0
    )


class Caller:
    """The calls of a cell with given sizes and settings that the binding can run: all rows run all steps, and nothing
    is drawn or recorded.

    Args:
        program: the cell.
        sizes: name -> number of units.
        settings: name -> number.
        stacked: whether states are [1, B, H], as a module has them, instead of [B, H].
    """

    def __init__(
        self, program: CProgram, sizes: Mapping[str, int], settings: Mapping[str, Any], stacked: bool
    ) -> None:  # fmt: skip
        self.program, self.sizes, self.settings, self.stacked = program, dict(sizes), settings, stacked
        self.recipes: dict[tuple, Tensor | None] = {}

    def __call__(self, x: Tensor, states: Sequence[Tensor], parameters: Sequence[Tensor]) -> list[Tensor] | None:
        """The output and the final states; None where the whole way must be gone.

        Args:
            x: the input [T, B, I], or [B, I] of a single step.
            states: where to start, in the order of the formula; empty: at 0.
            parameters: in the order of the formula.
        """
        if not nobody_looks_on():
            return None
        run = run_operator()
        if run is None or not x.is_cpu:
            return None
        values = [x, *states, *parameters]
        saving, wanted = False, ()
        if torch.is_grad_enabled():
            wanted = tuple([value.requires_grad for value in values])
            saving = True in wanted
        key = (x.shape, x.dtype, *self.settings.values())
        if saving:
            key += (wanted, torch.get_num_threads())
        try:
            recipe = self.recipes[key]
        except KeyError:
            recipe = self._recipe(key, x, wanted if saving else (), bool(states))
        return None if recipe is None else run(recipe, values, saving) or None

    def _recipe(self, key: tuple, x: Tensor, wanted: tuple[bool, ...], started: bool) -> Tensor | None:
        steps, batch, width = x.shape if x.ndim == 3 else (1, *x.shape)
        recipe, program, settings = None, self.program, self.settings
        if wanted and not started:
            wanted = (wanted[0], *[False] * len(program.slots), *wanted[1:])
        fits = x.dtype in FLOATS and steps and batch and width == self.sizes["input"]
        if fits and not any(isinstance(value, Tensor) for value in settings.values()):
            settings = {name: float(value) for name, value in settings.items()}
            shape = program.shape(False, bool(wanted), (), x.dtype, self.sizes)
            numbers = [settings[name] for name in shape.layout.settings]
            forms = self.stacked, x.ndim == 2
            recipe = make_recipe(shape, program.parameters, numbers, (steps, batch, width), wanted, *forms)
        if recipe is not None:
            # Whoever holds the numbers holds the kernel, and what a second derivative needs.
            recipe.about = program, self.sizes, settings, self.stacked, x.ndim == 2  # pyright: ignore[reportAttributeAccessIssue]
        if len(self.recipes) >= MOST_RECIPES:
            self.recipes.clear()
        self.recipes[key] = recipe
        return recipe


class Quick:
    """The same for a program, which many layers may share.

    Args:
        program: the cell.
    """

    def __init__(self, program: CProgram) -> None:
        self.program = program
        self.callers: dict[tuple, Caller] = {}

    def __call__(
        self, x: Tensor, state: Mapping[str, Tensor], parameters: Mapping[str, Tensor],
        settings: Mapping[str, float | Tensor], sizes: Mapping[str, int],
    ) -> Result | None:  # fmt: skip
        """The result of a call; None where the whole way must be gone."""
        if settings and any(isinstance(value, Tensor) for value in settings.values()):
            return None
        program = self.program
        key = (*sizes.values(), *settings.values())
        try:
            caller = self.callers[key]
        except KeyError:
            caller = self._caller(key, settings, sizes)
        states, given = map(state.__getitem__, program.slots), map(parameters.__getitem__, program.parameters)
        found = caller(x, list(states), list(given))
        return None if found is None else Result(found[0], dict(zip(program.slots, found[1:], strict=True)), {})

    def _caller(self, key: tuple, settings: Mapping[str, Any], sizes: Mapping[str, int]) -> Caller:
        if len(self.callers) >= MOST_RECIPES:
            self.callers.clear()
        found = self.callers[key] = Caller(self.program, sizes, dict(settings), False)
        return found
