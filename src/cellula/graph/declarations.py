"""What the declarations of a formula say: inits, blocks and the numbers of settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cellula.errors import Problem, Span
from cellula.formula.error_table import problem
from cellula.formula.syntax import Apply, Declaration, Expression, Name, Number
from cellula.graph.inits import INITS, complaint
from cellula.graph.names import Names, nearest
from cellula.graph.node import Init

__all__ = ["Declared", "read_declarations"]

# kind -> how many sizes it may name, and the keywords that it knows.
_KINDS: dict[str, tuple[int, tuple[str, ...]]] = {
    "matrix": (2, ("init", "blocks", "triangle", "learned")),
    "diagonal": (1, ("init", "learned")),
    "vector": (1, ("init", "learned")),
    "scalar": (0, ("init", "learned")),
    "setting": (0, ()),
}
_BLOCK_LIMIT = 4096


@dataclass
class Declared:
    """The contents of all declarations, by name."""

    inits: dict[str, Init] = field(default_factory=dict)
    blocks: dict[str, int] = field(default_factory=dict)
    triangles: dict[str, int] = field(default_factory=dict)
    # What training may not change.
    given: set[str] = field(default_factory=set)
    settings: dict[str, float] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def report(self, span: Span, what: str, advice: str) -> None:
        """Add a problem with an argument."""
        self.problems.append(problem("declaration-argument", span, what=what, help=advice))


def read_declarations(names: Names) -> Declared:
    """Read every declaration; problems are listed in the result."""
    declared = Declared()
    for declaration in names.declarations.values():
        if declaration.kind == "setting":
            _read_setting(declaration, declared)
        else:
            _read_sizes(declaration, declared)
    for declaration in names.declarations.values():
        _read_keywords(declaration, declared)
    return declared


def _read_setting(declaration: Declaration, declared: Declared) -> None:
    values = declaration.arguments
    if len(values) == 1 and isinstance(values[0], Number):
        declared.settings[declaration.name] = values[0].value
    else:
        declared.report(
            declaration.kind_span,
            "a setting has one number, its default",
            f"write `{declaration.name} = setting(0.1)`",
        )


def _read_sizes(declaration: Declaration, declared: Declared) -> None:
    count, kind = _KINDS[declaration.kind][0], declaration.kind
    example = {"matrix": "matrix(input, hidden)", "scalar": "scalar()"}.get(kind, f"{kind}(hidden)")
    for argument in declaration.arguments:
        if not isinstance(argument, Name):
            declared.report(argument.span, f"the arguments of `{kind}` without a keyword are names of sizes",
                            f"write `{example}`, or `init=...` for how it starts")  # fmt: skip
            return
    if len(declaration.arguments) not in (0, count):
        what = f"`{kind}` names {count} size{'s' * (count != 1)} or none, not {len(declaration.arguments)}"
        declared.report(declaration.kind_span, what, f"write `{example}`")


def _read_keywords(declaration: Declaration, declared: Declared) -> None:
    known, seen = _KINDS[declaration.kind][1], set()
    for word, value, span in declaration.keywords:
        if word not in known:
            otherwise = f"`{declaration.kind}` knows " + (", ".join(f"`{name}=`" for name in known) or "no keywords")
            declared.report(span, f"`{declaration.kind}` has no `{word}=`", nearest(word, known, otherwise))
        elif word in seen:
            declared.report(span, f"`{word}=` is given twice", "keep one of them")
        elif word in ("blocks", "triangle") and seen & {"blocks", "triangle"}:
            what = "a matrix is block-diagonal or block-triangular, not both"
            declared.report(span, what, "keep `blocks=` or `triangle=`")
        else:
            _READERS[word](declaration, value, declared)
        seen.add(word)


def _read_parts(word: str, what: str, found: dict[str, int], declaration: Declaration, value: Expression,
                declared: Declared) -> None:  # fmt: skip
    if isinstance(value, Number) and value.value == int(value.value) and 1 <= value.value <= _BLOCK_LIMIT:
        found[declaration.name] = int(value.value)
    else:
        declared.report(
            value.span,
            f"`{word}=` is not a whole number of {what}",
            f"write a number from 1 to {_BLOCK_LIMIT}, such as `{word}=4`",
        )


def _read_blocks(declaration: Declaration, value: Expression, declared: Declared) -> None:
    _read_parts("blocks", "blocks", declared.blocks, declaration, value, declared)


def _read_triangle(declaration: Declaration, value: Expression, declared: Declared) -> None:
    _read_parts("triangle", "groups of units", declared.triangles, declaration, value, declared)


def _read_learned(declaration: Declaration, value: Expression, declared: Declared) -> None:
    if not isinstance(value, Number) or value.value not in (0, 1):
        declared.report(value.span, "`learned=` is neither 0 nor 1",
                        "write `learned=0` for what training must not change")  # fmt: skip
    elif not value.value:
        declared.given.add(declaration.name)


def _read_init(declaration: Declaration, value: Expression, declared: Declared) -> None:
    if isinstance(value, Number):
        declared.inits[declaration.name] = Init("constant", (value.value,))
        return
    if isinstance(value, Name) and value.name in declared.settings:
        declared.inits[declaration.name] = Init("constant", (value.name,))
        return
    forms = ", ".join(f"`{name}({', '.join(row.arguments)})`" for name, row in INITS.items())
    if not isinstance(value, Apply):
        declared.report(
            value.span,
            "`init=` is neither a number, nor a setting, nor a known way to start",
            f"write a number or one of {forms}",
        )
    elif value.operation not in INITS:
        advice = nearest(value.operation, INITS, f"the ways to start are {forms}")
        declared.report(value.operation_span, f"`{value.operation}` is not a known way to start", advice)
    else:
        _read_init_call(declaration, value, declared)


def _read_init_call(declaration: Declaration, call: Apply, declared: Declared) -> None:
    row = INITS[call.operation]
    given = tuple(value for value in map(_start_number, call.arguments) if value is not None)
    least = len(row.arguments) - len(row.defaults)
    form = f"`{call.operation}({', '.join(row.arguments)})`"
    if len(given) != len(call.arguments) or not least <= len(given) <= len(row.arguments):
        advice = f"write {form} with numbers or settings"
        declared.report(call.span, f"`{call.operation}` takes other numbers", advice)
        return
    unknown = [value for value in given if isinstance(value, str) and value not in declared.settings]
    if unknown:
        advice = f"declare it: `{unknown[0]} = setting(0.1)`, or write a number"
        declared.report(call.span, f"`{unknown[0]}` is no setting", advice)
    elif row.matrix_only and declaration.kind != "matrix":
        declared.report(call.span, f"`{call.operation}` is for matrices, not for a {declaration.kind}",
                        "write a number, `uniform(low, high)` or `normal(deviation)`")  # fmt: skip
    else:
        numbers = given + row.defaults[len(given) - least :]
        wrong = complaint(call.operation, [declared.settings[n] if isinstance(n, str) else n for n in numbers])
        if wrong is not None:
            declared.report(call.span, *wrong.split("; ", 1))
        else:
            declared.inits[declaration.name] = Init(call.operation, numbers)


def _start_number(value: Expression) -> float | str | None:
    """A number, or the name of a setting."""
    if isinstance(value, Number):
        return value.value
    return value.name if isinstance(value, Name) else None


_READERS: dict[str, Callable[[Declaration, Expression, Declared], None]] = {
    "init": _read_init,
    "blocks": _read_blocks,
    "triangle": _read_triangle,
    "learned": _read_learned,
}
