"""What no step changes: values of parameters and settings alone become parameters of the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cellula.graph.graph import Equation, Graph
from cellula.graph.node import DrawMask, Input, Node, Parameter, Setting, State, apply, leaf, rebuilt, walk
from cellula.graph.ops import OPS

__all__ = ["Once", "separate_once"]


@dataclass(frozen=True)
class Once:
    """A value that is computed once per sequence and given to the steps as a parameter.

    Args:
        parameter: what stands for it in the steps.
        node: what computes it from the cell's parameters and settings.
    """

    parameter: Parameter
    node: Node


def separate_once(graph: Graph) -> tuple[Graph, tuple[Once, ...]]:
    """Take out of a cell all that can be computed before the first step.

    Args:
        graph: a checked cell.

    Returns:
        The cell in which such values are parameters, and how each is computed. A diagonal matrix becomes a vector that
        is multiplied unit by unit.

    Example:
        >>> from cellula import build
        >>> from cellula.plan.once import separate_once
        >>> rest, once = separate_once(build("h[t] = exp(-exp(log_rate)) * h[t-1] + x[t] @ W"))
        >>> [value.parameter.name for value in once]
        ['once_1']
    """
    nodes = graph.nodes
    steady = _steady(nodes)
    taken = {parameter.name for parameter in graph.parameters} | set(graph.equation)
    found: dict[Node, Once] = {}
    done: dict[Node, Node] = {}
    for node in nodes:
        if node in steady and node.op not in ("leaf", "equation"):
            continue
        for child in node.inputs:
            if child in steady and child.op not in ("leaf", "equation") and child not in found:
                found[child] = _named(child, len(found) + 1, taken)
                done[child] = leaf(found[child].parameter)
        done[node] = _rebuilt(node, done)
    equations = tuple(
        Equation(one.name, done[one.node], one.comment, one.annotated) for one in graph.equations
    )
    left = [node.attribute for node in walk(done[one.node] for one in graph.equations)]
    parameters = tuple(dict.fromkeys(value for value in left if isinstance(value, Parameter)))
    used = tuple(setting for setting in graph.settings if setting in left)
    return replace(graph, equations=equations, parameters=parameters, settings=used), tuple(found.values())


def _steady(nodes: tuple[Node, ...]) -> set[Node]:
    """The nodes that depend on neither the input, a state nor a random draw."""
    steady: set[Node] = set()
    for node in nodes:
        moving = isinstance(node.attribute, Input | State | DrawMask) or (node.op in OPS and OPS[node.op].draw)
        if not moving and all(child in steady for child in node.inputs):
            steady.add(node)
    return steady


def _named(node: Node, number: int, taken: set[str]) -> Once:
    name = f"once_{number}"
    while name in taken:
        name += "_"
    kind, sizes = ("scalar", ()) if node.size is None else ("vector", (node.size,))
    return Once(Parameter(name, kind, sizes), node)


def _rebuilt(node: Node, done: dict[Node, Node]) -> Node:
    """The node with its inputs exchanged."""
    if node in done or node.op == "leaf":
        return done.get(node, node)
    inputs = tuple(done[child] for child in node.inputs)
    what = inputs[1].attribute if node.op in ("matmul", "transposed") else None
    if isinstance(what, Parameter) and what.kind == "diagonal":
        return apply("multiply", inputs)
    return rebuilt(node, inputs)
