"""A plan as text: what is computed when, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping

from cellula.graph.node import Node, Parameter, State, apply, leaf
from cellula.graph.simplify import simplified
from cellula.plan.plan import Plan
from cellula.plan.scan import Group, Scan, find_scan
from cellula.plan.schedule import spans_steps
from cellula.printers.formula import print_expression

__all__ = ["print_plan"]

_TITLES = (
    "once",
    "before the loop, for all steps at a time",
    "step by step",
    "after the loop, for all steps at a time",
)


def print_plan(plan: Plan) -> str:
    """The four stages of a plan; of each, the named values and the unnamed ones that a later stage reads.

    What follows says how the memory goes through time: whether all steps can be computed at once, and if not, what is
    in the way.

    Args:
        plan: what runs when.

    Example:
        >>> from cellula import build, make_plan
        >>> from cellula.printers.plan import print_plan
        >>> print(print_plan(make_plan(build("h[t] = tanh(x[t] @ W + h[t-1] @ U)"))))
        before the loop, for all steps at a time
          x[t] @ W                                2*input*hidden flops a step
        step by step
          h[t] = tanh(x[t] @ W + h[t-1] @ U)      2*hidden*hidden flops a step
          carried to the next step: h
        over time
          step by step: in h[t] a matrix product mixes the units of h[t-1]
    """
    stage = {node: number for number, nodes in enumerate(plan.stages) for node in nodes}
    handed_on = {child for node in stage for child in node.inputs if stage.get(child, stage[node]) < stage[node]}
    owner = {node.inputs[0]: node for _, node in plan.equations}
    rows: list[tuple[str, str]] = []
    for number, nodes in enumerate(plan.stages):
        shown = [node for node in nodes if node.op == "equation" or (node in handed_on and node not in owner)]
        rows += [(_TITLES[number], "")] if shown else []
        rows += [(f"  {_statement(node)}", _cost(node, stage, number)) for node in shown]
        if number == 2 and shown:
            rows.append((f"  carried to the next step: {', '.join(slot for slot, _ in plan.updates)}", ""))
    rows += [("over time", ""), *((f"  {line}", "") for line in _over_time(plan))]
    width = min(80, max(len(text) for text, _ in rows))
    return "\n".join(f"{text:<{width}}  {cost}".rstrip() for text, cost in rows)


def _over_time(plan: Plan) -> list[str]:
    """How the memory goes from step to step, and what that allows."""
    if not plan.updates:
        return ["no memory: all steps are computed at once"]
    found = find_scan(plan)
    if isinstance(found, Scan):
        lines = ["all steps can be computed at once, by a scan; each unit runs through time by itself"]
        states = {state.slot: state for state in plan.graph.states}
        return [*lines, *(f"  {line}" for group in found.groups for line in _affine(group, states))]
    passed = {leaf(state): dict(plan.updates)[state.slot] for state in plan.graph.states}
    if spans_steps([], (), passed):
        return [f"no scan: {found}; but each unit runs through time by itself"]
    return [f"step by step: {found}"]


def _affine(group: Group, states: Mapping[str, State]) -> list[str]:
    """What each new value of a group takes from the old ones; what is only handed on is left out."""
    lines = []
    for slot, row in zip(group.slots, group.coefficients, strict=True):
        terms = [
            print_expression(simplified(apply("multiply", (one, leaf(states[old])))))
            for one, old in zip(row, group.slots, strict=True)
            if one is not None
        ]
        if states[slot].lag == 1 and terms:
            lines.append(f"{slot}[t] = {' + '.join(terms)} + what does not depend on it")
    return lines


def _statement(node: Node) -> str:
    if node.op == "equation":
        return f"{node.attribute}[t] = {print_expression(node.inputs[0])}"
    return print_expression(node)


def _cost(node: Node, stage: dict[Node, int], number: int) -> str:
    """The matrix products within one statement that are computed in this stage, as operations a step and sequence."""
    found: list[str] = []
    stack = list(node.inputs) if node.op == "equation" else [node]
    seen: set[Node] = set()
    while stack:
        inner = stack.pop()
        if inner.op in ("equation", "leaf") or inner in seen or stage[inner] != number:
            continue
        seen.add(inner)
        if inner.op in ("matmul", "transposed"):
            found.append(_product(inner))
        stack += inner.inputs
    counts = {text: found.count(text) for text in sorted(found)}
    return " + ".join(f"{2 * count}*{text}" for text, count in counts.items()) + " flops a step" if counts else ""


def _product(node: Node) -> str:
    parameter = node.inputs[1].attribute
    assert isinstance(parameter, Parameter)
    return "*".join(parameter.sizes) + (f"/{parameter.blocks}" if parameter.blocks > 1 else "")
