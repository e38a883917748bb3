"""How parameters start: as declared, else as their kind asks for."""

import pytest
import torch

from cellula import Recurrent, load_cell


def start(declaration, use="x[t] @ W", hidden=64, **sizes):
    torch.manual_seed(0)
    module = Recurrent(f"{declaration}\nh[t] = tanh({use})", 64, hidden, **sizes)
    return module.layers[0].W.detach()


def is_orthogonal(matrix, scale=1.0):
    return torch.allclose(matrix @ matrix.T, scale * torch.eye(len(matrix)), atol=1e-5)


def test_declared():
    assert (start("W = matrix(init=0.5)") == 0.5).all()
    assert (start("W = matrix(init=constant(-2))") == -2).all()
    values = start("W = matrix(init=uniform(-0.1, 0.3))")
    assert -0.1 <= values.min() < -0.09 and 0.29 < values.max() <= 0.3
    values = start("W = matrix(init=normal(0.2))")
    assert abs(values.std() - 0.2) < 0.01 and abs(values.mean()) < 0.01
    assert is_orthogonal(start("W = matrix(init=orthogonal())"))
    assert is_orthogonal(start("W = matrix(init=orthogonal(2))"), 4.0)
    assert torch.equal(start("W = matrix(init=identity(3))"), 3 * torch.eye(64))
    bound = (6 / (64 + 32)) ** 0.5
    values = start("W = matrix(init=xavier())", hidden=32)
    assert 0.95 * bound < values.abs().max() <= bound


def test_blocks_start_one_by_one():
    for block in start("W = matrix(blocks=4, init=orthogonal())"):
        assert is_orthogonal(block)
    assert torch.equal(start("W = matrix(blocks=2, init=identity())"), torch.eye(32).expand(2, 32, 32))


def test_not_declared():
    torch.manual_seed(0)
    layer = Recurrent(
        "s = scalar()\nD = diagonal()\nh[t] = tanh(x[t] @ W + h[t-1] @ U + h[t-1] @ D + b * s)", 32, 64
    ).layers[0]
    bound = (6 / (32 + 64)) ** 0.5
    assert 0.95 * bound < layer.W.abs().max() <= bound
    assert is_orthogonal(layer.U)
    assert not layer.b.any() and layer.s.shape == () and layer.s == 0
    assert layer.D.abs().max() <= 1 and layer.D.std() > 0.3


def test_a_matrix_behind_a_gate_on_the_state_is_recurrent_too():
    layer = Recurrent("gru", 16, 16).layers[0]
    assert is_orthogonal(layer.U_n.detach()) and is_orthogonal(layer.U_r.detach())
    assert not is_orthogonal(layer.W_n.detach())


def test_the_forget_gate_of_an_lstm_starts_open():
    layer = Recurrent("lstm", 3, 4).layers[0]
    assert (layer.b_f == 1).all() and not layer.b_i.any()
    assert (Recurrent("cifg_lstm", 3, 4).layers[0].b_i == -1).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_start_alike(dtype):
    torch.manual_seed(0)
    matrix = Recurrent("elman", 8, 8, dtype=dtype).layers[0].U
    assert matrix.dtype == dtype and torch.allclose(
        matrix.double() @ matrix.double().T, torch.eye(8).double(), atol=0.02
    )


def test_a_seed_gives_the_same_and_reset_gives_others():
    modules = []
    for _ in range(2):
        torch.manual_seed(3)
        modules.append(Recurrent("lstm", 3, 4, 2, True, initial_state="learned"))
    one, other = modules
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    other.reset_parameters()
    assert not torch.equal(one.layers[0].W_i, other.layers[0].W_i)
    assert torch.equal(one.layers[0].b_f, other.layers[0].b_f)


def test_parameter_count():
    for name in ("lstm", "gru", "peephole_lstm", "mlp"):
        module = Recurrent(name, 5, 7)
        assert sum(p.numel() for p in module.parameters()) == load_cell(name).parameter_count({"input": 5, "hidden": 7})
