"""What the constructor and the call accept and refuse: as torch's layers do."""

import inspect
import warnings

import pytest
import torch
from torch import nn

import cellula.nn
from cellula import UsageError
from cellula.errors import ShapeError
from torch_pairs import CELLS, LAYERS, assert_same, pair

X, H = torch.zeros(5, 2, 3), torch.zeros(1, 2, 4)


def arguments(function):
    """Names, defaults and kinds of what a constructor takes; annotations may differ."""
    return [(p.name, p.default, p.kind) for p in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", CELLS)
def test_constructors_of_cells(name):
    assert arguments(getattr(cellula.nn, name).__init__) == arguments(getattr(nn, name).__init__)


@pytest.mark.parametrize("name", LAYERS)
def test_constructors_of_layers(name):
    # torch's own take *args and hand them to RNNBase, behind the mode; RNN takes out its fourth.
    theirs = [one for one in arguments(nn.RNNBase.__init__) if one[0] != "mode"]
    if name == "RNN":
        theirs.insert(4, ("nonlinearity", "tanh", inspect.Parameter.POSITIONAL_OR_KEYWORD))
    assert arguments(getattr(cellula.nn, name).__init__) == theirs


@pytest.mark.parametrize(
    ("name", "given"),
    [
        *((name, (3, 4)) for name in (*LAYERS, *CELLS)),
        ("LSTM", (3, 4, 2, False, True, 0.5, True, 2)),
        ("GRU", (3, 4, 2, False, True, 0.5, True)),
        ("RNN", (3, 4, 2, "relu", False, True, 0.5, True)),
        ("RNNCell", (3, 4, False, "relu")),
    ],
)
def test_the_same_seed_gives_the_same_weights_under_the_same_names(name, given):
    made = []
    for source in (nn, cellula.nn):
        torch.manual_seed(3)
        made.append(getattr(source, name)(*given))
    theirs, ours = made
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)
    if name in LAYERS:
        assert [len(weights) for weights in ours.all_weights] == [len(weights) for weights in theirs.all_weights]


WRONG = [
    ((0, 4), {}), ((3, 0), {}), ((3, -1), {}), ((3.0, 4), {}), ((3, "4"), {}), ((3, 4, 0), {}), ((3, 4), {"bias": 1}),
    ((3, 4), {"batch_first": 0}), ((3, 4), {"dropout": 1.5}), ((3, 4), {"dropout": -0.1}), ((3, 4), {"dropout": True}),
    ((3, 4), {"hidden": 4}), ((3,), {}),
]  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(("given", "named"), [*WRONG, ((3, 4), {"nonlinearity": "sine"})])
def test_a_constructor_refuses_what_torch_refuses(name, given, named):
    errors = []
    for source in (nn, cellula.nn):
        try:
            getattr(source, name)(*given, **named)
        except (TypeError, ValueError) as error:
            errors.append(error)
    # What an older torch lets pass, passes here too.
    assert len(errors) == 2 or (not errors and not torch.__version__.startswith("2.13"))
    if errors:
        theirs, ours = errors
        assert isinstance(ours, type(theirs))
        assert str(ours) == str(theirs) or "argument" in str(theirs)


def test_a_projection_must_be_narrower():
    for name in LAYERS:
        with pytest.raises(ValueError, match="proj_size has to be smaller than hidden_size"):
            getattr(cellula.nn, name)(3, 4, proj_size=4)
        with pytest.raises(ValueError, match="positive integer or zero"):
            getattr(cellula.nn, name)(3, 4, proj_size=-1)


def test_dropout_without_a_second_layer_warns():
    for source in (nn, cellula.nn):
        with pytest.warns(UserWarning, match="dropout option adds dropout after all but last"):
            source.LSTM(3, 4, dropout=0.5)


def both(h):
    return h, h


# What is called, with what; where the LSTM takes a tuple, both parts are the same.
CALLS = {
    "another number of inputs": (torch.zeros(5, 2, 2), None),
    "four dimensions": (torch.zeros(1, 5, 2, 3), None),
    "one dimension": (torch.zeros(3), None),
    "another type": (X.double(), None),
    "no steps": (torch.zeros(0, 2, 3), None),
    "a start for other rows": (X, torch.zeros(1, 3, 4)),
    "a start for other layers": (X, torch.zeros(2, 2, 4)),
    "a start with other units": (X, torch.zeros(1, 2, 5)),
    "a start without rows": (X, torch.zeros(1, 4)),
    "a start of another type": (X, H.double()),
    "a start with rows, an input without": (X[:, 0], H),
    "a start for other layers, without rows": (X[:, 0], torch.zeros(2, 4)),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("name", LAYERS)
def test_a_call_refuses_what_torch_refuses(name, call):
    x, h = call
    hx = h if h is None or name != "LSTM" else both(h)
    theirs, ours = pair(name, 3, 4, dtype=torch.float32)
    with pytest.raises((ValueError, RuntimeError)) as expected:
        theirs(x, hx)
    with pytest.raises(expected.type) as found:
        ours(x, hx)
    assert isinstance(found.value, UsageError)


CELL_CALLS = {
    "three dimensions": (X, None),
    "another number of inputs": (torch.zeros(2, 2), None),
    "a state for other rows": (X[0], torch.zeros(3, 4)),
    "a state with other units": (X[0], torch.zeros(2, 5)),
    "a state without rows": (X[0], torch.zeros(4)),
    "a state with rows, an input without": (X[0, 0], torch.zeros(2, 4)),
    "a state with three dimensions": (X[0], H),
    "another type": (X[0].double(), None),
}


@pytest.mark.parametrize("call", CELL_CALLS.values(), ids=CELL_CALLS)
@pytest.mark.parametrize("name", CELLS)
def test_a_cell_refuses_what_torch_refuses(name, call):
    x, h = call
    hx = h if h is None or name != "LSTMCell" else both(h)
    theirs, ours = pair(name, 3, 4, dtype=torch.float32)
    with pytest.raises((ValueError, RuntimeError)) as expected:
        theirs(x, hx)
    with pytest.raises(expected.type):
        ours(x, hx)


def test_what_is_wrong_is_said():
    lstm, gru = cellula.nn.LSTM(3, 4), cellula.nn.GRU(3, 4)
    for module, x, hx, message in (
        (lstm, X, H, r"hx of this LSTM is \(h, c\), not Tensor"),
        (lstm, X, (H,), r"\(h, c\), not tuple"),
        (gru, X, (H, H), "hx of this GRU is a tensor, not tuple"),
        (cellula.nn.GRU(3, 4, proj_size=2), X, H, r"\(h, m\), not Tensor"),
        (cellula.nn.LSTMCell(3, 4), X[0], 3, r"\(h, c\), not int"),
    ):
        with pytest.raises(UsageError, match=message):
            module(x, hx)
    for module in (gru, cellula.nn.GRUCell(3, 4)):
        with pytest.raises(UsageError, match=r"the input of a GRU(Cell)? is a tensor, not ndarray"):
            module(X.numpy())
    with pytest.raises(ShapeError, match=r"Expected hidden\[1\] size \(1, 2, 4\), got \[1, 2, 5\]"):
        lstm(X, (H, torch.zeros(1, 2, 5)))
    with pytest.raises(UsageError, match="record='q' is not a node of this layer; the nodes are r, z, n, h"):
        gru(X, record="q")
    with pytest.raises(UsageError, match="Unknown nonlinearity 'sine'"):
        cellula.nn.RNNCell(3, 4, nonlinearity="sine")


@pytest.mark.parametrize("name", LAYERS)
def test_dropout_between_layers_is_torchs(name):
    theirs, ours = pair(name, 3, 8, 3, dropout=0.5, bidirectional=True)
    x = torch.randn(6, 4, 3, dtype=torch.float64)
    outputs = []
    for module in (theirs, ours):
        torch.manual_seed(5)
        outputs.append(module(x)[0])
    torch.testing.assert_close(outputs[1], outputs[0])
    assert not torch.allclose(ours(x)[0], outputs[1])
    assert_same(theirs.eval(), ours.eval(), x)


@pytest.mark.parametrize("name", LAYERS)
def test_calls_at_the_edge(name):
    theirs, ours = pair(name, 3, 4, 2, bidirectional=True)
    for shape in ((1, 2, 3), (5, 1, 3), (5, 0, 3), (1, 3)):
        assert_same(theirs, ours, torch.randn(*shape, dtype=torch.float64))
    assert_same(theirs, ours, input=torch.randn(5, 2, 3, dtype=torch.float64), hx=None)
    _, hx = theirs(torch.randn(5, 2, 3, dtype=torch.float64))
    hx = tuple(value.detach() for value in hx) if name == "LSTM" else hx.detach()
    assert_same(theirs, ours, torch.randn(5, 2, 3, dtype=torch.float64), hx=hx)
    if name == "LSTM":
        assert_same(theirs, ours, torch.randn(5, 2, 3, dtype=torch.float64), list(hx))


@pytest.mark.parametrize("name", CELLS)
def test_cells_step_as_torchs(name):
    theirs, ours = pair(name, 3, 4)
    x, h = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    hx = (h, h.flip(1)) if name == "LSTMCell" else h
    assert_same(theirs, ours, x)
    assert_same(theirs, ours, x, hx)
    assert_same(*pair(name, 3, 4, bias=False), x, hx)
    assert_same(theirs, ours, x[:0])


def test_what_they_inherit():
    """RNNBase and RNNCellBase; not nn.LSTM and its sisters, which torch.compile refuses."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in LAYERS:
            assert isinstance(getattr(cellula.nn, name)(3, 4), nn.RNNBase)
            assert not isinstance(getattr(cellula.nn, name)(3, 4), nn.LSTM | nn.GRU | nn.RNN)
        for name in CELLS:
            assert isinstance(getattr(cellula.nn, name)(3, 4), nn.RNNCellBase)


def test_the_namespace_stands_in_the_place_of_torchs():
    ours, names = {*LAYERS, *CELLS}, [name for name in vars(nn) if not name.startswith("_")]
    assert ours < set(names)
    for name in names:
        assert (getattr(cellula.nn, name) is getattr(nn, name)) == (name not in ours)
    assert cellula.nn.functional is nn.functional and cellula.nn.utils is nn.utils and cellula.nn.init is nn.init
    assert {*names, *cellula.nn.__all__} <= set(dir(cellula.nn))
    with pytest.raises(AttributeError, match=r"module 'cellula.nn' has no attribute 'Linaer', nor has torch.nn"):
        _ = cellula.nn.Linaer
