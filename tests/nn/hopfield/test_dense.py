"""The modern memory: its update is attention, its energy falls, and it holds what it promises."""

import copy
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cellula import DataError, UsageError
from cellula.nn.hopfield import DenseHopfieldMemory, dense, to_image
from compare import assert_close

DOUBLE = torch.float64
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
seeds = st.integers(0, 2**31)


def normal(*shape, seed=0, dtype=DOUBLE):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def filled(count=9, units=6, beta=0.7, seed=0):
    patterns = normal(count, units, seed=seed)
    return DenseHopfieldMemory(beta, dtype=DOUBLE).store(patterns), patterns


def test_a_step_is_attention():
    memory, patterns = filled()
    probes = normal(5, 6, seed=1)
    expected = torch.nn.functional.scaled_dot_product_attention(probes, patterns, patterns, scale=0.7)
    assert_close([memory.recall(probes, max_steps=1).state], [expected])


@settings(max_examples=80)
@given(seeds, st.integers(1, 30), st.integers(1, 12), st.floats(0.01, 30.0), st.floats(0.1, 5.0))
def test_the_energy_never_rises_and_is_never_below_0(seed, count, units, beta, scale):
    memory = DenseHopfieldMemory(beta, dtype=DOUBLE).store(scale * normal(count, units, seed=seed))
    found = memory.recall(2 * scale * normal(4, units, seed=seed + 1), max_steps=60)
    slack = 1e-12 * (1 + found.energy.abs().max())
    assert (found.energy.diff(dim=0) <= slack).all() and (found.energy >= -slack).all()
    assert_close([found.energy[-1]], [memory.energy(found.state)])


def test_the_energy_by_hand():
    memory, patterns = filled()
    state = normal(6, seed=1)
    lse = np.log(sum(np.exp(0.7 * float(p @ state)) for p in patterns)) / 0.7
    constant = np.log(9) / 0.7 + 0.5 * max(float(p @ p) for p in patterns)
    assert memory.energy(state).item() == pytest.approx(-lse + 0.5 * float(state @ state) + constant, abs=1e-12)


def test_the_update_goes_down_the_gradient_of_the_energy():
    """The step s - dE/ds is the update: what a wrong energy would not have."""
    memory, _ = filled()
    state = normal(5, 6, seed=1).requires_grad_()
    (gradient,) = torch.autograd.grad(memory.energy(state).sum(), state)
    found = memory.recall(state, max_steps=1).state
    assert_close([found], [state - gradient])
    assert torch.autograd.gradcheck(lambda state: memory.recall(state, max_steps=3, tolerance=1e-300).state, state)


def test_rest_and_steps():
    memory, _ = filled(beta=0.3)
    probes = normal(5, 6, seed=1)
    found = memory.recall(probes, tolerance=1e-9, max_steps=1000)
    assert found.converged.all() and found.energy.shape == (int(found.steps.max()) + 1, 5)
    assert_close([memory.recall(found.state, max_steps=1, tolerance=1e-12).state], [found.state], 1e-8)
    short = memory.recall(probes, max_steps=1, tolerance=1e-9)
    assert (short.steps == 1).all() and not short.converged.any()
    one = memory.recall(probes[2], tolerance=1e-9, max_steps=1000)
    assert torch.allclose(one.state, found.state[2]) and one.steps == found.steps[2] and one.converged


def test_a_small_beta_finds_the_mean_and_a_large_one_the_nearest():
    patterns = normal(9, 6)
    mean, nearest = (DenseHopfieldMemory(beta, dtype=DOUBLE).store(patterns) for beta in (1e-6, 1e3))
    assert_close([mean(patterns[:2])], [patterns.mean(0).expand(2, -1)], 1e-4)
    probe = normal(6, seed=1)
    assert_close([nearest.recall(probe, max_steps=1).state], [patterns[(patterns @ probe).argmax()]])


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("device", DEVICES)
def test_images_of_which_half_is_missing(dtype, device):
    images = torch.where(normal(50, 12, 10, dtype=dtype) > 0, 1.0, -1.0).to(device, dtype)
    memory = DenseHopfieldMemory(0.5, device=device, dtype=dtype).store(images)
    probes = images.clone()
    probes[:, 6:] = 0.0
    found = memory.recall(probes)
    assert found.state.dtype == dtype and found.state.device == images.device and found.state.shape == images.shape
    assert torch.equal(found.state.sign(), images) and found.converged.all()
    assert np.array_equal(to_image(found.state), to_image(images)) and torch.equal(memory(probes), found.state)


def test_probes_in_parts_are_probes_at_once(monkeypatch):
    memory, _ = filled(beta=0.3)
    probes = normal(7, 6, seed=1)
    whole = memory.recall(probes), memory.energy(probes)
    monkeypatch.setattr(dense, "_PAIRS", 20)  # two probes at a time
    parts = memory.recall(probes), memory.energy(probes)
    for name in ("state", "energy", "steps", "converged"):
        assert_close([getattr(parts[0], name).to(DOUBLE)], [getattr(whole[0], name).to(DOUBLE)])
    assert_close([parts[1]], [whole[1]])
    assert memory.recall(torch.zeros(0, 6)).state.shape == (0, 6)


def test_patterns_are_added_copied_and_saved():
    memory, patterns = filled()
    memory.store(patterns[0] + 1).store((patterns[:2] + 2).tolist())
    assert memory.patterns.shape == (12, 6) and memory.shape == (6,)
    file = io.BytesIO()
    torch.save(memory.state_dict(), file)
    file.seek(0)
    loaded = DenseHopfieldMemory(0.7, dtype=DOUBLE)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    for other in (copy.deepcopy(memory), loaded):
        assert torch.equal(other.recall(patterns).state, memory.recall(patterns).state)
    assert repr(memory) == "DenseHopfieldMemory(beta=0.7)"


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda m: DenseHopfieldMemory(0), UsageError, "beta is 0; write a finite number above 0"),
    (lambda m: DenseHopfieldMemory(float("inf")), UsageError, "beta is inf"),
    (lambda m: DenseHopfieldMemory().recall([1.0]), UsageError, "empty; store"),
    (lambda m: m.store([]), DataError, r"but the patterns are \[6\]"),
    (lambda m: DenseHopfieldMemory().store([]), DataError, "no patterns to store"),
    (lambda m: m.store([[float("nan")] * 6]), DataError, "finite"),
    (lambda m: m.recall(torch.zeros(2, 5)), DataError, r"shape \[2, 5\], but the patterns are \[6\]"),
    (lambda m: m.recall(torch.zeros(6), max_steps=1.5), UsageError, "max_steps is 1.5"),
    (lambda m: m.recall(torch.zeros(6), tolerance=0.0), UsageError, "tolerance is 0.0"),
])  # fmt: skip
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call(filled()[0])
