"""The grid: every way to call torch's layers, ours beside them; outputs, states and all gradients in float64."""

import itertools

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

from torch_pairs import assert_same, pair

STEPS, ROWS, INPUT, HIDDEN = 3, 3, 2, 3
# None is a padded tensor; the lengths of a packed one in falling order, or in any.
LENGTHS = (None, (3, 2, 1), (2, 3, 1), (3, 3, 3))
KINDS = [("LSTM", {}), ("LSTM", {"proj_size": 2}), ("GRU", {}), ("RNN", {}), ("RNN", {"nonlinearity": "relu"})]


def normal(generator, *shape, contiguous=True):
    """Random numbers; not contiguous: of the same shape, with a gap behind every one and axes the other way round."""
    if contiguous:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)
    wide = torch.randn(2 * shape[-1], *reversed(shape[:-1]), dtype=torch.float64, generator=generator)
    value = wide.permute(*reversed(range(wide.ndim)))[..., ::2]
    assert value.shape == shape and not value.is_contiguous()
    return value


def starts(module, generator, contiguous):
    layers = module.num_layers * (2 if module.bidirectional else 1)
    h = normal(generator, layers, ROWS, module.proj_size or HIDDEN, contiguous=contiguous)
    return (h, normal(generator, layers, ROWS, HIDDEN, contiguous=contiguous)) if module.mode == "LSTM" else h


@pytest.mark.parametrize(("name", "options"), KINDS, ids=lambda part: part if isinstance(part, str) else None)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("batch_first", [False, True], ids=["steps first", "batch first"])
def test_grid(name, options, bias, bidirectional, layers, batch_first):
    generator = torch.Generator().manual_seed(0)
    theirs, ours = pair(
        name, INPUT, HIDDEN, layers, bias=bias, bidirectional=bidirectional, batch_first=batch_first, **options
    )
    for contiguous, lengths, start in itertools.product([True, False], LENGTHS, [True, False]):
        shape = (ROWS, STEPS, INPUT) if batch_first else (STEPS, ROWS, INPUT)
        x = normal(generator, *shape, contiguous=contiguous)
        if lengths is not None:
            in_order = list(lengths) == sorted(lengths, reverse=True)
            x = pack_padded_sequence(x, torch.tensor(lengths), batch_first, enforce_sorted=in_order)
        hx = starts(theirs, generator, contiguous) if start else None
        assert_same(theirs, ours, x, *([] if hx is None else [hx]))
