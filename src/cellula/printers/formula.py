"""Any graph -> the text of its formula; read again it gives the identical graph."""

from __future__ import annotations

import re
import textwrap

from cellula.graph.graph import Graph
from cellula.graph.node import Adjoint, Constant, DrawMask, Extent, Input, Node, Parameter, Setting, State
from cellula.graph.ops import OPS

__all__ = ["print_expression", "print_formula"]

# How tightly an operator binds, as in Python; a function call or a name binds tightest.
_BINDING = {
    "less": 1, "less_equal": 1, "greater": 1, "greater_equal": 1, "equal": 1, "not_equal": 1,
    "add": 2, "subtract": 2, "multiply": 3, "divide": 3, "matmul": 3, "negative": 4, "power": 5,
}  # fmt: skip
_ATOM = 6
_LINEAR = ("matmul", "transposed")
_PRODUCTS = ("multiply", "divide", *_LINEAR)
# What a text cannot hold as it is: an escape in the docstring may have made it.
_UNPRINTED = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
# A longer comment stands in lines above its equation.
_COMMENT_WIDTH = 200


def print_formula(graph: Graph) -> str:
    """The formula of a graph as text, docstring and comments included.

    Args:
        graph: a checked cell.

    Example:
        >>> from cellula import build, print_formula
        >>> print(print_formula(build("h[t]=tanh( x[t]@W )  # layer")), end="")
        h[t] = tanh(x[t] @ W)  # layer
    """
    blocks = [_docstring(graph), "\n".join(_declarations(graph)), "\n".join(_equations(graph))]
    return "\n\n".join(block for block in blocks if block).replace('"""\n\n', '"""\n') + "\n"


def print_expression(node: Node) -> str:
    """The right side of an equation as text; named nodes appear by name."""
    return _text(node)[0]


def _docstring(graph: Graph) -> str:
    if not graph.title:
        return ""
    references = "\n".join(f"Reference: {reference}" for reference in graph.references)
    rest = "\n".join(part for part in (graph.description, references) if part)
    text = f"{graph.title}.\n\n{rest}\n" if rest else f"{graph.title}."
    text = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return '"""' + _UNPRINTED.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + '"""'


def _declarations(graph: Graph) -> list[str]:
    lines = [f"{setting.name} = setting({_number(setting.default)})" for setting in graph.settings]
    return lines + [_declaration(p) for p in graph.parameters if p.name in graph.declared]


def _declaration(parameter: Parameter) -> str:
    words = list(parameter.sizes)
    if parameter.init is not None:
        init = parameter.init
        numbers = ", ".join(value if isinstance(value, str) else _number(value) for value in init.arguments)
        words.append("init=" + (numbers if init.kind == "constant" else f"{init.kind}({numbers})"))
    if parameter.blocks != 1:
        words.append(f"blocks={parameter.blocks}")
    if parameter.triangle != 1:
        words.append(f"triangle={parameter.triangle}")
    if not parameter.learned:
        words.append("learned=0")
    return f"{parameter.name} = {parameter.kind}({', '.join(words)})"


def _equations(graph: Graph) -> list[str]:
    heads = []
    for equation in graph.equations:
        size = f": {equation.node.size}" if equation.annotated else ""
        heads.append(f"{equation.name}[t]{size} = {print_expression(equation.value)}")
    width = min(max(map(len, heads)), 90)
    comments = [" ".join(equation.comment.split()) for equation in graph.equations]
    lines = []
    for head, comment in zip(heads, comments, strict=True):
        if len(comment) > _COMMENT_WIDTH:
            wrapped = textwrap.wrap(comment, 100, break_long_words=False, break_on_hyphens=False)
            lines += [*(f"# {line}" for line in wrapped), head]
        else:
            lines.append(f"{head:<{width}}  # {comment}" if comment else head)
    return lines


def _text(node: Node) -> tuple[str, int]:
    """The text of a node and how tightly it binds."""
    if node.op == "leaf":
        return _leaf(node)
    if node.op == "equation":
        return f"{node.attribute}[t]", _ATOM
    binding = _BINDING.get(node.op, _ATOM)
    if node.op == "negative":
        return "-" + _inside(node.inputs[0], binding), binding
    if node.op == "transposed":
        return f"{_inside(node.inputs[0], _ATOM)} @ {_text(node.inputs[1])[0]}.T", 3
    if binding < _ATOM:
        symbol = "@" if node.op == "matmul" else OPS[node.op].symbol
        # `a ** b` groups from the right, comparisons do not group, everything else from the left.
        left, right = binding + (node.op == "power" or binding == 1), binding + (node.op != "power")
        right = 4 if node.op == "power" else right
        first, second = (_inside(child, least) for child, least in zip(node.inputs, (left, right), strict=True))
        # Python reads `a * b @ W` as `(a * b) @ W`; people should not have to know that.
        if binding == 3 and node.inputs[0].op in _PRODUCTS and (node.op == "matmul") != (node.inputs[0].op in _LINEAR):
            first = f"({first})"
        return f"{first} {symbol} {second}", binding
    return f"{node.op}({', '.join(_text(child)[0] for child in node.inputs)})", _ATOM


def _inside(node: Node, least: int) -> str:
    text, binding = _text(node)
    return text if binding >= least else f"({text})"


def _leaf(node: Node) -> tuple[str, int]:
    value = node.attribute
    if isinstance(value, Constant):
        return _number(value.value), 4 if value.text.startswith("-") else _ATOM
    if isinstance(value, State):
        return f"{value.name}[t-{value.lag}]", _ATOM
    if isinstance(value, Input):
        return f"{value.name}[t]", _ATOM
    if isinstance(value, Adjoint):
        return (f"carry_{value.name}[t]" if value.carried else "dloss[t]"), _ATOM
    if isinstance(value, DrawMask):
        return f"mask_{value.number}[t]", _ATOM
    if isinstance(value, Extent):
        return str(value.size), _ATOM
    assert isinstance(value, Parameter | Setting)
    return value.name, _ATOM


def _number(value: float) -> str:
    """The shortest text that reads back as this number."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 and str(value) != "-0.0" else repr(value)
