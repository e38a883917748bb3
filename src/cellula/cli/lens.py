"""`cellula lens`: what a trained run does over time, or a bare cell before its training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from cellula.cells.catalogue import cells, load_cell
from cellula.cli.options import examples, output_options, settings_of
from cellula.cli.program import cli
from cellula.errors import UsageError

__all__ = ["lens"]

# Options that only one of the two understands.
_OF_A_CELL = ("hidden", "layers", "steps", "batch", "seed", "pairs")
_OF_A_RUN = ("known", "part", "series")


@cli.command(
    epilog=examples(
        "cellula lens runs/demo",
        "cellula lens runs/demo --node i,f,c --unit 3 --output pictures",
        "cellula lens runs/demo --input new.csv --part decoder --json",
        "cellula lens elman --hidden 256 --steps 500",
        "cellula lens my.cell --input 3 --set leak=0.2 --output pictures",
    )
)
@click.argument("source", metavar="RUN_OR_CELL")
@click.option(
    "--input", "given", metavar="DATA|UNITS",
    help="Of a run: the data file.  [default: its newest rows]  Of a cell: units of the input.  [default: 8]",
)  # fmt: skip
@click.option("--node", "nodes", multiple=True, metavar="NAMES", help="Nodes, such as i,f,c.  [default: all]")
@click.option("--unit", "units", multiple=True, type=click.IntRange(0), help="Draw this unit alone; may be repeated.")
@click.option("--layer", default=0, show_default=True, type=click.IntRange(0), help="Which layer the pictures show.")
@click.option(
    "--order", type=click.Choice(["none", "time", "similarity"]), default="none", show_default=True,
    help="Of the units in a heat map: slow ones first, or those that move together side by side.",
)  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), help="The folder for pictures and lens.json.")
@click.option("--svg", is_flag=True, help="Pictures as SVG instead of PNG.")
@click.option(
    "--known", type=click.Path(path_type=Path), help="Of a run: the known covariates of the rows to forecast."
)
@click.option("--part", type=click.Choice(["encoder", "decoder"]), help="Of a run.  [default: encoder]")
@click.option("--series", metavar="NAME", help="Of a run: which series the pictures show.  [default: the first]")
@click.option("--hidden", default=64, show_default=True, type=click.IntRange(1), help="Of a cell: units.")
@click.option("--layers", default=1, show_default=True, type=click.IntRange(1), help="Of a cell: layers.")
@click.option("--steps", default=100, show_default=True, type=click.IntRange(2), help="Of a cell: steps of the input.")
@click.option("--batch", default=4, show_default=True, type=click.IntRange(1), help="Of a cell: sequences.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of a cell: weights and input.")
@click.option("--set", "pairs", multiple=True, metavar="NAME=NUMBER", help="Of a cell: a size or setting.")
@output_options
def lens(
    source: str, given: str | None, nodes: tuple[str, ...], units: tuple[int, ...], layer: int, order: str,
    output: Path | None, svg: bool, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Look at what a trained RUN does over time, or at a CELL before its training.

    A run reads its newest window, or that of --input. A cell gets fresh weights and random numbers, and shows whether
    its gradients vanish or explode before anyone trains it for hours. With --output the pictures are drawn too.
    """
    is_run = source not in cells() and (Path(source).is_dir() or source.endswith(".safetensors"))
    _refuse(_OF_A_CELL if is_run else _OF_A_RUN, source, is_run)
    names = tuple(name for text in nodes for name in text.split(",") if name)
    found = _of_run(source, given, names, options) if is_run else _of_cell(source, given, names, options)
    for name in names:
        # A layer or a unit that is not there is said before anything is printed.
        found.node(name, layer)
    row = _row(found, options["series"])
    for unit in units:
        _check_unit(found, unit, names, layer)
    files: tuple[Path, ...] = ()
    if output is not None:
        form = "svg" if svg else "png"
        files = found.save(output, *names, units=units or (0,), row=row, layer=layer, order=order, form=form)
    if as_json:
        click.echo(json.dumps({**found.to_dict(), "files": [str(path) for path in files]}))
        return
    click.echo(str(found))
    for path in files:
        click.echo(f"wrote {path}", err=True)


def _of_run(source: str, data: str | None, names: tuple[str, ...], options: dict[str, Any]) -> Any:
    from cellula.inspection.lens import lens as look
    from cellula.tasks.forecast.files import read_table
    from cellula.tasks.forecast.forecaster import Forecaster

    table = None if data is None else read_table(Path(data))
    known = None if options["known"] is None else read_table(options["known"])
    return look(Forecaster.load(source), (table, known), record=names or None, within=options["part"])


def _of_cell(source: str, units: str | None, names: tuple[str, ...], options: dict[str, Any]) -> Any:
    """A fresh module on random numbers."""
    import torch

    from cellula.inspection.lens import lens as look
    from cellula.nn.recurrent import Recurrent

    if units is not None and (not units.isdecimal() or int(units) < 1):
        raise UsageError(f"--input {units!r}: {source} is a cell, whose input has 1 unit or more; write --input 8")
    inputs = int(units or 8)
    torch.manual_seed(options["seed"])
    settings = settings_of(options["pairs"])
    layer = Recurrent(load_cell(source), inputs, options["hidden"], num_layers=options["layers"], **settings)  # pyright: ignore[reportArgumentType]
    x = torch.randn(options["steps"], options["batch"], inputs)
    return look(layer, x, record=names or None)


def _row(found: Any, series: str | None) -> int:
    """The row of a series."""
    if series is None:
        return 0
    if series not in found.row_names:
        known = ", ".join(map(repr, found.row_names[:20])) or "no series with names"
        raise UsageError(f"--series {series!r} is not there; there is {known}")
    return found.row_names.index(series)


def _check_unit(found: Any, unit: int, names: tuple[str, ...], layer: int) -> None:
    widest = max(found.node(name, layer).units for name in names or found.names)
    if unit >= widest:
        raise UsageError(f"--unit {unit} is not there; write a number from 0 to {widest - 1}")


def _refuse(unknown: tuple[str, ...], source: str, is_run: bool) -> None:
    """UsageError for an option that means nothing here."""
    context = click.get_current_context()
    for option in context.command.params:
        name = option.name or ""
        if name in unknown and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            what = "a run, which has its own" if is_run else "a cell, not a trained run"
            raise UsageError(f"{option.opts[0]} does not fit {source}: it is {what}; leave it out")
