"""Expressions -> parts: one node of a picture each, what enters it, and its label."""

from __future__ import annotations

from collections.abc import Iterable

from cellula.graph.graph import Graph
from cellula.graph.node import Constant, Input, Node, Parameter, State
from cellula.graph.ops import OPS
from cellula.printers.diagram.parts import Entry, Kind, Part
from cellula.printers.diagram.structure import LINEAR, PRODUCTS, SUMS, Structure
from cellula.printers.diagram.style import INSIDE_SIZE, TITLE_SIZE
from cellula.printers.diagram.text import Line, Run, joined, name_line, roman, width, wrapped
from cellula.printers.diagram.write import addends, function_name, write
from cellula.printers.formula import print_expression

__all__ = ["PartBuilder"]

# How wide text within a part may grow before it is broken into lines, or into several parts.
_INSIDE_WIDTH, _LABEL_WIDTH, _OPERAND_WIDTH, _TITLE_WIDTH = 190.0, 150.0, 64.0, 56.0
# The order of their arguments does not matter.
_SYMMETRIC = ("min", "max", "equal", "not_equal")
# What stands for a value without a name, and for the sum within a layer.
_HOLE, _SUM_INSIDE = roman("•"), roman("Σ")


class PartBuilder:
    """Makes the parts of one cell.

    Args:
        graph: a checked cell.
    """

    def __init__(self, graph: Graph) -> None:
        self.structure = Structure(graph)
        self.parts: list[Part] = []
        self.known: dict[Node, int] = {}
        self.owner = ""
        self.factors = {child for node in graph.nodes if node.op == "multiply" for child in node.inputs}

    def edge(self, value: Input | State) -> int:
        """The part of an input, or of a state as it was."""
        kind: Kind = "input" if isinstance(value, Input) else "state_in"
        slot, lag = (value.name, 0) if isinstance(value, Input) else (value.slot, value.lag)
        for number, part in enumerate(self.parts):
            if (part.kind, part.slot) == (kind, slot):
                return number
        about = f"{value.name}[t-{lag}]: from before" if lag else f"{value.name}[t]: the input"
        return self.append(Part(kind, (), name_line(value.name, -lag), slot=slot, about=about))

    def append(self, part: Part) -> int:
        """Add a part; gives its number."""
        self.parts.append(part)
        return len(self.parts) - 1

    def value(self, node: Node) -> int:
        """The number of the part that computes a node."""
        if node not in self.known:
            self.known[node] = self._made(node)
        return self.known[node]

    def _made(self, node: Node) -> int:
        if isinstance(node.attribute, Input | State):
            return self.edge(node.attribute)
        if node not in self.structure.wired:
            return self._add("parameter", node, (), _short(write(node), limit=_INSIDE_WIDTH))
        if node.op == "expand":
            return self.value(node.inputs[0])
        core = self.structure.core(node)
        if core is not None:
            return self._box(node, core)
        operands = self.structure.operands(node)
        if len(operands) == 1:
            return self._function_of_one(node, operands[0])
        children = self.structure.children(node)
        if len(children) == 1:
            return self._operation_on_one(node, children[0])
        if node.op in SUMS:
            return self._sum(node)
        return self._product(node) if node.op in PRODUCTS else self._function(node)

    def _add(
        self, kind: Kind, node: Node, entries: Iterable[Entry], label: Line = (), inside: tuple[Line, ...] = ()
    ) -> int:
        """A part with a label: large where it is short, or where there is more to say below it."""
        large = bool(inside) or width(label, TITLE_SIZE) <= _TITLE_WIDTH
        title, inside = (label, inside) if large else ((), (label,))
        about, form = print_expression(node), self._form(node)
        return self.append(Part(kind, tuple(entries), title, inside, owner=self.owner, about=about, form=form))

    def _form(self, node: Node, top: bool = True) -> str:
        """What an expression computes, with every weight by its kind and every value as `v`."""
        if node in self.structure.wired and not top and (node in self.known or not self.structure.inner(node)):
            return "v"
        if isinstance(node.attribute, Constant):
            return node.attribute.text
        if node.op == "leaf":
            return getattr(node.attribute, "kind", "number")
        inputs = [self._form(child, top=False) for child in node.inputs]
        return f"{node.op}({', '.join(sorted(inputs) if node.op in ('add', 'multiply') else inputs)})"

    # Layers of neurons.

    def _box(self, node: Node, core: Node) -> int:
        """Linear maps, what is added to them, and the activation, as one part."""
        entries: dict[Entry, None] = {}
        holes: dict[Node, Line] = {}
        self._absorb(core, entries, holes, top=True)
        inside = wrapped(addends(core, holes), INSIDE_SIZE, _INSIDE_WIDTH)
        low, high = OPS[node.op].range if node.op in OPS else (-1.0, 1.0)
        kind: Kind = "gate" if low >= 0.0 and high <= 1.0 and node in self.factors else "layer"
        title = self._activation(node, core)
        about, form = print_expression(node), self._form(node)
        part = Part(kind, tuple(entries), title, inside, owner=self.owner, about=about, form=form, neurons=True)
        return self.append(part)

    def _activation(self, node: Node, core: Node) -> Line:
        if node is core:
            return roman("linear")
        if core in node.inputs and OPS[node.op].symbol is None and _by_default(node):
            return roman(function_name(node.op))
        return _short(write(node, {core: _SUM_INSIDE}), _SUM_INSIDE)

    def _absorb(self, node: Node, entries: dict[Entry, None], holes: dict[Node, Line], top: bool = False) -> None:
        """Collect what enters a layer of neurons, and what its text leaves to the picture."""
        children = self.structure.children(node)
        within = top or self.structure.inner(node)
        if node not in self.structure.wired:
            return
        if node.op in LINEAR:
            matrix = node.inputs[1].attribute
            diagonal = isinstance(matrix, Parameter) and matrix.kind == "diagonal"
            entries[Entry(self.value(node.inputs[0]), "pointwise" if diagonal else "dense")] = None
            _leave_out(node.inputs[0], holes)
        elif (node.op in SUMS and within) or self.structure.linear(node):
            for child in children:
                self._absorb(child, entries, holes)
        elif node.op in PRODUCTS and len(children) == 1 and children[0].op in ("leaf", "equation"):
            entries[Entry(self.value(children[0]))] = None
        else:
            entries[Entry(self.value(node))] = None
            _leave_out(node, holes)

    # Functions of one value.

    def _function_of_one(self, node: Node, operand: Node) -> int:
        """One part, or several where the expression is too long for one."""
        children = self.structure.children(node)
        if children == [operand]:
            return self._operation_on_one(node, operand)
        entries = [Entry(self.value(operand))]
        if node.op == "multiply" and node.inputs == (operand, operand):
            return self._add("function", node, entries, (*_HOLE, Run("2", level=1)))
        whole = write(node, _named(operand))
        if width(whole, INSIDE_SIZE) <= _LABEL_WIDTH:
            return self._add("function", node, entries, whole)
        if len(children) == 1:
            return self._operation_on_one(node, children[0])
        several = {**dict.fromkeys(SUMS, self._sum), **dict.fromkeys(PRODUCTS, self._product)}
        return several.get(node.op, self._function)(node)

    def _operation_on_one(self, node: Node, operand: Node) -> int:
        """The outermost operation by itself."""
        kind: Kind = "scale" if node.op == "multiply" or _divided(node, operand) else "function"
        return self._add(kind, node, [Entry(self.value(operand))], _operation(node, operand))

    # Sums, products and functions of several values.

    def _sum(self, node: Node) -> int:
        terms = self.structure.terms(node, SUMS)
        numbers = [(sign, term) for sign, term in terms if term not in self.structure.wired]
        entries = [
            Entry(self.value(term), mark="" if sign > 0 else "−")
            for sign, term in terms
            if term in self.structure.wired
        ]
        shown = [joined(roman("+ " if sign > 0 else "− "), write(term)) for sign, term in numbers]
        return self._add("sum", node, entries, _short(joined(*shown)) if shown else ())

    def _product(self, node: Node) -> int:
        factors = self.structure.terms(node, PRODUCTS)
        numbers = [(sign, factor) for sign, factor in factors if factor not in self.structure.wired]
        entries = [
            Entry(self.value(factor), mark="" if sign > 0 else "÷")
            for sign, factor in factors
            if factor in self.structure.wired
        ]
        shown = [joined(roman("× " if sign > 0 else "÷ "), write(factor)) for sign, factor in numbers]
        return self._add("product", node, entries, _short(joined(*shown)) if shown else ())

    def _function(self, node: Node) -> int:
        named = zip(OPS[node.op].arguments, node.inputs, strict=True)
        marked = node.op not in _SYMMETRIC and len(self.structure.children(node)) > 1
        entries: list[Entry] = []
        numbers: list[Line] = []
        for argument, child in named:
            if child in self.structure.wired:
                entries.append(Entry(self.value(child), mark=argument.name if marked else ""))
            elif not isinstance(child.attribute, Constant) or child.attribute.value != argument.default:
                numbers.append(joined(roman(f"{argument.name} = "), _short(write(child))))
        return self._add("function", node, entries, roman(function_name(node.op)), inside=tuple(numbers))


def _short(line: Line, otherwise: Line = _HOLE, limit: float = _LABEL_WIDTH) -> Line:
    """A line, or only that there is a function where it is too long to show: the formula itself tells."""
    return line if width(line, INSIDE_SIZE) <= limit else joined(roman("f("), otherwise, roman(")"))


def _leave_out(node: Node, holes: dict[Node, Line]) -> None:
    """Leave a long operand out of the text: the picture shows it."""
    if node.op not in ("leaf", "equation") and width(write(node), INSIDE_SIZE) > _OPERAND_WIDTH:
        holes[node] = _HOLE


def _named(operand: Node) -> dict[Node, Line]:
    """A value without a name is a dot."""
    return {} if operand.op in ("leaf", "equation") else {operand: _HOLE}


def _divided(node: Node, operand: Node) -> bool:
    return node.op == "divide" and node.inputs[0] is operand


def _by_default(node: Node) -> bool:
    """Whether a function is called with its defaults only, or draws: then its name says all."""
    rest = zip(OPS[node.op].arguments[1:], node.inputs[1:], strict=True)
    return OPS[node.op].draw is not None or all(
        isinstance(child.attribute, Constant) and child.attribute.value == argument.default for argument, child in rest
    )


_SIGNS = {"add": "+ ", "subtract": "− ", "multiply": "× ", "divide": "÷ "}


def _operation(node: Node, operand: Node) -> Line:
    """What one operation does to its one value: `tanh`, `1 −`, `× α`."""
    if node.op == "negative":
        return roman("−")
    if node.op in _SIGNS:
        other = node.inputs[1] if node.inputs[0] is operand else node.inputs[0]
        if node.op == "subtract" and other is node.inputs[0]:
            return _short(joined(write(other), roman(" −")))
        if node.op != "divide" or _divided(node, operand):
            return _short(joined(roman(_SIGNS[node.op]), _bracketed(other)))
    if OPS[node.op].symbol is None and _by_default(node):
        return roman(function_name(node.op))
    return _short(write(node, _named(operand)))


def _bracketed(node: Node) -> Line:
    """A number or an expression of weights; sums in brackets."""
    line = write(node)
    return joined(roman("("), line, roman(")")) if node.op in SUMS else line
