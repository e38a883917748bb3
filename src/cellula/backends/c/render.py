"""Plan -> C: pure text, made of the graph's nodes alone; no word of a formula reaches the source but in comments."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

from cellula.backends.c.arrays import Array, Sizes
from cellula.backends.c.step import Direction, State, render_step
from cellula.backends.c.tiles import tiles
from cellula.graph.node import Adjoint, Constant, DrawMask, Extent, Input, Node, Parameter, Setting
from cellula.graph.node import State as StateLeaf
from cellula.plan.kernel import Kernel
from cellula.plan.schedule import Schedule, operands

__all__ = ["Layout", "Source", "render"]


@dataclass(frozen=True)
class Layout:
    """In which order a kernel takes its arguments.

    Args:
        sizes: names of the sizes.
        matrices: parameters that are multiplied with, in the order of their strides.
        vectors: the other parameters.
        settings: names of the settings.
        forward, backward: what each pointer is, such as `"x"`, `"state c"` or `"parameter W_i"`.
    """

    sizes: tuple[str, ...]
    matrices: tuple[str, ...]
    vectors: tuple[str, ...]
    settings: tuple[str, ...]
    forward: tuple[str, ...]
    backward: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """A kernel as C.

    Args:
        text: the whole source, but for the element type.
        layout: how to call it.
    """

    text: str
    layout: Layout

    def of(self, double: bool) -> str:
        """The source for float or double."""
        return f"#define CELLULA_DOUBLE {int(double)}\n{self.text}"


def render(kernel: Kernel, shared: bool = True) -> Source:
    """Write a kernel as C11.

    Args:
        kernel: what `make_kernel` laid out with the ops of `spelling.NATIVE`.
        shared: whether to put the vector mathematics and the runtime before it, which are the same for every cell.

    Example:
        >>> from cellula import load_cell
        >>> from cellula.backends.c.spelling import NATIVE
        >>> from cellula.plan.kernel import make_kernel
        >>> source = render(make_kernel(load_cell("elman"), NATIVE), shared=False)
        >>> "v_tanh" in source.text
        True
    """
    maker = _Renderer(kernel)
    text = maker.text()
    head = _shared() if shared else ""
    return Source(head + text, maker.layout())


@cache
def _shared() -> str:
    folder = files("cellula.backends.c")
    text = [folder.joinpath(name).read_text("utf-8") for name in ("vector_math.h", "runtime.h", "products.h")]
    return "\n".join([*text[:2], tiles(), text[2]])


class _Renderer:
    """Gives every value its place in memory, and has both directions written."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        graph = kernel.plan.graph
        self.sizes = Sizes(tuple(dict.fromkeys(("input", "hidden", *graph.sizes))))
        self.parameters = {parameter.name: parameter for parameter in graph.parameters}
        self.matrices = tuple(name for name, one in self.parameters.items() if one.kind == "matrix")
        self.vectors = tuple(name for name, one in self.parameters.items() if one.kind != "matrix")
        self.settings = tuple(setting.name for setting in graph.settings)
        self.states = tuple(State(state.slot, state.size, state.lag) for state in graph.states)
        self.masks = tuple(kernel.plan.masks)
        self.lags = {state.slot: state for state in graph.states}

    def layout(self) -> Layout:
        """The order of the arguments."""
        common = [f"parameter {name}" for name in (*self.matrices, *self.vectors)]
        common += [f"mask {mask.leaf.number}" for mask in self.masks]
        forward = ["x", *common, "output", *(f"state {s.slot}" for s in self.states)]
        forward += [f"final {s.slot}" for s in self.states]
        forward += [f"series {slot}" for slot in self.kernel.series] + ["work"]
        forward += [f"record {name}" for name, _ in self.kernel.records]
        backward = ["x", *common, "output", "d_output", *(f"d_final {s.slot}" for s in self.states)]
        backward += [f"d_state {s.slot}" for s in self.states] + [f"state {s.slot}" for s in self.states]
        backward += [f"series {slot}" for slot in self.kernel.series]
        backward += [f"d_record {name}" for name, _ in self.kernel.records]
        backward += ["work", "extra", "d_x"]
        backward += [f"d_parameter {parameter.name}" for parameter in self._totals()]
        return Layout(self.sizes.names, self.matrices, self.vectors, self.settings, tuple(forward), tuple(backward))

    def text(self) -> str:
        """Both directions."""
        layout = self.layout()
        parts = [self._head()]
        parts.append(render_step(self._forward(layout)))
        if self.kernel.backward is not None:
            parts.append(render_step(self._backward(layout)))
        return "\n".join(parts)

    def _head(self) -> str:
        title = "".join(letter for letter in self.kernel.graph.name if letter.isalnum() or letter in "_- ")
        return f"/* The kernels of {title or 'a cell'}. */\n"

    def _totals(self) -> tuple[Parameter, ...]:
        found = self.kernel.backward.totals if self.kernel.backward else ()
        return tuple(dict.fromkeys(parameter for parameter, _ in found))

    def _user(self, names: tuple[str, ...], name: str, size: str | None, at: str = "t") -> Array:
        """An array [T, B, size] of the caller."""
        units = self.sizes.units(size)
        return Array(f"J->pointer[{names.index(name)}] + ({at}) * J->batch * {units}", units, "id", size, name)

    def _before(self, names: tuple[str, ...], slot: str, size: str | None) -> Array:
        """A state before the step: what an earlier step left, or a value that was there before the first one."""
        lag, units = self.lags[slot].lag, self.sizes.units(size)
        name, first = self.lags[slot].name, names.index(f"state {slot}")
        own = name if name == "x" else "output" if name == self.kernel.output_slot else f"series {name}"
        # The states of one value stand side by side, the youngest first.
        start = str(first) if lag == 1 else f"{first} - t"
        base = (
            f"(t{'' if lag == 1 else f' >= {lag}'} ? J->pointer[{names.index(own)}] + (t - {lag}) * J->batch * {units}"
        )
        return Array(f"{base} : J->pointer[{start}])", units, "id", size, f"state {slot} before the step")

    def _leaf(self, layout: tuple[str, ...], node: Node, blocks: bool) -> Array | str:
        """Where a leaf is that both directions read, or its value."""
        what = node.attribute
        if isinstance(what, Input):
            return self._user(layout, "x", what.size)
        if isinstance(what, Parameter):
            name = f"parameter {what.name}"
            return Array(f"J->pointer[{layout.index(name)}]", "0", "", what.size, name)
        if isinstance(what, Setting):
            return f"splat((real)J->setting[{self.settings.index(what.name)}])"
        if isinstance(what, Constant):
            return f"splat({_number(what.value)})"
        assert isinstance(what, DrawMask)
        whole = what.draw.per == "sequence"
        mask = self._user(layout, f"mask {what.number}", what.size, "0" if whole else "t")
        return replace(mask, row="own") if whole and blocks else mask

    def _column(self, names: tuple[str, ...], buffer: str, columns: list, number: int) -> Array:
        """A column of `work` or `extra`."""
        offset = " + ".join(["0", *(self.sizes.units(column.size) for column in columns[:number])])
        width = self._width(columns)
        base = f"J->pointer[{names.index(buffer)}] + t * J->batch * ({width}) + {offset}"
        name = columns[number].node.attribute if columns[number].node.op == "equation" else f"column {number}"
        return Array(base, width, "id", columns[number].size, f"{buffer}: {name}")

    def _width(self, columns: list) -> str:
        return " + ".join(["0", *(self.sizes.units(column.size) for column in columns)])

    def _forward(self, layout: Layout) -> Direction:
        kernel, names = self.kernel, layout.forward
        schedule = kernel.forward
        targets: list[tuple[Node, Array]] = []
        for number, (_, node) in enumerate(kernel.updates):
            targets.append((node, self._scratch("next", number)))
        held = dict(kernel.updates)
        targets += [(held[slot], self._user(names, f"series {slot}", held[slot].size)) for slot in kernel.series]
        columns = list(kernel.saved)
        for number, column in enumerate(columns):
            array = self._column(names, "work", columns, number)
            targets.append((schedule.renamed[column.node], array))
        targets.append((kernel.output, self._user(names, "output", kernel.output.size)))
        for name, node in kernel.records:
            targets.append((node, self._user(names, f"record {name}", node.size)))
        places: dict[Node, Array | str] = {}
        slots = [state.slot for state in self.states]
        for node in _read(schedule):
            if isinstance(node.attribute, StateLeaf):
                places[node] = self._scratch("last", slots.index(node.attribute.slot))
            else:
                places[node] = self._leaf(names, node, kernel.blocks)
        return Direction(
            "forward", schedule, self.sizes, self._matrices(), self.states, places, targets, names, kernel.blocks,
            self._folds(),
        )  # fmt: skip

    def _backward(self, layout: Layout) -> Direction:
        kernel, names = self.kernel, layout.backward
        back = kernel.backward
        assert back is not None
        targets: list[tuple[Node, Array]] = []
        slots = [state.slot for state in self.states]
        stopped = []
        for number, (_, node) in enumerate(back.carries):
            if node is None:
                stopped.append(number)
            else:
                targets.append((node, self._scratch("next", number, "gradient carried on of ")))
        work, places = list(kernel.saved), {}
        for number, (column, node) in enumerate(back.work):
            array = self._column(names, "work", work, number)
            places[column.node] = array
            if node is not None:
                targets.append((node, array))
        extra = list(back.extra)
        for number, column in enumerate(extra):
            targets.append((column.node, self._column(names, "extra", extra, number)))
        if back.input is not None:
            targets.append((back.input, self._user(names, "d_x", back.input.size)))
        for slot, node in kernel.updates:
            if slot in kernel.series:
                places.setdefault(self._unjoined(node), self._user(names, f"series {slot}", node.size))
        places.setdefault(self._unjoined(kernel.output), self._user(names, "output", kernel.output.size))
        for node in _read(back.schedule):
            if node in places:
                continue
            what = node.attribute
            if isinstance(what, StateLeaf):
                places[node] = self._before(names, what.slot, what.size)
            elif isinstance(what, Adjoint) and what.carried:
                places[node] = self._scratch("last", slots.index(what.name), "gradient carried to ")
            elif isinstance(what, Adjoint):
                is_output = what.name == kernel.graph.output
                places[node] = self._user(names, "d_output" if is_output else f"d_record {what.name}", what.size)
            else:
                places[node] = self._leaf(names, node, back.blocks)
        parameters = self._totals()
        totals = tuple((parameters.index(parameter), node) for parameter, node in back.totals)
        return Direction(
            "backward", back.schedule, self.sizes, self._matrices(), self.states, places, targets, names,
            back.blocks, self._folds(), stopped=tuple(stopped), totals=totals,
            total_sizes=tuple(parameter.size for parameter in parameters),
        )  # fmt: skip

    def _folds(self) -> bool:
        """Whether all steps of all sequences can be done as if they were sequences of one step."""
        whole = any(mask.leaf.draw.per == "sequence" for mask in self.masks)
        return self.kernel.blocks and not self.states and not whole

    def _matrices(self) -> tuple[Parameter, ...]:
        return tuple(self.parameters[name] for name in self.matrices)

    def _unjoined(self, node: Node) -> Node:
        """The node as the backward step knows it."""
        return next(old for old, new in self.kernel.forward.renamed.items() if new is node)

    def _scratch(self, which: str, number: int, what: str = "state ") -> Array:
        """A carried value before the step (`last`) or after it (`next`)."""
        state = self.states[number]
        after = " after the step" if (which, what) == ("next", "state ") else ""
        base, step = f"P->{which}[{number}]", self.sizes.padded(state.size)
        return Array(base, step, "r", state.size, f"{what}{state.slot}{after}")


def _read(schedule: Schedule) -> list[Node]:
    """What a schedule reads from memory: leaves and given values, also such as are only handed on."""
    found: dict[Node, None] = {}
    for phase in schedule.phases:
        for node in phase.nodes:
            found.update((child, None) for child in operands(node) if child.op == "leaf" or child in schedule.given)
    found.update((node, None) for node in schedule.renamed.values() if node.op == "leaf" and not _is_no_value(node))
    return [node for node in found if not _is_no_value(node)]


def _is_no_value(node: Node) -> bool:
    """Whether a node is read in another way than as a value of the step."""
    if isinstance(node.attribute, Extent):
        return True
    return isinstance(node.attribute, Parameter) and node.attribute.kind == "matrix"


def _number(value: float) -> str:
    if value != value or value in (float("inf"), float("-inf")):
        return f"(real){'-' if value < 0 else ''}INFINITY" if value == value else "(real)NAN"
    return f"(real){value.hex()}"
