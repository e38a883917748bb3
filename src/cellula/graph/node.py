"""The nodes of a graph: immutable and interned, so that equal means identical."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field

from cellula.graph.ops import OPS, Draw

__all__ = [
    "Constant", "DrawMask", "Extent", "Init", "Input", "Node", "Parameter", "Setting", "Size", "State",
    "accumulate", "apply", "constant", "equation", "leaf", "matmul", "rebuilt", "transposed", "walk",
]  # fmt: skip

# The name of a size (`"hidden"`), or None for a single number per sequence.
Size = str | None


@dataclass(frozen=True)
class Init:
    """How a parameter starts: a row of `inits.py` and its numbers; a setting stands by its name."""

    kind: str
    arguments: tuple[float | str, ...] = ()

    def numbers(self, settings: Mapping[str, float]) -> tuple[float, ...]:
        """The numbers, with the settings as they are."""
        return tuple(settings[value] if isinstance(value, str) else value for value in self.arguments)


@dataclass(frozen=True)
class Input:
    """The input `x[t]`."""

    name: str = "x"
    size: Size = "input"


@dataclass(frozen=True)
class State:
    """A node as it was `lag` steps ago."""

    name: str
    lag: int
    size: Size

    @property
    def slot(self) -> str:
        """Under which name its value is kept: `h` for h[t-1], `h_lag2` for h[t-2]."""
        return self.name if self.lag == 1 else f"{self.name}_lag{self.lag}"


@dataclass(frozen=True)
class Parameter:
    """Something learned, or given and kept with what is learned.

    Args:
        name: as in the formula.
        kind: `"matrix"`, `"diagonal"`, `"vector"` or `"scalar"`.
        sizes: (rows, columns) of a matrix, (units,) of a diagonal or vector, () of a scalar.
        init: how it starts, None for the kind's default.
        blocks: how many blocks a block-diagonal matrix has, 1 for a dense one.
        triangle: how many groups of units a block-triangular matrix has, 1 for a dense one: each group is reached from
            itself and the groups behind it, what lies elsewhere is 0.
        learned: whether training may change it.
    """

    name: str
    kind: str
    sizes: tuple[str, ...]
    init: Init | None = None
    blocks: int = 1
    triangle: int = 1
    learned: bool = True

    @property
    def form(self) -> str:
        """In words: `matrix of 4 blocks`, `vector, given`."""
        parts = f" of {self.blocks} blocks" if self.blocks > 1 else ""
        parts += f", a triangle of {self.triangle} groups" if self.triangle > 1 else ""
        return self.kind + parts + ("" if self.learned else ", given")

    @property
    def size(self) -> Size:
        """The size of its last axis."""
        return self.sizes[-1] if self.sizes else None


@dataclass(frozen=True)
class Setting:
    """A number that the caller may override."""

    name: str
    default: float
    size: Size = None


@dataclass(frozen=True)
class Constant:
    """A number written in the formula; kept as text so that 0.0 and -0.0 differ."""

    text: str
    size: Size = None

    @property
    def value(self) -> float:
        return float(self.text)


@dataclass(frozen=True)
class DrawMask:
    """The random mask of one occurrence of a drawing op."""

    number: int
    op: str
    size: Size

    @property
    def draw(self) -> Draw:
        """How it is drawn."""
        draw = OPS[self.op].draw
        assert draw is not None
        return draw


@dataclass(frozen=True)
class Extent:
    """Stands for any value of a size where only its number of units matters."""

    size: Size


@dataclass(frozen=True)
class Adjoint:
    """A gradient of the loss that a backward step is given.

    Args:
        name: of the output, or of the state slot.
        carried: whether it comes from the step after this one (a state) or from the loss (the output).
        size: of the value whose gradient it is.
    """

    name: str
    carried: bool
    size: Size


Leaf = Input | State | Parameter | Setting | Constant | DrawMask | Extent | Adjoint


@dataclass(frozen=True, eq=False, repr=False, slots=True, weakref_slot=True)
class Node:
    """One value of the graph. Made by `leaf`, `apply`, `matmul` and `equation` only.

    Args:
        op: a row of the op table, `"matmul"`, `"transposed"`, `"accumulate"` (several products added up in one pass),
            `"equation"` (a named value), or `"leaf"`.
        inputs: what it is computed from.
        attribute: the leaf, the equation's name, or the number of a random draw.
        size: how many units it has.
    """

    op: str
    inputs: tuple[Node, ...] = ()
    attribute: Hashable = None
    size: Size = field(default=None)

    def __repr__(self) -> str:
        if self.op == "leaf":
            return f"{type(self.attribute).__name__}({getattr(self.attribute, 'name', None) or self.attribute})"
        what = self.op if self.attribute is None else f"{self.op}:{self.attribute}"
        return f"<{what} [{self.size or 1}]>"

    def __copy__(self) -> Node:
        return self

    def __deepcopy__(self, memo: dict) -> Node:
        return self

    def __reduce__(self) -> tuple:
        return _intern, (self.op, self.inputs, self.attribute, self.size)


_interned: weakref.WeakValueDictionary[tuple, Node] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def _intern(op: str, inputs: tuple[Node, ...], attribute: Hashable, size: Size) -> Node:
    key = (op, tuple(id(node) for node in inputs), attribute, size)
    with _lock:
        node = _interned.get(key)
        if node is None:
            node = _interned[key] = Node(op, inputs, attribute, size)
        return node


def leaf(value: Leaf) -> Node:
    """The node of an input, state, parameter, setting, constant or mask."""
    return _intern("leaf", (), value, value.size)


def constant(value: float) -> Node:
    """The node of a number."""
    return leaf(Constant(repr(float(value))))


def equation(name: str, value: Node, size: Size) -> Node:
    """A named value; a single number is repeated where the equation has units."""
    return _intern("equation", (value,), name, size)


def matmul(value: Node, matrix: Node) -> Node:
    """`value @ matrix`."""
    return _intern("matmul", (value, matrix), None, matrix.size)


def transposed(value: Node, matrix: Node) -> Node:
    """`value @ matrix.T`, the gradient of a linear map's input."""
    parameter = matrix.attribute
    assert isinstance(parameter, Parameter)
    return _intern("transposed", (value, matrix), None, parameter.sizes[0])


def accumulate(products: tuple[Node, ...]) -> Node:
    """The sum of products of one size, added up in one pass in this order."""
    return _intern("accumulate", products, None, products[0].size)


def apply(op: str, inputs: tuple[Node, ...], draw: int | None = None) -> Node:
    """An op of the table on these inputs; missing arguments take their defaults.

    Raises:
        ValueError: two inputs have different sizes (the builder reports that to people before).
    """
    row = OPS[op]
    defaults = tuple(constant(argument.default or 0.0) for argument in row.arguments[len(inputs) :])
    inputs = inputs + defaults
    return _intern(op, inputs, draw, _result_size(op, inputs))


def rebuilt(node: Node, inputs: tuple[Node, ...]) -> Node:
    """The same node of other inputs."""
    if node.op == "leaf" or inputs == node.inputs:
        return node
    if node.op == "equation":
        return equation(str(node.attribute), inputs[0], node.size)
    if node.op in ("matmul", "transposed"):
        return matmul(*inputs) if node.op == "matmul" else transposed(*inputs)
    if node.op == "accumulate":
        return accumulate(inputs)
    return apply(node.op, inputs, None if node.attribute is None else int(str(node.attribute)))


def _result_size(op: str, inputs: tuple[Node, ...]) -> Size:
    shape = OPS[op].shape
    if shape == "reduce":
        return None
    if shape == "expand":
        return inputs[1].size
    sizes = {node.size for node in inputs} - {None}
    if len(sizes) > 1:
        raise ValueError(f"{op} of different sizes: {', '.join(sorted(map(str, sizes)))}")
    return sizes.pop() if sizes else None


def walk(roots: Iterable[Node]) -> list[Node]:
    """Every node below the roots once, inputs before what uses them."""
    order: list[Node] = []
    seen: set[Node] = set()
    stack = [(node, False) for node in reversed(list(roots))]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack += [(child, False) for child in reversed(node.inputs) if child not in seen]
    return order
