"""LaTeX of formulas: as papers print them, and readable by an independent parser."""

import pytest
from hypothesis import given, settings

from cellula import build, cells, load_cell
from cellula.printers.latex import latex_expression, print_latex
from strategies import formulas


def right_side(text):
    return latex_expression(build(text).equation["h"].value)


@pytest.mark.parametrize(
    ("formula", "latex"),
    [
        ("h[t] = tanh(x[t] @ W + h[t-1] @ U + b)", r"\tanh(x_t W + h_{t-1} U + b)"),
        ("h[t] = b_f * h[t-2] - (x[t] @ W - c)", r"b_{f} \odot h_{t-2} - (x_t W - c)"),
        ("h[t] = (r * h[t-1]) @ U + x[t] @ W", r"(r \odot h_{t-1}) U + x_t W"),
        ("h[t] = tanh(h[t-1] @ W - h[t-1] @ W.T + x[t] @ V)", r"\tanh(h_{t-1} W - h_{t-1} W^{\top} + x_t V)"),
        ("h[t] = r * (h[t-1] @ U) + x[t] @ W", r"r \odot (h_{t-1} U) + x_t W"),
        ("h[t] = 0.5 * (x[t] @ W) / (1 + alpha)", r"\frac{0.5 \, (x_t W)}{1 + \alpha}"),
        ("h[t] = (x[t] @ W) ** 2 + leaky_relu(x[t] @ V)", r"{(x_t W)}^{2} + \operatorname{leaky\_relu}(x_t V)"),
        ("h[t] = abs(x[t] @ W) - -1e-7", r"\left|x_t W\right| - (-1 \cdot 10^{-7})"),
        ("h[t] = where(x[t] @ W > 0, 1, -(x[t] @ V))", r"\operatorname{where}([x_t W > 0], 1, -x_t V)"),
    ],
)
def test_as_papers_print_it(formula, latex):
    assert right_side(formula) == latex


def test_names_with_an_index_and_long_names():
    text = print_latex(build("gate_in[t] = sigmoid(x[t] @ W_in)\nh[t] = gate_in[t] * h[t-1]"))
    assert r"\mathrm{gate}^{(\mathrm{in})}_t &= \sigma(x_t W_{\mathrm{in}}) \\" in text


def readable(text):
    """Whether matplotlib's own LaTeX parser reads every line; it knows no environments."""
    mathtext = pytest.importorskip("matplotlib.mathtext", reason="matplotlib, the parser of this test, is missing")
    parser = mathtext.MathTextParser("path")
    for line in text.split("\n")[1:-1]:
        parser.parse("$" + line.removesuffix(r" \\").replace("&", "") + "$")


@pytest.mark.parametrize("name", cells())
def test_every_cell_can_be_read(name):
    readable(print_latex(load_cell(name)))


@settings(max_examples=60)
@given(formulas())
def test_random_formulas_can_be_read(text):
    readable(print_latex(build(text)))


def test_the_parser_refuses_what_is_no_latex():
    with pytest.raises(ValueError, match=r"Expected|Unknown"):
        readable("\\begin{align*}\nh &= \\frac{1\n\\end{align*}")
