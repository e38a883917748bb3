"""Swapping the recurrent layers of a whole model, and back."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import cellula.nn
from cellula import UsageError
from cellula.nn import replace
from torch_pairs import CELLS, LAYERS, tensors_of


class Model(nn.Module):
    """Every recurrent layer, one twice, one deep inside, one with a parametrization."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, 2, bidirectional=True, proj_size=2)
        self.stack = nn.ModuleList([nn.GRU(4, 4), nn.Sequential(nn.Linear(4, 4), nn.RNN(4, 4, nonlinearity="relu"))])
        self.again = self.stack[0]
        self.cells = nn.ModuleDict(
            {"a": nn.LSTMCell(4, 4), "b": nn.GRUCell(4, 4), "c": nn.RNNCell(4, 4, False, "relu")}
        )
        parametrizations.weight_norm(self.stack[0], "weight_hh_l0")

    def forward(self, x):
        x = self.again(self.stack[0](self.lstm(x)[0])[0])[0]
        x = self.stack[1](x)[0]
        return self.cells["c"](x[-1], self.cells["b"](x[-1], self.cells["a"](x[-1])[0]))


def kinds(model):
    names = (*LAYERS, *CELLS)
    found = [type(module).__name__.removeprefix("Parametrized") for module in model.modules()]
    return sorted(name for name in found if name in names)


def test_there_and_back():
    model, x = Model().double(), torch.randn(5, 2, 3, dtype=torch.float64)
    before, parameters, modules = model(x), list(model.parameters()), list(model.modules())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    hooked = []
    model.lstm.register_forward_hook(lambda *_: hooked.append(1))
    everything = sorted((*LAYERS, *CELLS))
    assert replace(model) is model
    assert kinds(model) == everything and type(model.lstm) is cellula.nn.LSTM
    assert isinstance(model.stack[0], cellula.nn.GRU) and model.again is model.stack[0]
    for one, other in ((list(model.parameters()), parameters), (list(model.modules()), modules)):
        assert all(a is b for a, b in zip(one, other, strict=True))
    torch.testing.assert_close(model(x), before)
    assert hooked
    assert torch.equal(copy.deepcopy(model)(x), model(x))
    model(x).sum().backward()
    optimizer.step()
    after = model(x)
    assert not torch.allclose(after, before)
    replace(model, to="torch")
    assert type(model.lstm) is nn.LSTM and isinstance(model.stack[0], nn.GRU) and kinds(model) == everything
    torch.testing.assert_close(model(x), after)
    assert model.half()(x.half()).dtype == torch.float16


@pytest.mark.parametrize("name", (*LAYERS, *CELLS))
def test_a_layer_by_itself(name):
    module, x = getattr(nn, name)(3, 4), torch.randn(2, 3)
    before = tensors_of(module(x))
    ours = replace(module)
    assert ours is module and type(ours) is getattr(cellula.nn, name)
    for one, other in zip(tensors_of(ours(x)), before, strict=True):
        torch.testing.assert_close(one, other)
    assert type(replace(replace(ours, to="torch"), to="torch")) is getattr(nn, name)
    assert type(pickle.loads(pickle.dumps(replace(module)))) is getattr(cellula.nn, name)


def test_what_torch_lacks_does_not_go_back_and_nothing_is_changed():
    model = nn.ModuleDict({"a": cellula.nn.LSTM(3, 4, proj_size=2), "b": cellula.nn.GRU(3, 4, proj_size=2)})
    with pytest.raises(UsageError, match=r"b is a GRU with proj_size=2, which torch.nn.GRU does not have"):
        replace(model, to="torch")
    assert type(model["a"]) is cellula.nn.LSTM
    with pytest.raises(UsageError, match="to='jax'; write one of 'cellula', 'torch'"):
        replace(model, to="jax")


def test_a_class_of_ones_own_stays_and_says_so():
    class Mine(nn.LSTM):
        pass

    model = nn.ModuleDict({"mine": Mine(3, 4), "gru": nn.GRU(3, 4)})
    with pytest.warns(UserWarning, match="mine is a Mine, a class of its own"):
        replace(model)
    assert type(model["mine"]) is Mine and type(model["gru"]) is cellula.nn.GRU
