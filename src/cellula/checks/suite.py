"""The suite: a table of checks, and the function that puts a cell through it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellula.cells.catalogue import load_cell
from cellula.checks.formula import check_costs, check_parameters, check_print, check_sizes
from cellula.checks.report import CheckReport, Failed, NotRun, Outcome
from cellula.errors import CellulaError, UsageError
from cellula.graph.graph import Graph

if TYPE_CHECKING:
    from cellula.checks.numbers import Subject

__all__ = ["FORMULA_CHECKS", "check", "run_suite"]

# Checks that need the formula and sizes: name -> (what is shown, what is noted).
FORMULA_CHECKS: dict[str, Callable[[Graph, Mapping[str, int]], tuple[str, Mapping[str, Any]]]] = {
    "sizes": check_sizes,
    "parameters": check_parameters,
    "cost per step": check_costs,
    "print and read": check_print,
}


def check(
    cell: str | Path | Graph,
    input_size: int = 8,
    hidden_size: int = 64,
    *,
    quick: bool = False,
    seed: int = 0,
    without: tuple[str, ...] = (),
    **settings: float,
) -> CheckReport:
    """Put a cell through the checks that Cellula's own cells pass.

    The gradient against finite differences, the derived backward step against autograd, generated C and an exported
    ONNX file against the reference, step by step against the whole sequence, ragged batches, large inputs; how far back
    the gradient reaches; and hints at what deserves a thought, such as a forget gate whose bias starts at 0.

    Args:
        cell: a name of the zoo, the path of a `.cell` file, the text of a formula, or a graph.
        input_size: units of the input, for counts, costs and the gradient over lags; comparisons use small cells.
        hidden_size: units of every size that the formula does not name otherwise.
        quick: only what the formula alone says; nothing is run.
        seed: of the random numbers.
        without: names of checks to leave out, such as `("ONNX",)`; they are listed as not run.
        **settings: the formula's own settings and sizes.

    Returns:
        A report: `passed`, `outcomes`, `hints`, `to_dict()`; it prints itself.

    Raises:
        FormulaError: the formula is wrong.
        UsageError: there is no such cell, or a size or setting is unknown or does not fit.

    Example:
        >>> from cellula import check
        >>> report = check("h[t] = sigmoid(x[t] @ W + h[t-1] @ U + b)", 3, 8, without=("generated C", "ONNX"))
        >>> report.passed
        True
        >>> [hint.kind for hint in report.hints or ()]
        ['flat-state', 'vanishing']

    Reference: the forget bias is that of Jozefowicz, Zaremba & Sutskever 2015, An Empirical Exploration of Recurrent
    Network Architectures
    """
    return run_suite(load_cell(cell), input_size, hidden_size, settings, quick, seed, without)


def run_suite(
    graph: Graph, input_size: int, hidden_size: int, settings: Mapping[str, Any], quick: bool = False, seed: int = 0,
    without: tuple[str, ...] = (),
) -> CheckReport:  # fmt: skip
    """What `check` does, with settings that may have any name."""
    sizes, numbers = _split(graph, input_size, hidden_size, settings)
    outcomes, notes = [], {}
    for name, run in FORMULA_CHECKS.items():
        outcome, noted = _outcome(name, lambda run=run: run(graph, sizes))
        outcomes.append(outcome)
        notes |= noted
    report = CheckReport(graph.name, sizes, tuple(outcomes), None, notes)
    if quick:
        return report
    # torch is loaded only when something is to run.
    from cellula.checks.numbers import NUMBER_CHECKS, Subject

    unknown = [name for name in without if name not in NUMBER_CHECKS]
    if unknown:
        raise UsageError(f"there is no check {unknown[0]!r}; write some of {', '.join(map(repr, NUMBER_CHECKS))}")
    subject = Subject(graph, sizes, numbers, seed)
    for name, run in NUMBER_CHECKS.items():
        report = replace(report, outcomes=(*report.outcomes, _numbers(name, run, subject, without, report)))
    if not {"finite", "gradient over lags"}.isdisjoint((*report.failed, *without)):
        return report
    return replace(report, hints=subject.hints(), notes={**notes, "gradient_over_lags": subject.lags.to_dict()})


def _numbers(
    name: str, run: Callable[[Subject], str], subject: Subject, without: tuple[str, ...], before: CheckReport
) -> Outcome:
    if name in without:
        return Outcome(name, "not run", "left out")
    if "finite" in before.failed:
        return Outcome(name, "not run", "the cell does not give numbers that could be compared")
    try:
        return _outcome(name, lambda: (run(subject), {}))[0]
    except CellulaError as error:
        # As where a form cannot hold the cell; of the formula itself nothing is wrong, or it would have been said.
        return Outcome(name, "failed", str(error))


def _outcome(name: str, run: Callable[[], tuple[str, Mapping[str, Any]]]) -> tuple[Outcome, Mapping[str, Any]]:
    try:
        text, notes = run()
    except NotRun as reason:
        return Outcome(name, "not run", str(reason)), {}
    except Failed as failure:
        return Outcome(name, "failed", str(failure)), {}
    return Outcome(name, "ok", text), notes


def _split(
    graph: Graph, input_size: int, hidden_size: int, given: Mapping[str, float]
) -> tuple[dict[str, int], dict[str, float]]:
    """All sizes and all settings; the formula's own sizes are as large as the hidden one where they are not given."""
    defaults = {setting.name: setting.default for setting in graph.settings}
    unknown = [name for name in given if name not in (*graph.extra_sizes, *defaults)]
    if unknown:
        raise UsageError(f"{graph.name} has no size or setting {unknown[0]!r}; leave it out")
    sizes = {"input": input_size, "hidden": hidden_size, **dict.fromkeys(graph.extra_sizes, hidden_size)}
    for name in sizes:
        value = given.get(name, sizes[name])
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"the size {name} is {value!r}; write a whole number, 1 or more")
        sizes[name] = value
    return sizes, {name: given.get(name, default) for name, default in defaults.items()}
