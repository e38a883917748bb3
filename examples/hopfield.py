"""Hopfield networks, the ancestors: what they recall, when they break down, and what the modern ones hold.

It prints what it measures beside the theory, and draws it all (matplotlib comes with pip install 'cellula[forecast]').
About a minute on one core; with --quick a few seconds, and rougher.

    python examples/hopfield.py [picture.png] [--quick]
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from cellula.nn.hopfield import DenseHopfieldMemory, HopfieldMemory, to_image, to_pattern

LETTERS = """
.#####..  #######.  ##......  ##....##  ..####..
##...##.  ##......  ##......  ##....##  .##..##.
##......  ##......  ##......  ##....##  ##....##
##......  ######..  ##......  ##....##  ##....##
##......  ######..  ##......  ##....##  ########
##......  ##......  ##......  ##....##  ########
##......  ##......  ##......  ##....##  ##....##
##...##.  ##......  ##......  ##....##  ##....##
.#####..  #######.  ########  .######.  ##....##
"""


# Pixels around each letter: of [3 rows, 5 letters, height, width], in front and behind.
GAP = ((0, 0), (0, 0), (1, 2), (1, 2))


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Args:
        units: of the classical networks.
        networks: random networks a point of the one-step error.
        probes: of a network, for what is left at rest.
        patterns: the most of the modern networks.
    """

    units: int = 1000
    networks: int = 40
    probes: int = 40
    patterns: int = 20_000


def random_patterns(count: int, units: int, draw: torch.Generator) -> Tensor:
    """Patterns of -1 and 1 [P, N], every unit by itself."""
    return torch.randint(0, 2, (count, units), generator=draw) * 2.0 - 1


def turned(patterns: Tensor, rate: float, draw: torch.Generator) -> Tensor:
    """The patterns with this share of their units turned over."""
    return torch.where(torch.rand(patterns.shape, generator=draw) < rate, -patterns, patterns)


def one_step_error(load: float, effort: Effort, draw: torch.Generator) -> float:
    """The share of units of stored patterns that one update turns over."""
    wrong = []
    for _ in range(effort.networks):
        patterns = random_patterns(round(load * effort.units), effort.units, draw)
        wrong.append((HopfieldMemory().store(patterns).update(patterns) != patterns).float().mean().item())
    return sum(wrong) / len(wrong)


def overlaps_at_rest(load: float, units: int, effort: Effort, draw: torch.Generator) -> Tensor:
    """What is left of stored patterns where networks of this size rest that started on them."""
    found = []
    for _ in range(3):
        patterns = random_patterns(round(load * units), units, draw)
        probes = patterns[: effort.probes]
        found.append((HopfieldMemory().store(patterns).recall(probes, seed=draw).state * probes).mean(1))
    return torch.cat(found)


def mean_field() -> tuple[Tensor, Tensor]:
    """The theory of the same (Amit, Gutfreund & Sompolinsky 1985): loads from the edge down, and overlaps at rest."""
    y = torch.linspace(0.5, 4.0, 10_000, dtype=torch.float64)
    load = 0.5 * (torch.erf(y) / y - 2 / math.sqrt(math.pi) * torch.exp(-y * y)) ** 2
    # Where the load falls again with y the solution is not stable.
    edge = int(load.argmax())
    return load[edge:], torch.erf(y[edge:])


def mean_field_overlap(load: float) -> float:
    """The theory at a load; 0 beyond the edge."""
    loads, overlaps = mean_field()
    held = overlaps[loads >= load]
    return held[-1].item() if len(held) else 0.0


def magnetisation(temperature: float) -> float:
    """The theory of a single pattern: m = tanh(m / T)."""
    m = 1.0
    for _ in range(2000):
        m = math.tanh(m / temperature)
    return m


def share_recalled(count: int, units: int, draw: torch.Generator) -> float:
    """The share of patterns that a modern network brings back in one step, 10 % of the units turned over."""
    patterns = random_patterns(count, units, draw)
    asked = patterns[:1000]
    found = DenseHopfieldMemory(beta=1.0).store(patterns).recall(turned(asked, 0.1, draw), max_steps=1)
    return (found.state.sign() == asked).all(1).float().mean().item()


def draw_letters(axes: Axes, draw: torch.Generator) -> None:
    """Five letters, a fifth of their pixels turned over, and what the memory makes of them."""
    rows = [line.split() for line in LETTERS.strip().split("\n")]
    images = np.array([[[pixel == "#" for pixel in row[letter]] for row in rows] for letter in range(5)])
    letters = to_pattern(images)  # [5, 9, 8]
    memory = HopfieldMemory("pseudoinverse").store(letters)
    probes = turned(letters, 0.2, draw)
    found = memory.recall(probes, seed=draw)
    # One row of letters for each of the three, grey in between.
    frames = np.pad(np.stack([to_image(part) for part in (letters, probes, found.state)]), GAP, constant_values=160)
    axes.imshow(255 - frames.transpose(0, 2, 1, 3).reshape(3 * frames.shape[2], -1), "gray", vmin=0, vmax=255)
    axes.set_yticks([5.5 + 12 * row for row in range(3)], ["stored", "20 % turned", "recalled"])
    axes.set_xticks([])
    right = int((found.state == letters).flatten(1).all(1).sum())
    axes.set_title(f"letters, pseudoinverse rule: {right} of 5 right")
    before, after = found.energy[0, 0], found.energy[-1, 0]
    print(f"letters: {right} of 5 recalled; the energy of the first fell from {before:.1f} to {after:.1f}")


def draw_energy(axes: Axes, effort: Effort, draw: torch.Generator) -> None:
    """The energy of a few probes on their way."""
    patterns = random_patterns(effort.units // 10, effort.units, draw)
    memory = HopfieldMemory().store(patterns)
    for rate in (0.0, 0.1, 0.2, 0.3, 0.5):
        found = memory.recall(turned(patterns[0], rate, draw), seed=draw)
        overlap = memory.overlap(found.state)[0].item()
        axes.plot(found.energy / effort.units, "o-", label=f"{rate:.0%} turned: overlap {overlap:.2f}")
    axes.set(
        xlabel="step (every unit once)", ylabel="energy per unit", title=f"way to rest, N = {effort.units}, load 0.1"
    )
    axes.legend(fontsize=8)


def draw_one_step_error(axes: Axes, effort: Effort, draw: torch.Generator) -> None:
    """The error of one step over the load, with its theory."""
    loads = (0.08, 0.105, 0.138, 0.185, 0.25, 0.37)
    theory = [0.5 * math.erfc(1 / math.sqrt(2 * load)) for load in np.linspace(0.07, 0.4, 100)]
    axes.semilogy(np.linspace(0.07, 0.4, 100), theory, label="1/2 erfc(1 / sqrt(2 load))")
    measured = [one_step_error(load, effort, draw) for load in loads]
    axes.semilogy(loads, measured, "o", label=f"measured, N = {effort.units}")
    axes.set(xlabel="load (patterns per unit)", ylabel="units turned over", title="error of the first step")
    axes.legend(fontsize=8)
    for load, error in zip(loads, measured, strict=True):
        print(f"one-step error at load {load}: {error:.5f}, theory {0.5 * math.erfc(1 / math.sqrt(2 * load)):.5f}")


def draw_overlap(axes: Axes, effort: Effort, draw: torch.Generator) -> None:
    """What is left at rest over the load in networks of two sizes, with its theory."""
    loads = (0.05, 0.08, 0.1, 0.12, 0.13, 0.138, 0.145, 0.155, 0.17, 0.185, 0.2)
    theory, retrieved = mean_field()
    print(f"theory: retrieval ends at load {theory[0]:.4f}, with an overlap of {retrieved[0]:.3f}")
    line = [0.21, theory[0].item(), *theory[theory > 0.04].tolist()]
    axes.plot(line, [0.0, 0.0, *retrieved[theory > 0.04].tolist()], label="theory, N to infinity")
    for units, color in ((effort.units // 4, "tab:green"), (effort.units, "tab:orange")):
        found = [overlaps_at_rest(load, units, effort, draw) for load in loads]
        axes.plot(loads, [values.mean().item() for values in found], "o", color=color, label=f"mean, N = {units}")
        for load, values in zip(loads, found, strict=True):
            kept = values[values > 0.9]
            print(
                f"overlap at rest, N = {units}, load {load}: {values.mean():.3f}, theory {mean_field_overlap(load):.3f}"
            )
            print(f"    {len(kept) / len(values):.0%} above 0.9, which are {kept.mean():.3f} on average")
    for load, values in zip(loads, found, strict=True):
        axes.plot([load] * len(values), values, "k.", markersize=1.5, alpha=0.5)
    axes.axvline(0.138, color="gray", linestyle=":")
    axes.set(xlabel="load (patterns per unit)", ylabel="overlap", title="what is left at rest", ylim=(0, 1.05))
    axes.legend(fontsize=8, loc="lower left")


def print_rules(effort: Effort, draw: torch.Generator) -> None:
    """The share of patterns that every rule brings back from 10 % noise."""
    units = effort.units // 5
    for rule in ("hebb", "storkey", "pseudoinverse"):
        shares = []
        for load in (0.1, 0.2, 0.3, 0.4, 0.5, 0.7):
            right = torch.tensor(0.0)
            for _ in range(3):
                patterns = random_patterns(round(load * units), units, draw)
                found = HopfieldMemory(rule).store(patterns).recall(turned(patterns, 0.1, draw), seed=draw)
                right += (found.state == patterns).all(1).float().mean() / 3
            shares.append(f"{load}: {right:.0%}")
        print(f"patterns of {units} units back from 10 % noise, rule {rule!r}, by load: {', '.join(shares)}")


def draw_temperature(axes: Axes, effort: Effort, draw: torch.Generator) -> None:
    """The overlap with a single pattern over the temperature, with its theory."""
    units = effort.units // 2
    patterns = random_patterns(1, units, draw)
    memory = HopfieldMemory().store(patterns)
    temperatures = (0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.3, 1.6)
    axes.plot(line := np.linspace(0.05, 1.7, 200), [magnetisation(t) for t in line], label="m = tanh(m / T)")
    for temperature in temperatures:
        state = memory.recall(patterns.expand(16, -1), temperature=temperature, max_steps=20, seed=draw).state
        m = memory.overlap(state).abs()
        label = "measured, mean and spread of its size" if temperature == temperatures[0] else None
        axes.errorbar(temperature, m.mean().item(), m.std().item(), fmt="ko", markersize=4, label=label)
    axes.set(xlabel="temperature", ylabel="overlap", title=f"a single pattern is a magnet, N = {units}")
    axes.legend(fontsize=8)


def draw_modern(axes: Axes, effort: Effort, draw: torch.Generator) -> None:
    """The share of patterns that modern networks bring back over the number of patterns."""
    counts = [round(10 ** (exponent / 3)) for exponent in range(3, 3 * 6) if 10 ** (exponent / 3) < effort.patterns]
    counts.append(effort.patterns)
    for units in (16, 24, 32, 64):
        shares = [share_recalled(count, units, draw) for count in counts]
        axes.semilogx(counts, shares, "o-", markersize=4, label=f"{units} units")
        print(f"modern network, {units} units: {shares[-1]:.1%} of {counts[-1]} patterns recalled in one step")
    axes.axvline(0.138 * 64, color="gray", linestyle=":", label="0.138 * 64: the classical network of 64")
    axes.set(
        xlabel="patterns", ylabel="recalled", title="modern networks, beta 1, 10 % turned, one step", ylim=(0, 1.05)
    )
    axes.legend(fontsize=8, loc="lower left")


def main(path: str = "hopfield.png", effort: Effort | None = None) -> None:
    """Measure, print, and write the picture."""
    effort = effort or Effort()
    draw = torch.Generator().manual_seed(0)
    figure, panels = plt.subplots(2, 3, figsize=(15, 8.5), layout="constrained")
    draw_letters(panels[0, 0], draw)
    draw_energy(panels[0, 1], effort, draw)
    draw_one_step_error(panels[0, 2], effort, draw)
    draw_overlap(panels[1, 0], effort, draw)
    draw_temperature(panels[1, 1], effort, draw)
    draw_modern(panels[1, 2], effort, draw)
    print_rules(effort, draw)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    print(f"wrote {path}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    words = [word for word in sys.argv[1:] if word != "--quick"]
    quick = Effort(units=300, networks=10, probes=20, patterns=1000) if "--quick" in sys.argv else None
    main(*words[:1], effort=quick)
