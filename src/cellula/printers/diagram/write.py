"""Expressions as lines of text, short enough to stand in a node of a picture."""

from __future__ import annotations

from collections.abc import Mapping

from cellula.graph.node import Constant, Input, Node, Parameter, Setting, State
from cellula.graph.ops import OPS
from cellula.printers.diagram.text import Line, Run, joined, name_line, roman

__all__ = ["addends", "function_name", "write"]

# How tightly a form binds.
_RELATION, _SUM, _PRODUCT, _POWER, _ATOM = range(5)
_RELATIONS = {
    "less": "<", "less_equal": "≤", "greater": ">", "greater_equal": "≥", "equal": "=", "not_equal": "≠",
}  # fmt: skip
_FUNCTIONS = {
    "sigmoid": "σ", "hard_sigmoid": "hard σ", "relu": "ReLU", "leaky_relu": "leaky ReLU", "layer_norm": "LN",
    "rms_norm": "RMS norm", "variational_dropout": "dropout", "sqrt": "√",
}  # fmt: skip

Holes = Mapping[Node, Line]


def write(node: Node, holes: Holes | None = None) -> Line:
    """An expression as papers print it: `x W` a linear map, `a · b` the product unit by unit.

    Args:
        node: the expression; named nodes appear by name and step.
        holes: what to show in place of some of the nodes below it.
    """
    return _text(node, holes or {})[0]


def function_name(op: str) -> str:
    """What a function is called in a picture: `σ`, `tanh`, `LN`."""
    return _RELATIONS.get(op) or _FUNCTIONS.get(op) or op.replace("_", " ")


def addends(node: Node, holes: Holes) -> list[Line]:
    """The terms of a sum, each with its sign in front; one term where the node is no sum."""
    if node in holes or node.op not in ("add", "subtract"):
        return [write(node, holes)]
    first, second = node.inputs
    sign, least = (" + ", _SUM) if node.op == "add" else (" − ", _PRODUCT)
    line = _inside(second, least, holes)
    if line[0].text.startswith("−"):
        line = joined(roman("("), line, roman(")"))
    return [*addends(first, holes), joined(roman(sign), line)]


def _text(node: Node, holes: Holes) -> tuple[Line, int]:
    """The text of a node and how tightly it binds."""
    if node in holes:
        return holes[node], _ATOM
    if node.op == "leaf":
        return _leaf(node)
    if node.op == "equation":
        return name_line(str(node.attribute), 0), _ATOM
    if node.op in ("matmul", "transposed"):
        value, matrix = node.inputs
        turned = (Run("T", level=1),) if node.op == "transposed" else ()
        return joined(_inside(value, _ATOM, holes), roman(" "), write(matrix), turned), _PRODUCT
    if node.op in _RELATIONS:
        left, right = (_inside(child, _SUM, holes) for child in node.inputs)
        return joined(left, roman(f" {_RELATIONS[node.op]} "), right), _RELATION
    if node.op in ("add", "subtract"):
        return joined(*addends(node, holes)), _SUM
    if node.op in ("multiply", "divide"):
        return _product(node, holes), _PRODUCT
    if node.op == "negative":
        return joined(roman("−"), _inside(node.inputs[0], _PRODUCT, holes)), _SUM
    if node.op == "power":
        return _power(node, holes)
    if node.op == "abs":
        return joined(roman("|"), _text(node.inputs[0], holes)[0], roman("|")), _ATOM
    return _function(node, holes), _ATOM


def _product(node: Node, holes: Holes) -> Line:
    left, right = node.inputs
    sign, least = (" · ", _PRODUCT) if node.op == "multiply" else (" / ", _POWER)
    # Beside a product of the other kind, brackets spare the reader a rule.
    first, second = (
        _inside(child, _ATOM if child.op in ("matmul", "transposed") else bound, holes)
        for child, bound in ((left, _SUM if isinstance(left.attribute, Constant) else _PRODUCT), (right, least))
    )
    return joined(first, roman(sign), second)


def _power(node: Node, holes: Holes) -> tuple[Line, int]:
    exponent = write(node.inputs[1], holes)
    base = _inside(node.inputs[0], _ATOM, holes)
    if any(run.level for run in exponent):
        return joined(roman("pow("), base, roman(", "), exponent, roman(")")), _ATOM
    return joined(base, tuple(Run(run.text, run.style, 1) for run in exponent)), _POWER


def _function(node: Node, holes: Holes) -> Line:
    """A call; defaults at the end are left out."""
    given = list(node.inputs)
    for argument in reversed(OPS[node.op].arguments):
        value = given[-1].attribute
        if argument.default is None or not isinstance(value, Constant) or value.value != argument.default:
            break
        given.pop()
    inside = [part for child in given for part in (roman(", "), _text(child, holes)[0])][1:]
    return joined(roman(function_name(node.op)), roman("("), *inside, roman(")"))


def _inside(node: Node, least: int, holes: Holes) -> Line:
    line, binding = _text(node, holes)
    return line if binding >= least else joined(roman("("), line, roman(")"))


def _leaf(node: Node) -> tuple[Line, int]:
    value = node.attribute
    if isinstance(value, Constant):
        line = _number(value.value)
        return line, _SUM if value.value < 0 else _PRODUCT if len(line) > 1 else _ATOM
    if isinstance(value, State):
        return name_line(value.name, -value.lag), _ATOM
    if isinstance(value, Input):
        return name_line(value.name, 0), _ATOM
    assert isinstance(value, Parameter | Setting)
    return name_line(value.name), _ATOM


def _number(value: float) -> Line:
    digits, _, exponent = f"{value:.6g}".replace("-", "−").partition("e")
    if not exponent:
        return roman(digits)
    power = str(int(exponent.replace("−", "-"))).replace("-", "−")
    front = "" if digits == "1" else "−" if digits == "−1" else f"{digits}·"
    return joined(roman(f"{front}10"), (Run(power, level=1),))
