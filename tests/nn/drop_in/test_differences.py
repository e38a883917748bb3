"""What docs/moving-from-torch.md says differs from torch.nn: each line of its table."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

import cellula.nn
from cellula import UsageError
from cellula.nn import replace
from torch_pairs import pair, tensors_of

X = torch.zeros(5, 2, 3)


def test_the_class():
    assert not isinstance(cellula.nn.LSTM(3, 4), nn.LSTM) and isinstance(cellula.nn.LSTM(3, 4), nn.RNNBase)


def test_the_state_of_a_projected_gru_has_two_parts():
    _, (h, m) = cellula.nn.GRU(3, 4, proj_size=2)(X)
    assert h.shape == (1, 2, 2) and m.shape == (1, 2, 4)


def test_types_under_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        types = {name: getattr(nn, name)(3, 4)(X)[0].dtype for name in ("GRU", "RNN")}
        assert types == {"GRU": torch.float32, "RNN": torch.bfloat16}
        for name in ("LSTM", "GRU", "RNN"):
            assert {value.dtype for value in tensors_of(getattr(cellula.nn, name)(3, 4)(X))} == {torch.float32}


def test_errors_are_of_a_kind_of_their_own_and_come_earlier():
    h = torch.zeros(1, 2, 4)
    for hx, kind in (((h,), IndexError), ({}, KeyError)):
        with pytest.raises(kind):
            nn.LSTM(3, 4)(X, hx)
        with pytest.raises(UsageError, match=r"hx of this LSTM is \(h, c\)"):
            cellula.nn.LSTM(3, 4)(X, hx)
    nn.RNNCell(3, 4, nonlinearity="sine")
    with pytest.raises(UsageError, match="Unknown nonlinearity 'sine'"):
        cellula.nn.RNNCell(3, 4, nonlinearity="sine")


def test_draws_of_dropout_on_packed_sequences():
    theirs, ours = pair("LSTM", 3, 4, 2, dropout=0.5)
    packed = pack_sequence([torch.randn(5, 3, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)])
    outputs = []
    for module in (theirs, ours):
        torch.manual_seed(0)
        outputs.append(module(packed)[0].data)
    assert not torch.allclose(*outputs)
    torch.testing.assert_close(ours.eval()(packed)[0].data, theirs.eval()(packed)[0].data)


def test_torchscript():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises((ValueError, RuntimeError)):
            torch.jit.script(cellula.nn.LSTM(3, 4))
        traced = torch.jit.trace(cellula.nn.LSTM(3, 4), X)
        assert traced(X)[0].shape == (5, 2, 4)
        with pytest.raises(RuntimeError, match="Expected 5 elements in a list but found 9"):
            traced(torch.zeros(9, 2, 3))


def test_fx_needs_to_be_told_that_a_layer_is_a_leaf():
    model = nn.Sequential(cellula.nn.LSTM(3, 4))
    with pytest.raises((RuntimeError, TypeError, torch.fx.proxy.TraceError)):
        torch.fx.symbolic_trace(model)

    class Tracer(torch.fx.Tracer):
        def is_leaf_module(self, m, module_qualified_name):
            return isinstance(m, nn.RNNBase) or super().is_leaf_module(m, module_qualified_name)

    traced = torch.fx.GraphModule(model, Tracer().trace(model))
    assert traced(X)[0].shape == (5, 2, 4)


def test_dynamic_quantization_knows_torchs_classes_only():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize = torch.ao.quantization.quantize_dynamic
        ours = quantize(nn.Sequential(cellula.nn.LSTM(3, 4)), {nn.LSTM})
        assert type(ours[0]) is cellula.nn.LSTM
        theirs = quantize(replace(nn.Sequential(cellula.nn.LSTM(3, 4)), to="torch"), {nn.LSTM})
        assert "quantized" in type(theirs[0]).__module__


def test_the_flat_list_of_weights_is_made_when_it_is_read():
    module = cellula.nn.LSTM(3, 4)
    before = module(X)[0]
    module._flat_weights[0] = torch.zeros(16, 3)
    assert torch.equal(module(X)[0], before) and module._flat_weights[0] is module.weight_ih_l0
