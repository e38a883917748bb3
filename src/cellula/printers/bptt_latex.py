"""Backpropagation through time of any cell as LaTeX."""

from __future__ import annotations

from collections.abc import Iterable

from cellula.graph.node import Adjoint, DrawMask, Node, walk
from cellula.plan.backward import Backward, WeightTerm
from cellula.printers.latex import Names, indexed, latex_expression, latex_name, print_latex

__all__ = ["print_bptt_latex"]


def print_bptt_latex(backward: Backward) -> str:
    r"""The forward step, the backward step and the gradients as three `align*` environments (package amsmath).

    `\delta h_t` is the gradient of the loss with respect to `h_t`, with an index (in) to the sum within its activation;
    `\delta^{+} h_t` is the share that comes back from later steps, 0 after the last one; `L_t` is the loss of step t.

    Args:
        backward: what `make_backward` derived.

    Example:
        >>> from cellula import build, make_plan
        >>> from cellula.plan.backward import make_backward
        >>> print(print_bptt_latex(make_backward(make_plan(build("h[t] = tanh(x[t] @ W + h[t-1] @ U)")))))
        % forward, t = 1 ... T
        \begin{align*}
        h_t &= \tanh(x_t W + h_{t-1} U)
        \end{align*}
        % backward, t = T ... 1
        \begin{align*}
        \delta h_t &= \frac{\partial L_t}{\partial h_t} + \delta^{+} h_t \\
        \delta h^{(\mathrm{in})}_t &= \delta h_t \odot (1 - h_t \odot h_t) \\
        \delta^{+} h_{t-1} &= \delta h^{(\mathrm{in})}_t U^{\top} \\
        \delta x_t &= \delta h^{(\mathrm{in})}_t W^{\top}
        \end{align*}
        % gradients, summed over the sequences of the batch too
        \begin{align*}
        \frac{\partial L}{\partial W} &= \sum_t x_t^{\top} \delta h^{(\mathrm{in})}_t \\
        \frac{\partial L}{\partial U} &= \sum_t h_{t-1}^{\top} \delta h^{(\mathrm{in})}_t
        \end{align*}
    """
    names = _names(backward)
    steps = [(names[node], latex_expression(node.inputs[0], names)) for _, node in backward.gradients]
    steps += [
        (rf"\delta^{{+}} {indexed(slot, 't-1')}", "0" if node is None else latex_expression(node, names))
        for slot, node in backward.carries
    ]
    if backward.input is not None:
        steps.append((r"\delta x_t", latex_expression(backward.input, names)))
    weights: dict[str, list[WeightTerm]] = {}
    for term in backward.weights:
        weights.setdefault(term.parameter.name, []).append(term)
    sums = [
        (rf"\frac{{\partial L}}{{\partial {latex_name(name)}}}", rf"\sum_t {_summed(terms, names)}")
        for name, terms in weights.items()
    ]
    parts = ["% forward, t = 1 ... T", print_latex(backward.plan.graph)]
    parts += ["% backward, t = T ... 1", _aligned(steps)]
    parts += ["% gradients, summed over the sequences of the batch too", _aligned(sums)] if sums else []
    return "\n".join(parts)


def _names(backward: Backward) -> Names:
    """What the gradients, and the values that a backward step is given, are written as."""
    names: dict[Node, str] = {}
    for name, node in backward.gradients:
        primes = r"\prime" * (len(name) - len(name.rstrip("_")))
        names[node] = rf"\delta {indexed(name[1:], 't', primes)}"
    for node in walk(_roots(backward)):
        value = node.attribute
        if isinstance(value, DrawMask):
            names[node] = rf"\mathrm{{mask}}^{{({value.number})}}_t"
        elif isinstance(value, Adjoint) and value.carried:
            names[node] = rf"\delta^{{+}} {indexed(value.name, 't')}"
        elif isinstance(value, Adjoint):
            names[node] = rf"\frac{{\partial L_t}}{{\partial {indexed(value.name, 't')}}}"
    return names


def _roots(backward: Backward) -> Iterable[Node]:
    yield from (node for _, node in backward.gradients)
    yield from (node for _, node in backward.carries if node is not None)
    yield from (node for term in backward.weights for node in (term.left, term.right) if node is not None)
    if backward.input is not None:
        yield backward.input


def _summed(terms: list[WeightTerm], names: Names) -> str:
    """What a step adds to a gradient, in brackets where it is a sum."""
    alone = terms[0].left is None and terms[0].right not in names and terms[0].right.op in ("add", "subtract")
    return _bracketed(" + ".join(_term(term, names) for term in terms), len(terms) > 1 or alone)


def _term(term: WeightTerm, names: Names) -> str:
    right = latex_expression(term.right, names)
    if term.left is None:
        return right
    left = _bracketed(latex_expression(term.left, names), not _single(term.left, names))
    right = _bracketed(right, not _single(term.right, names))
    return rf"{left} \odot {right}" if term.parameter.kind == "diagonal" else rf"{left}^{{\top}} {right}"


def _single(node: Node, names: Names) -> bool:
    """Whether a value is written as one sign."""
    return node in names or node.op in ("leaf", "equation")


def _bracketed(text: str, needed: bool) -> str:
    return rf"\left({text}\right)" if needed else text


def _aligned(pairs: list[tuple[str, str]]) -> str:
    lines = " \\\\\n".join(f"{left} &= {right}" for left, right in pairs)
    return "\n".join([r"\begin{align*}", lines, r"\end{align*}"])
