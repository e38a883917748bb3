"""A formula as LaTeX, the way a paper prints it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cellula.graph.graph import Graph
from cellula.graph.node import Constant, DrawMask, Input, Node, Parameter, Setting, State
from cellula.graph.ops import OPS

__all__ = ["indexed", "latex_expression", "named", "print_latex"]

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


def latex_expression(node: Node, symbols: Mapping[Node, str] | None = None, factor: bool = False) -> str:
    """The right side of an equation.

    Args:
        node: what to write.
        symbols: what to write for some of the nodes in it.
        factor: whether brackets are put around what cannot stand as a factor of a matrix product.
    """
    return _Writer(symbols or {}).inside(node, _ATOM if factor else _SUM)


@dataclass(frozen=True)
class _Writer:
    """Writes a node, and how tightly its form binds."""

    symbols: Mapping[Node, str]

    def text(self, node: Node) -> tuple[str, int]:
        if node in self.symbols:
            return self.symbols[node], _ATOM
        if node.op == "leaf":
            return _leaf(node)
        if node.op == "equation":
            return indexed(str(node.attribute), "t"), _ATOM
        if node.op in _FORMS:
            return _FORMS[node.op](self, *node.inputs)
        if node.op in _RELATIONS:
            left, right = (self.inside(child, _SUM + 1) for child in node.inputs)
            return rf"[{left} {_RELATIONS[node.op]} {right}]", _ATOM
        name = _FUNCTIONS.get(node.op) or rf"\operatorname{{{_escaped(node.op)}}}"
        given = node.inputs[: _shown_arguments(node)]
        return f"{name}({', '.join(self.text(child)[0] for child in given)})", _ATOM

    def inside(self, node: Node, least: int) -> str:
        text, binding = self.text(node)
        return text if binding >= least else f"({text})"


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


def _sum(writer: _Writer, sign: str, left: Node, right: Node) -> tuple[str, int]:
    second = writer.inside(right, _SUM + (sign == "-"))
    return f"{writer.inside(left, _SUM)} {sign} {f'({second})' if second.startswith('-') else second}", _SUM


def _multiply(writer: _Writer, left: Node, right: Node) -> tuple[str, int]:
    # Between two vectors the product is unit by unit; with a number it is a plain one.
    sign = r"\odot" if left.size is not None and right.size is not None else r"\,"
    # A product of another kind inside is easier to read in brackets.
    least = [_PRODUCT + (child.op in ("matmul", "transposed")) * 9 for child in (left, right)]
    return f"{writer.inside(left, least[0])} {sign} {writer.inside(right, least[1])}", _PRODUCT


def _matmul(writer: _Writer, left: Node, right: Node) -> tuple[str, int]:
    return f"{writer.inside(left, _ATOM)} {writer.text(right)[0]}", _PRODUCT


def _transposed(writer: _Writer, left: Node, right: Node) -> tuple[str, int]:
    return rf"{_matmul(writer, left, right)[0]}^{{\top}}", _PRODUCT


def _divide(writer: _Writer, left: Node, right: Node) -> tuple[str, int]:
    return rf"\frac{{{writer.text(left)[0]}}}{{{writer.text(right)[0]}}}", _ATOM


def _power(writer: _Writer, left: Node, right: Node) -> tuple[str, int]:
    return f"{{{writer.inside(left, _ATOM)}}}^{{{writer.text(right)[0]}}}", _POWER


def _where(writer: _Writer, condition: Node, left: Node, right: Node) -> tuple[str, int]:
    texts = ", ".join(writer.text(child)[0] for child in (condition, left, right))
    return rf"\operatorname{{where}}({texts})", _ATOM


_FORMS: dict[str, Callable[..., tuple[str, int]]] = {
    "add": lambda writer, left, right: _sum(writer, "+", left, right),
    "subtract": lambda writer, left, right: _sum(writer, "-", left, right),
    "multiply": _multiply,
    "matmul": _matmul,
    "transposed": _transposed,
    "divide": _divide,
    "power": _power,
    "negative": lambda writer, inside: (f"-{writer.inside(inside, _PRODUCT)}", _SUM),
    "abs": lambda writer, inside: (rf"\left|{writer.text(inside)[0]}\right|", _ATOM),
    "sqrt": lambda writer, inside: (rf"\sqrt{{{writer.text(inside)[0]}}}", _ATOM),
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
    if isinstance(value, DrawMask):
        return indexed(f"mask_{value.number}", "t"), _ATOM
    assert isinstance(value, Parameter | Setting)
    return named(value.name), _ATOM


def _number(value: float) -> tuple[str, int]:
    text = f"{value:.6g}"
    if "e" in text:
        digits, exponent = text.split("e")
        return rf"{digits} \cdot 10^{{{int(exponent)}}}", _SUM if value < 0 else _PRODUCT
    return text, _SUM if value < 0 else _ATOM


def named(name: str) -> str:
    """A name without a step: its first part is the letter, the rest its index (`W_i` -> W_{i})."""
    letter, _, index = name.rstrip("_").partition("_")
    head = _word(letter)
    return f"{head}_{{{', '.join(_word(part) for part in index.split('_'))}}}" if index else head


def indexed(name: str, step: str, bar: bool = False, mark: str = "") -> str:
    """A node at a step: an index of its own moves up, as in h^{(1)}_t; with a bar over its letter, a mark behind it."""
    letter, _, index = name.rstrip("_").partition("_")
    head = rf"\overline{{{_word(letter)}}}" if bar else _word(letter)
    upper = (f"({', '.join(_word(part) for part in index.split('_'))})" if index else "") + mark
    return (f"{head}^{{{upper}}}" if upper else head) + (f"_{step}" if len(step) == 1 else f"_{{{step}}}")


def _word(word: str) -> str:
    if word in _GREEK:
        return rf"\{word}"
    return word if len(word) == 1 else rf"\mathrm{{{word}}}"


def _escaped(text: str) -> str:
    return text.replace("_", r"\_")
