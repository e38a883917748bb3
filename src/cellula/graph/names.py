"""What each name of a formula stands for, and what is wrong with the names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from cellula.errors import Note, Problem, Span
from cellula.formula.error_table import problem
from cellula.formula.expressions import DECLARATIONS, lag_text
from cellula.formula.parser import Reading
from cellula.formula.syntax import LINEAR, Apply, Declaration, Equation, Expression, Name, Number, Read
from cellula.graph.ops import OPS, Argument

__all__ = ["Names", "collect_names", "nearest"]

# The sizes that every cell may use without naming them.
COMMON_SIZES = ("input", "hidden")
# How many mistakes of a text get the advice of the nearest name.
_ADVISED = 40
_RESERVED = {"t": "the step", "x": "the input"}


@dataclass
class Names:
    """The symbol table of one formula.

    Args:
        equations: name -> its equation, in order.
        places: name -> which equation it is, from 0.
        parameters: name of every parameter and setting -> where it is first used.
        matrices: those that stand right of `@`.
        declarations: name -> its declaration.
        problems: what is wrong.
    """

    equations: dict[str, Equation] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    parameters: dict[str, Span] = field(default_factory=dict)
    matrices: set[str] = field(default_factory=set)
    declarations: dict[str, Declaration] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def kind(self, name: str) -> str:
        """`matrix`, `diagonal`, `vector`, `scalar` or `setting`."""
        if name in self.declarations:
            return self.declarations[name].kind
        return "matrix" if name in self.matrices else "vector"

    def output(self) -> str | None:
        """The name of the node that leaves the cell."""
        return next((name for name in ("y", "h") if name in self.equations), None)


def nearest(name: str, known: Iterable[str], otherwise: str) -> str:
    """`did you mean ...?` if a known name is near, else the advice given."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean `{found[0]}`?" if found else otherwise


def _advise(names: Names, name: str, known: Iterable[str], otherwise: str) -> str:
    """The nearest name, but not for hundreds of mistakes: comparing thousands of names takes minutes."""
    if len(names.problems) >= _ADVISED:
        return otherwise
    known = list(known)
    # Capitals are what many texts write for vectors: `X[t]`.
    same = [other for other in known if other.lower() == name.lower()]
    return f"did you mean `{same[0]}`?" if same else nearest(name, known, otherwise)


def collect_names(reading: Reading) -> Names:
    """The symbol table of what could be read; problems are listed in it."""
    names = Names()
    _collect_declarations(reading, names)
    _collect_equations(reading, names)
    bare = {
        node.name
        for equation in reading.syntax.equations
        for node in _nodes(equation.expression)
        if isinstance(node, Name)
    }
    for index, equation in enumerate(reading.syntax.equations):
        for node in _nodes(equation.expression):
            _check(node, index, names, reading, bare)
    _collect_starts(names)
    _check_whole(reading, names)
    return names


def _collect_starts(names: Names) -> None:
    """The settings that only say how a parameter starts; in the order of the parameters, which printing keeps."""
    for parameter in list(names.parameters):
        declaration = names.declarations.get(parameter)
        for _, value, _ in declaration.keywords if declaration else ():
            for node in _nodes(value):
                if isinstance(node, Name) and node.name in names.declarations and names.kind(node.name) == "setting":
                    names.parameters.setdefault(node.name, node.span)


def _nodes(expression: Expression) -> list[Expression]:
    """The expression and all within it, in reading order."""
    found: list[Expression] = [expression]
    if isinstance(expression, Apply):
        for argument in expression.arguments:
            found += _nodes(argument)
    return found


def _taken(name: str) -> str | None:
    """What a name stands for already, if it cannot be used freely."""
    if name in OPS:
        return "a function"
    if name in DECLARATIONS:
        return "a declaration"
    if name in COMMON_SIZES:
        return "a size"
    return _RESERVED.get(name)


def _collect_declarations(reading: Reading, names: Names) -> None:
    for declaration in reading.syntax.declarations:
        name, taken = declaration.name, _taken(declaration.name)
        if taken:
            names.problems.append(
                problem("name-taken", declaration.name_span, name=name, what=taken, suggestion=f"{name}_1")
            )
        elif name in names.declarations:
            first = Note("first declared here", names.declarations[name].name_span)
            names.problems.append(problem("declared-twice", declaration.name_span, (first,), name=name))
        else:
            names.declarations[name] = declaration


def _collect_equations(reading: Reading, names: Names) -> None:
    for index, equation in enumerate(reading.syntax.equations):
        name, taken = equation.name, _taken(equation.name)
        if name in names.declarations:
            taken = f"declared as a {names.declarations[name].kind}"
        if taken:
            names.problems.append(
                problem("name-taken", equation.name_span, name=name, what=taken, suggestion=f"{name}_1")
            )
        if name in names.equations:
            first = Note("first assigned here", names.equations[name].name_span)
            names.problems.append(problem("assigned-twice", equation.name_span, (first,), name=name))
        else:
            names.equations[name] = equation
            names.places[name] = index


def _check(node: Expression, index: int, names: Names, reading: Reading, bare: set[str]) -> None:
    if isinstance(node, Read):
        _check_read(node, index, names, reading, bare)
    elif isinstance(node, Name):
        _check_name(node, names, reading)
    elif isinstance(node, Apply):
        _check_apply(node, names)


def _check_read(node: Read, index: int, names: Names, reading: Reading, bare: set[str]) -> None:
    name, known = node.name, names.equations
    if name == "x" or name in reading.broken:
        return
    if name in known:
        if node.lag == 0 and names.places[name] >= index:
            note = Note("computed here", known[name].name_span)
            names.problems.append(problem("used-before", node.span, (note,), name=name))
        return
    if name in names.declarations or name in bare:
        what = f"a {names.kind(name)}" if name in names.declarations else "a parameter"
        names.problems.append(problem("parameter-with-index", node.span, name=name, what=what))
        names.parameters.setdefault(name, node.span)
    elif node.lag:
        advice = _advise(names, name, known, f"add an equation `{name}[t] = ...`")
        names.problems.append(
            problem("unassigned-state", node.span, text=lag_text(name, node.lag), name=name, help=advice)
        )
    else:
        advice = _advise(
            names, name, [*known, "x"], f"add an equation `{name}[t] = ...` above, or write `{name}` for a parameter"
        )
        names.problems.append(problem("unknown-node", node.span, name=name, help=advice))


def _check_name(node: Name, names: Names, reading: Reading) -> None:
    name, taken = node.name, _taken(node.name)
    if name in names.equations or name == "x":
        names.problems.append(problem("node-without-index", node.span, name=name))
    elif taken:
        names.problems.append(problem("name-taken", node.span, name=name, what=taken, suggestion=f"{name}_1"))
    elif name not in reading.broken or name in names.declarations:
        names.parameters.setdefault(name, node.span)


# What other libraries have a function for, and this language has not.
_JOIN = "for a product with both parts write `x[t] @ W + h[t-1] @ U`, which is the same"
_OTHER_WORDS = dict.fromkeys(("concat", "concatenate", "cat", "stack", "hstack", "vstack"), _JOIN) | {
    "linear": "write `x[t] @ W + b`",
    "matmul": "write `x[t] @ W`",
    "dot": "write `x[t] @ W`",
    "mul": "write `a * b`",
    "hadamard": "write `a * b`",
}


def _check_apply(node: Apply, names: Names) -> None:
    if node.operation in LINEAR:
        right = node.arguments[1]
        if isinstance(right, Name):
            names.matrices.add(right.name)
        return
    if node.operation not in OPS:
        known = [name for name, op in OPS.items() if op.symbol is None]
        otherwise = "the functions are " + ", ".join(f"`{name}`" for name in sorted(known))
        advice = _advise(names, node.operation, known, _OTHER_WORDS.get(node.operation, otherwise))
        if node.operation in DECLARATIONS:
            advice = f"declare it on a line of its own: `name = {node.operation}(...)`"
        names.problems.append(problem("unknown-function", node.operation_span, name=node.operation, help=advice))
        return
    op, given = OPS[node.operation], len(node.arguments)
    if not op.required <= given <= len(op.arguments):
        words = [a.name if a.default is None else f"{a.name}={a.default:g}" for a in op.arguments]
        count = str(op.required) if op.required == len(op.arguments) else f"{op.required} to {len(op.arguments)}"
        expected = f"{count} argument{'s' if len(op.arguments) > 1 else ''}"
        names.problems.append(
            problem(
                "arity",
                node.span,
                name=op.name,
                expected=expected,
                given=given,
                help=f"`{op.name}({', '.join(words)})`",
            )
        )
        return
    for argument, value in zip(op.arguments, node.arguments, strict=False):
        if argument.number:
            _check_number(op.name, argument, value, names)


def _check_number(op: str, argument: Argument, value: Expression, names: Names) -> None:
    """A rate must be a number or a setting, and within its range."""
    number = value.value if isinstance(value, Number) else None
    if isinstance(value, Name) and names.kind(value.name) == "setting":
        declared = names.declarations[value.name].arguments
        number = declared[0].value if len(declared) == 1 and isinstance(declared[0], Number) else argument.low
    if number is None:
        names.problems.append(problem("needs-number", value.span, argument=argument.name, name=op))
    elif not argument.low <= number <= argument.high:
        values = {
            "argument": argument.name,
            "name": op,
            "value": f"{number:g}",
            "low": f"{argument.low:g}",
            "high": f"{argument.high:g}",
        }
        names.problems.append(problem("out-of-range", value.span, **values))


def _check_whole(reading: Reading, names: Names) -> None:
    """What concerns the formula as a whole; not asked where a part of it could not be read."""
    for equation in reading.syntax.equations:
        _check_kinds(_nodes(equation.expression), names)
    if reading.broken or reading.problems:
        return
    output = names.output()
    if names.equations and output is None:
        last = list(names.equations.values())[-1]
        names.problems.append(problem("no-output", last.name_span))
        return
    if any(found.kind.startswith("un") for found in names.problems):
        return  # a name that is written wrong makes others look unused
    for name, declaration in names.declarations.items():
        if name not in names.parameters:
            names.problems.append(problem("unused-parameter", declaration.name_span, name=name))
    reached = _reached(names, output)
    for name, equation in names.equations.items():
        if name not in reached:
            names.problems.append(problem("unused-node", equation.name_span, name=name))


def _check_kinds(nodes: list[Expression], names: Names) -> None:
    """A matrix stands right of `@` only, and nothing else does."""
    right = {id(n.arguments[1]) for n in nodes if isinstance(n, Apply) and n.operation in LINEAR}
    for node in nodes:
        if not isinstance(node, Name) or node.name not in names.parameters:
            continue
        kind, used = names.kind(node.name), "a matrix" if id(node) in right else "a vector"
        if (kind in ("matrix", "diagonal")) != (used == "a matrix"):
            names.problems.append(problem("kind-conflict", node.span, name=node.name, used=used, kind=f"a {kind}"))


def _reached(names: Names, output: str | None) -> set[str]:
    """The equations on which the output depends, at any step."""
    reached: set[str] = set()
    pending = [output] if output else []
    while pending:
        name = pending.pop()
        if name in reached or name not in names.equations:
            continue
        reached.add(name)
        pending += [node.name for node in _nodes(names.equations[name].expression) if isinstance(node, Read)]
    return reached
