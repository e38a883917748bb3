"""The associative memory of Hopfield 1982: patterns in, a noisy probe, the pattern out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cellula.errors import UsageError
from cellula.nn.hopfield.dynamics import UPDATES, Coupling, Recall, as_generator, settle
from cellula.nn.hopfield.patterns import as_states, join, restore_buffers
from cellula.nn.hopfield.rules import RULES

__all__ = ["HopfieldMemory"]


class HopfieldMemory(nn.Module):
    """Patterns of -1 and 1, such as black-white images, that a noisy or partial probe brings back.

    Nothing is trained by gradient: a rule makes the weights from the patterns. Patterns have any shape; all units of a
    pattern are connected with each other.

    Args:
        rule: how patterns become weights. `"hebb"` holds about 0.138 random patterns per unit; `"storkey"` holds more,
            and their order matters; `"pseudoinverse"` makes a resting point of every pattern, as long as they are
            linearly independent and fewer than units.
        device, dtype: of weights and states; the dtype is torch's default unless given.

    Attributes:
        weight: the couplings [N, N], symmetric with a zero diagonal.
        patterns: all that was stored [P, *shape].

    Raises:
        UsageError: there is no such rule.

    Example:
        >>> import torch
        >>> from cellula import HopfieldMemory
        >>> memory = HopfieldMemory().store([[1, 1, 1, -1, -1, -1], [1, -1, 1, -1, 1, -1]])
        >>> memory.recall([1, 1, 1, -1, -1, 1], seed=0).state
        tensor([ 1.,  1.,  1., -1., -1., -1.])

    Reference:
        Hopfield 1982, Neural networks and physical systems with emergent collective computational abilities, PNAS 79.
        Storkey 1997, Increasing the capacity of a Hopfield network without sacrificing functionality, ICANN.
        Personnaz, Guyon & Dreyfus 1985, Information storage and retrieval in spin-glass like neural networks, Journal
        de Physique Lettres 46.
    """

    weight: Tensor
    patterns: Tensor

    def __init__(
        self, rule: str = "hebb", device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        if rule not in RULES:
            raise UsageError(f"rule is {rule!r}; write one of {', '.join(map(repr, RULES))}")
        self.rule = rule
        self.register_buffer("weight", torch.zeros(0, 0, device=device, dtype=dtype))
        self.register_buffer("patterns", torch.zeros(0, 0, device=device, dtype=dtype))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a pattern."""
        return tuple(self.patterns.shape[1:])

    @property
    def load(self) -> float:
        """Patterns per unit."""
        return len(self.patterns) / max(1, len(self.weight))

    @torch.no_grad()
    def store(self, patterns: Any) -> HopfieldMemory:
        """Store patterns beside those that are there.

        Args:
            patterns: numbers -1 and 1 in a tensor, an array or nested lists [P, *shape]. A single flat pattern [N] will
                do; a single first image needs an axis in front: `image[None]`.

        Returns:
            The memory itself.

        Raises:
            DataError: there are no patterns, a value is neither -1 nor 1, the shape is not that of earlier patterns, or
                the rule cannot hold these patterns. The memory then stays as it was.
        """
        shape = self.shape if len(self.patterns) else None
        new, _ = as_states(patterns, shape, self.patterns, "patterns")
        together, units = join(self.patterns, new), new[0].numel()
        # A copy, since a rule may write in place and may refuse half way.
        weight = self.weight.clone() if shape is not None else self.weight.new_zeros(units, units)
        weight = RULES[self.rule](weight, new.flatten(1), together.flatten(1))
        self.weight, self.patterns = weight.fill_diagonal_(0.0), together
        return self

    @torch.no_grad()
    def recall(
        self,
        probe: Any,
        update: str = "asynchronous",
        max_steps: int = 100,
        temperature: float = 0.0,
        seed: int | torch.Generator | None = None,
    ) -> Recall:
        """Let probes run until they rest.

        Args:
            probe: states of -1 and 1 in a tensor, an array or nested lists, one [*shape] or many [B, *shape].
            update: `"asynchronous"`: in a step the units move one after another, each once, in a random order; the
                energy never rises. `"synchronous"`: all units at once; it may end in a circle of two states.
            max_steps: the most steps.
            temperature: 0, or the temperature of stochastic (Glauber) updates: a unit in the field h becomes 1 with the
                probability 1 / (1 + exp(-2 h / T)). All steps are taken then, and the state is the last one drawn.
            seed: a number or a generator, for the order of units and what a temperature draws; None for torch's own.

        Returns:
            A `Recall`: the state, the energy of every step, the steps, and whether the state rests.

        Raises:
            DataError: a value is neither -1 nor 1, or the shape is not that of the patterns.
            UsageError: nothing was stored, or an argument is out of range.
        """
        if update not in UPDATES:
            raise UsageError(f"update is {update!r}; write one of {', '.join(map(repr, UPDATES))}")
        if isinstance(max_steps, bool) or not isinstance(max_steps, Integral) or max_steps < 1:
            raise UsageError(f"max_steps is {max_steps!r}; write a whole number, 1 or more")
        states, single = self._states(probe, "probe")
        coupling = Coupling(self.weight, _temperature(temperature), as_generator(seed))
        found = settle(coupling, states.flatten(1), update, int(max_steps))
        state = found.state.view(states.shape)
        if single:
            return Recall(state[0], found.energy[:, 0], found.steps[0], found.converged[0])
        return Recall(state, found.energy, found.steps, found.converged)

    @torch.no_grad()
    def update(
        self,
        state: Any,
        units: Iterable[int] | None = None,
        temperature: float = 0.0,
        seed: int | torch.Generator | None = None,
    ) -> Tensor:
        """One update: all units at once, or a few of them one after another.

        Args:
            state: [*shape] or [B, *shape].
            units: numbers of units, counted along the flattened pattern, in the order in which they move; None for
                all at once.
            temperature, seed: as in `recall`.

        Returns:
            The new state, in the shape of the old one.

        Raises:
            DataError, UsageError: as in `recall`; or there is no such unit.
        """
        states, single = self._states(state, "state")
        coupling = Coupling(self.weight, _temperature(temperature), as_generator(seed))
        flat = states.flatten(1)
        new = coupling.together(flat) if units is None else coupling.in_turn(flat, self._units(units))
        new = new.view(states.shape)
        return new[0] if single else new

    @torch.no_grad()
    def energy(self, state: Any) -> Tensor:
        """The energy -1/2 s W s of states [*shape] or [B, *shape]: a number each.

        Raises:
            DataError, UsageError: as in `recall`.
        """
        states, single = self._states(state, "state")
        energy = Coupling(self.weight).energy(states.flatten(1))
        return energy[0] if single else energy

    @torch.no_grad()
    def overlap(self, state: Any) -> Tensor:
        """How much states are like each stored pattern: [P], or [B, P] for many; 1 is equal, -1 the inverse.

        Raises:
            DataError, UsageError: as in `recall`.
        """
        states, single = self._states(state, "state")
        overlap = states.flatten(1) @ self.patterns.flatten(1).T / len(self.weight)
        return overlap[0] if single else overlap

    def forward(self, probe: Any) -> Tensor:
        """The state in which `recall(probe)` ends."""
        return self.recall(probe).state

    def extra_repr(self) -> str:
        """The rule; what is stored is data."""
        return repr(self.rule)

    def _states(self, value: Any, what: str) -> tuple[Tensor, bool]:
        if not len(self.patterns):
            raise UsageError("the memory is empty; store(patterns) first")
        return as_states(value, self.shape, self.patterns, what)

    def _units(self, units: Any) -> list[int]:
        given = units.tolist() if isinstance(units, Tensor | np.ndarray) else units
        if not isinstance(given, Iterable):
            raise UsageError(f"units is {units!r}; write the numbers of units in their order, such as [3, 1]")
        order = list(given)
        for unit in order:
            if isinstance(unit, bool) or not isinstance(unit, Integral) or int(unit) not in range(len(self.weight)):
                raise UsageError(f"units holds {unit!r}; write whole numbers from 0 to {len(self.weight) - 1}")
        return [int(unit) for unit in order]

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *rest: Any) -> None:
        restore_buffers(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _temperature(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) or value < 0:
        raise UsageError(f"temperature is {value!r}; write a finite number, 0 or more")
    return float(value)
