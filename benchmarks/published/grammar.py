"""The embedded Reber grammar: strings, and after every symbol the symbols that may follow."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["SYMBOLS", "Batch", "Example", "distinct_examples", "draw_example", "encode"]

SYMBOLS = "BTPSXVE"
# The inner grammar: node -> symbol -> next node. It begins with B in node 0 and ends with E.
_INNER: tuple[dict[str, int], ...] = (
    {"B": 1},
    {"T": 2, "P": 3},
    {"S": 2, "X": 4},
    {"T": 3, "V": 5},
    {"X": 3, "S": 6},
    {"P": 4, "V": 6},
    {"E": 7},
)
_INNER_END = 7


@dataclass(frozen=True)
class Example:
    """A string, and what may follow.

    Args:
        text: the symbols.
        legal: for every symbol but the last, the symbols that the grammar allows next.
    """

    text: str
    legal: tuple[str, ...]


def draw_example(generator: random.Random) -> Example:
    """One string: B, T or P, a string of the inner grammar, the same T or P, E; every choice is a fair coin.

    Example:
        >>> draw_example(random.Random(0)).text
        'BPBTXSEPE'
    """
    outer = generator.choice("TP")
    steps = [("B", "B"), (outer, "TP"), *_walk(generator), (outer, outer), ("E", "E")]
    return Example("".join(symbol for symbol, _ in steps), tuple(legal for _, legal in steps[1:]))


def _walk(generator: random.Random) -> Iterator[tuple[str, str]]:
    """The symbols of the inner grammar with what was legal in their place."""
    node = 0
    while node != _INNER_END:
        legal = "".join(_INNER[node])
        symbol = generator.choice(legal)
        yield symbol, legal
        node = _INNER[node][symbol]


def distinct_examples(generator: random.Random, count: int, known: Sequence[Example] = ()) -> list[Example]:
    """So many examples, no two of the same text and none of a text that is known."""
    found = {example.text: example for example in known}
    wanted = len(found) + count
    while len(found) < wanted:
        example = draw_example(generator)
        found.setdefault(example.text, example)
    return list(found.values())[-count:]


class Batch(NamedTuple):
    """Strings as tensors; behind a string's end everything is 0.

    Args:
        inputs: the symbols but the last [T, B, 7], one of seven.
        following: the symbol that follows [T, B], as a number.
        legal: which symbols may follow [T, B, 7].
        lengths: the steps of every string [B].
    """

    inputs: Tensor
    following: Tensor
    legal: Tensor
    lengths: Tensor


def encode(examples: list[Example]) -> Batch:
    """Examples as tensors."""
    lengths = torch.tensor([len(example.legal) for example in examples])
    longest = int(lengths.max())
    inputs = torch.zeros(longest, len(examples), len(SYMBOLS))
    following = torch.zeros(longest, len(examples), dtype=torch.long)
    legal = torch.zeros(longest, len(examples), len(SYMBOLS), dtype=torch.bool)
    for row, example in enumerate(examples):
        numbers = [SYMBOLS.index(symbol) for symbol in example.text]
        inputs[range(len(example.legal)), row, numbers[:-1]] = 1.0
        following[: len(example.legal), row] = torch.tensor(numbers[1:])
        for step, allowed in enumerate(example.legal):
            legal[step, row, [SYMBOLS.index(symbol) for symbol in allowed]] = True
    return Batch(inputs, following, legal, lengths)
