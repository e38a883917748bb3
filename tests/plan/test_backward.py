"""The derived backward step, run by hand over time, gives autograd's gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cellula import build, cells, compile, load_cell, make_plan
from cellula.backends.reference import evaluate
from cellula.graph.node import Adjoint, Constant, DrawMask, Input, Parameter, Setting, State
from cellula.plan.backward import make_backward
from cellula.printers.bptt import print_bptt
from compare import assert_close
from strategies import SIZES, formulas
from zoo_sizes import sizes_of


def random_start(graph, sizes, steps, rows):
    draw = torch.Generator().manual_seed(0)

    def random(*shape):
        return (torch.randn(shape, generator=draw, dtype=torch.float64) * 0.7).requires_grad_()

    x = random(steps, rows, sizes["input"])
    start = {s.slot: random(rows, 1 if s.size is None else sizes[s.size]) for s in graph.states}
    return x, start, {p.name: random(*graph.shape(p, sizes)) for p in graph.parameters}


def autograd(plan, sizes, x, start, parameters):
    """Output, output weights, and the gradients of x, the start and the parameters."""
    chosen = {setting.name: setting.default for setting in plan.graph.settings}
    output = compile(plan)(x, start, parameters, chosen, sizes).output
    weights = torch.linspace(-1, 2, output.numel(), dtype=x.dtype).view_as(output)
    leaves = {"x": x, **{f"start {k}": v for k, v in start.items()}, **parameters}
    zero = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    if not output.requires_grad:
        return weights, zero
    found = torch.autograd.grad((output * weights).sum(), list(leaves.values()), allow_unused=True)
    return weights, {n: zero[n] if g is None else g for n, g in zip(leaves, found, strict=True)}


def leaf_values(nodes, x, state, parameters, extra):
    """The registers of one step: a value for every leaf that the nodes read."""
    registers, seen = {}, set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        what = node.attribute
        if node in seen:
            continue
        seen.add(node)
        if isinstance(what, Input):
            registers[node] = x
        elif isinstance(what, State):
            registers[node] = state[what.slot]
        elif isinstance(what, Parameter):
            value = parameters[what.name]
            registers[node] = value if value.ndim else value.reshape(1)
        elif isinstance(what, Setting | Constant):
            number = what.default if isinstance(what, Setting) else what.value
            registers[node] = torch.full((1,), number, dtype=x.dtype)
        elif isinstance(what, DrawMask):
            registers[node] = extra[node]
        elif isinstance(what, Adjoint):
            registers[node] = extra[what.name, what.carried]
        stack += node.inputs
    return registers


def by_hand(backward, sizes, x, start, parameters, weights):
    """Run the forward steps, then the derived backward step from the last to the first."""
    plan, rows = backward.plan, x.shape[1]
    masks = {}
    for mask in plan.masks:
        rate = mask.rate.attribute
        number = rate.default if isinstance(rate, Setting) else rate.value
        masks[mask.node] = torch.full((1,), 1.0 if mask.leaf.draw.inverted else number, dtype=x.dtype)
    states, updates = [start], [node for _, node in plan.updates]
    for t in range(len(x)):
        roots = [node for _, node in plan.equations] + updates
        registers = evaluate(roots, leaf_values(roots, x[t], states[-1], parameters, masks), sizes)
        states.append({slot: registers[node].expand_as(start[slot]) for slot, node in plan.updates})
    results = [node for _, node in backward.gradients] + [term.right for term in backward.weights]
    results += [term.left for term in backward.weights if term.left is not None]
    results += [node for _, node in backward.carries if node is not None]
    results += [backward.input] if backward.input is not None else []
    total = {name: torch.zeros_like(value) for name, value in parameters.items()}
    dx = torch.zeros_like(x)
    carry = {slot: torch.zeros_like(value) for slot, value in start.items()}
    for t in reversed(range(len(x))):
        given_in = masks | {(plan.graph.output, False): weights[t]} | {(slot, True): g for slot, g in carry.items()}
        registers = evaluate(results, leaf_values(results, x[t], states[t], parameters, given_in), sizes)
        for term in backward.weights:
            total[term.parameter.name] = total[term.parameter.name] + weight_gradient(term, registers, rows, parameters)
        if backward.input is not None:
            dx[t] = registers[backward.input]
        carry = {
            slot: torch.zeros_like(start[slot]) if node is None else registers[node].expand_as(start[slot])
            for slot, node in backward.carries
        }
    return {"x": dx, **{f"start {slot}": value for slot, value in carry.items()}, **total}


def weight_gradient(term, registers, rows, parameters):
    shape = parameters[term.parameter.name].shape
    right = registers[term.right]
    right = right.expand(rows, right.shape[-1])
    if term.left is None:
        return right.expand(rows, *shape[-1:]).sum(0).reshape(shape) if shape else right.sum()
    left = registers[term.left]
    left = left.expand(rows, left.shape[-1])
    if term.parameter.kind == "diagonal":
        return (left * right).sum(0)
    if len(shape) == 3:
        parts = left.unflatten(-1, shape[:2]), right.unflatten(-1, (shape[0], shape[2]))
        return torch.einsum("bnr,bnc->nrc", *parts)
    return left.T @ right


def assert_derived_is_autograd(graph, sizes, steps=4, rows=3):
    plan = make_plan(graph)
    x, start, parameters = random_start(graph, sizes, steps, rows)
    weights, expected = autograd(plan, sizes, x, start, parameters)
    with torch.no_grad():
        actual = by_hand(make_backward(plan), sizes, x, start, parameters, weights)
    assert_close(actual, expected, 1e-10)


@pytest.mark.parametrize("name", cells())
def test_every_cell(name):
    assert_derived_is_autograd(load_cell(name), sizes_of(load_cell(name), 3, 5))


@pytest.mark.parametrize(
    "text",
    [
        "h[t] = tanh(x[t] @ W + h[t-2] @ U + x[t-1] @ V)",
        "m[t] = tanh(x[t] @ W + h[t-1] @ U)\nh[t]: proj = m[t] @ P",
        "W = matrix(blocks=2)\nD = diagonal()\nh[t]: hidden = tanh(h[t-1] @ W + h[t-2] @ D) + mean(x[t])",
        "s = scalar(init=0.5)\nh[t] = zoneout(layer_norm(x[t] @ W) * sigmoid(s), h[t-1], 0.2)",
        # Units that tie for the peak share its gradient.
        "i[t]: hidden = tanh(expand(0.5, i[t-1]) + peak(i[t-1]))\nh[t]: hidden = tanh(i[t]) + x[t] @ W",
        "a[t] = dropout(x[t] @ W, 0.5)\nh[t] = softmax(a[t]) * h[t-1] + max(a[t], 0) ** 2",
    ],
)
def test_every_kind_of_node(text):
    assert_derived_is_autograd(build(text), {"input": 4, "hidden": 6, "proj": 2})


@settings(max_examples=50)
@given(formulas(numeric=True), st.integers(1, 3))
def test_random_formulas(text, steps):
    assert_derived_is_autograd(build(text), SIZES, steps=steps, rows=2)


def test_a_wrong_derivative_is_noticed():
    """The comparison itself can fail: the backward step of another formula is refused."""
    graph, other = build("h[t] = tanh(x[t] @ W + h[t-1] @ U)"), build("h[t] = sigmoid(x[t] @ W + h[t-1] @ U)")
    x, start, parameters = random_start(graph, {"input": 3, "hidden": 4}, 3, 2)
    weights, expected = autograd(make_plan(graph), {"input": 3, "hidden": 4}, x, start, parameters)
    with torch.no_grad():
        actual = by_hand(make_backward(make_plan(other)), {"hidden": 4}, x, start, parameters, weights)
    with pytest.raises(AssertionError):
        assert_close(actual, expected)


def test_the_equations_of_the_lstm_are_those_of_the_textbooks():
    lines = [line.strip() for line in print_bptt(make_backward(make_plan(load_cell("lstm")))).split("\n")]
    wanted = ("dh[t]        = dloss[t] + carry_h[t]", "do_in[t]     = do[t] * o[t] * (1 - o[t])")
    wanted += ("df[t]        = dc[t] * c[t-1]", "carry_c[t-1] = dc[t] * f[t]", "dU_f = h[t-1].T @ df_in[t]")
    assert [line for line in wanted if line not in lines] == []


# The input reaches nothing but thresholds, whose gradient is 0 everywhere.
WITHOUT_GRADIENT = {"hopfield", "hopfield_asynchronous"}


@pytest.mark.parametrize("name", cells())
def test_every_cell_prints(name):
    text = print_bptt(make_backward(make_plan(load_cell(name))))
    assert ("dx[t]" in text) == (name not in WITHOUT_GRADIENT)
    assert "<" not in text.replace(" < ", "").replace(" <= ", "")
