"""dropout, variational_dropout and zoneout: random while training, their expectation otherwise."""

import pytest
import torch

from cellula import Recurrent

X = torch.ones(40, 50, 60)


def outputs(cell, training, x=X, **settings):
    torch.manual_seed(0)
    module = Recurrent(cell, x.shape[-1], x.shape[-1], **settings).train(training)
    return module(x)[0]


@pytest.mark.parametrize("op", ["dropout", "variational_dropout"])
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.9])
def test_the_share_of_zeros_and_the_mean(op, rate):
    found = outputs(f"h[t] = {op}(x[t], {rate})", True)
    assert (found == 0).double().mean().item() == pytest.approx(rate, abs=0.02)
    assert torch.allclose(found[found != 0], torch.tensor(1 / (1 - rate)))
    assert torch.equal(outputs(f"h[t] = {op}(x[t], {rate})", False), X)


def test_a_new_mask_every_step_or_one_for_the_sequence():
    new, same = (outputs(f"h[t] = {op}(x[t], 0.5)", True) for op in ("dropout", "variational_dropout"))
    assert not torch.equal(new[0], new[1])
    assert torch.equal(same, same[:1].expand_as(same))
    assert not torch.equal(same[:, 0], same[:, 1])


def test_two_calls_draw_twice():
    found = outputs("h[t] = dropout(x[t], 0.5) - dropout(x[t], 0.5)", True)
    assert set(found.unique().tolist()) == {-2.0, 0.0, 2.0}
    once = outputs("a[t] = dropout(x[t], 0.5)\nh[t] = a[t] - a[t]", True)
    assert not once.any()


@pytest.mark.parametrize("op", ["dropout", "variational_dropout"])
def test_masks_inside_the_loop(op):
    """The recurrent connection is dropped: with rate 0.5, h doubles or dies at every step."""
    found = outputs(f"h[t] = x[t] + {op}(h[t-1], 0.5)", True, torch.ones(4, 200, 50))
    assert found[1].unique().tolist() == [1.0, 3.0]
    if op == "variational_dropout":
        assert found[3].unique().tolist() == [1.0, 15.0]
    else:
        assert found[3].unique().tolist() == [1.0, 3.0, 7.0, 15.0]
    assert torch.equal(
        outputs(f"h[t] = x[t] + {op}(h[t-1], 0.5)", False, torch.ones(4, 2, 3))[3], torch.full((2, 3), 4.0)
    )


def test_zoneout_keeps_the_old_or_takes_the_new():
    steps = torch.arange(1.0, 5.0).reshape(4, 1, 1).expand(4, 300, 50).contiguous()
    cell = "h[t] = zoneout(x[t], h[t-1], 0.25)"
    found = outputs(cell, True, steps)
    assert found[0].unique().tolist() == [0.0, 1.0] and found[3].unique().tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert (found[3] == 4).double().mean().item() == pytest.approx(0.75, abs=0.02)
    expected, h = [], 0.0
    for value in (1.0, 2.0, 3.0, 4.0):
        h = 0.75 * value + 0.25 * h
        expected.append(h)
    still = outputs(cell, False, steps)
    assert torch.allclose(still[:, 0, 0], torch.tensor(expected))
    assert torch.allclose(found.mean((1, 2)), torch.tensor(expected), atol=0.05)


def test_the_rate_is_a_setting_that_the_caller_may_override():
    cell = "rate = setting(0.5)\nh[t] = dropout(x[t], rate)"
    assert (outputs(cell, True) == 0).double().mean().item() == pytest.approx(0.5, abs=0.02)
    assert (outputs(cell, True, rate=0.1) == 0).double().mean().item() == pytest.approx(0.1, abs=0.02)
    assert torch.equal(outputs(cell, True, rate=0.0), X)


def test_gradients_pass_through_the_same_masks():
    torch.manual_seed(0)
    x = torch.ones(5, 6, 7, requires_grad=True)
    output, _ = Recurrent("h[t] = dropout(x[t], 0.5)", 7, 7)(x)
    (gradient,) = torch.autograd.grad(output.sum(), x)
    assert torch.equal(gradient, output.detach())


def test_dropout_between_layers_is_off_in_evaluation_and_after_the_last_layer():
    module = Recurrent("h[t] = x[t]", 60, 60, num_layers=2, dropout=0.5)
    found = module(X)[0]
    assert set(found.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(module.eval()(X)[0], X)
    assert torch.equal(Recurrent("h[t] = x[t]", 60, 60, dropout=0.5)(X)[0], X)
