"""Packed sequences in and out, and plain lengths beside them."""

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence

import cellula.nn
from cellula import UsageError
from compare import assert_close
from torch_pairs import LAYERS, assert_same, pair, tensors_of

DOUBLE = torch.float64


def rows(*lengths):
    return [torch.randn(length, 3, dtype=DOUBLE) for length in lengths]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("lengths", [(5, 3, 3, 1), (2, 5, 1, 4), (4, 4), (1,)], ids=str)
def test_packed_in_and_out(name, lengths):
    theirs, ours = pair(name, 3, 4, 2, bidirectional=True)
    in_order = list(lengths) == sorted(lengths, reverse=True)
    packed = pack_sequence(rows(*lengths), enforce_sorted=in_order)
    assert (packed.sorted_indices is None) == in_order
    found, _ = assert_same(theirs, ours, packed)
    expected, _ = theirs(packed)
    assert isinstance(found, PackedSequence)
    for one, other in zip(found[1:], expected[1:], strict=True):
        assert one is other or torch.equal(one, other)
    assert_close(pad_packed_sequence(found)[:1], pad_packed_sequence(expected)[:1])


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_lengths_are_what_packing_is(name, batch_first):
    lengths = [2, 5, 1, 4]
    theirs, ours = pair(name, 3, 4, 2, bidirectional=True, batch_first=batch_first)
    x = torch.randn(*((4, 5) if batch_first else (5, 4)), 3, dtype=DOUBLE)
    packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first, enforce_sorted=False)
    output, state = theirs(packed)
    output = pad_packed_sequence(output, batch_first)[0]
    for given in (lengths, torch.tensor(lengths), torch.tensor(lengths, dtype=torch.int32)):
        found, after = ours(x, lengths=given)
        assert_close([found, *tensors_of(after)], [output, *tensors_of(state)])


@pytest.mark.parametrize("name", LAYERS)
def test_what_lies_behind_the_end_is_not_read_and_a_row_may_be_empty(name):
    module = getattr(cellula.nn, name)(3, 4, 2, bidirectional=True, dtype=DOUBLE)
    lengths, x = [4, 0, 2], torch.randn(4, 3, 3, dtype=DOUBLE)
    for row, length in enumerate(lengths):
        x[length:, row] = torch.nan
    x.requires_grad_()
    output, state = module(x, lengths=lengths)
    output.sum().backward()
    assert all(value.isfinite().all() for value in (output, x.grad, *tensors_of(state)))
    for row, length in enumerate(lengths):
        assert not output[length:, row].any() and not x.grad[length:, row].any()
        if length:
            alone, last = module(x[:length, row])
            assert_close([output[:length, row]], [alone])
            assert_close([value[:, row] for value in tensors_of(state)], tensors_of(last))
    with pytest.raises(RuntimeError, match="greater than 0"):
        pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)


def test_lengths_without_a_batch():
    module, x = cellula.nn.GRU(3, 4, dtype=DOUBLE), torch.randn(5, 3, dtype=DOUBLE)
    output, state = module(x, lengths=3)
    assert_close([output[:3], state], list(module(x[:3])))
    assert not output[3:].any()


@pytest.mark.parametrize("batch_first", [False, True])
def test_records_of_packed_rows_are_in_the_callers_order(batch_first):
    module = cellula.nn.LSTM(3, 4, 2, bidirectional=True, batch_first=batch_first, dtype=DOUBLE)
    given = rows(2, 5, 3)
    _, _, found = module(pack_sequence(given, enforce_sorted=False), record=("f", "h"))
    x = torch.nn.utils.rnn.pad_sequence(given, batch_first)
    _, _, expected = module(x, lengths=[2, 5, 3], record=("f", "h"))
    assert found["f"].shape == ((4, 3, 5, 4) if batch_first else (4, 5, 3, 4))
    assert_close(found, expected)
    _, _, alone = module(given[0], record="f")
    assert_close([alone["f"]], [found["f"][:, 0, :2] if batch_first else found["f"][:, :2, 0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda module, x: module(x, lengths=[5, 6]), "lengths holds 6, but the rows have 0 to 5 steps"),
        (lambda module, x: module(x, lengths=[5]), "for each of the 2 rows"),
        (lambda module, x: module(x, lengths=torch.ones(2)), "a whole number"),
        (lambda module, x: module(pack_sequence([x[:, 0]]), lengths=[5]), "lengths of its own"),
    ],
)
def test_lengths_that_do_not_fit(call, message):
    with pytest.raises(UsageError, match=message):
        call(cellula.nn.LSTM(3, 4), torch.zeros(5, 2, 3))


def test_a_packed_sequence_that_does_not_fit():
    module = cellula.nn.LSTM(3, 4)
    wide, narrow, good = (pack_sequence([torch.zeros(5, *units)]) for units in ((2, 3), (2,), (3,)))
    h = torch.zeros(1, 2, 4)
    for packed, hx, message in (
        (wide, None, "must have 2 dimensions, got 3"),
        (narrow, None, "Expected 3, got 2"),
        (good, (h, h), r"Expected hidden\[0\] size \(1, 1, 4\), got \[1, 2, 4\]"),
        (good, (h[0], h[0]), "should also be 3-D but got 2-D"),
    ):
        with pytest.raises(RuntimeError, match=message):
            module(packed, hx)
