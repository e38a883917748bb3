"""Backpropagation through time, derived from the formula: one step backward, as a graph like any other."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from cellula.graph.node import (
    Adjoint,
    Input,
    Node,
    Parameter,
    State,
    apply,
    equation,
    leaf,
    matmul,
    transposed,
    walk,
)
from cellula.graph.ops import OPS
from cellula.graph.simplify import simplified, simplified_below
from cellula.plan.expand import gradient
from cellula.plan.plan import Plan

__all__ = ["Backward", "WeightTerm", "make_backward"]


@dataclass(frozen=True)
class WeightTerm:
    """What one step adds to the gradient of a parameter.

    Args:
        parameter: which one.
        left: for a matrix, the value that it is multiplied with: the term is `left.T @ right`. Else None.
        right: the gradient that meets it; without `left`, its sum over the sequences of the batch is the term.
    """

    parameter: Parameter
    left: Node | None
    right: Node


@dataclass(frozen=True)
class Backward:
    """One step of backpropagation through time.

    It reads the values of the forward step and two kinds of given gradients (`Adjoint`): the loss's with respect to the
    output of this step, and what the step after it carries back.

    Args:
        plan: the forward step.
        gradients: name -> the gradient of a named value, in the order in which they are computed.
        carries: state slot -> what this step carries back to the one before it; None where nothing is.
        weights: what the step adds to the gradients of the parameters.
        input: the gradient of the input of this step; None where the output does not depend on it.
    """

    plan: Plan
    gradients: tuple[tuple[str, Node], ...]
    carries: tuple[tuple[str, Node | None], ...]
    weights: tuple[WeightTerm, ...]
    input: Node | None


def make_backward(plan: Plan, frozen: Container[str] = (), recorded: Sequence[str] = ()) -> Backward:
    """Derive the backward step of a plan by symbolic reverse mode, one row of the op table at a time.

    Args:
        plan: the forward step.
        frozen: names of parameters whose gradient nobody wants.
        recorded: names of other values of which the loss gives a gradient, as of the output.

    Example:
        >>> from cellula import build, make_plan
        >>> from cellula.plan.backward import make_backward
        >>> backward = make_backward(make_plan(build("h[t] = tanh(x[t] @ W + h[t-1] @ U)")))
        >>> [name for name, _ in backward.gradients]
        ['dh', 'dh_in']
    """
    return _Reverse(plan, frozen).run(recorded)


class _Reverse:
    """One walk from the results of a step back to its leaves."""

    def __init__(self, plan: Plan, frozen: Container[str]) -> None:
        self.plan = plan
        self.nodes = walk(node for _, node in plan.equations)
        self.wanted = _wanted(self.nodes, frozen)
        self.adjoints: dict[Node, Node] = {}
        self.gradients: list[tuple[str, Node]] = []
        self.weights: list[WeightTerm] = []
        self.taken = {*dict(plan.equations), *(parameter.name for parameter in plan.graph.parameters)}
        self.owners, self.summed = _owners(plan)
        # A value that has a name is read by it.
        self.named = {node.inputs[0]: node for _, node in plan.equations if node.inputs[0].size == node.size}

    def run(self, recorded: Sequence[str]) -> Backward:
        """The backward step."""
        plan = self.plan
        equations = dict(plan.equations)
        output = equations[plan.graph.output]
        self._add(output, leaf(Adjoint(plan.graph.output, False, output.size)))
        for name in recorded:
            self._add(equations[name], leaf(Adjoint(name, False, equations[name].size)))
        slots = {state.slot: state for state in plan.graph.states}
        for slot, node in plan.updates:
            self._add(node, leaf(Adjoint(slot, True, slots[slot].size)))
        for node in reversed(self.nodes):
            if node in self.adjoints and node.op != "leaf":
                self._pass_on(node, self._named(node, self.adjoints[node]))
        carries = tuple((slot, self.adjoints.get(leaf(state))) for slot, state in slots.items())
        vectors = [
            WeightTerm(parameter, None, self.adjoints[leaf(parameter)])
            for parameter in plan.graph.parameters
            if leaf(parameter) in self.adjoints
        ]
        order = {parameter: number for number, parameter in enumerate(plan.graph.parameters)}
        weights = sorted([*self.weights, *vectors], key=lambda term: order[term.parameter])
        return Backward(plan, tuple(self.gradients), carries, tuple(weights), self.adjoints.get(leaf(Input())))

    def _add(self, node: Node, found: Node) -> None:
        """Add to the gradient of a node; what was repeated for every unit is summed over them."""
        if node.size is None and found.size is not None:
            found = apply("sum", (found,))
        before = self.adjoints.get(node)
        self.adjoints[node] = found if before is None else simplified(apply("add", (before, found)))

    def _named(self, node: Node, found: Node) -> Node:
        """Gradients of named nodes, and of sums inside an activation, get a name: several others read them."""
        if node.op == "equation":
            name = f"d{node.attribute}"
        elif node in self.summed:
            name = f"d{self.owners[node]}_in"
        else:
            return found
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        result = equation(name, found, node.size)
        self.gradients.append((name, result))
        return result

    def _pass_on(self, node: Node, found: Node) -> None:
        """From the gradient of a node to those of its inputs."""
        if node.op == "equation":
            if node.inputs[0] in self.wanted:
                self._add(node.inputs[0], found)
            return
        if node.op in ("matmul", "transposed"):
            self._pass_through_matrix(node, found)
            return
        for index, child in enumerate(node.inputs):
            part = gradient(node, index, found, self.named.get(node)) if child in self.wanted else None
            if part is not None:
                self._add(child, simplified_below(part))

    def _pass_through_matrix(self, node: Node, found: Node) -> None:
        value, matrix = node.inputs
        assert isinstance(matrix.attribute, Parameter)
        left, right = (value, found) if node.op == "matmul" else (found, value)
        self.weights.append(WeightTerm(matrix.attribute, left, right))
        if value in self.wanted:
            self._add(value, transposed(found, matrix) if node.op == "matmul" else matmul(found, matrix))


def _wanted(nodes: list[Node], frozen: Container[str]) -> set[Node]:
    """The nodes whose gradient has any use: an input, a state or something learned stands below them."""
    wanted: set[Node] = set()
    for node in nodes:
        what = node.attribute
        learned = isinstance(what, Parameter) and what.name not in frozen
        if learned or isinstance(what, Input | State) or any(child in wanted for child in node.inputs):
            wanted.add(node)
    return wanted


def _owners(plan: Plan) -> tuple[dict[Node, str], set[Node]]:
    """Which equation a node stands in, and which nodes are whole sums or products inside an activation."""
    owners: dict[Node, str] = {}
    summed: set[Node] = set()
    for name, node in plan.equations:
        stack: list[tuple[Node, str]] = [(node.inputs[0], "equation")]
        while stack:
            inner, above = stack.pop()
            if inner.op in ("equation", "leaf") or inner in owners:
                continue
            owners[inner] = name
            if inner.op in ("add", "subtract", "matmul", "transposed") and above in OPS and OPS[above].symbol is None:
                summed.add(inner)
            stack += [(child, inner.op) for child in inner.inputs]
    return owners, summed
