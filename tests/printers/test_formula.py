"""What is printed reads back as the identical graph."""

import pytest
from hypothesis import given, settings

from cellula import build, cells, load_cell, print_formula
from strategies import formulas


def comes_back(graph):
    text = print_formula(graph)
    again = build(text)
    assert again == graph and hash(again) == hash(graph)
    assert all(one is other for one, other in zip(graph.nodes, again.nodes, strict=True))
    assert [e.comment for e in again.equations] == [" ".join(e.comment.split()) for e in graph.equations]
    assert print_formula(again) == text
    return again


@settings(max_examples=100)
@given(formulas())
def test_random_formulas_come_back_identical(text):
    comes_back(build(text))


@pytest.mark.parametrize("name", cells())
def test_the_zoo_comes_back_identical(name):
    graph = load_cell(name)
    again = comes_back(graph)
    assert (again.title, again.references) == (graph.title, graph.references)
    assert again.description == graph.description


@pytest.mark.parametrize(
    "expression",
    [
        "a[t] - (b - c)",
        "a[t] - b - c",
        "a[t] / (b / c)",
        "(a[t] ** b) ** c",
        "a[t] ** b ** c",
        "-a[t] ** 2",
        "(-a[t]) ** 2",
        "(-2) ** a[t]",
        "2 ** -a[t]",
        "--a[t]",
        "-(-2) * a[t]",
        "a[t] - -2",
        "-(a[t] + b)",
        "(a[t] < b) < c",
        "a[t] < (b < c)",
        "(a[t] * b) @ W",
        "a[t] * (b + c) @ W",
        "a[t] @ W / 2",
        "-0.0 * a[t]",
        "1e300 * a[t] * 1e-320",
        "a[t] * 123456789012345678",
        "a[t] * 1e15",
        "a[t] * 0.1",
        "leaky_relu(a[t])",
        "leaky_relu(a[t], 0.01)",
        "layer_norm(a[t])",
        "a[t - 2] + x[t-1] @ W",
        "dropout(a[t], 0.1) + dropout(a[t], 0.1)",
        "(a[t] == b) * (a[t] != b)",
        "+a[t]",
    ],
)
def test_brackets_and_numbers(expression):
    unused = "".join(f" + 0 * {name}" for name in "bc" if name not in expression)
    comes_back(build(f"a[t]: hidden = x[t] @ V\nh[t] = {expression}{unused}"))


@pytest.mark.parametrize(
    "text",
    [
        '"""A title with \\\\ and \\"""quotes\\""" in it."""',
        '"""NUL \\x00, a bell \\a and half a pair \\ud800."""',
        "'''It ends in a quote\"'''",
        '"""Line one\n\n  more # text\nReference: A; B: C\nReference: D."""',
        '"""标题。\n说明"""',
        '"""Reference: as a title.\n\nReference: A."""',
    ],
)
def test_docstrings_come_back(text):
    graph = build(f"{text}\nh[t] = x[t] @ W")
    again = comes_back(graph)
    assert (again.title, again.description, again.references) == (graph.title, graph.description, graph.references)


def test_a_long_statement_without_spaces_comes_back():
    addends = "+".join(["x[t]"] * 28)
    comes_back(build(f"h[t]=({')+('.join([addends] * 28)})"))


def test_a_long_comment_comes_back():
    lines = "".join(f"# line {number} of a long explanation, which says much\n" for number in range(120))
    comes_back(build(f"{lines}h[t] = x[t] @ W"))
    comes_back(build(f"h[t] = x[t] @ W  # {'a' * 3900}"))
