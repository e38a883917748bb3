"""What runs when: every node once, products of the input before the loop, what no state needs after it."""

from dataclasses import replace

import pytest
from hypothesis import given, settings

from cellula import build, cells, load_cell, make_plan
from cellula.graph.node import DrawMask, Input, State, walk
from cellula.graph.ops import OPS
from cellula.plan.expand import expand
from strategies import formulas


def check(graph):
    plan = make_plan(graph)
    once, before, loop, after = plan.stages
    everything = walk(node for _, node in plan.equations)
    inner = [node for node in everything if node.op != "leaf"]
    assert sorted(map(id, (*once, *before, *loop, *after))) == sorted(map(id, inner))
    below = {node: {leaf.attribute for leaf in walk([node]) if leaf.op == "leaf"} for node in inner}
    needed = set(walk(node for _, node in plan.updates))
    for stage, nodes in enumerate(plan.stages):
        for node in nodes:
            kinds = {type(leaf) for leaf in below[node]}
            assert (State in kinds) == (stage >= 2), node
            assert stage != 0 or not kinds & {Input, DrawMask}, node
            assert stage != 1 or kinds & {Input, DrawMask}, node
            assert stage < 2 or (stage == 2) == (node in needed), node
    assert [name for name, _ in plan.updates] == [state.slot for state in graph.states]
    assert not [node for node in inner if node.op in OPS and OPS[node.op].draw]
    return plan


@pytest.mark.parametrize("name", cells())
def test_the_zoo(name):
    plan = check(load_cell(name))
    for node in plan.loop:
        assert node.op != "matmul" or any(isinstance(leaf.attribute, State) for leaf in walk([node]))


@settings(max_examples=50)
@given(formulas())
def test_random_formulas(text):
    check(build(text))


def count(nodes, op):
    return sum(node.op == op for node in nodes)


@pytest.mark.parametrize(
    ("name", "before", "loop", "after"),
    [
        ("lstm", 4, 4, 0),
        ("gru", 3, 3, 0),
        ("peephole_lstm", 4, 4, 0),
        ("elman", 1, 1, 0),
        ("jordan", 1, 2, 0),
        ("mlp", 2, 0, 0),
        ("h[t] = tanh(x[t] @ W + h[t-1] @ U)\ny[t] = h[t] @ V", 1, 1, 1),
        ("c[t] = c[t-1] + x[t]\ny[t] = tanh(c[t] @ W) @ V", 0, 0, 2),
    ],
)
def test_where_the_products_run(name, before, loop, after):
    plan = make_plan(load_cell(name))
    assert [count(stage, "matmul") for stage in plan.stages] == [0, before, loop, after]


def test_values_of_parameters_alone_are_computed_once():
    plan = make_plan(build("h[t] = exp(-exp(a)) * h[t-1] + x[t] @ W"))
    assert [node.op for node in plan.once] == ["exp", "negative", "exp"]


def test_gaps_between_lags_are_filled():
    plan = make_plan(build("h[t] = tanh(x[t-2] @ W + h[t-3] @ U)"))
    assert [name for name, _ in plan.updates] == ["x", "x_lag2", "h", "h_lag2", "h_lag3"]


def test_a_wrong_plan_is_refused():
    plan = make_plan(load_cell("lstm"))
    with pytest.raises(ValueError, match="stands in two stages"):
        replace(plan, before=(*plan.before, plan.loop[0]))
    with pytest.raises(ValueError, match="runs before its input"):
        replace(plan, before=plan.before[1:], after=plan.before[:1])
    with pytest.raises(ValueError, match="runs before its input"):
        replace(plan, loop=plan.loop[::-1])
    with pytest.raises(ValueError, match="runs before its input"):
        replace(plan, before=plan.before[1:])


def test_a_plan_prints_its_stages():
    text = str(make_plan(load_cell("elman")))
    assert [line for line in text.split("\n") if not line.startswith(" ")] == [
        "once:",
        "for all steps, before the loop:",
        "step by step:",
        "for all steps, after the loop:",
    ]
    assert "<matmul [hidden]>" in text and "nothing" in text


def test_definitions_all_the_way_down():
    graph = build("h[t] = layer_norm(gelu(x[t] @ W)) * softmax(elu(h[t-1])) + hard_sigmoid(silu(x[t] @ V))")
    root = graph.equations[0].node
    bottom = expand([root], lambda node: node.op in OPS and OPS[node.op].definition is not None)[root]
    assert all(OPS[node.op].definition is None for node in walk([bottom]) if node.op in OPS)
