"""Cut a text into logical lines, so that a mistake in one line does not hide those in others."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from cellula.errors import Problem, Source, Span
from cellula.formula.error_table import problem
from cellula.formula.lookalikes import advice

__all__ = ["LINE_LIMIT", "LogicalLine", "split_lines"]

LINE_LIMIT = 4_000  # characters of one statement, without spaces and comments
_DEPTH_LIMIT = 90  # open brackets; Python's own parser gives up at 200
_PAIRS = {")": "(", "]": "[", "}": "{"}
_COMMENT = re.compile(r"#[^\n]*")
_STATEMENT = re.compile(r"[A-Za-z]\w*\s*(\[[^\]\n]*\]\s*(:[^=\n]*)?=[^=]|=\s*[a-z]+\()")


@dataclass(frozen=True)
class LogicalLine:
    """One statement of the text, which may go over several lines inside brackets.

    Args:
        line: number of its first line.
        text: its characters, line breaks and comments included.
        comment: what follows `#` in it, or the comment lines right above it.
        broken: whether a problem was found in it already.
    """

    line: int
    text: str
    comment: str
    broken: bool


def split_lines(source: Source) -> tuple[list[LogicalLine], list[Problem]]:
    """The logical lines of a text and the problems of its characters, strings and brackets."""
    scanner = _Scanner(source.text, resynchronise=False)
    if scanner.scan().unclosed:
        # An open bracket swallowed the rest: read again and end it where the next statement begins.
        scanner = _Scanner(source.text, resynchronise=True).scan()
    return scanner.lines, scanner.problems


class _Scanner:
    """Walks over the characters once; knows strings, comments and brackets, nothing else."""

    def __init__(self, text: str, *, resynchronise: bool) -> None:
        self.text, self.resynchronise = text, resynchronise
        self.lines: list[LogicalLine] = []
        self.problems: list[Problem] = []
        self.unclosed = False
        self.position, self.line, self.line_start = 0, 1, 0
        self.above: list[str] = []
        self._begin()

    def _begin(self) -> None:
        self.start, self.start_line = self.position, self.line
        self.comments: list[str] = []
        self.brackets: list[tuple[str, Span]] = []
        self.broken = self.has_code = False

    def _span(self, start: int, end: int) -> Span:
        return Span(self.line, start - self.line_start, self.line, end - self.line_start)

    def _report(self, kind: str, span: Span, **values: object) -> None:
        self.problems.append(problem(kind, span, **values))
        self.broken = True

    def scan(self) -> _Scanner:
        while self.position < len(self.text):
            self._one()
        self._end_statement()
        return self

    def _one(self) -> None:
        char = self.text[self.position]
        if char == "\n":
            self._newline()
        elif char == "#":
            self._comment()
        elif char in "\"'":
            self._string(char)
        elif char == "\\" and self.text[self.position + 1 : self.position + 2] == "\n":
            self.position += 1
            self._advance_line()
        else:
            self._code(char)

    def _code(self, char: str) -> None:
        here = self._span(self.position, self.position + 1)
        if not char.isascii():
            self._non_ascii()
            return
        self.has_code = self.has_code or not char.isspace()
        if char in "([{":
            self.brackets.append((char, here))
            if len(self.brackets) == _DEPTH_LIMIT and not self.broken:
                self._report("too-deep", here, limit=_DEPTH_LIMIT)
        elif char in _PAIRS:
            self._close(char, here)
        elif char in "$?`" or (ord(char) < 32 and char != "\t") or ord(char) == 127:
            self._report("invalid-character", here, code=f"{ord(char):04X}")
        self.position += 1

    def _close(self, char: str, here: Span) -> None:
        if not self.brackets:
            self._report("bracket", here, bracket=char, what="closes nothing", help="delete it, or open it before")
            return
        opening, where = self.brackets.pop()
        if opening != _PAIRS[char]:
            what = f"does not close the `{opening}` of line {where.line}, column {where.column + 1}"
            right = {v: k for k, v in _PAIRS.items()}[opening]
            self._report("bracket", here, bracket=char, what=what, help=f"write `{right}`")

    def _non_ascii(self) -> None:
        """Report a run of characters outside ASCII once."""
        start = self.position
        while self.position < len(self.text) and not self.text[self.position].isascii():
            self.position += 1
        char = self.text[start]
        self.has_code = True
        name = unicodedata.name(char, "no name").lower()
        span = self._span(start, self.position)
        self._report("non-ascii", span, char=char, code=f"{ord(char):04X}", name=name, help=advice(char))

    def _unreadable(self) -> None:
        """Report a character that cannot stand even in a comment or a string."""
        code = ord(self.text[self.position])
        if code == 0 or 0xD800 <= code <= 0xDFFF:
            span = self._span(self.position, self.position + 1)
            self._report("invalid-character", span, code=f"{code:04X}")

    def _comment(self) -> None:
        start, end = self.position, self.text.find("\n", self.position)
        end = len(self.text) if end < 0 else end
        for self.position in range(start, end):
            self._unreadable()
        self.position = start
        self.comments.append(self.text[self.position + 1 : end].strip())
        self.position = end

    def _string(self, quote: str) -> None:
        self.has_code = True
        triple = self.text.startswith(quote * 3, self.position)
        mark = quote * 3 if triple else quote
        begin, span = self.position, self._span(self.position, self.position + len(mark))
        self.position += len(mark)
        while self.position < len(self.text) and not self.text.startswith(mark, self.position):
            char = self.text[self.position]
            if char == "\n" and not triple:
                break
            self._unreadable()
            # A backslash protects the next character, a line break inside triple quotes too.
            step = 2 if char == "\\" and self.text[self.position + 1 : self.position + 2] not in ("\n", "") else 1
            self.position += step
            if char == "\n":
                self.line, self.line_start = self.line + 1, self.position
        if self.text.startswith(mark, self.position) and self.position > begin:
            self.position += len(mark)
        else:
            self._report("string", span, quote=mark)

    def _advance_line(self) -> None:
        self.position += 1
        self.line += 1
        self.line_start = self.position

    def _newline(self) -> None:
        if self.brackets and not self._next_statement():
            self._advance_line()
            return
        self._end_statement()
        self._advance_line()
        self._begin()

    def _next_statement(self) -> bool:
        """Whether the open brackets are given up here, because a new statement starts on the next line."""
        return self.broken or (self.resynchronise and bool(_STATEMENT.match(self.text, self.position + 1)))

    def _end_statement(self) -> None:
        # Another mistake may have ended the statement before the end of the text did.
        self.unclosed = self.unclosed or bool(self.brackets)
        if self.brackets and not self.broken:
            char, span = self.brackets[-1]
            self._report("bracket", span, bracket=char, what="is never closed", help="close it where its content ends")
        text = self.text[self.start : self.position]
        if not self.has_code:
            # Comment lines describe the statement below them; an empty line cuts the tie.
            self.above = self.above + self.comments if self.comments else []
            return
        # Spaces and comments do not count, so that a statement is no longer when it is printed.
        size = len("".join(_COMMENT.sub("", text).split()))
        if size > LINE_LIMIT and not self.broken and not text.lstrip().startswith(('"', "'")):
            span = Span(self.start_line, 0, self.start_line, 1)
            self._report("too-long", span, what="statement", size=size, limit=LINE_LIMIT)
        comment = " ".join(part for part in (self.comments or self.above) if part)
        self.lines.append(LogicalLine(self.start_line, text, comment, self.broken))
        self.above = []
