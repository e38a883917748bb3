"""Arithmetic that needs no computing: adding 0, multiplying by 1 or 0, a minus before a minus."""

from __future__ import annotations

import math
from collections.abc import Callable

from cellula.graph.node import Constant, Node, apply, constant, walk
from cellula.graph.ops import OPS

__all__ = ["simplified", "simplified_below"]


def _value(node: Node) -> float | None:
    """The number that a node is, if it is one."""
    return node.attribute.value if isinstance(node.attribute, Constant) else None


def _same_size(result: Node, node: Node) -> Node | None:
    """The node, where it has the size of what it replaces."""
    return node if node.size == result.size else None


def _add(node: Node) -> Node | None:
    left, right = node.inputs
    if _value(left) == 0:
        return _same_size(node, right)
    if _value(right) == 0:
        return _same_size(node, left)
    if right.op == "negative":
        return apply("subtract", (left, right.inputs[0]))
    return apply("subtract", (right, left.inputs[0])) if left.op == "negative" else None


def _subtract(node: Node) -> Node | None:
    left, right = node.inputs
    if _value(right) == 0:
        return _same_size(node, left)
    if _value(left) == 0:
        return apply("negative", (right,))
    return apply("add", (left, right.inputs[0])) if right.op == "negative" else None


def _multiply(node: Node) -> Node | None:
    for one, other in (node.inputs, node.inputs[::-1]):
        if _value(one) == 1:
            return _same_size(node, other)
        if _value(one) == 0:
            return _same_size(node, constant(0.0))
        if one.op == "negative":
            return apply("negative", (simplified(apply("multiply", (one.inputs[0], other))),))
    return None


def _divide(node: Node) -> Node | None:
    return _same_size(node, node.inputs[0]) if _value(node.inputs[1]) == 1 else None


def _power(node: Node) -> Node | None:
    return _same_size(node, node.inputs[0]) if _value(node.inputs[1]) == 1 else None


def _negative(node: Node) -> Node | None:
    inside = node.inputs[0]
    number = _value(inside)
    if number is not None:
        return constant(-number)
    return inside.inputs[0] if inside.op == "negative" else None


_RULES: dict[str, Callable[[Node], Node | None]] = {
    "add": _add,
    "subtract": _subtract,
    "multiply": _multiply,
    "divide": _divide,
    "power": _power,
    "negative": _negative,
}


def _folded(node: Node) -> Node | None:
    """Arithmetic of numbers is done at once."""
    numbers = [_value(child) for child in node.inputs]
    row = OPS.get(node.op)
    if not numbers or None in numbers or row is None or row.symbol is None or row.value is None:
        return None
    try:
        result = row.value(*numbers)
    except (ArithmeticError, ValueError):
        return None
    return constant(result) if isinstance(result, float) and math.isfinite(result) else None


def simplified(node: Node) -> Node:
    """The same value with less to compute; only the node itself is looked at, its inputs are taken as they are.

    The rules hold for finite numbers: 0 times infinity is taken for 0.
    """
    while True:
        rule = _RULES.get(node.op)
        found = _folded(node) if rule is None else _folded(node) or rule(node)
        if found is None or found is node:
            return node
        node = found


def simplified_below(root: Node) -> Node:
    """The expression with every op on the way down to named values simplified."""
    done: dict[Node, Node] = {}
    for node in walk([root]):
        if node.op not in OPS:
            done[node] = node
            continue
        inputs = tuple(done[child] for child in node.inputs)
        done[node] = simplified(apply(node.op, inputs, None if node.attribute is None else int(str(node.attribute))))
    return done[root]
