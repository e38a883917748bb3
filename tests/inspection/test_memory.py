"""How far back a gradient reaches, where the answer is known in closed form, and for every cell."""

import math

import numpy as np
import pytest
import torch

from cellula import Recurrent, cells, load_cell
from cellula.errors import UsageError
from cellula.inspection.memory import VERDICTS, GradientOverLags, gradient_over_lags
from zoo_sizes import fitting, own_sizes


def made(*args, **options):
    torch.manual_seed(0)
    return Recurrent(*args, **options)


def integrator(rate, units=3, **options):
    return made(f"h[t] = {rate} * h[t-1] + x[t]", units, units, **options)


@pytest.mark.parametrize("rate", [0.5, 0.9, 1.0, 1.05])
def test_a_leaky_integrator_has_the_powers_of_its_rate(rate):
    found = gradient_over_lags(integrator(rate), torch.randn(60, 2, 3), states=True)
    powers = rate ** np.arange(60)
    np.testing.assert_allclose(found.norms, powers, rtol=1e-12)
    # The state that a step begins with lies one step further back than its input.
    np.testing.assert_allclose(found.states["h"], rate * powers, rtol=1e-12)
    assert found.growth == pytest.approx(rate, rel=1e-9)
    assert found.verdict == {0.5: "vanishes", 0.9: "vanishes", 1.0: "steady", 1.05: "explodes"}[rate]
    assert found.norms.dtype == np.float64
    if rate < 1:
        expected = math.ceil(math.log(0.1 + 0.9 * rate**60) / math.log(rate)) - 1
        assert found.effective_memory == expected
    assert found.is_cut_off == (rate >= 1)


def test_a_memory_that_lasts_is_as_long_as_was_looked_at():
    found = gradient_over_lags(integrator(1.0), torch.zeros(50, 1, 3))
    assert found.effective_memory == 44
    assert found.is_cut_off
    assert "does not die away" in str(found)


def test_an_lstm_whose_forget_gate_is_open_holds_and_one_that_is_closed_does_not():
    lstm = made("lstm", 1, 1)
    values = dict(lstm.layers[0].named_parameters())
    with torch.no_grad():
        for name, value in values.items():
            value.fill_(1.0 if name.startswith("W") else 0.0)
        values["b_f"].fill_(40.0)
    x = torch.zeros(100, 1, 1)
    held = gradient_over_lags(lstm, x)
    assert held.verdict == "steady"
    np.testing.assert_allclose(held.norms[1:], held.norms[1], rtol=0.1)
    with torch.no_grad():
        values["b_f"].fill_(-40.0)
    assert gradient_over_lags(lstm, x).verdict == "vanishes"


def elman(scale, **options):
    layer = made("h[t] = tanh(x[t] @ W + h[t-1] @ U)", 4, 32, **options)
    with torch.no_grad():
        layer.layers[0].U.mul_(scale)
    return layer


def test_an_elman_network_with_large_weights_explodes_and_with_small_ones_vanishes():
    x = 0.01 * torch.randn(60, 4, 4)
    assert gradient_over_lags(elman(4.0), x).verdict == "explodes"
    small = gradient_over_lags(elman(0.5), x)
    assert small.verdict == "vanishes"
    assert small.growth == pytest.approx(0.5, rel=0.05)


def test_the_norm_is_that_of_the_whole_jacobian():
    layer, x = made("gru", 2, 5, dtype=torch.float64), torch.randn(6, 1, 2, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x)[0][-1, 0], x)[:, :, 0]  # [H, T, I]
    whole = jacobian.square().sum((0, 2)).div(5).sqrt().flip(0).detach().numpy()
    found = gradient_over_lags(layer, x, probes=20_000)
    np.testing.assert_allclose(found.norms, whole, rtol=0.03)


def test_an_overflow_is_said_and_is_never_nan():
    found = gradient_over_lags(integrator(1e200), torch.zeros(6, 1, 3), states=True)
    assert found.not_finite_from == 2
    assert found.verdict == "explodes"
    assert found.effective_memory == 2
    assert not np.isnan(found.norms).any()
    assert not np.isnan(found.states["h"]).any()
    assert "not finite from 2 steps back" in str(found)
    assert found.to_dict()["norms"][2] is None


def test_numbers_whose_squares_overflow_do_not():
    found = gradient_over_lags(integrator(1e70), torch.zeros(4, 1, 3))
    np.testing.assert_allclose(found.norms, [1, 1e70, 1e140, 1e210], rtol=1e-9)


def test_an_underflow_is_a_gradient_that_vanishes():
    found = gradient_over_lags(integrator(1e-30), torch.zeros(40, 1, 3))
    assert found.verdict == "vanishes"
    assert found.growth == pytest.approx(1e-30, rel=1e-3)


def test_a_memory_that_ends_vanishes():
    found = gradient_over_lags(made("h[t] = x[t-3] @ W", 3, 4), torch.zeros(10, 1, 3))
    assert list(np.flatnonzero(found.norms)) == [3]
    assert (found.verdict, found.growth, found.effective_memory) == ("vanishes", 0.0, 3)


def test_no_memory_and_no_gradient():
    mlp = gradient_over_lags(made("mlp", 3, 4), torch.zeros(9, 1, 3), states=True)
    assert (mlp.verdict, mlp.effective_memory, mlp.states) == ("no memory", 0, {})
    flat = gradient_over_lags(made("h[t] = sign(x[t] @ W + h[t-1])", 3, 4), torch.ones(9, 1, 3))
    assert (flat.verdict, flat.effective_memory, flat.growth) == ("no gradient", 0, 0.0)
    constant = gradient_over_lags(made("h[t]: hidden = 0.5 * h[t-1] + 1", 3, 4), torch.ones(9, 1, 3))
    assert constant.verdict == "no gradient"


@pytest.mark.parametrize("name", cells())
def test_every_cell_has_a_finite_curve(name):
    graph = load_cell(name)
    layer = made(name, 3, fitting(graph, 4), **own_sizes(graph))
    x = torch.randn(8, 2, 3)
    found = gradient_over_lags(layer, x, states=True)
    assert np.isfinite(found.norms).all()
    assert found.verdict in VERDICTS
    assert set(found.states) == set(layer.state_names)
    np.testing.assert_allclose(gradient_over_lags(layer, x).norms, found.norms, rtol=1e-9, atol=1e-300)
    assert str(found).startswith(found.verdict)


@pytest.mark.parametrize("options", [{"num_layers": 2}, {"batch_first": True}, {"initial_state": "learned"}])
def test_layers_and_layouts(options):
    layer = made("lstm", 3, 4, **options)
    x = torch.randn(8, 2, 3)
    x = x.transpose(0, 1) if layer.batch_first else x
    whole, by_steps = gradient_over_lags(layer, x), gradient_over_lags(layer, x, states=True)
    np.testing.assert_allclose(whole.norms, by_steps.norms, rtol=1e-9)
    assert len(whole.lags) == 8


def test_the_forward_half_of_a_bidirectional_layer_counts():
    found = gradient_over_lags(made("gru", 3, 4, bidirectional=True), torch.randn(8, 2, 3))
    assert (found.norms > 0).all()
    with pytest.raises(UsageError, match="bidirectional"):
        gradient_over_lags(made("gru", 3, 4, bidirectional=True), torch.randn(8, 2, 3), states=True)


def test_a_start_counts():
    layer = made("gru", 3, 4)
    x = torch.zeros(4, 2, 3)
    state = layer.state(h=torch.full((1, 2, 4), 3.0))
    started = gradient_over_lags(layer, x, state)
    assert not np.allclose(started.norms, gradient_over_lags(layer, x).norms)
    np.testing.assert_allclose(gradient_over_lags(layer, x, state, states=True).norms, started.norms)


def test_the_layer_is_left_as_it_is():
    layer = made("zoneout_lstm", 3, 4)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    x = torch.randn(8, 2, 3, requires_grad=True)
    first, second = gradient_over_lags(layer, x), gradient_over_lags(layer, x)
    np.testing.assert_array_equal(first.norms, second.norms)
    assert layer.training
    assert x.grad is None
    assert all(value.dtype == torch.float32 and value.grad is None for value in layer.parameters())
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (torch.zeros(1, 1, 3), {}, "at least 2"),
        (torch.zeros(4, 0, 3), {}, "no rows"),
        (torch.full((4, 1, 3), math.nan), {}, "not finite"),
        (torch.zeros(4, 1, 2), {}, r"\[T, B, 3\]"),
        (torch.zeros(4, 1, 3), {"probes": 0}, "probes is 0"),
    ],
)
def test_what_is_refused(x, options, message):
    with pytest.raises(UsageError, match=message):
        gradient_over_lags(made("gru", 3, 4), x, **options)


def test_a_parameter_that_is_not_finite_is_named():
    layer = made("gru", 3, 4)
    with torch.no_grad():
        layer.layers[0].W_z[0, 0] = math.nan
    with pytest.raises(UsageError, match=r"W_z holds a number that is not finite"):
        gradient_over_lags(layer, torch.zeros(4, 1, 3))


def test_a_share_of_its_own():
    lags = np.arange(4)
    assert GradientOverLags(lags, np.ones(4), share=0.5).effective_memory == 1
    assert GradientOverLags(lags, np.ones(4), share=0.51).effective_memory == 2
