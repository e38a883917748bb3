"""What is checked: a cell with its sizes, settings and random numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from cellula.backends import compile
from cellula.backends.reference import ReferenceProgram, Result
from cellula.checks.report import Failed
from cellula.graph.graph import Graph
from cellula.nn.initialize import initialize, triangle
from cellula.plan.plan import Plan, make_plan

__all__ = ["Case", "blocks_of", "disagreement", "expect_equal", "make_case", "small_sizes"]

# How far parameters are moved from where they start.
MOVED = 0.2
# Of the small cells that are compared number by number: units of the input, of the hidden size, of own sizes.
_SMALL = (3, 6, 4)

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Case:
    """One call of a cell in numbers.

    Args:
        graph: the cell.
        sizes: name -> number of units.
        settings: name -> number.
        x: the input [T, B, I].
        start: slot -> where the state starts [B, H].
        parameters: name -> tensor.
    """

    graph: Graph
    sizes: Mapping[str, int]
    settings: Mapping[str, float]
    x: Tensor
    start: Tensors = field(repr=False)
    parameters: Tensors = field(repr=False)

    @cached_property
    def plan(self) -> Plan:
        """What runs when."""
        return make_plan(self.graph)

    @cached_property
    def reference(self) -> ReferenceProgram:
        """The truth."""
        program = compile(self.plan, "reference")
        assert isinstance(program, ReferenceProgram)
        return program

    @property
    def leaves(self) -> dict[str, Tensor]:
        """Everything that has a gradient, by name; what is given has none."""
        starts = {f"state {slot}": value for slot, value in self.start.items()}
        learned = [parameter.name for parameter in self.graph.parameters if parameter.learned]
        return {"x": self.x, **starts, **{f"parameter {name}": self.parameters[name] for name in learned}}

    def with_leaves(self, leaves: Tensors) -> Case:
        """The same call with other numbers."""
        start = {slot: leaves[f"state {slot}"] for slot in self.start}
        parameters = {name: leaves.get(f"parameter {name}", value) for name, value in self.parameters.items()}
        return replace(self, x=leaves["x"], start=start, parameters=parameters)

    def without_start(self) -> Case:
        """The same call from states of 0, as sequences begin."""
        zeros = {f"state {slot}": torch.zeros_like(value).requires_grad_() for slot, value in self.start.items()}
        return self.with_leaves({**self.leaves, **zeros})

    def to(self, dtype: torch.dtype) -> Case:
        """The same numbers in another type; every leaf wants gradients."""
        same = replace(self, parameters={name: value.detach().to(dtype) for name, value in self.parameters.items()})
        return same.with_leaves({name: v.detach().to(dtype).requires_grad_() for name, v in self.leaves.items()})

    def run(self, program: Any) -> Result:
        """One call of a program."""
        return program(self.x, self.start, self.parameters, self.settings, self.sizes)

    def values(self, program: Any) -> dict[str, Tensor]:
        """Output and final states by name."""
        result = self.run(program)
        return {"output": result.output, **{f"final {slot}": value for slot, value in result.state.items()}}

    def everything(self, program: Any) -> dict[str, Tensor]:
        """Values, and the gradient of an uneven sum of all of them for every leaf; zero where none flows."""
        values, leaves = self.values(program), self.leaves
        total = weighted_sum(values.values())
        found: Iterable[Tensor | None] = [None] * len(leaves)
        if total.requires_grad:
            found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
        gradients = zip(leaves.items(), found, strict=True)
        filled = {f"gradient of {n}": torch.zeros_like(v) if g is None else g for (n, v), g in gradients}
        return {name: value.detach() for name, value in {**values, **filled}.items()}


def weighted_sum(values: Iterable[Tensor]) -> Tensor:
    """A number that depends on every element of the values in a way of its own."""
    parts = [(v * torch.linspace(-1, 2, v.numel(), dtype=v.dtype).view_as(v)).sum() for v in values if v.numel()]
    return torch.stack(parts).sum()


def blocks_of(graph: Graph) -> int:
    """What every size of a cell must be a multiple of."""
    return math.lcm(*(parameter.blocks * parameter.triangle for parameter in graph.parameters))


def small_sizes(graph: Graph, inputs: int = _SMALL[0], hidden: int = _SMALL[1], own: int = _SMALL[2]) -> dict[str, int]:
    """Sizes of a small cell that its blocks divide."""
    blocks = blocks_of(graph)
    wanted = {"input": inputs, "hidden": hidden, **dict.fromkeys(graph.extra_sizes, own)}
    return {name: size + -size % blocks for name, size in wanted.items()}


def make_case(
    graph: Graph, sizes: Mapping[str, int], settings: Mapping[str, float], steps: int = 5, rows: int = 3,
    seed: int = 0, moved: float = MOVED,
) -> Case:  # fmt: skip
    """Random numbers near those with which training starts, in float64; every leaf wants gradients.

    Args:
        graph: a checked cell.
        sizes: name -> number of units.
        settings: name -> number, all of them.
        steps, rows: of the input.
        seed: of the numbers.
        moved: how far parameters are moved from where they start, so that biases that start at 0 take part too.
    """
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    parameters = {}
    # The inits draw from torch's own generator, which is left as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for parameter in graph.parameters:
            tensor = torch.empty(graph.shape(parameter, sizes), dtype=torch.float64)
            initialize(graph, parameter, tensor, settings)
            parameters[parameter.name] = tensor
    for parameter in (one for one in graph.parameters if one.learned):
        tensor = parameters[parameter.name]
        # Sums of many terms stay as large as those of few.
        spread = math.sqrt(tensor.shape[-2]) if tensor.ndim > 1 else 1.0
        tensor = tensor + moved * normal(*tensor.shape) / spread
        kept = tensor * triangle(parameter, tensor) if parameter.triangle > 1 else tensor
        parameters[parameter.name] = kept.requires_grad_()
    start = {}
    for state in graph.states:
        units = 1 if state.size is None else sizes[state.size]
        # A state may be a divisor, or under a root: it starts between 0.1 and 1.1.
        start[state.slot] = (normal(rows, units).sigmoid() + 0.1).requires_grad_()
    x = normal(steps, rows, sizes["input"]).requires_grad_()
    return Case(graph, dict(sizes), dict(settings), x, start, parameters)


def disagreement(actual: Tensors, expected: Tensors) -> tuple[float, str]:
    """The largest difference and where it is, each relative to 1 + the largest element there; NaN equals nothing."""
    worst, where = 0.0, next(iter(expected), "")
    for name, wanted in expected.items():
        value = wanted.detach()
        if actual[name].shape != value.shape:
            return math.inf, f"{name} (shapes {list(actual[name].shape)} and {list(value.shape)})"
        if not value.numel():
            continue
        scale = 1.0 + float(value.abs().amax())
        found = float((actual[name].detach().to(value.dtype) - value).abs().amax()) / scale
        if math.isnan(found):
            return math.inf, name
        if found > worst:
            worst, where = found, name
    return worst, where


def expect_equal(actual: Tensors, expected: Tensors, tolerance: float, what: str) -> str:
    """Say by how much two computations differ.

    Raises:
        Failed: by more than the tolerance.
    """
    worst, where = disagreement(actual, expected)
    if worst > tolerance:
        raise Failed(f"{what}: {where} differs by {worst:.2g}, more than {tolerance:.0e} of its size")
    return f"{what} within {max(worst, 1e-17):.1g}"
