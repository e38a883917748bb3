"""The command line: one command per verb, over the same functions that Python code uses."""

from __future__ import annotations

from cellula.cli import cells, check, compare, export, forecast, lens, show, train
from cellula.cli.program import cli, main

__all__ = ["cells", "check", "cli", "compare", "export", "forecast", "lens", "main", "show", "train"]
