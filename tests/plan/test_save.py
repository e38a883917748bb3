"""What is written down for the way back: enough, and nothing that could be had for less."""

import pytest
from hypothesis import given, settings

from cellula import build, cells, load_cell
from cellula.backends.c.spelling import NATIVE
from cellula.graph.node import Adjoint, Input, State
from cellula.graph.ops import OPS
from cellula.plan.kernel import make_kernel
from cellula.plan.save import choose_saved
from cellula.plan.schedule import PRODUCTS, walk_to
from strategies import formulas


def kernel_of(graph):
    return make_kernel(graph, NATIVE, backward=True)


# Of a step: the states that take memory of their own, what else is written down, whether the output is read, and what
# the backward step writes that takes no saved value's place.
MEMORY = {
    # The output is the hidden state.
    "lstm": (["c"], ["i", "f", "g", "o"], True, []),
    "peephole_lstm": (["c"], ["i", "f", "g", "o"], True, []),
    "cifg_lstm": (["c"], ["i", "g", "o"], True, []),
    "elman": ([], [], True, ["dh_in"]),
    "mlp": ([], ["a"], True, ["da_in", "dh_in"]),
    # What a matrix multiplies must be there as a whole: here r * h.
    "gru": ([], ["r", "z", "n"], True, ["multiply"]),
    "gru_torch": ([], ["r", "z", "add", "n"], True, []),
    "minimal_rnn": ([], ["u", "z"], True, ["du_in"]),
    # The gradient of the output is a factor as it is given.
    "lru": (["a", "b"], ["matmul", "matmul"], False, []),
    "projected_lstm": (["c"], ["i", "f", "g", "o"], True, ["dh", "m"]),
    # Older values of the hidden state, and older inputs, stand where the younger ones stand.
    "tau_gru": ([], ["u", "z", "g", "a"], True, []),
    "qrnn_fo": (["c"], ["z", "f", "o"], False, []),
    # Nobody wants a gradient of what is made of settings alone.
    "scrn": (["h"], ["s"], False, ["multiply", "dh_in"]),
    "h[t] = h[t-1] + x[t]": ([], [], False, []),
    "h[t] = tanh(x[t-1] @ W + h[t-3] @ U)\ny[t] = h[t] * a": (["h"], [], False, ["dh_in"]),
    # exp is its own derivative.
    "h[t] = exp(min(x[t] @ W + h[t-1] @ U, 1))": ([], ["add"], True, []),
}


@pytest.mark.parametrize("cell", MEMORY)
def test_what_is_written_down(cell):
    series, saved, reads_output, extra = MEMORY[cell]
    kernel = kernel_of(load_cell(cell))

    def names(columns):
        return [column.node.attribute or column.node.op for column in columns]

    found = (list(kernel.series), sorted(names(kernel.saved)), kernel.reads_output, names(kernel.backward.extra))
    assert found == (series, sorted(saved), reads_output, extra)


def check(graph):
    """What the backward step reads is there, or follows unit by unit from what is there."""
    kernel = kernel_of(graph)
    there = {column.node for column in kernel.saved}
    updates = dict(kernel.updates)
    output = {slot for slot, node in updates.items() if node is kernel.output}
    names = {Input().name, *kernel.kept, *output}
    # The output, and what is kept for the steps after.
    free = {kernel.output} | {updates[slot] for slot in kernel.kept}
    kept = {old for old, new in kernel.forward.renamed.items() if new in free}
    for phase in kernel.backward.schedule.phases:
        for node in phase.nodes:
            for leaf in node.inputs:
                if isinstance(leaf.attribute, State):
                    assert leaf.attribute.name in {Input().name, *kernel.kept}
    # Without any one of them, something would need a product or a reduction again, or could not be had at all.
    for node in there:
        assert node not in kept, "saved twice"
        rest = there - {node} | kept
        factors = {product.left.column for product in kernel.backward.weights} | {
            p.right.column for p in kernel.backward.weights
        }
        factors |= {late.source.column for late in kernel.backward.inputs}
        is_factor = any(column is not None and column.node is node for column in factors)
        assert is_factor or needs_more(node, rest, names), f"{node} need not be saved"
    # What the caller gives is not written down again.
    for column in kernel.backward.extra:
        assert not (column.node.op == "equation" and isinstance(column.node.inputs[0].attribute, Adjoint))
    return kernel


def needs_more(node, there, names):
    """Whether a value takes more than arithmetic unit by unit on what is there."""
    for inner in walk_to([node], lambda one: one in there):
        if inner in there:
            continue
        if inner.op in PRODUCTS or (inner.op in OPS and OPS[inner.op].shape == "reduce" and inner.op != "units"):
            return True
        if isinstance(inner.attribute, State) and inner.attribute.name not in names:
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


@pytest.mark.parametrize("cell", ["lstm", "layer_norm_lstm", "layer_norm_gru", "gru_torch"])
def test_what_meets_the_same_factor_stands_side_by_side(cell):
    """Their products are one wide product, and numbers do not push the others off the beginning of a line."""
    kernel = kernel_of(load_cell(cell))
    met = {}
    for product in kernel.backward.weights:
        met.setdefault(product.left, set()).add(kernel.saved.index(product.right.column))
    assert len(met) > 1
    for places in met.values():
        assert places == set(range(min(places), max(places) + 1))
    sizes = [column.size for column in kernel.saved]
    assert None not in sizes or set(sizes[sizes.index(None) :]) == {None}
