"""What people read of five cells, kept as text: a change of a printer shows as a change of these files.

UPDATE_GOLDEN=1 python -m pytest tests/printers/test_golden.py      writes them anew
"""

import os
from pathlib import Path

import pytest

from cellula import diagram, explain, load_cell, make_plan
from cellula.plan.backward import make_backward
from cellula.printers.bptt_latex import print_bptt_latex
from cellula.printers.explain import print_source
from cellula.printers.latex import print_latex
from cellula.printers.onnx import print_onnx_of

GOLDEN = Path(__file__).parent.parent / "golden"
CELLS = ("mlp", "gru", "lstm", "peephole_lstm", "slstm")
SIZES = {"input": 3, "hidden": 8}
PRINTERS = {
    "explain.txt": explain,
    "tex": lambda name: print_latex(load_cell(name)),
    "svg": lambda name: str(diagram(name)).rstrip("\n"),
    "bptt.tex": lambda name: print_bptt_latex(make_backward(make_plan(load_cell(name)))),
    "c": lambda name: print_source(load_cell(name)),
    "onnx.txt": lambda name: print_onnx_of(load_cell(name), SIZES),
}


@pytest.mark.parametrize("form", PRINTERS)
@pytest.mark.parametrize("name", CELLS)
def test_text_is_what_it_was(name, form):
    path, text = GOLDEN / f"{name}.{form}", PRINTERS[form](name) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{path.name} changed; if that is meant: UPDATE_GOLDEN=1"


def test_no_file_is_left_over():
    assert {path.name for path in GOLDEN.iterdir()} == {f"{name}.{form}" for name in CELLS for form in PRINTERS}
