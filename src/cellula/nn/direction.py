"""One layer of a cell in one direction: its parameters, its start, and the way through time."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cellula.backends.auto import AutoProgram
from cellula.backends.c.launch.program import CProgram
from cellula.backends.c.launch.quick import Caller
from cellula.backends.c.launch.stepper import Stepper
from cellula.backends.reference import Result
from cellula.nn.initialize import initialize, triangle
from cellula.nn.masks import backward_resets, reversed_rows

if TYPE_CHECKING:
    from cellula.backends import Program

__all__ = ["Borrowed", "Direction", "run_backward", "run_forward"]


class Borrowed:
    """One layer in one direction whose parameters belong to another module: what a run needs of a `Direction`."""

    __slots__ = ("all_sizes", "parameters", "program", "state_sizes", "training")

    def __init__(
        self, program: Program, parameters: dict[str, Tensor], sizes: dict[str, int],
        state_sizes: dict[str, int], training: bool,
    ) -> None:  # fmt: skip
        self.program, self.parameters, self.all_sizes = program, parameters, sizes
        self.state_sizes, self.training = state_sizes, training

    def tensors(self) -> dict[str, Tensor]:
        return self.parameters

    def start(self, x: Tensor) -> dict[str, Tensor]:
        """Zero for the rows of x."""
        return {name: x.new_zeros(x.shape[-2], size) for name, size in self.state_sizes.items()}


class Direction(nn.Module):
    """The parameters of one layer in one direction."""

    def __init__(
        self, program: Program, sizes: Mapping[str, int], settings: Mapping[str, float], learned: bool, device: Any,
        dtype: torch.dtype | None,
    ) -> None:  # fmt: skip
        super().__init__()
        graph = program.plan.graph
        self.program, self.all_sizes, self.settings = program, dict(sizes), dict(settings)
        self.state_sizes = {s.slot: 1 if s.size is None else sizes[s.size] for s in graph.states}
        taken = {*dir(nn.Module), *vars(self), *dir(Direction), "attributes", "initial", "triangles"}
        # A parameter named like a part of torch's modules gets an underscore there.
        self.attributes: dict[str, str] = {}
        for parameter in graph.parameters:
            attribute = parameter.name
            while attribute in taken:
                attribute += "_"
            self.attributes[parameter.name] = attribute
            taken.add(attribute)
        # What is given moves and is saved with the module, but no optimizer sees it.
        self.triangles: dict[str, str] = {}
        for parameter in graph.parameters:
            tensor = torch.empty(graph.shape(parameter, sizes), device=device, dtype=dtype)
            if parameter.learned:
                self.register_parameter(self.attributes[parameter.name], nn.Parameter(tensor))
            else:
                self.register_buffer(self.attributes[parameter.name], tensor)
            if parameter.triangle > 1:
                # No parameter's name ends so: digits behind `_lag` are the language's own.
                self.triangles[parameter.name] = f"{self.attributes[parameter.name]}_lag0"
                mask = triangle(parameter, tensor)
                self.register_buffer(self.triangles[parameter.name], mask, persistent=False)
        self.initial = nn.ParameterDict()
        if learned:
            for name, size in self.state_sizes.items():
                self.initial[f"{name}_0"] = nn.Parameter(torch.empty(size, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        graph = self.program.plan.graph
        tensors = {name: getattr(self, attribute) for name, attribute in self.attributes.items()}
        for parameter in graph.parameters:
            initialize(graph, parameter, tensors[parameter.name], self.settings)
        for tensor in self.initial.values():
            nn.init.zeros_(tensor)

    def tensors(self) -> dict[str, Tensor]:
        # Module attributes are looked up slowly; a parametrized one is a property, and no entry of this dictionary.
        own = self._parameters
        found = ((name, attribute, own.get(attribute)) for name, attribute in self.attributes.items())
        tensors: dict[str, Tensor] = {
            name: getattr(self, attribute) if value is None else value for name, attribute, value in found
        }
        for name, mask in self.triangles.items():
            tensors[name] = tensors[name] * getattr(self, mask)
        return tensors

    def stored(self) -> Mapping[str, Any]:
        """The tensors as they are kept now and later, by their names here; a parametrized one is missing."""
        given = any(not parameter.learned for parameter in self.program.plan.graph.parameters)
        maps: list[Any] = [self._parameters, self._buffers]
        return ChainMap(*maps) if given else maps[0]

    def stored_in_order(self) -> list[Any]:
        """The tensors as they are kept, in the order of the formula.

        Raises:
            KeyError: one is parametrized, and not kept as it is.
        """
        own = self._parameters
        return [own[attribute] for attribute in self.attributes.values()]

    def start(self, x: Tensor) -> dict[str, Tensor]:
        """The initial state for the rows of x."""
        batch = x.shape[-2]
        if self.initial:
            return {name: self.initial[f"{name}_0"].expand(batch, -1) for name in self.state_sizes}
        return {name: x.new_zeros(batch, size) for name, size in self.state_sizes.items()}

    def caller(self, settings: Mapping[str, float]) -> Caller | None:
        """What runs small calls quickly; None where only the reference is to run, or parameters are more than kept."""
        program = self.program.c if isinstance(self.program, AutoProgram) else self.program
        if not isinstance(program, CProgram) or self.triangles:
            return None
        return Caller(program, self.all_sizes, settings, True)

    def stepper(self, settings: Mapping[str, float]) -> Stepper | None:
        """What runs single steps quickly; None where only the reference is to run."""
        program = self.program.c if isinstance(self.program, AutoProgram) and not self.program.broken else self.program
        if not isinstance(program, CProgram) or self.triangles:
            return None
        return Stepper(program, self.all_sizes, settings, self.attributes)


def run_forward(
    layer: nn.Module | Borrowed, x: Tensor, start: dict[str, Tensor], settings: Mapping[str, float],
    alive: Tensor | None, record: tuple[str, ...], reset: Tensor | None = None, every: int = 0,
) -> Result:  # fmt: skip
    assert isinstance(layer, Direction | Borrowed)
    if alive is not None:
        # What lies behind the end may hold anything, NaN too, and must not reach a product. The row's first step stands
        # for it: where a formula divides or takes a logarithm, 0 would make gradients NaN.
        first = torch.where(alive[:1], x[:1], torch.ones_like(x[:1]))
        x = torch.where(alive, x, first)
    return layer.program(
        x,
        start,
        layer.tensors(),
        settings,
        layer.all_sizes,
        alive=alive,
        training=layer.training,
        record=record,
        every=every,
        reset=reset,
        initial=None if reset is None else layer.start(x),
    )


def run_backward(
    layer: nn.Module | Borrowed, x: Tensor, start: dict[str, Tensor], settings: Mapping[str, float],
    alive: Tensor | None, record: tuple[str, ...], reset: Tensor | None = None, every: int = 0,
) -> Result:  # fmt: skip
    """Run from every row's last step to its first; results are in the order of the input."""
    if reset is not None:
        reset = reversed_rows(backward_resets(reset, alive), alive)
    result = run_forward(layer, reversed_rows(x, alive), start, settings, alive, record, reset, every)
    recorded = {name: reversed_rows(value, alive) for name, value in result.recorded.items()}
    return Result(reversed_rows(result.output, alive), result.state, recorded)
