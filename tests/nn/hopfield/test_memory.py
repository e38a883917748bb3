"""The memory of Hopfield 1982: rules, updates, energy, shapes, images, refusals."""

import copy
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cellula import DataError, HopfieldMemory, UsageError
from cellula.nn.hopfield.dynamics import Coupling
from compare import assert_close

DOUBLE = torch.float64
RULES = ("hebb", "storkey", "pseudoinverse")
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
seeds = st.integers(0, 2**31)


def signs(*shape, seed=0, dtype=DOUBLE):
    return torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed)).to(dtype) * 2 - 1


def noisy(patterns, rate, seed=0):
    """The patterns with this share of their units turned over."""
    flips = torch.rand(patterns.shape, generator=torch.Generator().manual_seed(seed)) < rate
    return torch.where(flips, -patterns, patterns)


def filled(rule="hebb", count=4, units=60, dtype=DOUBLE, seed=0):
    patterns = signs(count, units, seed=seed, dtype=dtype)
    return HopfieldMemory(rule, dtype=dtype).store(patterns), patterns


# Rules, each as its paper prints it: with loops.


def hebb(patterns):
    return sum(np.outer(p, p) for p in patterns) / patterns.shape[1]


def storkey(patterns):
    units = patterns.shape[1]
    w = np.zeros((units, units))
    for p in patterns:
        h = np.array([[sum(w[i, k] * p[k] for k in range(units) if k not in (i, j)) for j in range(units)]
                      for i in range(units)])  # fmt: skip
        w = w + (np.outer(p, p) - p[:, None] * h.T - h * p[None, :]) / units
    return w


def pseudoinverse(patterns):
    return patterns.T @ np.linalg.pinv(patterns.T)


@pytest.mark.parametrize("rule", [hebb, storkey, pseudoinverse])
@pytest.mark.parametrize("parts", [1, 3])
def test_every_rule_is_its_paper(rule, parts):
    patterns = signs(6, 11, seed=3)
    memory = HopfieldMemory(rule.__name__, dtype=DOUBLE)
    for part in patterns.chunk(parts):
        memory.store(part)
    expected = rule(patterns.numpy())
    np.fill_diagonal(expected, 0.0)
    np.testing.assert_allclose(memory.weight.numpy(), expected, atol=1e-12)
    assert torch.equal(memory.patterns, patterns)


@settings(max_examples=60)
@given(seeds, st.sampled_from(RULES), st.integers(2, 40), st.sampled_from([torch.float32, DOUBLE]))
def test_weights_are_symmetric_without_a_diagonal(seed, rule, units, dtype):
    patterns = signs(max(1, units // 8), units, seed=seed, dtype=dtype)
    try:
        weight = HopfieldMemory(rule, dtype=dtype).store(patterns).weight
    except DataError as error:
        assert rule == "pseudoinverse" and "linearly independent" in str(error)
        assert torch.linalg.matrix_rank(patterns.to(DOUBLE)) < len(patterns)
        return
    assert torch.equal(weight, weight.T) and not weight.diagonal().any() and weight.dtype == dtype


def rises(memory, state, units):
    """The largest rise of the energy among single moves in this order, relative to the scale of energies."""
    energies = [memory.energy(state)]
    for unit in units:
        state = memory.update(state, units=[unit])
        energies.append(memory.energy(state))
    energies = torch.stack(energies)
    return (energies.diff(dim=0).max() / (1.0 + energies.abs().max())).item()


@settings(max_examples=80)
@given(seeds, st.sampled_from(RULES), st.integers(2, 40), st.sampled_from([torch.float32, DOUBLE]), st.data())
def test_energy_never_rises_when_one_unit_moves(seed, rule, units, dtype, data):
    memory = HopfieldMemory(rule, dtype=dtype)
    try:
        memory.store(signs(max(1, units // 4), units, seed=seed, dtype=dtype))
    except DataError:
        memory.store(signs(1, units, seed=seed, dtype=dtype))
    order = data.draw(st.lists(st.integers(0, units - 1), min_size=1, max_size=30))
    assert rises(memory, signs(3, units, seed=seed + 1, dtype=dtype), order) <= 32 * torch.finfo(dtype).eps


@settings(max_examples=60)
@given(seeds, st.integers(1, 50), st.integers(1, 6))
def test_energy_never_rises_in_asynchronous_recall(seed, units, rows):
    """For any symmetric weights without a diagonal, not only those of a rule."""
    weight = torch.randn(units, units, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))
    memory = HopfieldMemory(dtype=DOUBLE).store(signs(1, units, seed=seed))
    memory.weight = (weight + weight.T).fill_diagonal_(0.0)
    found = memory.recall(signs(rows, units, seed=seed + 1), max_steps=1000, seed=seed)
    assert (found.energy.diff(dim=0) <= 1e-12 * (1 + found.energy.abs().max())).all()
    assert found.converged.all() and torch.equal(memory.update(found.state), found.state)
    assert torch.equal(found.energy[-1], memory.energy(found.state))


def test_a_diagonal_or_asymmetry_would_let_the_energy_rise():
    """The property above can fail: weights that break its conditions do raise the energy."""
    memory, _ = filled(units=30)
    weight = torch.randn(30, 30, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    state, order = signs(8, 30, seed=1), list(range(30)) * 3
    for wrong in (weight, weight + weight.T - 20 * torch.eye(30, dtype=DOUBLE)):
        memory.weight = wrong
        assert rises(memory, state, order) > 1e-3


@settings(max_examples=60)
@given(seeds, st.integers(1, 90), st.integers(1, 4), st.floats(0.0, 2.0), st.booleans())
def test_moves_in_blocks_are_moves_one_by_one(seed, units, rows, temperature, repeated):
    memory, _ = filled(units=max(units, 8), seed=seed)
    units = len(memory.weight)
    draw = torch.Generator().manual_seed(seed)
    order = torch.randint(0, units, (units,), generator=draw) if repeated else torch.randperm(units, generator=draw)
    start = signs(rows, units, seed=seed + 1)
    found = Coupling(memory.weight, temperature, torch.Generator().manual_seed(1)).in_turn(start, order.tolist())
    chances, state = torch.Generator().manual_seed(1), start.clone()
    for unit in order.tolist():
        field = state @ memory.weight[unit]
        field[field.abs() < 1e-12] = 0.0  # rounding
        if temperature:
            chance = torch.rand(1, rows, generator=chances, dtype=DOUBLE)[0]
            # Blocks draw [K, B] numbers at once, which are the same numbers in the same order.
            new = torch.where(chance < torch.sigmoid(field * (2 / max(temperature, 1e-300))), 1.0, -1.0)
        else:
            new = torch.where(field == 0, state[:, unit], field.sign())
        state[:, unit] = new
    assert torch.equal(found, state)


def test_units_in_any_form():
    memory, patterns = filled(count=30)
    states = [memory.update(patterns, units=units) for units in ([5, 0, 9], torch.tensor([5, 0, 9]),
                                                                 np.array([5, 0, 9]), iter([5, 0, 9]))]  # fmt: skip
    assert all(torch.equal(state, states[0]) for state in states)
    assert torch.equal(memory.update(patterns, units=[]), patterns)
    assert torch.equal(memory.update(patterns, units=[], temperature=1.0), patterns)


def test_a_state_that_is_given_is_not_changed():
    memory, patterns = filled()
    probe = noisy(patterns[:1], 0.3)
    kept = probe.clone()
    for call in (memory.recall, memory.update, lambda state: memory.update(state, units=range(60))):
        call(probe)
        assert torch.equal(probe, kept)
    memory.recall(probe[0], seed=0).state.neg_()
    assert torch.equal(memory.patterns, patterns)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("update", ["asynchronous", "synchronous"])
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("device", DEVICES)
def test_noisy_probes_come_back(rule, update, dtype, device):
    patterns = signs(8, 200, dtype=dtype).to(device)
    memory = HopfieldMemory(rule, device=device, dtype=dtype).store(patterns)
    found = memory.recall(noisy(patterns.cpu(), 0.15), update=update, seed=1)
    assert torch.equal(found.state, patterns) and found.converged.all()
    assert found.state.dtype == found.energy.dtype == dtype and found.state.device == patterns.device
    assert found.energy.shape == (int(found.steps.max()) + 1, 8) and (found.steps >= 1).all()
    assert torch.equal(memory(patterns), patterns) and not memory.recall(patterns).steps.any()
    assert_close([memory.overlap(found.state).diagonal()], [torch.ones_like(found.energy[0])], 1e-6)


def test_a_part_is_enough():
    memory, patterns = filled(units=400)
    probe = patterns.clone()
    probe[:, 200:] = 1.0
    assert torch.equal(memory.recall(probe, seed=0).state, patterns)


def test_one_probe_is_a_batch_of_one():
    memory, patterns = filled()
    probes = noisy(patterns, 0.2)
    for update in ("asynchronous", "synchronous"):
        many = memory.recall(probes, update=update, seed=7)
        for row, probe in enumerate(probes):
            one = memory.recall(probe, update=update, seed=7)
            assert one.state.shape == (60,) and one.energy.ndim == 1 and one.steps.shape == one.converged.shape == ()
            assert torch.equal(one.state, many.state[row]) and one.steps == many.steps[row] == len(one.energy) - 1
            assert_close([one.energy], [many.energy[: len(one.energy), row]])
    assert_close([memory.energy(probes)[1]], [memory.energy(probes[1])])
    assert_close([memory.overlap(probes)[1]], [memory.overlap(probes[1])])
    empty = memory.recall(torch.zeros(0, 60))
    assert empty.state.shape == (0, 60) and empty.energy.shape == (1, 0)


def test_all_at_once_may_go_in_a_circle_and_one_by_one_does_not():
    memory = HopfieldMemory().store([[1, -1]])
    circling = memory.recall([1, 1], update="synchronous", max_steps=50)
    assert not circling.converged and len(circling.energy) == 3 and circling.steps == 2
    assert memory.recall([1, 1], seed=0).converged


def test_steps_that_run_out_are_told():
    memory, patterns = filled(count=30, units=200)
    short, long = (memory.recall(noisy(patterns, 0.4), max_steps=steps, seed=0) for steps in (1, 100))
    assert len(short.energy) == 2 and (short.steps == 1).all() and not short.converged.all()
    assert long.converged.all() and long.steps.max() > 1 and (long.energy[-1] <= short.energy[-1] + 1e-9).all()


def test_the_energy_is_that_of_the_ising_model():
    memory, _ = filled(units=9)
    state = signs(9, seed=5)
    pairs = [(i, j) for i in range(9) for j in range(i)]
    expected = -sum(memory.weight[i, j] * state[i] * state[j] for i, j in pairs)
    assert_close([memory.energy(state)], [expected])


def test_a_pattern_and_its_inverse_have_the_same_energy_and_both_rest():
    memory, patterns = filled(units=300)
    assert_close([memory.energy(-patterns)], [memory.energy(patterns)])
    assert torch.equal(memory.update(-patterns), -patterns)


# Temperature.


def test_glauber_updates_have_the_distribution_of_boltzmann():
    """Four units, all 16 states: after many steps every state is as frequent as exp(-E / T) says."""
    memory = HopfieldMemory(dtype=DOUBLE).store(signs(2, 4, seed=2))
    states = torch.tensor([[1.0 if number >> unit & 1 else -1.0 for unit in range(4)] for number in range(16)])
    chance = torch.softmax(-memory.energy(states) / 0.6, 0)
    found = memory.recall(signs(40_000, 4, seed=3), temperature=0.6, max_steps=30, seed=4)
    numbers = ((found.state > 0) * torch.tensor([1, 2, 4, 8])).sum(1)
    share = torch.bincount(numbers, minlength=16) / 40_000
    assert chance.max() > 3 * chance.min() and (share - chance).abs().max() < 0.01
    assert not found.converged.any() and (found.steps <= 30).all() and len(found.energy) == 31


def test_a_low_temperature_is_none_and_a_high_one_is_noise():
    memory, patterns = filled(units=400)
    probes = noisy(patterns, 0.1)
    assert torch.equal(memory.recall(probes, temperature=1e-9, max_steps=5, seed=0).state, patterns)
    assert memory.overlap(memory.recall(probes, temperature=50.0, max_steps=5, seed=0).state).abs().max() < 0.25
    both = [memory.update(probes, temperature=0.5, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(both[0], both[1]) and not torch.equal(both[0], both[2])


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("temperature", [1e-320, 1e-60, 1e-30])
def test_a_unit_without_a_field_is_drawn_as_either_at_any_temperature(dtype, temperature):
    memory = HopfieldMemory(dtype=dtype).store([[1, 1], [1, -1]])
    assert not memory.weight.any()
    up = (memory.update(signs(2000, 2, dtype=dtype), temperature=temperature, seed=0) > 0).double().mean()
    assert abs(up - 0.5) < 0.05


def test_seeds_and_generators():
    memory, patterns = filled(count=20, units=100)
    probes = noisy(patterns, 0.3)
    once, again = (memory.recall(probes, seed=3).state for _ in range(2))
    assert torch.equal(once, again)
    assert torch.equal(once, memory.recall(probes, seed=torch.Generator().manual_seed(3)).state)
    torch.manual_seed(3)
    loose = memory.recall(probes).state
    torch.manual_seed(3)
    assert torch.equal(loose, memory.recall(probes).state)
    assert not torch.equal(once, memory.recall(probes, seed=4).state)


# Shapes, types, copies.


@pytest.mark.parametrize("shape", [(12,), (3, 4), (2, 3, 2)])
def test_patterns_of_any_shape(shape):
    patterns = signs(2, *shape, seed=8)
    memory = HopfieldMemory(dtype=DOUBLE).store(patterns)
    assert memory.shape == shape and memory.load == 2 / 12 and memory.weight.shape == (12, 12)
    flat = HopfieldMemory(dtype=DOUBLE).store(patterns.flatten(1))
    probes = signs(5, *shape, seed=9)
    assert torch.equal(memory.recall(probes, seed=0).state.flatten(1), flat.recall(probes.flatten(1), seed=0).state)
    assert memory.update(probes[0]).shape == shape and memory.energy(probes).shape == (5,)


@pytest.mark.parametrize("make", [
    lambda p: p, lambda p: p.numpy(), lambda p: p.tolist(), lambda p: list(p), lambda p: list(p.numpy()),
    lambda p: p.to(torch.int8), lambda p: p.numpy().astype(">f4"), lambda p: p.numpy()[:, ::-1][:, ::-1],
    lambda p: p.clone().requires_grad_(), lambda p: tuple(p.tolist()),
])  # fmt: skip
def test_patterns_and_probes_in_any_form(make):
    patterns = signs(3, 20)
    memory = HopfieldMemory().store(make(patterns))
    assert memory.patterns.dtype == torch.float32 and torch.equal(memory.patterns, patterns.float())
    state = memory.recall(make(noisy(patterns, 0.1))).state
    assert state.shape == (3, 20) and not state.requires_grad


def test_a_single_flat_pattern_and_more_of_them_later():
    one, others = signs(20), signs(2, 20, seed=1)
    memory = HopfieldMemory().store(one).store(others).store(others[0])
    assert len(memory.patterns) == 4 and memory.shape == (20,)
    together = HopfieldMemory().store(torch.stack([one, *others, others[0]]))
    assert_close([memory.weight], [together.weight], 1e-6)
    image = HopfieldMemory().store(signs(1, 4, 5))
    assert len(image.store(signs(4, 5, seed=1)).patterns) == 2


def test_a_memory_is_copied_saved_and_moved():
    memory, patterns = filled("storkey")
    assert [name for name, _ in memory.named_parameters()] == []
    file = io.BytesIO()
    torch.save(memory.state_dict(), file)
    file.seek(0)
    loaded = HopfieldMemory("storkey", dtype=DOUBLE)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    for other in (copy.deepcopy(memory), loaded):
        assert torch.equal(other.weight, memory.weight) and other.shape == memory.shape
        assert_close([other.store(-patterns[0]).weight], [copy.deepcopy(memory).store(-patterns[0]).weight])
    assert memory.float().recall(patterns[0]).state.dtype == torch.float32
    assert repr(memory) == "HopfieldMemory('storkey')"


# Refusals.


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda m: HopfieldMemory("hebbian"), UsageError, "rule is 'hebbian'; write one of 'hebb', 'storkey'"),
    (lambda m: HopfieldMemory().recall([1, -1]), UsageError, "empty; store"),
    (lambda m: HopfieldMemory().energy([1, -1]), UsageError, "empty; store"),
    (lambda m: HopfieldMemory().store([]), DataError, "no patterns to store"),
    (lambda m: HopfieldMemory().store(torch.zeros(0, 5)), DataError, "no patterns to store"),
    (lambda m: HopfieldMemory().store(torch.zeros(5, 0)), DataError, "no patterns to store"),
    (lambda m: HopfieldMemory().store(3), DataError, "single number"),
    (lambda m: HopfieldMemory().store([[0, 1]]), DataError, r"holds 0 at \[0, 0\], but a unit is -1 or 1; to_pattern"),
    (lambda m: HopfieldMemory().store([[1, 1], [-1, 0.5]]), DataError, r"0.5 at \[1, 1\]"),
    (lambda m: HopfieldMemory().store([[1, float("nan")]]), DataError, "finite"),
    (lambda m: HopfieldMemory().store([[1, 1j]]), DataError, "array of numbers, not of complex128"),
    (lambda m: HopfieldMemory().store(torch.ones(2, 2) * 1j), DataError, "finite real numbers"),
    (lambda m: HopfieldMemory().store([["1", "-1"]]), DataError, "not of <U2"),
    (lambda m: HopfieldMemory().store([[1, 1], [1]]), DataError, "differ in length"),
    (lambda m: HopfieldMemory().store([torch.ones(2), torch.ones(3)]), DataError, "differ in shape"),
    (lambda m: m.store(signs(2, 5)), DataError, r"shape \[2, 5\], but the patterns are \[6\]; give \[6\] or \[B, 6\]"),
    (lambda m: m.recall(signs(2, 3, 6)), DataError, "but the patterns are"),
    (lambda m: m.recall([1, 1, 1, 1, 1, 0]), DataError, r"probe holds 0 at \[5\]"),
    (lambda m: m.update([[1, 1, 1, 1, 1, 2]]), DataError, r"state holds 2 at \[0, 5\]"),
    (lambda m: m.update(m.patterns, units=[6]), UsageError, "units holds 6; write whole numbers from 0 to 5"),
    (lambda m: m.update(m.patterns, units=3), UsageError, "units is 3; write the numbers of units in their order"),
    (lambda m: m.update(m.patterns, units=torch.tensor([0.5])), UsageError, "units holds 0.5"),
    (lambda m: m.update(m.patterns, units=[True]), UsageError, "units holds True"),
    (lambda m: m.recall(m.patterns, update="random"), UsageError, "update is 'random'; write one of 'asynchronous'"),
    (lambda m: m.recall(m.patterns, max_steps=0), UsageError, "max_steps is 0"),
    (lambda m: m.recall(m.patterns, temperature=-1), UsageError, "temperature is -1"),
    (lambda m: m.recall(m.patterns, temperature=float("nan")), UsageError, "temperature is nan"),
    (lambda m: m.recall(m.patterns, seed="0"), UsageError, "seed is '0'"),
])  # fmt: skip
def test_refusals(call, error, message):
    memory = HopfieldMemory().store([[1, 1, 1, -1, -1, -1], [1, -1, 1, -1, 1, -1]])
    with pytest.raises(error, match=message):
        call(memory)


@pytest.mark.parametrize(("patterns", "message"), [
    (signs(20, 20), "fewer patterns than units, and there would be 20 patterns of 20 units"),
    (signs(31, 20), "there would be 31"),
    (torch.stack([signs(20), signs(20, seed=1), signs(20)]), r"number 2 of all, counted from 0"),
    (torch.stack([signs(20), -signs(20)]), "number 1 of all"),
])  # fmt: skip
def test_what_the_pseudoinverse_cannot_hold(patterns, message):
    memory = HopfieldMemory("pseudoinverse", dtype=DOUBLE).store(signs(2, 20, seed=9))
    weight = memory.weight.clone()
    with pytest.raises(DataError, match=r"fewer patterns than units|linearly independent"):
        memory.store(patterns)
    assert torch.equal(memory.weight, weight) and len(memory.patterns) == 2
    with pytest.raises(DataError, match=message):
        HopfieldMemory("pseudoinverse").store(patterns)
