"""The meaning of a formula: a frozen graph that knows its parameters, states and sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from cellula.errors import Source, UsageError
from cellula.graph.node import Node, Parameter, Setting, State, walk

__all__ = ["Equation", "Graph"]


@dataclass(frozen=True)
class Equation:
    """One named node of a cell.

    Args:
        name: the node's name.
        node: the interned node that computes it.
        comment: what the formula says of it.
        annotated: whether the formula names its size.
    """

    name: str
    node: Node
    comment: str = field(default="", compare=False)
    annotated: bool = field(default=False, compare=False)

    @property
    def value(self) -> Node:
        """The right side of the equation."""
        return self.node.inputs[0]


@dataclass(frozen=True)
class Graph:
    """A checked cell. Two graphs are equal if they compute the same in the same way under the same names.

    Args:
        name: what to call the cell, such as `"lstm"`.
        equations: in the order in which a step computes them.
        parameters: everything learned, and what is given (`learned=0`), in order of first use.
        settings: numbers that the caller may override, in order of first use.
        output: the name of the equation that leaves the cell.
        title, description, references: from the docstring.
        declared: the parameters that the formula declares (the others follow from their use).
        source: the text.
    """

    name: str = field(compare=False)
    equations: tuple[Equation, ...]
    parameters: tuple[Parameter, ...]
    settings: tuple[Setting, ...]
    output: str
    title: str = field(default="", compare=False)
    description: str = field(default="", compare=False)
    references: tuple[str, ...] = field(default=(), compare=False)
    declared: frozenset[str] = field(default=frozenset(), compare=False)
    source: Source = field(default=Source(""), compare=False)

    def __post_init__(self) -> None:
        known: set[Node] = set()
        for equation in self.equations:
            for node in _own(equation.value):
                if node.op == "equation" and node not in known:
                    raise ValueError(f"{self.name}: {equation.name}[t] reads {node.attribute}[t] before it is computed")
            known.add(equation.node)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Every node once, inputs before what uses them."""
        return tuple(walk(equation.node for equation in self.equations))

    @cached_property
    def states(self) -> tuple[State, ...]:
        """All that a step must remember, in order of the equations; gaps between lags are filled."""
        longest: dict[str, State] = {}
        for node in self.nodes:
            if isinstance(node.attribute, State):
                name = node.attribute.name
                longest[name] = max(longest.get(name, node.attribute), node.attribute, key=lambda state: state.lag)
        order = ["x", *(equation.name for equation in self.equations)]
        return tuple(
            State(name, lag, longest[name].size)
            for name in sorted(longest, key=order.index)
            for lag in range(1, longest[name].lag + 1)
        )

    @cached_property
    def equation(self) -> Mapping[str, Equation]:
        """The equations by name."""
        return {equation.name: equation for equation in self.equations}

    @cached_property
    def extra_sizes(self) -> tuple[str, ...]:
        """The sizes other than `input` and `hidden`, which the caller must give."""
        return tuple(name for name in self.sizes if name not in ("input", "hidden"))

    @cached_property
    def sizes(self) -> tuple[str, ...]:
        """Every size that occurs, in order of appearance."""
        found = [size for parameter in self.parameters for size in parameter.sizes]
        found += [equation.node.size for equation in self.equations if equation.node.size is not None]
        return tuple(dict.fromkeys(found))

    def shape(self, parameter: Parameter, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape of a parameter's tensor: [rows, columns], [blocks, rows / blocks, columns / blocks], [units] or [].

        Raises:
            UsageError: a block-diagonal matrix whose sizes are not multiples of its blocks.
        """
        shape = tuple(sizes[size] for size in parameter.sizes)
        parts, what = (parameter.blocks, "blocks") if parameter.blocks > 1 else (parameter.triangle, "groups of units")
        for size, number in zip(parameter.sizes, shape, strict=True):
            if number % parts:
                raise UsageError(
                    f"{parameter.name} has {parts} {what}, but {size} = {number} is not a multiple of "
                    f"{parts}; write {size} = {number + -number % parts}"
                )
        if parameter.blocks == 1:
            return shape
        return parameter.blocks, shape[0] // parameter.blocks, shape[1] // parameter.blocks

    def parameter_count(self, sizes: Mapping[str, int], given: bool = False) -> int:
        """How many numbers are learned.

        Args:
            sizes: the number of units for every size that occurs, such as `{"input": 8, "hidden": 64}`.
            given: count all that a file keeps: what is given (`learned=0`), too, and the zeros of a triangle.

        Example:
            >>> from cellula import load_cell
            >>> load_cell("elman").parameter_count({"input": 3, "hidden": 5})
            45
        """
        total = 0
        for parameter in self.parameters:
            count, groups = math.prod(self.shape(parameter, sizes)), parameter.triangle
            learned = count * (groups + 1) // (2 * groups) if parameter.learned else 0
            total += count if given else learned
        return total


def _own(value: Node) -> Iterator[Node]:
    """The nodes of an expression, down to the named nodes that it reads."""
    stack = [value]
    while stack:
        node = stack.pop()
        yield node
        stack += () if node.op == "equation" else node.inputs
