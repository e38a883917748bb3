"""The layers that learn: against attention, gradients, sets with holes, and tasks that they solve."""

import copy

import pytest
import torch
from torch import nn

from cellula import Recurrent, UsageError
from cellula.nn.hopfield import (
    DenseHopfieldMemory,
    HopfieldAssociation,
    HopfieldLookup,
    HopfieldPooling,
)
from compare import assert_close, gradients

DOUBLE = torch.float64
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
STATES, STORED, ROWS = 5, 7, 3


def normal(*shape, seed=0, dtype=DOUBLE):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def drawn(module, seed=0):
    """The module with random parameters, biases too."""
    torch.manual_seed(seed)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.eval()


def attention(layer, heads):
    """torch's own attention with the weights of the layer."""
    twin = nn.MultiheadAttention(
        layer.association.hidden_size, heads, kdim=layer.stored_size, vdim=layer.stored_size, dtype=DOUBLE
    )
    with torch.no_grad():
        # Its queries are as wide as its inside: the layer's query map is applied before.
        twin.q_proj_weight.copy_(torch.eye(layer.association.hidden_size))
        twin.k_proj_weight.copy_(layer.key.weight)
        twin.v_proj_weight.copy_(layer.value.weight)
        zeros = torch.zeros_like(layer.key.bias)
        twin.in_proj_bias.copy_(torch.cat([zeros, layer.key.bias, layer.value.bias]))
        twin.out_proj.weight.copy_(layer.output.weight)
        twin.out_proj.bias.copy_(layer.output.bias)
    return twin


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("with_mask", [False, True])
def test_association_is_the_attention_of_torch(heads, with_mask):
    layer = drawn(HopfieldAssociation(8, 8, stored_size=6, num_heads=heads, dtype=DOUBLE))
    state, stored = normal(STATES, ROWS, 8).requires_grad_(), normal(STORED, ROWS, 6, seed=1).requires_grad_()
    mask = torch.rand(STORED, ROWS, generator=torch.Generator().manual_seed(2)) < 0.6 if with_mask else None
    found, weights = layer(state, stored, mask, with_weights=True)
    away = None if mask is None else ~mask.T
    expected, theirs = attention(layer, heads)(
        layer.query(state), stored, stored, key_padding_mask=away, average_attn_weights=False
    )
    assert_close([found, weights], [expected, theirs])
    leaves = [state, stored, layer.query.weight]
    assert_close(gradients([found], leaves), gradients([expected], leaves))


def test_association_by_the_printed_formula():
    """softmax(beta R W_Q W_K^T Y^T) Y W_V, and with more steps R W_Q goes towards the keys first."""
    for steps in (1, 2, 5):
        layer = drawn(HopfieldAssociation(4, 8, 3, beta=0.3, num_steps=steps, batch_first=True, dtype=DOUBLE))
        state, stored = normal(ROWS, STATES, 4), normal(ROWS, STORED, 4, seed=1)
        found = layer(state, stored)
        for row in range(ROWS):
            query, keys, values = layer.query(state[row]), layer.key(stored[row]), layer.value(stored[row])
            for _ in range(steps - 1):
                query = torch.softmax(0.3 * query @ keys.T, -1) @ keys
            expected = layer.output(torch.softmax(0.3 * query @ keys.T, -1) @ values)
            assert_close([found[row]], [expected])


def test_the_steps_of_a_layer_are_those_of_the_memory():
    layer = drawn(HopfieldAssociation(4, 4, beta=0.9, num_steps=3, dtype=DOUBLE))
    with torch.no_grad():
        for linear in (layer.query, layer.key, layer.value, layer.output):
            linear.weight.copy_(torch.eye(4))
            linear.bias.zero_()
    states, stored = normal(STATES, 1, 4), normal(STORED, 1, 4, seed=1)
    memory = DenseHopfieldMemory(0.9, dtype=DOUBLE).store(stored[:, 0])
    assert_close([layer(states, stored)[:, 0]], [memory.recall(states[:, 0], max_steps=3, tolerance=1e-300).state])


def test_a_set_with_itself():
    layer = drawn(HopfieldAssociation(4, 8, num_heads=2, dtype=DOUBLE))
    state = normal(STATES, ROWS, 4)
    assert torch.equal(layer(state), layer(state, state))
    order = torch.tensor([3, 1, 4, 0, 2])
    assert_close([layer(state[order])], [layer(state)[order]])


def test_pooling_is_association_with_learned_queries():
    pool = drawn(HopfieldPooling(4, 8, 5, num_queries=2, num_heads=2, dtype=DOUBLE))
    stored = normal(STORED, ROWS, 4)
    twin = drawn(HopfieldAssociation(8, 8, 5, stored_size=4, num_heads=2, dtype=DOUBLE))
    with torch.no_grad():
        twin.query.weight.copy_(torch.eye(8))
        twin.query.bias.zero_()
    twin.load_state_dict({**twin.state_dict(), **{k: v for k, v in pool.state_dict().items() if k != "query"}})
    queries = pool.query[:, None].expand(-1, ROWS, -1)
    found, weights = pool(stored, with_weights=True)
    expected, theirs = twin(queries, stored, with_weights=True)
    assert_close([found, weights], [expected.transpose(0, 1).flatten(1), theirs])
    assert_close([pool(stored.flip(0))], [found])


def test_lookup_is_association_with_learned_patterns():
    lookup = drawn(HopfieldLookup(4, 8, 5, num_patterns=6, num_heads=2, beta=0.5, num_steps=2, dtype=DOUBLE))
    state = normal(STATES, ROWS, 4)
    found, weights = lookup(state, with_weights=True)
    assert found.shape == (STATES, ROWS, 5) and weights.shape == (STATES, ROWS, 2, 6)
    assert_close([weights.sum(-1)], [torch.ones_like(weights[..., 0])])
    one, its = lookup(state[1, 2], with_weights=True)
    assert_close([one, its], [found[1, 2], weights[1, 2]])
    heads = []
    for half in (slice(0, 4), slice(4, 8)):
        query, keys = lookup.query(state[1, 2])[half], lookup.key[:, half]
        query = torch.softmax(0.5 * keys @ query, 0) @ keys
        heads.append(torch.softmax(0.5 * keys @ query, 0) @ lookup.value[:, half])
    assert_close([one], [lookup.output(torch.cat(heads))])


@pytest.mark.parametrize("make", [
    lambda **o: HopfieldAssociation(3, 4, 2, num_heads=2, num_steps=2, dtype=DOUBLE, **o),
    lambda **o: HopfieldPooling(3, 4, 2, num_queries=2, num_heads=2, num_steps=2, dtype=DOUBLE, **o),
])  # fmt: skip
def test_gradients_of_layers_over_sets_are_those_of_finite_differences(make):
    layer, stored = drawn(make()), normal(4, 2, 3).requires_grad_()
    mask = torch.tensor([[True, True], [True, False], [False, False], [True, False]])

    def run(stored, *parameters):
        call = dict(zip(dict(layer.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(layer, call, (stored,), {"mask": mask})

    assert torch.autograd.gradcheck(run, (stored, *layer.parameters()))
    assert torch.autograd.gradgradcheck(run, (stored, *layer.parameters()), atol=1e-4)
    first = drawn(make(batch_first=True))(stored.transpose(0, 1), mask=mask.T)
    found = layer(stored, mask=mask)
    assert_close([first if found.ndim == 2 else first.transpose(0, 1)], [found])


def test_gradients_of_the_lookup_are_those_of_finite_differences():
    layer, state = drawn(HopfieldLookup(3, 4, 2, num_patterns=3, num_steps=2, dtype=DOUBLE)), normal(2, 3)

    def run(state, *parameters):
        call = dict(zip(dict(layer.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(layer, call, (state,))

    assert torch.autograd.gradcheck(run, (state.requires_grad_(), *layer.parameters()))


@pytest.mark.parametrize("kind", [HopfieldAssociation, HopfieldPooling])
def test_what_is_not_there_is_not_read(kind):
    layer = drawn(kind(4, 8, dtype=DOUBLE))
    stored = normal(STORED, ROWS, 4)
    mask = torch.ones(STORED, ROWS, dtype=torch.bool)
    mask[4:, 0], mask[:, 1] = False, False
    hidden = stored.masked_fill(~mask[..., None], float("nan")).requires_grad_()
    found, weights = layer(hidden, mask=mask, with_weights=True)
    assert torch.isfinite(found).all() and not weights[1].any() and not weights[0, ..., 4:].any()
    alone = layer(stored[:4, :1])
    assert_close([found[0] if found.ndim == 2 else found[:4, 0]], [alone[0] if found.ndim == 2 else alone[:, 0]])
    # Where nothing is there, nothing is found: the bias is left.
    empty = found[1] if found.ndim == 2 else found[0, 1]
    assert_close([empty], [layer.output.bias])
    found.sum().backward()
    assert torch.isfinite(hidden.grad).all() and not hidden.grad[~mask].any()
    assert all(torch.isfinite(parameter.grad).all() for parameter in layer.parameters())


def test_dropout_drops_while_training_only():
    layer = HopfieldPooling(4, 8, dropout=0.5, dtype=DOUBLE)
    stored = normal(STORED, ROWS, 4)
    torch.manual_seed(0)
    assert not torch.equal(layer(stored), layer(stored))
    assert torch.equal(layer.eval()(stored), layer(stored))


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("device", DEVICES)
def test_dtypes_devices_copies_and_vmap(dtype, device):
    made = {"device": device, "dtype": dtype}
    x = normal(STORED, ROWS, 4, dtype=dtype).to(device)
    for layer in (HopfieldAssociation(4, 8, **made), HopfieldPooling(4, 8, **made), HopfieldLookup(4, 8, **made)):
        output = layer(x)
        assert output.dtype == dtype and output.device == x.device
        assert torch.equal(copy.deepcopy(layer)(x), output)
        stacked = torch.func.vmap(layer)(torch.stack([x, x + 1]))
        assert_close([stacked], [torch.stack([output, layer(x + 1)])], 1e-5)


def test_a_layer_prints_as_its_call():
    for text in (
        "HopfieldAssociation(4, 8)",
        "HopfieldAssociation(4, 8, output_size=5, stored_size=3, num_heads=2, beta=0.5, batch_first=True)",
        "HopfieldPooling(4, 8, num_queries=3, num_steps=2, dropout=0.1)",
        "HopfieldLookup(4, 8, num_patterns=7)",
    ):
        assert repr(eval(text)) == text


@pytest.mark.parametrize(("call", "message"), [
    (lambda: HopfieldAssociation(0, 8), "input_size is 0; write a whole number"),
    (lambda: HopfieldAssociation(4, 8, num_heads=3), "hidden_size=8 is no multiple of num_heads=3"),
    (lambda: HopfieldAssociation(4, 8, beta=-1.0), "beta is -1.0"),
    (lambda: HopfieldAssociation(4, 8, num_steps=0), "num_steps is 0"),
    (lambda: HopfieldAssociation(4, 8, dropout=1.0), "dropout is 1.0"),
    (lambda: HopfieldLookup(4, 8, num_patterns=0), "num_patterns is 0"),
    (lambda: HopfieldPooling(4, 8, num_queries=True), "num_queries is True"),
    (lambda: HopfieldAssociation(4, 8)(torch.zeros(5, 3)), r"the state is \[\.\.\., 4\], not \[5, 3\]"),
    (lambda: HopfieldAssociation(4, 8)(torch.zeros(5, 4)), r"the state is \[S, B, 4\] with at least one pattern"),
    (lambda: HopfieldPooling(4, 8)(torch.zeros(0, 2, 4)), "at least one pattern"),
    (lambda: HopfieldPooling(4, 8)(torch.zeros(5, 2, 4, dtype=torch.long)), "floating point numbers, not torch.int64"),
    (lambda: HopfieldAssociation(4, 8)(torch.zeros(5, 2, 4), torch.zeros(5, 3, 4)), "2 sets of states, but 3"),
    (lambda: HopfieldAssociation(4, 8, stored_size=3)(torch.zeros(5, 2, 4)), "give `stored`"),
    (lambda: HopfieldPooling(4, 8)(torch.zeros(5, 2, 4), torch.ones(2, 5, dtype=torch.bool)), r"truth values \[5, 2\]"),
    (lambda: HopfieldPooling(4, 8)(torch.zeros(5, 2, 4), torch.ones(5, 2)), "not torch.float32"),
    (lambda: HopfieldLookup(4, 8)(torch.zeros(5, 3)), r"the state is \[\.\.\., 4\], not \[5, 3\]"),
])  # fmt: skip
def test_refusals(call, message):
    with pytest.raises(UsageError, match=message):
        call()


# Tasks.

NEEDLE = torch.where(normal(12, seed=99) > 0, 1.0, -1.0).float()


def bags(count, size, seed):
    """Bags of random patterns of -1 and 1 with holes [S, B, 12]; half of them hold the needle, slightly noisy, once."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 2, (size, count, 12), generator=draw).float() * 2 - 1
    label = torch.randint(0, 2, (count,), generator=draw).bool()
    x[0, label] = NEEDLE
    x += 0.1 * torch.randn(x.shape, generator=draw)
    mask = torch.rand(size, count, generator=draw) < 0.8
    mask[0] = True
    order = torch.rand(size, generator=draw).argsort()
    return x[order], mask[order], label.float()


class MeanPooling(nn.Module):
    """What pooling by the mean makes of the same task."""

    def forward(self, x, mask):
        return (x * mask[..., None]).sum(0) / mask.sum(0)[:, None]


def train_on_bags(pool, width, rounds=200):
    """The share of right answers on new bags."""
    torch.manual_seed(0)
    readout = nn.Sequential(nn.Linear(width, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.Adam([*pool.parameters(), *readout.parameters()], lr=0.01)
    for number in range(rounds):
        x, mask, label = bags(64, 40, number)
        loss = nn.functional.binary_cross_entropy_with_logits(readout(pool(x, mask))[:, 0], label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x, mask, label = bags(1000, 40, 10_000)
    with torch.no_grad():
        return ((readout(pool(x, mask))[:, 0] > 0) == label.bool()).float().mean().item()


def test_pooling_finds_the_one_pattern_that_matters():
    """Multiple instances: a bag of 40 patterns is positive where one of them is the needle."""
    torch.manual_seed(0)
    pool = HopfieldPooling(12, 32, 8)
    right, by_mean = train_on_bags(pool, 8), train_on_bags(MeanPooling(), 12)
    assert right >= 0.97 and by_mean <= 0.75, (right, by_mean)
    x, mask, label = bags(200, 40, 20_000)
    _, weights = pool(x, mask, with_weights=True)
    likeness = (x @ NEEDLE).masked_fill(~mask, -99.0)  # [S, B]
    found = weights[:, 0, 0].argmax(-1) == likeness.argmax(0)
    assert found[label.bool()].float().mean() >= 0.95


def test_lookup_learns_a_table():
    torch.manual_seed(0)
    keys, values = normal(10, 6, dtype=torch.float32), normal(10, 3, seed=1, dtype=torch.float32)
    lookup = HopfieldLookup(6, 32, 3, num_patterns=10)
    optimizer = torch.optim.Adam(lookup.parameters(), lr=0.02)
    for _ in range(300):
        row = torch.randint(0, 10, (64,))
        loss = (lookup(keys[row] + 0.05 * torch.randn(64, 6)) - values[row]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (lookup(keys) - values).square().mean() < 0.02 * values.var()


def test_pooling_behind_a_recurrent_layer():
    """Sets are [T, B, ...] as sequences are, so that outputs over time are pooled as they come."""
    output, _ = Recurrent("gru", 3, 8)(torch.randn(20, 4, 3), lengths=(lengths := torch.tensor([20, 3, 7, 1])))
    pooled = HopfieldPooling(8, 16, 5)(output, mask=torch.arange(20)[:, None] < lengths)
    assert pooled.shape == (4, 5)
