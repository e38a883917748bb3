"""The command line: one command per verb, over the same functions that Python code uses."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cellula.cells.catalogue import cells, load_cell
from cellula.errors import CellulaError, FormulaError, UsageError
from cellula.graph.graph import Graph
from cellula.printers.summary import print_summary, summarize

__all__ = ["cli", "main"]

# Exit codes: 0 done, 1 what was given is wrong, 2 the command line is wrong, 130 stopped by Ctrl-C.
WRONG, INTERRUPTED = 1, 130


def main() -> None:
    """Run the command line and leave with its exit code."""
    arguments = sys.argv[1:]
    try:
        code = cli.main(arguments, standalone_mode=False)
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader of our output left, as `head` does; what is still buffered has no taker.
        sys.stdout = None
        code = WRONG
    except (CellulaError, OSError) as error:
        if "--debug" in arguments:
            raise
        _complain(error, as_json="--json" in arguments)
        code = WRONG
    sys.exit(code if isinstance(code, int) else 0)


def _complain(error: Exception, *, as_json: bool) -> None:
    """Say what is wrong: to people on standard error, to programs on standard output."""
    if as_json:
        click.echo(json.dumps({"error": type(error).__name__, "message": str(error), **_problems(error)}))
    else:
        click.secho("error: ", fg="red", nl=False, err=True)
        click.echo(str(error), err=True)


def _problems(error: Exception) -> dict[str, Any]:
    if not isinstance(error, FormulaError):
        return {}
    return {
        "problems": [
            {
                "kind": found.kind,
                "line": found.span.line,
                "column": found.span.column + 1,
                "end_line": found.span.end_line,
                "end_column": found.span.end_column + 1,
                "message": found.message,
                "help": found.help,
                "notes": [
                    {"line": note.span.line, "column": note.span.column + 1, "text": note.text} for note in found.notes
                ],
            }
            for found in error.problems
        ]
    }


def _examples(*lines: str) -> str:
    """The examples at the end of a command's help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


Command = Callable[..., Any]


def _output_options(command: Command) -> Command:
    """`--json` and `--debug`, which every command has."""
    command = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")(command)
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs.")(command)


def _settings(pairs: tuple[str, ...]) -> dict[str, float]:
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


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="cellula", message="cellula %(version)s")
def cli() -> None:
    """Recurrent cells written as formulas: look at them, check your own, train and use them."""


@cli.command("cells", epilog=_examples("cellula cells", "cellula cells --json"))
@_output_options
def cells_command(as_json: bool) -> None:
    """List the cells that come with Cellula, one line each."""
    graphs = [load_cell(name) for name in cells()]
    if as_json:
        rows = [
            {
                "name": g.name,
                "title": g.title,
                "states": [s.slot for s in g.states],
                "references": list(g.references),
            }
            for g in graphs
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    width = max(len(graph.name) for graph in graphs)
    for graph in graphs:
        memory = ", ".join(state.slot for state in graph.states) or "no memory"
        click.echo(f"{click.style(f'{graph.name:<{width}}', bold=True)}  {graph.title} [{memory}]")


def _size_options(command: Command) -> Command:
    command = click.option(
        "--set", "pairs", multiple=True, metavar="NAME=NUMBER", help="A size or setting of the formula."
    )(command)
    command = click.option(
        "--hidden", default=64, show_default=True, type=click.IntRange(1), help="Units of the cell."
    )(command)
    return click.option(
        "--input", "inputs", default=8, show_default=True, type=click.IntRange(1), help="Units of the input."
    )(command)


def _summary(graph: Graph, inputs: int, hidden: int, pairs: tuple[str, ...]) -> dict[str, Any]:
    given = _settings(pairs)
    unknown = [
        name for name in given if name not in (*graph.extra_sizes, *(setting.name for setting in graph.settings))
    ]
    if unknown:
        raise UsageError(f"{graph.name} has no size or setting {unknown[0]!r}; remove --set {unknown[0]}=...")
    sizes = {name: int(given[name]) for name in graph.extra_sizes if name in given}
    # A formula's own sizes show as large as the hidden one until they are given.
    own = dict.fromkeys(graph.extra_sizes, hidden)
    return summarize(graph, {"input": inputs, "hidden": hidden, **own, **sizes})


@cli.command(
    epilog=_examples("cellula show lstm", "cellula show my.cell --input 3 --hidden 32", "cellula show gru --json")
)
@click.argument("cell", metavar="CELL_OR_FILE")
@_size_options
@_output_options
def show(cell: str, inputs: int, hidden: int, pairs: tuple[str, ...], as_json: bool) -> None:
    """Show a cell: formula, gate and layer nodes, parameters, memory, sizes."""
    summary = _summary(load_cell(cell), inputs, hidden, pairs)
    click.echo(json.dumps(summary, indent=2) if as_json else print_summary(summary))


@cli.command(epilog=_examples("cellula check my.cell", "cellula check my.cell --json"))
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@_size_options
@_output_options
def check(file: Path, inputs: int, hidden: int, pairs: tuple[str, ...], as_json: bool) -> None:
    """Check a formula file: every mistake with its place and remedy, or a summary."""
    summary = _summary(load_cell(file), inputs, hidden, pairs)
    if as_json:
        click.echo(json.dumps({"ok": True, **summary}, indent=2))
        return
    gates = [node["name"] for node in summary["nodes"] if node["role"] == "gate"]
    layers = [node["name"] for node in summary["nodes"] if node["role"] == "layer"]
    memory = [state["name"] for state in summary["states"]]
    click.echo(f"{file}: {click.style('ok', fg='green')}")
    for label, names in (("gate nodes", gates), ("layer nodes", layers), ("memory", memory)):
        click.echo(textwrap.indent(f"{label:<12}{', '.join(names) or 'none'}", "  "))
    shown = ", ".join(f"{name} = {size}" for name, size in summary["sizes"].items())
    click.echo(f"  learned     {summary['parameter_count']:,} numbers with {shown}")
