"""Resets in generated C against the reference: outputs, states and every gradient, in all forms a call can have."""

import pytest
import torch

from c_backend import QUICK, compiler_flags, needs_compiler
from cellula import Recurrent, UsageError
from cellula.backends.c.launch import program, stretches
from compare import assert_close, gradients

pytestmark = needs_compiler
DOUBLE = torch.float64
STEPS, ROWS = 13, 5
LENGTHS = (13, 0, 5, 1, 9)
# How many of all steps begin anew; the first is a row that is reset often, beside rows that never are.
SHARES = {"one row often": None, "few": 0.1, "half": 0.5, "all": 1.0}


@pytest.fixture(scope="module", autouse=True)
def _quick():
    with compiler_flags(QUICK):
        yield


def mask(share, steps=STEPS, rows=ROWS):
    draw = torch.Generator().manual_seed(3)
    found = torch.rand(steps, rows, generator=draw) < (share or 0.0)
    if share is None:
        found[::2, 0] = True
    return found


def pair(cell, **options):
    """The same module in C and by the reference, with a learned start that is not 0."""
    torch.manual_seed(0)
    options = {"initial_state": "learned", "dtype": DOUBLE} | options
    modules = [Recurrent(cell, 3, 4, backend=backend, **options) for backend in ("auto", "reference")]
    with torch.no_grad():
        for parameter in modules[0].parameters():
            parameter.add_(torch.rand_like(parameter) * 0.3)
    modules[1].load_state_dict(modules[0].state_dict())
    return modules


def everything(module, reset, given=True, **call):
    """Output, state, and the gradients of all that went in."""
    draw = torch.Generator().manual_seed(1)

    def random(*shape):
        return torch.randn(shape, generator=draw, dtype=DOUBLE)

    x = random(*reset.shape, 3).requires_grad_()
    count, sizes = len(module.layers), module.layers[0].state_sizes
    state = tuple((random(count, reset.shape[1], size).sigmoid() + 0.1).requires_grad_() for size in sizes.values())
    torch.manual_seed(2)
    output, after = module(x, state if given else None, reset=reset, **call)
    ends = [output, *(part for value in after for part in value)]
    leaves = [x, *(state if given else ()), *module.parameters()]
    return [*ends, *gradients(ends, leaves)]


# Two states; older values; masks of steps and of sequences; no state at all.
CELLS = ("lstm", "tau_gru", "zoneout_lstm", "variational_dropout_lstm", "mlp")


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("cell", CELLS)
def test_resets_agree_with_the_reference(cell, share, lengths):
    modules = pair(cell)
    found = [everything(module, mask(SHARES[share]), given=share != "half", lengths=lengths) for module in modules]
    assert_close(*found)
    assert modules[0].backend.startswith("auto, last call: c")


def test_layers_directions_and_checkpoints():
    modules = pair("lstm", num_layers=2, bidirectional=True)
    modules[0].checkpoint_every = 3
    found = [everything(module, mask(0.2), lengths=LENGTHS) for module in modules]
    assert_close(*found)
    assert modules[0].backend.startswith("auto, last call: c")


def test_a_second_derivative_through_resets():
    found = []
    for module in pair("lstm"):
        x = torch.randn(6, 3, 3, generator=torch.Generator().manual_seed(1), dtype=DOUBLE).requires_grad_()
        leaves = [x, *module.parameters()]
        output, _ = module(x, reset=mask(0.4, 6, 3), lengths=[6, 2, 5])
        first = torch.autograd.grad(output.square().sum(), leaves, create_graph=True)
        found.append([*first, *torch.autograd.grad(sum(one.square().sum() for one in first), leaves)])
    assert_close(*found, 1e-10)


@pytest.mark.parametrize("reset", [mask(0.3), mask(None), torch.zeros(STEPS, ROWS, dtype=torch.bool)])
def test_recorded_nodes(reset):
    found = []
    for module in pair("lstm"):
        x = torch.randn(STEPS, ROWS, 3, generator=torch.Generator().manual_seed(1), dtype=DOUBLE).requires_grad_()
        output, state, recorded = module(x, reset=reset, lengths=LENGTHS, record=("i", "c", "h"))
        ends = [output, *state, *recorded.values()]
        found.append([*ends, *gradients(ends, [x, *module.parameters()])])
    assert_close(*found)


def test_what_is_before_a_reset_does_not_matter_at_all():
    """Not even where it is no number; and the bits are those of the stretch by itself."""
    module = pair("lstm", dtype=torch.float32)[0]
    x, reset = torch.randn(STEPS, ROWS, 3), torch.zeros(STEPS, ROWS, dtype=torch.bool)
    x[:4] = float("nan")
    reset[4] = True
    output, state = module(x, reset=reset)
    alone, last = module(x[4:])
    assert torch.equal(output[4:], alone) and torch.equal(state.c, last.c)


def test_a_step_with_resets_is_the_kernel_too():
    module, reference = pair("lstm")
    x, reset, state = torch.randn(4, ROWS, 3, dtype=DOUBLE), mask(0.5, 4), (None, None)
    for step in range(4):
        found = [one.step(x[step], before, reset[step]) for one, before in zip((module, reference), state, strict=True)]
        assert_close([found[0][0], *found[0][1]], [found[1][0], *found[1][1]])
        state = [after for _, after in found]
    assert module.backend.startswith("auto, last call: c")


@pytest.mark.parametrize("lengths", [(500, 1, 1, 2, 3, 250, 7, 0), (4, 4, 4), (0,), (9, 8, 5, 5, 4, 1)])
def test_stretches_take_at_most_twice_the_memory_of_their_steps(lengths):
    counts = torch.tensor(lengths)
    groups = stretches._groups(counts, counts.cumsum(0) - counts, 1)
    moved = torch.cat([group.source[group.alive.flatten()] for group in groups])
    assert moved.sort().values.tolist() == [*range(sum(lengths))]
    assert torch.cat([group.numbers for group in groups]).sort().values.tolist() == [*range(len(lengths))]
    # One without steps takes one.
    assert sum(len(group.source) for group in groups) <= 2 * sum(max(length, 1) for length in lengths)


def test_a_compiled_graph_refuses_resets_by_name(monkeypatch):
    module = Recurrent("lstm", 3, 4, backend="c")
    monkeypatch.setattr(program, "is_compiling", lambda: True)
    with pytest.raises(UsageError, match="states are reset within the sequence, in a compiled graph"):
        module(torch.randn(STEPS, ROWS, 3), reset=mask(0.3))
