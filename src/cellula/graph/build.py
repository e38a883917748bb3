"""SYNTAX -> MEANING: check everything a formula says, then make its graph."""

from __future__ import annotations

from pathlib import Path

from cellula.errors import FormulaError
from cellula.formula.parser import Reading, read
from cellula.formula.syntax import LINEAR, PRODUCT, Apply, Expression, Name, Number, Read, Syntax
from cellula.graph.declarations import Declared, read_declarations
from cellula.graph.graph import Equation, Graph
from cellula.graph.names import Names, collect_names
from cellula.graph.node import (
    Input,
    Node,
    Parameter,
    Setting,
    State,
    apply,
    constant,
    equation,
    leaf,
    matmul,
    transposed,
)
from cellula.graph.ops import OPS
from cellula.graph.sizes import Sizes, infer_sizes

__all__ = ["build", "instantiate"]


def build(formula: str | Path | Syntax, name: str = "formula") -> Graph:
    """Make the graph of a formula.

    Args:
        formula: the text, the path of a `.cell` file, or what `parse` returned.
        name: what to call the cell; a file gives its own name.

    Returns:
        The frozen, checked graph.

    Raises:
        FormulaError: something is wrong; the error lists everything that is, each with its place.

    Example:
        >>> from cellula import build
        >>> graph = build("h[t] = tanh(x[t] @ W + h[t-1] @ U + b)")
        >>> [parameter.name for parameter in graph.parameters]
        ['W', 'U', 'b']
    """
    if isinstance(formula, Syntax):
        reading = Reading(formula, (), frozenset())
    else:
        reading = read(formula, "<formula>" if name == "formula" else name)
        name = formula.stem if isinstance(formula, Path) else name
    names = collect_names(reading)
    declared = read_declarations(names)
    sizes = infer_sizes(reading, names)
    problems = [*reading.problems, *names.problems, *declared.problems, *sizes.problems]
    if problems:
        raise FormulaError(problems, reading.syntax.source)
    return _Builder(names, sizes, declared).graph(reading.syntax, name)


def instantiate(expression: Expression, values: dict[str, Node]) -> Node:
    """The node of a row's definition or gradient, its names replaced by nodes."""
    if isinstance(expression, Number):
        return constant(expression.value)
    if isinstance(expression, Name):
        return values[expression.name]
    if isinstance(expression, Apply):
        return apply(expression.operation, tuple(instantiate(argument, values) for argument in expression.arguments))
    raise TypeError(f"an index cannot stand in a row of the op table: {expression}")


class _Builder:
    """Makes the nodes of one formula whose checks have passed."""

    def __init__(self, names: Names, sizes: Sizes, declared: Declared) -> None:
        self.names, self.sizes, self.declared = names, sizes, declared
        self.nodes: dict[str, Node] = {}
        self.draws = 0

    def graph(self, syntax: Syntax, name: str) -> Graph:
        equations = []
        for item in syntax.equations:
            node = equation(item.name, self._node(item.expression), self.sizes.equations[item.name])
            self.nodes[item.name] = node
            equations.append(Equation(item.name, node, item.comment, item.size is not None))
        leaves = [self._parameter(used) for used in self.names.parameters]
        return Graph(
            name,
            tuple(equations),
            tuple(value for value in leaves if isinstance(value, Parameter)),
            tuple(value for value in leaves if isinstance(value, Setting)),
            self.names.output() or "h",
            syntax.title,
            syntax.description,
            syntax.references,
            frozenset(self.names.declarations),
            syntax.source,
        )

    def _parameter(self, name: str) -> Parameter | Setting:
        if name in self.declared.settings:
            return Setting(name, self.declared.settings[name])
        declared, sizes = self.declared, self.sizes.parameters[name]
        blocks, triangle = declared.blocks.get(name, 1), declared.triangles.get(name, 1)
        learned = name not in declared.given
        return Parameter(name, self.names.kind(name), sizes, declared.inits.get(name), blocks, triangle, learned)

    def _node(self, expression: Expression) -> Node:
        if isinstance(expression, Number):
            return constant(expression.value)
        if isinstance(expression, Name):
            return leaf(self._parameter(expression.name))
        if isinstance(expression, Read):
            return self._read(expression)
        inputs = tuple(self._node(argument) for argument in expression.arguments)
        if expression.operation in LINEAR:
            return matmul(*inputs) if expression.operation == PRODUCT else transposed(*inputs)
        draw = None
        if OPS[expression.operation].draw is not None:
            # Every occurrence draws for itself, so that two equal calls stay two nodes.
            draw, self.draws = self.draws, self.draws + 1
        return apply(expression.operation, inputs, draw)

    def _read(self, read: Read) -> Node:
        if read.name == "x":
            return leaf(State("x", read.lag, "input") if read.lag else Input())
        return leaf(State(read.name, read.lag, self.sizes.equations[read.name])) if read.lag else self.nodes[read.name]
