"""As any other torch module: weights both ways, copies, types, ties, parametrizations, hooks."""

import copy
import io
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrizations, parametrize

import cellula.nn
from torch_pairs import CELLS, LAYERS, assert_same, pair, tensors_of

DOUBLE = torch.float64


def input_of(name):
    return torch.randn(2, 3, dtype=DOUBLE) if name in CELLS else torch.randn(5, 2, 3, dtype=DOUBLE)


def output(module, x):
    return tensors_of(module(x))[0]


@pytest.mark.parametrize("name", (*LAYERS, *CELLS))
def test_weights_go_both_ways(name):
    options = {"num_layers": 2, "bidirectional": True} if name in LAYERS else {}
    theirs, ours = (getattr(source, name)(3, 4, **options, dtype=DOUBLE) for source in (nn, cellula.nn))
    x = input_of(name)
    assert not torch.allclose(output(theirs, x), output(ours, x))
    assert str(ours.load_state_dict(theirs.state_dict())) == "<All keys matched successfully>"
    assert_same(theirs, ours, x)
    other = getattr(cellula.nn, name)(3, 4, **options, dtype=DOUBLE)
    assert str(theirs.load_state_dict(other.state_dict())) == "<All keys matched successfully>"
    assert_same(theirs, other, x)


@pytest.mark.parametrize("name", (*LAYERS, *CELLS))
def test_copies(name):
    module, x = getattr(cellula.nn, name)(3, 4, dtype=DOUBLE), input_of(name)
    expected, file = output(module, x), io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    fresh = getattr(cellula.nn, name)(3, 4, dtype=DOUBLE)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), fresh):
        assert torch.equal(output(other, x), expected)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
        assert torch.equal(output(module, x), expected), "a copy shares its weights"


@pytest.mark.parametrize("name", (*LAYERS, *CELLS))
def test_types_and_devices(name):
    module, x = getattr(cellula.nn, name)(3, 4), input_of(name)
    for change, dtype in (("half", torch.float16), ("bfloat16", torch.bfloat16), ("double", DOUBLE)):
        getattr(module, change)()
        assert output(module, x.to(dtype)).dtype == dtype
    assert output(module.to(torch.float32), x.float()).dtype == torch.float32
    assert output(module.to("meta"), x.float().to("meta")).is_meta
    empty = getattr(cellula.nn, name)(3, 4, device="meta", dtype=DOUBLE).to_empty(device="cpu")
    empty.reset_parameters()
    assert output(empty, x).isfinite().all()


@pytest.mark.parametrize("name", (*LAYERS, *CELLS))
def test_functional_call_uses_the_given_weights(name):
    theirs, ours = pair(name, 3, 4)
    x = input_of(name)
    other = {key: value + 1 for key, value in ours.state_dict().items()}
    expected, found = (tensors_of(functional_call(module, other, (x,)))[0] for module in (theirs, ours))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(output(ours, x), output(theirs, x))


@pytest.mark.parametrize("name", LAYERS)
def test_tied_weights(name):
    theirs, ours = pair(name, 4, 4, 2)
    for module in (theirs, ours):
        module.weight_hh_l1, module.weight_ih_l1 = module.weight_hh_l0, module.weight_ih_l0
    ours.load_state_dict(theirs.state_dict())
    assert len(list(ours.parameters())) == 6
    assert_same(theirs, ours, torch.randn(5, 2, 4, dtype=DOUBLE))
    between = (cellula.nn.GRU(3, 4, dtype=DOUBLE), cellula.nn.GRU(3, 4, dtype=DOUBLE))
    between[1].weight_hh_l0 = between[0].weight_hh_l0
    sum(output(module, input_of(name)).sum() for module in between).backward()
    assert between[0].weight_hh_l0.grad.any() and len({id(p) for m in between for p in m.parameters()}) == 7


@pytest.mark.parametrize(
    "wrap", [parametrizations.weight_norm, parametrizations.spectral_norm, parametrizations.orthogonal]
)
@pytest.mark.parametrize("name", LAYERS)
def test_parametrizations(name, wrap):
    theirs, ours = pair(name, 3, 4, 2)
    for module in (theirs, ours):
        torch.manual_seed(0)
        wrap(module, "weight_hh_l1")
    ours.load_state_dict(theirs.state_dict())
    x = input_of(name)
    assert_same(theirs.eval(), ours.eval(), x)
    before = output(ours, x)
    assert torch.equal(output(copy.deepcopy(ours), x), before)
    with pytest.raises(RuntimeError, match="Only Tensors created explicitly by the user"):
        theirs(x)
        copy.deepcopy(theirs)
    for module in (theirs, ours):
        parametrize.remove_parametrizations(module, "weight_hh_l1")
    assert type(ours) is getattr(cellula.nn, name) and torch.allclose(output(ours, x), before)


def test_weight_norm_of_the_old_kind():
    x = input_of("GRU")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        theirs, ours = pair("GRU", 3, 4)
        for module in (theirs, ours):
            nn.utils.weight_norm(module, "weight_hh_l0")
    assert_same(theirs, ours, x)


@pytest.mark.parametrize("name", LAYERS)
def test_hooks_run(name):
    module, seen = getattr(cellula.nn, name)(3, 4, dtype=DOUBLE), []
    module.register_forward_pre_hook(lambda _, inputs: seen.append("before"))
    module.register_forward_hook(lambda _, inputs, result: seen.append("after"))
    module.register_full_backward_hook(lambda _, into, out: seen.append("gradient"))
    module.weight_hh_l0.register_hook(lambda gradient: seen.append("weight"))
    output(module, input_of(name).requires_grad_()).sum().backward()
    assert sorted(seen) == ["after", "before", "gradient", "weight"]


@pytest.mark.parametrize("name", LAYERS)
def test_flatten_parameters_does_nothing(name):
    module, x = getattr(cellula.nn, name)(3, 4, dtype=DOUBLE), input_of(name)
    places, before = [parameter.data_ptr() for parameter in module.parameters()], output(module, x)
    assert module.flatten_parameters() is None
    assert [parameter.data_ptr() for parameter in module.parameters()] == places
    assert torch.equal(output(module, x), before)


@pytest.mark.parametrize("name", LAYERS)
def test_weights_that_are_changed_in_any_way_are_seen(name):
    theirs, ours = pair(name, 3, 4)
    x = input_of(name)
    for module in (theirs, ours):
        with torch.no_grad():
            module.weight_hh_l0.mul_(2)
        module.bias_ih_l0.data.fill_(0.5)
        module.weight_ih_l0.data = module.weight_ih_l0.data.clone() * 3
        module.bias_hh_l0 = nn.Parameter(torch.ones_like(module.bias_hh_l0))
        assert_same(theirs, ours, x) if module is ours else None
    assert all(one is other for one, other in zip(ours._flat_weights, ours.parameters(), strict=True))
    replica = ours._replicate_for_data_parallel()
    for key, value in ours.named_parameters():
        setattr(replica, key, value.detach())
    assert torch.equal(output(replica, x), output(ours, x))


def test_frozen_weights_get_no_gradient():
    module = cellula.nn.LSTM(3, 4)
    module.weight_hh_l0.requires_grad_(False)
    module(torch.randn(5, 2, 3))[0].sum().backward()
    assert module.weight_hh_l0.grad is None and module.weight_ih_l0.grad.any()
