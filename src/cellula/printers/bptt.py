"""Backpropagation through time of any cell, as equations to read."""

from __future__ import annotations

from cellula.plan.backward import Backward, WeightTerm
from cellula.printers.formula import print_expression

__all__ = ["print_bptt"]


def print_bptt(backward: Backward) -> str:
    """The forward step and the backward step as equations.

    `dloss[t]` is the gradient of the loss with respect to the output of step t; `carry_h[t]` is what step t+1 carries
    back to `h[t]`, 0 after the last step. Gradients of parameters are sums over all steps and sequences.

    Args:
        backward: what `make_backward` derived.

    Example:
        >>> from cellula import build, make_plan
        >>> from cellula.plan.backward import make_backward
        >>> print(print_bptt(make_backward(make_plan(build("h[t] = tanh(x[t] @ W + h[t-1] @ U)")))))
        forward, t = 1 ... T
          h[t] = tanh(x[t] @ W + h[t-1] @ U)
        <BLANKLINE>
        backward, t = T ... 1
          dh[t]        = dloss[t] + carry_h[t]
          dh_in[t]     = dh[t] * (1 - h[t] * h[t])
          carry_h[t-1] = dh_in[t] @ U.T
          dx[t]        = dh_in[t] @ W.T
        <BLANKLINE>
        gradients, summed over t and the sequences of the batch
          dW = x[t].T @ dh_in[t]
          dU = h[t-1].T @ dh_in[t]
    """
    graph = backward.plan.graph
    forward = [f"{equation.name}[t] = {print_expression(equation.value)}" for equation in graph.equations]
    steps = [(f"{name}[t]", print_expression(node.inputs[0])) for name, node in backward.gradients]
    for slot, node in backward.carries:
        text = "0" if node is None else print_expression(node)
        steps.append((f"carry_{slot}[t-1]", text))
    if backward.input is not None:
        steps.append(("dx[t]", print_expression(backward.input)))
    weights: dict[str, list[str]] = {}
    for term in (term for term in backward.weights if term.parameter.learned):
        weights.setdefault(f"d{term.parameter.name}", []).append(_term(term))
    parts = ["forward, t = 1 ... T", *(f"  {line}" for line in forward), "", "backward, t = T ... 1"]
    parts += _lines(steps)
    parts += ["", "gradients, summed over t and the sequences of the batch"]
    parts += _lines([(name, " + ".join(terms)) for name, terms in weights.items()])
    return "\n".join(parts)


def _term(term: WeightTerm) -> str:
    right = print_expression(term.right)
    if term.left is None:
        return right
    left = print_expression(term.left)
    if term.parameter.kind == "diagonal":
        return f"{_bracketed(left)} * {_bracketed(right)}"
    return f"{_bracketed(left)}.T @ {_bracketed(right)}"


def _bracketed(text: str) -> str:
    return f"({text})" if " " in text else text


def _lines(pairs: list[tuple[str, str]]) -> list[str]:
    width = max((len(name) for name, _ in pairs), default=0)
    return [f"  {name:<{width}} = {text}" for name, text in pairs]
