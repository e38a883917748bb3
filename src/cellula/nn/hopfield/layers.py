"""Hopfield layers: the dense associative memory as a part of a network that is trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cellula.errors import UsageError
from cellula.nn.hopfield.association import Association, count
from cellula.nn.hopfield.sets import check_units, masked, reset, shown, with_batch_in_front

__all__ = ["HopfieldAssociation", "HopfieldLookup", "HopfieldPooling"]


class HopfieldAssociation(nn.Module):
    """Associate two sets: every state pattern asks all stored patterns and takes the mean of those it is like.

    With one step this is attention, with the states as queries and the stored patterns as keys and values, all led by
    learned linear maps into a space of H units. More steps bring the states nearer to the stored patterns first. Order
    plays no role: permuted stored patterns give the same, permuted states the same permuted.

    Args:
        input_size: units of a state pattern, I.
        hidden_size: units of the associative space, H.
        output_size: units of the output, O; None for I.
        stored_size: units of a stored pattern, K; None for I.
        num_heads: associations side by side, in H / num_heads units each.
        beta: the inverse temperature, None for 1 / sqrt(H / num_heads): large to find one pattern, small for a mean.
        num_steps: steps of the association.
        dropout: share of the weights between states and stored patterns that is set to 0 while training.
        batch_first: sets are [B, T, ...] instead of [T, B, ...].
        device, dtype: of the parameters.

    Raises:
        UsageError: an argument is out of range.

    Example:
        >>> import torch
        >>> from cellula.nn.hopfield import HopfieldAssociation
        >>> layer = HopfieldAssociation(3, 8, output_size=5, stored_size=4)
        >>> layer(torch.zeros(6, 2, 3), torch.zeros(7, 2, 4)).shape      # states [T, B, I], stored [S, B, K]
        torch.Size([6, 2, 5])

    Reference:
        Ramsauer et al. 2021, Hopfield Networks is All You Need, ICLR, `Hopfield`, https://arxiv.org/abs/2008.02217
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int | None = None,
        stored_size: int | None = None,
        num_heads: int = 1,
        beta: float | None = None,
        num_steps: int = 1,
        dropout: float = 0.0,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.association = Association(hidden_size, num_heads, beta, num_steps, dropout)
        self.input_size, self.batch_first = count(input_size, "input_size"), bool(batch_first)
        self.output_size = self.input_size if output_size is None else count(output_size, "output_size")
        self.stored_size = self.input_size if stored_size is None else count(stored_size, "stored_size")
        self.query = nn.Linear(self.input_size, hidden_size, device=device, dtype=dtype)
        self.key = nn.Linear(self.stored_size, hidden_size, device=device, dtype=dtype)
        self.value = nn.Linear(self.stored_size, hidden_size, device=device, dtype=dtype)
        self.output = nn.Linear(hidden_size, self.output_size, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fill all parameters anew: matrices after Glorot and Bengio, biases 0."""
        reset(self.query, self.key, self.value, self.output)

    def forward(
        self, state: Tensor, stored: Tensor | None = None, mask: Tensor | None = None, *, with_weights: bool = False
    ) -> Any:
        """Associate states with stored patterns.

        Args:
            state: the state patterns [T, B, I], or [B, T, I] with `batch_first`.
            stored: the stored patterns [S, B, K], or [B, S, K]; None: the states themselves.
            mask: truth values [S, B], or [B, S]: which stored patterns there are. What is not there is not read; where
                nothing is there, nothing is found (the output is its bias).
            with_weights: whether to return the weights too.

        Returns:
            The output [T, B, O], or [B, T, O]; `with_weights` also the weights [B, num_heads, T, S].

        Raises:
            UsageError: a shape does not fit.
        """
        state = with_batch_in_front(state, self.input_size, self.batch_first, "the state")
        if stored is None:
            if self.stored_size != self.input_size:
                raise UsageError(
                    f"stored patterns have {self.stored_size} units and states {self.input_size}; give `stored`"
                )
            state, mask = masked(state, mask, self.batch_first)
            patterns = state
        else:
            patterns = with_batch_in_front(stored, self.stored_size, self.batch_first, "the stored set")
            patterns, mask = masked(patterns, mask, self.batch_first)
        if len(patterns) != len(state):
            raise UsageError(f"there are {len(state)} sets of states, but {len(patterns)} of stored patterns")
        keys, values = self.key(patterns), self.value(patterns)  # [B, S, H]
        found, weights = self.association(self.query(state), keys, values, mask, self.training)
        output = self.output(found)  # [B, T, O]
        output = output if self.batch_first else output.transpose(0, 1)
        return (output, weights) if with_weights else output

    def __repr__(self) -> str:
        sizes = {"output_size": self.input_size, "stored_size": self.input_size}
        return shown(self, (self.input_size, self.association.hidden_size), sizes)


class HopfieldPooling(nn.Module):
    """Pool a set: learned queries, the same for all sets, take the mean of the patterns that they are like.

    What a query stands for is learned: one that is like a rare pattern finds it among thousands, where a mean over the
    set would drown it. With few steps and a small beta it starts near the mean.

    Args:
        input_size: units of a stored pattern, I.
        hidden_size: units of the associative space, H.
        output_size: units of the output of a query, O; None for I.
        num_queries: learned queries, Q.
        num_heads, beta, num_steps, dropout, batch_first, device, dtype: as in `HopfieldAssociation`.

    Raises:
        UsageError: an argument is out of range.

    Example:
        >>> import torch
        >>> from cellula.nn.hopfield import HopfieldPooling
        >>> pool = HopfieldPooling(3, 8, output_size=5, num_queries=2)
        >>> pool(torch.zeros(100, 4, 3)).shape                           # sets [S, B, I]
        torch.Size([4, 10])

    Reference:
        Ramsauer et al. 2021, Hopfield Networks is All You Need, ICLR, https://arxiv.org/abs/2008.02217
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int | None = None,
        num_queries: int = 1,
        num_heads: int = 1,
        beta: float | None = None,
        num_steps: int = 1,
        dropout: float = 0.0,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.association = Association(hidden_size, num_heads, beta, num_steps, dropout)
        self.input_size, self.batch_first = count(input_size, "input_size"), bool(batch_first)
        self.output_size = self.input_size if output_size is None else count(output_size, "output_size")
        self.num_queries = count(num_queries, "num_queries")
        self.query = nn.Parameter(torch.empty(num_queries, hidden_size, device=device, dtype=dtype))
        self.key = nn.Linear(self.input_size, hidden_size, device=device, dtype=dtype)
        self.value = nn.Linear(self.input_size, hidden_size, device=device, dtype=dtype)
        self.output = nn.Linear(hidden_size, self.output_size, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fill all parameters anew: matrices after Glorot and Bengio, biases 0, queries of length about 1."""
        reset(self.key, self.value, self.output)
        nn.init.normal_(self.query, std=self.query.shape[1] ** -0.5)

    def forward(self, stored: Tensor, mask: Tensor | None = None, *, with_weights: bool = False) -> Any:
        """Pool sets.

        Args:
            stored: the stored patterns [S, B, I], or [B, S, I] with `batch_first`.
            mask: truth values [S, B], or [B, S]: which stored patterns there are, as in `HopfieldAssociation`.
            with_weights: whether to return the weights too.

        Returns:
            What the queries found, side by side [B, Q*O]; `with_weights` also the weights [B, num_heads, Q, S].

        Raises:
            UsageError: a shape does not fit.
        """
        patterns = with_batch_in_front(stored, self.input_size, self.batch_first, "the stored set")
        patterns, mask = masked(patterns, mask, self.batch_first)
        query = self.query.expand(len(patterns), -1, -1)  # [B, Q, H]
        found, weights = self.association(query, self.key(patterns), self.value(patterns), mask, self.training)
        output = self.output(found).flatten(1)
        return (output, weights) if with_weights else output

    def __repr__(self) -> str:
        sizes = {"output_size": self.input_size, "num_queries": 1}
        return shown(self, (self.input_size, self.association.hidden_size), sizes)


class HopfieldLookup(nn.Module):
    """Look up: the stored patterns and what they stand for are learned; every input finds those that it is like.

    A table of prototypes that is read by likeness; with a large beta nearly the nearest one alone.

    Args:
        input_size: units of a state pattern, I.
        hidden_size: units of the associative space, H.
        output_size: units of the output, O; None for I.
        num_patterns: learned stored patterns, S.
        num_heads, beta, num_steps, dropout, device, dtype: as in `HopfieldAssociation`.

    Raises:
        UsageError: an argument is out of range.

    Example:
        >>> import torch
        >>> from cellula.nn.hopfield import HopfieldLookup
        >>> lookup = HopfieldLookup(3, 8, output_size=5, num_patterns=20)
        >>> lookup(torch.zeros(6, 2, 3)).shape                           # [..., I]
        torch.Size([6, 2, 5])

    Reference:
        Ramsauer et al. 2021, Hopfield Networks is All You Need, ICLR, `HopfieldLayer`, https://arxiv.org/abs/2008.02217
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int | None = None,
        num_patterns: int = 32,
        num_heads: int = 1,
        beta: float | None = None,
        num_steps: int = 1,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.association = Association(hidden_size, num_heads, beta, num_steps, dropout)
        self.input_size = count(input_size, "input_size")
        self.output_size = self.input_size if output_size is None else count(output_size, "output_size")
        self.num_patterns = count(num_patterns, "num_patterns")
        self.query = nn.Linear(self.input_size, hidden_size, device=device, dtype=dtype)
        self.key = nn.Parameter(torch.empty(num_patterns, hidden_size, device=device, dtype=dtype))
        self.value = nn.Parameter(torch.empty(num_patterns, hidden_size, device=device, dtype=dtype))
        self.output = nn.Linear(hidden_size, self.output_size, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fill all parameters anew: maps after Glorot and Bengio, biases 0, stored patterns and their values normal."""
        reset(self.query, self.output)
        # Keys that differ as much as queries do, so that from the start inputs find different ones.
        nn.init.normal_(self.key)
        nn.init.normal_(self.value)

    def forward(self, state: Tensor, *, with_weights: bool = False) -> Any:
        """Look up.

        Args:
            state: the state patterns [..., I].
            with_weights: whether to return the weights too.

        Returns:
            The output [..., O]; `with_weights` also the weights [..., num_heads, S].

        Raises:
            UsageError: the shape does not fit.
        """
        check_units(state, self.input_size, "the state")
        # All inputs ask the same patterns: one set of states, whatever axes they have.
        query = self.query(state.reshape(-1, self.input_size))
        found, weights = self.association(query, self.key, self.value, training=self.training)
        output = self.output(found).view(*state.shape[:-1], self.output_size)
        if not with_weights:
            return output
        return output, weights.transpose(0, 1).reshape(*state.shape[:-1], *weights.shape[::2])

    def __repr__(self) -> str:
        sizes = {"output_size": self.input_size, "num_patterns": 32}
        return shown(self, (self.input_size, self.association.hidden_size), sizes)
