"""The benchmark of scans: its own minGRU in log space is one, its errors are found, and its report stands."""

import importlib
import sys
from pathlib import Path

import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))
bench = importlib.import_module("scan")


def test_log_space_is_the_steps():
    torch.manual_seed(0)
    module = bench.LogSpace(4).double()
    x = torch.randn(30, 2, 4, dtype=torch.float64)
    assert bench.relative(module(x), module.exactly(x)) < 1e-12
    assert bench.relative(torch.full((2,), float("nan")), x) == "NaN"


def test_the_report():
    seconds = {"blocks": 0.001, "steps": 0.002, "scan": 0.003, "log space": 0.008}
    rows = [
        {"cell": "mingru", "shape": (1, 2, 3), "mode": mode, "threads": 1, "seconds": seconds} for mode in ("a", "b")
    ]
    where = dict.fromkeys("processor cores system python compiler commit when".split(), "?") | {"versions": {}}
    wrong = [{"steps": 10, "scale": 1.0, "blocks": 1e-7, "scan": 2e-7, "log space": "NaN"}]
    text = bench.report({"machine": where, "rows": rows, "errors": wrong})
    assert "| mingru | 1, 2, 3 | a | 1 | 1.00 | 2.00 | 3.00 | - | 8.00 |" in text
    assert "| log space | b | 1 | 8.00 |" in text and "| 10 | 1 | 1.0e-07 | 2.0e-07 | NaN |" in text
