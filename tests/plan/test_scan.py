"""Which cells are affine in their memory, what stands in the way of the others, and which run unit by unit."""

import pytest
from hypothesis import given, settings

from affine import affine_formulas
from cellula import build, cells, load_cell, make_plan
from cellula.graph.node import State, leaf, walk
from cellula.graph.ops import OPS
from cellula.plan.kernel import make_kernel
from cellula.plan.scan import Obstacle, Scan, find_scan
from cellula.plan.schedule import make_schedule, spans_steps
from cellula.printers.formula import print_expression
from cellula.printers.plan import print_plan

AFFINE = {"lru", "mingru", "minlstm", "qrnn_f", "qrnn_fo", "qrnn_ifo", "rg_lru", "tgru", "tlstm", "trnn"}
# Each unit runs by itself, but not linearly; and cells without memory.
BY_UNITS = {"br", "ind_rnn", "sru", "unicornn"}
NO_MEMORY = {"mlp"}


def scan_of(text):
    return find_scan(make_plan(build(text)))


def passed(name):
    """What a step of a cell reads of the one before -> what it is there."""
    plan = make_plan(load_cell(name))
    return {leaf(state): dict(plan.updates)[state.slot] for state in plan.graph.states}


def test_the_zoo():
    found = {name for name in cells() if isinstance(find_scan(make_plan(load_cell(name))), Scan)}
    assert found == AFFINE | NO_MEMORY
    assert {name for name in cells() if spans_steps([], (), passed(name))} == AFFINE | BY_UNITS | NO_MEMORY


def test_the_way_back_runs_unit_by_unit_where_the_way_there_does():
    for name in AFFINE | BY_UNITS | NO_MEMORY:
        assert make_kernel(load_cell(name), OPS, backward=True).backward.blocks, name
    kernel = make_kernel(load_cell("lru"), OPS, backward=True, blocks=False)
    assert not kernel.blocks and not kernel.backward.blocks


def test_every_blocked_pass_computes_states_before_a_later_pass_reads_them():
    for name in AFFINE | BY_UNITS:
        kernel = make_kernel(load_cell(name), OPS)
        written = {slot: kernel.forward.phase_of(node) for slot, node in kernel.updates}
        for number, phase in enumerate(kernel.forward.phases):
            for node in phase.nodes:
                own, sums = node.inputs, node.op == "accumulate"
                for child in [product.inputs[0] for product in own] if sums else own:
                    if isinstance(child.attribute, State):
                        assert written[child.attribute.slot] + sums <= number, (name, child)


COEFFICIENTS = (
    ("h[t] = (1 - z[t]) * h[t-1] + z[t] * (x[t] @ W)", "1 - z[t]"),
    ("h[t] = z[t] * (h[t-1] - x[t] @ W) + x[t] @ W", "z[t]"),
    ("h[t] = -(x[t] @ W - h[t-1] / z[t])", "1 / z[t]"),
    ("h[t] = where(z[t] > 0.5, h[t-1], x[t] @ W)", "where(z[t] > 0.5, 1, 0)"),
    ("h[t] = h[t-1] @ D + x[t] @ W", "D"),
    ("k[t] = 2 * h[t-1]\nh[t] = k[t] + x[t] @ W", "2"),
    ("h[t] = h[t-1] + 0.5 * h[t-1] + x[t] @ W", "1.5"),
)

GIVEN = {"z[t]": "z[t] = sigmoid(x[t] @ V)", "@ D": "D = diagonal()"}


@pytest.mark.parametrize(("text", "coefficient"), COEFFICIENTS)
def test_coefficients(text, coefficient):
    given_ = [line for name, line in GIVEN.items() if name in text]
    found = scan_of("\n".join([*given_, text]))
    assert isinstance(found, Scan)
    (group,) = found.groups
    assert print_expression(group.coefficients[0][0]) == coefficient


def test_neither_coefficient_nor_offset_reads_the_state():
    for name in AFFINE:
        plan = make_plan(load_cell(name), OPS)
        for group in find_scan(plan).groups:
            parts = [one for row in (*group.coefficients, group.offsets) for one in row if one is not None]
            read = {node.attribute.slot for node in walk(parts) if isinstance(node.attribute, State)}
            assert not read & set(group.slots), name


OBSTACLES = (
    ("h[t] = tanh(x[t] @ W + u * h[t-1])", "in h[t] tanh() is not linear in h[t-1]"),
    ("h[t] = x[t] @ W + h[t-1] @ U", "in h[t] a matrix product mixes the units of h[t-1]"),
    ("h[t] = x[t] @ W + mean(h[t-1])", "in h[t] mean() mixes the units of h[t-1]"),
    ("h[t] = x[t] @ W + layer_norm(h[t-1])", "in h[t] layer_norm() mixes the units of h[t-1]"),
    ("h[t] = h[t-1] * h[t-1] + x[t] @ W", "in h[t] `*` is not linear in h[t-1]"),
    ("h[t] = x[t] @ W / (2 + h[t-1])", "in h[t] `/` is not linear in h[t-1]"),
    ("h[t] = sign(h[t-1]) + x[t] @ W", "in h[t] sign() is not linear in h[t-1]"),
    ("h[t] = where(h[t-1] > 1, 0, x[t] @ W)", "in h[t] `>` is not linear in h[t-1]"),
    ("z[t] = sigmoid(x[t] @ V + h[t-1])\nh[t] = z[t] * h[t-1]", "in z[t] sigmoid() is not linear in h[t-1]"),
    ("a[t] = b[t-1] + x[t] @ W\nb[t] = tanh(a[t-1])\nh[t] = a[t]", "in b[t] tanh() is not linear in a[t-1] and b[t-1]"),
    ("h[t] = h[t-5] + x[t] @ W", "5 states depend on each other (h, h_lag2, h_lag3, h_lag4, h_lag5); a scan takes 4"),
)  # fmt: skip


@pytest.mark.parametrize(("text", "why"), OBSTACLES)
def test_what_is_in_the_way_is_named(text, why):
    found = scan_of(text)
    assert isinstance(found, Obstacle) and str(found).startswith(why)
    assert why in print_plan(make_plan(build(text)))


def test_a_state_may_read_one_that_is_scanned_before():
    found = scan_of("s[t] = 0.5 * s[t-1] + x[t] @ W\nh[t] = sigmoid(s[t-1] @ U) * h[t-1] + s[t]")
    assert [group.slots for group in found.groups] == [("s",), ("h",)]
    text = print_plan(make_plan(load_cell("lru")))
    assert "a[t] = p[t] * a[t-1] + -(q[t] * b[t-1]) + what does not depend on it" in text


def test_a_pass_over_many_steps_is_refused_where_units_mix():
    with pytest.raises(ValueError, match="no pass can do many steps"):
        make_schedule(passed("elman").values(), (), passed("elman"))


@settings(max_examples=5, deadline=None)
@given(affine_formulas())
def test_random_affine_formulas(text):
    assert isinstance(scan_of(text), Scan), text
    kernel = make_kernel(build(text), OPS, backward=True)
    assert kernel.blocks and kernel.backward.blocks
