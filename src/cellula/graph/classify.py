"""Which nodes are gates and which are layers: found by what they do, not by their names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

from cellula.graph.graph import Equation, Graph
from cellula.graph.node import Constant, Input, Node, Parameter, State
from cellula.graph.ops import OPS

__all__ = ["Range", "Role", "bounds", "classify"]

Role = Literal["gate", "layer", "combination"]
Range = tuple[float, float]

_SEQUENCE = (Input, State)
_LINEAR = ("matmul", "transposed")
_ANY: Range = (-math.inf, math.inf)
# Ops that leave their first argument what it is, for this question.
_TRANSPARENT = {"dropout", "variational_dropout", "expand", "equation"}


def classify(graph: Graph) -> dict[str, Role]:
    """The role of every node of a cell.

    A *gate* lies between 0 and 1 and scales something that depends on the sequence: it is a factor of a product,
    itself or as `1 - gate`. A *layer* is a linear map (`@`), with or without an activation. Everything else is a
    *combination* of other nodes.

    Args:
        graph: a checked cell.

    Example:
        >>> from cellula import load_cell
        >>> from cellula.graph.classify import classify
        >>> classify(load_cell("cifg_lstm"))["f"]
        'gate'
    """
    ranges, varying, learned = (
        _ranges(graph),
        _depending(graph, _SEQUENCE),
        _depending(graph, (*_SEQUENCE, Parameter)),
    )
    scaling: set[Node] = set()
    for node in graph.nodes:
        if node.op == "multiply":
            for factor, other in (node.inputs, node.inputs[::-1]):
                scaling |= set(_scales_with(factor)) if other in varying else set()
    roles: dict[str, Role] = {}
    for equation in graph.equations:
        low, high = ranges[equation.value]
        if low >= 0.0 and high <= 1.0 and equation.node in scaling and equation.node in learned:
            roles[equation.name] = "gate"
        else:
            roles[equation.name] = "layer" if _is_layer(equation, varying) else "combination"
    return roles


def bounds(graph: Graph) -> dict[str, Range]:
    """Between which numbers each node lies for certain, with dropout at its expectation; infinite where none is known.

    Args:
        graph: a checked cell.

    Example:
        >>> from cellula import load_cell
        >>> from cellula.graph.classify import bounds
        >>> found = bounds(load_cell("lstm"))
        >>> found["f"], found["g"], found["c"]
        ((0.0, 1.0), (-1.0, 1.0), (-inf, inf))
    """
    ranges = _ranges(graph)
    return {equation.name: ranges[equation.value] for equation in graph.equations}


def _depending(graph: Graph, kinds: tuple[type, ...]) -> set[Node]:
    """The nodes that depend on a leaf of one of these kinds."""
    found: set[Node] = set()
    for node in graph.nodes:
        if isinstance(node.attribute, kinds) or not found.isdisjoint(node.inputs):
            found.add(node)
    return found


def _scales_with(factor: Node) -> Iterator[Node]:
    """The named nodes that a factor is, up to `1 - node`, dropout and the like."""
    while True:
        if factor.op == "equation":
            yield factor
        if factor.op in ("add", "subtract"):
            constant = [isinstance(child.attribute, Constant) for child in factor.inputs]
            if constant[0] == constant[1]:
                return
            factor = factor.inputs[1 if constant[0] else 0]
        elif factor.op in _TRANSPARENT or factor.op == "negative":
            factor = factor.inputs[0]
        else:
            return


def _is_layer(equation: Equation, varying: set[Node]) -> bool:
    """An activation over something with a linear map in it, or a sum of linear maps and biases."""
    value = equation.value
    while value.op in _TRANSPARENT - {"equation"} or (value.op in OPS and OPS[value.op].shape == "normalize"):
        value = value.inputs[0]
    if (
        value.op in OPS
        and OPS[value.op].symbol is None
        and OPS[value.op].shape == "elementwise"
        and OPS[value.op].required == 1
    ):
        return _has_product(value)
    return _has_product(value) and all(node.op in _LINEAR or node not in varying for node in _addends(value))


def _has_product(node: Node) -> bool:
    """Whether `@` stands in this expression itself, not only in nodes that it names."""
    if node.op in _LINEAR:
        return True
    return node.op != "equation" and any(_has_product(child) for child in node.inputs)


def _addends(node: Node) -> Iterator[Node]:
    if node.op in ("add", "subtract", "negative"):
        for child in node.inputs:
            yield from _addends(child)
    else:
        yield node


def _ranges(graph: Graph) -> dict[Node, Range]:
    """Bounds between which each value lies for certain (in inference: dropout scales up while it trains)."""
    ranges: dict[Node, Range] = {}
    for node in graph.nodes:
        inputs = [ranges[child] for child in node.inputs]
        if isinstance(node.attribute, Constant):
            ranges[node] = node.attribute.value, node.attribute.value
        elif node.op == "leaf" or node.op in _LINEAR:
            ranges[node] = _ANY
        elif node.op in _TRANSPARENT | {"mean", "peak"}:
            ranges[node] = inputs[0]
        else:
            ranges[node] = _RANGES[node.op](*inputs) if node.op in _RANGES else OPS[node.op].range
    return ranges


def _times(one: Range, other: Range) -> Range:
    ends = [0.0 if 0.0 in (a, b) else a * b for a in one for b in other]
    return min(ends), max(ends)


def _union(*ranges: Range) -> Range:
    return min(low for low, _ in ranges), max(high for _, high in ranges)


_RANGES: dict[str, Callable[..., Range]] = {
    "add": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "subtract": lambda a, b: (a[0] - b[1], a[1] - b[0]),
    "negative": lambda a: (-a[1], -a[0]),
    "multiply": _times,
    "min": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    "max": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    "clip": lambda a, low, high: (max(a[0], low[0]), min(a[1], high[1])),
    "where": lambda condition, a, b: _union(a, b),
    "exp": lambda a: (math.exp(a[0]) if a[0] < 700 else math.inf, math.exp(a[1]) if a[1] < 700 else math.inf),
    "zoneout": lambda new, old, rate: _union(new, old),
}
