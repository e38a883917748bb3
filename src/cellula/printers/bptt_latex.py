"""Backpropagation through time of any cell, as LaTeX."""

from __future__ import annotations

from collections.abc import Mapping

from cellula.graph.node import Adjoint, Node, leaf
from cellula.plan.backward import Backward, WeightTerm
from cellula.printers.latex import indexed, latex_expression, named, print_latex

__all__ = ["print_bptt_latex"]

_FORWARD = r"Forward, for $t = 1, \dots, T$:"
_BACKWARD = r"""Backward, for $t = T, \dots, 1$. Here $L$ is the loss and $\delta a_t$ its gradient with respect to
$a_t$; $\overline{a}_t$ stands inside the activation of $a_t$; $\delta a^{\leftarrow}_t$ is what step $t+1$ carries back
to $a_t$, and is $0$ after the last step:"""
_GRADIENTS = "Gradients of the parameters, to be added up over the sequences of a batch:"


def print_bptt_latex(backward: Backward) -> str:
    r"""The forward step, the backward step and the gradients as three `align*` environments (package amsmath).

    Args:
        backward: what `make_backward` derived.

    Example:
        >>> from cellula import build, make_plan
        >>> from cellula.plan.backward import make_backward
        >>> from cellula.printers.bptt_latex import print_bptt_latex
        >>> text = print_bptt_latex(make_backward(make_plan(build("h[t] = tanh(x[t] @ W + h[t-1] @ U)"))))
        >>> print("\n".join(line for line in text.splitlines() if "&=" in line))
        h_t &= \tanh(x_t W + h_{t-1} U)
        \delta h_t &= \frac{\partial L}{\partial h_t} + \delta h^{\leftarrow}_t \\
        \delta \overline{h}_t &= \delta h_t \odot (1 - h_t \odot h_t) \\
        \delta h^{\leftarrow}_{t-1} &= \delta \overline{h}_t U^{\top} \\
        \delta x_t &= \delta \overline{h}_t W^{\top}
        \delta W &= \sum_{t} {x_t}^{\top} \, \delta \overline{h}_t \\
        \delta U &= \sum_{t} {h_{t-1}}^{\top} \, \delta \overline{h}_t

    Reference: the notation is that of Greff et al. 2017, LSTM: A Search Space Odyssey, https://doi.org/10.1109/TNNLS.2016.2582924
    """
    graph = backward.plan.graph
    symbols = _symbols(backward)
    steps = [f"{symbols[node]} &= {latex_expression(node.inputs[0], symbols)}" for _, node in backward.gradients]
    for slot, node in backward.carries:
        steps.append(f"{_carried(slot, 't-1')} &= {'0' if node is None else latex_expression(node, symbols)}")
    if backward.input is not None:
        steps.append(rf"\delta x_t &= {latex_expression(backward.input, symbols)}")
    weights: dict[str, list[str]] = {}
    for term in (term for term in backward.weights if term.parameter.learned):
        weights.setdefault(term.parameter.name, []).append(_term(term, symbols))
    sums = [rf"\delta {named(name)} &= " + " + ".join(terms) for name, terms in weights.items()]
    parts = [(_FORWARD, print_latex(graph)), (_BACKWARD, _aligned(steps)), (_GRADIENTS, _aligned(sums))]
    # A cell may have nothing to learn.
    return "\n\n".join(f"{title}\n{text}" for title, text in (parts if sums else parts[:2]))


def _aligned(lines: list[str]) -> str:
    return "\n".join([r"\begin{align*}", " \\\\\n".join(lines), r"\end{align*}"])


def _symbols(backward: Backward) -> dict[Node, str]:
    """How the gradients are written."""
    graph = backward.plan.graph
    equations = dict(backward.plan.equations)
    output = equations[graph.output]
    loss = rf"\frac{{\partial L}}{{\partial {indexed(graph.output, 't')}}}"
    symbols = {leaf(Adjoint(graph.output, False, output.size)): loss}
    for state in graph.states:
        symbols[leaf(Adjoint(state.slot, True, state.size))] = _carried(state.slot, "t")
    for name, node in backward.gradients:
        symbols[node] = _gradient(name, equations)
    return symbols


def _gradient(name: str, equations: Mapping[str, Node]) -> str:
    """`dh` and `dh_in` of the text; underscores behind, which tell several of a kind apart, become primes."""
    base = name.rstrip("_")[1:]
    primes = "\\prime" * (len(name) - len(name.rstrip("_")))
    inside = base not in equations
    return rf"\delta {indexed(base.removesuffix('_in') if inside else base, 't', inside, primes)}"


def _carried(slot: str, step: str) -> str:
    name, _, lag = slot.partition("_lag")
    mark = r"\leftarrow" + (f" {lag}" if lag else "")
    return rf"\delta {indexed(name, step, mark=mark)}"


def _term(term: WeightTerm, symbols: Mapping[Node, str]) -> str:
    """What a parameter gets from every step."""
    right = latex_expression(term.right, symbols, factor=True)
    if term.left is None:
        return rf"\sum_{{t}} {right}"
    left = latex_expression(term.left, symbols, factor=True)
    if term.parameter.kind == "diagonal":
        return rf"\sum_{{t}} {left} \odot {right}"
    return rf"\sum_{{t}} {{{left}}}^{{\top}} \, {right}"
