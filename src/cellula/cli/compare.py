"""`cellula compare`."""

from __future__ import annotations

from pathlib import Path

import click

from cellula.cells.catalogue import load_cell
from cellula.cli.options import examples, output_options
from cellula.cli.pictures import give_picture
from cellula.cli.program import cli
from cellula.printers.diagram.picture import draw_comparison

__all__ = ["compare"]


@cli.command(
    short_help="Draw several cells side by side.",
    epilog=examples(
        "cellula compare lstm peephole_lstm gru --output three.svg",
        "cellula compare lstm my.cell --output mine.png",
    ),
)
@click.argument("names", metavar="CELL_OR_FILE...", nargs=-1, required=True)
@click.option("--output", type=click.Path(path_type=Path), help="The .svg or .png file to write.")
@output_options
def compare(names: tuple[str, ...], output: Path | None, as_json: bool) -> None:
    """Draw several cells side by side, with a mark on what differs from the first one.

    Without --output the picture goes where `show --as diagram` sends it.
    """
    graphs = [load_cell(name) for name in names]
    give_picture(draw_comparison(graphs), "-".join(graph.name for graph in graphs), output, as_json)
