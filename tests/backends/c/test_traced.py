"""torch.compile keeps a kernel whole, whatever the number of steps; autocast; second derivatives."""

import pytest
import torch

from cellula import Recurrent
from compare import assert_close, gradients


def compiled(module):
    torch._dynamo.reset()
    count = []

    def keep(graph, inputs):
        count.append(graph)
        return graph.forward

    return torch.compile(module, fullgraph=True, backend="aot_eager"), torch.compile(module, fullgraph=True, backend=keep), count


@pytest.mark.parametrize("cell", ["lstm", "gru", "fast_rnn", "layer_norm_lstm"])
def test_one_graph_for_all_lengths(cell):
    module = Recurrent(cell, 3, 8, bidirectional=True, backend="c")
    traced, counted, count = compiled(module)
    for steps in (5, 7, 9, 12, 20):
        x = torch.randn(steps, 2, 3, requires_grad=True)
        found = []
        for run in (module, traced):
            output, state = run(x)
            found.append([output, *state, *gradients([output, *state], [x, *module.parameters()])])
        assert_close(found[1], found[0], 1e-5)
        counted(x)
    # The first length, then one graph in which it is a size like any other.
    assert len(count) == 2


def test_ragged_and_without_gradients():
    module = Recurrent("lstm", 3, 8, backend="c")
    traced, *_ = compiled(module)
    x, lengths = torch.randn(6, 3, 3), torch.tensor([6, 0, 2])
    with torch.no_grad():
        assert_close(traced(x, lengths=lengths)[0], module(x, lengths=lengths)[0], 1e-6)


def test_inductor_gives_the_same():
    module = Recurrent("gru", 3, 8, backend="c")
    x = torch.randn(6, 2, 3, requires_grad=True)
    torch._dynamo.reset()
    run = torch.compile(module, fullgraph=True)
    try:
        found = gradients([run(x)[0]], [x, *module.parameters()])
    except torch._inductor.exc.InductorError as error:
        pytest.skip(f"inductor cannot compile here: {str(error).splitlines()[0]}")
    assert_close(found, gradients([module(x)[0]], [x, *module.parameters()]), 1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_computes_in_single_precision(dtype):
    module = Recurrent("lstm", 3, 8, backend="c")
    x = torch.randn(4, 2, 3).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        output, _ = module(x)
        found = gradients([output], [x, *module.parameters()])
    assert output.dtype == torch.float32
    assert found[0].dtype == dtype
    plain = x.detach().float().requires_grad_()
    expected = gradients([module(plain)[0]], [plain, *module.parameters()])
    assert_close(found[1:], expected[1:], 1e-6)


def test_second_derivatives():
    module = Recurrent("gru", 2, 3, backend="c", dtype=torch.float64)
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda value: module(value)[0], x)
    assert torch.autograd.gradgradcheck(lambda value: module(value)[0], x)
