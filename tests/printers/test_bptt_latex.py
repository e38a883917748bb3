"""Backpropagation through time as LaTeX: readable by an independent parser, and the same equations as the text."""

import re

import pytest
from hypothesis import given, settings

from cellula import build, cells, load_cell, make_plan
from cellula.plan.backward import make_backward
from cellula.printers.bptt import print_bptt
from cellula.printers.bptt_latex import print_bptt_latex
from strategies import formulas


def derived(graph):
    return make_backward(make_plan(graph))


def equations(text):
    """The equations in order: (left side, right side)."""
    lines = [line.removesuffix(r" \\") for line in text.splitlines() if "&=" in line]
    return [tuple(line.split(" &= ")) for line in lines]


def check(graph):
    """Nothing is missing or doubled, and braces are closed."""
    found, text = equations(print_bptt_latex(derived(graph))), print_bptt(derived(graph))
    for left, right in found:
        for opened, closed in ("{}", "()", "[]"):
            assert left.count(opened) + right.count(opened) == left.count(closed) + right.count(closed)
    assert len({left for left, _ in found}) == len(found)
    assert len(found) == sum(line.startswith("  ") for line in text.splitlines())
    return found


def readable(graph):
    """All that the check wants, and matplotlib's own parser reads every equation, which takes its time."""
    mathtext = pytest.importorskip("matplotlib.mathtext", reason="matplotlib, the parser of this test, is missing")
    parser = mathtext.MathTextParser("path")
    for left, right in check(graph):
        parser.parse(f"${left} = {right}$")


@pytest.mark.parametrize("name", cells())
def test_every_cell_is_complete(name):
    check(load_cell(name))


@pytest.mark.parametrize("name", ["lstm", "slstm", "zoneout_lstm", "unicornn", "tau_gru"])
def test_cells_of_all_kinds_can_be_read(name):
    readable(load_cell(name))


@settings(max_examples=12, deadline=None)
@given(formulas())
def test_random_formulas_can_be_read(text):
    readable(build(text))


def test_the_parser_refuses_what_is_no_latex(monkeypatch):
    monkeypatch.setattr("cellula.printers.bptt_latex._carried", lambda slot, step: r"\nothing{h}")
    with pytest.raises(ValueError, match="Unknown"):
        readable(load_cell("elman"))


def test_the_lstm_as_papers_print_it():
    found = dict(check(load_cell("lstm")))
    assert found[r"\delta h_t"] == r"\frac{\partial L}{\partial h_t} + \delta h^{\leftarrow}_t"
    assert found[r"\delta \overline{f}_t"] == r"\delta f_t \odot f_t \odot (1 - f_t)"
    assert found[r"\delta c^{\leftarrow}_{t-1}"] == r"\delta c_t \odot f_t"
    assert found[r"\delta U_{f}"] == r"\sum_{t} {h_{t-1}}^{\top} \, \delta \overline{f}_t"
    assert found[r"\delta b_{f}"] == r"\sum_{t} \delta \overline{f}_t"


def test_lags_indices_diagonals_and_several_sums_of_a_kind():
    graph = build(
        "U = diagonal()\na_1[t] = tanh(x[t] @ W) * tanh(x[t] @ V)\n"
        "h[t] = a_1[t] + (p * h[t-2]) @ U + (h[t-1] + a_1[t]) @ V_h"
    )
    found = dict(check(graph))
    assert found[r"\delta h^{\leftarrow}_{t-1}"] == r"\delta h^{\leftarrow 2}_t + \delta h_t V_{h}^{\top}"
    assert found[r"\delta U"] == r"\sum_{t} (p \odot h_{t-2}) \odot \delta h_t"
    assert found[r"\delta V_{h}"] == r"\sum_{t} {(h_{t-1} + a^{(1)}_t)}^{\top} \, \delta h_t"
    assert {r"\delta \overline{a}^{(1)}_t", r"\delta \overline{a}^{(1)\prime}_t"} <= found.keys()


def test_nothing_that_is_carried_is_zero():
    found = dict(check(build("h[t] = tanh(x[t] @ W) * sign(h[t-1])")))
    assert found[r"\delta h^{\leftarrow}_{t-1}"] == "0"


def test_it_is_a_piece_of_a_document():
    text = print_bptt_latex(derived(load_cell("gru")))
    assert re.findall(r"\\(begin|end)\{align\*\}", text) == ["begin", "end"] * 3
    outside = re.sub(r"\\begin\{align\*\}.*?\\end\{align\*\}", "", text, flags=re.DOTALL)
    assert outside.count("$") % 2 == 0 and "_" not in re.sub(r"\$[^$]*\$", "", outside)
