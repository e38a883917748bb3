"""Hints: each is given where it should be, with what to write instead, and good cells have none."""

import re
from pathlib import Path

import pytest

from cellula import build, check, load_cell
from cellula.checks.carried import gate_of, leads_around, ways
from cellula.checks.hints import HINTS
from cellula.checks.numbers import NUMBER_CHECKS, Subject
from cellula.checks.suite import FORMULA_CHECKS


def hints_of(cell, **sizes):
    graph = load_cell(cell) if "[t]" not in cell else build(cell)
    settings = {setting.name: setting.default for setting in graph.settings}
    return Subject(graph, {"input": 4, "hidden": 16} | sizes, settings).hints()


LSTM = load_cell("lstm").source.text

EXAMPLES = {
    "forget-bias": (LSTM.replace("b_f = vector(init=1)", "b_f = vector()"), "f", "b_f = vector(init=1)"),
    "flat-state": (load_cell("lstm_printed").source.text, "c", "write tanh"),
    "growing-state": ("h[t] = 1.1 * h[t-1] + x[t] @ W", "h", "a gate, a leak"),
    "no-gradient": ("h[t] = sign(x[t] @ W) * tanh(x[t] @ V + h[t-1] @ U)", "W", "without sign()"),
    "saturated-gate": ("W_f = matrix(init=normal(9))\nf[t] = sigmoid(x[t] @ W_f)\nh[t] = f[t] * h[t-1] + x[t] @ W",
                       "f", "init=normal(0.1)"),
    "unbounded-init": ("U = matrix(init=normal(0.5))\nh[t] = relu(x[t] @ W + h[t-1] @ U)", "U", "identity()"),
    "vanishing": ("h[t] = 0.1 * h[t-1] + x[t] @ W", "h", "carried on as it is"),
    "exploding": ("h[t] = 1.1 * h[t-1] + x[t] @ W", "h", "clipped gradients"),
    "no-memory": ("h[t] = tanh(x[t] @ W)", "h", "h[t-1]"),
    "no-input": ("h[t] = tanh(h[t-1] @ U + b)", "h", "x[t] @ W"),
}  # fmt: skip


def test_every_hint_has_an_example_and_every_row_is_in_the_docs():
    assert EXAMPLES.keys() == HINTS.keys()
    page = (Path(__file__).parent.parent.parent / "docs" / "check.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `?([\w, -]+?)`? \|", page, re.MULTILINE)
    assert rows == ["check", *FORMULA_CHECKS, *NUMBER_CHECKS, "hint", *HINTS]


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_hint_is_given_with_what_to_write_instead(kind):
    text, where, instead = EXAMPLES[kind]
    found = {(hint.kind, hint.where): hint for hint in hints_of(text)}
    assert (kind, where) in found
    hint = found[kind, where]
    assert instead in hint.instead and hint.message
    lines = text.split("\n")
    assert lines[hint.line - 1].startswith((f"{where}[t] =", f"{where} =")) if hint.line else where == "W"


@pytest.mark.parametrize("name", ["lstm", "peephole_lstm", "co_rnn", "irnn", "elman", "lru", "leaky_rnn", "rg_lru"])
def test_good_cells_have_no_hint(name):
    assert hints_of(name) == ()


def test_hints_of_the_lstm_of_the_textbooks():
    report = check("lstm_printed", 4, 16, without=("generated C", "ONNX"))
    assert [(hint.kind, hint.where) for hint in report.hints] == [
        ("forget-bias", "f"), ("flat-state", "c"), ("vanishing", "h"),
    ]  # fmt: skip
    assert report.passed and "instead: add a bias to f[t]" in str(report)


def test_a_gate_that_keeps_what_it_is_not_starts_below():
    (hint,) = hints_of("mingru")
    assert (hint.kind, hint.where) == ("forget-bias", "z") and "b_z = vector(init=-1)" in hint.instead
    assert hints_of(load_cell("mingru").source.text.replace("z[t] = sig", "b_z = vector(init=-2)\nz[t] = sig")) == ()


def test_ways_from_one_step_to_the_next():
    lstm = load_cell("lstm")
    (way,) = ways(lstm, "c")
    assert gate_of(lstm, way.factors[0]) == ("f", False) and not way.functions and not way.matrices
    assert gate_of(load_cell("minlstm"), ways(load_cell("minlstm"), "h")[0].factors[0]) == ("f", False)
    assert all(way.matrices for way in ways(lstm, "h"))
    assert leads_around(lstm, "h", ["sigmoid"]) and not leads_around(lstm, "h", ["sigmoid", "tanh"])
    # In a cell where everything reads everything the search ends.
    assert len(ways(load_cell("ltc"), "h")) == 200
