"""Equal means identical, whoever asks; and nothing is kept that nobody needs."""

import copy
import gc
import pickle
import threading
import weakref

import pytest

from cellula import build, cells, load_cell
from cellula.graph import node as nodes
from cellula.graph.node import apply, constant, leaf

TEXT = "h[t] = tanh(x[t] @ W + h[t-1] @ U + b) * 0.25"


@pytest.mark.parametrize("name", cells())
def test_the_same_formula_is_the_same_nodes(name):
    one, other = load_cell(name), build(load_cell(name).source.text)
    assert one == other and hash(one) == hash(other)
    assert all(a is b for a, b in zip(one.nodes, other.nodes, strict=True))


def test_what_differs_is_not_the_same():
    for other in (
        TEXT.replace("tanh", "sin"),
        TEXT.replace("0.25", "-0.25"),
        TEXT.replace("t-1", "t-2"),
        TEXT.replace("b", "a"),
    ):
        assert build(other) != build(TEXT)
    assert constant(0.0) is not constant(-0.0)
    assert constant(1) is constant(1.0)
    declared = build("b = vector(init=1)\n" + TEXT)
    assert declared != build(TEXT)
    assert (
        build("h[t] = dropout(x[t], 0.1) + dropout(x[t], 0.1)").equations[0].value.inputs[0]
        is not (build("h[t] = dropout(x[t], 0.1) + dropout(x[t], 0.1)").equations[0].value.inputs[1])
    )


def test_copies_and_pickles_are_the_node_itself():
    graph = build(TEXT)
    value = graph.equations[0].value
    assert copy.copy(value) is value and copy.deepcopy(value) is value
    assert pickle.loads(pickle.dumps(value)) is value
    for again in (pickle.loads(pickle.dumps(graph)), copy.deepcopy(graph)):
        assert again == graph and again.nodes[-1] is graph.nodes[-1]


def test_threads_that_build_together_get_the_same_nodes():
    found, barrier = [], threading.Barrier(8)

    def make(number):
        barrier.wait()
        found.extend((turn, build(f"h[t] = tanh(x[t] @ W_{turn}) * {turn}.5 + {turn}")) for turn in range(20))

    threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for turn in range(20):
        graphs = [graph for number, graph in found if number == turn]
        assert len(graphs) == 8 and len({id(graph.nodes[-1]) for graph in graphs}) == 1


def test_nodes_die_with_the_last_who_needs_them():
    gc.collect()
    before = len(nodes._interned)
    graphs = [build(f"h[t] = tanh(x[t] @ W) * {number}.125 + h[t-1]") for number in range(200)]
    watched = weakref.ref(graphs[0].nodes[-1])
    assert len(nodes._interned) > before + 400
    graphs.clear()
    gc.collect()
    assert watched() is None
    assert len(nodes._interned) <= before + 5


def test_a_module_does_not_keep_its_formula_alive_after_its_end():
    from cellula import Recurrent

    module = Recurrent("h[t] = tanh(x[t] @ W) * 0.4375", 2, 3)
    watched = weakref.ref(module.graph.nodes[-1])
    del module
    gc.collect()
    assert watched() is None


def test_nodes_are_immutable_and_sizes_are_checked():
    value = build(TEXT).equations[0].value
    with pytest.raises(AttributeError):
        value.op = "sin"
    one, other = (leaf(nodes.Parameter(name, "vector", (name,))) for name in "ab")
    with pytest.raises(ValueError, match="different sizes: a, b"):
        apply("add", (one, other))


def test_a_graph_refuses_equations_out_of_order():
    from dataclasses import replace

    graph = load_cell("lstm")
    with pytest.raises(ValueError, match="before it is computed"):
        replace(graph, equations=graph.equations[::-1])
