"""`cellula check`."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import click

from cellula.cells.catalogue import load_cell
from cellula.cli.options import examples, output_options, size_options, summary_of
from cellula.cli.program import cli

__all__ = ["check"]


@cli.command(epilog=examples("cellula check my.cell", "cellula check my.cell --json"))
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@size_options
@output_options
def check(file: Path, inputs: int, hidden: int, pairs: tuple[str, ...], as_json: bool) -> None:
    """Check a formula file: every mistake with its place and remedy, or a summary."""
    summary = summary_of(load_cell(file), inputs, hidden, pairs)
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
