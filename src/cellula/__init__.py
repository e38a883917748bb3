"""Cellula: a recurrent cell is a formula, written once as text; everything else is derived from it.

Reading, checking and printing formulas needs no torch; the names that do are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cellula.backends import compile
from cellula.cells.catalogue import cells, load_cell
from cellula.cells.diagrams import compare, diagram
from cellula.cells.explain import explain
from cellula.errors import CellulaError, DataError, FormulaError, RunError, UsageError, missing_package
from cellula.formula.parser import parse
from cellula.graph.build import build
from cellula.graph.graph import Graph
from cellula.plan.plan import Plan, make_plan
from cellula.printers.formula import print_formula

if TYPE_CHECKING:
    from cellula.checks import check
    from cellula.inspection.lens import lens
    from cellula.nn.hopfield import HopfieldMemory
    from cellula.nn.recurrent import Recurrent
    from cellula.nn.truncated import truncated
    from cellula.tasks.forecast.forecaster import Forecaster
    from cellula.tasks.onnx_file import export_onnx, import_onnx

__version__ = "0.1.0"

__all__ = [
    "CellulaError",
    "DataError",
    "Forecaster",
    "FormulaError",
    "Graph",
    "HopfieldMemory",
    "Plan",
    "Recurrent",
    "RunError",
    "UsageError",
    "build",
    "cells",
    "check",
    "compare",
    "compile",
    "diagram",
    "explain",
    "export_onnx",
    "import_onnx",
    "lens",
    "load_cell",
    "make_plan",
    "parse",
    "print_formula",
    "truncated",
]

# Where the names that need torch come from.
_HEAVY = {
    "check": "cellula.checks",
    "HopfieldMemory": "cellula.nn.hopfield",
    "lens": "cellula.inspection.lens",
    "Recurrent": "cellula.nn.recurrent",
    "truncated": "cellula.nn.truncated",
    "Forecaster": "cellula.tasks.forecast.forecaster",
    "export_onnx": "cellula.tasks.onnx_file",
    "import_onnx": "cellula.tasks.onnx_file",
}


def __getattr__(name: str) -> Any:
    if name in _HEAVY:
        try:
            return getattr(importlib.import_module(_HEAVY[name]), name)
        except ModuleNotFoundError as error:
            raise missing_package(error) from error
    raise AttributeError(f"module 'cellula' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
