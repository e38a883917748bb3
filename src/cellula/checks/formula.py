"""The checks that need the formula alone: sizes, counts, costs, and the way through text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellula.backends.c.spelling import NATIVE
from cellula.checks.report import Failed
from cellula.errors import FormulaError
from cellula.graph.build import build
from cellula.graph.graph import Graph
from cellula.plan.costs import costs
from cellula.plan.kernel import make_kernel
from cellula.printers.formula import print_formula

__all__ = ["check_costs", "check_parameters", "check_print", "check_sizes"]

Found = tuple[str, Mapping[str, Any]]


def check_sizes(graph: Graph, sizes: Mapping[str, int]) -> Found:
    """That every size is known and every matrix divides into its blocks; raises UsageError else."""
    for parameter in graph.parameters:
        graph.shape(parameter, sizes)
    units = {state.slot: 1 if state.size is None else sizes[state.size] for state in graph.states}
    memory = ", ".join(f"{slot} ({count})" for slot, count in units.items()) or "none"
    output = graph.equation[graph.output].node.size
    shown = ", ".join(f"{name} = {sizes[name]}" for name in {"input": None, "hidden": None, **dict.fromkeys(sizes)})
    text = f"{shown}; memory {memory}; output {graph.output} ({1 if output is None else sizes[output]})"
    return text, {"states": units}


def check_parameters(graph: Graph, sizes: Mapping[str, int]) -> Found:
    """How many numbers are learned."""
    count = graph.parameter_count(sizes)
    tensors = len(graph.parameters)
    return f"{count:,} learned numbers in {tensors} tensor{'s' * (tensors != 1)}", {"parameter_count": count}


def check_costs(graph: Graph, sizes: Mapping[str, int]) -> Found:
    """What a step of one sequence costs, by the kernels' plan."""
    found = costs(make_kernel(graph, NATIVE, backward=True), sizes)
    text = (
        f"{found.forward:,.0f} operations forward, {found.backward + found.after:,.0f} backward; "
        f"{found.saved_bytes:,.0f} bytes kept for the way back (float32)"
    )
    notes = {"forward": found.forward, "backward": found.backward + found.after, "saved_bytes": found.saved_bytes}
    return text, {"cost_per_step": notes}


def check_print(graph: Graph, _: Mapping[str, int]) -> Found:
    """That the printed formula reads back as the same graph.

    Raises:
        Failed: it does not.
    """
    text = print_formula(graph)
    try:
        again = build(text, graph.name)
    except FormulaError as error:
        raise Failed(f"the printed formula cannot be read: {error}") from error
    if again != graph:
        raise Failed(f"the printed formula is another one:\n{text}")
    return f"the printed formula ({len(text):,} characters) reads back as the same graph", {}
