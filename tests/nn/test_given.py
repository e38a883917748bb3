"""What a formula gives instead of learning it, block-triangular matrices, settings that say how something starts."""

import copy

import pytest
import torch

from cellula import Recurrent, UsageError, build, print_formula

TEXT = """
radius = setting(0.9)
W = matrix(init=spectral(radius, 0.5), learned=0)
D = diagonal(init=0.5, learned=0)
s = scalar(init=radius, learned=0)
c[t] = tanh(x[t] @ V + h[t-1] @ W + h[t-1] @ D * s + b)
h[t] = c[t] * 0.5 + 0.5 * h[t-1]
"""


def test_what_is_given_is_kept_but_not_learned():
    module = Recurrent(TEXT, 3, 8, 2)
    assert [name for name, _ in module.layers[0].named_parameters()] == ["V", "b"]
    assert {"layers.0.W", "layers.1.s", "layers.0.D"} <= module.state_dict().keys()
    assert build(TEXT).parameter_count({"input": 3, "hidden": 8}) == 3 * 8 + 8
    assert build(TEXT).parameter_count({"input": 3, "hidden": 8}, given=True) == 3 * 8 + 8 + 64 + 8 + 1
    module.requires_grad_(True)
    before = module.layers[0].W.clone()
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    module(torch.randn(4, 2, 3))[0].sum().backward()
    optimizer.step()
    assert torch.equal(module.layers[0].W, before) and module.layers[0].V.grad is not None
    other = Recurrent(TEXT, 3, 8, 2)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other.layers[1].W, module.layers[1].W)
    assert module.double().layers[0].W.dtype == torch.float64
    assert torch.equal(copy.deepcopy(module).layers[0].W, module.layers[0].W)


def test_the_formula_is_read_back():
    graph = build(TEXT)
    assert build(print_formula(graph)) == graph
    assert "init=spectral(radius, 0.5), learned=0)" in print_formula(graph)
    for changed in (TEXT.replace(", learned=0", ""), TEXT.replace("radius, 0.5", "0.9, 0.5")):
        assert build(changed) != graph


def test_a_setting_says_how_something_starts():
    for radius in (0.9, 1.5):
        module = Recurrent(TEXT, 3, 16, radius=radius)
        largest = torch.linalg.eigvals(module.layers[0].W).abs().max()
        assert largest.item() == pytest.approx(radius, rel=1e-4)
        assert module.layers[0].s.item() == pytest.approx(radius)
        assert 0.3 < (module.layers[0].W != 0).float().mean() < 0.7
    with pytest.raises(UsageError, match="`radius` of `spectral` is -1; write a number from 0 up"):
        Recurrent(TEXT, 3, 16, radius=-1)
    with pytest.raises(UsageError, match="3 x 8; `spectral` needs a square matrix"):
        Recurrent("W = matrix(init=spectral(1))\nh[t] = x[t] @ W", 3, 8)


def triangle_module(backend=None, **options):
    text = "U = matrix(triangle=2, init=normal())\nh[t] = tanh(x[t] @ W + h[t-1] @ U)"
    return Recurrent(text, 3, 4, backend=backend, dtype=torch.float64, **options)


@pytest.mark.parametrize("backend", ["reference", "c"])
def test_what_lies_outside_a_triangle_is_nought_whatever_is_loaded(backend):
    torch.manual_seed(0)
    module = triangle_module(backend)
    upper = torch.tensor([[1.0, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]], dtype=torch.float64)
    assert ((module.layers[0].U != 0) == (upper != 0)).all()
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    wanted, _ = module(x)
    with torch.no_grad():
        module.layers[0].U.add_(1 - upper)
    found, state = module(x)
    assert torch.equal(found, wanted)
    found.sum().backward()
    assert ((module.layers[0].U.grad != 0) == (upper != 0)).all()
    with torch.no_grad():
        # The slow group does not see the fast one.
        h = state.h + torch.tensor([1.0, 1, 0, 0], dtype=torch.float64)
        one, two = (module.step(x[0], module.state(h=value))[0] for value in (state.h, h))
    assert torch.equal(one[:, 2:], two[:, 2:]) and not torch.isclose(one[:, :2], two[:, :2]).any()
    assert triangle_module().graph.parameter_count({"input": 3, "hidden": 4}) == 12 + 12


def test_units_that_no_triangle_fits():
    with pytest.raises(UsageError, match=r"U has 2 groups of units, but hidden = 5 .* write hidden = 6"):
        Recurrent("U = matrix(triangle=2)\nh[t] = tanh(x[t] @ W + h[t-1] @ U)", 3, 5)


def test_streaming_with_what_is_given():
    torch.manual_seed(0)
    module = Recurrent(TEXT, 3, 8, 2, backend="c").eval()
    x = torch.randn(6, 2, 3)
    with torch.no_grad():
        wanted, _ = module(x)
        state = None
        for step, value in enumerate(x):
            output, state = module.step(value, state)
            torch.testing.assert_close(output, wanted[step])
        # A given value that was replaced is read anew.
        module.layers[0].W.mul_(-1)
        changed, _ = module.step(x[0], state)
        module.double().float()
        again, _ = module.step(x[0], state)
    assert torch.allclose(changed, again)


@pytest.mark.parametrize(("start", "check"), [
    ("log_uniform(2, 4)", lambda v: ((v.exp() >= 2) & (v.exp() <= 4.0001)).all() and v.exp().std() > 0.4),
    ("chrono(100)", lambda v: (v >= 0).all() and 90 < v.exp().max() < 99.01),
    ("ring(0.5, 0.9)", lambda v: (-v.exp()).exp().min() < 0.55 and 0.89 < (-v.exp()).exp().max() <= 0.9001),
    ("signs(0.75)", lambda v: set(v.tolist()) == {-1.0, 1.0} and 0.6 < (v > 0).float().mean() < 0.9),
    ("spaced(1, 3)", lambda v: torch.allclose(v, torch.linspace(1, 3, 256))),
    ("spaced(5, -7, 0.3, 4)", lambda v: torch.allclose(v, (5 - 12 * torch.linspace(0, 1, 64) ** 0.3).repeat(4))),
    ("powers(2, 4)", lambda v: torch.equal(v.view(4, 64), torch.tensor([1.0, 2, 4, 8])[:, None].expand(4, 64))),
    ("uniform_fan_out()", lambda v: 0.06 < v.abs().max() <= 1 / 16),
])  # fmt: skip
def test_starts_of_vectors(start, check):
    torch.manual_seed(0)
    module = Recurrent(f"b = vector(init={start})\nh[t] = x[t] @ W + b", 3, 256)
    assert check(module.layers[0].b.detach())


@pytest.mark.parametrize(("start", "check"), [
    ("tile()", lambda W: torch.equal(W, torch.eye(4).repeat(1, 3))),
    ("stretch()", lambda W: torch.equal(W, torch.eye(4).repeat_interleave(3, 1))),
    ("normal_fan_in(3)", lambda W: 0.9 < W.std() < 2.2),
    ("uniform_fan_in()", lambda W: 0.4 < W.abs().max() <= 0.5),
    ("uniform_fan_out()", lambda W: 0.25 < W.abs().max() <= 12**-0.5),
])  # fmt: skip
def test_starts_of_matrices(start, check):
    torch.manual_seed(0)
    module = Recurrent(f"W = matrix(init={start})\nh[t] = x[t] @ W", 4, 12)
    assert check(module.layers[0].W.detach())


def test_a_reservoir_that_is_too_sparse_is_drawn_again():
    torch.manual_seed(0)
    module = Recurrent("W = matrix(init=spectral(0.9, 0))\nh[t] = tanh(x[t] @ V + h[t-1] @ W)", 1, 3)
    assert torch.linalg.eigvals(module.layers[0].W.detach()).abs().max().item() == pytest.approx(0.9, rel=1e-4)
