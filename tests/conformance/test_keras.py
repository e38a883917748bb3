"""Keras's published golden arrays for LSTM, GRU and SimpleRNN.

The numbers are those of Keras 3, keras/src/layers/rnn/{lstm,gru,simple_rnn}_test.py (Apache License 2.0): the input
counts 0, 1, 2, ...; kernels are 0.01, recurrent kernels 0.02, biases 0.03, the LSTM's forget bias 1 unless it says
otherwise.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

import cellula.nn
from cellula import Recurrent


@dataclass(frozen=True)
class Golden:
    """One array: the layer, its input's shape [B, T, I], how it is made and called, its output after the last step.

    Args:
        rows: units that are all alike are written once; where there are several, all of them.
        options: Keras's arguments.
        mask: which steps count.
        calls: how often a stateful layer is called.
    """

    layer: str
    units: int
    shape: tuple[int, int, int]
    rows: list[Any]
    options: dict[str, Any] = field(default_factory=dict)
    start: bool = False
    mask: list[list[bool]] | None = None
    calls: int = 1


HOLES = [[True, True, False, True], [True, False, False, True]]
ENDS = [[True, True, True, False], [True, True, False, False]]
BEGINNINGS = [[False, True, True, True], [False, False, True, True]]
BACKWARDS = {"go_backwards": True}

TABLE = [
    Golden("LSTM", 3, (3, 6, 4), [0.6288687, 0.86899155, 0.9460773]),
    Golden("LSTM", 3, (3, 6, 4), [0.35622165, 0.74789524, 0.8872726], BACKWARDS),
    Golden("LSTM", 3, (3, 6, 4), [0.57019705, 0.8661914, 0.9459622], {"unit_forget_bias": False}),
    Golden("LSTM", 3, (3, 6, 4), [0.54986924, 0.86226785, 0.9443936], {"use_bias": False}),
    Golden("LSTM", 4, (2, 3, 4), [0.3124785, 0.6863672], calls=2),
    Golden("LSTM", 2, (2, 4, 3), [[0.20574439, 0.3558822], [0.64930826, 0.66276]], start=True),
    Golden("LSTM", 2, (2, 4, 3), [[0.13281618, 0.2790356], [0.5839337, 0.5992567]], BACKWARDS, start=True),
    Golden("LSTM", 2, (2, 4, 3), [0.11755939, 0.28556206], mask=ENDS),
    Golden("LSTM", 2, (2, 4, 3), [0.15341201, 0.3844719], BACKWARDS, mask=BEGINNINGS),
    Golden("GRU", 3, (3, 6, 4), [0.5217289, 0.6371659, 0.39384964]),
    Golden("GRU", 3, (3, 6, 4), [0.24406259, 0.611516, 0.3928808], BACKWARDS),
    Golden("GRU", 3, (3, 6, 4), [0.51447755, 0.6426879, 0.40208298], {"reset_after": False}),
    Golden("GRU", 3, (3, 6, 4), [0.49988455, 0.64701194, 0.4103359], {"use_bias": False}),
    Golden("GRU", 4, (2, 3, 4), [0.29542392, 0.5885018], calls=2),
    Golden("GRU", 2, (2, 4, 3), [[0.23774096, 0.33508456], [0.83659905, 1.0227708]], start=True),
    Golden("GRU", 2, (2, 4, 3), [[0.13486053, 0.23261218], [0.78257304, 0.9691353]], BACKWARDS, start=True),
    Golden("GRU", 2, (2, 4, 3), [0.19393763, 0.30818558], mask=HOLES),
    Golden("GRU", 2, (2, 4, 3), [0.11669192, 0.28380975], BACKWARDS, mask=HOLES),
    Golden("SimpleRNN", 4, (2, 3, 4), [0.405432, 0.73605347]),
    Golden("SimpleRNN", 4, (2, 3, 4), [0.11144729, 0.5528889], BACKWARDS),
    Golden("SimpleRNN", 4, (2, 3, 4), [0.40559256, 0.7361247], calls=2),
    Golden("SimpleRNN", 4, (2, 4, 3), [0.33621645, 0.6262637], start=True),
    Golden("SimpleRNN", 4, (2, 4, 3), [0.07344437, 0.43043602], BACKWARDS, start=True),
    Golden("SimpleRNN", 4, (2, 4, 3), [0.32951632, 0.61799484], mask=HOLES),
    Golden("SimpleRNN", 4, (2, 4, 3), [0.07376196, 0.43645123], BACKWARDS, mask=HOLES),
]
# LSTM, return_sequences and zero_output_for_mask: every step of the case with the mask ENDS.
SERIES = [[0.01588910, 0.05552048, 0.11755939, 0.0], [0.14185596, 0.28556206, 0.0, 0.0]]


def layer_of(case):
    """Our layer with Keras's weights: its one bias is the first of torch's two; a GRU that resets after has both."""
    bias = case.options.get("use_bias", True)
    if not case.options.get("reset_after", True):
        module = Recurrent("gru", case.shape[2], case.units)
    else:
        module = getattr(cellula.nn, case.layer.removeprefix("Simple"))(case.shape[2], case.units, bias=bias)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.fill_(next(value for start, value in FILL if name.rpartition(".")[2].startswith(start)))
        if bias and case.layer == "LSTM" and case.options.get("unit_forget_bias", True):
            module.bias_ih_l0[case.units : 2 * case.units] = 1.0
        if bias and case.layer != "GRU":
            module.bias_hh_l0.zero_()
    return module


FILL = (("weight_ih", 0.01), ("W_", 0.01), ("weight_hh", 0.02), ("U_", 0.02), ("bias", 0.03), ("b_", 0.03))


def input_of(case):
    """Keras's input and mask as ours: steps first, the masked ones cut out, what is left at the beginning."""
    x = torch.arange(float(np.prod(case.shape))).reshape(case.shape).transpose(0, 1)
    mask = torch.ones(x.shape[:2], dtype=torch.bool) if case.mask is None else torch.tensor(case.mask).T
    if case.options.get("go_backwards"):
        x, mask = x.flip(0), mask.flip(0)
    rows = [x[mask[:, row], row] for row in range(x.shape[1])]
    return torch.nn.utils.rnn.pad_sequence(rows), [len(row) for row in rows]


def start_of(case):
    start = torch.arange(float(case.shape[0] * case.units)).reshape(1, case.shape[0], case.units)
    return (start, start) if case.layer == "LSTM" else start


def describe(case):
    return f"{case.layer} {case.options or ''} {'start ' * case.start}{'mask' if case.mask else ''}{case.calls}"


@pytest.mark.parametrize("case", TABLE, ids=describe)
def test_golden(case):
    module, (x, lengths) = layer_of(case), input_of(case)
    state = start_of(case) if case.start else None
    for _ in range(case.calls):
        output, state = module(x, state, lengths=lengths)
    last = output[torch.tensor(lengths) - 1, torch.arange(len(lengths))]
    expected = torch.tensor(case.rows)
    expected = expected if expected.ndim == 2 else expected[:, None].expand(-1, case.units)
    torch.testing.assert_close(last, expected, atol=1e-5, rtol=1e-5)


def test_all_steps_of_masked_rows():
    case = Golden("LSTM", 2, (2, 4, 3), [], mask=ENDS)
    x, lengths = input_of(case)
    output, _ = layer_of(case)(x, lengths=lengths)
    expected = torch.tensor(SERIES)[:, : x.shape[0], None].expand(-1, -1, 2)
    torch.testing.assert_close(output.transpose(0, 1), expected, atol=1e-5, rtol=1e-5)


def test_another_number_is_noticed():
    case = TABLE[0]
    with pytest.raises(AssertionError):
        test_golden(Golden(case.layer, case.units, case.shape, [0.6288687, 0.86899155, 0.9461]))
