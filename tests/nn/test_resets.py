"""Resets inside a sequence: where the mask is true, a row begins anew, as if the sequence had been cut there."""

from itertools import pairwise

import pytest
import torch

import cellula.nn
from cellula import Recurrent, UsageError
from compare import assert_close, gradients
from torch_pairs import LAYERS, pair, tensors_of

DOUBLE = torch.float64
STEPS, ROWS = 7, 4
# Nowhere; once; at the first, two in a row; everywhere.
WHERE = [[], [3], [0, 4, 5], list(range(STEPS))]


def mask():
    found = torch.zeros(STEPS, ROWS, dtype=torch.bool)
    for row, steps in enumerate(WHERE):
        found[steps, row] = True
    return found


def pieces(row, length=STEPS):
    """The steps of a row from one reset to the next."""
    edges = sorted({0, *(step for step in WHERE[row] if step < length), length})
    return list(pairwise(edges))


def in_pieces(module, x, state, lengths):
    """Every piece by itself: outputs [T, B, H] and last state; `state` counts where no reset is at step 0."""
    outputs, states = [], []
    for row, length in enumerate(lengths):
        start = None if 0 in WHERE[row] or state is None else [value[:, row : row + 1] for value in state]
        found = []
        for begin, end in pieces(row, length):
            output, after = module(x[begin:end, row : row + 1], start and tuple(start))
            found.append(output)
            start = None
        outputs.append(torch.cat([*found, torch.zeros(STEPS - length, 1, found[0].shape[-1], dtype=DOUBLE)]))
        states.append(after)
    return torch.cat(outputs, 1), [torch.cat(parts, 1) for parts in zip(*states, strict=True)]


@pytest.mark.parametrize("lengths", [[7, 7, 7, 7], [7, 3, 5, 6]], ids=["full", "ragged"])
@pytest.mark.parametrize("given", [False, True], ids=["from the start", "from a state"])
@pytest.mark.parametrize("initial", ["zero", "learned"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "h[t] = tanh(x[t-1] @ W + h[t-2] @ U)"])
def test_a_reset_begins_anew(cell, initial, given, lengths):
    torch.manual_seed(1)
    module = Recurrent(cell, 3, 4, initial_state=initial, dtype=DOUBLE)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(STEPS, ROWS, 3, dtype=DOUBLE, requires_grad=True)
    sizes = module.layers[0].state_sizes
    state = tuple(torch.randn(1, ROWS, size, dtype=DOUBLE, requires_grad=True) for size in sizes.values())
    state = state if given else None
    found, after = module(x, state, lengths=lengths, reset=mask())
    expected, last = in_pieces(module, x, state, lengths)
    leaves = [x, *(state or ()), *module.parameters()]
    assert_close([found, *after], [expected, *last])
    assert_close(gradients([found, *after], leaves), gradients([expected, *last], leaves))


@pytest.mark.parametrize("lengths", [[7, 7, 7, 7], [7, 3, 5, 6]], ids=["full", "ragged"])
def test_nothing_crosses_a_reset_from_either_side(lengths):
    module = Recurrent("gru", 3, 4, 2, bidirectional=True, dtype=DOUBLE)
    x = torch.randn(STEPS, ROWS, 3, dtype=DOUBLE)
    output, _ = module(x, lengths=lengths, reset=mask())
    for row, length in enumerate(lengths):
        for begin, end in pieces(row, length):
            assert_close([output[begin:end, row]], [module(x[begin:end, row : row + 1])[0][:, 0]])


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_resets_of_the_drop_ins(name, batch_first):
    """torch has to be called piece by piece, row by row."""
    theirs, ours = pair(name, 3, 4, 2, bidirectional=True)
    x, reset = torch.randn(STEPS, ROWS, 3, dtype=DOUBLE), mask()
    with pytest.raises(TypeError, match="reset"):
        theirs(x, reset=reset)
    ours.batch_first = batch_first
    flip = (lambda value: value.transpose(0, 1)) if batch_first else (lambda value: value)
    output, _ = ours(flip(x), reset=flip(reset))
    for row in range(ROWS):
        for begin, end in pieces(row):
            assert_close([flip(output)[begin:end, row]], [theirs(x[begin:end, row])[0]])
    alone, state = ours(x[:, 2], reset=reset[:, 2])
    assert_close([alone], [flip(output)[:, 2]])
    assert all(value.shape == (4, 4) for value in tensors_of(state))
    packed = torch.nn.utils.rnn.pack_sequence([x[:4, 0], x[:, 1], x[:6, 2], x[:, 3]], enforce_sorted=False)
    found, _ = ours(packed, reset=flip(reset))
    expected, _ = ours(flip(x), lengths=[4, 7, 6, 7], reset=flip(reset))
    assert_close([torch.nn.utils.rnn.pad_packed_sequence(found, batch_first)[0]], [expected])


def test_step_by_step_with_resets_is_the_whole_sequence():
    module, x, reset = Recurrent("lstm", 3, 4, 2, dtype=DOUBLE), torch.randn(STEPS, ROWS, 3, dtype=DOUBLE), mask()
    output, last = module(x, reset=reset)
    state, outputs = None, []
    for step in range(STEPS):
        one, state = module.step(x[step], state, reset=reset[step])
        outputs.append(one)
    assert_close([torch.stack(outputs), *state], [output, *last])


@pytest.mark.parametrize("module", [Recurrent("lstm", 3, 4), cellula.nn.LSTM(3, 4)], ids=["Recurrent", "LSTM"])
@pytest.mark.parametrize(
    ("reset", "message"),
    [
        (torch.zeros(STEPS, ROWS), r"a mask of booleans \[7, 4\], not a tensor of torch.float32; write \(done != 0\)"),
        ([[True]], "not list"),
        (torch.zeros(ROWS, STEPS, dtype=torch.bool), r"a mask \[7, 4\], one value a step and row, not \[4, 7\]"),
    ],
    ids=["numbers", "list", "shape"],
)
def test_masks_that_do_not_fit(module, reset, message):
    with pytest.raises(UsageError, match=message):
        module(torch.zeros(STEPS, ROWS, 3), reset=reset)
