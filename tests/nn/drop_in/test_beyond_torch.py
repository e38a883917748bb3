"""What torch's recurrent layers cannot do: each time that theirs fail, or lack it, and that ours do it."""

import inspect

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jvp, vjp, vmap

import cellula.nn
from cellula import Recurrent, cells, truncated
from compare import assert_close
from torch_pairs import CELLS, LAYERS, pair, tensors_of

DOUBLE = torch.float64
STEPS, ROWS = 5, 3


def x_of(dtype=DOUBLE, *, rows=ROWS):
    return torch.randn(STEPS, rows, 3, dtype=dtype)


def output(module, x):
    return module(x)[0]


def known_to_torch():
    """All that torch's constructors and calls take."""
    makers = [nn.RNNBase.__init__, *(getattr(nn, name).__init__ for name in CELLS)]
    calls = [getattr(nn, name).forward for name in (*LAYERS, *CELLS)]
    return {name for function in (*makers, *calls) for name in inspect.signature(function).parameters}


def refuses(*args, **kwargs):
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        nn.LSTM(3, 4, **kwargs)


def test_any_cell_in_the_same_class():
    assert len(cells()) > 70 and not known_to_torch() & {"cell", "formula"}
    x = x_of()
    for cell in ("lstm", "mgu", "h[t] = tanh(x[t] @ W + 0.9 * h[t-1])"):
        module = Recurrent(cell, 3, 4, num_layers=2, bidirectional=True, dtype=DOUBLE)
        assert module(x, lengths=[5, 2, 3])[0].shape == (STEPS, ROWS, 8)


@pytest.mark.parametrize("name", LAYERS)
def test_a_projection_in_every_layer(name):
    if name == "LSTM":
        assert nn.LSTM(3, 4, proj_size=2, dtype=DOUBLE)(x_of())[0].shape == (STEPS, ROWS, 2)
    else:
        with pytest.raises(ValueError, match="proj_size argument is only supported for LSTM"):
            getattr(nn, name)(3, 4, proj_size=2)
    module = getattr(cellula.nn, name)(3, 4, 2, bidirectional=True, proj_size=2, dtype=DOUBLE)
    names = dict(nn.LSTM(3, 4, 2, bidirectional=True, proj_size=2).named_parameters())
    assert list(dict(module.named_parameters())) == list(names)
    x = x_of()
    whole, hx = module(x)
    first, between = module(x[:2])
    assert whole.shape == (STEPS, ROWS, 4)
    shapes = [tuple(part.shape) for part in tensors_of(hx)]
    assert shapes == [(4, ROWS, 2), (4, ROWS, 4)][: len(shapes)] and len(shapes) == (1 if name == "RNN" else 2)
    one = getattr(cellula.nn, name)(3, 4, proj_size=2, dtype=DOUBLE)
    whole, hx = one(x)
    first, between = one(x[:2])
    second, after = one(x[2:], between)
    assert_close([torch.cat([first, second]), *tensors_of(after)], [whole, *tensors_of(hx)])
    assert_close([tensors_of(hx)[0][0]], [whole[-1]])


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_the_projected_rnn_is_its_equation(nonlinearity):
    module, x = cellula.nn.RNN(3, 4, nonlinearity=nonlinearity, proj_size=2, dtype=DOUBLE), x_of()
    p, h, outputs = dict(module.named_parameters()), torch.zeros(ROWS, 2, dtype=DOUBLE), []
    for value in x:
        inner = value @ p["weight_ih_l0"].T + p["bias_ih_l0"] + h @ p["weight_hh_l0"].T + p["bias_hh_l0"]
        h = getattr(torch, nonlinearity)(inner) @ p["weight_hr_l0"].T
        outputs.append(h)
    assert_close(list(module(x)), [torch.stack(outputs), h[None]])


@pytest.mark.parametrize("name", LAYERS)
def test_vmap(name):
    theirs, ours = pair(name, 3, 4, 2, bidirectional=True)
    x = torch.randn(6, STEPS, ROWS, 3, dtype=DOUBLE)
    with pytest.raises(RuntimeError, match="Batching rule not implemented"):
        vmap(lambda one: output(theirs, one))(x)
    found = vmap(lambda one: ours(one, lengths=[5, 2, 3])[0])(x)
    assert_close([found], [torch.stack([ours(one, lengths=[5, 2, 3])[0] for one in x])])
    # Several sets of weights: an ensemble.
    stacked = {key: torch.stack([value, value + 0.1]) for key, value in ours.named_parameters()}
    both = vmap(lambda weights: functional_call(ours, weights, (x[0],))[0])(stacked)
    assert_close([both[0]], [output(theirs, x[0])])


def test_vmap_over_an_lstm_cell():
    theirs, ours = pair("LSTMCell", 3, 4)
    x = torch.randn(6, ROWS, 3, dtype=DOUBLE)
    with pytest.raises(RuntimeError, match="Batching rule not implemented"):
        vmap(lambda one: theirs(one)[0])(x)
    assert_close([vmap(lambda one: ours(one)[0])(x)], [torch.stack([theirs(one)[0] for one in x])])


def test_jvp():
    theirs, ours = pair("LSTM", 3, 4, dtype=torch.float32)
    x, direction = x_of(torch.float32), x_of(torch.float32)
    with pytest.raises(NotImplementedError, match="forward AD"):
        jvp(lambda value: output(theirs, value), (x,), (direction,))
    for name in LAYERS:
        ours = getattr(cellula.nn, name)(3, 4, dtype=DOUBLE)
        x, direction, weights = x_of(), x_of(), torch.randn(STEPS, ROWS, 4, dtype=DOUBLE)
        _, forward = jvp(lambda value, ours=ours: output(ours, value), (x,), (direction,))
        _, backward = vjp(lambda value, ours=ours: output(ours, value), x)
        assert_close([(forward * weights).sum()], [(backward(weights)[0] * direction).sum()])


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_every_sample(name):
    theirs, ours = pair(name, 3, 4)
    x = x_of()

    def loss(module, weights, row):
        return functional_call(module, weights, (row,))[0].square().sum()

    def per_sample(module):
        weights = {key: value.detach() for key, value in module.named_parameters()}
        return vmap(grad(lambda w, row: loss(module, w, row)), (None, 1))(weights, x)

    with pytest.raises(RuntimeError):
        per_sample(theirs)
    found = per_sample(ours)
    for row in range(ROWS):
        theirs.zero_grad()
        output(theirs, x[:, row]).square().sum().backward()
        assert_close(
            {key: value[row] for key, value in found.items()}, {k: p.grad for k, p in theirs.named_parameters()}
        )


@pytest.mark.parametrize("name", LAYERS)
def test_double_backward(name):
    module = getattr(cellula.nn, name)(2, 3, 2, bidirectional=True, dtype=DOUBLE)
    x = torch.randn(3, 2, 2, dtype=DOUBLE, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda value: module(value, lengths=[3, 2])[0], x)


def test_second_derivatives_by_forward_over_reverse():
    """torch has double backward on the CPU; not this way, by which a Hessian is a few calls, and not with cuDNN."""
    theirs, ours = pair("LSTM", 3, 4, dtype=torch.float32)
    x, direction = x_of(torch.float32), x_of(torch.float32)

    def slope(module):
        return grad(lambda value: output(module, value).square().sum())

    with pytest.raises((NotImplementedError, RuntimeError)):
        jvp(slope(theirs), (x,), (direction,))
    ours = ours.double()
    x, direction = x.double(), direction.double()
    _, product = jvp(slope(ours), (x,), (direction,))
    x.requires_grad_()
    (first,) = torch.autograd.grad(output(ours, x).square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad((first * direction).sum(), x)
    assert_close([product], [second])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="cuDNN's refusal of double backward needs a GPU")
def test_double_backward_on_a_gpu():
    theirs, ours = (source.LSTM(3, 4, device="cuda") for source in (nn, cellula.nn))
    x = torch.randn(STEPS, ROWS, 3, device="cuda", requires_grad=True)

    def penalty(module):
        (first,) = torch.autograd.grad(output(module, x).sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)

    with pytest.raises((NotImplementedError, RuntimeError)):
        penalty(theirs)
    assert penalty(ours)[0].isfinite().all()


def test_peepholes():
    refuses(peephole=True)
    assert not known_to_torch() & {"peephole", "peepholes"}
    module, x = Recurrent("peephole_lstm", 3, 4, dtype=DOUBLE), x_of()
    before = output(module, x)
    with torch.no_grad():
        module.layers[0].p_f.fill_(1.0)
    assert not torch.allclose(output(module, x), before)


def test_layer_norm_inside():
    refuses(layer_norm=True)
    module = Recurrent("layer_norm_lstm", 3, 4, dtype=DOUBLE)
    x = x_of()
    assert_close([module(1000 * x)[0]], [module(2000 * x)[0]], 1e-6)
    assert (nn.LSTM(3, 4, dtype=DOUBLE)(1000 * x)[0] - module(1000 * x)[0]).abs().max() > 0.01


@pytest.mark.parametrize("cell", ["recurrent_dropout_lstm", "variational_dropout_lstm", "zoneout_lstm"])
def test_dropout_within_the_steps(cell):
    refuses(recurrent_dropout=0.5)
    assert not known_to_torch() & {"recurrent_dropout", "variational_dropout", "zoneout"}
    module, x = Recurrent(cell, 3, 16, dtype=DOUBLE), x_of(rows=200)
    torch.manual_seed(0)
    drawn = [output(module, x) for _ in range(2)]
    assert not torch.allclose(*drawn)
    torch.manual_seed(0)
    assert torch.equal(output(module, x), drawn[0])
    assert torch.equal(output(module.eval(), x), output(module, x))
    assert (drawn[0] - output(module, x)).mean().abs() < 0.02


def test_a_learned_start():
    refuses(initial_state="learned")
    module = Recurrent("gru", 3, 4, initial_state="learned", dtype=DOUBLE)
    output(module, x_of()).sum().backward()
    starts = {name: value for name, value in module.named_parameters() if "initial" in name}
    assert starts and all(value.grad.any() for value in starts.values())
    assert not any("initial" in name for name, _ in nn.GRU(3, 4).named_parameters())


def test_all_states_and_gates():
    theirs, ours = pair("LSTM", 3, 4)
    x = x_of()
    with pytest.raises(TypeError, match="record"):
        theirs(x, record=("c",))
    _, (h, c), found = ours(x, record=("i", "f", "g", "o", "c", "h"))
    assert_close([found["c"][:, -1], found["h"][:, -1]], [c, h])
    before = torch.cat([torch.zeros_like(found["c"][:, :1]), found["c"][:, :-1]], 1)
    assert_close([found["f"] * before + found["i"] * found["g"]], [found["c"]])
    # torch gives c of the last step only: the sequence must be run once for every step.
    assert_close([found["c"][0]], [torch.cat([theirs(x[: step + 1])[1][1] for step in range(STEPS)])])


def test_streaming():
    assert not hasattr(nn.LSTM(3, 4), "step")
    module, x = Recurrent("lstm", 3, 4, 2, dtype=DOUBLE), x_of()
    state, outputs = None, []
    for value in x:
        one, state = module.step(value, state)
        outputs.append(one)
    assert_close([torch.stack(outputs)], [output(module, x)])


@pytest.mark.parametrize("name", LAYERS)
def test_truncated_backpropagation_through_time(name):
    """torch has no such thing; by hand it is a loop that cuts the graph between pieces."""
    assert not [key for key in vars(nn.utils.rnn) if "trunc" in key.lower()]
    theirs, ours = pair(name, 3, 4)
    x, hx = torch.randn(9, ROWS, 3, dtype=DOUBLE), None
    for start, chunk in zip(range(0, 9, 4), truncated(ours, x, k1=4), strict=True):
        expected, hx = theirs(x[start : start + 4], hx)
        hx = tuple(value.detach() for value in hx) if name == "LSTM" else hx.detach()
        for module in (theirs, ours):
            module.zero_grad()
        expected.square().sum().backward()
        chunk.output.square().sum().backward()
        assert (chunk.start, chunk.end) == (start, min(start + 4, 9))
        assert_close([chunk.output, *tensors_of(chunk.state)], [expected, *tensors_of(hx)])
        assert_close([p.grad for p in ours.parameters()], [p.grad for p in theirs.parameters()])


def test_rows_of_no_length_and_resets():
    """Ragged batches without packing: tests/nn/drop_in/test_ragged.py; resets: tests/nn/test_resets.py."""
    assert not known_to_torch() & {"lengths", "reset"}
