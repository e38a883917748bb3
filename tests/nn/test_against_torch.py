"""Outputs, states and all gradients to float64 rounding: against torch.nn, and against loops written by hand."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import by_hand
from cellula import Recurrent, cells
from compare import assert_close, gradients

DOUBLE = torch.float64
# torch's gates in the order of its stacked weights, and what our formula calls their matrices and biases.
TORCH = {
    "elman": (nn.RNN, [("W", "U", "b", None)]),
    "lstm": (nn.LSTM, [(f"W_{k}", f"U_{k}", f"b_{k}", None) for k in "ifgo"]),
    "gru_torch": (nn.GRU, [("W_r", "U_r", "b_r", None), ("W_z", "U_z", "b_z", None), ("W_n", "U_n", "b_n", "c_n")]),
}


def copy_weights(name, theirs, ours):
    """Ours take torch's weights; torch's two biases are one, save where the formula has two."""
    for number, direction in enumerate(ours.layers):
        layer, side = divmod(number, ours.directions)
        end = f"l{layer}{'_reverse' if side else ''}"
        w, u, b, c = (getattr(theirs, f"{kind}_{end}").chunk(len(TORCH[name][1])) for kind in
                      ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))  # fmt: skip
        with torch.no_grad():
            for gate, (input_name, state_name, bias, second) in enumerate(TORCH[name][1]):
                getattr(direction, input_name).copy_(w[gate].T)
                getattr(direction, state_name).copy_(u[gate].T)
                getattr(direction, bias).copy_(b[gate] if second else b[gate] + c[gate])
                if second:
                    getattr(direction, second).copy_(c[gate])


def torch_gradients(name, found, ours):
    """torch's gradients, by our names."""
    renamed = {}
    for number in range(len(ours.layers)):
        layer, side = divmod(number, ours.directions)
        end = f"l{layer}{'_reverse' if side else ''}"
        w, u, b, c = (found[f"{kind}_{end}"].chunk(len(TORCH[name][1])) for kind in
                      ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))  # fmt: skip
        for gate, (input_name, state_name, bias, second) in enumerate(TORCH[name][1]):
            renamed |= {f"layers.{number}.{input_name}": w[gate].T, f"layers.{number}.{state_name}": u[gate].T}
            renamed[f"layers.{number}.{bias}"] = b[gate]
            renamed |= {f"layers.{number}.{second}": c[gate]} if second else {}
    return renamed


@pytest.mark.parametrize("lengths", [None, [5, 2, 4, 1]], ids=["full", "ragged"])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("name", TORCH)
def test_torch_nn(name, layers, directions, lengths):
    torch.manual_seed(layers + 10 * directions)
    theirs = TORCH[name][0](3, 4, layers, bidirectional=directions == 2).double()
    ours = Recurrent(name, 3, 4, layers, directions == 2, dtype=DOUBLE)
    copy_weights(name, theirs, ours)
    x = torch.randn(5, 4, 3, dtype=DOUBLE, requires_grad=True)
    start = {k: torch.randn(layers * directions, 4, 4, dtype=DOUBLE, requires_grad=True) for k in ours.state_names}
    given = (start["h"], start["c"]) if name == "lstm" else start["h"]
    packed = x if lengths is None else pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    output, last = theirs(packed, given)
    output = output if lengths is None else pad_packed_sequence(output, total_length=5)[0]
    last = dict(zip(("h", "c"), last if name == "lstm" else (last,), strict=False))
    found, state = ours(x, ours.state(**start), lengths=lengths)
    expected = {"output": output, **{k: last[k] for k in ours.state_names}}
    actual = {"output": found, **state._asdict()}
    assert_close(actual, expected)
    ours_wanted = {"x": x, **start, **dict(ours.named_parameters())}
    theirs_wanted = {"x": x, **start, **dict(theirs.named_parameters())}
    one = dict(zip(ours_wanted, gradients(actual.values(), list(ours_wanted.values())), strict=True))
    other = dict(zip(theirs_wanted, gradients(expected.values(), list(theirs_wanted.values())), strict=True))
    assert_close(one, {k: other[k] for k in ("x", *start)} | torch_gradients(name, other, ours))


@pytest.mark.parametrize("name", by_hand.STEPS)
def test_loops_written_by_hand(name):
    torch.manual_seed(1)
    module = Recurrent(name, 3, 4, dtype=DOUBLE)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(5, 2, 3, dtype=DOUBLE, requires_grad=True)
    start = [torch.randn(1, 2, 4, dtype=DOUBLE, requires_grad=True) for _ in module.state_names]
    found, state = module(x, tuple(start))
    parameters = dict(module.layers[0].named_parameters())
    output, last = by_hand.run(name, x, tuple(value[0] for value in start), parameters)
    wanted = [x, *start, *parameters.values()]
    assert_close([found, *state], [output, *(value.unsqueeze(0) for value in last)])
    assert_close(gradients([found, *state], wanted), gradients([output, *(v.unsqueeze(0) for v in last)], wanted))


def test_every_cell_of_the_zoo_is_written_by_hand():
    assert set(by_hand.STEPS) <= set(cells())
