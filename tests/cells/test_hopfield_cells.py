"""The Hopfield cells: each against its paper by hand, and against the memories that hold the same weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cellula import Recurrent, load_cell
from cellula.nn import DenseHopfieldMemory, HopfieldMemory
from compare import assert_close, gradients

DOUBLE = torch.float64
UNITS, ROWS, STEPS = 24, 5, 6


def signs(*shape, seed=0):
    return torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed)).to(DOUBLE) * 2 - 1


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def symmetric(seed=0):
    """Random couplings without a diagonal."""
    weight = normal(UNITS, UNITS, seed=seed)
    return (weight + weight.T).fill_diagonal_(0.0)


def cell_with(cell, weights, **settings):
    """The cell with these parameters, and the identity between input and units."""
    module = Recurrent(cell, UNITS, UNITS, dtype=DOUBLE, **settings)
    with torch.no_grad():
        for name, value in weights.items():
            module.layers[0].get_parameter(name).copy_(value)
    return module


def run(module, x, **start):
    """All outputs [T, B, N] from this start."""
    return module(x, module.state(**{name: value[None] for name, value in start.items()}))[0].detach()


@pytest.mark.parametrize("cell", ["hopfield", "hopfield_asynchronous", "hopfield_continuous", "hopfield_dense"])
def test_the_input_belongs_unit_to_unit_at_the_start(cell):
    sizes = {"patterns": 3} if cell == "hopfield_dense" else {}
    assert torch.equal(Recurrent(cell, UNITS, UNITS, **sizes).layers[0].V, torch.eye(UNITS))


def follow(field, state):
    """Hopfield 1982: a unit follows its field and stays where there is none."""
    return torch.where(field == 0, state, torch.sign(field))


def test_all_at_once_by_hand():
    weight, bias, x, state = symmetric(), normal(UNITS, seed=1), normal(STEPS, ROWS, UNITS, seed=2), signs(ROWS, UNITS)
    found = run(cell_with("hopfield", {"W": weight, "b": bias}), x, h=state)
    for step in range(STEPS):
        state = follow(state @ weight + x[step] + bias, state)
        assert torch.equal(found[step], state)


def test_one_by_one_by_hand():
    weight, bias, state = symmetric(), normal(UNITS, seed=1), signs(ROWS, UNITS)
    order = torch.randperm(UNITS, generator=torch.Generator().manual_seed(3))
    x = torch.eye(UNITS, dtype=DOUBLE)[order][:, None].expand(-1, ROWS, -1)
    found = run(cell_with("hopfield_asynchronous", {"W": weight, "b": bias}), x, h=state)
    for step, unit in enumerate(order.tolist()):
        state = state.clone()
        state[:, unit] = follow(state @ weight[unit] + bias[unit], state[:, unit])
        assert torch.equal(found[step], state)


@pytest.mark.parametrize("cell", ["hopfield", "hopfield_asynchronous"])
def test_a_unit_without_a_field_stays(cell):
    state = signs(ROWS, UNITS)
    x = torch.zeros(3, ROWS, UNITS, dtype=DOUBLE) + (cell == "hopfield_asynchronous")
    found = run(cell_with(cell, {"W": torch.zeros(UNITS, UNITS), "b": torch.zeros(UNITS)}), x, h=state)
    assert torch.equal(found, state.expand(3, -1, -1))


@pytest.mark.parametrize("rule", ["hebb", "storkey", "pseudoinverse"])
def test_the_formulas_are_the_memory(rule):
    memory = HopfieldMemory(rule, dtype=DOUBLE).store(signs(5, UNITS, seed=4))
    probe, weights = signs(ROWS, UNITS, seed=5), {"W": memory.weight}
    # The probe as the first input, zeros behind it: the state starts at 0, where all fields are the input.
    x = torch.cat([probe[None], torch.zeros(STEPS, ROWS, UNITS, dtype=DOUBLE)])
    output, _ = cell_with("hopfield", weights)(x)
    state = probe
    for found in output:
        assert torch.equal(found, state)
        state = memory.update(state)
    order = torch.randperm(UNITS, generator=torch.Generator().manual_seed(6)).tolist() * 2
    masks = torch.eye(UNITS, dtype=DOUBLE)[order][:, None].expand(-1, ROWS, -1)
    found = run(cell_with("hopfield_asynchronous", weights), masks, h=probe)
    assert torch.equal(found[-1], memory.update(probe, units=order))


@settings(max_examples=60)
@given(st.integers(0, 2**31), st.integers(1, 4))
def test_energy_never_rises_when_few_units_that_do_not_see_each_other_move(seed, together):
    """Units that move together must not be coupled; then the argument of 1982 holds for them too."""
    weight, bias, state = symmetric(seed), normal(UNITS, seed=seed + 1), signs(ROWS, UNITS, seed=seed + 2)
    group = torch.randperm(UNITS, generator=torch.Generator().manual_seed(seed))[:together]
    weight[group[:, None], group] = 0.0
    masks = torch.zeros(STEPS, ROWS, UNITS, dtype=DOUBLE)
    masks[:, :, group] = 1.0
    found = run(cell_with("hopfield_asynchronous", {"W": weight, "b": bias}), masks, h=state)
    states = torch.cat([state[None], found])
    energy = -0.5 * ((states @ weight) * states).sum(-1) - states @ bias
    assert (energy.diff(dim=0) <= 1e-9).all()


def liapunov(charge, weight, bias, tau, gain):
    """The energy of Hopfield 1984: couplings, inputs, and what the leak takes."""
    v = torch.tanh(gain * charge).clamp(-1 + 1e-15, 1 - 1e-15)
    leak = (v * torch.atanh(v) + 0.5 * torch.log1p(-v * v)) / (gain * tau)
    return -0.5 * ((v @ (weight + weight.T)) * v).sum(-1) - v @ bias + leak.sum(-1)


def test_continuous_by_hand_with_every_gradient():
    weight, bias, current = normal(UNITS, UNITS), normal(UNITS, seed=1), normal(STEPS, ROWS, UNITS, seed=2)
    module = cell_with("hopfield_continuous", {"W": weight, "b": bias}, dt=0.2, tau=0.7, gain=1.5)
    current.requires_grad_()
    start = normal(ROWS, UNITS, seed=3).requires_grad_()
    output, state = module(current, module.state(u=start[None]))
    layer, charge, expected = module.layers[0], start, []
    for step in range(STEPS):
        change = -charge / 0.7 + torch.tanh(1.5 * charge) @ (layer.W + layer.W.T) + current[step] @ layer.V + layer.b
        charge = charge + 0.2 * change
        expected.append(torch.tanh(1.5 * charge))
    assert_close([output, state.u], [torch.stack(expected), charge[None]])
    wanted = [current, start, layer.W, layer.V, layer.b]
    one, other = (gradients(values, wanted) for values in ([output, state.u], [torch.stack(expected), charge[None]]))
    assert_close(one, other)
    assert all(gradient.abs().sum() > 0 for gradient in one)


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.floats(0.3, 3.0), st.floats(0.5, 4.0))
def test_the_energy_of_the_continuous_network_falls(seed, tau, gain):
    weight, bias = 0.3 * normal(UNITS, UNITS, seed=seed), normal(UNITS, seed=seed + 1)
    start, dt = normal(ROWS, UNITS, seed=seed + 2), 0.002
    module = cell_with("hopfield_continuous", {"W": weight, "b": bias}, dt=dt, tau=tau, gain=gain)
    _, _, recorded = module(torch.zeros(150, ROWS, UNITS, dtype=DOUBLE), module.state(u=start[None]), record=("u",))
    charges = torch.cat([start[None], recorded["u"][0].detach()])
    assert (liapunov(charges, weight, bias, tau, gain).diff(dim=0) <= 1e-9).all()


def test_the_continuous_network_recalls_a_pattern():
    patterns = signs(1, UNITS)
    memory = HopfieldMemory(dtype=DOUBLE).store(patterns)
    module = cell_with("hopfield_continuous", {"W": 2.0 * memory.weight}, gain=3)
    probe = patterns[0].clone()
    probe[:6] *= -1
    _, state = module(torch.zeros(200, 1, UNITS, dtype=DOUBLE), module.state(u=probe[None, None]))
    assert torch.equal(state.u[0, 0].sign(), patterns[0])


def test_the_modern_network_is_attention_with_every_gradient():
    module = Recurrent("hopfield_dense", UNITS, UNITS, patterns=7, beta=0.4, dtype=DOUBLE)
    probe = normal(ROWS, UNITS, seed=1).requires_grad_()
    output, _ = module(probe[None])
    patterns = module.layers[0].X
    expected = torch.nn.functional.scaled_dot_product_attention(probe, patterns, patterns, scale=0.4)
    assert_close([output[0]], [expected])
    assert_close(gradients([output[0]], [probe, patterns]), gradients([expected], [probe, patterns]))


def test_the_modern_network_is_the_dense_memory():
    patterns, probe = normal(7, UNITS), normal(ROWS, UNITS, seed=1)
    memory = DenseHopfieldMemory(beta=0.4, dtype=DOUBLE).store(patterns)
    module = cell_with("hopfield_dense", {"X": patterns}, patterns=7, beta=0.4)
    found = run(module, torch.zeros(STEPS, ROWS, UNITS, dtype=DOUBLE), h=probe)
    for step in range(STEPS):
        assert_close([found[step]], [memory.recall(probe, max_steps=step + 1, tolerance=1e-300).state])


@pytest.mark.parametrize(("cell", "count"), [
    ("hopfield", 12 + 16 + 4), ("hopfield_asynchronous", 12 + 16 + 4), ("hopfield_continuous", 12 + 16 + 4),
    ("hopfield_dense", 12 + 5 * 4),
])  # fmt: skip
def test_parameter_counts(cell, count):
    assert load_cell(cell).parameter_count({"input": 3, "hidden": 4, "patterns": 5}) == count
