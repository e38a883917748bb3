"""`cellula show`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click

from cellula.cells.catalogue import load_cell
from cellula.cli.options import examples, output_options, size_options, sizes_of, summary_of
from cellula.cli.pictures import give_picture
from cellula.cli.program import cli
from cellula.errors import UsageError
from cellula.graph.graph import Graph
from cellula.plan.backward import make_backward
from cellula.plan.plan import make_plan
from cellula.printers.bptt import print_bptt
from cellula.printers.bptt_latex import print_bptt_latex
from cellula.printers.diagram.picture import draw_cell
from cellula.printers.explain import explain_graph, explain_plan, print_source
from cellula.printers.formula import print_formula
from cellula.printers.latex import print_latex
from cellula.printers.summary import print_summary

__all__ = ["show"]


def _onnx_text(graph: Graph, sizes: dict[str, int], settings: dict[str, float]) -> str:
    # Only this form needs numpy.
    from cellula.printers.onnx import print_onnx_of

    return print_onnx_of(graph, sizes, settings)


# What `cellula show --as` can show, from the graph.
_FORMS: dict[str, Callable[[Graph], str]] = {
    "formula": print_formula,
    "latex": print_latex,
    "bptt": lambda graph: print_bptt(make_backward(make_plan(graph))),
    "bptt-latex": lambda graph: print_bptt_latex(make_backward(make_plan(graph))),
    "c": print_source,
    "all": explain_graph,
}
# What it can show with numbers for the sizes.
_SIZED_FORMS: dict[str, Callable[[Graph, dict[str, int], dict[str, float]], str]] = {
    "plan": lambda graph, sizes, _: explain_plan(graph, sizes),
    "onnx": _onnx_text,
}


@cli.command(
    short_help="Show a cell: formula, nodes, sizes, diagram.",
    epilog=examples(
        "cellula show lstm",
        "cellula show lstm --as bptt",
        "cellula show lstm --as plan --input 32 --hidden 128",
        "cellula show gru --as c --whole",
        "cellula show lstm --as diagram --output lstm.svg",
        "cellula show gru --as diagram --steps 3 --output gru.png",
        "cellula show my.cell --input 3 --hidden 32",
        "cellula show gru --json",
    ),
)
@click.argument("cell", metavar="CELL_OR_FILE")
@click.option(
    "--as",
    "form",
    type=click.Choice([*_FORMS, *_SIZED_FORMS, "diagram"]),
    help="One stage only, or all of them in order.",
)
@click.option("--output", type=click.Path(path_type=Path), help="Write a file; a diagram is a .svg or a .png file.")
@click.option("--steps", type=click.IntRange(1, 12), help="Cells of a diagram, chained over time.  [default: 1]")
@click.option("--whole", is_flag=True, help="Of the C: with the mathematics and the runtime that all cells share.")
@size_options
@output_options
def show(
    cell: str,
    form: str | None,
    output: Path | None,
    steps: int | None,
    whole: bool,
    inputs: int,
    hidden: int,
    pairs: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show a cell: formula, gate and layer nodes, parameters, memory, sizes; or one form of it.

    A diagram without --output is printed as SVG where the output goes on to a file or a program, and is written to
    CELL.svg where it would only fill the terminal.
    """
    graph = load_cell(cell)
    if whole and form != "c":
        raise UsageError("--whole belongs to the generated C; write --as c --whole")
    if steps is not None and form != "diagram":
        raise UsageError("--steps belongs to a diagram; write --as diagram")
    if form == "diagram":
        give_picture(draw_cell(graph, steps or 1), graph.name, output, as_json)
        return
    if form is None:
        summary = summary_of(graph, inputs, hidden, pairs)
        text = json.dumps(summary, indent=2) if as_json else print_summary(summary)
    else:
        if form in _SIZED_FORMS:
            text = _SIZED_FORMS[form](graph, *sizes_of(graph, inputs, hidden, pairs))
        else:
            text = print_source(graph, whole) if whole else _FORMS[form](graph)
        text = json.dumps({"name": graph.name, form: text}) if as_json else text.rstrip("\n")
    if output is None:
        click.echo(text)
    else:
        output.write_text(text + "\n", encoding="utf-8")
        click.echo(f"wrote {output}", err=True)
