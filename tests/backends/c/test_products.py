"""The products that follow the steps: as few and as wide as they can be."""

import pytest

from cellula import load_cell
from cellula.backends.c.launch.products import lay_out
from cellula.backends.c.spelling import NATIVE
from cellula.plan.kernel import make_kernel

# Products of weights and of the input.
WIDE = {"lstm": (2, 1), "layer_norm_lstm": (2, 1), "layer_norm_gru": (2, 1), "gru_torch": (2, 1), "elman": (2, 1)}


@pytest.mark.parametrize("cell", WIDE)
def test_products_of_one_factor_are_one_product(cell):
    graph = load_cell(cell)
    kernel = make_kernel(graph, NATIVE, backward=True)
    names = [parameter.name for parameter in graph.parameters]
    slots = [state.slot for state in graph.states]
    found = lay_out(kernel, lambda size: 1 if size is None else 16, names, slots)
    assert (len(found.weights), len(found.inputs)) == WIDE[cell]
    # Every matrix once.
    parts = [number for group in found.weights for number, _, _ in group.parts]
    matrices = [number for number, one in enumerate(graph.parameters) if one.kind == "matrix"]
    assert sorted(parts) == matrices
