"""Where a picture goes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from cellula.errors import UsageError
from cellula.printers.diagram.picture import Picture

__all__ = ["give_picture"]


def give_picture(picture: Picture, name: str, output: Path | None, as_json: bool) -> None:
    """A picture to a file, to what reads our output, or to a file of the cell's name where only a terminal does."""
    if output is None and not as_json and to_a_terminal():
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


def to_a_terminal() -> bool:
    """Whether what we print only fills a terminal."""
    return sys.stdout.isatty()
