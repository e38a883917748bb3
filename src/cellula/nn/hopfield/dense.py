"""The modern associative memory: exponentially many patterns, mostly found in one step."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn

from cellula.errors import UsageError
from cellula.nn.hopfield.dynamics import Recall
from cellula.nn.hopfield.patterns import as_numbers, join, restore_buffers

__all__ = ["DenseHopfieldMemory"]

# Scores of so many pairs of probe and pattern are in memory at a time.
_PAIRS = 2**24


class DenseHopfieldMemory(nn.Module):
    """Patterns of any real numbers that a noisy or partial probe brings back, far more of them than there are units.

    The state becomes the mean of all patterns, weighted by the softmax of beta times its products with them. The energy
    -log(sum(exp(beta X s))) / beta + |s|^2 / 2 (with a constant that keeps it from falling below 0) never rises.

    Args:
        beta: the inverse temperature, above 0. Large: the state goes to a single pattern; small: to the mean of several
            or of all. It multiplies products over all units: for long patterns of -1 and 1 a beta below 1 is enough.
        device, dtype: of the patterns; the dtype is torch's default unless given.

    Attributes:
        patterns: all that was stored [P, *shape].

    Raises:
        UsageError: beta is out of range.

    Example:
        >>> import torch
        >>> from cellula.nn.hopfield import DenseHopfieldMemory
        >>> memory = DenseHopfieldMemory(beta=2.0).store([[1, 1, 1, -1], [1, -1, -1, -1], [-1, -1, 1, 1]])
        >>> memory.recall([1, 1, 0.5, 0]).state.round(decimals=2)
        tensor([ 1.,  1.,  1., -1.])

    Reference:
        Ramsauer et al. 2021, Hopfield Networks is All You Need, ICLR, https://arxiv.org/abs/2008.02217
        Krotov & Hopfield 2016, Dense Associative Memory for Pattern Recognition, NIPS.
        Demircigil et al. 2017, On a Model of Associative Memory with Huge Storage Capacity, Journal of Statistical
        Physics 168.
    """

    patterns: Tensor

    def __init__(
        self, beta: float = 1.0, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.beta = _positive(beta, "beta")
        self.register_buffer("patterns", torch.zeros(0, 0, device=device, dtype=dtype))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a pattern."""
        return tuple(self.patterns.shape[1:])

    @torch.no_grad()
    def store(self, patterns: Any) -> DenseHopfieldMemory:
        """Store patterns beside those that are there.

        Args:
            patterns: finite numbers in a tensor, an array or nested lists [P, *shape]. A single flat pattern [N] will
                do; a single first image needs an axis in front: `image[None]`.

        Returns:
            The memory itself.

        Raises:
            DataError: there are no patterns, a value is not finite, or the shape is not that of earlier patterns.
        """
        shape = self.shape if len(self.patterns) else None
        new, _ = as_numbers(patterns, shape, self.patterns, "patterns")
        self.patterns = join(self.patterns, new)
        return self

    def recall(self, probe: Any, max_steps: int = 100, tolerance: float = 1e-4) -> Recall:
        """Let probes run until they rest; gradients flow back to the probes.

        Args:
            probe: states in a tensor, an array or nested lists, one [*shape] or many [B, *shape]. Unknown units are 0.
            max_steps: the most steps; 1 is mostly enough.
            tolerance: a state rests where no unit moves further than this in a step.

        Returns:
            A `Recall`. The state lies between the patterns; where they are of -1 and 1, `state.sign()` is one again.

        Raises:
            DataError: a value is not finite, or the shape is not that of the patterns.
            UsageError: nothing was stored, or an argument is out of range.
        """
        if isinstance(max_steps, bool) or not isinstance(max_steps, Integral) or max_steps < 1:
            raise UsageError(f"max_steps is {max_steps!r}; write a whole number, 1 or more")
        tolerance = _positive(tolerance, "tolerance")
        states, single = self._states(probe, "probe")
        rows = max(1, _PAIRS // len(self.patterns))
        parts = [self._settle(part, int(max_steps), tolerance) for part in states.flatten(1).split(rows)]
        longest = max((len(part.energy) for part in parts), default=1)
        # A part that rests earlier keeps its energy.
        energies = [torch.cat([p.energy, p.energy[-1:].expand(longest - len(p.energy), -1)]) for p in parts]
        state = torch.cat([part.state for part in parts]).view(states.shape)
        steps, converged = (torch.cat([getattr(part, name) for part in parts]) for name in ("steps", "converged"))
        energy = torch.cat(energies, 1)
        return (
            Recall(state[0], energy[:, 0], steps[0], converged[0])
            if single
            else Recall(state, energy, steps, converged)
        )

    def energy(self, state: Any) -> Tensor:
        """The energy of states [*shape] or [B, *shape]: a number each, 0 or more.

        Raises:
            DataError, UsageError: as in `recall`.
        """
        states, single = self._states(state, "state")
        rows = max(1, _PAIRS // len(self.patterns))
        energy = torch.cat([self._energy(part, self._scores(part)) for part in states.flatten(1).split(rows)])
        return energy[0] if single else energy

    def forward(self, probe: Any) -> Tensor:
        """The state in which `recall(probe)` ends."""
        return self.recall(probe).state

    def extra_repr(self) -> str:
        """The inverse temperature; what is stored is data."""
        return f"beta={self.beta:g}"

    def _settle(self, state: Tensor, max_steps: int, tolerance: float) -> Recall:
        """`recall` of flat probes [B, N]."""
        scores = self._scores(state)
        energies = [self._energy(state, scores)]
        steps = torch.zeros(len(state), dtype=torch.long, device=state.device)
        rests = torch.zeros_like(steps, dtype=torch.bool)
        for step in range(max_steps + 1):
            new = scores.softmax(-1) @ self.patterns.flatten(1)
            rests = rests | ((new - state).abs().amax(1) <= tolerance)
            # One look more than steps: it tells whether the last state rests.
            if step == max_steps or bool(rests.all()):
                break
            steps += ~rests
            # Who rests stays, so that a result does not depend on the other probes.
            state = torch.where(rests[:, None], state, new)
            scores = self._scores(state)
            energies.append(self._energy(state, scores))
        return Recall(state, torch.stack(energies), steps, rests)

    def _scores(self, state: Tensor) -> Tensor:
        """beta X s for every state and pattern [B, P]."""
        return self.beta * state @ self.patterns.flatten(1).T

    def _energy(self, state: Tensor, scores: Tensor) -> Tensor:
        norm = self.patterns.flatten(1).square().sum(1).max()
        constant = math.log(len(self.patterns)) / self.beta + 0.5 * norm
        return 0.5 * state.square().sum(1) - scores.logsumexp(1) / self.beta + constant

    def _states(self, value: Any, what: str) -> tuple[Tensor, bool]:
        if not len(self.patterns):
            raise UsageError("the memory is empty; store(patterns) first")
        return as_numbers(value, self.shape, self.patterns, what)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *rest: Any) -> None:
        restore_buffers(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _positive(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) or value <= 0:
        raise UsageError(f"{name} is {value!r}; write a finite number above 0")
    return float(value)
