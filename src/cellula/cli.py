"""The command line: one command per verb, over the same functions that Python code uses."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from cellula.cells.catalogue import cells, load_cell
from cellula.errors import CellulaError, FormulaError, UsageError, missing_package
from cellula.graph.graph import Graph
from cellula.plan.backward import make_backward
from cellula.plan.plan import make_plan
from cellula.printers.bptt import print_bptt
from cellula.printers.bptt_latex import print_bptt_latex
from cellula.printers.diagram.picture import Picture, draw_cell, draw_comparison
from cellula.printers.explain import explain_graph, explain_plan, print_source
from cellula.printers.formula import print_formula
from cellula.printers.latex import print_latex
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
    except (CellulaError, OSError, ModuleNotFoundError) as error:
        found = missing_package(error) if isinstance(error, ModuleNotFoundError) else error
        if "--debug" in arguments or isinstance(found, ModuleNotFoundError):
            raise
        _complain(found, as_json="--json" in arguments)
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


def _sizes(graph: Graph, inputs: int, hidden: int, pairs: tuple[str, ...]) -> tuple[dict[str, int], dict[str, float]]:
    """The sizes and the settings of a cell that the options say."""
    given = _settings(pairs)
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


def _summary(graph: Graph, inputs: int, hidden: int, pairs: tuple[str, ...]) -> dict[str, Any]:
    return summarize(graph, _sizes(graph, inputs, hidden, pairs)[0])


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
    epilog=_examples(
        "cellula show lstm",
        "cellula show lstm --as bptt",
        "cellula show lstm --as plan --input 32 --hidden 128",
        "cellula show gru --as c --whole",
        "cellula show lstm --as diagram --output lstm.svg",
        "cellula show gru --as diagram --steps 3 --output gru.png",
        "cellula show my.cell --input 3 --hidden 32",
        "cellula show gru --json",
    )
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
@_size_options
@_output_options
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
        _give_picture(draw_cell(graph, steps or 1), graph.name, output, as_json)
        return
    if form is None:
        summary = _summary(graph, inputs, hidden, pairs)
        text = json.dumps(summary, indent=2) if as_json else print_summary(summary)
    else:
        if form in _SIZED_FORMS:
            text = _SIZED_FORMS[form](graph, *_sizes(graph, inputs, hidden, pairs))
        else:
            text = print_source(graph, whole) if whole else _FORMS[form](graph)
        text = json.dumps({"name": graph.name, form: text}) if as_json else text.rstrip("\n")
    if output is None:
        click.echo(text)
    else:
        output.write_text(text + "\n", encoding="utf-8")
        click.echo(f"wrote {output}", err=True)


def _give_picture(picture: Picture, name: str, output: Path | None, as_json: bool) -> None:
    """A picture to a file, to what reads our output, or to a file of the cell's name where only a terminal does."""
    if output is None and not as_json and _to_a_terminal():
        output = Path(f"{name}.svg")
        if output.exists():
            raise UsageError(f"{output} is there already; write --output {output} to replace it, or another name")
    if output is not None:
        picture.save(output)
        if as_json:
            click.echo(json.dumps({"name": name, "output": str(output)}))
        else:
            click.echo(f"wrote {output}", err=True)
    else:
        click.echo(json.dumps({"name": name, "diagram": picture.svg}) if as_json else picture.svg, nl=as_json)


def _to_a_terminal() -> bool:
    """Whether what we print only fills a terminal."""
    return sys.stdout.isatty()


@cli.command(
    epilog=_examples(
        "cellula compare lstm peephole_lstm gru --output three.svg",
        "cellula compare lstm my.cell --output mine.png",
    )
)
@click.argument("names", metavar="CELL_OR_FILE...", nargs=-1, required=True)
@click.option("--output", type=click.Path(path_type=Path), help="The .svg or .png file to write.")
@_output_options
def compare(names: tuple[str, ...], output: Path | None, as_json: bool) -> None:
    """Draw several cells side by side, with a mark on what differs from the first one.

    Without --output the picture goes where `show --as diagram` sends it.
    """
    graphs = [load_cell(name) for name in names]
    _give_picture(draw_comparison(graphs), "-".join(graph.name for graph in graphs), output, as_json)


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


@cli.group()
def train() -> None:
    """Train a network on a task."""


def _columns(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Column names from options that may be repeated and may hold commas."""
    return tuple(name for text in texts for name in text.split(",") if name)


@train.command(
    "forecast",
    epilog=_examples(
        "cellula train forecast",
        "cellula train forecast power.csv --time Time --target Demand --known Holiday --horizon 48",
        "cellula train forecast --cell my.cell --run runs/mine",
        "cellula train forecast --run runs/mine --resume",
    ),
)
@click.argument("data", required=False, type=click.Path(path_type=Path))
@click.option("--target", multiple=True, metavar="COLUMN", help="What to forecast; may be repeated.")
@click.option("--time", metavar="COLUMN", help="The column of times.")
@click.option("--series", metavar="COLUMN", help="The column that tells several series apart.")
@click.option("--known", multiple=True, metavar="COLUMN", help="A covariate whose future is known.")
@click.option(
    "--past", multiple=True, metavar="COLUMN", help="A covariate whose future is not known; 'rest': all others."
)
@click.option("--timezone", metavar="ZONE", help="The local clock for hour and weekday, such as Europe/Paris.")
@click.option(
    "--cell", default="lstm", show_default=True, metavar="CELL_OR_FILE", help="A cell, a .cell file or a formula."
)
@click.option("--horizon", type=click.IntRange(1), help="Steps to forecast.  [default: one season, such as a day]")
@click.option("--window", type=click.IntRange(1), help="Steps of history to read.  [default: seven seasons]")
@click.option("--season", type=click.IntRange(1), help="Steps of a season.  [default: from the times]")
@click.option("--hidden", type=click.IntRange(1), help="Units of the network.")
@click.option("--layers", type=click.IntRange(1), help="Layers of encoder and decoder.")
@click.option("--patch", type=click.IntRange(1), help="Rows that the encoder reads in one step.")
@click.option(
    "--missing", type=click.Choice(["refuse", "forward", "interpolate"]), help="What to do with missing values."
)
@click.option("--irregular", type=click.Choice(["refuse", "regularize"]), help="What to do with rows off the grid.")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the data at most.")
@click.option("--batch-size", type=click.IntRange(1), help="Windows a step.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="The highest learning rate.")
@click.option("--precision", type=click.Choice(["no", "bf16", "fp16"]), help="Mixed precision.")
@click.option("--seed", type=click.IntRange(0), help="Decides everything random.")
@click.option("--set", "pairs", multiple=True, metavar="NAME=NUMBER", help="A size or setting of the formula.")
@click.option("--run", type=click.Path(path_type=Path), help="The run directory.  [default: runs/forecast-1, -2, ...]")
@click.option("--overwrite", is_flag=True, help="Replace the run that is there.")
@click.option("--resume", is_flag=True, help="Go on with the run that is there, with the same options.")
@_output_options
def train_forecast_command(
    data: Path | None, run: Path | None, overwrite: bool, resume: bool, as_json: bool, **given: Any
) -> None:
    """Train a forecaster on DATA (CSV or Parquet), or on the weather that ships.

    The last 20 % of the data, in time, are kept for the test, on which persistence, seasonal-naive and ridge forecasts
    are scored beside the network. The run directory holds the model, the scores, the pictures and a report.
    """
    from cellula.tasks.forecast.job import next_run, train_forecast

    if resume and run is None:
        raise UsageError("--resume needs --run: which run is to go on?")
    run = next_run("runs", "forecast") if run is None else run
    outcome = train_forecast(_forecaster(given), data, run, overwrite=overwrite, resume=resume)
    if as_json:
        click.echo(json.dumps(outcome.to_dict()))
    elif outcome.backtest is not None:
        for note in outcome.notes:
            click.echo(f"note: {note}")
        click.echo(f"{outcome.backtest}\n\nmodel    {run / 'model.safetensors'}")
        for name in outcome.files:
            click.echo(f"{'report' if name.endswith('.html') else 'picture':<9}{run / name}")
    if outcome.stopped == "interrupted":
        click.echo(f"stopped; the best model so far is in {run}. Go on with: --run {run} --resume", err=True)
        sys.exit(INTERRUPTED)


# Option of the command line -> parameter of the forecaster.
_PARAMETERS = {
    "cell": "cell",
    "time": "time",
    "series": "series",
    "timezone": "timezone",
    "horizon": "horizon",
    "window": "window",
    "season": "season",
    "hidden": "hidden_size",
    "layers": "num_layers",
    "patch": "patch",
    "missing": "missing",
    "irregular": "irregular",
    "epochs": "training__epochs",
    "batch_size": "training__batch_size",
    "learning_rate": "training__learning_rate",
    "precision": "training__precision",
    "seed": "training__seed",
}


def _forecaster(given: dict[str, Any]) -> Any:
    """The forecaster that the options describe."""
    from cellula.tasks.forecast.forecaster import Forecaster

    forecaster = Forecaster(settings=_settings(given["pairs"]) or None)
    past = _columns(given["past"])
    forecaster.set_params(
        target=_columns(given["target"]) or None,
        known=_columns(given["known"]),
        past="rest" if past == ("rest",) else past,
    )
    options = {parameter: given[option] for option, parameter in _PARAMETERS.items() if given[option] is not None}
    return forecaster.set_params(**options)


@cli.command(epilog=_examples("cellula predict runs/demo", "cellula predict runs/demo new.csv --output forecast.csv"))
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("data", required=False, type=click.Path(path_type=Path))
@click.option(
    "--known", type=click.Path(path_type=Path), help="A table of the known covariates of the rows to forecast."
)
@click.option("--level", multiple=True, type=click.IntRange(1, 99), help="An interval in percent; may be repeated.")
@click.option("--output", type=click.Path(path_type=Path), help="Write a .csv or .parquet file instead of printing.")
@_output_options
def predict(
    run: Path, data: Path | None, known: Path | None, level: tuple[int, ...], output: Path | None, as_json: bool
) -> None:
    """Forecast what comes after the end of DATA, or of the data that RUN was trained on."""
    from cellula.tasks.forecast.files import read_table, to_csv, to_rows, write_table
    from cellula.tasks.forecast.forecaster import Forecaster

    forecaster = Forecaster.load(run)
    table = None if data is None else read_table(data)
    frame = forecaster.predict(table, level or None, None if known is None else read_table(known))
    if output is not None:
        write_table(output, frame)
        click.echo(f"wrote {output}", err=True)
    elif as_json:
        click.echo(json.dumps(to_rows(frame)))
    else:
        click.echo(to_csv(frame), nl=False)


@cli.command(epilog=_examples("cellula backtest runs/demo", "cellula backtest runs/demo later.csv --json"))
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("data", required=False, type=click.Path(path_type=Path))
@_output_options
def backtest(run: Path, data: Path | None, as_json: bool) -> None:
    """Forecast every window of the test part and compare with the baselines."""
    from cellula.tasks.forecast.job import backtest_run

    found = backtest_run(run, data)
    record = {name: value for name, value in found.to_dict().items() if name != "examples"}
    click.echo(json.dumps(record) if as_json else str(found))


# Options of `cellula export` that say how a bare cell becomes a module; a run knows that itself.
_MODULE_OPTIONS = ("inputs", "hidden", "pairs", "layers", "bidirectional", "batch_first", "seed")


@cli.command(
    epilog=_examples(
        "cellula export runs/demo",
        "cellula export lstm --input 3 --hidden 16 --output lstm.onnx",
        "cellula export my.cell --streaming --set leak=0.2",
    )
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
@_size_options
@_output_options
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
    options |= _settings(given["pairs"])
    return Recurrent(load_cell(cell), given["inputs"], given["hidden"], **options)


def _export_path(source: str, is_run: bool) -> Path:
    path = Path(source)
    if is_run:
        return path / "model.onnx" if path.is_dir() else path.with_suffix(".onnx")
    return Path(f"{load_cell(source).name}.onnx")
