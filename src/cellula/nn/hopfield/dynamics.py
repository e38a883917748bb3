"""How a Hopfield network moves: updates, their energy, and the way to rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor

from cellula.errors import UsageError

__all__ = ["UPDATES", "Coupling", "Recall", "as_generator", "settle"]

# So many units move between two products with all weights: long enough for one wide product, short enough that bringing
# the fields of the block up to date after every unit costs little.
_BLOCK = 32


@dataclass(frozen=True, eq=False)
class Recall:
    """What a memory made of its probes.

    Args:
        state: where they ended, in the shape of the probes.
        energy: of the probes and after every step [S + 1, B]; [S + 1] for a single probe. A probe that rests keeps its
            energy while others move on.
        steps: how many steps changed the state [B], or a single number. A step updates every unit once.
        converged: whether the state rests, so that no further step would change it [B], or a single truth value. False
            where the steps ran out, where a synchronous update goes in a circle of two, and at any temperature.
    """

    state: Tensor
    energy: Tensor
    steps: Tensor
    converged: Tensor


@dataclass(frozen=True, eq=False)
class Coupling:
    """Symmetric weights without a diagonal [N, N], and how they move states [B, N] of -1 and 1.

    Args:
        weight: [N, N].
        temperature: 0: units follow their fields. Above: a unit in the field h becomes 1 with the probability
            1 / (1 + exp(-2 h / temperature)).
        generator: of the random numbers that an order and a temperature need; None for torch's own.
    """

    weight: Tensor
    temperature: float = 0.0
    generator: torch.Generator | None = None

    def energy(self, state: Tensor) -> Tensor:
        """-1/2 s W s of every state [B]."""
        return -0.5 * ((state @ self.weight) * state).sum(-1)

    def together(self, state: Tensor) -> Tensor:
        """Move all units at once."""
        return self._decide(state @ self.weight, state, self._rounding(), self._chances(state))

    def in_turn(self, state: Tensor, units: Sequence[int] | None = None) -> Tensor:
        """Move these units one after another; None: each once, in a random order that all states share."""
        if units is None:
            device = None if self.generator is None else self.generator.device
            units = torch.randperm(state.shape[1], generator=self.generator, device=device).tolist()
        # Units are rows here, so that what one update reads and writes lies together.
        turned = state.T.clone(memory_format=torch.contiguous_format)  # [N, B]
        rounding = self._rounding()
        # A block is read once, so that a unit may stand in it only once.
        size = _BLOCK if len(set(units)) == len(units) else 1
        for block in torch.tensor(units, dtype=torch.long, device=state.device).split(size):
            self._move_block(turned, block, rounding[block, None])
        return turned.T.contiguous()

    def _move_block(self, turned: Tensor, block: Tensor, rounding: Tensor) -> None:
        """Move the units of a block one after another, in place."""
        rows = self.weight[block]  # [K, N]
        field, values, inner = rows @ turned, turned[block], rows[:, block]
        for unit, new in self._moves(field, values, rounding):
            field.addr_(inner[:, unit], new - values[unit])
            values[unit] = new
        turned[block] = values

    def _moves(self, field: Tensor, values: Tensor, rounding: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Units in turn with their new values, each from the fields as the units before it left them."""
        chances, unit = self._chances(values), -1
        if chances is not None:
            for unit in range(len(values)):
                yield unit, self._decide(field[unit], values[unit], rounding[unit], chances[unit])
            return
        while True:
            # Units that stay in all states are passed over: near rest those are most of them.
            falls = field * values < -rounding
            wants = falls.any(1).tolist()
            unit = next((k for k in range(unit + 1, len(wants)) if wants[k]), len(wants))
            if unit == len(wants):
                return
            yield unit, torch.where(falls[unit], -values[unit], values[unit])

    def _rounding(self) -> Tensor:
        """Fields up to this size may be rounding alone [N]; such a field is no field."""
        return 4.0 * torch.finfo(self.weight.dtype).eps * self.weight.abs().sum(1)

    def _chances(self, like: Tensor) -> Tensor | None:
        """Numbers from 0 to 1 in this shape, where the temperature asks for them."""
        if not self.temperature:
            return None
        device = like.device if self.generator is None else self.generator.device
        return torch.rand(like.shape, generator=self.generator, device=device, dtype=like.dtype).to(like.device)

    def _decide(self, field: Tensor, old: Tensor, rounding: Tensor, chance: Tensor | None) -> Tensor:
        """The new values of units in their fields; without a field a unit stays, or is drawn as either."""
        there = field.abs() > rounding
        if chance is None:
            return torch.where(there, field.sign(), old)
        # A temperature that is 0 in this dtype would make 0 / 0 of no field.
        steepness = 2.0 / max(self.temperature, torch.finfo(field.dtype).tiny)
        return torch.where(chance < torch.sigmoid(steepness * field * there), 1.0, -1.0).to(old)


UPDATES: dict[str, Callable[[Coupling, Tensor], Tensor]] = {
    "asynchronous": Coupling.in_turn,
    "synchronous": Coupling.together,
}


def settle(coupling: Coupling, state: Tensor, update: str, max_steps: int) -> Recall:
    """Step until every probe rests or goes in a circle of two, or the steps run out.

    Args:
        coupling: at a temperature above 0 nothing ever rests, and all steps are taken.
        state: the probes [B, N].
        update: a key of `UPDATES`.
        max_steps: the most steps.
    """
    energies, state, before = [coupling.energy(state)], state.clone(), state.clone()
    steps = torch.zeros(len(state), dtype=torch.long, device=state.device)
    moving = torch.arange(len(state), device=state.device)
    for _ in range(max_steps):
        old = state[moving]
        new = UPDATES[update](coupling, old)
        changed = (new != old).any(1)
        if not coupling.temperature and not bool(changed.any()):
            break
        circles = (new == before[moving]).all(1)
        steps[moving] += changed
        before[moving], state[moving] = old, new
        energies.append(coupling.energy(state))
        if not coupling.temperature:
            moving = moving[changed & ~circles]
    # What rests when all units move at once rests whichever moves first.
    rests = (coupling.together(state) == state).all(1)
    return Recall(state, torch.stack(energies), steps, rests if not coupling.temperature else torch.zeros_like(rests))


def as_generator(seed: int | torch.Generator | None) -> torch.Generator | None:
    """The generator of random numbers that a seed means; None is torch's own."""
    if seed is None or isinstance(seed, torch.Generator):
        return seed
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise UsageError(f"seed is {seed!r}; write a whole number, a torch.Generator, or None for torch's own")
    return torch.Generator().manual_seed(int(seed))
