"""What a kernel costs: floating-point operations, numbers of parameters read, numbers moved, numbers saved."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from cellula.graph.node import Constant, Extent, Node, Parameter, Setting, Size, walk
from cellula.graph.ops import OPS
from cellula.plan.expand import define
from cellula.plan.kernel import BackwardKernel, Kernel, Source
from cellula.plan.schedule import Phase, Schedule, operands

__all__ = ["OPERATIONS", "Amount", "Costs", "Part", "StepCosts", "costs", "step_costs"]

# Operations of one unit, near the instructions that compilers make of `backends/c/vector_math.h` for a vector: a
# division or a square root counts as four, since it takes the time of several. What goes lane by lane through the C
# library counts what such a function does for one number. An op that is not here costs what its definition costs.
OPERATIONS: Mapping[str, int] = {
    "add": 1, "subtract": 1, "multiply": 1, "negative": 1, "abs": 1, "divide": 4, "sqrt": 4,
    "less": 2, "less_equal": 2, "greater": 2, "greater_equal": 2, "equal": 2, "not_equal": 2,
    "min": 4, "max": 4, "relu": 4, "where": 4, "sign": 7,
    "exp": 22, "log": 38, "sigmoid": 19, "tanh": 22, "sin": 25, "cos": 25, "erf": 30, "power": 60,
    "sum": 1, "peak": 4, "units": 0, "expand": 0, "equation": 0, "accumulate": 0,
}  # fmt: skip
# Up to this exponent a power is a chain of products.
_LONGEST_CHAIN = 8


@dataclass(frozen=True)
class Amount:
    """A sum of products of sizes, such as `8*hidden*hidden + 3*hidden`.

    Args:
        terms: the sizes of a product, in alphabetical order -> how many times; no term is 0.

    Example:
        >>> from cellula.plan.costs import Amount
        >>> amount = Amount.of(8, "input", "hidden") + Amount.of(3, "hidden")
        >>> print(f"{amount} = {amount.at({'input': 2, 'hidden': 10}):g}")
        8*hidden*input + 3*hidden = 190
    """

    terms: tuple[tuple[tuple[str, ...], Fraction], ...] = ()

    @classmethod
    def of(cls, times: int | Fraction, *sizes: Size) -> Amount:
        """So many times the product of the sizes; None is the size of a single number."""
        named = tuple(sorted(size for size in sizes if size is not None))
        return cls(((named, Fraction(times)),)) if times else cls()

    def __add__(self, other: Amount) -> Amount:
        total = dict(self.terms)
        for sizes, times in other.terms:
            total[sizes] = total.get(sizes, Fraction(0)) + times
        order = sorted(total, key=lambda sizes: (-len(sizes), sizes))
        return Amount(tuple((sizes, total[sizes]) for sizes in order if total[sizes]))

    def __mul__(self, times: int) -> Amount:
        return Amount(tuple((sizes, times * count) for sizes, count in self.terms if times))

    def __bool__(self) -> bool:
        return bool(self.terms)

    def at(self, sizes: Mapping[str, int]) -> float:
        """The number for these sizes."""
        return float(sum(times * math.prod(sizes[size] for size in named) for named, times in self.terms))

    def __str__(self) -> str:
        return " + ".join(_term(sizes, times) for sizes, times in self.terms) or "0"


def _term(sizes: tuple[str, ...], times: Fraction) -> str:
    names = [str(times.numerator)] if times.numerator != 1 or not sizes else []
    return "*".join([*names, *sizes]) + (f"/{times.denominator}" if times.denominator != 1 else "")


@dataclass(frozen=True)
class Part:
    """What one step of one direction costs, or what follows the last step.

    Args:
        products: operations in matrix products, for one step of one sequence.
        units: operations unit by unit, for one step of one sequence.
        moved: numbers that the passes read from memory and write there, for one step of one sequence.
        weights: numbers of parameters that a step reads for all sequences; after the last step, numbers that are read
            or written for all steps.
        passes: how many passes over the units there are; after the last step none.
    """

    products: Amount = Amount()
    units: Amount = Amount()
    moved: Amount = Amount()
    weights: Amount = Amount()
    passes: int = 0


@dataclass(frozen=True)
class StepCosts:
    """The costs of a kernel as formulas.

    Args:
        forward, backward, after: each direction's step, and the products that follow the last step.
        saved: numbers that a step of a sequence keeps for its backward step.
        extra: numbers that only the backward steps keep, for the products that follow.
    """

    forward: Part
    backward: Part
    after: Part
    saved: Amount
    extra: Amount


@dataclass(frozen=True)
class Costs:
    """The costs of a kernel for given sizes, steps and sequences.

    Args:
        forward, backward, after: floating-point operations of the forward steps, the backward steps and the products
            that follow the last one.
        weight_bytes: of parameters that the steps read; each step reads them once for all sequences.
        moved_bytes: of other values that the passes read from memory (a cache among it) and write there.
        saved_bytes: that the forward steps keep for the backward ones.
        passes: over the units, in a forward and in a backward step.
    """

    forward: float
    backward: float
    after: float
    weight_bytes: float
    moved_bytes: float
    saved_bytes: float
    passes: tuple[int, int]

    @property
    def operations(self) -> float:
        """All floating-point operations."""
        return self.forward + self.backward + self.after


def costs(kernel: Kernel, sizes: Mapping[str, int], steps: int = 1, batch: int = 1, bytes_per_number: int = 4) -> Costs:
    """What a kernel costs in numbers.

    Args:
        kernel: the cell, laid out.
        sizes: number of units of every size that occurs.
        steps: of a sequence, 1 by default.
        batch: how many sequences, 1 by default.
        bytes_per_number: 4 for float32, the default, 8 for float64.

    Example:
        >>> from cellula import load_cell
        >>> from cellula.graph.ops import OPS
        >>> from cellula.plan.costs import costs
        >>> from cellula.plan.kernel import make_kernel
        >>> found = costs(make_kernel(load_cell("lstm"), OPS, backward=True), {"input": 8, "hidden": 64}, steps=100)
        >>> found.saved_bytes == 100 * 4 * 6 * 64
        True
    """
    each = step_costs(kernel)
    rows, once = steps * batch, each.after.weights.at(sizes)
    parts = (each.forward, each.backward, each.after)
    forward, backward, after = (rows * (part.products + part.units).at(sizes) for part in parts)
    weights = steps * (each.forward.weights + each.backward.weights).at(sizes) + once
    moved = rows * (each.forward.moved + each.backward.moved + each.after.moved).at(sizes)
    return Costs(
        forward, backward, after, bytes_per_number * weights, bytes_per_number * moved,
        bytes_per_number * rows * each.saved.at(sizes), (each.forward.passes, each.backward.passes),
    )  # fmt: skip


def step_costs(kernel: Kernel) -> StepCosts:
    """What a kernel costs, as formulas of the sizes; what is computed once, before the first step, is left out.

    Args:
        kernel: the cell, laid out.

    Example:
        >>> from cellula import load_cell
        >>> from cellula.graph.ops import OPS
        >>> from cellula.plan.costs import step_costs
        >>> from cellula.plan.kernel import make_kernel
        >>> print(step_costs(make_kernel(load_cell("elman"), OPS)).forward.products)
        2*hidden*hidden + 2*hidden*input
    """
    states = {state.slot: state.size for state in kernel.plan.graph.states}
    written = [node for _, node in (*kernel.updates, *kernel.records)]
    written += [node for slot, node in kernel.updates if slot in kernel.series]
    written += [kernel.forward.renamed[column.node] for column in kernel.saved]
    written += [kernel.output]
    saved = _total(Amount.of(1, states[slot]) for slot in kernel.series)
    saved += Amount.of(1, kernel.output.size) if kernel.reads_output else Amount()
    saved += _total(Amount.of(1, column.size) for column in kernel.saved)
    forward, back = _part(kernel.forward, written), kernel.backward
    if back is None:
        return StepCosts(forward, Part(), Part(), saved, Amount())
    written = [node for _, node in (*back.carries, *back.work) if node is not None]
    written += [column.node for column in back.extra] + ([] if back.input is None else [back.input])
    backward = _part(back.schedule, written)
    summed = _total(Amount.of(1, node.size) for _, node in back.totals)
    backward = replace(backward, units=backward.units + summed)
    return StepCosts(
        forward,
        backward,
        _after(back, states, kernel.output.size),
        saved,
        _total(Amount.of(1, c.size) for c in back.extra),
    )


def _total(amounts: Iterable[Amount]) -> Amount:
    total = Amount()
    for amount in amounts:
        total += amount
    return total


def _part(schedule: Schedule, written: list[Node]) -> Part:
    """One step of one direction; `written` is what it leaves in memory, once for each place."""
    nodes = [node for phase in schedule.phases for node in phase.nodes]
    products = [product for node in nodes if node.op == "accumulate" for product in node.inputs]
    matrices = [_parameter(product) for product in products]
    weights = _total(_numbers(matrix) for matrix in matrices)
    # What is only handed on is read in the pass that writes it.
    moved = _total(Amount.of(2 if node not in schedule.place else 1, node.size) for node in written)
    moved += _total(Amount.of(1, node.size) for node in schedule.crossing if node not in {*written, *schedule.steady})
    for number, phase in enumerate(schedule.phases):
        read = {child: None for node in phase.nodes for child in operands(node)}
        weights += _total(_numbers(one.attribute) for one in read if isinstance(one.attribute, Parameter))
        moved += _total(Amount.of(1, one.size) for one in read if _is_moved(one, schedule, number, phase))
    units = _total(Amount.of(_operations(node), _widest(node)) for node in nodes)
    return Part(_total(_numbers(matrix) * 2 for matrix in matrices), units, moved, weights, len(schedule.phases))


def _is_moved(node: Node, schedule: Schedule, number: int, phase: Phase) -> bool:
    """Whether a pass reads a value of the step from memory; weights and numbers are counted elsewhere or not at all."""
    if node.op == "leaf":
        return not isinstance(node.attribute, Constant | Setting | Parameter | Extent)
    return node in schedule.given or schedule.place.get(node, number) < number


def _after(back: BackwardKernel, states: Mapping[str, Size], output: Size) -> Part:
    """The products over all steps."""
    weights, late = back.weights, back.inputs
    matrices = [product.parameter for product in (*weights, *late)]
    numbers = [_numbers(matrix) for matrix in matrices]
    moved = Amount()
    for sources in ({p.left for p in weights}, {p.right for p in weights}, {p.source for p in late}):
        moved += _total(Amount.of(1, _size(source, states, output)) for source in sources)
    # What the steps have written already is read too.
    moved += Amount.of(1 + (back.input is not None), "input") if late else Amount()
    return Part(_total(amount * 2 for amount in numbers), Amount(), moved, _total(numbers))


def _size(source: Source, states: Mapping[str, Size], output: Size) -> Size:
    if source.column is not None:
        return source.column.size
    if source.kind in ("output", "d_output"):
        return output
    return "input" if source.kind == "x" else states[source.slot]


def _parameter(product: Node) -> Parameter:
    parameter = product.inputs[1].attribute
    assert isinstance(parameter, Parameter)
    return parameter


def _numbers(parameter: Parameter) -> Amount:
    return Amount.of(Fraction(1, parameter.blocks), *parameter.sizes)


def _widest(node: Node) -> Size:
    """Over how many units an op works: a reduction over those of its operand."""
    return node.inputs[0].size if node.op in ("sum", "peak") else node.size


def _operations(node: Node) -> int:
    """Operations of one unit of a node."""
    exponent = node.inputs[1].attribute if node.op == "power" else None
    if isinstance(exponent, Constant) and exponent.value in (0.5, -1):
        return OPERATIONS["divide"]
    if isinstance(exponent, Constant) and exponent.value in range(1, _LONGEST_CHAIN + 1):
        return int(exponent.value) - 1
    if node.op in OPERATIONS:
        return OPERATIONS[node.op]
    given = set(walk(node.inputs))
    assert node.op in OPS
    return sum(_operations(inner) for inner in walk([define(node)]) if inner.op != "leaf" and inner not in given)
