"""A picture that can be shown, saved and read as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cellula.errors import UsageError, missing_package
from cellula.graph.graph import Graph
from cellula.printers.diagram.compare import compare_scene
from cellula.printers.diagram.page import cell_scene
from cellula.printers.diagram.parts import Drawing
from cellula.printers.diagram.read import read_graph
from cellula.printers.diagram.scene import Scene
from cellula.printers.diagram.svg import print_svg

__all__ = ["Picture", "draw_cell", "draw_comparison"]

# More cells than these side by side are no picture any more, nor is a cell of more parts.
_MOST_STEPS, _MOST_CELLS, _MOST_PARTS = 12, 12, 300


@dataclass(frozen=True)
class Picture:
    """A diagram: SVG text, or a PNG file; a notebook shows it by itself.

    Args:
        scene: what to draw.
    """

    scene: Scene

    @cached_property
    def svg(self) -> str:
        """The picture as SVG."""
        return print_svg(self.scene)

    def png(self) -> bytes:
        """The picture as a PNG file, two pixels to a point.

        Raises:
            MissingPackageError: matplotlib is not installed.
        """
        try:
            # Heavy, and SVG does without it.
            from cellula.printers.diagram.png import print_png
        except ModuleNotFoundError as error:
            raise missing_package(error) from error
        return print_png(self.scene)

    def save(self, path: str | Path) -> None:
        """Write the picture to a file.

        Args:
            path: where to; its ending, `.svg` or `.png`, says what.

        Raises:
            UsageError: another ending.
            MissingPackageError: matplotlib is needed for PNG and is not installed.
        """
        ending = Path(path).suffix.lower()
        if ending == ".svg":
            Path(path).write_text(self.svg, encoding="utf-8")
        elif ending == ".png":
            Path(path).write_bytes(self.png())
        else:
            raise UsageError(f"a picture is written as .svg or .png, not as {str(path)!r}; write {Path(path).stem}.svg")

    def __str__(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<Picture of {self.scene.title}, {self.scene.width:.0f} x {self.scene.height:.0f} points>"

    def _repr_svg_(self) -> str:
        return self.svg


def draw_cell(graph: Graph, steps: int = 1) -> Picture:
    """The diagram of a cell.

    Args:
        graph: a checked cell.
        steps: how many cells to chain over time, 1 to 12.

    Raises:
        UsageError: a number of steps that is out of range, or a cell with too many parts for a picture.
    """
    if not isinstance(steps, int) or not 1 <= steps <= _MOST_STEPS:
        raise UsageError(f"steps = {steps!r} is out of range: a diagram shows 1 to {_MOST_STEPS} steps")
    return Picture(cell_scene(_read(graph), steps))


def draw_comparison(graphs: Sequence[Graph]) -> Picture:
    """The diagrams of several cells side by side.

    Args:
        graphs: two to twelve checked cells; what differs from the first one is marked in the others.

    Raises:
        UsageError: too few cells, or too many.
    """
    if not 2 <= len(graphs) <= _MOST_CELLS:
        raise UsageError(
            f"2 to {_MOST_CELLS} cells can be compared, not {len(graphs)}; write: cellula compare lstm gru"
        )
    return Picture(compare_scene([_read(graph) for graph in graphs]))


def _read(graph: Graph) -> Drawing:
    drawing = read_graph(graph)
    if len(drawing.parts) > _MOST_PARTS:
        raise UsageError(
            f"the diagram of {graph.name} would have {len(drawing.parts)} parts, and {_MOST_PARTS} are the most that "
            f"can be drawn; `cellula show {graph.name} --as latex` has no such limit"
        )
    return drawing
