"""Sizes by unification: every value has one, named or still open; a conflict shows both places."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from cellula.errors import Note, Problem, Span
from cellula.formula.error_table import problem
from cellula.formula.parser import Reading
from cellula.formula.syntax import LINEAR, PRODUCT, Apply, Declaration, Expression, Name, Number, Read
from cellula.graph.names import COMMON_SIZES, Names, nearest
from cellula.graph.ops import OPS

__all__ = ["Sizes", "infer_sizes"]


@dataclass(eq=False)
class _Variable:
    """An open or named size; `parent` leads to the one it was found equal to."""

    parent: _Variable | None = None
    name: str | None = None
    span: Span | None = None

    def root(self) -> _Variable:
        found = self
        while found.parent is not None:
            found = found.parent
        return found


@dataclass
class Sizes:
    """The sizes of a formula.

    Args:
        equations: name -> size, None for a single number.
        parameters: name -> its sizes: (rows, columns), (units,) or ().
        problems: what does not fit.
    """

    equations: dict[str, str | None] = field(default_factory=dict)
    parameters: dict[str, tuple[str, ...]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def infer_sizes(reading: Reading, names: Names) -> Sizes:
    """The size of every equation and parameter; what stays open is `hidden`."""
    return _Inference(reading, names).run()


class _Inference:
    """One run over all equations."""

    def __init__(self, reading: Reading, names: Names) -> None:
        self.reading, self.names = reading, names
        self.result = Sizes()
        self.input = _Variable(name="input")
        self.parameters: dict[str, tuple[_Variable, ...]] = {}
        self.single = self._single_numbers()
        self.equations = {name: _Variable() for name in names.equations if name not in self.single}

    def run(self) -> Sizes:
        for declaration in self.names.declarations.values():
            self._declare(declaration)
        for name in self.names.parameters:
            if name not in self.parameters:
                count = {"matrix": 2, "diagonal": 1, "vector": 1}.get(self.names.kind(name), 0)
                self.parameters[name] = tuple(_Variable() for _ in range(count))
        for name, equation in self.names.equations.items():
            if equation.size is not None and name not in self.single:
                self._unify(self.equations[name], self._named(equation.size), equation.size.span)
        for equation in self.names.equations.values():
            size = self._size(equation.expression)
            if size is not None and equation.name in self.equations:
                self._unify(self.equations[equation.name], size, equation.name_span, equation.expression.span)
        self.result.equations = {name: self._final(self.equations.get(name)) for name in self.names.equations}
        self.result.parameters = {
            name: tuple(self._final(size) or "hidden" for size in sizes) for name, sizes in self.parameters.items()
        }
        return self.result

    def _final(self, size: _Variable | None) -> str | None:
        return None if size is None else size.root().name or "hidden"

    def _named(self, size: Name) -> _Variable:
        """A fresh variable for a size written down."""
        known = {*self.names.equations, *self.names.parameters, *self.names.declarations, *OPS, "x", "t"}
        if size.name in known:
            advice = "it is the name of something else; choose another name for the size"
            self.result.problems.append(problem("unknown-size", size.span, name=size.name, help=advice))
        elif size.name not in COMMON_SIZES:
            advice = nearest(size.name, COMMON_SIZES, "")
            # A near miss of a common size is a typing mistake rather than a size of one's own.
            if advice and abs(len(size.name) - 6) <= 1:
                self.result.problems.append(problem("unknown-size", size.span, name=size.name, help=advice))
                return _Variable()
        return _Variable(name=size.name, span=size.span)

    def _declare(self, declaration: Declaration) -> None:
        count = {"matrix": 2, "diagonal": 1, "vector": 1}.get(declaration.kind, 0)
        given = [argument for argument in declaration.arguments if isinstance(argument, Name)]
        sizes = [self._named(size) for size in given][:count]
        sizes += [_Variable() for _ in range(count - len(sizes))]
        self.parameters[declaration.name] = tuple(sizes)

    def _single_numbers(self) -> set[str]:
        """The equations whose value is one number: found by dropping all that must be vectors."""
        single = {name for name, equation in self.names.equations.items() if equation.size is None}
        order, changed = list(self.names.equations.values()), True
        while changed:
            # Back and forth over the equations, so that long chains settle in a few rounds.
            order.reverse()
            changed = False
            for equation in order:
                if equation.name in single and not self._is_single(equation.expression, single):
                    single.discard(equation.name)
                    changed = True
        return single

    def _is_single(self, expression: Expression, single: set[str]) -> bool:
        if isinstance(expression, Number):
            return True
        if isinstance(expression, Name):
            return self.names.kind(expression.name) in ("scalar", "setting")
        if isinstance(expression, Read):
            return expression.name in single
        shape = OPS[expression.operation].shape if expression.operation in OPS else "normalize"
        if shape == "reduce":
            return True
        return shape in ("elementwise", "expand") and all(self._is_single(a, single) for a in expression.arguments)

    def _size(self, expression: Expression) -> _Variable | None:
        """The size of an expression, None for a single number; unifies on the way."""
        if isinstance(expression, Number):
            return None
        if isinstance(expression, Name):
            sizes = self.parameters.get(expression.name, (_Variable(),))
            return sizes[-1] if sizes else None
        if isinstance(expression, Read):
            return self._read(expression)
        if expression.operation in LINEAR:
            return self._product(expression)
        shape = OPS[expression.operation].shape if expression.operation in OPS else "unknown"
        sizes = [self._size(argument) for argument in expression.arguments]
        if shape in ("reduce", "normalize"):
            return self._over_units(expression, sizes[0] if sizes else None, shape)
        if shape == "unknown":
            return _Variable()
        if shape == "expand":
            if sizes[:1] not in ([], [None]):
                self.result.problems.append(
                    problem("needs-single", expression.arguments[0].span, name=expression.operation)
                )
            return sizes[-1] if sizes else _Variable()
        return self._elementwise(expression, sizes)

    def _read(self, node: Read) -> _Variable | None:
        if node.name == "x":
            self.input.span = self.input.span or node.span
            return self.input
        # A name that could not be read has an open size of its own.
        return None if node.name in self.single else self.equations.get(node.name, _Variable())

    def _product(self, node: Apply) -> _Variable:
        left, right = self._size(node.arguments[0]), node.arguments[1]
        name = right.name if isinstance(right, Name) else ""
        sizes = self.parameters.get(name, ())
        if not sizes or self.names.kind(name) not in ("matrix", "diagonal"):
            return _Variable()
        if left is None:
            self.result.problems.append(problem("needs-vector", node.arguments[0].span, name="@"))
        else:
            # A transposed matrix leads from its columns to its rows.
            start = sizes[0] if node.operation == PRODUCT else sizes[-1]
            self._unify(start, left, right.span, node.arguments[0].span)
        return sizes[-1] if node.operation == PRODUCT else sizes[0]

    def _over_units(self, node: Apply, size: _Variable | None, shape: str) -> _Variable | None:
        if size is None:
            self.result.problems.append(problem("needs-vector", node.arguments[0].span, name=node.operation))
            return _Variable() if shape == "normalize" else None
        return size if shape == "normalize" else None

    def _elementwise(self, node: Apply, sizes: list[_Variable | None]) -> _Variable | None:
        vectors = [(size, argument) for size, argument in zip(sizes, node.arguments, strict=True) if size is not None]
        for (one, first), (other, second) in pairwise(vectors):
            self._unify(one, other, first.span, second.span)
        return vectors[0][0] if vectors else None

    def _unify(self, one: _Variable, other: _Variable, span: Span, other_span: Span | None = None) -> None:
        one, other = one.root(), other.root()
        if one is other:
            return
        if one.name is not None and other.name is not None and one.name != other.name:
            self._conflict(one, other, span, other_span or span)
            return
        keep, drop = (one, other) if one.name is not None else (other, one)
        if keep.name is not None and keep.span is None:
            keep.span = span
        drop.parent = keep

    def _conflict(self, one: _Variable, other: _Variable, span: Span, other_span: Span) -> None:
        notes = []
        for size, place in ((one, span), (other, other_span)):
            notes.append(Note(f"`{size.name}` comes from here", size.span or place))
        self.result.problems.append(
            problem("size-conflict", other_span, tuple(notes), first=f"`{other.name}`", second=f"`{one.name}`")
        )
