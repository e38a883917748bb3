"""`cellula export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from cellula.cells.catalogue import cells, load_cell
from cellula.cli.options import examples, output_options, settings_of, size_options
from cellula.cli.program import cli
from cellula.errors import UsageError

__all__ = ["export"]


# Options of `cellula export` that say how a bare cell becomes a module; a run knows that itself.
_MODULE_OPTIONS = ("inputs", "hidden", "pairs", "layers", "bidirectional", "batch_first", "seed")


@cli.command(
    short_help="Write a run or a cell as ONNX.",
    epilog=examples(
        "cellula export runs/demo",
        "cellula export lstm --input 3 --hidden 16 --output lstm.onnx",
        "cellula export my.cell --streaming --set leak=0.2",
    ),
)
@click.argument("source", metavar="RUN_OR_CELL")
@click.option("--format", "form", type=click.Choice(["onnx"]), default="onnx", show_default=True, help="What to write.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="The file.  [default: model.onnx in the run, CELL.onnx]"
)
@click.option("--streaming", is_flag=True, help="A single step, states in and out.")
@click.option("--states", is_flag=True, help="The states at the start are inputs too.")
@click.option("--lengths", is_flag=True, help="The steps of every row are an input.")
@click.option("--layers", default=1, show_default=True, type=click.IntRange(1), help="Layers, of a bare cell.")
@click.option("--bidirectional", is_flag=True, help="Also run from the end, of a bare cell.")
@click.option("--batch-first", is_flag=True, help="Batch before time, of a bare cell.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the weights of a bare cell.")
@size_options
@output_options
def export(source: str, form: str, output: Path | None, as_json: bool, **given: Any) -> None:
    """Write a trained RUN, or a bare cell with fresh weights, as a file for other runtimes.

    A run becomes its whole network: rows in the data's own units in, forecast and bounds out.
    """
    from cellula.tasks.onnx_file import onnx_model, write_onnx

    options = {name: given[name] for name in ("streaming", "states", "lengths")}
    is_run = source not in cells() and (Path(source).is_dir() or source.endswith(".safetensors"))
    if is_run:
        _refuse_module_options(source)
    model = onnx_model(source if is_run else _bare_module(source, given), **options)
    path = output or _export_path(source, is_run)
    write_onnx(model, path)
    if as_json:
        click.echo(json.dumps({"file": str(path), **model.ports()}))
        return
    click.echo(f"wrote {path}")
    for label, ports in model.ports().items():
        for port in ports:
            click.echo(f"  {label[:-1]:<8}{port['name']:<12}{port['type']} {port['shape']}")
    if not is_run:
        click.echo("note: its weights are fresh, not trained; export a run, or a module from Python, for trained ones")


def _refuse_module_options(source: str) -> None:
    context = click.get_current_context()
    for option in context.command.params:
        name = option.name or ""
        if name in _MODULE_OPTIONS and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise UsageError(
                f"{option.opts[0]} is for a bare cell; {source} is a run, which has its sizes: leave it out"
            )


def _bare_module(cell: str, given: dict[str, Any]) -> Any:
    """A module of a cell with fresh weights."""
    import torch

    from cellula.nn import Recurrent

    torch.manual_seed(given["seed"])
    names = {"layers": "num_layers", "bidirectional": "bidirectional", "batch_first": "batch_first"}
    options: dict[str, Any] = {name: given[option] for option, name in names.items()}
    options |= settings_of(given["pairs"])
    return Recurrent(load_cell(cell), given["inputs"], given["hidden"], **options)


def _export_path(source: str, is_run: bool) -> Path:
    path = Path(source)
    if is_run:
        return path / "model.onnx" if path.is_dir() else path.with_suffix(".onnx")
    return Path(f"{load_cell(source).name}.onnx")
