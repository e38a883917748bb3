"""Compare two computations: outputs, final states and every gradient."""

import torch


def gradients(values, leaves):
    """The gradient of a fixed, uneven weighting of all values with respect to each leaf; zero where none flows."""
    total = sum((value * torch.linspace(-1, 2, value.numel()).to(value).view_as(value)).sum() for value in values)
    if not torch.is_tensor(total) or not total.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    found = torch.autograd.grad(total, leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if one is None else one for leaf, one in zip(leaves, found, strict=True)]


def assert_close(actual, expected, tolerance=1e-11):
    """Two mappings or sequences of tensors agree to rounding, name by name; NaN equals nothing."""
    if not isinstance(actual, dict):
        actual, expected = dict(enumerate(actual)), dict(enumerate(expected))
    assert actual.keys() == expected.keys(), f"names differ: {list(actual)} and {list(expected)}"
    for name in actual:
        one, other = actual[name], expected[name]
        assert one.shape == other.shape, f"{name}: shapes {list(one.shape)} and {list(other.shape)}"
        # Relative to the whole tensor: a small element of a large sum is rounded like its neighbours.
        error = (one - other).abs().amax() if one.numel() else torch.zeros(())
        scale = 1.0 + (other.abs().amax() if other.numel() else 0.0)
        assert bool(error <= tolerance * scale), f"{name}: differs by {error:.3g}, scale {scale:.3g}"
