"""What no step changes leaves the steps, and what is left is still the same cell."""

import pytest
import torch
from hypothesis import given, settings

from cellula import build, cells, compile, load_cell, make_plan
from cellula.backends.reference import evaluate
from cellula.graph.node import Constant, DrawMask, Input, Parameter, Setting, State, walk
from cellula.graph.ops import OPS
from cellula.plan.once import separate_once
from compare import assert_close
from strategies import SIZES, formulas
from zoo_sizes import sizes_of


def is_moving(node):
    """Whether a node differs from step to step, row to row or draw to draw."""
    below = walk([node])
    return any(
        isinstance(one.attribute, Input | State | DrawMask) or (one.op in OPS and OPS[one.op].draw) for one in below
    )


def check(graph, sizes):
    """Nothing steady is left in the steps, and they compute what the whole cell computes."""
    rest, once = separate_once(graph)
    names = {value.parameter.name for value in once}
    assert len(names) == len(once)
    assert not names & ({parameter.name for parameter in graph.parameters} | set(graph.equation))
    for value in once:
        assert not is_moving(value.node)
    for node in rest.nodes:
        if node.op not in ("leaf", "equation"):
            assert is_moving(node) or any(equation.node.inputs[0] is node for equation in rest.equations)
    assert {leaf.attribute.name for leaf in rest.nodes if isinstance(leaf.attribute, Parameter)} == {
        parameter.name for parameter in rest.parameters
    }
    matrices = [node.inputs[1].attribute for node in rest.nodes if node.op in ("matmul", "transposed")]
    assert not [matrix for matrix in matrices if matrix.kind == "diagonal"]
    assert [(equation.name, equation.annotated) for equation in rest.equations] == [
        (equation.name, equation.annotated) for equation in graph.equations
    ]

    draw = torch.Generator().manual_seed(0)
    x = torch.randn(3, 2, sizes["input"], generator=draw, dtype=torch.float64)
    start = {
        s.slot: torch.rand(2, 1 if s.size is None else sizes[s.size], generator=draw).double() + 0.1
        for s in graph.states
    }
    parameters = {
        p.name: torch.randn(graph.shape(p, sizes), generator=draw, dtype=torch.float64) * 0.5 for p in graph.parameters
    }
    numbers = {setting.name: setting.default for setting in graph.settings}
    given = parameters | computed(once, parameters, numbers, sizes)
    results = []
    for one in (graph, rest):
        own = {parameter.name: given[parameter.name] for parameter in one.parameters}
        used = {setting.name: numbers[setting.name] for setting in one.settings}
        result = compile(make_plan(one), "reference")(x, start, own, used, sizes)
        results.append({"output": result.output, **result.state})
    assert_close(*results, 1e-8)
    return once


def computed(once, parameters, numbers, sizes):
    """The values that are computed once."""
    registers = {}
    for node in walk(value.node for value in once):
        what = node.attribute
        if isinstance(what, Parameter):
            value = parameters[what.name]
            registers[node] = value if value.ndim else value.reshape(1)
        elif isinstance(what, Setting | Constant):
            number = numbers[what.name] if isinstance(what, Setting) else what.value
            registers[node] = torch.full((1,), number, dtype=torch.float64)
    found = {}
    for value in once:
        size = value.parameter.size
        made = evaluate([value.node], registers, sizes)[value.node]
        found[value.parameter.name] = made.reshape(()) if size is None else made.expand(sizes[size])
    return found


@pytest.mark.parametrize("name", cells())
def test_the_zoo(name):
    graph = load_cell(name)
    check(graph, sizes_of(graph, 3, 5))


@settings(max_examples=40)
@given(formulas(numeric=True))
def test_random_formulas(text):
    check(build(text), SIZES)


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("h[t] = exp(-exp(log_rate)) * h[t-1] + x[t] @ W", ["exp"]),
        ("h[t] = (1 - sigmoid(a)) * h[t-1] + sigmoid(a) * (x[t] @ W)", ["sigmoid", "subtract"]),
        ("D = diagonal()\nh[t] = tanh(x[t] @ W + h[t-1] @ D)", []),
        ("h[t] = tanh(x[t] @ W + h[t-1] @ U + b)", []),
    ],
)
def test_what_is_taken(text, taken):
    assert sorted(value.node.op for value in check(build(text), {"input": 3, "hidden": 4})) == taken


def test_a_name_that_is_taken_already():
    once = check(build("h[t] = exp(once_1) * h[t-1] + x[t] @ W"), {"input": 3, "hidden": 4})
    assert [value.parameter.name for value in once] == ["once_1_"]
