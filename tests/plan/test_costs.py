"""Costs: against what formulas say by hand, what memory holds, and what a compiler makes of the mathematics."""

import platform
import re
import shutil
import subprocess
from fractions import Fraction
from importlib.resources import files

import pytest
import torch

from c_backend import QUICK, compiler_flags, needs_compiler
from cellula import Recurrent, build, cells, load_cell
from cellula.backends.c.spelling import NATIVE
from cellula.graph.node import Parameter, walk
from cellula.graph.ops import OPS
from cellula.plan.costs import OPERATIONS, Amount, costs, step_costs
from cellula.plan.kernel import make_kernel
from zoo_sizes import sizes_of


def kernel_of(cell, **options):
    return make_kernel(load_cell(cell), NATIVE, **options)


def test_amounts_add_up_and_print():
    amount = (
        Amount.of(2, "hidden", "input") + Amount.of(3, "hidden") + Amount.of(5, None) + Amount.of(1, "input", "hidden")
    )
    assert str(amount) == "3*hidden*input + 3*hidden + 5"
    assert amount.at({"hidden": 10, "input": 2}) == 95
    assert str(Amount.of(Fraction(2, 3), "hidden") * 2) == "4*hidden/3" and str(Amount.of(1, "hidden")) == "hidden"
    assert str(amount + amount * -1) == "0" and not amount * 0
    assert str(Amount.of(1)) == "1"


def test_the_lstm_by_hand():
    found = step_costs(kernel_of("lstm", backward=True))
    assert str(found.forward.products) == "8*hidden*hidden + 8*hidden*input"
    # Four biases, three sigmoids, two tangents, three products and a sum.
    assert str(found.forward.units) == f"{4 + 3 * 19 + 2 * 22 + 3 + 1}*hidden"
    # x, h and c are read; h and c are written for the next step and for all steps, four gates are saved.
    assert str(found.forward.moved) == "10*hidden + input"
    assert str(found.forward.weights) == "4*hidden*hidden + 4*hidden*input + 4*hidden"
    # The gradients of output, h and c, c before and after and the gates; both gradients carried on and four in place of
    # the gates; these once more for their product.
    assert str(found.backward.moved) == f"{3 + 2 + 4 + 2 + 4 + 4}*hidden"
    assert str(found.after.products) == "8*hidden*hidden + 16*hidden*input"
    assert str(found.after.moved) == f"{1 + 4 + 4}*hidden + 2*input"
    assert (str(found.saved), str(found.extra)) == ("6*hidden", "0")
    assert (found.forward.passes, found.backward.passes) == (1, 2)


def products(graph):
    """Operations of the matrix products of a formula."""
    found = Amount()
    for node in walk(one.node for one in graph.equations):
        if node.op in ("matmul", "transposed"):
            matrix = node.inputs[1].attribute
            assert isinstance(matrix, Parameter)
            if matrix.kind == "matrix":
                found += Amount.of(Fraction(2, matrix.blocks), *matrix.sizes)
    return found


@pytest.mark.parametrize("name", cells())
def test_products_of_the_zoo(name):
    graph = load_cell(name)
    found = step_costs(make_kernel(graph, NATIVE, backward=True))
    assert found.forward.products == products(graph)
    # Every product has two gradients, that of its value and that of its matrix, unless none flows there.
    gradients = found.backward.products + found.after.products
    if all(node.op != "sign" for node in graph.nodes) and not name.startswith("hopfield"):
        assert gradients == products(graph) * 2
    assert found.saved.at(sizes_of(graph, 3, 8)) >= 0 and found.forward.moved


def test_costs_grow_with_steps_and_sequences():
    kernel, sizes = kernel_of("gru", backward=True), {"input": 8, "hidden": 16}
    one, long, wide = costs(kernel, sizes), costs(kernel, sizes, steps=10), costs(kernel, sizes, steps=10, batch=4)
    assert long.operations == 10 * one.operations and wide.operations == 4 * long.operations
    assert wide.saved_bytes == 40 * one.saved_bytes == 40 * 4 * 4 * 16
    assert wide.weight_bytes == long.weight_bytes < 10 * one.weight_bytes
    assert costs(kernel, sizes, bytes_per_number=8).moved_bytes == 2 * one.moved_bytes
    assert one.operations == one.forward + one.backward + one.after and one.passes == (2, 3)
    inference = costs(kernel_of("gru"), sizes)
    assert inference.forward == one.forward and inference.operations == one.forward and inference.saved_bytes == 0


def saved_numbers(module, x):
    """How many numbers autograd keeps of a call, but for the input, the parameters and the state before."""
    found = {}

    def keep(tensor):
        found[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module(x)
    for known in (x, *module.parameters()):
        found.pop(known.data_ptr(), None)
    return sum(number for number in found.values() if number > x.shape[1] * module.hidden_size)


@needs_compiler
@pytest.mark.parametrize("cell", ["lstm", "gru", "slstm", "layer_norm_lstm"])
def test_so_much_memory_is_kept(cell):
    module, x = Recurrent(cell, 3, 8, backend="c"), torch.randn(20, 2, 3, requires_grad=True)
    found = costs(kernel_of(cell, backward=True), {"input": 3, "hidden": 8}, steps=20, batch=2)
    with compiler_flags(QUICK):
        assert saved_numbers(module, x) * 4 == found.saved_bytes


def test_every_op_of_the_c_back_end_has_a_cost():
    assert set(OPERATIONS) >= NATIVE and set(OPERATIONS) - {"equation", "accumulate"} <= set(OPS)


def units(text, native=NATIVE):
    return str(step_costs(make_kernel(build(text), native)).forward.units)


def test_powers_reductions_and_definitions():
    line = "h[t]: hidden = {} * h[t-1]"
    assert units(line.format("h[t-1] ** 3")) == "3*hidden"
    assert units(line.format("h[t-1] ** 0.5")) == "5*hidden"
    assert units(line.format("h[t-1] ** 2.5")) == "61*hidden"
    assert units(line.format("sum(h[t-1])")) == "2*hidden"
    assert units(line.format("hard_tanh(h[t-1])"), OPS) == units(line.format("hard_tanh(h[t-1])")) == "9*hidden"
    assert units(line.format("softplus(h[t-1])"), OPS) == f"{4 + 1 + 38 + 1 + 22 + 1 + 1 + 1}*hidden"


# Instructions that move or make values, not compute.
MOVES = ("vmov", "vbroadcast", "vzero", "vpbroadcast", "vpxor", "vpternlogd")


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or shutil.which("gcc") is None, reason="no gcc on an x86 processor"
)
def test_costs_are_near_what_a_compiler_makes(tmp_path):
    header = (files("cellula") / "backends" / "c" / "vector_math.h").read_text(encoding="utf-8")
    names = ("exp", "log", "sigmoid", "tanh", "sign", "abs")
    calls = {name: f"v_{name}(x)" for name in names} | {"min": "v_min(x, y)", "max": "v_max(x, y)"}
    functions = "\n".join(f"vec f_{name}(vec x, vec y) {{ (void)y; return {call}; }}" for name, call in calls.items())
    (tmp_path / "f.c").write_text(f"#define CELLULA_DOUBLE 0\n{header}\n{functions}\n")
    flags = "-std=gnu11 -O3 -mavx2 -mfma -ffp-contract=fast -fno-math-errno -fno-trapping-math".split()
    subprocess.run(["gcc", *flags, "-S", "-o", tmp_path / "f.s", tmp_path / "f.c"], check=True)
    text = (tmp_path / "f.s").read_text()
    for name in calls:
        body = re.search(rf"^_?f_{name}:(.*?)\tret", text, re.MULTILINE | re.DOTALL)
        words = re.findall(r"^\t(v\w+)", body[1], re.MULTILINE)
        count = sum(1 + 3 * word.startswith("vdiv") for word in words if not word.startswith(MOVES))
        assert count / 1.25 <= OPERATIONS[name] <= count * 1.25, f"{name}: {count} instructions"
