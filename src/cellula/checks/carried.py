"""How a state gets from one step to the next: every way from its old value to its new one."""

from __future__ import annotations

from dataclasses import dataclass

from cellula.graph.classify import classify
from cellula.graph.graph import Graph
from cellula.graph.node import Constant, Node, State
from cellula.graph.ops import OPS

__all__ = ["Way", "gate_of", "ways"]

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
    """Every way from the old value of a named node to its new one within a step, up to 200.

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
    stack = [(graph.equation[name].node, Way())]
    while stack and len(found) < _MOST:
        node, way = stack.pop()
        what = node.attribute
        if isinstance(what, State) and (what.name, what.lag) == (name, 1):
            found.append(way)
        stack += [(child, longer) for child, longer in _onwards(node, way) if _reads(child, name)]
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


def _reads(node: Node, name: str) -> bool:
    """Whether a node depends on h[t-1]."""
    seen: set[Node] = set()
    stack = [node]
    while stack:
        found = stack.pop()
        if isinstance(found.attribute, State) and (found.attribute.name, found.attribute.lag) == (name, 1):
            return True
        if found not in seen:
            seen.add(found)
            stack += found.inputs
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
