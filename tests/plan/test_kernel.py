"""The layout of a cell's kernels: what lies where between the steps, and what follows the last of them."""

import pytest
from hypothesis import given, settings

from cellula import build, cells, load_cell
from cellula.backends.c.spelling import NATIVE
from cellula.graph.node import walk
from cellula.graph.ops import OPS
from cellula.plan.kernel import make_kernel
from strategies import formulas


def check(graph):
    """What holds for the kernels of every cell."""
    slots = [state.slot for state in graph.states]
    for training in (False, True):
        inference = make_kernel(graph, NATIVE, training=training, record=tuple(graph.equation))
        assert inference.backward is None and inference.kept == () and inference.saved == ()
        assert [name for name, _ in inference.records] == list(graph.equation)
        kernel = make_kernel(graph, NATIVE, training=training, backward=True)
        for one in (inference, kernel):
            assert [slot for slot, _ in one.updates] == slots
            nodes = walk(node for phase in one.forward.phases for node in phase.nodes)
            assert not [node for node in nodes if node.op in OPS and node.op not in NATIVE]
            assert training or not one.plan.masks
        check_backward(kernel, slots)


def check_backward(kernel, slots):
    back = kernel.backward
    assert back is not None
    assert [slot for slot, _ in back.carries] == slots
    assert set(kernel.kept) <= set(slots)
    nodes = {node for phase in back.schedule.phases for node in phase.nodes} | back.schedule.given
    # A gradient in the place of a saved value has its size, and none takes the place of another.
    places = [column.node for column, _ in back.work]
    assert len(places) == len(set(places))
    for column, node in back.work:
        assert node is None or (node.size == column.size and node in nodes)
    assert all(column.node in nodes for column in back.extra)
    # Every dense parameter has its gradient from products, every other one from sums over the steps.
    from_products = {product.parameter for product in back.weights}
    from_sums = {parameter for parameter, _ in back.totals}
    assert all(parameter.kind == "matrix" for parameter in from_products)
    assert not [parameter for parameter in from_sums if parameter.kind == "matrix"]
    columns = [column for column, _ in back.work] + list(back.extra)
    for source in [s for product in back.weights for s in (product.left, product.right)] + [
        p.source for p in back.inputs
    ]:
        assert source.kind in ("x", "output", "d_output", "before", "after", "column")
        assert source.kind != "column" or any(source.column is column for column in columns)
        assert source.kind not in ("before", "after") or source.slot in slots
    for product in back.weights:
        left, right = (sizes_of(kernel, source) for source in (product.left, product.right))
        assert product.parameter.sizes == (left, right)


def sizes_of(kernel, source):
    if source.column is not None:
        return source.column.size
    if source.kind in ("x", "output", "d_output"):
        return "input" if source.kind == "x" else kernel.output.size
    return next(state.size for state in kernel.plan.graph.states if state.slot == source.slot)


@pytest.mark.parametrize("name", cells())
def test_the_zoo(name):
    check(load_cell(name))


@settings(max_examples=40)
@given(formulas(numeric=True))
def test_random_formulas(text):
    check(build(text))


def kernel_of(cell):
    return make_kernel(load_cell(cell), NATIVE, backward=True)


def test_the_gradients_of_the_lstm_take_the_places_of_its_gates():
    kernel = kernel_of("lstm")
    assert [node is not None for _, node in kernel.backward.work] == [True] * 4
    assert kernel.backward.extra == () and kernel.output_slot == "h"
    # All products follow the steps; nothing of the input's gradient is made within them.
    assert len(kernel.backward.weights) == 8 and len(kernel.backward.inputs) == 4 and kernel.backward.input is None
    assert {product.left.kind for product in kernel.backward.weights} == {"x", "before"}


def test_a_product_of_what_is_computed_has_its_factor_written_down():
    """The GRU that resets before its matrix multiplies r * h."""
    kernel = kernel_of("gru")
    kinds = {product.left.kind for product in kernel.backward.weights}
    assert kinds == {"x", "before", "column"}


def test_an_input_that_enters_by_itself_has_its_gradient_from_the_steps():
    assert kernel_of("h[t]: input = 0.5 * h[t-1] + x[t]").backward.input is not None
    assert kernel_of("h[t]: input = tanh(x[t] @ W) * x[t] + h[t-1]").backward.input is not None
    assert kernel_of("h[t] = tanh(x[t] @ W + h[t-1] @ U)").backward.input is None


def test_what_is_computed_once_is_a_parameter_of_the_kernel():
    kernel = kernel_of("h[t] = exp(-exp(log_rate)) * h[t-1] + x[t] @ W")
    assert [value.parameter.name for value in kernel.once] == ["once_1"]
    assert "once_1" in {parameter.name for parameter, _ in kernel.backward.totals}


@pytest.mark.parametrize(
    "draw", ["dropout(x[t], 0.5) @ W", "variational_dropout(x[t], 0.5) @ W", "zoneout(x[t] @ W, h[t-1], 0.5)"]
)
def test_masks_are_there_only_where_something_is_drawn(draw):
    graph = build(f"h[t] = tanh({draw} + h[t-1] @ U)")
    assert not make_kernel(graph, NATIVE, backward=True).plan.masks
    (mask,) = make_kernel(graph, NATIVE, backward=True, training=True).plan.masks
    assert mask.leaf.draw.per == ("sequence" if "variational" in draw else "step")
