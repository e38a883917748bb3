"""The derived backward step, run by hand over time: what a kernel does, in plain torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from cellula.backends.reference import evaluate
from cellula.checks.case import Case
from cellula.graph.node import Adjoint, Constant, DrawMask, Input, Node, Parameter, Setting, State
from cellula.plan.backward import Backward, WeightTerm, make_backward

__all__ = ["run_backward_by_hand"]

Given = Mapping[Any, Tensor]


def run_backward_by_hand(case: Case, weights: Tensor) -> dict[str, Tensor]:
    """Run the forward steps, then the derived backward step from the last to the first.

    Args:
        case: the cell with its numbers.
        weights: the gradient of the loss with respect to the output [T, B, H]; the final states have none.

    Returns:
        The gradient of every leaf, by the names of `Case.leaves`.
    """
    backward, x, start = make_backward(case.plan), case.x, case.start
    masks = _mean_masks(case)
    states = _forward_states(case, masks)
    learned = [term for term in backward.weights if term.parameter.learned]
    results = _results(backward)
    total = {name: torch.zeros_like(value) for name, value in case.parameters.items()}
    inputs = torch.zeros_like(x)
    carry = {slot: torch.zeros_like(value) for slot, value in start.items()}
    for t in reversed(range(len(x))):
        given = {**masks, (case.graph.output, False): weights[t]}
        given |= {(slot, True): value for slot, value in carry.items()}
        registers = evaluate(results, _leaf_values(results, case, x[t], states[t], given), case.sizes)
        for term in learned:
            name = term.parameter.name
            total[name] = total[name] + _weight_gradient(term, registers, x.shape[1], total[name].shape)
        if backward.input is not None:
            inputs[t] = registers[backward.input]
        carry = {
            slot: torch.zeros_like(start[slot]) if node is None else registers[node].expand_as(start[slot])
            for slot, node in backward.carries
        }
    starts = {f"state {slot}": value for slot, value in carry.items()}
    found = {"x": inputs, **starts, **{f"parameter {name}": value for name, value in total.items()}}
    return {name: found[name] for name in case.leaves}


def _mean_masks(case: Case) -> dict[Any, Tensor]:
    """What stands for random masks outside training."""
    masks: dict[Any, Tensor] = {}
    for mask in case.plan.masks:
        rate = mask.rate.attribute
        assert isinstance(rate, Setting | Constant)
        number = case.settings[rate.name] if isinstance(rate, Setting) else rate.value
        masks[mask.node] = torch.full((1,), 1.0 if mask.leaf.draw.inverted else number, dtype=case.x.dtype)
    return masks


def _forward_states(case: Case, masks: Given) -> list[Mapping[str, Tensor]]:
    """The state before every step, and after the last one."""
    states: list[Mapping[str, Tensor]] = [case.start]
    roots = [node for _, node in (*case.plan.equations, *case.plan.updates)]
    for step in case.x:
        registers = evaluate(roots, _leaf_values(roots, case, step, states[-1], masks), case.sizes)
        states.append({slot: registers[node].expand_as(case.start[slot]) for slot, node in case.plan.updates})
    return states


def _results(backward: Backward) -> list[Node]:
    """All that a backward step has to compute."""
    found = [node for _, node in backward.gradients] + [term.right for term in backward.weights]
    found += [term.left for term in backward.weights if term.left is not None]
    found += [node for _, node in backward.carries if node is not None]
    return found + ([] if backward.input is None else [backward.input])


def _leaf_values(nodes: Iterable[Node], case: Case, x: Tensor, state: Given, given: Given) -> dict[Node, Tensor]:
    """A value for every leaf that the nodes read in one step."""
    registers: dict[Node, Tensor] = {}
    seen: set[Node] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        stack += node.inputs
        what = node.attribute
        if isinstance(what, Input):
            registers[node] = x
        elif isinstance(what, State):
            registers[node] = state[what.slot]
        elif isinstance(what, Parameter):
            value = case.parameters[what.name]
            registers[node] = value if value.ndim else value.reshape(1)
        elif isinstance(what, Setting | Constant):
            number = case.settings[what.name] if isinstance(what, Setting) else what.value
            registers[node] = torch.full((1,), number, dtype=x.dtype)
        elif isinstance(what, DrawMask):
            registers[node] = given[node]
        elif isinstance(what, Adjoint):
            registers[node] = given[what.name, what.carried]
    return registers


def _weight_gradient(term: WeightTerm, registers: Mapping[Node, Tensor], rows: int, shape: torch.Size) -> Tensor:
    """What one step adds to the gradient of a parameter."""
    right = registers[term.right]
    right = right.expand(rows, right.shape[-1])
    if term.left is None:
        return right.expand(rows, *shape[-1:]).sum(0).reshape(shape) if shape else right.sum()
    left = registers[term.left]
    left = left.expand(rows, left.shape[-1])
    if term.parameter.kind == "diagonal":
        return (left * right).sum(0)
    if len(shape) == 3:
        return torch.einsum("bnr,bnc->nrc", left.unflatten(-1, shape[:2]), right.unflatten(-1, (shape[0], shape[2])))
    return left.T @ right
