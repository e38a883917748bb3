"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from cellula.errors import UsageError
from cellula.graph.graph import Graph
from cellula.printers.summary import summarize

__all__ = ["Command", "examples", "output_options", "settings_of", "size_options", "sizes_of", "summary_of"]


Command = Callable[..., Any]


def examples(*lines: str) -> str:
    """The examples at the end of a command's help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def output_options(command: Command) -> Command:
    """`--json` and `--debug`, which every command has."""
    command = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")(command)
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs.")(command)


def settings_of(pairs: tuple[str, ...]) -> dict[str, float]:
    """`("leak=0.3",)` -> `{"leak": 0.3}`; whole numbers stay whole, as sizes need them."""
    found: dict[str, float] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        try:
            number = float(text)
        except ValueError:
            number = None
        if not name or not equals or number is None:
            raise UsageError(f"--set {pair!r} is not NAME=NUMBER; write --set leak=0.3, for example")
        found[name] = int(number) if number.is_integer() and "." not in text else number
    return found


def size_options(command: Command) -> Command:
    command = click.option(
        "--set", "pairs", multiple=True, metavar="NAME=NUMBER", help="A size or setting of the formula."
    )(command)
    command = click.option(
        "--hidden", default=64, show_default=True, type=click.IntRange(1), help="Units of the cell."
    )(command)
    return click.option(
        "--input", "inputs", default=8, show_default=True, type=click.IntRange(1), help="Units of the input."
    )(command)


def sizes_of(graph: Graph, inputs: int, hidden: int, pairs: tuple[str, ...]) -> tuple[dict[str, int], dict[str, float]]:
    """The sizes and the settings of a cell that the options say."""
    given = settings_of(pairs)
    unknown = [
        name for name in given if name not in (*graph.extra_sizes, *(setting.name for setting in graph.settings))
    ]
    if unknown:
        raise UsageError(f"{graph.name} has no size or setting {unknown[0]!r}; remove --set {unknown[0]}=...")
    sizes = {name: int(given[name]) for name in graph.extra_sizes if name in given}
    # A formula's own sizes show as large as the hidden one until they are given.
    own = dict.fromkeys(graph.extra_sizes, hidden)
    settings = {name: given[name] for name in given if name not in sizes}
    return {"input": inputs, "hidden": hidden, **own, **sizes}, settings


def summary_of(graph: Graph, inputs: int, hidden: int, pairs: tuple[str, ...]) -> dict[str, Any]:
    return summarize(graph, sizes_of(graph, inputs, hidden, pairs)[0])
