"""A formula as LaTeX, the way a paper prints it."""

from __future__ import annotations

from collections.abc import Mapping

from cellula.graph.graph import Graph
from cellula.graph.node import Constant, Input, Node, Parameter, Setting, State
from cellula.graph.ops import OPS

__all__ = ["Names", "indexed", "latex_expression", "latex_name", "print_latex"]

# What to write for a node.
Names = Mapping[Node, str]

# How tightly a form binds: sums (and whatever has a minus in front), products, powers, atoms.
_SUM, _PRODUCT, _POWER, _ATOM = 1, 2, 3, 4
_RELATIONS = {
    "less": "<", "less_equal": r"\leq", "greater": ">", "greater_equal": r"\geq", "equal": "=", "not_equal": r"\neq",
}  # fmt: skip
# Functions that LaTeX or mathematics has its own sign for; all others are set upright by their name.
_FUNCTIONS = {
    "sigmoid": r"\sigma", "tanh": r"\tanh", "exp": r"\exp", "log": r"\log", "sin": r"\sin", "cos": r"\cos",
    "min": r"\min", "max": r"\max",
}  # fmt: skip
_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi "
    "omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"
).split()


def print_latex(graph: Graph) -> str:
    r"""The equations of a cell as an `align*` environment (package amsmath).

    Steps are subscripts, `*` is the product unit by unit, `x[t] @ W` stays in the order of the text.

    Args:
        graph: a checked cell.

    Example:
        >>> from cellula import build
        >>> from cellula.printers.latex import print_latex
        >>> print(print_latex(build("h[t] = sigmoid(x[t] @ W + u * h[t-1])")))
        \begin{align*}
        h_t &= \sigma(x_t W + u \odot h_{t-1})
        \end{align*}
    """
    lines = [f"{indexed(e.name, 't')} &= {latex_expression(e.value)}" for e in graph.equations]
    return "\n".join([r"\begin{align*}", " \\\\\n".join(lines), r"\end{align*}"])


def latex_expression(node: Node, names: Names | None = None) -> str:
    """The right side of an equation.

    Args:
        node: the expression; named nodes appear by name and step.
        names: what to write for some of the nodes in it, each a single sign to what stands around it.
    """
    return _text(names or {}, node)[0]


def _text(names: Names, node: Node) -> tuple[str, int]:
    if node in names:
        return names[node], _ATOM
    if node.op == "leaf":
        return _leaf(node)
    if node.op == "equation":
        return indexed(str(node.attribute), "t"), _ATOM
    if node.op in _FORMS:
        return _FORMS[node.op](names, *node.inputs)
    if node.op in _RELATIONS:
        left, right = (_inside(names, child, _SUM + 1) for child in node.inputs)
        return rf"[{left} {_RELATIONS[node.op]} {right}]", _ATOM
    name = _FUNCTIONS.get(node.op) or rf"\operatorname{{{_escaped(node.op)}}}"
    given = node.inputs[: _shown_arguments(node)]
    return f"{name}({', '.join(_text(names, child)[0] for child in given)})", _ATOM


def _shown_arguments(node: Node) -> int:
    """How many arguments to show: defaults at the end are left out."""
    count = len(node.inputs)
    for argument, child in zip(reversed(OPS[node.op].arguments), reversed(node.inputs), strict=True):
        if argument.default is None or not isinstance(child.attribute, Constant):
            break
        if child.attribute.value != argument.default:
            break
        count -= 1
    return count


def _inside(names: Names, node: Node, least: int) -> str:
    text, binding = _text(names, node)
    return text if binding >= least else f"({text})"


def _sum(names: Names, sign: str, left: Node, right: Node) -> tuple[str, int]:
    second = _inside(names, right, _SUM + (sign == "-"))
    return f"{_inside(names, left, _SUM)} {sign} {f'({second})' if second.startswith('-') else second}", _SUM


def _multiply(names: Names, left: Node, right: Node) -> tuple[str, int]:
    # Between two vectors the product is unit by unit; with a number it is a plain one.
    sign = r"\odot" if left.size is not None and right.size is not None else r"\,"
    # A product of another kind inside is easier to read in brackets.
    first, second = (
        _inside(names, child, _PRODUCT + (child.op in ("matmul", "transposed")) * 9) for child in (left, right)
    )
    return f"{first} {sign} {second}", _PRODUCT


def _matmul(names: Names, left: Node, right: Node) -> tuple[str, int]:
    return f"{_inside(names, left, _ATOM)} {_text(names, right)[0]}", _PRODUCT


def _divide(names: Names, left: Node, right: Node) -> tuple[str, int]:
    return rf"\frac{{{_text(names, left)[0]}}}{{{_text(names, right)[0]}}}", _ATOM


def _power(names: Names, left: Node, right: Node) -> tuple[str, int]:
    return f"{{{_inside(names, left, _ATOM)}}}^{{{_text(names, right)[0]}}}", _POWER


def _where(names: Names, condition: Node, left: Node, right: Node) -> tuple[str, int]:
    texts = ", ".join(_text(names, child)[0] for child in (condition, left, right))
    return rf"\operatorname{{where}}({texts})", _ATOM


_FORMS = {
    "add": lambda names, left, right: _sum(names, "+", left, right),
    "subtract": lambda names, left, right: _sum(names, "-", left, right),
    "multiply": _multiply,
    "matmul": _matmul,
    "transposed": lambda names, left, right: (rf"{_matmul(names, left, right)[0]}^{{\top}}", _PRODUCT),
    "divide": _divide,
    "power": _power,
    "negative": lambda names, inside: (f"-{_inside(names, inside, _PRODUCT)}", _SUM),
    "abs": lambda names, inside: (rf"\left|{_text(names, inside)[0]}\right|", _ATOM),
    "sqrt": lambda names, inside: (rf"\sqrt{{{_text(names, inside)[0]}}}", _ATOM),
    "where": _where,
}


def _leaf(node: Node) -> tuple[str, int]:
    value = node.attribute
    if isinstance(value, Constant):
        return _number(value.value)
    if isinstance(value, State):
        return indexed(value.name, f"t-{value.lag}"), _ATOM
    if isinstance(value, Input):
        return indexed(value.name, "t"), _ATOM
    assert isinstance(value, Parameter | Setting)
    return latex_name(value.name), _ATOM


def _number(value: float) -> tuple[str, int]:
    text = f"{value:.6g}"
    if "e" in text:
        digits, exponent = text.split("e")
        return rf"{digits} \cdot 10^{{{int(exponent)}}}", _SUM if value < 0 else _PRODUCT
    return text, _SUM if value < 0 else _ATOM


def latex_name(name: str) -> str:
    """A name: its first part is the letter, the rest its index (`W_i` -> W_{i})."""
    letter, _, index = name.rstrip("_").partition("_")
    head = _word(letter)
    return f"{head}_{{{', '.join(_word(part) for part in index.split('_'))}}}" if index else head


def indexed(name: str, step: str, more: str = "") -> str:
    """A node at a step: an index of its own moves up, as in h^{(1)}_t; behind it stands what more belongs there."""
    letter, _, index = name.rstrip("_").partition("_")
    upper = (f"({', '.join(_word(part) for part in index.split('_'))})" if index else "") + more
    raised = f"{_word(letter)}^{{{upper}}}" if upper else _word(letter)
    return f"{raised}_{step}" if len(step) == 1 else f"{raised}_{{{step}}}"


def _word(word: str) -> str:
    if word in _GREEK:
        return rf"\{word}"
    return word if len(word) == 1 else rf"\mathrm{{{word}}}"


def _escaped(text: str) -> str:
    return text.replace("_", r"\_")
