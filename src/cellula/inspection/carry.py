"""Which gate decides how much of a state goes on into the next step."""

from __future__ import annotations

from dataclasses import dataclass

from cellula.graph.classify import classify
from cellula.graph.graph import Graph
from cellula.graph.node import Constant, Node, State

__all__ = ["Carrier", "carriers"]


@dataclass(frozen=True)
class Carrier:
    """A product of a state and a gate in the formula.

    Args:
        state: the state, as it was one step ago.
        gate: the node that scales it.
        complement: whether it is 1 - gate that scales.
    """

    state: str
    gate: str
    complement: bool

    def __str__(self) -> str:
        return f"1 - {self.gate}" if self.complement else self.gate


def carriers(graph: Graph) -> tuple[Carrier, ...]:
    """Find where a state is carried over through a gate, such as `f[t] * c[t-1]` or `(1 - z[t]) * h[t-1]`.

    Example:
        >>> from cellula import load_cell
        >>> from cellula.inspection.carry import carriers
        >>> [(found.state, str(found)) for found in carriers(load_cell("lstm"))]
        [('c', 'f')]
    """
    roles = classify(graph)
    found = []
    for node in graph.nodes:
        for factor, other in (node.inputs, node.inputs[::-1]) if node.op == "multiply" else ():
            kept = other.attribute
            gate, complement = _gate(factor)
            # The state itself must depend on the product, and not a candidate that reads a part of it.
            if isinstance(kept, State) and kept.lag == 1 and roles.get(gate) == "gate" and _adds_to(graph, kept, node):
                found.append(Carrier(kept.name, gate, complement))
    return tuple(dict.fromkeys(found))


def _gate(factor: Node) -> tuple[str, bool]:
    """The named node that a factor is, and whether it is taken from 1."""
    first = factor.inputs[0].attribute if factor.op == "subtract" else None
    if isinstance(first, Constant) and first.value == 1.0:
        return _gate(factor.inputs[1])[0], True
    return (str(factor.attribute), False) if factor.op == "equation" else ("", False)


def _adds_to(graph: Graph, state: State, product: Node) -> bool:
    """Whether the state's own equation is a sum with this product in it."""
    if state.name not in graph.equation:
        return False
    open_nodes = [graph.equation[state.name].value]
    while open_nodes:
        node = open_nodes.pop()
        if node is product:
            return True
        if node.op in ("add", "subtract", "equation"):
            open_nodes += node.inputs
    return False
