"""Every cell of the zoo and five random formulas: training time per floating-point operation beside our own LSTM."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from cellula import Recurrent, build, cells, load_cell, make_plan
from cellula.graph.node import Parameter
from peers.costs import training_operations
from peers.ours import make_module, ran_by
from peers.timing import Pace, interleave, paired, spread

__all__ = ["measure", "plan", "random_formulas"]

BATCH, STEPS, HIDDEN = 32, 100, (128, 256)
QUICK = ("gru", "mlp", "peephole_lstm", "slstm")
RANDOM = 5


def plan(options: Any) -> list[dict[str, Any]]:
    """One task a cell and size."""
    formulas = random_formulas(1 if options.quick else RANDOM)
    named = {name: name for name in (QUICK if options.quick else cells()) if name != "lstm"}
    named |= {f"random formula {number}": text for number, text in enumerate(formulas, 1)}
    sizes = HIDDEN[:1] if options.quick else HIDDEN
    return [{"name": name, "formula": formula, "hidden": hidden} for hidden in sizes for name, formula in named.items()]


def random_formulas(number: int) -> list[str]:
    """The first formulas that the tests' generator draws and that multiply a state with a matrix; always the same ones.

    None where hypothesis, which draws them, is not installed.
    """
    folder = str(Path(__file__).resolve().parents[2] / "tests")
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        # Optional: what only the tests need.
        hypothesis, strategies = import_module("hypothesis"), import_module("strategies")
    except ImportError:
        print("random formulas left out: hypothesis is not installed: pip install hypothesis", file=sys.stderr)
        return []
    found: list[str] = []

    @hypothesis.settings(
        max_examples=150 * number,
        derandomize=True,
        database=None,
        phases=[hypothesis.Phase.generate],
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategies.formulas(numeric=True))
    def collect(text: str) -> None:
        if text not in found and _multiplies_state(text):
            found.append(text)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        collect()
    return found[:number]


def _multiplies_state(text: str) -> bool:
    """Whether a dense matrix meets a state."""
    products = [node.inputs[1].attribute for node in make_plan(build(text)).loop if node.op == "matmul"]
    return any(isinstance(matrix, Parameter) and matrix.kind == "matrix" for matrix in products)


def measure(task: Mapping[str, Any], pace: Pace, report: Callable[..., None]) -> list[dict[str, Any]]:
    """A cell and the LSTM in turn; times divided by their operations."""
    backend, hidden = task["backend"], task["hidden"]
    lstm, lstm_operations, _ = _training("lstm", hidden, backend)
    call, operations, module = _training(task["formula"], hidden, backend)
    call()
    lstm()
    report(ready=0.0)
    found = interleave({"lstm": lstm, "cell": call}, pace)
    ratio = paired([seconds / operations for seconds in found["cell"]], [s / lstm_operations for s in found["lstm"]])
    seconds = spread(found["cell"]).median
    row = {"cell": task["name"], "hidden": hidden, "ms": 1e3 * seconds, "lstm ms": 1e3 * spread(found["lstm"]).median}
    row |= {"GFLOP/s": operations / seconds / 1e9, "per operation": ratio.median}
    return [row | {"low": ratio.low, "high": ratio.high, "back end": ran_by(module)}]


def _training(formula: str, hidden: int, backend: str) -> tuple[Callable[[], Any], float, Recurrent]:
    """Forward and backward of a cell, how many operations that is, and the module."""
    graph = load_cell(formula)
    sizes = dict.fromkeys(graph.extra_sizes, hidden // 2)
    torch.manual_seed(0)
    module = make_module(formula, hidden, hidden, backend, **sizes)
    x = torch.randn(STEPS, BATCH, hidden, requires_grad=True)
    wanted = [x, *(parameter for parameter in module.parameters() if parameter.requires_grad)]
    cotangent = torch.randn(STEPS, BATCH, module.output_size)

    def call() -> Any:
        return torch.autograd.grad(module(x)[0], wanted, cotangent, allow_unused=True)

    operations = training_operations(graph, {"input": hidden, "hidden": hidden, **sizes})
    return call, operations * STEPS * BATCH, module
