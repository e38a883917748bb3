"""A lens on a layer: what its gates and states do over time, and how far back it remembers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cellula.errors import RunError, UsageError, missing_package
from cellula.graph.classify import bounds, classify
from cellula.graph.graph import Graph
from cellula.graph.names import nearest
from cellula.inspection.carry import carriers
from cellula.inspection.hints import hints_on
from cellula.inspection.memory import GradientOverLags, gradient_over_lags
from cellula.inspection.recorded import Recorded
from cellula.inspection.subject import Shown, Subject, evaluating, find_subject
from cellula.inspection.text import print_lens
from cellula.nn.recurrent import Recurrent

if TYPE_CHECKING:
    from cellula.inspection.drawing import Drawing

__all__ = ["Lens", "lens"]


@dataclass(frozen=True, eq=False)
class Lens:
    """What a layer did with an input; `lens` makes one. It prints itself.

    Args:
        cell: the name of the cell.
        nodes: every recorded node of every layer, in order of the formula.
        output: the node that leaves the cell.
        shown: the input, as a person knows it.
        memory: how far back the gradient of the last output reaches; None for a single step.
        hints: what deserves attention, in words.
        characters: for every row the text that it reads, one character a step; nothing where it is no text.
        row_names: of the sequences; nothing where they have no names.
        part: the name of the layer in a model that has several; nothing for a bare one.
    """

    cell: str
    nodes: tuple[Recorded, ...]
    output: str
    shown: Shown
    memory: GradientOverLags | None
    hints: tuple[str, ...]
    characters: tuple[str, ...] = ()
    row_names: tuple[str, ...] = ()
    part: str = ""

    @property
    def steps(self) -> int:
        """Steps of the layer, T."""
        return self.nodes[0].values.shape[0]

    @property
    def rows(self) -> int:
        """Sequences, B."""
        return self.nodes[0].values.shape[1]

    @property
    def layers(self) -> int:
        """Layers, counted over directions too, L*D."""
        return max(node.layer for node in self.nodes) + 1

    @property
    def names(self) -> tuple[str, ...]:
        """The recorded nodes."""
        return tuple(dict.fromkeys(node.name for node in self.nodes))

    def node(self, name: str, layer: int = 0) -> Recorded:
        """One node over time.

        Args:
            name: a recorded node.
            layer: 0 ... L*D-1.

        Raises:
            UsageError: there is no such node or layer.
        """
        if name not in self.names:
            raise UsageError(f"{name!r} was not recorded: {nearest(name, self.names, 'there is ' + _listed(self))}")
        for node in self.nodes:
            if (node.name, node.layer) == (name, layer):
                return node
        raise UsageError(f"layer {layer!r} is not there; write a number from 0 to {self.layers - 1}")

    def heat_map(self, *names: str, row: int = 0, layer: int = 0, order: str = "none") -> Drawing:
        """Draw units over time, with the input above on the same axis.

        Args:
            names: nodes, one panel each; without any all gates and states.
            row: which sequence.
            layer: 0 ... L*D-1.
            order: of the units: "none", "time" (slow ones first) or "similarity"; that of the last panel's node, for
                all panels of its size.

        Returns:
            A drawing, which a notebook shows and `save` writes.

        Raises:
            UsageError: there is no such node, row, layer or order.
            MissingPackageError: matplotlib is not installed.
        """
        return _drawings().heat_map(self, names, row, layer, order)

    def plot(self) -> Drawing:
        """Draw all gates and states of the first sequence: `heat_map` with nothing said."""
        return self.heat_map()

    def trace(self, unit: int, *names: str, row: int = 0, layer: int = 0) -> Drawing:
        """Draw one unit over time, its gates and its states, with the input above on the same axis.

        Args:
            unit: 0 ... H-1.
            names: nodes; without any all gates, layers and states that have the unit.
            row: which sequence.
            layer: 0 ... L*D-1.

        Raises:
            UsageError: there is no such unit, node, row or layer.
            MissingPackageError: matplotlib is not installed.
        """
        return _drawings().trace(self, unit, names, row, layer)

    def saturation(self, layer: int = 0) -> Drawing:
        """Draw how often every unit is saturated: one panel a gate or layer node, one dot a unit.

        Raises:
            UsageError: no recorded node has bounds.
            MissingPackageError: matplotlib is not installed.

        Reference: Karpathy, Johnson & Fei-Fei 2015, figure 2.
        """
        return _drawings().saturation(self, layer)

    def memory_curve(self) -> Drawing:
        """Draw how far back the gradient of the last output reaches.

        Raises:
            UsageError: the input has a single step.
            MissingPackageError: matplotlib is not installed.
        """
        return _drawings().memory_curve(self)

    def coloured_text(self, unit: int, name: str | None = None, row: int = 0, layer: int = 0) -> Drawing:
        """Draw the text with every character coloured by one unit after reading it; `html()` of it is a page.

        Args:
            unit: 0 ... H-1.
            name: a node; None for the output.
            row: which sequence.
            layer: 0 ... L*D-1.

        Raises:
            UsageError: the input is no text (`characters=`), or there is no such unit, node, row or layer.
            MissingPackageError: matplotlib is not installed.

        Reference: Karpathy, Johnson & Fei-Fei 2015.
        """
        return _drawings().coloured_text(self, unit, name, row, layer)

    def save(
        self,
        folder: str | PathLike[str],
        *names: str,
        units: Sequence[int] = (0,),
        row: int = 0,
        layer: int = 0,
        order: str = "none",
        form: str = "png",
    ) -> tuple[Path, ...]:
        """Write the pictures and `lens.json`.

        Args:
            folder: made where it does not exist; files of the same names are replaced.
            names: nodes of the heat map and the traces; without any all gates and states.
            units: of which to draw traces, and coloured texts where the input is text.
            row, layer, order: see `heat_map`.
            form: "png" or "svg".

        Returns:
            The files.

        Raises:
            UsageError: there is no such node, unit, row, layer, order or form.
            RunError: the folder cannot be written.
            MissingPackageError: matplotlib is not installed.
        """
        if form not in ("png", "svg"):
            raise UsageError(f"form is {form!r}; write 'png' or 'svg'")
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot make the folder {folder}: {error.strerror or error}") from error
        drawings = {"heat-map": self.heat_map(*names, row=row, layer=layer, order=order)}
        if self.memory is not None:
            drawings["memory"] = self.memory_curve()
        if any(node.limits is not None and node.layer == layer for node in self.nodes):
            drawings["saturation"] = self.saturation(layer)
        for unit in units:
            drawings[f"trace-{unit}"] = self.trace(unit, *names, row=row, layer=layer)
            if self.characters:
                drawings[f"text-{unit}"] = self.coloured_text(unit, names[0] if names else None, row, layer)
        files = {f"{name}.{form}": drawing.encoded(form) for name, drawing in drawings.items()}
        files |= {f"{name}.html": drawing.html().encode() for name, drawing in drawings.items() if drawing.has_page}
        files["lens.json"] = (json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n").encode()
        try:
            for name, data in files.items():
                (folder / name).write_bytes(data)
        except OSError as error:
            raise RunError(f"cannot write to {folder}: {error.strerror or error}") from error
        return tuple(folder / name for name in files)

    def to_dict(self) -> dict[str, Any]:
        """All statistics as plain data for JSON; the values over time themselves are in `nodes`."""
        return {
            "cell": self.cell,
            "part": self.part or None,
            "steps": self.steps,
            "rows": self.rows,
            "layers": self.layers,
            "step": self.shown.step or None,
            "memory": None if self.memory is None else self.memory.to_dict(),
            "hints": list(self.hints),
            "nodes": [node.to_dict() for node in self.nodes],
        }

    def __str__(self) -> str:
        return print_lens(self)

    __repr__ = __str__


def lens(
    subject: Any,
    x: Any = None,
    state: Any = None,
    *,
    record: Sequence[str] | None = None,
    within: str | None = None,
    characters: str | Sequence[str] | None = None,
    input_names: Sequence[str] = (),
) -> Lens:
    """Look at what a layer does over time, trained or not.

    Args:
        subject: a `Recurrent`; a module with one in it, which is run on `x`; or a fitted or loaded `Forecaster`.
        x: the input [T, B, I] ([B, T, I] with `batch_first`); for a module what it is called with, a tuple where that
            is several; for a forecaster the data as for `predict`, None for the newest rows that it has.
        state: where a `Recurrent` starts; None for its initial state.
        record: the nodes to look at; None for all gates, layers and states, and the output.
        within: the name of the layer in a module that has several (of a forecaster "encoder" or "decoder").
        characters: the text that the input encodes, T characters, or one text a row.
        input_names: of the I columns of the input, for the pictures.

    Returns:
        A `Lens`: it prints itself, draws heat maps, traces, saturation, memory, coloured text, and saves them.

    Raises:
        UsageError: the input, a node or a name does not fit.

    Example:
        >>> import torch
        >>> import cellula
        >>> _ = torch.manual_seed(0)
        >>> found = cellula.lens(cellula.Recurrent("gru", 3, 8), torch.randn(50, 1, 3))
        >>> found.memory.verdict
        'vanishes'
        >>> found.node("z").values.shape
        (50, 1, 8)

    Reference: Karpathy, Johnson & Fei-Fei 2015, Visualizing and Understanding Recurrent Networks.
    """
    found = find_subject(subject, x, state, within)
    layer = found.layer
    names = _recorded_names(layer.graph, record)
    with evaluating(layer), torch.no_grad():
        _, _, values = layer(found.x, found.state, record=names)
    nodes = _nodes(layer, names, values)
    steps, rows = nodes[0].values.shape[:2]
    memory = None
    if steps > 1:
        memory = gradient_over_lags(layer, found.x, found.state, states=not layer.bidirectional)
    return Lens(
        # A cell that was read from text has no name, but may have a title.
        cell=layer.graph.title or "formula" if layer.graph.name == "formula" else layer.graph.name,
        nodes=nodes,
        output=layer.graph.output,
        shown=_named(found, tuple(input_names)),
        memory=memory,
        hints=hints_on(nodes, memory, carriers(layer.graph), steps),
        characters=_texts(characters, steps, rows),
        row_names=found.row_names,
        part=found.part,
    )


def _recorded_names(graph: Graph, record: Sequence[str] | None) -> tuple[str, ...]:
    """The nodes to look at."""
    if record is None:
        roles, states = classify(graph), {state.name for state in graph.states}
        return tuple(n for n in graph.equation if roles[n] != "combination" or n in states or n == graph.output)
    names = (record,) if isinstance(record, str) else tuple(record)
    if not names:
        raise UsageError("record names no node; leave it out for all gates, layers and states")
    # The layer itself complains about names that it does not have.
    return tuple(dict.fromkeys(names))


def _nodes(layer: Recurrent, names: Sequence[str], values: dict[str, Any]) -> tuple[Recorded, ...]:
    """What was recorded, by layer and node."""
    graph = layer.graph
    roles, ranges, states = classify(graph), bounds(graph), {state.name for state in graph.states}
    found = []
    for number in range(len(layer.layers)):
        for name in names:
            value = values[name][number]
            value = value.transpose(0, 1) if layer.batch_first else value  # [T, B, H]
            array, comment = value.detach().cpu().double().numpy(), graph.equation[name].comment
            found.append(Recorded(name, number, roles[name], name in states, ranges[name], comment, array))
    return tuple(found)


def _named(found: Subject, names: tuple[str, ...]) -> Shown:
    """What is shown beside the units, with the caller's names for it."""
    shown = found.shown
    if not names:
        return shown
    if len(names) != shown.values.shape[2]:
        raise UsageError(f"input_names has {len(names)} names, but there are {shown.values.shape[2]} columns")
    return Shown(shown.values, names, shown.rows_per_step, shown.title, shown.step)


def _texts(characters: str | Sequence[str] | None, steps: int, rows: int) -> tuple[str, ...]:
    """For every row its text."""
    if characters is None:
        return ()
    texts = (characters,) if isinstance(characters, str) else tuple(characters)
    if len(texts) != rows:
        raise UsageError(f"characters has {len(texts)} texts, but the input has {rows} rows; give one text a row")
    for text in texts:
        if len(text) != steps:
            raise UsageError(f"a text of characters has {len(text)} characters, but the input has {steps} steps")
    return texts


def _listed(found: Lens) -> str:
    return ", ".join(found.names)


def _drawings() -> Any:
    """The pictures; matplotlib is heavy, and needed for nothing else here."""
    try:
        from cellula.inspection import drawings
    except ModuleNotFoundError as error:
        raise missing_package(error) from error
    return drawings
