"""Blocks of steps in generated C: borders of blocks, rows that end, threads; the same bits whatever the block."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from affine import affine_formulas
from c_backend import QUICK, Case, compiler_flags, filled_memory, needs_compiler, programs, torch_threads
from cellula import Recurrent, build, compile, load_cell, make_plan
from compare import assert_close, gradients

pytestmark = needs_compiler

# The smallest blocks: 48 rows.
SMALL = f"{QUICK} -DBLOCK_BYTES=1"
# One pass, two passes and two states in one group, a gate that reads the state, no memory.
CELLS = ("mingru", "lru", "sru", "mlp")
# Steps, rows, input and hidden units, steps of every row.
SHAPES = (
    (1, 1, 2, 5, None),
    (48, 1, 2, 5, None),
    (49, 1, 2, 33, None),
    (145, 1, 3, 5, None),
    (31, 3, 2, 17, None),
    (60, 5, 2, 4, (60, 0, 59, 17, 1)),
    (3, 70, 2, 3, None),
)


@pytest.fixture(scope="module", autouse=True)
def _small_blocks():
    with compiler_flags(SMALL), filled_memory():
        yield


@pytest.mark.parametrize("name", CELLS)
def test_borders_and_threads(name):
    c, reference = programs(name)
    for shape in SHAPES:
        case = Case(name, *shape)
        expected, alone = case.everything(reference), case.without_gradients(reference)
        for threads in (1, 3):
            with torch_threads(threads):
                assert_close(case.everything(c), expected)
                assert_close(case.without_gradients(c), alone)


@settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(affine_formulas())
def test_random_formulas(text):
    graph = build(text)
    case = Case(graph, 55, 2, 3, 4, (55, 50))
    assert_close(*(case.everything(program) for program in programs(graph)), 1e-10)


def test_masks_of_steps_and_of_sequences():
    text = "k[t] = dropout(x[t] @ W, 0.3)\nh[t]: hidden = 0.9 * h[t-1] + variational_dropout(k[t], 0.4)\n"
    case, found = Case(build(text), 60, 3, 2, 4, (60, 2, 0)), []
    for program in programs(build(text)):
        torch.manual_seed(3)
        found.append(case.everything(program, training=True))
    assert_close(*found)


def test_the_same_bits_in_any_batch_and_block_and_on_any_threads():
    """A row alone, in a batch, and cut in two with the state carried on; in blocks and step by step."""
    torch.manual_seed(0)
    plan = make_plan(load_cell("mingru"))
    module = Recurrent("mingru", 3, 37, backend="c")
    x = torch.randn(130, 7, 3)
    with torch.no_grad():
        whole, state = module(x)
        alone = module(x[:, 2:3])[0]
        first, middle = module(x[:77])
        rest, end = module(x[77:], middle)
        with torch_threads(3):
            shared = module(x[:, 2:3])[0]
        module.layers[0].program = compile(plan, "c_steps")
        steps = module(x)[0]
    assert torch.equal(whole[:, 2:3], alone) and torch.equal(alone, shared) and torch.equal(whole, steps)
    assert torch.equal(whole, torch.cat([first, rest])) and torch.equal(state.h, end.h)


def test_gates_at_0_and_1():
    found = []
    for backend in ("c", "reference"):
        torch.manual_seed(0)
        module = Recurrent("mingru", 2, 5, backend=backend, dtype=torch.float64)
        x = (torch.randn(100, 2, 2, dtype=torch.float64).sign() * 1e5).requires_grad_()
        output, state = module(x)
        found.append([output, *state, *gradients([output], [x, *module.parameters()])])
    assert all(torch.isfinite(one).all() for one in found[0])
    assert_close(*found)


def test_100_000_steps():
    torch.manual_seed(0)
    modules = [Recurrent("mingru", 4, 4, backend=backend) for backend in ("c", "scan")]
    modules[1].load_state_dict(modules[0].state_dict())
    x = torch.randn(100_000, 1, 4)
    found = []
    for module in modules:
        output = module(x)[0]
        found.append([output, *torch.autograd.grad(output.square().mean(), [*module.parameters()])])
    assert_close(*found, 1e-4)


def test_steps_and_segments():
    """Single steps, and states kept every few steps, through the same kernels."""
    module = Recurrent("mingru", 3, 5, backend="c", dtype=torch.float64)
    x = torch.randn(100, 2, 3, dtype=torch.float64).requires_grad_()
    output, _ = module(x)
    whole = gradients([output], [x, *module.parameters()])
    module.checkpoint_every = 30
    assert_close([*gradients([module(x)[0]], [x, *module.parameters()])], whole)
    state, steps = None, []
    with torch.no_grad():
        for one in x[:5]:
            value, state = module.step(one, state)
            steps.append(value)
    assert torch.equal(torch.stack(steps), output[:5])


def test_auto_says_that_it_runs_in_blocks():
    for cell, said in (("mingru", "auto, last call: c, blocks of steps"), ("elman", "auto, last call: c")):
        module = Recurrent(cell, 3, 4, backend="auto")
        with torch.no_grad():
            module(torch.zeros(3, 1, 3))
        assert module.backend == said
