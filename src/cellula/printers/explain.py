"""Every stage of a cell, in order: from its text to its gradients."""

from __future__ import annotations

from cellula.graph.classify import classify
from cellula.graph.graph import Graph
from cellula.plan.backward import make_backward
from cellula.plan.plan import make_plan
from cellula.printers.bptt import print_bptt
from cellula.printers.formula import print_formula
from cellula.printers.plan import print_plan

__all__ = ["explain_graph"]


def explain_graph(graph: Graph) -> str:
    """The formula, what its names mean, what runs when, and the way back through time, as text.

    Args:
        graph: a checked cell.

    Example:
        >>> from cellula import load_cell
        >>> from cellula.printers.explain import explain_graph
        >>> print(explain_graph(load_cell("elman")).split("2. MEANING")[1].split("3.")[0].strip())
        h    layer        hidden
        W    matrix       input x hidden
        U    matrix       hidden x hidden
        b    vector       hidden
    """
    roles = classify(graph)
    rows = [(equation.name, roles[equation.name], equation.node.size or "1") for equation in graph.equations]
    rows += [(parameter.name, parameter.kind, " x ".join(parameter.sizes) or "1") for parameter in graph.parameters]
    rows += [(setting.name, "setting", f"{setting.default:g}") for setting in graph.settings]
    width = max(4, *(len(name) for name, _, _ in rows))
    meaning = "\n".join(f"{name:<{width}} {kind:<12} {size}" for name, kind, size in rows)
    plan = make_plan(graph)
    parts = (
        ("1. FORMULA", print_formula(graph).rstrip("\n")),
        ("2. MEANING", meaning),
        ("3. WHAT RUNS WHEN", print_plan(plan)),
        ("4. BACKPROPAGATION THROUGH TIME", print_bptt(make_backward(plan))),
    )
    return "\n\n".join(f"{title}\n\n{text}" for title, text in parts)
