"""Generated C against the reference: every cell, every value and every gradient, by every way through the code."""

import re
from functools import cache

import pytest
import torch

from c_backend import QUICK, Case, compiler_flags, filled_memory, needs_compiler, programs, torch_threads
from cellula import Recurrent, cells, load_cell, make_plan
from cellula.backends.c.launch import calls, kernels
from compare import assert_close, gradients
from zoo_sizes import fitting, own_sizes

pytestmark = needs_compiler

# Steps, rows, input and hidden units, steps of every row.
SHAPES = (
    (1, 1, 1, 1, None),
    (5, 2, 3, 7, None),
    (3, 1, 2, 100, None),
    (2, 2, 3, 32, None),
    (4, 3, 5, 63, (4, 0, 2)),
    (6, 5, 4, 20, (3, 0, 6, 1, 6)),
)
# One of every kind: plain, two products in a row, reductions, a projection, blocks, several lags, drawn masks, an input
# that is a state, no state at all.
KINDS = (
    "elman", "lstm", "gru", "layer_norm_lstm", "projected_lstm", "slstm", "peephole_lstm", "nas", "lru", "mlp",
)  # fmt: skip
TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-4}


@pytest.fixture(scope="module", autouse=True)
def _quick_and_poisoned():
    with compiler_flags(QUICK), filled_memory():
        make.cache_clear()
        yield
        make.cache_clear()


@cache
def make(name):
    """The programs of a cell; a kernel is compiled when it first runs."""
    return programs(name)


def assert_agrees(case, c, reference, ends="", training=False):
    """Values and gradients of both back ends; the reference always computes in float64."""
    results = []
    for program, one in ((c, case), (reference, case.double())):
        torch.manual_seed(1)
        results.append(one.everything(program, ends, training))
    actual = {name: value.double() for name, value in results[0].items()}
    assert_close(actual, results[1], TOLERANCE[case.leaves["x"].dtype])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", cells())
def test_every_cell(name, shape):
    assert_agrees(Case(name, *shape), *make(name))


@pytest.mark.parametrize("ends", ["output", "final"])
@pytest.mark.parametrize("name", [*KINDS, "tau_gru", "qrnn_fo", "scrn"])
def test_a_loss_on_the_output_or_the_final_states_alone(name, ends):
    assert_agrees(Case(name, 4, 3, 2, 5, (4, 0, 2)), *make(name), ends)


@pytest.mark.parametrize("name", cells())
def test_two_layers_in_both_directions(name):
    graph = load_cell(name)
    options = {"num_layers": 2, "bidirectional": True, "dtype": torch.float64, **own_sizes(graph)}
    c, reference = (Recurrent(name, 3, fitting(graph, 5), backend=backend, **options) for backend in ("c", "reference"))
    reference.load_state_dict(c.state_dict())
    results = []
    for module in (c, reference):
        x = torch.randn(5, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
        torch.manual_seed(1)
        output, state = module(x, lengths=[3, 0, 5])
        ends = [output, *(part for value in state for part in value)]
        results.append([*ends, *gradients(ends, [x, *module.parameters()])])
    assert_close(*results)


DRAWING = [name for name in cells() if make_plan(load_cell(name)).masks]


@pytest.mark.parametrize("name", DRAWING)
@pytest.mark.parametrize("shape", [SHAPES[1], SHAPES[-1]], ids=str)
def test_the_same_seed_draws_the_same_masks(name, shape):
    case = Case(name, *shape)
    assert_agrees(case, *make(name), training=True)
    drawn, expected = (case.without_gradients(make(name)[0], training=training) for training in (True, False))
    assert not torch.equal(drawn["output"], expected["output"])


@pytest.mark.parametrize("name", [*KINDS, *DRAWING])
def test_without_gradients_and_with_every_node_recorded(name):
    c, reference = make(name)
    names = tuple(load_cell(name).equation)
    for shape in SHAPES:
        case = Case(name, *shape)
        assert_close(case.without_gradients(c, record=names), case.without_gradients(reference, record=names))


@pytest.mark.parametrize("name", ["lstm", "slstm", "lru", "mlp", "zoneout_lstm"])
def test_gradients_of_recorded_nodes(name):
    """A loss on all, on some, and on the output alone; the output itself is among what is recorded."""
    c, reference = make(name)
    names = tuple(load_cell(name).equation)
    for shape in (SHAPES[1], SHAPES[-1]):
        for ends in ("", names[0], "output"):
            found = []
            for program in (c, reference):
                torch.manual_seed(1)
                found.append(Case(name, *shape).everything(program, ends, training=True, record=names))
            assert_close(*found)


# With all optimisation a kernel takes the compiler seconds: these four are those of test_values.
FULL = ("lstm", "gru", "layer_norm_lstm", "slstm")


@pytest.mark.parametrize("name", KINDS)
def test_single_precision(name):
    """Some with the flags of the package."""
    with compiler_flags("" if name in FULL else QUICK):
        c, reference = programs(name)
        for shape in (*SHAPES, (2, 3, 4, 64, None)):
            assert_agrees(Case(name, *shape, dtype=torch.float32), c, reference)


@pytest.mark.parametrize("small", [0, 1 << 40], ids=["by torch", "in C"])
@pytest.mark.parametrize("name", KINDS)
def test_the_products_after_the_steps(name, small, monkeypatch):
    monkeypatch.setattr(calls, "SMALL", small)
    for shape in (*SHAPES, (9, 11, 20, 33, None)):
        assert_agrees(Case(name, *shape), *make(name))


# Other ways through the same text: how input products are made and weights read, how wide a vector and a tile is, how
# a product is cut. The last one works on two threads however little there is to do.
WAYS = {
    "fused, packed, one row a tile": "-DEARLY_ROWS=0 -DDIRECT_USES=0 -DROWS=1 -DCELLULA_BYTES=16",
    "early step by step, direct, small blocks": "-DEARLY_ROWS=9999 -DEARLY_BYTES=1 -DDIRECT_USES=9999 -DBLOCK=3"
    " -DROWS=5 -DCELLULA_BYTES=32",
    "early in chunks of some steps, two threads, parts of two rows": "-DEARLY_ROWS=9999 -DEARLY_BYTES=8000 -DBLOCK=7"
    " -DSMALL_WORK=0 -DUNITS_WORK=0 -DMOST_ROWS=2",
}
MORE_SHAPES = (*SHAPES, (3, 2, 32, 64, None), (5, 13, 33, 32, None), (7, 9, 2, 12, (7, 1, 0, 3, 3, 7, 2, 0, 5)))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["lstm", "gru", "layer_norm_lstm", "slstm"])
def test_every_way_through_the_kernel(name, way):
    with compiler_flags(f"{QUICK} {WAYS[way]}"), torch_threads(2 if "two threads" in way else 1):
        c, reference = programs(name)
        for shape in MORE_SHAPES:
            assert_agrees(Case(name, *shape), c, reference)


@pytest.mark.parametrize("own", [False, True], ids=["threads of torch", "threads of its own"])
@pytest.mark.parametrize("name", ["lstm", "gru", "layer_norm_lstm", "slstm"])
def test_two_threads_share_the_units_of_one_row_and_the_rows_of_many(name, own, monkeypatch):
    with torch_threads(2):
        if own:
            monkeypatch.setattr(calls, "available_threads", lambda: (0, 0, 0, 2))
        for shape in ((6, 1, 40, 256, None), (3, 150, 8, 24, None), (4, 5, 30, 256, (4, 0, 2, 1, 4))):
            assert_agrees(Case(name, *shape), *make(name))


def test_torch_lends_its_threads():
    """Where it would not, every call would start threads of its own."""
    assert all(kernels.available_threads()[:3])


@pytest.mark.parametrize("name", ["lstm", "gru", "layer_norm_lstm"])
def test_more_rows_than_a_part_and_a_group_hold(name):
    ragged = tuple(number % 4 for number in range(301))
    for shape in ((3, 129, 3, 10, None), (2, 300, 9, 17, None), (3, 301, 3, 10, ragged)):
        assert_agrees(Case(name, *shape), *make(name))


@pytest.mark.parametrize("name", KINDS)
def test_matrices_of_any_strides(name):
    """Transposed, cut out of a larger one, and one row for all."""
    c, reference = make(name)
    layouts = {
        "transposed": lambda value: value.mT.contiguous().mT if value.ndim > 1 else value,
        "a part": lambda value: torch.stack([value, value], -1)[..., 1],
        "expanded": lambda value: value[..., :1, :].expand(value.shape) if value.ndim > 1 else value,
    }
    for shape in (SHAPES[1], SHAPES[-2], (20, 3, 16, 32, None)):
        for change in layouts.values():
            case = Case(name, *shape)
            leaves = {key: change(value.detach()).requires_grad_() for key, value in case.leaves.items()}
            case.leaves = leaves | {"x": case.leaves["x"].detach().transpose(0, 1).contiguous().transpose(0, 1)}
            case.leaves["x"].requires_grad_()
            assert_agrees(case, c, reference)


def test_a_wrong_kernel_is_found():
    """The comparison itself can fail."""
    c, _ = make("lstm")
    _, other = make("lstm_printed")
    case = Case("lstm", *SHAPES[1])
    case_of_other = Case("lstm_printed", *SHAPES[1])
    one = case.values(c)["output"]
    with pytest.raises(AssertionError, match="differs by"):
        assert_close([one], [case_of_other.values(other)["output"]])


def test_poison_is_there(monkeypatch):
    """A kernel that reads what nobody has written gives NaN in these tests."""
    load = kernels.load_library
    found = re.compile(r"memcpy\(P->last\[0\][^;]*;")
    monkeypatch.setattr(kernels, "load_library", lambda source: load(found.sub(";", source)))
    kernels.compiled.cache_clear()
    c, _ = programs("elman")
    assert Case("elman", *SHAPES[1]).without_gradients(c)["output"].isnan().all()
    kernels.compiled.cache_clear()
