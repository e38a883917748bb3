"""A layer of torch.nn and ours with the same weights, and what both give for the same call."""

import copy

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

import cellula.nn
from compare import assert_close, gradients

LAYERS = ("LSTM", "GRU", "RNN")
CELLS = ("LSTMCell", "GRUCell", "RNNCell")


def pair(name, *args, dtype=torch.float64, **kwargs):
    """torch's layer and ours, with the same weights."""
    theirs = getattr(nn, name)(*args, dtype=dtype, **kwargs)
    ours = getattr(cellula.nn, name)(*args, dtype=dtype, **kwargs)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def tensors_of(value):
    """All tensors in what a layer takes or returns; of a packed sequence its data."""
    found = pytree.tree_leaves(value, is_leaf=lambda part: isinstance(part, PackedSequence))
    found = [part.data if isinstance(part, PackedSequence) else part for part in found]
    return [part for part in found if isinstance(part, torch.Tensor)]


def outcome(module, *args, **kwargs):
    """Output, state, and all gradients with respect to floating inputs and parameters, by name."""
    args, kwargs = copy.deepcopy((args, kwargs))
    leaves = [leaf.requires_grad_() for leaf in tensors_of((args, kwargs)) if leaf.is_floating_point() and leaf.is_leaf]
    returned = module(*args, **kwargs)
    parameters = dict(module.named_parameters())
    found = gradients(tensors_of(returned), [*leaves, *parameters.values()])
    names = [f"d input {number}" for number in range(len(leaves))] + [f"d {name}" for name in parameters]
    values = {f"returned {number}": value for number, value in enumerate(tensors_of(returned))}
    return returned, values | dict(zip(names, found, strict=True))


def assert_same(theirs, ours, *args, tolerance=1e-11, **kwargs):
    """Both return the same in the same structure, and the same gradients; what ours returned comes back."""
    expected, one = outcome(theirs, *args, **kwargs)
    found, other = outcome(ours, *args, **kwargs)
    assert pytree.tree_structure(found) == pytree.tree_structure(expected)
    assert_close(other, one, tolerance)
    return found
