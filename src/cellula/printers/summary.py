"""A cell at a glance: formula, nodes with their roles, parameters, states, sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cellula.errors import UsageError
from cellula.graph.classify import classify
from cellula.graph.graph import Graph
from cellula.printers.formula import print_expression, print_formula

__all__ = ["print_summary", "summarize"]

_ROLES = {"gate": "gate node", "layer": "layer node", "combination": "combination"}


def summarize(graph: Graph, sizes: Mapping[str, int]) -> dict[str, Any]:
    """All that there is to say of a cell, as plain data that can be written as JSON.

    Args:
        graph: a checked cell.
        sizes: how many units each size has, such as `{"input": 8, "hidden": 64}`.

    Returns:
        A dictionary with `name`, `title`, `description`, `references`, `formula`, `output`, `sizes`, `nodes`,
        `parameters`, `states`, `settings` and `parameter_count`.

    Raises:
        UsageError: a size of the cell is not given, or does not fit its blocks.

    Example:
        >>> from cellula import load_cell
        >>> from cellula.printers.summary import summarize
        >>> summarize(load_cell("elman"), {"input": 8, "hidden": 64})["parameter_count"]
        4672
    """
    missing = [name for name in graph.sizes if name not in sizes]
    if missing:
        raise UsageError(
            f"{graph.name} has a size {missing[0]!r} of its own; say how many units it has: {missing[0]}=32"
        )
    roles = classify(graph)
    shapes = {parameter.name: graph.shape(parameter, sizes) for parameter in graph.parameters}
    return {
        "name": graph.name,
        "title": graph.title,
        "description": graph.description,
        "references": list(graph.references),
        "formula": print_formula(graph),
        "output": graph.output,
        "sizes": {name: sizes[name] for name in graph.sizes},
        "nodes": [
            {
                "name": e.name,
                "role": roles[e.name],
                "size": e.node.size,
                "formula": print_expression(e.value),
                "comment": e.comment,
            }
            for e in graph.equations
        ],
        "parameters": [
            {
                "name": p.name,
                "kind": p.kind,
                "sizes": list(p.sizes),
                "blocks": p.blocks,
                "triangle": p.triangle,
                "learned": p.learned,
                "form": p.form,
                "shape": list(shapes[p.name]),
            }
            for p in graph.parameters
        ],
        "states": [{"name": state.slot, "size": state.size, "lag": state.lag} for state in graph.states],
        "settings": {setting.name: setting.default for setting in graph.settings},
        "parameter_count": graph.parameter_count(sizes),
        "given_count": graph.parameter_count(sizes, given=True) - graph.parameter_count(sizes),
    }


def print_summary(summary: Mapping[str, Any]) -> str:
    """The summary as text for people."""
    parts = [f"{summary['name']}: {summary['title']}" if summary["title"] else str(summary["name"])]
    formula = str(summary["formula"])
    body = formula.split('"""', 2)[-1] if formula.startswith('"""') else formula
    parts += [summary["description"]] if summary["description"] else []
    parts += [f"Reference: {reference}" for reference in summary["references"]]
    parts += ["", _indented(body.strip("\n")), ""]
    nodes = [(node["name"], _ROLES[node["role"]], node["size"] or "1", node["comment"]) for node in summary["nodes"]]
    parts += ["nodes", _table(nodes), ""]
    parameters = [
        (p["name"], p["form"], " x ".join(p["sizes"]) or "1", " x ".join(map(str, p["shape"])) or "1")
        for p in summary["parameters"]
    ]
    parts += ["parameters", _table(parameters), ""]
    states = ", ".join(f"{state['name']} ({state['size'] or 1})" for state in summary["states"])
    parts.append(f"memory      {states or 'none: every step by itself'}")
    if summary["settings"]:
        parts.append("settings    " + ", ".join(f"{name} = {value:g}" for name, value in summary["settings"].items()))
    parts.append("sizes       " + ", ".join(f"{name} = {value}" for name, value in summary["sizes"].items()))
    parts.append(f"learned     {summary['parameter_count']:,} numbers")
    if any(not p["learned"] for p in summary["parameters"]):
        parts.append(f"given       {summary['given_count']:,} numbers that training does not change")
    return "\n".join(parts)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" if line else "" for line in text.split("\n"))


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their longest entry."""
    if not rows:
        return "  none"
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        ("  " + "  ".join(f"{entry:<{width}}" for entry, width in zip(row, widths, strict=True))).rstrip()
        for row in rows
    )
