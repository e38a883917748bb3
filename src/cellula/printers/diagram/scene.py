"""What a picture is made of, whoever draws it: areas, lines and text, in points from the top left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from cellula.printers.diagram.text import Line

__all__ = ["Area", "Circle", "Group", "Item", "Points", "Scene", "Stroke", "Text", "shifted"]

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Area:
    """A closed outline.

    Args:
        points: its corners.
        fill, line: colours; None for no fill or no outline.
        thick: width of the outline.
        round: radius of its corners.
        dashed: whether the outline is dashed.
    """

    points: Points
    fill: str | None
    line: str | None = None
    thick: float = 1.0
    round: float = 0.0
    dashed: bool = False


@dataclass(frozen=True)
class Circle:
    """A circle; see `Area` for its looks."""

    x: float
    y: float
    radius: float
    fill: str | None
    line: str | None = None
    thick: float = 1.0
    dashed: bool = False


@dataclass(frozen=True)
class Stroke:
    """An open line.

    Args:
        points: its corners.
        line: colour.
        thick: its width.
        round: radius of its corners.
        dashed: whether it is dashed.
    """

    points: Points
    line: str
    thick: float = 1.0
    round: float = 0.0
    dashed: bool = False


@dataclass(frozen=True)
class Text:
    """One line of text.

    Args:
        x, y: where it stands: y is the line that letters stand on.
        line: the text.
        size: of its letters.
        colour: of its letters.
        anchor: whether x is its `"start"`, `"middle"` or `"end"`.
        room: how wide it may be.
    """

    x: float
    y: float
    line: Line
    size: float
    colour: str = "#000000"
    anchor: str = "start"
    room: float = 0.0


@dataclass(frozen=True)
class Group:
    """Items that belong together.

    Args:
        items: from the lowest to the topmost.
        kind: what they are, such as `"gate"`.
        about: what to say of them to who points at them.
    """

    items: tuple[Item, ...]
    kind: str = ""
    about: str = ""


Item = Area | Circle | Stroke | Text | Group


@dataclass(frozen=True)
class Scene:
    """A picture.

    Args:
        width, height: its size.
        items: from the lowest to the topmost.
        title: what it shows, in one line.
    """

    width: float
    height: float
    items: tuple[Item, ...]
    title: str

    def leaves(self) -> Iterator[Area | Circle | Stroke | Text]:
        """Every item that is no group."""
        stack: list[Item] = list(reversed(self.items))
        while stack:
            item = stack.pop()
            if isinstance(item, Group):
                stack += reversed(item.items)
            else:
                yield item


def shifted(item: Item, x: float, y: float) -> Item:
    """The same item elsewhere."""
    if isinstance(item, Group):
        return replace(item, items=tuple(shifted(inner, x, y) for inner in item.items))
    if isinstance(item, Circle | Text):
        return replace(item, x=item.x + x, y=item.y + y)
    return replace(item, points=tuple((a + x, b + y) for a, b in item.points))
