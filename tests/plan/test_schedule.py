"""The passes of a step: as few as its products and reductions allow, everything before what reads it."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings

from cellula import build, cells, load_cell, make_plan
from cellula.backends.reference import evaluate
from cellula.graph.node import Constant, Input, Parameter, Setting, State, walk
from cellula.graph.ops import OPS
from cellula.plan.expand import expand
from cellula.plan.schedule import Phase, make_schedule, operands
from compare import assert_close
from strategies import SIZES, formulas
from zoo_sizes import sizes_of


def roots_of(graph):
    """All equations, draws resolved."""
    return [node for _, node in make_plan(graph).equations]


def waits(node):
    """Whether a node needs all units of what it reads."""
    return node.op == "accumulate" or (node.op in OPS and OPS[node.op].shape == "reduce")


def check(graph):
    """What holds for the passes of every cell."""
    roots = expand(roots_of(graph), lambda node: node.op in OPS and OPS[node.op].definition is not None)
    wanted = [roots[node] for node in roots_of(graph)]
    schedule = make_schedule(wanted)
    done = set(schedule.steady)
    level = {}
    for phase in schedule.phases:
        for node in phase.nodes:
            assert node not in done, "computed twice"
            assert node.size == phase.size
            for child in operands(node):
                if child.op == "leaf":
                    continue
                assert child in done, "read before it is there"
                # All units of what is waited for were there before this level began.
                assert child not in level or level[child] <= phase.level - waits(node)
            level[node] = phase.level
            done.add(node)
    assert all(schedule.renamed[node] in done or schedule.renamed[node].op == "leaf" for node in wanted)
    assert not [node for node in done if node.op in ("matmul", "transposed")], "a product outside a sum of products"
    crossing = set(schedule.crossing)
    for number, phase in enumerate(schedule.phases):
        for node in phase.nodes:
            needed = {child for child in operands(node) if schedule.place.get(child, number) < number}
            assert needed <= crossing
    return schedule


@pytest.mark.parametrize("name", cells())
def test_the_zoo(name):
    check(load_cell(name))


@settings(max_examples=40)
@given(formulas())
def test_random_formulas(text):
    check(build(text))


@pytest.mark.parametrize(
    ("name", "levels", "sums"),
    [
        ("lstm", 1, [4]),
        ("peephole_lstm", 1, [4]),
        ("gru", 2, [3, 1]),
        ("gru_torch", 1, [4]),
        ("elman", 1, [1]),
        ("jordan", 2, [1, 1]),
        ("projected_lstm", 2, [4, 1]),
        ("h[t] = h[t-1] * a + x[t] @ W", 1, [1]),
        ("h[t] = h[t-1] * 0.5 + 1", 1, [0]),
        ("h[t] = tanh(x[t] @ W + h[t-1] @ U) @ V + tanh(h[t-1] @ U)", 2, [2, 1]),
    ],
)
def test_how_many_passes(name, levels, sums):
    schedule = make_schedule(roots_of(load_cell(name)))
    assert len({phase.level for phase in schedule.phases}) == levels
    assert [len(phase.sums) for phase in schedule.phases] == sums


def test_products_of_one_sum_are_added_up_in_one_go():
    graph = build("h[t] = tanh(x[t] @ W + b + h[t-1] @ U + h[t-2] @ V)")
    (phase,) = make_schedule(roots_of(graph)).phases
    (total,) = phase.sums
    # The input comes first: its product may have been computed for many steps before.
    assert [type(product.inputs[0].attribute) for product in total.inputs] == [Input, State, State]


def test_what_is_read_twice_is_a_sum_by_itself():
    graph = build("a[t] = x[t] @ W + h[t-1] @ U\nh[t] = tanh(a[t] + x[t] @ V) * a[t]")
    (phase,) = make_schedule(roots_of(graph)).phases
    assert sorted(len(total.inputs) for total in phase.sums) == [1, 2]


def test_given_values_are_not_computed():
    roots = roots_of(load_cell("lstm"))
    gates = [node for node in roots if node.attribute in ("i", "f", "g", "o")]
    schedule = make_schedule([roots[-1]], gates)
    everything = [node for phase in schedule.phases for node in phase.nodes]
    assert not [node for node in everything if node in gates or node.op == "accumulate"]
    assert schedule.given == frozenset(gates)


def test_what_reads_memory_only_is_computed_where_it_is_read():
    """Otherwise it would have to be written down between two passes."""
    graph = build("r[t] = sigmoid(x[t] @ W + h[t-1] @ U)\nh[t] = exp(h[t-1]) * tanh((r[t] * h[t-1]) @ V)")
    schedule = make_schedule(roots_of(graph)[1:])
    place = {node.op: number for node, number in schedule.place.items()}
    assert place["sigmoid"] == 0 and place["exp"] == place["tanh"] == 1
    assert [node.op for node in schedule.crossing] == ["multiply"]


def values(schedule, graph, sizes):
    """Every node of the passes, computed in their order."""
    draw = torch.Generator().manual_seed(0)
    registers = {}
    for node in walk([*roots_of(graph), *schedule.renamed.values()]):
        what = node.attribute
        if isinstance(what, Input | State):
            registers[node] = torch.rand(2, 1 if node.size is None else sizes[node.size], generator=draw).double() + 0.1
        elif isinstance(what, Parameter):
            value = torch.randn(graph.shape(what, sizes), generator=draw, dtype=torch.float64) * 0.5
            registers[node] = value if value.ndim else value.reshape(1)
        elif isinstance(what, Setting | Constant):
            number = what.default if isinstance(what, Setting) else what.value
            registers[node] = torch.full((1,), number, dtype=torch.float64)
    own = dict(registers)
    order = [node for node in walk(schedule.renamed.values()) if node in schedule.steady]
    for node in [*order, *(node for phase in schedule.phases for node in phase.nodes)]:
        if node.op == "accumulate":
            own[node] = sum(evaluate([product], own, sizes)[product] for product in node.inputs)
        else:
            own = evaluate([node], own, sizes)
    return own, evaluate(roots_of(graph), registers, sizes)


@pytest.mark.parametrize("name", [name for name in cells() if not make_plan(load_cell(name)).masks])
def test_the_passes_compute_the_step(name):
    graph = load_cell(name)
    sizes = sizes_of(graph, 3, 5)
    schedule = make_schedule(roots_of(graph))
    ours, theirs = values(schedule, graph, sizes)
    assert_close([ours[schedule.renamed[n]] for n in roots_of(graph)], [theirs[n] for n in roots_of(graph)], 1e-9)


@settings(max_examples=40)
@given(formulas(numeric=True))
def test_the_passes_of_random_formulas_compute_their_step(text):
    graph = build(text)
    if make_plan(graph).masks:
        return
    schedule = make_schedule(roots_of(graph))
    ours, theirs = values(schedule, graph, SIZES)
    for node in roots_of(graph):
        one, other = ours[schedule.renamed[node]], theirs[node]
        assert_close([one.expand_as(other) if one.shape != other.shape else one], [other], 1e-8)


def test_a_wrong_order_is_refused():
    schedule = make_schedule(roots_of(load_cell("gru")))
    with pytest.raises(ValueError, match="runs before"):
        replace(schedule, phases=schedule.phases[::-1])
    first = schedule.phases[0]
    with pytest.raises(ValueError, match="runs before"):
        replace(schedule, phases=(Phase(first.level, first.size, first.nodes[::-1]), *schedule.phases[1:]))
