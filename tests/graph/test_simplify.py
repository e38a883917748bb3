"""The simplifications keep the value."""

import pytest

from cellula import build
from cellula.graph.node import apply, constant
from cellula.graph.simplify import simplified
from cellula.printers.formula import print_expression


def simple(expression):
    """The right side of an equation, simplified at its top."""
    graph = build(f"a[t] = tanh(x[t] @ W)\nb[t] = sigmoid(x[t] @ V)\nh[t] = {expression} + 0 * (a[t] * b[t])")
    return print_expression(simplified(graph.equation["h"].value.inputs[0]))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("(a[t] + 0)", "a[t]"),
        ("(0 + a[t])", "a[t]"),
        ("(a[t] - 0)", "a[t]"),
        ("(0 - a[t])", "-a[t]"),
        ("(a[t] * 1)", "a[t]"),
        ("(1 * a[t])", "a[t]"),
        ("(a[t] / 1)", "a[t]"),
        ("(a[t] ** 1)", "a[t]"),
        ("(-(-a[t]))", "a[t]"),
        ("(a[t] + -b[t])", "a[t] - b[t]"),
        ("(-a[t] + b[t])", "b[t] - a[t]"),
        ("(a[t] - -b[t])", "a[t] + b[t]"),
        ("(-a[t] * b[t])", "-(a[t] * b[t])"),
        ("(a[t] * b[t])", "a[t] * b[t]"),
        # A product with 0 has units; the number 0 has none, so it stays.
        ("(a[t] * 0)", "a[t] * 0"),
    ],
)
def test_top_of_an_expression(expression, expected):
    assert simple(expression) == expected


def test_numbers_fold():
    assert simplified(apply("negative", (constant(2.0),))) is constant(-2.0)
    assert simplified(apply("multiply", (constant(0.0), constant(3.0)))) is constant(0.0)
