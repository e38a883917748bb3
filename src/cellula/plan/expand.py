"""Replace ops by their definitions, in the whole graph at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

from cellula.formula.parser import parse_expression
from cellula.formula.syntax import Expression
from cellula.graph.build import instantiate
from cellula.graph.node import DrawMask, Node, leaf, rebuilt, walk
from cellula.graph.ops import OPS

__all__ = ["define", "expand", "gradient"]


@cache
def _read(text: str) -> Expression:
    return parse_expression(text)


def _values(node: Node) -> dict[str, Node]:
    """The names that a row's definition and gradients may use."""
    op = OPS[node.op]
    values = {argument.name: value for argument, value in zip(op.arguments, node.inputs, strict=True)}
    if op.draw is not None:
        values["mask"] = leaf(DrawMask(int(str(node.attribute)), node.op, node.size))
    return values


def define(node: Node) -> Node:
    """What an op node means in terms of simpler rows.

    Raises:
        ValueError: the row has no definition; a back end must spell it.
    """
    definition = OPS[node.op].definition
    if definition is None:
        raise ValueError(f"{node.op} has no definition: a back end must spell it itself (see graph/ops.py)")
    return instantiate(_read(definition), _values(node))


def gradient(node: Node, index: int, dy: Node, y: Node | None = None) -> Node | None:
    """The gradient of input `index` of an op node, given that of its result; None where it is zero.

    Where the result has a name, `y` is the named node that stands for it.
    """
    text = OPS[node.op].gradient[index]
    if text is None:
        return None
    return instantiate(_read(text), _values(node) | {"y": y or node, "dy": dy})


def expand(roots: Iterable[Node], when: Callable[[Node], bool]) -> dict[Node, Node]:
    """Every node below the roots -> the same with all ops for which `when` holds replaced by their definitions."""
    done: dict[Node, Node] = {}
    for node in walk(roots):
        done[node] = _expanded(node, tuple(done[child] for child in node.inputs), when)
    return done


def _expanded(node: Node, inputs: tuple[Node, ...], when: Callable[[Node], bool]) -> Node:
    same = rebuilt(node, inputs)
    if node.op not in OPS or not when(same):
        return same
    definition = define(same)
    return expand([definition], when)[definition]
