"""A scan over time in plain torch is the reference: values, every gradient, long sequences, gates at 0 and 1."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from affine import affine_formulas
from c_backend import Case
from cellula import Recurrent, UsageError, build, compile, load_cell, make_plan
from cellula.backends.scan import launch
from cellula.backends.scan.launch import RADIX, scan
from compare import assert_close, gradients

DOUBLE = torch.float64
AFFINE = ("lru", "mingru", "minlstm", "mlp", "qrnn_f", "qrnn_fo", "qrnn_ifo", "rg_lru", "tgru", "tlstm", "trnn")
# Steps, rows, input and hidden units, steps of every row; around the borders of blocks of steps.
SHAPES = (
    (1, 1, 1, 1, None),
    (2, 2, 3, 7, (0, 1)),
    (2 * RADIX, 1, 3, 63, None),
    (RADIX * (2 * RADIX + 1) + 3, 3, 2, 5, (20, 0, RADIX * (2 * RADIX + 1) + 3)),
)


def both(graph):
    plan = make_plan(load_cell(graph) if isinstance(graph, str) else graph)
    return compile(plan, "scan"), compile(plan, "reference")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", AFFINE)
def test_every_affine_cell(name, shape):
    case, programs = Case(name, *shape), both(name)
    assert_close(*(case.everything(program) for program in programs))


@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(affine_formulas(), st.sampled_from([1, 20]))
def test_random_formulas(text, steps):
    graph = build(text)
    case = Case(graph, steps, 2, 3, 4, (steps, steps // 2))
    assert_close(*(case.everything(program) for program in both(graph)), 1e-10)


def plainly(a, b, start):
    """One state, step by step."""
    values = [start]
    for now, more in zip(a, b, strict=True):
        values.append(now * values[-1] + more)
    return torch.stack(values[1:])


@pytest.mark.parametrize("steps", [1, RADIX - 1, 2 * RADIX, RADIX**2 * 2, RADIX**3 + 1])
def test_a_scan_is_its_steps(steps):
    draw = torch.Generator().manual_seed(steps)
    a, b = (torch.randn(steps, 2, 3, generator=draw, dtype=DOUBLE).requires_grad_() for _ in range(2))
    start = torch.randn(2, 3, generator=draw, dtype=DOUBLE).requires_grad_()
    a_small = a * 0.4
    pair = scan([[a_small]], [b], [start])[0], plainly(a_small, b, start)
    grads = [torch.autograd.grad(value.square().sum(), [a, b, start], retain_graph=True) for value in pair]
    assert_close([pair[0], *grads[0]], [pair[1], *grads[1]], 1e-12)


def test_derivatives_of_all_kinds(monkeypatch):
    """Twice backward, forward, and many at a time, of a scan of two states with a matrix between them."""
    monkeypatch.setattr(launch, "RADIX", 2)
    draw = torch.Generator().manual_seed(0)
    tensors = [torch.randn(7, 1, 2, generator=draw, dtype=DOUBLE) * 0.5 for _ in range(5)]
    starts = [torch.randn(1, 2, generator=draw, dtype=DOUBLE) for _ in range(2)]
    given_ = [one.requires_grad_() for one in (*tensors, *starts)]

    def values(a, b, c, p, q, s, r):
        return tuple(scan([[a, b], [c, None]], [p, q], [s, r]))

    assert torch.autograd.gradcheck(values, given_, check_forward_ad=True, check_batched_grad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(values, given_, fast_mode=True)


def test_gates_at_0_and_1_and_numbers_near_the_smallest():
    """Pre-activations so large that gates are 0 and 1 exactly: nothing is divided, and no logarithm is taken."""
    for dtype in (torch.float32, DOUBLE):
        a = torch.tensor([0.0, 1.0, 1e-45, 1.0, 0.0, 5e-324, 1 - 1e-7] * 9, dtype=dtype).view(-1, 1, 1).requires_grad_()
        b = torch.linspace(-1, 1, 63, dtype=dtype).view(-1, 1, 1).requires_grad_()
        start = torch.full((1, 1), 3.0, dtype=dtype).requires_grad_()
        pair = scan([[a]], [b], [start])[0], plainly(a, b, start)
        found = [[value, *gradients([value], [a, b, start])] for value in pair]
        assert all(torch.isfinite(one).all() for one in found[0])
        assert_close(*found, 1e-6 if dtype == torch.float32 else 1e-13)
    for cell in ("mingru", "minlstm", "qrnn_fo", "rg_lru"):
        results = []
        for backend in ("scan", "reference"):
            torch.manual_seed(0)
            module = Recurrent(cell, 2, 3, backend=backend, dtype=DOUBLE)
            x = (torch.randn(60, 2, 2, dtype=DOUBLE).sign() * 1e5).requires_grad_()
            output, state = module(x)
            results.append([output, *state, *gradients([output], [x, *module.parameters()])])
        assert all(torch.isfinite(one).all() for one in results[0]), cell
        assert_close(*results)


def test_a_long_sequence():
    """100,000 steps against float64, step by step without gradients; gates of 1 keep what was there at the start."""
    torch.manual_seed(0)
    module = Recurrent("mingru", 2, 3, backend="scan")
    x = torch.randn(100_000, 1, 2)
    double = copy.deepcopy(module).double()
    with torch.no_grad():
        exact = double(x.double())[0]
    assert_close([module(x)[0].double()], [exact], 1e-5)
    weights = {name: value.double().detach() for name, value in module.layers[0].tensors().items()}
    z = torch.sigmoid(x.double() @ weights["W_z"] + weights["b_z"])
    n = x.double() @ weights["W_h"] + weights["b_h"]
    value, steps = np.zeros((1, 3)), []
    for keep, new in zip((1 - z).detach().numpy(), (z * n).detach().numpy(), strict=True):
        value = keep * value + new
        steps.append(value)
    assert_close([torch.from_numpy(np.stack(steps))], [exact], 1e-12)
    with torch.no_grad():
        module.layers[0].b_z.fill_(-1e9)
        kept = module(x, {"h": torch.full((1, 1, 3), 0.7)})[0]
    assert torch.equal(kept, torch.full_like(kept, 0.7))


@pytest.mark.parametrize("cell", ["lru", "qrnn_fo"])
def test_resets_records_segments_and_both_directions(cell, monkeypatch):
    monkeypatch.setattr(launch, "RADIX", 2)
    found = []
    for backend in ("scan", "reference"):
        torch.manual_seed(0)
        options = {"bidirectional": True, "initial_state": "learned", "checkpoint_every": 8, "dtype": DOUBLE}
        module = Recurrent(cell, 3, 4, backend=backend, **options)
        draw = torch.Generator().manual_seed(1)
        x = torch.randn(15, 3, 3, generator=draw, dtype=DOUBLE).requires_grad_()
        with torch.no_grad():
            for value in module.layers[0].initial.values():
                value.normal_(generator=draw)
        reset = torch.rand(15, 3, generator=draw) < 0.2
        leaves = [x, *module.parameters()]
        for options in ({}, {"reset": reset, "lengths": [15, 7, 0]}, {"record": module.graph.output}):
            output, state, *_ = results = module(x, **options)
            if "record" in options:
                results = (*results[:2], results[2][options["record"]])
            found.append([output, *state, *results[2:], *gradients([output, *state], leaves)])
    for one, other in zip(found[:3], found[3:], strict=True):
        assert_close(one, other)


def test_masks():
    text = "k[t] = variational_dropout(dropout(x[t] @ W, 0.3), 0.4)\n"
    text += "h[t]: hidden = zoneout(0.9 * h[t-1] + k[t], h[t-1], 0.2)\n"
    case, found = Case(build(text), 30, 3, 2, 4, (30, 2, 0)), []
    for program in both(build(text)):
        torch.manual_seed(3)
        found.append(case.everything(program, training=True))
    assert_close(*found)


def test_transforms():
    """vmap and jvp go through; torch.compile sees one operator."""
    module = Recurrent("mingru", 2, 3, backend="scan", dtype=DOUBLE)
    x = torch.randn(5, 20, 1, 2, dtype=DOUBLE)
    many = torch.func.vmap(lambda one: module(one)[0])(x)
    assert_close([many[3]], [module(x[3])[0]])
    slow = Recurrent("mingru", 2, 3, backend="reference", dtype=DOUBLE)
    slow.load_state_dict(module.state_dict())
    found = [torch.func.jvp(lambda one, m=m: m(one)[0], (x[0],), (x[1],)) for m in (module, slow)]
    assert_close(*found)
    traced = torch.compile(module, backend="eager", fullgraph=True)
    assert_close([traced(x[0])[0]], [module(x[0])[0]])


def test_auto_scans_where_no_kernel_runs():
    module = Recurrent("mingru", 2, 3, backend="auto", dtype=torch.bfloat16)
    module(torch.zeros(50, 1, 2, dtype=torch.bfloat16))
    assert module.backend.startswith("auto, last call: scan: the input is torch.bfloat16")
    module(torch.zeros(5, 1, 2, dtype=torch.bfloat16))
    assert module.backend.startswith("auto, last call: reference: the input is torch.bfloat16")
    gru = Recurrent("gru", 2, 3, backend="auto", dtype=torch.bfloat16)
    gru(torch.zeros(50, 1, 2, dtype=torch.bfloat16))
    assert gru.backend.startswith("auto, last call: reference: ")


def test_a_cell_that_is_not_affine_is_refused():
    with pytest.raises(UsageError, match=r"backend='scan' cannot run sru: in f\[t\] sigmoid\(\) is not linear"):
        Recurrent("sru", 2, 3, backend="scan")
