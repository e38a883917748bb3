"""The documentation page of a cell, as Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cellula.backends.c.spelling import NATIVE
from cellula.cells.about import About, about
from cellula.cells.catalogue import cells
from cellula.graph.classify import classify
from cellula.graph.graph import Graph
from cellula.graph.inits import default_init
from cellula.graph.node import Init, Parameter
from cellula.plan.backward import make_backward
from cellula.plan.costs import costs, step_costs
from cellula.plan.kernel import make_kernel
from cellula.plan.plan import make_plan
from cellula.printers.bptt_latex import print_bptt_latex
from cellula.printers.formula import print_expression, print_formula
from cellula.printers.latex import print_latex

__all__ = ["Memory", "print_page"]

# For counts and costs.
_UNITS = 128
_ROLES = {"gate": "gate node", "layer": "layer node", "combination": "combination"}


@dataclass(frozen=True)
class Memory:
    """What was measured of a cell's memory.

    Args:
        verdict, growth, effective_memory, cut_off: as in `GradientOverLags`.
        steps: how many were looked at.
        picture: the name of the picture's file; empty where there is none.
    """

    verdict: str
    growth: float
    effective_memory: int
    cut_off: bool
    steps: int
    picture: str = ""


def print_page(graph: Graph, diagram: str, memory: Memory, notice: str = "") -> str:
    """All that there is to say of a cell of the zoo: formula, equations, picture, parameters, cost, gradients, memory.

    Args:
        graph: the cell.
        diagram: the name of the picture's file.
        memory: what was measured.
        notice: a comment at the beginning.

    Returns:
        Markdown with mathematics as GitHub shows it.

    Example:
        >>> from cellula import load_cell
        >>> from cellula.cells.page import Memory, print_page
        >>> page = print_page(load_cell("elman"), "elman.svg", Memory("vanishes", 0.7, 6, False, 200))
        >>> page.splitlines()[0]
        '# Elman network, the simple recurrent network'
    """
    said = about(graph)
    parts = [
        f"{notice}# {said.title}",
        f"`{graph.name}` | [all cells](../cells.md) | [the language](../language.md)",
        *_about(graph, said),
        f"## Formula\n\n```text\n{_body(graph)}\n```",
        f"{_mathematics(print_latex(graph))}",
        f"## Diagram\n\n![The diagram of {graph.name}]({diagram})\n\n[How to read it](../diagrams.md#how-to-read-it).",
        _nodes(graph),
        _parameters(graph),
        _cost(graph),
        _gradients(graph),
        _memory(graph, memory),
        _use(graph),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _about(graph: Graph, said: About) -> list[str]:
    """What the docstring says, with links to the cells that it names."""
    parts = [said.description]
    labels = {"Good for": said.good_for, "Not to be confused with": said.not_to_be_confused_with, "Start": said.start}
    parts += [f"**{label}:** {text}" for label, text in labels.items() if text]
    references = "\n".join(f"- {reference.text}" for reference in said.references)
    linked = [re.sub(r"`(\w+)`", lambda found: _linked(found, graph.name), part) for part in parts]
    return [*linked, f"**{'References' if len(said.references) > 1 else 'Reference'}**\n\n{references}"]


def _linked(found: re.Match[str], own: str) -> str:
    name = found[1]
    return f"[`{name}`]({name}.md)" if name in cells() and name != own else found[0]


def _body(graph: Graph) -> str:
    text = print_formula(graph)
    return (text.split('"""', 2)[-1] if text.startswith('"""') else text).strip("\n")


def _mathematics(latex: str) -> str:
    r"""A block that GitHub shows; it refuses \operatorname."""
    text = latex.replace(r"\operatorname{", r"\mathrm{")
    return f"```math\n{text}\n```"


def _table(head: str, rows: list[tuple[str, ...]]) -> str:
    lines = [head, "|---" * (head.count("|") - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)])


def _nodes(graph: Graph) -> str:
    roles = classify(graph)
    rows = [
        (f"`{e.name}`", _ROLES[roles[e.name]], e.node.size or "1", f"`{print_expression(e.value)}`", e.comment)
        for e in graph.equations
    ]
    states = ", ".join(f"`{state.slot}`" for state in graph.states)
    memory = f"It remembers {states}." if states else "It remembers nothing: every step stands by itself."
    table = _table("| node | what it is | units | computed from | |", rows)
    return f"## Nodes\n\n{table}\n\n{memory} The output is `{graph.output}`."


def _sizes(graph: Graph) -> dict[str, int]:
    return {"input": _UNITS, "hidden": _UNITS, **dict.fromkeys(graph.extra_sizes, _UNITS)}


def _parameters(graph: Graph) -> str:
    sizes = _sizes(graph)
    named = ", ".join(f"{name} = {_UNITS}" for name in sizes)
    rows = [
        (f"`{p.name}`", p.form, " x ".join(p.sizes) or "1", _start(graph, p), _count(graph, p, sizes))
        for p in graph.parameters
    ]
    table = _table(f"| parameter | what it is | shape | starts | numbers at {named} |", rows)
    total = f"{graph.parameter_count(sizes):,} learned numbers in all."
    settings = "".join(f"\n- `{setting.name}` = {setting.default:g}" for setting in graph.settings)
    settings = f"\n\nSettings, which the caller may change:\n{settings}" if settings else ""
    return f"## Parameters\n\n{table}\n\n{total}{settings}"


def _count(graph: Graph, parameter: Parameter, sizes: Mapping[str, int]) -> str:
    number = 1
    for units in graph.shape(parameter, sizes):
        number *= units
    return f"{number:,}"


_STARTS: dict[str, Callable[..., str]] = {
    "constant": lambda value: f"{value}",
    "uniform": lambda low, high: f"uniform, {low} to {high}",
    "normal": lambda deviation: f"normal, deviation {deviation}",
    "xavier": lambda: "uniform, after Glorot and Bengio",
    "orthogonal": lambda gain: "orthogonal" if gain == "1" else f"orthogonal, times {gain}",
    "identity": lambda scale: "identity" if scale == "1" else f"identity, times {scale}",
}


def _start(graph: Graph, parameter: Parameter) -> str:
    """How a parameter starts, in words where there are some."""
    init: Init = parameter.init or default_init(graph, parameter)
    numbers = [value if isinstance(value, str) else f"{value:g}" for value in init.arguments]
    if init.kind in _STARTS:
        return _STARTS[init.kind](*numbers)
    return f"[`{init.kind}({', '.join(numbers)})`](../ops.md#how-parameters-start)"


def _cost(graph: Graph) -> str:
    sizes, kernel = _sizes(graph), make_kernel(graph, NATIVE, backward=True)
    found, each = costs(kernel, sizes), step_costs(kernel)
    rows = [
        ("forward", f"{found.forward:,.0f}", f"`{each.forward.products + each.forward.units}`"),
        ("backward", f"{found.backward + found.after:,.0f}",
         f"`{each.backward.products + each.backward.units + each.after.products + each.after.units}`"),
        ("bytes kept for the way back (float32)", f"{found.saved_bytes:,.0f}", f"`4 * ({each.saved})`"),
    ]  # fmt: skip
    table = _table("| a step of one sequence | | operations |", rows)
    passes = " and ".join(
        f"{count} {'pass' if count == 1 else 'passes'} {way}"
        for count, way in zip(found.passes, ("forward", "back"), strict=True)
    )
    plan = "[plan of its kernels](../architecture.md#every-stage-can-be-printed)"
    return f"## Cost\n\nAt the same sizes, by the {plan}:\n\n{table}\n\n{passes} a step."


def _gradients(graph: Graph) -> str:
    """The equations of the backward step; the forward ones stand above already."""
    text = print_bptt_latex(make_backward(make_plan(graph)))
    # Prose and equations in turn.
    parts = re.split(r"(\\begin{align\*}.*?\\end{align\*})", text, flags=re.DOTALL)[2:]
    pairs = [(prose, equations) for prose, equations in zip(parts[::2], parts[1::2], strict=False) if "&=" in equations]
    shown = [f"{_inline(prose)}\n\n{_mathematics(equations)}" for prose, equations in pairs]
    return "\n\n".join(["## Backpropagation through time", *shown])


def _inline(text: str) -> str:
    """Prose with mathematics in it, as GitHub reads it for certain."""
    return re.sub(r"\$([^$]+)\$", r"$`\1`$", " ".join(text.split()))


def _memory(graph: Graph, memory: Memory) -> str:
    how = (
        f"At the start of training, with input = hidden = {_UNITS} and normal noise as input, the gradient of the last "
        f"of {memory.steps} outputs"
    )
    if memory.verdict == "no memory":
        return f"## Memory\n\n{how} reaches back no step: there is no memory."
    if memory.verdict == "no gradient":
        return f"## Memory\n\n{how} is 0 everywhere: the output does not follow the input smoothly."
    reach = f"90 % of it comes from the last {memory.effective_memory + 1} steps"
    reach += ", and it reaches further back than that" if memory.cut_off else ""
    text = f"{how} {memory.verdict}: it changes by a factor of {memory.growth:g} a step back, and {reach}."
    text = text.replace(" steady:", " is steady:")
    picture = f"![The gradient of {graph.name} over lags]({memory.picture})\n\n" if memory.picture else ""
    return f"## Memory\n\n{picture}{text} [What this means](../check.md#gradient-over-lags)."


def _use(graph: Graph) -> str:
    parts = 1
    for parameter in graph.parameters:
        parts = max(parts, parameter.blocks * parameter.triangle)
    hidden = 8 if 8 % parts == 0 else parts
    own = "".join(f", {name}={hidden}" for name in graph.extra_sizes)
    sets = "".join(f" --set {name}={hidden}" for name in graph.extra_sizes)
    python = (
        ">>> import torch\n>>> from cellula import Recurrent\n"
        f'>>> layer = Recurrent("{graph.name}", input_size=3, hidden_size={hidden}{own})\n'
        ">>> output, state = layer(torch.randn(20, 4, 3))     # [T, B, I]"
    )
    shell = f"cellula show {graph.name}\ncellula check {graph.name} --hidden {hidden * 8}{sets}"
    shell += "" if graph.extra_sizes else f"\ncellula train forecast --cell {graph.name}"
    return f"## Use\n\n```python\n{python}\n\n```\n\n```text\n{shell}\n```"
