"""What the checks of a cell found, as a value that prints itself."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["CheckReport", "Failed", "Hint", "NotRun", "Outcome"]

Status = Literal["ok", "failed", "not run"]

_WIDTH = 118


class Failed(Exception):
    """A check that a cell does not pass; the message says what was found."""


class NotRun(Exception):
    """A check that could not run; the message says why."""


@dataclass(frozen=True)
class Outcome:
    """The result of one check.

    Args:
        check: the name of the check, such as `"finite differences"`.
        status: `"ok"`, `"failed"` or `"not run"`.
        detail: what was found, or why the check did not run.
    """

    check: str
    status: Status
    detail: str


@dataclass(frozen=True)
class Hint:
    """Something that is no mistake and deserves a thought.

    Args:
        kind: the row of the table of hints, such as `"forget-bias"`.
        where: the node, parameter or state that it is about.
        message: what is so.
        instead: what to write instead.
        line: of the formula's text, 0 where there is none.
    """

    kind: str
    where: str
    message: str
    instead: str
    line: int = 0


@dataclass(frozen=True)
class CheckReport:
    """What the checks of a cell found. It prints itself.

    Args:
        name: of the cell.
        sizes: units of every size for which the counts are.
        outcomes: one for each check, in the order in which they ran.
        hints: what deserves a thought, None where nobody looked; no hint makes a cell fail.
        notes: what the checks measured, as plain data: parameter count, costs, gradient over lags.
    """

    name: str
    sizes: Mapping[str, int]
    outcomes: tuple[Outcome, ...]
    hints: tuple[Hint, ...] | None
    notes: Mapping[str, Any]

    @property
    def passed(self) -> bool:
        """Whether no check failed; a check that could not run is no failure, and is listed as not run."""
        return all(outcome.status != "failed" for outcome in self.outcomes)

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the checks that failed."""
        return tuple(outcome.check for outcome in self.outcomes if outcome.status == "failed")

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data that can be written as JSON."""
        return {
            "name": self.name,
            "passed": self.passed,
            "sizes": dict(self.sizes),
            "checks": [asdict(outcome) for outcome in self.outcomes],
            "hints": None if self.hints is None else [asdict(hint) for hint in self.hints],
            **self.notes,
        }

    def __str__(self) -> str:
        width = max(len(outcome.check) for outcome in self.outcomes)
        lines = [
            _hanging(f"  {_MARKS[outcome.status]:<8}{outcome.check:<{width}}  ", outcome.detail)
            for outcome in self.outcomes
        ]
        if self.hints is not None:
            lines += ["", "hints" if self.hints else "no hints"]
        for hint in self.hints or ():
            place = f" (line {hint.line})" if hint.line else ""
            lines.append(_hanging("  ", f"{hint.where}{place}: {hint.message}"))
            lines.append(_hanging("    ", f"instead: {hint.instead}"))
        counts = {status: sum(one.status == status for one in self.outcomes) for status in _MARKS}
        verdict = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        return "\n".join([f"{self.name}: {'passed' if self.passed else 'FAILED'} ({verdict})", *lines])


_MARKS: dict[Status, str] = {"ok": "ok", "failed": "FAILED", "not run": "not run"}


def _hanging(start: str, text: str) -> str:
    """A paragraph whose later lines stand below the first one's text."""
    indent = " " * len(start)
    lines = [
        part
        for number, line in enumerate(text.split("\n"))
        for part in textwrap.wrap(
            line, _WIDTH, initial_indent=start if number == 0 else indent, subsequent_indent=indent,
            break_long_words=False, break_on_hyphens=False,
        )
    ]  # fmt: skip
    return "\n".join(lines)
