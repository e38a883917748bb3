"""The table of errors walked, and where and how mistakes are shown."""

import re
from pathlib import Path

import pytest

import cellula
from cellula import FormulaError, build, parse
from cellula.formula.error_table import ERRORS

EXAMPLES = [(kind, text) for kind, row in ERRORS.items() for text in row.examples]
# A brace of a template that was not filled; the braces that a formula itself holds are quoted.
BRACES = re.compile(r"\{\w*\}")


def problems_of(text):
    with pytest.raises(FormulaError) as raised:
        build(text)
    return raised.value.problems, str(raised.value)


@pytest.mark.parametrize(("kind", "text"), EXAMPLES, ids=[f"{kind}-{i}" for i, (kind, _) in enumerate(EXAMPLES)])
def test_every_example_shows_its_mistake_and_no_other(kind, text):
    problems, shown = problems_of(text)
    assert {problem.kind for problem in problems} == {kind}
    lines = text.split("\n")
    for problem in problems:
        assert 1 <= problem.span.line <= problem.span.end_line <= len(lines)
        assert 0 <= problem.span.column <= len(lines[problem.span.line - 1])
        assert (problem.span.end_line, problem.span.end_column) >= (problem.span.line, problem.span.column)
        assert problem.help and problem.message and problem.help in shown and problem.message in shown
        for words in (problem.message, problem.help):
            assert not BRACES.search(words.replace("f'{x}'", "")), words
            assert "None" not in words and "Ellipsis" not in words, words
    if text:
        assert "^" in shown


def test_a_file_that_cannot_be_read(tmp_path: Path):
    for path, why in ((tmp_path / "absent.cell", "No such file"), (tmp_path, "directory"), (Path("a\0b.cell"), "null")):
        with pytest.raises(FormulaError, match=why) as raised:
            build(path)
        assert [problem.kind for problem in raised.value.problems] == ["not-readable"]


def test_a_file_that_is_not_text(tmp_path: Path):
    path = tmp_path / "picture.cell"
    path.write_bytes(b"h[t] = \xff\xfe")
    with pytest.raises(FormulaError, match="byte 7") as raised:
        build(path)
    assert [problem.kind for problem in raised.value.problems] == ["not-text"]
    path.write_text("# " + "的" * 100_000 + "\nh[t] = x[t] @ W", encoding="utf-8")
    with pytest.raises(FormulaError) as raised:
        build(path)
    assert [problem.kind for problem in raised.value.problems] == ["too-long"]


def _reporting():
    """The files that report what is wrong in a formula."""
    package = Path(cellula.__file__).parent
    return [path for folder in ("formula", "graph") for path in sorted((package / folder).rglob("*.py"))]


def test_every_kind_that_the_source_reports_has_a_row_and_every_row_is_reported():
    source = "\n".join(path.read_text(encoding="utf-8") for path in _reporting())
    # The kind is the first string of the call; some places choose between two kinds first.
    calls = r"(?:(?<![\w.])problem|_report|_fail)\(\s*\"([a-z-]+)\""
    used = set(re.findall(calls, source)) | set(re.findall(r"kind = \"([a-z-]+)\" if", source)) | {"syntax"}
    assert used == set(ERRORS)
    assert all(row.examples for kind, row in ERRORS.items() if kind not in ("not-readable", "not-text"))


def test_all_mistakes_of_a_text_at_once():
    text = """\"\"\"A cell with many mistakes.\"\"\"
import os
b = vektor()
i[t] = sigmod(x[t] @ W_i)
f[t] = sigmoid(x[t] @ W_f + )
g[t] = tanh(x[t] @ W_g + q[t-1] @ U)
o[t] = tanh((x[t] @ W_o)
c[t] = f[t] * c[t-1] + i[t] * g[t+1] σ
h[t] = o[t] * tanh(c[t], 1)
h[t] = lambda: 2
"""
    problems, shown = problems_of(text)
    found = [(problem.kind, problem.span.line) for problem in problems]
    assert found == [
        ("statement", 2), ("declaration", 3), ("unknown-function", 4), ("syntax", 5), ("unassigned-state", 6),
        ("bracket", 7), ("non-ascii", 8), ("arity", 9), ("expression", 10),
    ]  # fmt: skip
    assert shown.count("help:") == 9


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("h[t] = tnah(x[t])", 1, 8),
        ("# 门控循环单元\nh[t] = tnah(x[t])  # 隐藏状态", 2, 8),
        ('"""门控循环单元"""\r\n\r\nh[t] = tnah(x[t])\r\n', 3, 8),
        ("\ufeffh[t] = tnah(x[t])", 1, 8),
        ("h[t]\t=\ttnah(x[t])", 1, 8),
        ("h[t] = (x[t]  # 输入\n  + tnah(x[t]))", 2, 5),
        ("h[t] = x[t] + \\\n   tnah(x[t])", 2, 4),
        ("a[t] = x[t] @ W; h[t] = tnah(a[t])", 1, 25),
        ("h[t] = x[t] \\\r\n + tnah(x[t])", 2, 4),
        ("# a\x0cb\x85c\u2028d\nh[t] = tnah(x[t])", 2, 8),
    ],
    ids=["plain", "Chinese comment", "CRLF", "BOM", "tabs", "brackets", "backslash", "semicolon", "CRLF backslash",
         "other line ends"],
)  # fmt: skip
def test_lines_and_columns(text, line, column):
    problems, shown = problems_of(text)
    assert [(p.kind, p.span.line, p.span.column + 1) for p in problems] == [("unknown-function", line, column)]
    excerpt, caret = shown.split("\n")[1:3]
    mark = caret.index("^")
    assert excerpt[mark : mark + caret.count("^")] == "tnah"


def test_the_caret_stands_under_wide_characters_where_a_terminal_shows_them():
    _, shown = problems_of("h[t] = x[t] @ W ＋ b")
    excerpt, caret = shown.split("\n")[1:3]
    assert caret.index("^") == excerpt.index("＋") and caret.count("^") == 2
    _, shown = problems_of('"""门控"""; h[t] = tnah(x[t])')
    excerpt, caret = shown.split("\n")[1:3]
    # Two wide characters before the culprit take one column more each.
    assert caret.index("^") == excerpt.index("tnah") + 2


def test_a_long_line_is_cut_around_the_caret():
    _, shown = problems_of("h[t] = " + "x[t] + " * 50 + "tnah(x[t])" + " + x[t]" * 20)
    excerpt, caret = shown.split("\n")[1:3]
    assert len(excerpt) < 120
    assert excerpt[caret.index("^") : caret.rindex("^") + 1] == "tnah"


def test_no_more_than_twenty_are_shown_and_none_is_lost():
    problems, shown = problems_of("\n".join(f"a{i}[t] = x[t] @" for i in range(50)))
    assert len(problems) == 50
    assert shown.count("help:") == 20 and shown.endswith("and 30 more")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("h[t] = sigmod(x[t])", "sigmoid"),
        ("h[t] = layernorm(x[t])", "layer_norm"),
        ("gate[t] = x[t] @ W\nh[t] = gat[t] * gate[t]", "gate"),
        ("cell[t] = x[t] @ W + cel[t-1] @ U\nh[t] = cell[t]", "cell"),
        ("b = vector(inti=1)\nh[t] = x[t] @ W + b", "init"),
        ("W = matrix(init=ortogonal())\nh[t] = x[t] @ W", "orthogonal"),
        ("W = matrix(inptu, hidden)\nh[t] = x[t] @ W", "input"),
    ],
)
def test_the_nearest_name_is_offered(text, name):
    problems, _ = problems_of(text)
    assert any(f"did you mean `{name}`?" in problem.help for problem in problems)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("h(t) = tanh(x(t) @ W)", "square brackets, `h[t] = ...`"),
        ("h = tanh(x @ W)", "write `h[t] = ...`"),
        ("h[t] = W @ x[t]", "write the matrix on the right by its name: `x[t] @ W`"),
        ("h[t] = x[t] if a else b", "where(condition, a, b)"),
        ("h[t] = tanh(x @ W)", "write `x[t]` for this step"),
        ("h[t] = tanh(x[t] @ W + h[t] @ U)", "read `h[t-1]`"),
        ("h[t] = tanh(x[t] @ W + h[t-2 @ U)", "does not close"),
        ("b = 0.1\nh[t] = x[t] @ W * b", "`b = setting(0.1)`"),
        ("h[t] = x[t] @ (W + V)", "by its name"),
        ("h[t] = relu", "is a function"),
    ],
)
def test_what_beginners_write_is_answered_with_what_to_write(text, advice):
    assert advice in problems_of(text)[1]


def test_both_places_of_a_conflict_are_shown():
    _, shown = problems_of("a[t]: proj = x[t] @ W\nb[t]: state = x[t] @ V\nh[t] = a[t] + b[t]")
    assert "`proj` comes from here (line 1)" in shown and "`state` comes from here (line 2)" in shown
    _, shown = problems_of("h[t] = x[t] @ W\nh[t] = x[t] @ V")
    assert "first assigned here (line 1)" in shown


def test_an_error_travels_between_processes():
    import pickle

    with pytest.raises(FormulaError) as raised:
        parse("h[t] = (", "my.cell")
    again = pickle.loads(pickle.dumps(raised.value))
    assert str(again) == str(raised.value) and again.problems == raised.value.problems
    assert isinstance(again, ValueError) and str(again).startswith("my.cell, line 1")


@pytest.mark.parametrize(
    ("text", "help"),
    [
        ("h[t] = tanh(x[t] @ W) ^ 2", "write `**` for a power"),
        ("h[t] += x[t] @ W", "reads `h[t-1]` on the right"),
        ("c[0] = 1\nh[t] = x[t] @ W", "write `c[t] = ...` only: a state starts from zero"),
        ("h_t = tanh(x[t] @ W)", "write `h[t] = ...`"),
        ("h[t] = tanh(concat(x[t], h[t-1]) @ W)", "write `x[t] @ W + h[t-1] @ U`"),
        ("h[t] = tanh(X[t] @ W)", "did you mean `x`?"),
        ("h[t] = Tanh(x[t] @ W)", "did you mean `tanh`?"),
    ],
)
def test_habits_of_other_texts_are_answered(text, help):
    with pytest.raises(FormulaError) as error:
        build(text)
    assert any(help in problem.help for problem in error.value.problems)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def cell(x, h):\n    return h", "`def` is not part of the language"),
        ("h[t] := x[t] @ W", "write `=`"),
        ("h[t] = 2x[t] @ W", "is an operator missing?"),
        ("h[t] = tanh(x[t] @ W) h[t-1]", "is an operator missing before this?"),
        ("h[t] = tanh([x[t], h[t-1]] @ W)", "for a product with both parts write `x[t] @ W + h[t-1] @ U`"),
    ],
)
def test_what_python_would_say_is_said_in_our_words(text, message):
    with pytest.raises(FormulaError) as error:
        build(text)
    assert message in error.value.problems[0].message
