"""TEXT -> SYNTAX: read a formula with Python's own grammar, never execute it."""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

from cellula.errors import FormulaError, Problem, Source, Span
from cellula.formula.error_table import problem
from cellula.formula.expressions import ExpressionReader, NotReadable
from cellula.formula.lines import LogicalLine, split_lines
from cellula.formula.syntax import Declaration, Equation, Expression, Syntax

__all__ = ["Reading", "parse", "parse_expression", "read"]

TEXT_LIMIT = 65_536  # characters of a whole formula
_DEPTH_LIMIT = 100  # levels of one expression
_BROKEN_NAME = re.compile(r"\s*([A-Za-z]\w*)")
# The end of something complete, after which only an operator may come.
_RUN_ON = re.compile(r"[\w)\]]\s+$")
# What Python says of a text, where that would lead astray here.
_REWORDED = {
    ". Perhaps you forgot a comma?": "; is an operator missing?",
    " here. Maybe you meant '==' instead of '='?": "",
    "cannot use assignment expressions with subscript": "`:=` is not part of the language, write `=`",
    "invalid decimal literal": "a number runs into a name; is an operator missing?",
    "unexpected EOF while parsing": "the text ends where a line should go on",
    "cannot assign to function call": "a step stands in square brackets, `h[t] = ...`, not in round ones",
}
_STATEMENTS = {
    ast.Import: "`import`",
    ast.ImportFrom: "`import`",
    ast.FunctionDef: "a function definition",
    ast.ClassDef: "a class",
    ast.AsyncFunctionDef: "a function definition",
    ast.If: "`if`",
    ast.For: "`for`",
    ast.While: "`while`",
    ast.With: "`with`",
    ast.Try: "`try`",
    ast.Return: "`return`",
    ast.Delete: "`del`",
    ast.Raise: "`raise`",
    ast.Assert: "`assert`",
    ast.Global: "`global`",
    ast.Nonlocal: "`nonlocal`",
    ast.Pass: "`pass`",
    ast.Break: "`break`",
    ast.Continue: "`continue`",
    ast.Match: "`match`",
    ast.Expr: "an expression without `name[t] =`",
}


@dataclass(frozen=True)
class Reading:
    """What could be read of a text, and what could not.

    Args:
        syntax: the statements that could be read.
        problems: what was wrong; empty for a good text.
        broken: names that seem to be assigned in statements that could not be read.
    """

    syntax: Syntax
    problems: tuple[Problem, ...]
    broken: frozenset[str]


def parse(text: str | Path, name: str = "<formula>") -> Syntax:
    """Read a formula and return its syntax tree; nothing in it is executed.

    Args:
        text: the formula, or the path of a `.cell` file.
        name: how to call the text in messages; a file is called by its name.

    Returns:
        The frozen syntax tree.

    Raises:
        FormulaError: the text is not a formula; it lists everything that is wrong.

    Example:
        >>> from cellula import parse
        >>> parse("h[t] = tanh(x[t] @ W + h[t-1] @ U + b)").equations[0].name
        'h'
    """
    reading = read(text, name)
    if reading.problems:
        raise FormulaError(reading.problems, reading.syntax.source)
    return reading.syntax


def read(text: str | Path, name: str = "<formula>") -> Reading:
    """Read as much of a formula as can be read; the problems are in the result."""
    if isinstance(text, Path):
        name, text = str(text), _file_text(text)
    source = Source(text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"), name)
    if len(source.text) > TEXT_LIMIT:
        span = Span(1, 0, 1, 1)
        found = problem("too-long", span, what="text", size=len(source.text), limit=TEXT_LIMIT)
        return Reading(Syntax("", "", (), (), (), source), (found,), frozenset())
    return _Reader(source).read()


def parse_expression(text: str) -> Expression:
    """Read one expression of the op table (`y * (1 - y)`), where every name stands without an index."""
    tree = ast.parse(text, mode="eval").body
    return ExpressionReader(lambda node: Span(1, node.col_offset, 1, node.end_col_offset or 0), text).read(tree)


def _file_text(path: Path) -> str:
    """The text of a formula file; what is not text is a problem like any other."""
    start = Span(1, 0, 1, 1)
    try:
        with path.open("rb") as file:
            data = file.read(4 * TEXT_LIMIT + 1)
        # A text that is cut here is too long anyway, even if the cut goes through a character.
        return data.decode("utf-8", errors="strict" if len(data) <= 4 * TEXT_LIMIT else "replace")
    except UnicodeDecodeError as error:
        found = problem("not-text", start, byte=error.start)
    except (OSError, ValueError) as error:
        found = problem("not-readable", start, reason=getattr(error, "strerror", None) or str(error))
    raise FormulaError((found,), Source("", str(path)))


class _Reader:
    """Reads the statements of one text, each by itself."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self.declarations: list[Declaration] = []
        self.equations: list[Equation] = []
        self.docstring = ""
        self.broken: set[str] = set()

    def read(self) -> Reading:
        lines, found = split_lines(self.source)
        self.problems += found
        for number, line in enumerate(lines):
            before = len(self.problems)
            if not line.broken:
                self._statements(line, first=number == 0)
            if line.broken or len(self.problems) > before:
                match = _BROKEN_NAME.match(line.text)
                self.broken |= {match.group(1)} if match else set()
        if not self.equations and not self.problems:
            self.problems.append(problem("empty", Span(1, 0, 1, 1)))
        syntax = Syntax(*_sections(self.docstring), tuple(self.declarations), tuple(self.equations), self.source)
        return Reading(syntax, tuple(self.problems), frozenset(self.broken))

    def _statements(self, line: LogicalLine, *, first: bool) -> None:
        places = _Places(line)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                body = ast.parse(line.text).body
        except IndentationError:
            indent = len(line.text) - len(line.text.lstrip())
            if not indent:
                # Python misses the block below it; here such a statement is wrong by itself.
                word = line.text.split(maxsplit=1)[0]
                self._report("statement", Span(line.line, 0, line.line, len(word)), what=f"`{word}`")
                return
            self._report("indentation", Span(line.line, 0, line.line, max(indent, 1)))
            return
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            self._unreadable(line, places, error)
            return
        for statement in body:
            if _too_deep(statement):
                self._report("too-deep", places.span(statement), limit=_DEPTH_LIMIT)
                continue
            self._statement(statement, places, line, first)

    def _statement(self, node: ast.stmt, places: _Places, line: LogicalLine, first: bool) -> None:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            if first and not self.docstring:
                self.docstring = node.value.value
            else:
                self._report("docstring", places.span(node))
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            try:
                self._assignment(node, places, line.comment)
            except NotReadable as found:
                self.problems += found.problems
        else:
            what = _STATEMENTS.get(type(node), "this statement")
            self._report("statement", places.span(node), what=what)

    def _assignment(self, node: ast.Assign | ast.AnnAssign | ast.AugAssign, places: _Places, comment: str) -> None:
        reader = ExpressionReader(places.span, self.source.text, places.text)
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        annotation = node.annotation if isinstance(node, ast.AnnAssign) else None
        single = not isinstance(node, ast.AugAssign) and (not isinstance(node, ast.Assign) or len(node.targets) == 1)
        if isinstance(target, ast.Name) and single and node.value is not None:
            self.declarations.append(reader.declaration(target, node.value, annotation, places.span(node)))
            return
        name = reader.target(target, single)
        size = None if annotation is None else reader.size(annotation)
        if node.value is None:
            raise NotReadable([problem("syntax", places.span(node), what="the equation has no right side")])
        equation = Equation(name, size, reader.read(node.value), comment, places.span(node), places.span(target))
        self.equations.append(equation)

    def _report(self, kind: str, span: Span, **values: object) -> None:
        self.problems.append(problem(kind, span, **values))

    def _unreadable(self, line: LogicalLine, places: _Places, error: Exception) -> None:
        if not isinstance(error, SyntaxError):
            kind = "too-deep" if isinstance(error, RecursionError | MemoryError) else "syntax"
            self._report(kind, Span(line.line, 0, line.line, 1), limit=_DEPTH_LIMIT, what=str(error))
            return
        what = error.msg or "invalid syntax"
        for pythons, ours in _REWORDED.items():
            what = what.replace(pythons, ours)
        if what == "invalid syntax" and _RUN_ON.search(line.text.split("\n")[-1][: max((error.offset or 1) - 1, 0)]):
            what += "; is an operator missing before this?"
        row = min(max((error.lineno or 1) - 1, 0), line.text.count("\n"))
        column = min(max((error.offset or 1) - 1, 0), len(line.text.split("\n")[row]))
        self._report("syntax", Span(line.line + row, column, line.line + row, column + 1), what=what)


class _Places:
    """Turns the positions of `ast` (lines of the statement, columns in UTF-8 bytes) into places in the text."""

    def __init__(self, line: LogicalLine) -> None:
        self.first, self.rows = line.line, line.text.split("\n")

    def span(self, node: ast.AST) -> Span:
        row, end_row = getattr(node, "lineno", 1) - 1, (getattr(node, "end_lineno", 1) or 1) - 1
        column, end = (
            self._column(row, getattr(node, "col_offset", 0)),
            self._column(end_row, getattr(node, "end_col_offset", 1)),
        )
        return Span(self.first + row, column, self.first + end_row, end)

    def text(self, node: ast.AST) -> str:
        """The characters of a node, on one line and not too many."""
        span = self.span(node)
        rows = self.rows[span.line - self.first : span.end_line - self.first + 1]
        rows[-1] = rows[-1][: span.end_column]
        rows[0] = rows[0][span.column :]
        text = " ".join(row.strip() for row in rows)
        return text if len(text) <= 40 else text[:37] + "..."

    def _column(self, row: int, offset: int | None) -> int:
        return len(self.rows[row].encode()[: offset or 0].decode(errors="ignore"))


def _too_deep(node: ast.AST) -> bool:
    """Whether a tree is deeper than the limit, found without recursion."""
    level, depth = [node], 0
    while level:
        level = [child for parent in level for child in ast.iter_child_nodes(parent)]
        depth += 1
        if depth > _DEPTH_LIMIT:
            return True
    return False


def _sections(docstring: str) -> tuple[str, str, tuple[str, ...]]:
    """Title, description and references of a docstring."""
    lines = [line.strip() for line in docstring.strip().split("\n")]
    references = tuple(line.split(":", 1)[1].strip() for line in lines[1:] if line.startswith("Reference:"))
    rest = "\n".join(line for line in lines[1:] if not line.startswith("Reference:")).strip()
    return lines[0].rstrip("."), rest, references
