"""The syntax tree of a formula: what was written, and where.

The whole grammar is on this page:

    formula     = [docstring] (declaration | equation)*
    declaration = name "=" name "(" arguments ")"
    equation    = name "[t]" [":" size] "=" expression
    expression  = Number | Name | Read | Apply
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cellula.errors import Source, Span

__all__ = [
    "LINEAR",
    "PRODUCT",
    "TRANSPOSED",
    "Apply",
    "Declaration",
    "Equation",
    "Expression",
    "Name",
    "Number",
    "Read",
    "Syntax",
]

PRODUCT, TRANSPOSED = "@", "@.T"
LINEAR = (PRODUCT, TRANSPOSED)


@dataclass(frozen=True)
class Number:
    """A number as written: `0.5`, `-1`."""

    value: float
    span: Span


@dataclass(frozen=True)
class Name:
    """A name without an index: a parameter, a setting or a size."""

    name: str
    span: Span


@dataclass(frozen=True)
class Read:
    """A node read at a step: `h[t-1]` has lag 1, `i[t]` has lag 0."""

    name: str
    lag: int
    span: Span


@dataclass(frozen=True)
class Apply:
    """An operation and what it works on.

    Operators have names too (`+` is `add`), but for the two linear maps, which no call may stand for: `PRODUCT` is
    `value @ W`, `TRANSPOSED` is `value @ W.T`.
    """

    operation: str
    arguments: tuple[Expression, ...]
    span: Span
    # Where the operation itself is named; equal to `span` for operators.
    operation_span: Span


Expression = Number | Name | Read | Apply


@dataclass(frozen=True)
class Declaration:
    """`b_f = vector(init=1)`: what a name stands for."""

    name: str
    kind: str
    arguments: tuple[Expression, ...]
    keywords: tuple[tuple[str, Expression, Span], ...]
    span: Span
    name_span: Span
    kind_span: Span


@dataclass(frozen=True)
class Equation:
    """`i[t] = sigmoid(...)  # input gate`: how a node is computed at every step."""

    name: str
    size: Name | None
    expression: Expression
    comment: str
    span: Span
    name_span: Span


@dataclass(frozen=True)
class Syntax:
    """A whole formula as written.

    Args:
        title: first line of the docstring, without its full stop.
        description: the rest of the docstring.
        references: the docstring's `Reference:` lines.
        declarations: in order of appearance.
        equations: in order of appearance.
        source: the text and its name.
    """

    title: str
    description: str
    references: tuple[str, ...]
    declarations: tuple[Declaration, ...]
    equations: tuple[Equation, ...]
    source: Source = field(compare=False)
