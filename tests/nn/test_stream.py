"""A layer as a stream: sample after sample as the whole sequence, whatever happens to the layer meanwhile."""

import copy
import pickle

import pytest
import torch

from cellula import Recurrent, UsageError

CELLS = ("lstm", "gru", "mlp")


def layer_of(cell="gru", backend="auto", **options):
    torch.manual_seed(0)
    return Recurrent(cell, 3, 8, dtype=torch.float64, backend=backend, **options)


def signal(steps=9, batch=2):
    return torch.randn(steps, batch, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def is_fast(stream):
    return stream._runner is not None


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 2])
def test_a_stream_gives_what_the_whole_sequence_gives(cell, layers):
    layer, x = layer_of(cell, num_layers=layers), signal()
    expected, final = layer(x)
    stream = layer.stream()
    assert stream.state is None
    found = torch.stack([stream(sample) for sample in x])
    torch.testing.assert_close(found, expected.detach(), rtol=1e-12, atol=1e-12)
    for value, wanted in zip(stream.state or (), final, strict=True):
        torch.testing.assert_close(value, wanted.detach(), rtol=1e-12, atol=1e-12)
    assert not found.requires_grad
    assert is_fast(stream) == (cell != "mlp")


def test_chunks_and_samples_may_take_turns_and_a_given_state_is_left_alone():
    layer, x = layer_of("lstm", batch_first=True), signal()
    start = layer.state(**{name: torch.randn(1, 2, 8, dtype=torch.float64) for name in ("h", "c")})
    kept = copy.deepcopy(start)
    expected, _ = layer(x.transpose(0, 1), start)
    stream = layer.stream(start)
    parts = [stream(x[0]), stream(x[1]), stream(x[2:6].transpose(0, 1)), stream(x[6]), stream(x[7]), stream(x[8])]
    found = torch.cat([part if part.ndim == 3 else part.unsqueeze(1) for part in parts], 1)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-12, atol=1e-12)
    assert all(torch.equal(value, other) for value, other in zip(start, kept, strict=True))


def test_a_state_that_was_asked_for_does_not_change_any_more():
    stream, x = layer_of().stream(), signal()
    for sample in x[:4]:
        stream(sample)
    before = stream.state
    copied = before.h.clone()
    stream(x[4])
    assert torch.equal(before.h, copied) and not torch.equal(stream.state.h, copied)


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.load_state_dict({name: value + 0.5 for name, value in layer.state_dict().items()}),
        lambda layer: setattr(layer.layers[0], "W_z", torch.nn.Parameter(layer.layers[0].W_z.detach() + 0.5)),
        lambda layer: layer.layers[0].W_z.data.add_(0.5),
        lambda layer: setattr(layer.layers[0].W_z, "data", layer.layers[0].W_z.data + 0.5),
    ],
)
def test_weights_that_change_count_from_the_next_sample(change):
    layer, x = layer_of(), signal()
    stream = layer.stream()
    for sample in x[:4]:
        stream(sample)
    state = stream.state
    change(layer)
    expected, _ = layer.step(x[4], state)
    torch.testing.assert_close(stream(x[4]), expected.detach(), rtol=1e-12, atol=1e-12)
    expected, _ = layer(x[4:7], state)
    stream(x[5])
    torch.testing.assert_close(stream(x[6]), expected[2].detach(), rtol=1e-12, atol=1e-12)


def test_rows_begin_anew_where_asked():
    layer, x = layer_of(initial_state="learned"), signal()
    with torch.no_grad():
        layer.layers[0].initial["h_0"].fill_(0.7)
    stream = layer.stream()
    for sample in x[:4]:
        stream(sample)
    stream.reset(torch.tensor([True, False]))
    found = stream(x[4])
    afresh, on = layer(x[4:5])[0][0], layer(x[:5])[0][4]
    torch.testing.assert_close(found[0], afresh[0].detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found[1], on[1].detach(), rtol=1e-12, atol=1e-12)
    stream.reset(torch.tensor([False, True]))
    chunk = stream(x[5:8])
    expected = layer(x[5:8], reset=torch.tensor([[False, True], [False, False], [False, False]]))[0]
    torch.testing.assert_close(chunk[:, 1], expected[:, 1].detach(), rtol=1e-12, atol=1e-12)
    stream.reset()
    assert stream.state is None
    torch.testing.assert_close(stream(x[4]), afresh.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda stream: pickle.loads(pickle.dumps(stream))])
def test_a_copy_goes_its_own_way(copied):
    stream, x = layer_of("lstm").stream(), signal()
    for sample in x[:4]:
        stream(sample)
    other = copied(stream)
    expected = [stream(sample) for sample in x[4:]]
    for sample in x:
        stream(sample)
    found = [other(sample) for sample in x[4:]]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_streams_share_a_layer():
    layer, x = layer_of(), signal()
    one, two = layer.stream(), layer.stream()
    for step in range(6):
        one(x[step])
        two(x[8 - step])
    torch.testing.assert_close(one.state.h, layer(x[:6])[1].h.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(two.state.h, layer(x.flip(0)[:6])[1].h.detach(), rtol=1e-12, atol=1e-12)


def test_what_a_kernel_cannot_read_goes_the_whole_way():
    layer, x = layer_of(), signal()
    stream = layer.stream()
    found = []
    for number, sample in enumerate(x):
        given = sample.t().contiguous().t() if number % 2 else sample
        found.append(stream(given.clone().requires_grad_() if number == 4 else given))
    torch.testing.assert_close(torch.stack(found), layer(x)[0].detach(), rtol=1e-12, atol=1e-12)
    with pytest.raises(UsageError, match=r"state\.h"):
        stream(x[0, :1])
    with pytest.raises(UsageError, match="the input of a step"):
        stream(x[0, 0])
    torch.testing.assert_close(stream.state.h, layer(x)[1].h.detach(), rtol=1e-12, atol=1e-12)


def test_while_training_masks_are_drawn():
    layer = layer_of("recurrent_dropout_lstm")
    stream = layer.stream()
    sample = torch.ones(64, 3, dtype=torch.float64)
    for _ in range(3):
        output = stream(sample)
    assert len({tuple(row.tolist()) for row in output}) > 1
    layer.eval()
    stream.reset()
    for _ in range(3):
        output = stream(sample)
    assert len({tuple(row.tolist()) for row in output}) == 1


def test_by_the_reference_too_but_not_in_both_directions():
    layer, x = layer_of(backend="reference"), signal()
    stream = layer.stream()
    found = torch.stack([stream(sample) for sample in x])
    torch.testing.assert_close(found, layer(x)[0].detach(), rtol=1e-12, atol=1e-12)
    assert not is_fast(stream)
    with pytest.raises(UsageError, match="bidirectional"):
        layer_of(bidirectional=True).stream()
