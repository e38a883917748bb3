"""A program as one operator of torch: what torch's own check of operators says, and its key."""

import gc
from functools import cache

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map_only

from cellula import build, compile, load_cell, make_plan
from cellula.backends.operator.launch import register
from compare import assert_close, gradients

DOUBLE = torch.float64


@cache
def program_of(cell):
    """Kept, as a module would keep it: the operator knows programs only as long as somebody does."""
    return compile(make_plan(load_cell(cell)))


def arguments(program, *, reset=False, seed=None, record="", gradient=True):
    graph, sizes = program.plan.graph, {"input": 3, "hidden": 4}

    def normal(*shape):
        return torch.randn(*shape, dtype=DOUBLE).requires_grad_(gradient)

    states = [normal(2, 4) for _ in graph.states]
    parameters = [normal(*graph.shape(parameter, sizes)) for parameter in graph.parameters]
    alive = torch.tensor([[True, True], [True, False], [True, False]]).unsqueeze(-1)
    again = torch.tensor([[False, True], [False, False], [True, False]]).unsqueeze(-1) if reset else None
    initial = [normal(2, 4) for _ in graph.states] if reset else []
    settings = [setting.default for setting in graph.settings]
    return (program.signature.key, normal(3, 2, 3), states, parameters, initial, settings, [3, 4], alive, again,
            seed, record)  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"reset": True}, {"record": "f,c"}], ids=["plain", "reset", "record"])
def test_torchs_check_of_operators(options):
    torch.library.opcheck(torch.ops.cellula.run, arguments(program_of("lstm"), **options))


def test_what_is_promised_of_the_way_back():
    """torch's check cannot be had here: it looks at the storage of every tensor inside, which torch.func hides."""
    given = arguments(program_of("gru"), gradient=False)
    outputs = torch.ops.cellula.run(*given)
    for into in ([torch.randn_like(value) for value in outputs], [outputs[0], None]):
        found = torch.ops.cellula.run_backward(into, *given)
        with FakeTensorMode(allow_non_fake_inputs=True) as fake:
            promised = tree_map_only(torch.Tensor, fake.from_tensor, (into, given))
            promised = torch.ops.cellula.run_backward(promised[0], *promised[1])
        inputs = [given[1], *given[2], *given[3]]
        for one, other, value in zip(found, promised, inputs, strict=True):
            assert one.shape == other.shape == value.shape
            assert (one.stride(), one.dtype) == (other.stride(), other.dtype)
            assert one.data_ptr() != value.data_ptr()


@pytest.mark.parametrize("cell", ["lstm", "gru", "leaky_rnn", "zoneout_lstm", "mlp"])
@pytest.mark.parametrize("reset", [False, True])
def test_the_operator_is_the_program(cell, reset):
    program = program_of(cell)
    _, x, states, parameters, initial, settings, _, alive, again, _, _ = given = arguments(program, reset=reset)
    names = program.signature
    result = program(
        x,
        dict(zip(names.states, states, strict=True)),
        dict(zip(names.parameters, parameters, strict=True)),
        dict(zip(names.settings, settings, strict=True)),
        {"input": 3, "hidden": 4},
        alive=alive,
        reset=again,
        initial=dict(zip(names.states, initial, strict=True)) if reset else None,
    )
    expected, leaves = [result.output, *result.state.values()], [x, *states, *parameters, *initial]
    found = torch.ops.cellula.run(*given)
    assert_close(found, expected)
    assert_close(gradients(found, leaves), gradients(expected, leaves))


def test_formulas_that_differ_have_keys_that_differ():
    texts = [
        "h[t] = tanh(x[t] @ W + h[t-1] @ U)",
        "h[t] = tanh(x[t] @ W - h[t-1] @ U)",
        "h[t] = tanh(h[t-1] @ U - x[t] @ W)",
        "h[t] = tanh(x[t] @ W + h[t-2] @ U)",
        "U = diagonal()\nh[t] = tanh(x[t] @ W + h[t-1] @ U)",
        "a = setting(0.5)\nh[t] = tanh(x[t] @ W + a * (h[t-1] @ U))",
        "h[t]: proj = tanh(x[t] @ W + h[t-1] @ U)",
    ]
    keys = [compile(make_plan(build(text))).signature.key for text in texts]
    assert len(set(keys)) == len(texts)
    assert keys == [compile(make_plan(build(text))).signature.key for text in texts]


def test_a_program_outlives_its_equal():
    first = program_of("h[t] = tanh(x[t] @ W + 0.25 * h[t-1])")
    second = program_of("h[t] = tanh(x[t] @ W + 0.25 * h[t-1])")
    assert register(first) == second.signature
    del second
    gc.collect()
    assert torch.ops.cellula.run(*arguments(first))[0].shape == (3, 2, 4)
