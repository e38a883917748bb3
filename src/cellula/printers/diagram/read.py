"""A graph -> the parts of its picture, with the memories that pass through."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from cellula.graph.classify import classify
from cellula.graph.graph import Equation, Graph
from cellula.graph.node import Input, State
from cellula.printers.diagram.build import PartBuilder
from cellula.printers.diagram.memory import find_memories
from cellula.printers.diagram.parts import Drawing, Entry, Part
from cellula.printers.diagram.text import Run, joined, name_line, roman
from cellula.printers.formula import print_expression

__all__ = ["read_graph"]

# A longer delay is drawn by its two ends only; between them values wait.
_LAGS_DRAWN = 3
_EDGES = ("input", "state_in")


def read_graph(graph: Graph) -> Drawing:
    """The parts of a cell's picture.

    A linear map with what is added to it and its activation is one part, as textbooks draw it; products, sums and
    functions of values are parts of their own. Weights and settings are text within the parts.

    Args:
        graph: a checked cell.
    """
    builder, roles = PartBuilder(graph), classify(graph)
    for equation in graph.equations:
        builder.owner = equation.name
        number = builder.value(equation.value)
        builder.known[equation.node] = number
        builder.parts[number] = _named(builder.parts[number], equation, roles[equation.name])
    _leave(graph, builder)
    drawing = Drawing(graph.name, graph.title, tuple(_joined(builder.parts)))
    return replace(drawing, memories=find_memories(drawing))


def _named(part: Part, equation: Equation, role: str) -> Part:
    """A part that an equation names: with its name, its role and what there is to say of it."""
    comment = " ".join(equation.comment.split())
    about = f"{equation.name}[t] = {print_expression(equation.value)}" + (f"  # {comment}" if comment else "")
    about = f"{part.about}\n{about}" if part.names or part.kind in _EDGES else about
    names = (*part.names, equation.name)
    another = (*part.label, Run(", ")) if part.names else ()
    part = replace(part, names=names, label=joined(another, name_line(equation.name, 0)), about=about)
    if len(names) > 1 or part.kind in _EDGES or role in ("combination", part.kind):
        return part
    if part.kind == "parameter" and role != "gate":
        return part
    # A gate or a layer that is no layer of neurons keeps what it does as its label.
    sign = {"product": "×", "sum": "+"}.get(part.kind, "") if not part.title and not part.inside else ""
    return replace(part, kind=role, title=roman(sign) if sign else part.title)


def _leave(graph: Graph, builder: PartBuilder) -> None:
    """What leaves the cell: the output, and the states for the next step."""
    source = builder.known[graph.equation[graph.output].node]
    about = f"{graph.output}[t]: the output"
    title = name_line(graph.output, 0)
    builder.append(Part("output", (Entry(source),), title, slot=graph.output, about=about))
    longest = Counter({state.name: 0 for state in graph.states})
    for state in graph.states:
        longest[state.name] = max(longest[state.name], state.lag)
    for state in graph.states:
        if state.lag > 1 and longest[state.name] > _LAGS_DRAWN:
            continue
        step = "t" if state.lag == 1 else f"t-{state.lag - 1}"
        # A state that only waits for a later step stands at the left edge too.
        builder.edge(state)
        entry = Entry(_newest(graph, builder, state))
        about = f"{state.name}[{step}]: for the next step"
        title = name_line(state.name, 1 - state.lag)
        builder.append(Part("state_out", (entry,), title, slot=state.slot, about=about))


def _newest(graph: Graph, builder: PartBuilder, state: State) -> int:
    """The part that a state takes its value from for the next step."""
    if state.lag > 1:
        return builder.edge(State(state.name, state.lag - 1, state.size))
    if state.name == "x":
        return builder.edge(Input(size=state.size))
    return builder.known[graph.equation[state.name].node]


def _joined(parts: list[Part]) -> list[Part]:
    """Bundle what several layers of neurons read together: one line leads to all of them."""
    found = list(parts)
    while bundle := _best_bundle(found):
        join = len(found)
        for number, part in enumerate(found):
            if bundle <= _dense(part):
                rest = (entry for entry in part.entries if entry.how != "dense" or entry.source not in bundle)
                found[number] = replace(part, entries=(Entry(join, "dense"), *rest))
        entries = tuple(Entry(source, "dense") for source in sorted(bundle))
        found.append(Part("join", entries, about="read together"))
    return found


def _best_bundle(parts: list[Part]) -> frozenset[int]:
    """The sources whose bundling saves the most lines; none where it saves nothing."""
    sets = [dense for part in parts if len(dense := _dense(part)) > 1]
    candidates = {one & other for one in sets for other in sets if len(one & other) > 1}
    saved = {
        bundle: (sum(bundle <= dense for dense in sets) - 1) * (len(bundle) - 1)
        for bundle in sorted(candidates, key=sorted)
    }
    best = max(saved, key=lambda bundle: (saved[bundle], len(bundle)), default=frozenset())
    return best if saved.get(best) else frozenset()


def _dense(part: Part) -> frozenset[int]:
    """The sources that a layer of neurons reads through matrices."""
    return frozenset(entry.source for entry in part.entries if entry.how == "dense" and part.kind != "join")
