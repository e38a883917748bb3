"""What Cellula raises when something a person wrote or gave is wrong.

Every error here is a `CellulaError`: the command line prints it without a traceback.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

__all__ = [
    "CellulaError",
    "DataError",
    "FormulaError",
    "MissingPackageError",
    "Note",
    "Problem",
    "RunError",
    "ShapeError",
    "Source",
    "Span",
    "UsageError",
    "missing_package",
]


class CellulaError(Exception):
    """The base of every error that a user can mend."""


class DataError(CellulaError, ValueError):
    """Data that cannot be used as it is; the message names the row and the column."""


class RunError(CellulaError):
    """A run directory, a checkpoint or a model file that cannot be used."""


class UsageError(CellulaError, ValueError):
    """An argument that is out of range or does not fit the others."""


class ShapeError(UsageError, RuntimeError):
    """A tensor that does not fit a layer of torch.nn or its drop-in; torch raises a RuntimeError there."""


class MissingPackageError(CellulaError, ImportError):
    """A package that is needed here is not installed."""


# Package -> what to install to have it.
_BROUGHT_BY: dict[str, str] = {
    "accelerate": "cellula[forecast]",
    "matplotlib": "cellula[forecast]",
    "narwhals": "cellula[forecast]",
    "onnx": "cellula[onnx]",
    "onnxruntime": "cellula[onnx]",
    "pyarrow": "cellula[forecast]",
    "tqdm": "cellula[forecast]",
    "numpy": "cellula",
    "safetensors": "cellula",
    "torch": "cellula",
}


def missing_package(error: ModuleNotFoundError) -> Exception:
    """What to raise for a module that was not found: how to get it, where it is one of ours to know."""
    package = (error.name or "").split(".")[0]
    if package not in _BROUGHT_BY:
        return error
    return MissingPackageError(
        f"{package} is needed for this and is not installed; write: pip install '{_BROUGHT_BY[package]}'", name=package
    )


@dataclass(frozen=True, order=True)
class Span:
    """A place in a text: lines count from 1, columns from 0, the end is exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True)
class Source:
    """A text and the name under which people know it (a file, or `<formula>`)."""

    text: str
    name: str = "<formula>"

    def line(self, number: int) -> str:
        """The text of line `number` (from 1), or an empty string past the end."""
        # Only "\n" ends a line here: str.splitlines() also cuts at form feeds and others.
        lines = self.text.split("\n")
        return lines[number - 1].rstrip("\r") if 1 <= number <= len(lines) else ""


@dataclass(frozen=True)
class Note:
    """A second place that belongs to a problem, and what it has to do with it."""

    text: str
    span: Span


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a formula.

    Args:
        kind: the row of the error table, such as `"unknown-function"`.
        message: what is wrong, with the text concerned.
        help: what was expected, or what to write instead.
        span: where it is.
        notes: other places that belong to it.
    """

    kind: str
    message: str
    help: str
    span: Span
    notes: tuple[Note, ...] = ()

    def render(self, source: Source) -> str:
        """The problem as people read it: place, source line, caret, notes, help."""
        if not source.text:
            return "\n".join([f"{source.name}: {self.message}", *([f"  help: {self.help}"] if self.help else [])])
        parts = [
            f"{source.name}, line {self.span.line}, column {self.span.column + 1}: {self.message}",
            _excerpt(source, self.span),
        ]
        for note in self.notes:
            parts += [f"  {note.text} (line {note.span.line}):", _excerpt(source, note.span)]
        if self.help:
            parts.append(f"  help: {self.help}")
        return "\n".join(parts)


class FormulaError(CellulaError, ValueError):
    """A formula with mistakes in it: all of them, each with its place and its remedy.

    Args:
        problems: what is wrong, at least one.
        source: the text in which it stands.

    Example:
        >>> from cellula import build, FormulaError
        >>> try:
        ...     build("h[t] = tnah(x[t] @ W)")
        ... except FormulaError as error:
        ...     print(error)
        <formula>, line 1, column 8: `tnah` is not a function
          1 | h[t] = tnah(x[t] @ W)
            |        ^^^^
          help: did you mean `tanh`?
    """

    def __init__(self, problems: tuple[Problem, ...] | list[Problem], source: Source) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.span))
        self.source = source
        shown = [problem.render(source) for problem in self.problems[:_SHOWN]]
        rest = len(self.problems) - _SHOWN
        super().__init__("\n\n".join([*shown, f"and {rest} more"] if rest > 0 else shown))

    def __reduce__(self) -> tuple:
        return type(self), (self.problems, self.source)


# How many problems a message shows; all of them are in `problems`.
_SHOWN = 20
# Longer source lines are cut around the caret, so that a message stays readable.
_WIDTH = 100


def _excerpt(source: Source, span: Span) -> str:
    """The source line with carets under the span."""
    text = "".join(char if char.isprintable() else " " for char in source.line(span.line))
    end = span.end_column if span.end_line == span.line else len(text)
    start, end = min(span.column, len(text)), min(max(end, span.column + 1), max(len(text), span.column + 1))
    shift = 0
    if len(text) > _WIDTH:
        shift = max(0, min(start - _WIDTH // 2, len(text) - _WIDTH))
        text = ("..." if shift else "") + text[shift : shift + _WIDTH]
        shift -= 3 if shift else 0
        end = min(end, shift + len(text))
    number = str(span.line)
    gutter = " " * len(number)
    caret = " " * _columns(text[: start - shift]) + "^" * max(1, _columns(text[start - shift : end - shift]))
    return f"  {number} | {text}\n  {gutter} | {caret}"


def _columns(text: str) -> int:
    """How many terminal columns a text takes: East Asian wide characters take two."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
