"""What the docstring of a cell says of it, part by part; every cell of the zoo keeps this form.

    Title, with the short name (SN).

    What it does, in a few sentences.
    Good for: what one takes it for, and where it falls short.
    Not to be confused with: its neighbours, and in what they differ.
    Start: how its parameters start and who says so; what is our choice.
    Reference: authors year, title, where it appeared, link

A part goes on until the next one begins. There may be several references.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cellula.cells.catalogue import load_cell
from cellula.graph.graph import Graph

__all__ = ["PARTS", "About", "Citation", "about"]

# How a part begins -> the field that holds it.
PARTS = {"Good for": "good_for", "Not to be confused with": "not_to_be_confused_with", "Start": "start"}
_BEGIN = re.compile(rf"^({'|'.join(PARTS)}):\s*")
_CITATION = re.compile(r"^(?P<authors>.+?) (?P<year>(?:19|20)\d\d), (?P<work>.+?)(?:, (?P<link>https?://\S+))?$")


@dataclass(frozen=True)
class Citation:
    """A `Reference:` line.

    Args:
        text: the whole line.
        authors, year, work, link: its parts; empty where the line has another form or none.
    """

    text: str
    authors: str = ""
    year: str = ""
    work: str = ""
    link: str = ""


@dataclass(frozen=True)
class About:
    """The parts of a docstring; those that it leaves out are empty.

    Args:
        title: its first line, without the full stop.
        description: what the cell does, as written, with line breaks.
        good_for, not_to_be_confused_with, start: one line each.
        references: what it is taken from.
    """

    title: str
    description: str
    good_for: str = ""
    not_to_be_confused_with: str = ""
    start: str = ""
    references: tuple[Citation, ...] = ()


def about(cell: str | Path | Graph) -> About:
    """What a cell says of itself.

    Args:
        cell: a name of the zoo, the path of a `.cell` file, the text of a formula, or a graph.

    Returns:
        The parts of its docstring.

    Raises:
        UsageError: there is no such cell.
        FormulaError: the formula is wrong.

    Example:
        >>> from cellula.cells.about import about
        >>> elman = about("elman")
        >>> elman.references[0].year, elman.references[0].link
        ('1990', 'https://doi.org/10.1207/s15516709cog1402_1')
    """
    graph = load_cell(cell)
    parts: dict[str, list[str]] = {"description": []}
    current = parts["description"]
    for line in graph.description.split("\n"):
        begin = _BEGIN.match(line)
        if begin:
            current = parts.setdefault(PARTS[begin[1]], [])
        current.append(line[begin.end() :] if begin else line)
    description = "\n".join(parts.pop("description")).strip()
    joined = {name: " ".join(line for line in lines if line) for name, lines in parts.items()}
    return About(graph.title, description, **joined, references=tuple(map(_citation, graph.references)))


def _citation(text: str) -> Citation:
    found = _CITATION.match(text)
    return Citation(text, **found.groupdict(default="")) if found else Citation(text)
