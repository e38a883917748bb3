"""`import cellula` and the formula side load nothing heavy."""

import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src"
NAMES = "torch numpy matplotlib click pyarrow narwhals accelerate safetensors tqdm pandas onnx onnxruntime"
HEAVY = set(NAMES.split())

FORMULA_SIDE = """
import cellula
graph = cellula.build(cellula.parse("h[t] = tanh(x[t] @ W + h[t-1] @ U + b)"))
cellula.make_plan(graph)
assert "tanh" in cellula.print_formula(graph)
assert "6. GENERATED SOURCE" in cellula.explain(graph)
assert [cellula.load_cell(name).title for name in cellula.cells()]
"""


def loaded_after(code: str) -> set[str]:
    """The heavy packages that a fresh interpreter has loaded after running `code`."""
    probe = f"import sys\nsys.path.insert(0, {str(SOURCE)!r})\n{code}\nprint(*sys.modules)"
    result = subprocess.run([sys.executable, "-I", "-c", probe], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split()) & HEAVY


@pytest.mark.parametrize("code", ["import cellula", "import cellula; dir(cellula)", FORMULA_SIDE])
def test_the_formula_side_loads_nothing_heavy(code):
    assert loaded_after(code) == set()


@pytest.mark.parametrize("code", ["import cellula", FORMULA_SIDE])
def test_the_formula_side_works_where_torch_is_not_installed(code):
    blocked = "import sys\nfor name in ('torch', 'numpy'): sys.modules[name] = None\n"
    assert loaded_after(blocked + code) <= {"torch", "numpy"}


def test_the_onnx_graph_of_a_cell_needs_neither_torch_nor_onnx():
    code = """
from cellula.printers.onnx import print_onnx_of
assert "Scan" in print_onnx_of(cellula.load_cell("mgu"), {"input": 3, "hidden": 4})
"""
    blocked = "import sys\nfor name in ('torch', 'onnx'): sys.modules[name] = None\nimport cellula"
    assert loaded_after(blocked + code) <= {"torch", "onnx", "numpy"}


def test_the_probe_sees_what_is_loaded():
    assert "click" in loaded_after("import click")


def test_a_quick_check_loads_nothing_heavy():
    assert loaded_after("import cellula\nassert cellula.check('gru', quick=True).passed") == set()


def test_torch_is_loaded_when_it_is_needed():
    assert "torch" in loaded_after("import cellula; cellula.Recurrent")
