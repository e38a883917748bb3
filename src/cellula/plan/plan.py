"""MEANING -> WHAT RUNS WHEN: which values are computed once, for all steps at a time, or step by step."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from cellula.graph.graph import Graph
from cellula.graph.node import DrawMask, Input, Node, State, leaf, walk
from cellula.graph.ops import OPS
from cellula.plan.expand import expand

__all__ = ["Mask", "Plan", "make_plan"]


@dataclass(frozen=True)
class Mask:
    """A random mask to draw: its leaf, and the number or setting that is its rate."""

    node: Node
    rate: Node

    @property
    def leaf(self) -> DrawMask:
        """What is to be drawn."""
        assert isinstance(self.node.attribute, DrawMask)
        return self.node.attribute


@dataclass(frozen=True)
class Plan:
    """What runs when. Every non-leaf node of the graph stands in exactly one of the four lists, inputs first.

    Args:
        graph: the cell.
        once: values of parameters and settings alone.
        before: values that look at the input of their step only; all steps at a time, before the loop.
        loop: values that a state needs, step by step.
        after: values that no state needs; all steps at a time, after the loop.
        equations: name -> the node that computes it.
        updates: state slot -> the node whose value it holds in the next step.
        masks: the random masks.
    """

    graph: Graph
    once: tuple[Node, ...]
    before: tuple[Node, ...]
    loop: tuple[Node, ...]
    after: tuple[Node, ...]
    equations: tuple[tuple[str, Node], ...]
    updates: tuple[tuple[str, Node], ...]
    masks: tuple[Mask, ...]

    def __post_init__(self) -> None:
        place = {node: number for number, node in enumerate(node for nodes in self.stages for node in nodes)}
        if len(place) != sum(map(len, self.stages)):
            raise ValueError(f"{self.graph.name}: a node stands in two stages of the plan")
        for node, number in place.items():
            for child in node.inputs:
                if child.op != "leaf" and place.get(child, number) >= number:
                    raise ValueError(f"{self.graph.name}: {node} runs before its input {child}")

    @property
    def stages(self) -> tuple[tuple[Node, ...], ...]:
        """The four lists in the order in which they run."""
        return self.once, self.before, self.loop, self.after

    def __str__(self) -> str:
        titles = ("once", "for all steps, before the loop", "step by step", "for all steps, after the loop")
        parts = []
        for title, nodes in zip(titles, self.stages, strict=True):
            parts.append(f"{title}:")
            parts += [f"  {node!r}" for node in nodes] or ["  nothing"]
        return "\n".join(parts)


def make_plan(graph: Graph, native: Container[str] | None = None) -> Plan:
    """Decide what runs when.

    Args:
        graph: a checked cell.
        native: the ops that a back end spells itself; all others are replaced by their definitions, so that what
            they compute has its place in the order too. None keeps every op but those that draw.

    Returns:
        The plan, whose invariants have been checked.

    Example:
        >>> from cellula import build, make_plan
        >>> plan = make_plan(build("h[t] = tanh(x[t] @ W + h[t-1] @ U)"))
        >>> [node.op for node in plan.before], [node.op for node in plan.loop]
        (['matmul'], ['matmul', 'add', 'tanh', 'equation'])
    """
    # Ops that draw become arithmetic with a mask, so that no back end needs to know them.
    masks: dict[Node, Mask] = {}
    drawing = [node for node in graph.nodes if _draws(node)]
    done = expand([equation.node for equation in graph.equations], lambda node: _is_replaced(node, native))
    equations = tuple((equation.name, done[equation.node]) for equation in graph.equations)
    nodes = walk(node for _, node in equations)
    for node in nodes:
        if isinstance(node.attribute, DrawMask):
            origin = next(n for n in drawing if n.attribute == node.attribute.number)
            masks[node] = Mask(node, origin.inputs[-1])
    updates = _updates(graph, dict(equations))
    stage = _stages(nodes, [node for _, node in updates])
    once, before, loop, after = (
        tuple(node for node in nodes if node.op != "leaf" and stage[node] == number) for number in range(4)
    )
    drawn = tuple(sorted(masks.values(), key=lambda mask: mask.leaf.number))
    return Plan(graph, once, before, loop, after, equations, updates, drawn)


def _draws(node: Node) -> bool:
    return node.op in OPS and OPS[node.op].draw is not None


def _is_replaced(node: Node, native: Container[str] | None) -> bool:
    if node.op not in OPS or OPS[node.op].definition is None:
        return False
    return _draws(node) or (native is not None and node.op not in native)


def _updates(graph: Graph, equations: dict[str, Node]) -> tuple[tuple[str, Node], ...]:
    """Each slot takes the value of this step, or what the slot one step younger held."""
    updates = []
    for state in graph.states:
        if state.lag > 1:
            node = leaf(State(state.name, state.lag - 1, state.size))
        else:
            node = leaf(Input()) if state.name == "x" else equations[state.name]
        updates.append((state.slot, node))
    return tuple(updates)


def _stages(nodes: list[Node], updates: list[Node]) -> dict[Node, int]:
    """0 once, 1 before the loop, 2 in the loop, 3 after it."""
    stage: dict[Node, int] = {}
    for node in nodes:
        if node.op == "leaf":
            kind = {Input: 1, DrawMask: 1, State: 2}
            stage[node] = kind.get(type(node.attribute), 0)
        else:
            stage[node] = max(stage[child] for child in node.inputs)
    needed = set(walk(updates))
    for node in nodes:
        if stage[node] == 2 and node.op != "leaf" and node not in needed:
            stage[node] = 3
    return stage
