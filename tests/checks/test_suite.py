"""The suite that any cell can be put through: the zoo passes it, and a broken cell fails the check that it should."""

import json
from dataclasses import replace

import pytest
import torch

import cellula.checks.formula
import cellula.checks.other_backends
from c_backend import QUICK, compiler_flags, needs_compiler
from cellula import FormulaError, UsageError, build, cells, check, load_cell, make_plan
from cellula.backends import reference
from cellula.backends.c.compiler import NoCompilerError
from cellula.checks.numbers import NUMBER_CHECKS
from cellula.checks.suite import FORMULA_CHECKS
from cellula.graph.ops import OPS
from cellula.nn.recurrent import Recurrent
from zoo_sizes import own_sizes

# What takes a compiler, a runtime or many steps.
DEAR = ("generated C", "ONNX", "gradient over lags")
GATED = "f[t] = sigmoid(x[t] @ W_f + h[t-1] @ U_f + b_f)\nh[t] = f[t] * h[t-1] + (1 - f[t]) * tanh(x[t] @ W + b)"


def without_all_but(*names):
    return tuple(name for name in NUMBER_CHECKS if name not in names)


@pytest.mark.parametrize("name", cells())
def test_every_cell_of_the_zoo_passes_what_is_cheap(name):
    report = check(name, 3, 8, without=DEAR)
    assert report.passed, str(report)
    ran = [outcome.check for outcome in report.outcomes if outcome.status == "ok"]
    assert ran == [check for check in (*FORMULA_CHECKS, *NUMBER_CHECKS) if check not in DEAR]


@needs_compiler
@pytest.mark.parametrize("name", ["lstm", "projected_gru", "slstm"])
def test_the_whole_suite(name):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'cellula[onnx]'")
    with compiler_flags(QUICK):
        report = check(name, 3, 8, **own_sizes(load_cell(name)))
    assert report.passed and {outcome.status for outcome in report.outcomes} == {"ok"}, str(report)
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["passed"] is True
    assert "14 ok" in str(report)


def test_the_report_has_the_numbers():
    report = check("lstm", 3, 5, without=DEAR)
    assert report.notes["parameter_count"] == 180 and report.sizes == {"input": 3, "hidden": 5}
    assert report.notes["cost_per_step"]["saved_bytes"] == 4 * 6 * 5
    assert report.to_dict()["hints"] is None and "hint" not in str(report)
    assert check(GATED, 3, 5, quick=True).outcomes == check(GATED, 3, 5, without=DEAR).outcomes[:4]


def failed(cell, *names, **options):
    """The checks that a cell fails, of these and the one for numbers."""
    return check(cell, 3, 4, without=without_all_but("finite", *names), **options).failed


@pytest.mark.parametrize(("text", "name", "message"), [
    ("h[t] = log(x[t] @ W)", "finite", "output is NaN at ordinary inputs"),
    ("h[t] = x[t] @ W / h[t-1]", "finite", "from states of 0 (first in h[t], step 1)"),
    ("h[t] = sqrt(h[t-1]) + x[t] @ W * 0", "finite", "the values are numbers, their gradients are not"),
    ("h[t] = exp(x[t] @ W) / (1 + exp(x[t] @ W)) + 0 * h[t-1]", "large inputs", "NaN where the input is 1000"),
    ("h[t] = exp(x[t] @ W) + h[t-1]", "large inputs", "is infinite"),
])  # fmt: skip
def test_what_is_not_a_number_is_found(text, name, message):
    report = check(text, 3, 4, without=without_all_but("finite", "large inputs"))
    assert report.failed == (name,)
    assert message in next(outcome.detail for outcome in report.outcomes if outcome.status == "failed")
    assert not report.passed and "FAILED" in str(report)


def test_of_what_is_not_a_number_nothing_else_is_said():
    report = check("h[t] = log(x[t] @ W)", 3, 4)
    assert [outcome.status for outcome in report.outcomes] == ["ok"] * 4 + ["failed"] + ["not run"] * 9
    assert report.hints is None


def test_a_wrong_gradient_of_the_reference_is_found(monkeypatch):
    def wrong(a):
        return torch.tanh(a.detach()) + 0.5 * (a - a.detach())

    monkeypatch.setitem(reference.SPELLING, "tanh", wrong)
    assert failed(GATED, "finite differences", "step by step") == ("finite differences",)


def test_a_wrong_row_of_the_op_table_is_found(monkeypatch):
    # No other cell may have this graph: what is derived from a row is kept.
    monkeypatch.setitem(OPS, "softsign", replace(OPS["softsign"], gradient=("dy * 0.9",)))
    text = "h[t] = softsign(x[t] @ W + 0.875 * h[t-1])"
    assert failed(text, "finite differences", "derived backward") == ("derived backward",)


def test_a_wrong_kernel_is_found(monkeypatch):
    compile = cellula.checks.other_backends.compile
    other = build(GATED.replace("(1 - f[t])", "(1.001 - f[t])"))
    monkeypatch.setattr(
        cellula.checks.other_backends, "compile", lambda plan, backend: compile(make_plan(other), "reference")
    )
    report = check(GATED, 3, 4, without=without_all_but("finite", "generated C"))
    assert report.failed == ("generated C",)


def test_a_missing_compiler_is_said(monkeypatch):
    class Without:
        def __call__(self, *given, **options):
            raise NoCompilerError("there is no C compiler\ninstall one")

    monkeypatch.setattr(cellula.checks.other_backends, "compile", lambda plan, backend: Without())
    report = check(GATED, 3, 4, without=without_all_but("finite", "generated C"))
    outcome = next(outcome for outcome in report.outcomes if outcome.check == "generated C")
    assert (outcome.status, outcome.detail) == ("not run", "there is no C compiler") and report.passed


def test_a_missing_runtime_is_said(monkeypatch):
    monkeypatch.setattr(cellula.checks.other_backends, "find_spec", lambda name: None)
    report = check(GATED, 3, 4, without=without_all_but("finite", "ONNX"))
    outcome = next(outcome for outcome in report.outcomes if outcome.check == "ONNX")
    assert outcome.status == "not run" and "pip install 'cellula[onnx]'" in outcome.detail


def test_a_wrong_onnx_file_is_found(monkeypatch):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'cellula[onnx]'")
    to_model = cellula.checks.other_backends.to_model

    def other(module, **options):
        with torch.no_grad():
            next(module.parameters()).mul_(1.01)
        return to_model(module, **options)

    monkeypatch.setattr(cellula.checks.other_backends, "to_model", other)
    assert failed(GATED, "ONNX") == ("ONNX",)


def test_a_step_that_forgets_its_state_is_found(monkeypatch):
    step = Recurrent.step
    monkeypatch.setattr(Recurrent, "step", lambda module, x, state=None, reset=None: step(module, x, None))
    assert failed(GATED, "step by step", "ragged") == ("step by step",)


def test_a_batch_that_does_not_end_is_found(monkeypatch):
    def endless(module, x, *given, lengths=None, **options):
        return forward(module, x.nan_to_num(), *given, **options)

    forward = Recurrent.forward
    monkeypatch.setattr(Recurrent, "forward", endless)
    assert failed(GATED, "step by step", "ragged", "no step, one step") == ("ragged", "no step, one step")


def test_a_printer_that_leaves_something_out_is_found(monkeypatch):
    print_formula = cellula.checks.formula.print_formula
    for other, message in ((" + b_f", "is another one"), ("tanh(", "cannot be read")):
        monkeypatch.setattr(
            cellula.checks.formula, "print_formula", lambda graph, other=other: print_formula(graph).replace(other, "")
        )
        report = check(GATED, quick=True)
        assert report.failed == ("print and read",) and message in report.outcomes[3].detail


def test_a_call_that_does_not_fit():
    with pytest.raises(FormulaError, match="not a function"):
        check("h[t] = tnah(x[t] @ W)")
    with pytest.raises(UsageError, match="no size or setting 'leak'"):
        check("lstm", leak=0.1)
    with pytest.raises(UsageError, match="there is no check 'C'"):
        check("lstm", without=("C",))
    with pytest.raises(UsageError, match="hidden is 0"):
        check("lstm", hidden_size=0)
    with pytest.raises(UsageError, match="write hidden = 8"):
        check("slstm", hidden_size=6, quick=True)


def test_settings_and_sizes_are_those_of_the_caller():
    report = check("projected_lstm", 3, 8, quick=True, proj=2)
    assert report.sizes["proj"] == 2 and report.notes["states"] == {"c": 8, "h": 2}
    assert failed("leak = setting(0.5)\nh[t] = x[t] @ W / leak", leak=0.0) == ("finite",)
