"""Python's expression nodes -> ours, with an advice for everything else."""

from __future__ import annotations

import ast
import difflib
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

from cellula.errors import Problem, Span
from cellula.formula.error_table import problem
from cellula.formula.syntax import LINEAR, PRODUCT, TRANSPOSED, Apply, Declaration, Expression, Name, Number, Read

__all__ = ["DECLARATIONS", "NAME_LIMIT", "ExpressionReader", "NotReadable", "lag_text"]

NAME_LIMIT = 40  # characters of a name
LAG_LIMIT = 256  # steps that a formula may look back
DECLARATIONS = ("matrix", "diagonal", "vector", "scalar", "setting")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*_?")
_LAG_NAME = re.compile(r".*_lag\d+")
_OPERATORS = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.Pow: "power",
    ast.MatMult: PRODUCT,
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
    ast.Eq: "equal",
    ast.NotEq: "not_equal",
}
_FOREIGN_OPERATORS = {
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.LShift: "<<",
    ast.RShift: ">>",
    ast.BitOr: "|",
    ast.BitXor: "^",
    ast.BitAnd: "&",
    ast.Is: "is",
    ast.IsNot: "is not",
    ast.In: "in",
    ast.NotIn: "not in",
    ast.Invert: "~",
}
_FOREIGN = {
    ast.Lambda: "a lambda",
    ast.JoinedStr: "an f-string",
    ast.ListComp: "a comprehension",
    ast.SetComp: "a comprehension",
    ast.DictComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
    ast.IfExp: "`... if ... else ...` (there is `where(condition, a, b)`)",
    ast.Attribute: "an attribute (`a.b`; only `W.T` right of `@` has a meaning)",
    ast.Tuple: "a tuple",
    ast.List: "a list (for a product with both parts write `x[t] @ W + h[t-1] @ U`)",
    ast.Dict: "a dictionary",
    ast.Set: "a set",
    ast.BoolOp: "`and`/`or` (multiply comparisons for `and`)",
    ast.NamedExpr: "`:=`",
    ast.Await: "`await`",
    ast.Yield: "`yield`",
    ast.YieldFrom: "`yield`",
    ast.Starred: "`*`",
    ast.Not: "`not` (there is `1 - condition`)",
}


class NotReadable(Exception):
    """Carries the problems of one statement up to the reader of the text."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__()
        self.problems = problems


def lag_text(name: str, lag: int) -> str:
    """How a read is written: `h[t-1]`."""
    return f"{name}[t-{lag}]" if lag else f"{name}[t]"


class ExpressionReader:
    """Reads the parts of one statement.

    Args:
        span: where an `ast` node stands in the text.
        text: the whole text.
        excerpt: the characters of an `ast` node, for messages.
    """

    def __init__(
        self, span: Callable[[ast.expr], Span], text: str, excerpt: Callable[[ast.AST], str] = ast.unparse
    ) -> None:
        self.span, self.text, self.excerpt = span, text, excerpt

    def read(self, node: ast.expr) -> Expression:
        """The expression of an `ast` node; raises `NotReadable`."""
        handler = _HANDLERS.get(type(node))
        if handler is None:
            self._fail("expression", node, what=_FOREIGN.get(type(node), "this"))
        return handler(self, node)

    def target(self, node: ast.expr, single: bool) -> str:
        """The name of the node that an equation assigns."""
        name = next((n.id for n in ast.walk(node) if isinstance(n, ast.Name) and n.id != "t"), "name")
        if not single or not isinstance(node, ast.Subscript) or not isinstance(node.value, ast.Name):
            self._fail("target", node, text=self.excerpt(node), help=_advise_target(node, single, name))
        lag = _lag(node.slice)
        if lag is None:
            self._fail("target", node, text=self.excerpt(node), help=_advise_target(node, single, name))
        if lag != 0:
            self._fail("target-step", node, text=self.excerpt(node), name=name)
        if name == "x":
            self._fail("assign-input", node)
        self._check_name(name, node)
        return name

    def size(self, node: ast.expr) -> Name:
        """The size that an annotation names."""
        if not isinstance(node, ast.Name):
            self._fail(
                "unknown-size",
                node,
                name=self.excerpt(node),
                help="a size is a name: `input`, `hidden` or one of your own",
            )
        return Name(node.id, self.span(node))

    def declaration(self, target: ast.Name, value: ast.expr, annotation: ast.expr | None, span: Span) -> Declaration:
        """`b = vector(init=1)`; raises `NotReadable`."""
        self._check_name(target.id, target)
        if annotation is not None:
            self._fail("declaration", annotation, name=target.id, what="an annotation",
                       help="give sizes in the brackets: `matrix(input, hidden)`, `vector(hidden)`")  # fmt: skip
        if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in DECLARATIONS):
            self._fail(
                "declaration",
                value,
                name=target.id,
                what=f"`{self.excerpt(value)}`",
                help=_advise(target.id, value),
            )
        for word in value.keywords:
            if word.arg is None:
                self._fail("call", value, what="`**` cannot stand in a declaration")
        return Declaration(
            target.id, value.func.id, tuple(self.read(argument) for argument in value.args),
            tuple((word.arg or "", self.read(word.value), self.span(word.value)) for word in value.keywords),
            span, self.span(target), self.span(value.func),
        )  # fmt: skip

    def _check_name(self, name: str, node: ast.expr) -> None:
        if not _NAME.fullmatch(name) or _LAG_NAME.fullmatch(name) or len(name) > NAME_LIMIT:
            self._fail("invalid-name", node, name=name if len(name) <= 60 else name[:57] + "...", limit=NAME_LIMIT)

    def _fail(self, kind: str, node: ast.expr, **values: object) -> NoReturn:
        raise NotReadable([problem(kind, self.span(node), **values)])

    def _several(self, nodes: list[ast.expr]) -> tuple[Expression, ...]:
        """Reads all of them before it fails, so that the problems of every one are reported."""
        found: list[Expression] = []
        problems: list[Problem] = []
        for node in nodes:
            try:
                found.append(self.read(node))
            except NotReadable as error:
                problems += error.problems
        if problems:
            raise NotReadable(problems)
        return tuple(found)

    def _number(self, node: ast.Constant) -> Number:
        value = node.value
        if isinstance(value, bool) or value is None or value is Ellipsis or isinstance(value, str | bytes):
            what = {str: "a text", bytes: "a text"}.get(type(value), f"`{value}`")
            self._fail("expression", node, what=what)
        text = self.excerpt(node)
        if not isinstance(value, int | float):
            self._fail("number", node, text=text)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self._fail("number", node, text=text)
        return Number(number, self.span(node))

    def _name(self, node: ast.Name) -> Name:
        if node.id == "t":
            self._fail("bare-time", node)
        self._check_name(node.id, node)
        return Name(node.id, self.span(node))

    def _subscript(self, node: ast.Subscript) -> Read:
        if not isinstance(node.value, ast.Name):
            self._fail("expression", node, what="an index on an expression (only a node has steps)")
        self._check_name(node.value.id, node.value)
        lag, name, text = _lag(node.slice), node.value.id, self.excerpt(node)
        if lag is None:
            self._fail("index", node.slice, text=self.excerpt(node.slice))
        if lag < 0:
            self._fail("future", node, text=text, name=name, ahead=-lag)
        if lag > LAG_LIMIT:
            self._fail("lag-too-long", node, text=text, lag=lag, limit=LAG_LIMIT)
        return Read(name, lag, self.span(node))

    def _unary(self, node: ast.UnaryOp) -> Expression:
        if isinstance(node.op, ast.UAdd):
            return self.read(node.operand)
        if not isinstance(node.op, ast.USub):
            self._foreign_operator(node.op, node)
        inner = self.read(node.operand)
        if isinstance(inner, Number):
            return Number(-inner.value, self.span(node))
        return Apply("negative", (inner,), self.span(node), self.span(node))

    def _operator(self, operator: ast.AST, node: ast.expr) -> str:
        if type(operator) not in _OPERATORS:
            self._foreign_operator(operator, node)
        return _OPERATORS[type(operator)]

    def _foreign_operator(self, operator: ast.AST, node: ast.expr) -> NoReturn:
        if type(operator) in _FOREIGN:
            self._fail("expression", node, what=_FOREIGN[type(operator)])
        advice = "there are `+ - * / ** @` and the comparisons `< <= > >= == !=`"
        if isinstance(operator, ast.BitXor):
            advice = f"write `**` for a power; {advice}"
        self._fail("operator", node, operator=_FOREIGN_OPERATORS.get(type(operator), "?"), help=advice)

    def _binary(self, node: ast.BinOp) -> Apply:
        operation = self._operator(node.op, node)
        right = node.right
        if operation == PRODUCT and isinstance(right, ast.Attribute) and right.attr == "T":
            operation, right = TRANSPOSED, right.value
        arguments = self._several([node.left, right])
        if operation in LINEAR and not isinstance(arguments[1], Name):
            first, second = self.excerpt(node.left), self.excerpt(node.right)
            suggestion = f"{second} @ {first}" if isinstance(node.left, ast.Name) else f"{first} @ W"
            self._fail("matrix-side", node.right, what=f"`{second}`", suggestion=suggestion)
        return Apply(operation, arguments, self.span(node), self.span(node))

    def _compare(self, node: ast.Compare) -> Apply:
        if len(node.ops) > 1:
            self._fail("chained-comparison", node)
        operation = self._operator(node.ops[0], node)
        arguments = self._several([node.left, node.comparators[0]])
        return Apply(operation, arguments, self.span(node), self.span(node))

    def _call(self, node: ast.Call) -> Apply:
        if not isinstance(node.func, ast.Name):
            self._fail("call", node.func, what=f"`{self.excerpt(node.func)}` is not the name of a function")
        if node.keywords:
            word = node.keywords[0]
            self._fail("call", word.value, what=f"the argument `{word.arg or '**'}` is given by name")
        starred = next((argument for argument in node.args if isinstance(argument, ast.Starred)), None)
        if starred is not None:
            self._fail("call", starred, what="`*` cannot stand before an argument")
        return Apply(node.func.id, self._several(node.args), self.span(node), self.span(node.func))


_HANDLERS: dict[type, Callable[[ExpressionReader, Any], Expression]] = {
    ast.Constant: ExpressionReader._number,
    ast.Name: ExpressionReader._name,
    ast.Subscript: ExpressionReader._subscript,
    ast.UnaryOp: ExpressionReader._unary,
    ast.BinOp: ExpressionReader._binary,
    ast.Compare: ExpressionReader._compare,
    ast.Call: ExpressionReader._call,
}


def _lag(node: ast.expr) -> int | None:
    """The steps back of an index: 0 for `t`, 2 for `t-2`, -1 for `t+1`, None for anything else."""
    if isinstance(node, ast.Name) and node.id == "t":
        return 0
    if not (isinstance(node, ast.BinOp) and isinstance(node.left, ast.Name) and node.left.id == "t"):
        return None
    right, sign = node.right, {ast.Sub: 1, ast.Add: -1}.get(type(node.op))
    if sign is None or not isinstance(right, ast.Constant) or type(right.value) is not int or abs(right.value) > 10**9:
        return None
    return sign * right.value


def _advise_target(node: ast.expr, single: bool, name: str) -> str:
    """What to write on the left side instead."""
    if not single:
        return (
            f"an equation has one node and one `=`: `{name}[t] = ...`; a sum over time reads `{name}[t-1]` on the right"
        )
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return f"write `{name}[t] = ...` only: a state starts from zero, or from what the caller gives"
    return f"the left side is one node, `{name}[t] = ...`, or one declared name, `{name} = vector(...)`"


def _advise(name: str, value: ast.expr) -> str:
    """What to write where a declaration was not understood."""
    if isinstance(value, ast.Constant) and isinstance(value.value, int | float):
        return f"for a number that the caller may change write `{name} = setting({value.value})`"
    near = difflib.get_close_matches(_called(value), DECLARATIONS, n=1)
    if near:
        return f"did you mean `{near[0]}`?"
    # Many texts write the step as an index below: h_t.
    step = f"for something computed at every step write `{name.removesuffix('_t')}[t] = ...`"
    if isinstance(value, ast.Call):
        return f"{step}; the declarations are " + ", ".join(f"`{kind}(...)`" for kind in DECLARATIONS)
    return step


def _called(value: ast.expr) -> str:
    """The name of the function that an expression calls, if it does."""
    return value.func.id if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) else ""
