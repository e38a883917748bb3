"""What is known of Hopfield networks, reproduced: errors, capacity, temperature, and how much the modern one holds."""

import math

import pytest
import torch

from cellula.nn.hopfield import DenseHopfieldMemory, HopfieldMemory

UNITS = 1000


def random_patterns(count, units, draw):
    return torch.randint(0, 2, (count, units), generator=draw) * 2.0 - 1


def one_step_error(load, networks, seed=0):
    """The share of units of stored patterns that the first update turns over, over many networks."""
    draw, wrong = torch.Generator().manual_seed(seed), 0.0
    for _ in range(networks):
        patterns = random_patterns(round(load * UNITS), UNITS, draw)
        moved = HopfieldMemory().store(patterns).update(patterns)
        wrong += (moved != patterns).float().mean().item() / networks
    return wrong


# The crosstalk of the other patterns is nearly normal with variance `load`: a unit turns where it exceeds 1.
@pytest.mark.parametrize(("load", "known"), [(0.105, 0.001), (0.138, 0.0036), (0.185, 0.01)])
def test_the_error_of_one_step(load, known):
    theory = 0.5 * math.erfc(1 / math.sqrt(2 * load))
    assert theory == pytest.approx(known, rel=0.02)
    measured = one_step_error(load, networks=60)
    assert measured == pytest.approx(known, rel=0.1)
    # N - 1 other units and P - 1 other patterns make up the crosstalk of a finite network.
    finite = 0.5 * math.erfc(math.sqrt((UNITS - 1) / (2 * (round(load * UNITS) - 1))))
    assert measured == pytest.approx(finite, rel=0.07)


def mean_field():
    """Loads from the edge down and the overlaps at rest, after Amit, Gutfreund & Sompolinsky 1985, at temperature 0.

    m = erf(y), where erf(y) = y (sqrt(2 load) + 2 / sqrt(pi) exp(-y^2)).
    """
    y = torch.linspace(0.5, 4.0, 20_000, dtype=torch.float64)
    load = 0.5 * (torch.erf(y) / y - 2 / math.sqrt(math.pi) * torch.exp(-y * y)) ** 2
    return load[load.argmax() :], torch.erf(y[load.argmax() :])


def mean_field_overlap(load):
    loads, overlaps = mean_field()
    return overlaps[loads >= load][-1].item()


def test_the_theory_breaks_down_at_0_138():
    loads, overlaps = mean_field()
    assert loads[0].item() == pytest.approx(0.138, abs=0.0005)
    assert overlaps[0].item() == pytest.approx(0.967, abs=0.002)
    for load, overlap in zip(loads[::500].tolist(), overlaps[::500].tolist(), strict=True):
        y = torch.erfinv(torch.tensor(overlap, dtype=torch.float64)).item()
        assert overlap == pytest.approx(y * (math.sqrt(2 * load) + 2 / math.sqrt(math.pi) * math.exp(-y * y)), abs=1e-9)


def overlaps(load, seeds=(0, 1), probes=40):
    """How much of a stored pattern is left where the network comes to rest that started on it [seeds * probes]."""
    found = []
    for seed in seeds:
        draw = torch.Generator().manual_seed(seed)
        patterns = random_patterns(round(load * UNITS), UNITS, draw)
        rest = HopfieldMemory().store(patterns).recall(patterns[:probes], seed=draw)
        assert rest.converged.all()
        found.append((rest.state * patterns[:probes]).mean(1))
    return torch.cat(found)


@pytest.mark.parametrize("load", [0.10, 0.12])
def test_below_the_edge_patterns_are_retrieved_as_the_theory_says(load):
    found = overlaps(load)
    retrieved = found[found > 0.9]
    assert len(retrieved) >= 0.97 * len(found)
    assert retrieved.mean().item() == pytest.approx(mean_field_overlap(load), abs=0.004)


def test_retrieval_breaks_down_just_above_the_edge():
    edge, beyond = overlaps(0.138), overlaps(0.2, probes=20)
    assert (edge > 0.9).float().mean() >= 0.75
    assert edge[edge > 0.9].mean().item() == pytest.approx(0.967, abs=0.025)
    assert edge.mean() > 0.85
    assert (beyond > 0.9).float().mean() <= 0.15 and beyond.mean() < 0.5


def test_the_modern_network_holds_20_000_patterns_of_64_units():
    draw = torch.Generator().manual_seed(0)
    patterns = random_patterns(20_000, 64, draw)
    memory, asked = DenseHopfieldMemory(beta=1.0).store(patterns), patterns[::10]
    # 10 % of the units: every unit with this probability, and 6 of 64 in each pattern.
    flips = torch.rand(asked.shape, generator=draw)
    for flipped in (flips < 0.1, flips.argsort(1).argsort(1) < 6):
        found = memory.recall(torch.where(flipped, -asked, asked), max_steps=1)
        assert (found.state.sign() == asked).all(1).float().mean() >= 0.99
    # The classical network of the same size is lost long before.
    assert len(patterns) > 2000 * 0.138 * 64


def test_magnetisation_over_temperature():
    """A single pattern is a magnet: its overlap at rest is m = tanh(m / T), and 0 above the critical T = 1."""
    draw = torch.Generator().manual_seed(0)
    patterns = random_patterns(1, 300, draw)
    memory = HopfieldMemory().store(patterns)
    for temperature, margin in ((0.5, 0.01), (0.8, 0.04), (1.5, 0.04)):
        expected = 1.0
        for _ in range(1000):
            expected = math.tanh(expected / temperature)
        rest = memory.recall(patterns.expand(64, -1), temperature=temperature, max_steps=12, seed=draw)
        assert memory.overlap(rest.state).mean().item() == pytest.approx(expected, abs=margin)


# What a rule holds: all patterns rest, and come back from 10 % noise, at the first load; they do not at the second.
@pytest.mark.parametrize(("rule", "held", "lost"), [
    ("hebb", 0.05, 0.2), ("storkey", 0.2, 0.7), ("pseudoinverse", 0.3, 0.9),
])  # fmt: skip
def test_how_much_a_rule_holds(rule, held, lost):
    back = {}
    for load in (held, lost):
        draw = torch.Generator().manual_seed(1)
        patterns = random_patterns(round(load * 200), 200, draw)
        memory = HopfieldMemory(rule).store(patterns)
        noise = torch.rand(patterns.shape, generator=draw) < 0.1
        rest = memory.recall(torch.where(noise, -patterns, patterns), seed=draw)
        back[load] = (rest.state == patterns).all(1).float().mean().item()
        if rule == "pseudoinverse":
            assert torch.equal(memory.update(patterns), patterns)
    assert back[held] >= 0.9 and back[lost] <= 0.2, back
