"""How far back a layer remembers: the gradient of its last output, step by step into the past."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cellula.backends import compile
from cellula.errors import UsageError
from cellula.nn.direction import Direction
from cellula.nn.recurrent import Recurrent
from cellula.plan.plan import make_plan

__all__ = ["SHARE", "VERDICTS", "GradientOverLags", "gradient_over_lags"]

# The effective memory holds this share of the sum of all norms.
SHARE = 0.9
# A gradient that changes by less than this factor over `SPAN` steps, or over all that were looked at, is steady.
FACTOR, SPAN = 10.0, 100
# The end of the steps cuts the memory off where the norm there is still above this share of the largest one.
ALIVE = 0.01
# Below this, float64 runs out of small numbers.
SMALLEST = 1e-290

VERDICTS: dict[str, str] = {
    "vanishes": "shrinks tenfold or more in 100 steps, or in all that were looked at if they are more",
    "steady": "changes by less than tenfold in that time",
    "explodes": "grows tenfold or more in that time, or is not finite",
    "no memory": "is 0 at every lag but the first: no step looks back",
    "no gradient": "is 0 everywhere: the output does not follow the input smoothly",
}


@dataclass(frozen=True, eq=False)
class GradientOverLags:
    """The gradient of the last output with respect to what went into every step before it.

    Args:
        lags: 0 ... T-1; lag 0 is the last step.
        norms: for every lag the norm of the gradient with respect to the input, float64; infinite where the gradient is
            not a finite number.
        states: for every state by its name, in the same way, the gradient with respect to the value that the step began
            with; empty where it was not asked for.
        share: what the effective memory means, see there.

    Attributes:
        effective_memory: the least lag k such that lags 0 ... k hold 90 % (`share`) of the sum of all norms.
        growth: by what factor the norm changes from one lag to the next, fitted to its logarithm over the second half
            of the lags where it is finite and not 0; 0 where the memory ends at some lag, or there is none.
        verdict: a word of `VERDICTS`, from the growth.
    """

    lags: np.ndarray
    norms: np.ndarray
    states: Mapping[str, np.ndarray] = field(default_factory=dict)
    share: float = SHARE

    @property
    def effective_memory(self) -> int:
        """The least lag k such that lags 0 ... k hold 90 % (`share`) of the sum of all norms."""
        if self.not_finite_from is not None:
            # The sum is infinite from there on.
            return self.not_finite_from
        largest = self.norms.max()
        if largest == 0.0:
            return 0
        sums = np.cumsum(self.norms / largest)
        # Rounding must not count a lag more.
        return int(np.argmax(sums >= self.share * sums[-1] * (1.0 - 1e-12)))

    @property
    def is_cut_off(self) -> bool:
        """Whether the memory may reach further back than was looked: the norm is not small at the last lag."""
        return bool(self.norms[-1] > ALIVE * self.norms[:-1].max(initial=0.0))

    @property
    def not_finite_from(self) -> int | None:
        """The first lag at which the gradient overflows or is not a number; None where it never does."""
        wrong = ~np.isfinite(self.norms)
        return int(np.argmax(wrong)) if wrong.any() else None

    @property
    def growth(self) -> float:
        """By what factor the norm changes from one lag to the next, over the second half of the lags."""
        known = np.flatnonzero(np.isfinite(self.norms) & (self.norms > 0.0))
        # 0 from some lag on is a memory that ends, unless the numbers only became too small to be told from 0.
        ends = self.norms[-1] == 0.0 and self.norms[known].min(initial=math.inf) > SMALLEST
        if ends or self.norms[1:].max(initial=0.0) == 0.0:
            return 0.0
        if len(known) < 2:
            return math.inf
        tail = known[min(len(known) // 2, len(known) - 2) :]
        return float(np.exp(np.polyfit(tail, np.log(self.norms[tail]), 1)[0]))

    @property
    def verdict(self) -> str:
        """What the growth means, one word of `VERDICTS`."""
        if self.not_finite_from is not None:
            return "explodes"
        if self.norms.max() == 0.0:
            return "no gradient"
        if self.norms[1:].max() == 0.0:
            return "no memory"
        growth = self.growth
        change = math.log(growth) * max(SPAN, len(self.lags)) if growth > 0.0 else -math.inf
        if abs(change) < math.log(FACTOR):
            return "steady"
        return "explodes" if change > 0.0 else "vanishes"

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data for JSON; a norm that is not finite is None."""
        return {
            "verdict": self.verdict,
            "effective_memory": self.effective_memory,
            "is_cut_off": self.is_cut_off,
            "share": self.share,
            "growth": self.growth if math.isfinite(self.growth) else None,
            "not_finite_from": self.not_finite_from,
            "norms": _plain(self.norms),
            "states": {name: _plain(norms) for name, norms in self.states.items()},
        }

    def __str__(self) -> str:
        steps = len(self.lags)
        if self.verdict in ("no memory", "no gradient"):
            return f"{self.verdict}: the gradient of the last output {VERDICTS[self.verdict]}"
        reach = f"{self.share:.0%} of it comes from the last {self.effective_memory + 1} of {steps} steps"
        if self.not_finite_from is not None:
            reach = f"it is not finite from {self.not_finite_from} steps back on"
        elif self.is_cut_off:
            reach += ", and over all of them it does not die away"
        return f"{self.verdict}: the gradient of the last output changes by {self.growth:.3g} a step back; {reach}"


def gradient_over_lags(
    layer: Recurrent, x: Tensor, state: Any = None, *, probes: int = 8, seed: int = 0, states: bool = False
) -> GradientOverLags:
    """Measure how far back the gradient of the last output reaches.

    The last output is projected on random directions of length 1. The norm at lag k is the root mean square, over these
    directions and the rows of the batch, of the norm of the gradient with respect to the input k steps back: the
    Frobenius norm of that Jacobian divided by the square root of the number of output units. It is computed in float64,
    whatever the layer's own type, with dropout and zoneout at their expectation; the layer itself is left as it is.

    Args:
        layer: a recurrent module, trained or not. Of a bidirectional one the forward direction counts.
        x: the input [T, B, I], or [B, T, I] where the layer has `batch_first`; at least 2 steps.
        state: where to start, as the layer takes it; None for its initial state.
        probes: random directions.
        seed: of the directions.
        states: also with respect to every state; the steps then run one by one, which takes longer.

    Returns:
        Lags, norms, effective memory, growth and verdict.

    Raises:
        UsageError: the input does not fit, has fewer than 2 steps, or holds a number that is not finite; a parameter is
            not finite; or `states` of a bidirectional layer.

    Example:
        >>> import torch
        >>> from cellula import Recurrent
        >>> from cellula.inspection.memory import gradient_over_lags
        >>> halved = Recurrent("h[t] = 0.5 * h[t-1] + x[t]", 3, 3)
        >>> found = gradient_over_lags(halved, torch.zeros(50, 1, 3))
        >>> found.verdict, found.effective_memory, round(found.growth, 6)
        ('vanishes', 3, 0.5)

    Reference: Hochreiter 1991; Bengio, Simard & Frasconi 1994; Pascanu, Mikolov & Bengio 2013 for gradients that vanish
    and explode; Miller & Hardt 2019 for what a recurrent network that forgets can be replaced by.
    """
    if isinstance(probes, bool) or not isinstance(probes, int) or probes < 1:
        raise UsageError(f"probes is {probes!r}; write a whole number, 1 or more")
    if states and layer.bidirectional:
        raise UsageError("states=True needs steps one by one, which a bidirectional layer does not have; leave it out")
    exact, x = _exact_copy(layer), _checked_input(layer, x).double()
    start = None
    if state is not None:
        values = layer.state(**state) if isinstance(state, Mapping) else state
        start = layer._state_type(*(_repeated(value, probes) for value in values))
    # Rows do not see each other: every probe is a row of its own, and one walk back serves all.
    x = x.repeat_interleave(probes, dim=0 if layer.batch_first else 1).requires_grad_()
    output, begun = _run_by_steps(exact, x, start) if states else (_last_output(exact, x, start), {})
    leaves = [x, *(value for values in begun.values() for parts in values for value in parts)]
    gradients = _gradients(output, leaves, _directions(output, layer.directions, seed))
    of_input = gradients[0].transpose(0, 1) if layer.batch_first else gradients[0]  # [T, B*probes, I]
    steps, rows = of_input.shape[:2]
    rest = iter(gradients[1:])
    of_states = {
        name: np.array([_norm([next(rest) for _ in parts], rows) for parts in values][::-1])
        for name, values in begun.items()
    }
    norms = np.array([_norm([of_input[step]], rows) for step in range(steps)][::-1])
    return GradientOverLags(np.arange(steps), norms, of_states)


def _exact_copy(layer: Recurrent) -> Recurrent:
    """The layer in float64 and in evaluation, in plain torch, with parameters that need no gradient."""
    for name, parameter in layer.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise UsageError(f"the parameter {name} holds a number that is not finite; load or train the layer again")
    exact = copy.deepcopy(layer).double().eval().requires_grad_(False)
    # A single look needs no kernels to be compiled.
    program = compile(make_plan(layer.graph), "reference")
    for direction in exact.layers:
        assert isinstance(direction, Direction)
        direction.program = program
    exact.checkpoint_every = None
    return exact


def _checked_input(layer: Recurrent, x: Tensor) -> Tensor:
    steps = layer._checked(x).shape[0]
    if steps < 2:
        raise UsageError(f"the input has {steps} step; a gradient over lags needs at least 2")
    if x.shape[0 if layer.batch_first else 1] == 0:
        raise UsageError("the input has no rows (B = 0); give at least one sequence")
    if not bool(torch.isfinite(x).all()):
        raise UsageError("the input holds a number that is not finite (NaN or infinity); remove it")
    return x.detach()


def _gradients(output: Tensor, leaves: list[Tensor], directions: Tensor) -> list[Tensor]:
    """The gradient of the projected output with respect to each leaf; zeros for what it does not depend on."""
    if not output.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    found = torch.autograd.grad(output, leaves, directions, allow_unused=True)
    return [torch.zeros_like(leaf) if value is None else value for value, leaf in zip(found, leaves, strict=True)]


def _repeated(value: Any, probes: int) -> Any:
    """A state [L*D, B, H], or a tuple of [B, H], with every row as often as there are probes."""
    if isinstance(value, Tensor):
        return value.detach().double().repeat_interleave(probes, dim=-2)
    return tuple(_repeated(part, probes) for part in value)


def _last_output(layer: Recurrent, x: Tensor, start: Any) -> Tensor:
    output, _ = layer(x, start)
    return output[:, -1] if layer.batch_first else output[-1]  # [B*probes, D*H]


def _run_by_steps(layer: Recurrent, x: Tensor, start: Any) -> tuple[Tensor, dict[str, list[tuple[Tensor, ...]]]]:
    """The last output, and by name the state that every step began with."""
    rows = x.transpose(0, 1) if layer.batch_first else x
    if start is None:
        parts = [direction.start(rows) for direction in layer._all()]
        start = layer._state_type(*(tuple(part[name] for part in parts) for name in layer.state_names))
    # What is given is a leaf too.
    state = layer._state_type(*(tuple(v.clone().requires_grad_() for v in value) for value in start))
    begun: dict[str, list[tuple[Tensor, ...]]] = {name: [] for name in layer.state_names}
    output = x
    for step in rows.unbind(0):
        for name, value in zip(layer.state_names, state, strict=True):
            begun[name].append((value,) if isinstance(value, Tensor) else value)
        output, state = layer.step(step, state)
    return output, begun


def _directions(output: Tensor, sides: int, seed: int) -> Tensor:
    """Random directions of length 1 for every row, among the units of the forward direction [B*probes, D*H]."""
    generator = torch.Generator().manual_seed(seed)
    units = output.shape[-1] // sides
    drawn = torch.randn(output.shape[0], units, dtype=torch.float64, generator=generator)
    drawn = drawn / torch.linalg.vector_norm(drawn, dim=-1, keepdim=True)
    return torch.nn.functional.pad(drawn, (0, output.shape[-1] - units)).to(output.device)


def _norm(gradients: list[Tensor], rows: int) -> float:
    """The root mean square over the rows of the norms of their gradients; infinite where one is not finite."""
    values = torch.cat([gradient.detach().reshape(-1) for gradient in gradients])
    largest = float(values.abs().max()) if values.numel() else 0.0
    if largest == 0.0 or not math.isfinite(largest):
        return math.inf if largest else 0.0
    # Squares of very large or very small numbers would overflow or vanish.
    return largest * float((values / largest).square().sum().div(rows).sqrt())


def _plain(norms: np.ndarray) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in norms]
