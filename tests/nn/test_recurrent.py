"""The module: shapes, states, streaming, ragged batches, records, names, copies, refusals."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch

from cellula import FormulaError, Recurrent, UsageError, build, cells, load_cell
from compare import assert_close, gradients
from zoo_sizes import fitting, own_sizes

DOUBLE = torch.float64
PROJECTED = """c[t] = sigmoid(x[t] @ W_f + h[t-1] @ U_f) * c[t-1] + tanh(x[t] @ W_g + h[t-1] @ U_g)
h[t]: proj = tanh(c[t]) @ W_p
"""
LEAKY = "leak = setting(0.25)\nh[t] = (1 - leak) * h[t-1] + leak * tanh(x[t] @ W + h[t-1] @ U + b)"


def sequence(*shape, seed=0):
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("cell", [*cells(), PROJECTED, "h[t] = tanh(x[t-2] @ W + h[t-3] @ U)"])
def test_step_by_step_is_the_whole_sequence(cell):
    graph = load_cell(cell)
    # In evaluation, where cells with dropout or zoneout do not draw.
    module = Recurrent(graph, 3, fitting(graph, 4), dtype=DOUBLE, **own_sizes(graph)).eval()
    x = sequence(6, 2, 3)
    output, last = module(x)
    state, outputs = None, []
    for value in x:
        one, state = module.step(value, state)
        outputs.append(one)
    assert_close([torch.stack(outputs), *state], [output, *last])
    assert module.output_size == output.shape[-1]
    assert last._fields == module.state_names


@pytest.mark.parametrize("batch_first", [False, True])
def test_several_layers_step_too(batch_first):
    module = Recurrent("lstm", 3, 4, num_layers=3, dtype=DOUBLE, batch_first=batch_first)
    x = sequence(5, 2, 3)
    output, last = module(x.transpose(0, 1) if batch_first else x)
    state = None
    for value in x:
        one, state = module.step(value, state)
    assert_close([one, *state], [output[:, -1] if batch_first else output[-1], *last])


def test_a_sequence_in_two_parts_is_one():
    module, x = Recurrent("peephole_lstm", 3, 4, 2, dtype=DOUBLE), sequence(7, 2, 3)
    output, last = module(x)
    first, state = module(x[:3])
    second, state = module(x[3:], state)
    assert_close([torch.cat([first, second]), *state], [output, *last])


def test_the_state_has_names():
    module = Recurrent("lstm", 3, 4, 2, True, dtype=DOUBLE)
    _, state = module(sequence(5, 2, 3))
    assert state.c.shape == state.h.shape == (4, 2, 4)
    assert_close([module(sequence(5, 2, 3), state)[0]], [module(sequence(5, 2, 3), state._asdict())[0]])
    state = module.state(c=state.c.detach(), h=state.h.detach())
    for again in (pickle.loads(pickle.dumps(state)), copy.deepcopy(state)):
        assert type(again) is type(state) and torch.equal(again.c, state.c)
    assert Recurrent("mlp", 3, 4)(torch.zeros(5, 2, 3))[1] == ()


def test_zero_and_learned_starts():
    torch.manual_seed(0)
    module, x = Recurrent("lstm", 3, 4, 2, True, initial_state="learned", dtype=DOUBLE), sequence(5, 2, 3)
    plain = Recurrent("lstm", 3, 4, 2, True, dtype=DOUBLE)
    plain.load_state_dict({k: v for k, v in module.state_dict().items() if "initial" not in k})
    assert_close([module(x)[0]], [plain(x)[0]])
    starts = {name: value for name, value in module.named_parameters() if "initial" in name}
    assert len(starts) == 8 and all(value.shape == (4,) for value in starts.values())
    module(x)[0].sum().backward()
    assert all(value.grad.abs().sum() > 0 for value in starts.values())
    with torch.no_grad():
        for value in starts.values():
            value.normal_()
    given = plain.state(**{n: torch.stack([layer.initial[f"{n}_0"] for layer in module.layers])[:, None].expand(4, 2, 4)
                           for n in ("c", "h")})  # fmt: skip
    assert_close([module(x)[0]], [plain(x, given)[0]])
    assert_close([module(x, given)[0]], [plain(x, given)[0]])


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(
    "cell", ["lstm", "gru", PROJECTED, "h[t] = x[t] / sum(abs(x[t])) @ W + log(abs(h[t-1]) + 1) @ U"]
)
def test_lengths(cell, batch_first):
    """Each row is what it is alone, whatever lies behind its end."""
    module = Recurrent(
        cell, 3, 4, 2, True, batch_first=batch_first, dtype=DOUBLE, **({"proj": 2} if "proj" in cell else {})
    )
    lengths, x = [4, 0, 1, 3], sequence(4, 4, 3)
    for row, length in enumerate(lengths):
        x[length:, row] = torch.nan
    x.requires_grad_()
    flip = (lambda value: value.transpose(0, 1)) if batch_first else (lambda value: value)
    output, state, recorded = module(flip(x), lengths=lengths, record=("h",))
    output = flip(output)
    total, wanted, expected_x = 0.0, list(module.parameters()), torch.zeros_like(x)
    whole = gradients([output, *state], [x, *wanted])
    assert all(value.isfinite().all() for value in (output, *state, *whole, recorded["h"]))
    for row, length in enumerate(lengths):
        assert not output[length:, row].any()
        if length:
            alone, last = module(flip(x[:length, row : row + 1]))
            assert_close(
                [output[:length, row], *(v[:, row] for v in state)], [flip(alone)[:, 0], *(v[:, 0] for v in last)]
            )
        else:
            assert not any(value[:, row].any() for value in state)
    total = sum(module(flip(x[:n, r : r + 1]))[0].sum() for r, n in enumerate(lengths) if n)
    expected_x, *expected = torch.autograd.grad(total, [x, *wanted])
    found_x, *found = torch.autograd.grad(module(flip(x), lengths=lengths)[0].sum(), [x, *wanted])
    assert_close([found_x, *found], [expected_x, *expected], 1e-10)


def test_record_returns_any_node():
    x = sequence(5, 2, 3)
    module = Recurrent("lstm", 3, 4, dtype=DOUBLE)
    output, _, recorded = module(x, record=("i", "f", "c", "o", "h"))
    assert list(recorded) == ["i", "f", "c", "o", "h"]
    assert all(value.shape == (1, 5, 2, 4) for value in recorded.values())
    assert_close([recorded["o"] * recorded["c"].tanh(), recorded["h"]], [output[None], output[None]])
    wide = Recurrent("lstm", 3, 4, 2, True, batch_first=True)(torch.zeros(2, 5, 3), record="f")
    assert wide[2]["f"].shape == (4, 2, 5, 4)
    # A node of the input's size differs from layer to layer.
    mixed = Recurrent("a[t] = x[t] * 2\nh[t] = tanh(a[t] @ W)", 3, 4, 2, batch_first=True)
    found = mixed(torch.ones(2, 5, 3), record="a")[2]["a"]
    assert [part.shape for part in found] == [(2, 5, 3), (2, 5, 4)] and (found[0] == 2).all()


@pytest.mark.parametrize(
    "module",
    [
        lambda: Recurrent("lstm", 3, 4),
        lambda: Recurrent("gru", 3, 4, 2, True, 0.5, True, "learned"),
        lambda: Recurrent(LEAKY, 3, 4, leak=0.5),
        lambda: Recurrent(PROJECTED, 3, 4, proj=2),
        lambda: Recurrent(build(LEAKY), 3, 4),
        lambda: Recurrent(load_cell("lstm"), 3, 4),
    ],
    ids=["plain", "all arguments", "setting", "size", "graph", "graph of the zoo"],
)
def test_repr_is_the_constructor_call(module):
    module = module()
    again = eval(repr(module), {"Recurrent": Recurrent})
    assert repr(again) == repr(module) and again.graph == module.graph and again.settings == module.settings
    shapes = {name: value.shape for name, value in module.state_dict().items()}
    assert {name: value.shape for name, value in again.state_dict().items()} == shapes
    for name in ("num_layers", "bidirectional", "dropout", "batch_first", "initial_state", "output_size"):
        assert getattr(again, name) == getattr(module, name)


def test_the_cell_may_be_a_path(tmp_path):
    path = tmp_path / "lr=0.1" / "my.cell"
    path.parent.mkdir()
    path.write_text(LEAKY)
    for cell in (path, str(path)):
        module = Recurrent(cell, 3, 4)
        assert module.graph == build(LEAKY) and module.graph.name == "my"
        assert build(module.cell_text) == module.graph
        assert eval(repr(module), {"Recurrent": Recurrent}).graph == module.graph


def test_settings_are_read_and_overridden():
    x = sequence(4, 2, 3)
    one, other = Recurrent(LEAKY, 3, 4, dtype=DOUBLE), Recurrent(LEAKY, 3, 4, leak=1.0, dtype=DOUBLE)
    other.load_state_dict(one.state_dict())
    elman = Recurrent("elman", 3, 4, dtype=DOUBLE)
    elman.load_state_dict(one.state_dict())
    assert_close([other(x)[0]], [elman(x)[0]])
    assert (one(x)[0] - other(x)[0]).abs().max() > 0.01


@pytest.mark.parametrize(("call", "message"), [
    (lambda: Recurrent(LEAKY, 3, 4, laek=0.5), "did you mean `leak`"),
    (lambda: Recurrent("lstm", 3, 4, leak=0.5), "has no setting or size 'leak'; it has none"),
    (lambda: Recurrent(PROJECTED, 3, 4), "write proj=32"),
    (lambda: Recurrent(PROJECTED, 3, 4, proj=2.5), "whole number"),
    (lambda: Recurrent(LEAKY, 3, 4, leak="much"), "leak is 'much'; write a finite number"),
    (lambda: Recurrent("p = setting(0.1)\nh[t] = dropout(x[t] @ W, p)", 3, 4, p=1.5), "from 0 to 0.95"),
    (lambda: Recurrent("lstmm", 3, 4), "did you mean `lstm`"),
    (lambda: Recurrent("lstm", 0, 4), "input_size is 0"),
    (lambda: Recurrent("lstm", 3, True), "hidden_size is True"),
    (lambda: Recurrent("lstm", 3, 4, num_layers=1.5), "num_layers is 1.5"),
    (lambda: Recurrent("lstm", 3, 4, dropout=1.0), "dropout is 1.0"),
    (lambda: Recurrent("lstm", 3, 4, initial_state="random"), "'zero', 'learned'"),
    (lambda: Recurrent("W = matrix(blocks=3)\nh[t] = x[t] @ W", 3, 4), "write hidden = 6"),
    (lambda: Recurrent(None, 3, 4), "not NoneType"),
    (lambda: Recurrent("lstm", 3, 4)(torch.zeros(5, 2, 4)), r"\[T, B, 3\], not \[5, 2, 4\]"),
    (lambda: Recurrent("lstm", 3, 4, batch_first=True)(torch.zeros(5, 2)), r"\[B, T, 3\], not \[5, 2\]"),
    (lambda: Recurrent("lstm", 3, 4)(torch.zeros(0, 2, 3)), "no steps"),
    (lambda: Recurrent("lstm", 3, 4)(np.zeros((5, 2, 3))), "not ndarray"),
    (lambda: Recurrent("lstm", 3, 4)(torch.zeros(5, 2, 3, dtype=torch.long)), "not torch.int64"),
    (lambda: Recurrent("h[t]: dtype = x[t] @ W", 3, 4), "also an argument of Recurrent"),
    (lambda: Recurrent("lstm", 3, 4)(torch.zeros(5, 2, 3), lengths=[5]), "each of the 2 rows"),
    (lambda: Recurrent("lstm", 3, 4)(torch.zeros(5, 2, 3), lengths=[5, 6]), "holds 6"),
    (lambda: Recurrent("lstm", 3, 4)(torch.zeros(5, 2, 3), lengths=[5, -1]), "holds -1"),
    (lambda: Recurrent("lstm", 3, 4)(torch.zeros(5, 2, 3), lengths=[5.0, 1.0]), "whole number"),
    (lambda: Recurrent("lstm", 3, 4)(torch.zeros(5, 2, 3), torch.zeros(1, 2, 4)), "c, h, not Tensor"),
    (lambda: Recurrent("lstm", 3, 4)(torch.zeros(5, 2, 3), {"c": torch.zeros(1, 2, 4)}), "c, h, not c"),
    (lambda: Recurrent("lstm", 3, 4)(torch.zeros(5, 2, 3), (torch.zeros(2, 4),) * 2), r"\[1, 2, 4\], not \[2, 4\]"),
    (lambda: Recurrent("lstm", 3, 4)(torch.zeros(5, 2, 3), (None, None)), "not None"),
    (lambda: Recurrent("lstm", 3, 4)(torch.zeros(5, 2, 3), record="forget"), "record='forget' is not a node"),
    (lambda: Recurrent("lstm", 3, 4).step(torch.zeros(5, 2, 3)), r"\[B, 3\]"),
    (lambda: Recurrent("lstm", 3, 4, bidirectional=True).step(torch.zeros(2, 3)), "whole sequence"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(UsageError, match=message):
        call()


def test_a_wrong_formula_says_so():
    with pytest.raises(FormulaError, match="did you mean `tanh`"):
        Recurrent("h[t] = tnah(x[t] @ W)", 3, 4)
    with pytest.raises(FormulaError, match="No such file"):
        Recurrent("absent/my.cell", 3, 4)


def test_whole_numbers_of_numpy_are_whole_numbers():
    module = Recurrent(PROJECTED, np.int64(3), np.int32(4), proj=np.int64(2))
    assert repr(module).endswith("3, 4, proj=2)")


@pytest.mark.parametrize("cell", [
    "train = vector()\ntrain_ = vector(init=3)\nh[t] = tanh(x[t] @ forward + train + train_ + h[t-1] @ type)",
    "h[t] = x[t] @ initial + training + parameters * state + start - tensors",
    "h[t] = x[t] @ layers + attributes + program + graph + T_destination + reset_parameters + call_super_init",
    "count[t] = x[t] @ W\nindex[t] = count[t-1] + index[t-1]\nh[t] = tanh(count[t] + index[t])",
    "self = setting(2)\nh[t] = x[t] @ W * self",
])  # fmt: skip
def test_names_that_mean_something_to_torch(cell):
    module = Recurrent(cell, 3, 4, initial_state="learned", dtype=DOUBLE)
    assert len(list(module.layers[0].parameters(recurse=False))) == len(module.graph.parameters)
    module.train().eval()
    output, state = module(sequence(4, 2, 3))
    output.sum().backward()
    again = Recurrent(cell, 3, 4, initial_state="learned", dtype=DOUBLE)
    again.load_state_dict(module.state_dict())
    assert_close(again(sequence(4, 2, 3))[0:1], [output])
    assert type(state)._fields == module.state_names


@pytest.mark.parametrize("cell", ["lstm", LEAKY, PROJECTED])
def test_copies_and_saved_weights(cell):
    module = Recurrent(
        cell, 3, 4, 2, True, initial_state="learned", dtype=DOUBLE, **({"proj": 2} if "proj" in cell else {})
    )
    x = sequence(4, 2, 3)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    saved = torch.load(file, weights_only=False)
    for again in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), saved):
        assert again is not module and repr(again) == repr(module)
        assert_close([again(x)[0]], [module(x)[0]])
        with torch.no_grad():
            next(again.parameters()).add_(1)
        assert (again(x)[0] - module(x)[0]).abs().max() > 0


def test_functional_call_and_gradients_of_each_row():
    module, x = Recurrent("gru", 3, 4, dtype=DOUBLE), sequence(5, 4, 3)
    parameters = dict(module.named_parameters())

    def loss(parameters, row):
        return torch.func.functional_call(module, parameters, (row.unsqueeze(1),))[0].square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 1))(parameters, x)
    for row in range(4):
        one = torch.autograd.grad(module(x[:, row : row + 1])[0].square().sum(), list(parameters.values()))
        assert_close([value[row] for value in each.values()], one)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, DOUBLE])
def test_every_type(dtype):
    module = Recurrent("lstm", 3, 4, 2, True, dtype=dtype)
    output, state = module(torch.randn(4, 2, 3, dtype=dtype), lengths=[4, 2])
    assert {value.dtype for value in (output, *state)} == {dtype}
    output.sum().backward()
    assert all(p.grad.isfinite().all() for p in module.parameters())


def test_nothing_leaves_the_device_of_the_parameters():
    module = Recurrent("lstm", 3, 4, 2, True, device="meta", initial_state="learned")
    output, state = module(torch.zeros(4, 2, 3, device="meta"))
    assert {value.device.type for value in (output, *state, *module.parameters())} == {"meta"}


def test_the_output_may_have_any_size():
    for cell, sizes, width in (
        ("y[t] = sum(x[t] @ W)", {}, 1),
        ("h[t] = x[t] * sigmoid(x[t] @ W + c[t-1])\nc[t] = tanh(x[t] @ V + c[t-1])", {}, 3),
        (PROJECTED, {"proj": 2}, 2),
        ("h[t]: hidden = 3", {}, 4),
    ):
        for layers, both in ((1, False), (3, True)):
            module = Recurrent(cell, 3, 4, layers, both, **sizes)
            output, _ = module(torch.randn(5, 2, 3))
            assert output.shape == (5, 2, module.output_size)
            assert layers > 1 or module.output_size == width


def test_blocks_and_diagonals_are_matrices():
    cell = "U = matrix(blocks=2)\nD = diagonal()\nh[t] = tanh(x[t] @ W + h[t-1] @ U + h[t-1] @ D)"
    module, dense = Recurrent(cell, 3, 4, dtype=DOUBLE), Recurrent("elman", 3, 4, dtype=DOUBLE)
    layer = module.layers[0]
    assert layer.U.shape == (2, 2, 2) and layer.D.shape == (4,)
    with torch.no_grad():
        dense.layers[0].W.copy_(layer.W)
        dense.layers[0].U.copy_(torch.block_diag(*layer.U) + torch.diag(layer.D))
    assert_close([module(sequence(5, 2, 3))[0]], [dense(sequence(5, 2, 3))[0]])


def test_a_formula_looks_back_several_steps():
    module = Recurrent("h[t] = x[t] + 10 * x[t-2] + 100 * h[t-3]", 1, 1, dtype=DOUBLE)
    assert module.state_names == ("x", "x_lag2", "h", "h_lag2", "h_lag3")
    output, state = module(torch.arange(1.0, 6.0, dtype=DOUBLE).reshape(5, 1, 1))
    assert output.flatten().tolist() == [1, 2, 13, 24 + 100, 35 + 200]
    assert [value.item() for value in state] == [5, 4, 235, 124, 13]
