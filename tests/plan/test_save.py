"""What is written down for the way back: enough, and nothing that could be had for less."""

import pytest
from hypothesis import given, settings

from cellula import build, cells, load_cell
from cellula.backends.c.spelling import NATIVE
from cellula.graph.node import State
from cellula.graph.ops import OPS
from cellula.plan.kernel import make_kernel
from cellula.plan.save import choose_saved
from cellula.plan.schedule import PRODUCTS, walk_to
from strategies import formulas


def kernel_of(graph):
    return make_kernel(graph, NATIVE, backward=True)


def saved_of(cell):
    """The names or ops of what is written down at every step, beside states."""
    return [column.node.attribute or column.node.op for column in kernel_of(load_cell(cell)).saved]


@pytest.mark.parametrize(
    ("cell", "kept", "saved"),
    [
        ("lstm", ("h", "c"), ["f", "g", "i", "o"]),
        ("peephole_lstm", ("h", "c"), ["f", "g", "i", "o"]),
        ("elman", ("h",), []),
        ("gru_torch", ("h",), ["accumulate", "n", "r", "z"]),
        ("h[t] = h[t-1] + x[t]", (), []),
        # The sum inside is had from the value: exp is its own derivative.
        ("h[t] = exp(min(x[t] @ W + h[t-1] @ U, 1))", ("h",), ["accumulate"]),
    ],
)
def test_what_is_kept_and_saved(cell, kept, saved):
    kernel = kernel_of(load_cell(cell))
    assert sorted(kernel.kept) == sorted(kept)
    assert len(saved_of(cell)) == len(saved), saved_of(cell)
    named = [name for name in saved if name != "accumulate"]
    assert sorted(name for name in saved_of(cell) if name in named) == named


def check(graph):
    """What the backward step reads is there, or follows unit by unit from what is there."""
    kernel = kernel_of(graph)
    there = {column.node for column in kernel.saved}
    kept = {
        old
        for old, new in kernel.forward.renamed.items()
        for slot, node in kernel.updates
        if slot in kernel.kept and new is node
    }
    for phase in kernel.backward.schedule.phases:
        for node in phase.nodes:
            for leaf in node.inputs:
                if isinstance(leaf.attribute, State):
                    assert leaf.attribute.slot in kernel.kept
    # Without any one of them, something would need a product or a reduction again, or could not be had at all.
    for node in there:
        rest = there - {node} | kept
        factors = {product.left.column for product in kernel.backward.weights} | {
            p.right.column for p in kernel.backward.weights
        }
        factors |= {late.source.column for late in kernel.backward.inputs}
        is_factor = any(column is not None and column.node is node for column in factors)
        assert is_factor or needs_more(node, rest, kernel.kept), f"{node} need not be saved"
    return kernel


def needs_more(node, there, slots):
    """Whether a value takes more than arithmetic unit by unit on what is there."""
    for inner in walk_to([node], lambda one: one in there):
        if inner in there:
            continue
        if inner.op in PRODUCTS or (inner.op in OPS and OPS[inner.op].shape == "reduce" and inner.op != "units"):
            return True
        if isinstance(inner.attribute, State) and inner.attribute.slot not in slots:
            return True
    return False


@pytest.mark.parametrize("name", cells())
def test_the_zoo(name):
    check(load_cell(name))


@settings(max_examples=40)
@given(formulas(numeric=True))
def test_random_formulas(text):
    check(build(text))


def test_arithmetic_is_done_again_and_products_are_not():
    graph = build("a[t] = x[t] @ W\nb[t] = 2 * a[t] + 1\nh[t] = tanh(b[t] + h[t-1])")
    nodes = {node.attribute or node.op: node for node in graph.nodes}
    order = [nodes[name] for name in ("matmul", "a", "multiply", "add", "b")]
    assert choose_saved([nodes["b"]], order, [], set()) == [nodes["b"]]
    # Of two values that follow from each other the earlier one is saved.
    assert choose_saved([nodes["a"], nodes["b"]], order, [], set()) == [nodes["a"]]
    # A state holds it anyway.
    assert choose_saved([nodes["a"], nodes["b"]], order, [nodes["a"]], set()) == []


def test_a_state_is_no_value_to_follow_from_unless_it_is_kept():
    graph = build("h[t] = tanh(2 * h[t-1] + x[t] @ W)")
    (doubled,) = (node for node in graph.nodes if node.op == "multiply")
    assert choose_saved([doubled], [doubled], [], {"h"}) == []
    assert choose_saved([doubled], [doubled], [], set()) == [doubled]
