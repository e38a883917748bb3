"""Single steps by the kernel alone are the steps of the whole."""

import copy
import pickle

import pytest
import torch
from torch.nn.utils.parametrizations import weight_norm

from cellula import Recurrent, UsageError
from compare import assert_close


def streamed(module, x):
    outputs, state = [], None
    with torch.no_grad():
        for step in x:
            output, state = module.step(step, state)
            outputs.append(output)
    return torch.stack(outputs), state


@pytest.mark.parametrize("cell", ["lstm", "gru", "fast_rnn", "tau_gru", "qrnn_f", "projected_lstm", "mlp"])
@pytest.mark.parametrize("layers", [1, 2])
def test_steps_are_the_whole(cell, layers):
    extra = {"proj": 3} if cell == "projected_lstm" else {}
    module = Recurrent(cell, 5, 16, layers, backend="c", dtype=torch.float64, **extra).eval()
    x = torch.randn(6, 3, 5, dtype=torch.float64)
    output, state = streamed(module, x)
    with torch.no_grad():
        whole, last = module(x)
    assert_close(output, whole)
    for one, other in zip(state, last, strict=True):
        assert_close(list(one), list(other))


def test_parameters_may_change_and_move():
    module = Recurrent("lstm", 4, 16, backend="c")
    x = torch.randn(3, 2, 4)
    for change in (
        lambda: module.layers[0].W_i.data.mul_(3),
        lambda: setattr(module.layers[0].W_f, "data", torch.randn(4, 16)),
        lambda: module.layers[0].U_o.data.copy_(torch.randn(16, 16)),
        lambda: module.double().float(),
        lambda: setattr(module.layers[0].U_g, "data", torch.randn(16, 16).T),
        lambda: module.load_state_dict({name: torch.randn_like(v) for name, v in module.state_dict().items()}),
    ):
        streamed(module, x)
        change()
        with torch.no_grad():
            assert_close(streamed(module, x)[0], module(x)[0], 1e-6)


def test_what_a_step_changes_is_its_own():
    module = Recurrent("lstm", 4, 8, backend="c")
    with torch.no_grad():
        _, first = module.step(torch.ones(2, 4))
        kept = [value.clone() for value in first]
        module.step(torch.ones(2, 4), first)
    assert_close(list(first), kept, 0)


def test_copies_and_parametrizations():
    module = Recurrent("gru", 4, 8, backend="c")
    x = torch.randn(4, 2, 4)
    expected = streamed(module, x)[0]
    assert_close(streamed(copy.deepcopy(module), x)[0], expected, 0)
    assert_close(streamed(pickle.loads(pickle.dumps(module)), x)[0], expected, 0)
    weight_norm(module.layers[0], "W_r")
    assert_close(streamed(module, x)[0], expected, 1e-6)


def test_with_gradients_and_wrong_shapes_the_whole_way_is_gone():
    module = Recurrent("lstm", 4, 8, backend="c")
    _, state = module.step(torch.ones(2, 4))
    output, _ = module.step(torch.ones(2, 4), state)
    assert output.requires_grad
    with torch.no_grad():
        _, state = module.step(torch.ones(2, 4))
        with pytest.raises(UsageError, match=r"state\.c is \[1, 3, 8\], not \[1, 2, 8\]"):
            module.step(torch.ones(3, 4), state)
        with pytest.raises(UsageError, match=r"the input is"):
            module.step(torch.ones(2, 5), state)
