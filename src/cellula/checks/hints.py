"""The table of hints: what is no mistake in a formula and deserves a thought, with what to write instead."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cellula.checks.carried import gate_of, leads_around, ways
from cellula.checks.report import Hint
from cellula.checks.start import Start
from cellula.graph.classify import classify
from cellula.graph.graph import Graph
from cellula.graph.node import Input, Node, Parameter, State

__all__ = ["HINTS", "HintKind", "find_hints"]

# Functions whose slope is at most 1/4.
_FLAT = ("sigmoid", "hard_sigmoid")
# Functions that have no upper bound, so that a matrix in a loop with them can blow up or die.
_UNBOUNDED = {"relu", "leaky_relu", "elu", "gelu", "silu", "softplus"}
# A gate this near 1/2 is undecided; one outside these bounds is saturated, if most of it is.
_UNDECIDED, _SATURATED, _MOST = 0.02, 0.01, 0.5
# A memory of fewer steps than this is short for any task.
_SHORT = 3
# A state that grows by this factor from the first half of the steps to the second has no bound.
_GROWTH = 10.0

Found = tuple[str, str, str]


@dataclass(frozen=True)
class HintKind:
    """One row of the table.

    Args:
        meaning: what the hint is about, in a sentence.
        find: gives (where, message, what to write instead) for each place.
    """

    meaning: str
    find: Callable[[Start], Iterator[Found]]


def find_hints(start: Start) -> tuple[Hint, ...]:
    """All hints for a cell, in the order of the table.

    Args:
        start: the cell as it starts.
    """
    return tuple(
        Hint(kind, where, message, instead, _line(start.graph, where))
        for kind, row in HINTS.items()
        for where, message, instead in row.find(start)
    )


def _line(graph: Graph, name: str) -> int:
    """The line of a name's equation or declaration in the text; 0 where there is none."""
    for number, line in enumerate(graph.source.text.split("\n"), 1):
        left = line.partition("=")[0].split(":")[0].strip()
        if left in (f"{name}[t]", name):
            return number
    return 0


def _states(graph: Graph) -> list[str]:
    """The named nodes that are read one step back."""
    return [state.name for state in graph.states if state.lag == 1 and state.name != "x"]


def _keeping(graph: Graph) -> Iterator[tuple[str, str, bool]]:
    """(state, gate, turned): the gates that alone scale a state's old value, with no matrix on the way."""
    seen = set()
    for state in _states(graph):
        for way in ways(graph, state):
            if way.matrices or len(way.factors) != 1:
                continue
            gate = gate_of(graph, way.factors[0])
            if gate is not None and (state, gate) not in seen:
                seen.add((state, gate))
                yield state, *gate


def _forget_bias(start: Start) -> Iterator[Found]:
    graph = start.graph
    if start.lags.verdict != "vanishes":
        # Something else keeps what the gate lets go.
        return
    for state, gate, turned in _keeping(graph):
        value = start.quiet[gate]
        if float((value - 0.5).abs().max()) > _UNDECIDED:
            continue
        level = -1 if turned else 1
        bias = _bias(graph, graph.equation[gate].value)
        declared = f"{bias} = vector(init={level})"
        if bias is None:
            declared = f"add a bias to {gate}[t] within its function, {declared.replace('None', f'b_{gate}')}"
        kept = f"1 - {gate}" if turned else gate
        yield (
            gate,
            f"{kept} is about 1/2 at first, so that {state} loses half of what it holds at every step",
            f"{declared}, or {2 * level} and more for long memories: it remembers at first",
        )


def _bias(graph: Graph, value: Node) -> str | None:
    """The vector that is added within a gate's function."""
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node.attribute, Parameter) and node.attribute.kind == "vector":
            return node.attribute.name
        if node.op not in ("multiply", "matmul", "transposed"):
            stack += node.inputs
    return None


def _flat_state(start: Start) -> Iterator[Found]:
    graph, states = start.graph, _states(start.graph)
    looping = [state for state in states if leads_around(graph, state, ())]
    # Where another state is carried on as it is, that one is the memory.
    if any(leads_around(graph, state, _FLAT) for state in looping):
        return
    for state in looping[:1]:
        yield (
            state,
            f"every way from {state}[t-1] to {state}[t] goes through a sigmoid, whose slope is at most 1/4: what is "
            "stored fades at every step, and so does its gradient",
            f"leave the sum in {state}[t] as it is, with gates that keep it in bounds, or write tanh",
        )


def _grows(start: Start) -> Iterator[Found]:
    for state in _states(start.graph):
        sizes = start.nodes[state].abs().flatten(1).amax(1)
        early, late = (float(half.amax()) for half in sizes.chunk(2))
        if not math.isfinite(late) or late > _GROWTH * early > 0.0:
            steps = len(sizes)
            yield (
                state,
                f"grows without bound before any training: {early:.2g} within {steps // 2} steps of noise, "
                f"{late:.2g} within {steps}",
                "keep less of it (a gate, a leak such as 0.9), squash it (tanh), or start its matrix smaller; "
                "and clip gradients",
            )


def _no_gradient(start: Start) -> Iterator[Found]:
    for name in start.dead:
        yield (
            name,
            "never gets a gradient, so that it cannot be learned",
            "a way to the output without sign(), comparisons and conditions, which have none, or setting(...) where "
            "it is not meant to be learned",
        )


def _saturated(start: Start) -> Iterator[Found]:
    for name, role in classify(start.graph).items():
        value = start.nodes[name]
        stuck = float(((value < _SATURATED) | (value > 1 - _SATURATED)).double().mean())
        if role == "gate" and stuck > _MOST and start.graph.equation[name].value.op in _FLAT:
            yield (
                name,
                f"{stuck:.0%} of it is within {_SATURATED} of 0 or 1 at first, where its gradient is next to nothing",
                "smaller starting weights, such as matrix(init=normal(0.1)), or a bias nearer to 0",
            )


def _vanishes(start: Start) -> Iterator[Found]:
    lags = start.lags
    if lags.verdict == "vanishes" and lags.effective_memory < _SHORT:
        yield (
            start.graph.output,
            f"90 % of its gradient comes from the last {lags.effective_memory + 1} steps before any training, and it "
            f"shrinks by {lags.growth:.2g} a step",
            "a state that is carried on as it is (c[t] = f[t] * c[t-1] + ...), a forget bias of 1 or more, or an "
            "orthogonal recurrent matrix, where tasks need longer memories",
        )


def _explodes(start: Start) -> Iterator[Found]:
    if start.lags.verdict == "explodes":
        yield (
            start.graph.output,
            f"its gradient grows by {start.lags.growth:.3g} a step before any training",
            "gates or a leak on the way through time, recurrent matrices that start orthogonal with a gain below 1 "
            "(matrix(init=orthogonal(0.9))), and clipped gradients",
        )


def _unbounded_init(start: Start) -> Iterator[Found]:
    graph = start.graph
    told = set()
    for state in _states(graph):
        for way in ways(graph, state):
            if len(way.matrices) != 1 or not _UNBOUNDED.issuperset(way.functions) or not way.functions:
                continue
            matrix = way.matrices[0].attribute
            assert isinstance(matrix, Parameter)
            square = matrix.kind == "matrix" and matrix.sizes[0] == matrix.sizes[1]
            if matrix.init is None or matrix.init.kind in ("orthogonal", "identity") or not square or matrix in told:
                continue
            told.add(matrix)
            yield (
                matrix.name,
                f"leads from {state}[t-1] back to {state}[t] through {way.functions[0]}, which has no upper bound, and "
                f"starts {matrix.init.kind}: the state dies or blows up with its size",
                f"{matrix.name} = matrix(init=identity()), or no init at all: orthogonal",
            )


def _no_memory(start: Start) -> Iterator[Found]:
    if not start.graph.states:
        yield start.graph.output, "never looks back: every step stands by itself", "h[t-1] where a step should remember"


def _no_input(start: Start) -> Iterator[Found]:
    if not any(isinstance(node.attribute, Input | State) and node.attribute.name == "x" for node in start.graph.nodes):
        yield start.graph.output, "the input x[t] is never read", "x[t] @ W in the node that is to see the input"


HINTS: dict[str, HintKind] = {
    "forget-bias": HintKind("a gate that keeps a state starts at 1/2 (Jozefowicz et al. 2015)", _forget_bias),
    "flat-state": HintKind("a sigmoid around a state, on every way from its old value to its new one", _flat_state),
    "growing-state": HintKind("a state that grows without bound before any training", _grows),
    "no-gradient": HintKind("a parameter that never gets a gradient", _no_gradient),
    "saturated-gate": HintKind("a gate that starts at 0 or 1 for most inputs", _saturated),
    "unbounded-init": HintKind("a recurrent matrix under relu that starts neither orthogonal nor as the identity "
                               "(Le et al. 2015)", _unbounded_init),
    "vanishing": HintKind("nearly all of the gradient comes from three steps before any training", _vanishes),
    "exploding": HintKind("the gradient grows over time before any training", _explodes),
    "no-memory": HintKind("a cell without any state", _no_memory),
    "no-input": HintKind("a cell that does not read its input", _no_input),
}  # fmt: skip
