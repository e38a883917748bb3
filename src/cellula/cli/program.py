"""The program: its exit codes, and how it says what is wrong."""

from __future__ import annotations

import json
import re
import sys
import warnings
from typing import Any

import click

from cellula.errors import CellulaError, FormulaError, missing_package

__all__ = ["INTERRUPTED", "WRONG", "cli", "main"]


# Exit codes: 0 done, 1 what was given is wrong, 2 the command line is wrong, 130 stopped by Ctrl-C.
WRONG, INTERRUPTED = 1, 130


def main() -> None:
    """Run the command line and leave with its exit code."""
    arguments = sys.argv[1:]
    warnings.showwarning = _note
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
        # The text of a formula is shown as it is.
        click.echo(str(error) if isinstance(error, FormulaError) else _as_options(str(error)), err=True)


def _note(message: Warning | str, category: type[Warning], *_: object) -> None:
    """A warning as people read it: without the line of our code that gave it."""
    click.secho("note: ", fg="yellow", nl=False, err=True)
    click.echo(_as_options(str(message)), err=True)


# Messages name arguments as Python has them: `missing='forward'` is `--missing forward` here.
_ARGUMENT = re.compile(
    r"(?<![\w.])(target|time|series|known|past|timezone|horizon|window|season|level|missing|irregular|run|patch)="
    r"('\w+')?(?=(\S?))"
)


def _as_options(text: str) -> str:
    """A message that names options of the command line instead of arguments."""

    def option(found: re.Match[str]) -> str:
        name, value, following = found.groups()
        if value:
            return f"--{name} {value[1:-1]}"
        return f"--{name}" if following in ("", *".,;:)") else f"--{name} "

    return _ARGUMENT.sub(option, text)


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


# What a newcomer does first, in that order; the commands' own help has more.
_FIRST = """\b
Examples:
  cellula cells
  cellula show lstm
  cellula check my.cell
  cellula train forecast --cell my.cell --run runs/mine
  cellula predict runs/mine
  cellula train forecast --help"""


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_FIRST,
)
@click.version_option(package_name="cellula", message="cellula %(version)s")
def cli() -> None:
    """Recurrent cells written as formulas: look at them, check your own, train and use them."""
