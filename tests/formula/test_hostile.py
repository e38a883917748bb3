"""Whatever the text, the answer is a graph or a FormulaError, and it comes soon."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellula import FormulaError, build, cells, load_cell
from strategies import formulas

ZOO = [load_cell(name).source.text for name in cells()]
PIECES = st.sampled_from(
    [
        "[t]",
        "[t-1]",
        "[t+1]",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "@",
        " ",
        "\n",
        "\t",
        "#",
        '"',
        "'",
        '"""',
        "\\",
        ",",
        ":=",
        "=",
        "==",
        "-",
        "**",
        "%",
        "lambda",
        "import os",
        "x",
        "h",
        "W",
        "t",
        "0",
        "1e999",
        "0x",
        "1j",
        "\x00",
        "\ud800",
        "σ",
        "；",
        "vector(",
        "init=",
        "tanh",
        "if ",
        "for ",
        "yield ",
        "await ",
        "async ",
        "f'{",
        "...",
        "None",
        "True",
        ";",
        "\x0c",
        "\r",
    ]
)


def answers(text: str) -> None:
    start = time.process_time()
    try:
        build(text)
    except FormulaError as error:
        assert error.problems and str(error)
    # A second on a common machine for the longest texts; time must not grow with the square of the length.
    assert time.process_time() - start < 4.0


@settings(max_examples=120)
@given(st.text(max_size=200))
def test_any_text(text):
    answers(text)


@settings(max_examples=100)
@given(st.lists(PIECES, max_size=30).map("".join))
def test_pieces_of_formulas(text):
    answers(text)


@settings(max_examples=80)
@given(st.binary(max_size=200))
def test_any_bytes(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.cell"
    path.write_bytes(data)
    try:
        build(path)
    except FormulaError as error:
        assert error.problems and str(error)


@settings(max_examples=120)
@given(
    st.sampled_from(ZOO) | formulas(),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), PIECES), min_size=1, max_size=3),
)
def test_mutated_formulas(text, changes):
    for where, length, piece in changes:
        at = int(where * len(text))
        text = text[:at] + piece + text[at + length :]
    answers(text)


CHAIN = "\n".join(f"a{i}[t]=a{i - 1}[t]" for i in range(1, 3000))
HOSTILE = {
    "nothing": "",
    "NUL": "\x00",
    "NUL in a comment": "h[t] = x[t] @ W  # a\x00b",
    "NUL in a docstring": '"""a\x00b"""\nh[t] = x[t] @ W',
    "surrogate in a comment": "h[t] = x[t] @ W  # \ud800",
    "10,000 lines": "a=b\n" * 10_000,
    "10,000 comments": "# a\n" * 10_000 + "h[t] = x[t] @ W",
    "3,000 equations": f"a0[t]=x[t]@W\n{CHAIN}\nh[t]=a2999[t]",
    "3,000 unknown names": "\n".join(f"a{i}[t]=b{i}[t]" for i in range(3000)),
    "3,000 unknown functions": "\n".join(f"a{i}[t]=f{i}(1)" for i in range(3000)),
    "3,000 kinds": "\n".join(f"a{i}[t]=x[t]@W{i}+W{i}" for i in range(2000)),
    "3,000 declarations": "\n".join(f"W{i} = vector()" for i in range(3000)),
    "brackets": "h[t] = " + "(" * 60_000,
    "brackets in lines": "h[t]=(\n" * 9_000,
    "deep": "h[t] = " + "tanh(" * 89 + "x[t]" + ")" * 89,
    "too deep": "h[t] = " + "tanh(" * 700 + "x[t]" + ")" * 700,
    "minus signs": "h[t] = " + "-" * 3_900 + "x[t]",
    "powers": "h[t] = " + "**".join(["x[t]"] * 600),
    "lambdas": "h[t] = " + "lambda:" * 500 + "x[t]",
    "indices": "h[t] = x" + "[t]" * 1_000,
    "attributes": "h[t] = x" + ".a" * 1_500,
    "quotes": '"' * 60_000,
    "strings": '"""a' * 10_000,
    "backslashes": "\\\n" * 30_000,
    "semicolons": "h[t]=x[t];" * 390,
    "assignments": "h[t] = " * 500 + "1",
    "digits": "h[t] = " + "9" * 3_900,
    "hexadecimal": "h[t] = 0x" + "f" * 3_000,
    "lag of many digits": "h[t] = x[t-" + "9" * 3_000 + "]",
    "a megabyte": "h[t] = x[t] @ W\n" * 65_536,
    "foreign letters": "é a" * 20_000,
    "an encoding that does not exist": "# -*- coding: klingon -*-\nh[t] = x[t] @ W",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts(text):
    answers(text)


@pytest.mark.parametrize(
    "text", ["h[t] = x[t] @ W  # a\x00b", '"""a\x00b"""\nh[t] = x[t] @ W', "h[t] = x[t] @ W  # \ud800"]
)
def test_a_character_that_python_cannot_read_is_named_where_it_stands(text):
    with pytest.raises(FormulaError) as raised:
        build(text)
    (problem,) = raised.value.problems
    assert problem.kind == "invalid-character"
    assert text.split("\n")[problem.span.line - 1][problem.span.column] in "\x00\ud800"


@pytest.mark.parametrize(
    "attack",
    [
        "__import__('os').system('touch /tmp/no')",
        "().__class__.__bases__[0]",
        "eval('1')",
        "exec('1')",
        "open('x')",
        "globals()",
        "[c for c in ().__class__.__mro__]",
        "f'{open}'",
        "(lambda: 1)()",
        "x.__globals__",
        "tanh.__globals__",
    ],
)
@pytest.mark.parametrize(
    "place", ["h[t] = x[t] @ W + {}", "W = matrix(init={})\nh[t] = x[t] @ W", "h[t]: {} = x[t] @ W", "{}"]
)
def test_nothing_in_a_formula_runs(attack, place):
    with pytest.raises(FormulaError):
        build(place.format(attack))
