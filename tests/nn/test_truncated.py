"""Truncated backpropagation through time against what the theory says."""

import pytest
import torch

from cellula import Recurrent, UsageError, truncated
from compare import assert_close, gradients

DOUBLE = torch.float64


def linear(a):
    """h[t] = a h[t-1] + x[t], one number."""
    module = Recurrent("a = scalar()\nh[t] = h[t-1] * a + x[t]", 1, 1, dtype=DOUBLE)
    with torch.no_grad():
        module.layers[0].a.fill_(a)
    return module


def sequence(steps, rows=1, units=1, seed=0):
    return torch.randn(steps, rows, units, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("cell", ["lstm", "gru", "elman", "jordan", "mlp"])
def test_one_piece_is_full_backpropagation(cell):
    module, x = Recurrent(cell, 2, 3, dtype=DOUBLE), sequence(6, 4, 2)
    output, state = module(x)
    (chunk,) = truncated(module, x, k1=6)
    assert (chunk.start, chunk.end) == (0, 6)
    wanted = list(module.parameters())
    assert_close([chunk.output, *chunk.state], [output, *state])
    assert_close(gradients([chunk.output], wanted), gradients([output], wanted))


@pytest.mark.parametrize(("k1", "k2"), [(1, 1), (1, 3), (2, 2), (2, 5), (3, 4), (4, 12), (12, 12), (5, 5)])
def test_the_gradient_is_the_partial_sum_over_lags(k1, k2):
    """d h[n] / d a = sum over lags j of a^j h[n-1-j]; truncation keeps the lags that lie within k2 steps."""
    a, steps = 0.8, 12
    module, x = linear(a), sequence(steps)
    h = [0.0]
    for value in x.flatten().tolist():
        h.append(a * h[-1] + value)
    full = sum(a**j * h[steps - 1 - j] for j in range(steps))
    output, _ = module(x)
    (exact,) = torch.autograd.grad(output[-1].sum(), module.layers[0].a)
    assert exact.item() == pytest.approx(full, rel=1e-12)
    for chunk in truncated(module, x, k1, k2):
        assert chunk.output[-1].item() == pytest.approx(h[chunk.end], rel=1e-12)
        (found,) = torch.autograd.grad(chunk.output[-1].sum(), module.layers[0].a)
        # With k1 = k2 a shorter last piece starts where the one before it ended.
        reach = min(chunk.end - chunk.start if k1 == k2 else k2, chunk.end)
        partial = sum(a**j * h[chunk.end - 1 - j] for j in range(reach))
        assert found.item() == pytest.approx(partial, rel=1e-12)
        if chunk.end == steps and reach < steps:
            assert abs(found.item() - full) > 1e-6


def test_one_step_is_the_gradient_with_the_state_held_constant():
    module, x = Recurrent("elman", 2, 3, dtype=DOUBLE), sequence(5, 4, 2)
    layer, h = module.layers[0], torch.zeros(4, 3, dtype=DOUBLE)
    for t, chunk in enumerate(truncated(module, x, k1=1)):
        new = torch.tanh(x[t] @ layer.W + h @ layer.U + layer.b)
        found = torch.autograd.grad(chunk.output.sum(), [layer.W, layer.U, layer.b])
        slope = (1 - new**2).detach()  # of tanh; the sum's gradient is 1 everywhere
        assert_close(found, [x[t].T @ slope, h.T @ slope, slope.sum(0)])
        h = new.detach()
        assert_close([chunk.state.h[0]], [h])
        assert not chunk.state.h.requires_grad


def test_gradients_are_full_ones_where_the_step_forgets():
    """With nothing carried over, both ways agree: the difference above is what lies behind the cut."""
    module, x = Recurrent("mlp", 2, 3, dtype=DOUBLE), sequence(6, 4, 2)
    output, _ = module(x)
    whole = torch.autograd.grad(output.sum(), list(module.parameters()))
    parts = [torch.autograd.grad(c.output.sum(), list(module.parameters())) for c in truncated(module, x, 2)]
    assert_close([sum(values) for values in zip(*parts, strict=True)], whole)


def test_states_given_and_carried():
    module, x = Recurrent("lstm", 2, 3, num_layers=2, batch_first=True, dtype=DOUBLE), sequence(7, 4, 2).transpose(0, 1)
    start = module.state(**{name: torch.randn(2, 4, 3, dtype=DOUBLE) for name in module.state_names})
    output, state = module(x, start)
    for k1, k2 in ((3, 3), (2, 4), (7, 7), (10, 10)):
        chunks = list(truncated(module, x, k1, k2, start))
        assert_close([torch.cat([chunk.output for chunk in chunks], 1), *chunks[-1].state], [output, *state])


def test_pieces_of_equal_reach_run_every_step_once():
    module, seen = Recurrent("lstm", 2, 3), []
    module.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[0]))
    list(truncated(module, torch.randn(7, 1, 2), k1=3))
    assert seen == [3, 3, 1]


@pytest.mark.parametrize(("k1", "k2"), [(4, 4), (3, 7)])
def test_the_parameters_may_change_between_pieces(k1, k2):
    torch.manual_seed(0)
    module, head = Recurrent("gru", 1, 8), torch.nn.Linear(8, 1)
    x = torch.randn(24, 16, 1)
    y = torch.cat([torch.zeros_like(x[:2]), x[:-2]])  # what was seen two steps ago
    optimizer = torch.optim.Adam([*module.parameters(), *head.parameters()], lr=0.03)
    losses = []
    for _ in range(8):
        total = 0.0
        for chunk in truncated(module, x, k1, k2):
            loss = (head(chunk.output) - y[chunk.start : chunk.end]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        losses.append(total)
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(("k1", "k2"), [(0, None), (2, 1), (-1, None), (1.5, None)])
def test_wrong_numbers_are_refused(k1, k2):
    with pytest.raises(UsageError, match="1 <= k1 <= k2"):
        truncated(Recurrent("elman", 1, 1), torch.zeros(3, 1, 1), k1, k2)


def test_both_directions_are_refused():
    with pytest.raises(UsageError, match="bidirectional"):
        truncated(Recurrent("elman", 1, 1, bidirectional=True), torch.zeros(3, 1, 1), 2)
