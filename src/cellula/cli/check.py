"""`cellula check`."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import click

from cellula.cells.catalogue import load_cell
from cellula.checks.suite import run_suite
from cellula.cli.options import examples, output_options, settings_of, size_options, summary_of
from cellula.cli.program import WRONG, cli
from cellula.graph.graph import Graph

__all__ = ["check"]


@cli.command(
    short_help="Check a formula, and run the suite that Cellula's own cells pass.",
    epilog=examples(
        "cellula check my.cell",
        "cellula check my.cell --quick",
        "cellula check my.cell --input 3 --hidden 128 --json",
        "cellula check lstm",
    ),
)
@click.argument("cell", metavar="FILE_OR_CELL")
@click.option("--quick", is_flag=True, help="Only what the formula alone says; nothing is run.")
@size_options
@output_options
def check(cell: str, quick: bool, inputs: int, hidden: int, pairs: tuple[str, ...], as_json: bool) -> None:
    """Check a formula: every mistake with its place and remedy; then the suite that Cellula's own cells pass.

    Gradient against finite differences, generated C and ONNX against the reference, step by step against the whole
    sequence and more, with hints at what deserves a thought. Leaves with 1 where a check fails; hints fail nothing.
    """
    graph = _graph(cell)
    summary = summary_of(graph, inputs, hidden, pairs)
    report = run_suite(graph, inputs, hidden, settings_of(pairs), quick)
    if as_json:
        click.echo(json.dumps({"ok": report.passed, **summary, **report.to_dict()}, indent=2))
    else:
        roles = {role: [n["name"] for n in summary["nodes"] if n["role"] == role] for role in ("gate", "layer")}
        memory = [state["name"] for state in summary["states"]]
        click.echo(f"{cell}: {click.style('ok', fg='green') if report.passed else click.style('FAILED', fg='red')}")
        for label, names in (("gate nodes", roles["gate"]), ("layer nodes", roles["layer"]), ("memory", memory)):
            click.echo(textwrap.indent(f"{label:<12}{', '.join(names) or 'none'}", "  "))
        click.echo(f"\n{report}")
    if not report.passed:
        click.get_current_context().exit(WRONG)


def _graph(cell: str) -> Graph:
    """A file comes before a cell of the same name."""
    path = Path(cell)
    return load_cell(path if path.exists() or path.suffix == ".cell" else cell)
