"""bfloat16, float16 and autocast on the CPU, within the tolerance of the type."""

import pytest
import torch
from torch import nn

import cellula.nn
from cellula import Recurrent
from torch_pairs import LAYERS, pair, tensors_of

HALVES = [torch.bfloat16, torch.float16]
ids = {"ids": lambda dtype: str(dtype).removeprefix("torch.")}


def distance(found, expected):
    """The largest difference, in units of what is compared."""
    return max(((a.double() - b.double()).abs().max() / b.double().abs().max()).item()
               for a, b in zip(found, expected, strict=True))  # fmt: skip


def exactly(module, make, x, **options):
    """What the module's own weights give in float64."""
    exact = make().double()
    exact.load_state_dict(module.state_dict())
    return tensors_of(exact(x.double(), **options))


@pytest.mark.parametrize("dtype", HALVES, **ids)
@pytest.mark.parametrize("name", LAYERS)
def test_half_precision(name, dtype):
    def make():
        return getattr(cellula.nn, name)(8, 16, 2, bidirectional=True)

    module, x = make().to(dtype), torch.randn(20, 4, 8).to(dtype)
    for options in ({}, {"lengths": [20, 5, 0, 11]}, {"reset": torch.rand(20, 4) > 0.7}):
        found = tensors_of(module(x, **options))
        assert all(value.dtype == dtype for value in found)
        assert distance(found, exactly(module, make, x, **options)) < 8 * torch.finfo(dtype).eps
    theirs = getattr(nn, name)(8, 16, 2, bidirectional=True).to(dtype)
    theirs.load_state_dict(module.state_dict())
    expected = exactly(module, make, x)
    assert distance(tensors_of(module(x)), expected) < 3 * distance(tensors_of(theirs(x)), expected) + 1e-9
    x.requires_grad_()
    module(x)[0].float().sum().backward()
    assert x.grad.dtype == dtype and all(p.grad.dtype == dtype and p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("dtype", HALVES, **ids)
@pytest.mark.parametrize("cell", ["gru", "peephole_lstm", "layer_norm_lstm", "elman", "mingru", "slstm"])
def test_half_precision_of_any_cell(cell, dtype):
    def make():
        return Recurrent(cell, 8, 16)

    module, x = make().to(dtype), torch.randn(10, 4, 8).to(dtype)
    assert distance(tensors_of(module(x)), exactly(module, make, x)) < 16 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", HALVES, **ids)
@pytest.mark.parametrize("name", LAYERS)
def test_autocast(name, dtype):
    _, ours = pair(name, 8, 16, 2, dtype=torch.float32)
    network, x = nn.Sequential(nn.Linear(8, 8), ours), torch.randn(20, 4, 8)
    expected = tensors_of(network(x))
    with torch.autocast("cpu", dtype=dtype):
        assert network[0](x).dtype == dtype
        found = tensors_of(network(x))
        start = tensors_of(ours(x))[1:]
        again = ours(x.to(dtype), tuple(start) if name == "LSTM" else start[0])[0]
        packed, _ = ours(nn.utils.rnn.pack_padded_sequence(network[0](x), torch.tensor([20, 20, 20, 20])))
    # The state goes on in full precision; torch's own give now one type, now the other.
    assert all(value.dtype == torch.float32 for value in (*found, again, packed.data))
    assert distance(found, expected) < 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(packed.data, found[0].flatten(0, 1))
    found[0].sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell", "RNNCell"])
def test_autocast_of_cells(name):
    _, ours = pair(name, 8, 16, dtype=torch.float32)
    x = torch.randn(4, 8)
    expected = tensors_of(ours(x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        state = ours(x.to(torch.bfloat16))
        after = tensors_of(ours(x, state))
    assert distance(tensors_of(state), expected) < 2**-7
    assert all(value.dtype == torch.float32 for value in after)


@pytest.mark.parametrize("cell", ["lstm", "gru", "elman", "projected_lstm"])
def test_autocast_of_any_cell(cell):
    module = Recurrent(cell, 8, 16, **({"proj": 4} if cell == "projected_lstm" else {}))
    x = torch.randn(10, 4, 8)
    expected = tensors_of(module(x, lengths=[10, 3, 0, 7]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = tensors_of(module(x, lengths=[10, 3, 0, 7]))
        module(x.to(torch.bfloat16), module(x)[1])[0].float().sum().backward()
    assert distance(found, expected) < 2**-5
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())
