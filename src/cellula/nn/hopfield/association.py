"""The update of the dense Hopfield network inside a layer: attention, with any number of steps before it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn

from cellula.errors import UsageError

__all__ = ["Association", "count"]


@dataclass(frozen=True)
class Association:
    """How queries find their values by way of keys.

    Args:
        hidden_size: units of a query and of a key, in all heads together, H.
        num_heads: associations side by side, each in its own H / num_heads units.
        beta: the inverse temperature; None for 1 / sqrt(H / num_heads), as in attention.
        num_steps: steps. All but the last bring the query nearer to the keys, the last one reads the values.
        dropout: share of the weights between queries and values that is set to 0 while training.
    """

    hidden_size: int
    num_heads: int = 1
    beta: float | None = None
    num_steps: int = 1
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("hidden_size", "num_heads", "num_steps"):
            count(getattr(self, name), name)
        if self.hidden_size % self.num_heads:
            raise UsageError(f"hidden_size={self.hidden_size} is no multiple of num_heads={self.num_heads}")
        beta = self.beta
        if beta is not None and (isinstance(beta, bool) or not isinstance(beta, Real) or not 0 < beta < math.inf):
            raise UsageError(f"beta is {beta!r}; write a finite number above 0, or None for 1 / sqrt(units of a head)")
        if isinstance(self.dropout, bool) or not isinstance(self.dropout, Real) or not 0 <= self.dropout < 1:
            raise UsageError(f"dropout is {self.dropout!r}; write a share from 0 up to, not including, 1")

    @property
    def scale(self) -> float:
        """The inverse temperature as a number."""
        return (self.hidden_size // self.num_heads) ** -0.5 if self.beta is None else float(self.beta)

    def __call__(
        self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, training: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Associate.

        Args:
            query: [..., T, H].
            keys: [..., S, H].
            values: [..., S, H].
            mask: which keys there are [..., S]; None: all. Where there is none at all, what is found is 0.
            training: whether to drop weights.

        Returns:
            What was found [..., T, H], and the weights between queries and values [..., heads, T, S].
        """
        query, keys, values = (self._split(part) for part in (query, keys, values))  # [..., heads, T or S, H / heads]
        there = None if mask is None else mask[..., None, None, :]
        for _ in range(self.num_steps - 1):
            query = self._weights(query, keys, there) @ keys
        weights = self._weights(query, keys, there)
        found = nn.functional.dropout(weights, self.dropout, training) @ values
        return found.transpose(-2, -3).flatten(-2), weights

    def _weights(self, query: Tensor, keys: Tensor, there: Tensor | None) -> Tensor:
        scores = self.scale * (query @ keys.transpose(-1, -2))  # [..., heads, T, S]
        if there is None:
            return scores.softmax(-1)
        # The lowest finite number and not minus infinity: a row without any key must not become NaN.
        return scores.masked_fill(~there, torch.finfo(scores.dtype).min).softmax(-1) * there

    def _split(self, value: Tensor) -> Tensor:
        """[..., S, H] to [..., heads, S, H / heads]."""
        return value.unflatten(-1, (self.num_heads, -1)).transpose(-2, -3)


def count(value: Any, name: str) -> int:
    """A whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise UsageError(f"{name} is {value!r}; write a whole number, 1 or more")
    return int(value)
