"""`cellula cells`."""

from __future__ import annotations

import json

import click

from cellula.cells.catalogue import cells, load_cell
from cellula.cli.options import examples, output_options
from cellula.cli.program import cli

__all__ = ["cells_command"]


@cli.command(
    "cells",
    short_help="List the cells that come with Cellula.",
    epilog=examples("cellula cells", "cellula cells --json"),
)
@output_options
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
