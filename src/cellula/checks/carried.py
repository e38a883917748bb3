"""How a state gets from one step to the next: every way from its old value to its new one."""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from dataclasses import dataclass

from cellula.graph.classify import classify
from cellula.graph.graph import Graph
from cellula.graph.node import Constant, Node, State
from cellula.graph.ops import OPS

__all__ = ["Way", "gate_of", "leads_around", "ways"]

# A formula in which everything reads everything has more ways than anyone looks at.
_MOST = 200
_SUMS = {"add", "subtract", "negative", "equation", "expand", "accumulate"}
_LINEAR = {"matmul", "transposed"}


@dataclass(frozen=True)
class Way:
    """One way from h[t-1] to h[t].

    Args:
        factors: what the value is multiplied with on its way, the last one first.
        functions: the functions that it goes through, the last one first.
        matrices: the linear maps that it goes through.
    """

    factors: tuple[Node, ...] = ()
    functions: tuple[str, ...] = ()
    matrices: tuple[Node, ...] = ()


def ways(graph: Graph, name: str) -> tuple[Way, ...]:
    """The ways from the old value of a named node to its new one within a step, the shortest 200.

    Args:
        graph: a checked cell.
        name: of a node that is read one step back.

    Example:
        >>> from cellula import load_cell
        >>> from cellula.checks.carried import ways
        >>> [(len(way.factors), way.functions) for way in ways(load_cell("cifg_lstm"), "c")]
        [(1, ())]
    """
    found: list[Way] = []
    readers = _readers(graph, name)
    queue = deque([(graph.equation[name].node, Way())])
    while queue and len(found) < _MOST:
        node, way = queue.popleft()
        if _is_old(node, name):
            found.append(way)
        queue += [(child, longer) for child, longer in _onwards(node, way) if child in readers]
    return tuple(found)


def _onwards(node: Node, way: Way) -> list[tuple[Node, Way]]:
    """The operands through which a value can have come, each with the way so far."""
    if node.op in _SUMS:
        return [(child, way) for child in node.inputs]
    if node.op in _LINEAR:
        return [(node.inputs[0], Way(way.factors, way.functions, (*way.matrices, node.inputs[1])))]
    if node.op == "multiply":
        left, right = node.inputs
        return [
            (left, Way((*way.factors, right), way.functions, way.matrices)),
            (right, Way((*way.factors, left), way.functions, way.matrices)),
        ]
    longer = Way(way.factors, (*way.functions, node.op), way.matrices)
    return [(child, longer) for child in node.inputs]


def _readers(graph: Graph, name: str) -> set[Node]:
    """The nodes that depend on h[t-1] within a step, it among them."""
    found: set[Node] = set()
    for node in graph.nodes:
        if _is_old(node, name) or not found.isdisjoint(node.inputs):
            found.add(node)
    return found


def _is_old(node: Node, name: str) -> bool:
    what = node.attribute
    return isinstance(what, State) and (what.name, what.lag) == (name, 1)


def leads_around(graph: Graph, name: str, functions: Container[str]) -> bool:
    """Whether some way from h[t-1] to h[t] goes through none of these functions.

    Example:
        >>> from cellula import load_cell
        >>> from cellula.checks.carried import leads_around
        >>> [leads_around(load_cell(cell), "c", ["sigmoid"]) for cell in ("lstm", "lstm_printed")]
        [True, False]
    """
    seen: set[Node] = set()
    stack = [graph.equation[name].node]
    while stack:
        node = stack.pop()
        if _is_old(node, name):
            return True
        if node not in seen and node.op not in functions:
            seen.add(node)
            stack += node.inputs
    return False


def gate_of(graph: Graph, factor: Node) -> tuple[str, bool] | None:
    """The gate node that a factor is, and whether it is `1 - gate`; None where it is something else.

    Example:
        >>> from cellula import load_cell
        >>> from cellula.checks.carried import gate_of, ways
        >>> graph = load_cell("mingru")
        >>> gate_of(graph, ways(graph, "h")[0].factors[0])
        ('z', True)
    """
    turned = False
    while factor.op != "equation":
        if factor.op != "subtract" or not isinstance(factor.inputs[0].attribute, Constant):
            return None
        if factor.inputs[0].attribute.value != 1.0:
            return None
        turned, factor = not turned, factor.inputs[1]
    name = str(factor.attribute)
    if classify(graph).get(name) == "gate":
        return name, turned
    # `i[t] = 1 - f[t]` is the gate f, whatever role i has.
    inside = factor.inputs[0]
    deeper = None if inside.op in OPS and inside.op != "subtract" else gate_of(graph, inside)
    return None if deeper is None else (deeper[0], deeper[1] != turned)
