"""Every stage of a cell, in order: from its text to its gradients and its kernels."""

from __future__ import annotations

from collections.abc import Mapping

from cellula.backends.c.render import render
from cellula.backends.c.spelling import NATIVE
from cellula.graph.classify import classify
from cellula.graph.graph import Graph
from cellula.plan.backward import make_backward
from cellula.plan.kernel import make_kernel
from cellula.plan.plan import make_plan
from cellula.printers.bptt import print_bptt
from cellula.printers.formula import print_formula
from cellula.printers.kernel import print_kernel
from cellula.printers.plan import print_plan

__all__ = ["explain_graph", "explain_plan", "print_source"]

_SOURCE = """`cellula show CELL --as c` prints the C that is made of these passes, `--whole` with all that it includes.
It is compiled when the cell first runs; backend="reference" runs the formula in plain torch instead."""


def explain_plan(graph: Graph, sizes: Mapping[str, int] | None = None) -> str:
    """What runs when: the four stages, and the kernels as the C back end writes them.

    Args:
        graph: a checked cell.
        sizes: numbers of units, with which the costs are printed as numbers too.

    Example:
        >>> from cellula import load_cell
        >>> from cellula.printers.explain import explain_plan
        >>> [line for line in explain_plan(load_cell("mlp")).splitlines() if line.isupper()]
        ['WHAT RUNS WHEN', 'KERNELS']
    """
    parts = (("WHAT RUNS WHEN", print_plan(make_plan(graph))), ("KERNELS", _kernels(graph, sizes)))
    return "\n\n".join(f"{title}\n\n{text}" for title, text in parts)


def print_source(graph: Graph, whole: bool = False) -> str:
    """The C of a cell's kernels, forward and backward.

    Args:
        graph: a checked cell.
        whole: whether to put the vector mathematics and the runtime before it, which are the same for every cell; then
            a C11 compiler takes it as it is, for float32.

    Example:
        >>> from cellula import load_cell
        >>> from cellula.printers.explain import print_source
        >>> print_source(load_cell("elman")).splitlines()[0]
        '/* The kernels of elman. */'
    """
    source = render(make_kernel(graph, NATIVE, backward=True), shared=whole)
    return source.of(double=False) if whole else source.text


def _kernels(graph: Graph, sizes: Mapping[str, int] | None) -> str:
    return print_kernel(make_kernel(graph, NATIVE, backward=True), sizes)


def explain_graph(graph: Graph) -> str:
    """The formula, what its names mean, what runs when, the way back through time and the kernels, as text.

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
    rows += [(parameter.name, parameter.form, " x ".join(parameter.sizes) or "1") for parameter in graph.parameters]
    rows += [(setting.name, "setting", f"{setting.default:g}") for setting in graph.settings]
    width, wide = max(4, *(len(name) for name, _, _ in rows)), max(12, *(len(form) for _, form, _ in rows))
    meaning = "\n".join(f"{name:<{width}} {form:<{wide}} {size}" for name, form, size in rows)
    plan = make_plan(graph)
    parts = (
        ("1. FORMULA", print_formula(graph).rstrip("\n")),
        ("2. MEANING", meaning),
        ("3. WHAT RUNS WHEN", print_plan(plan)),
        ("4. BACKPROPAGATION THROUGH TIME", print_bptt(make_backward(plan))),
        ("5. KERNELS", _kernels(graph, None)),
        ("6. GENERATED SOURCE", _SOURCE),
    )
    return "\n\n".join(f"{title}\n\n{text}" for title, text in parts)
