"""What must hold of every picture, measured on the layout and on the SVG itself."""

import re
import unicodedata
import warnings
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from functools import cache
from itertools import combinations, pairwise

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

SVG = "{http://www.w3.org/2000/svg}"
BODIES = "gate layer function scale product sum parameter join state_in state_out input output".split()


@dataclass(frozen=True)
class Box:
    """A rectangle with a name for messages."""

    left: float
    top: float
    right: float
    bottom: float
    what: str = ""

    def overlaps(self, other, by=0.5):
        return (
            min(self.right, other.right) - max(self.left, other.left) > by
            and min(self.bottom, other.bottom) - max(self.top, other.top) > by
        )

    def within(self, other, by=0.5):
        return (
            self.left >= other.left - by
            and self.right <= other.right + by
            and self.top >= other.top - by
            and self.bottom <= other.bottom + by
        )


@cache
def text_width(text, style, weight, size):
    """The width by matplotlib's own fonts: nothing of ours takes part."""
    font = FontProperties(family="STIXGeneral", style=style, weight=weight, size=size)
    # Signs of East Asia fill a square; the box that stands for what the font lacks is wider.
    narrow = "".join(letter for letter in text if unicodedata.east_asian_width(letter) not in "WF")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        wide = text_to_path.get_text_width_height_descent(narrow, font, ismath=False)[0] if narrow else 0.0
    return wide + size * (len(text) - len(narrow))


def text_box(element):
    """The box of a <text> with its spans."""
    size, x, y = (float(element.get(key)) for key in ("font-size", "x", "y"))
    pieces = [(element.text or "", element)]
    for span in element:
        pieces += [(span.text or "", span), (span.tail or "", element)]
    wide, low, level = 0.0, 0.0, 0.0
    for text, owner in pieces:
        own = float(owner.get("font-size", size))
        if owner is not element:
            level += float(owner.get("dy", 0.0))
        low = max(low, level)
        wide += text_width(text, owner.get("font-style", "normal"), owner.get("font-weight", "normal"), own)
    left = {"start": x, "middle": x - wide / 2, "end": x - wide}[element.get("text-anchor", "start")]
    letters = "".join(text for text, _ in pieces)
    return Box(left, y - 0.7 * size, left + wide, y + 0.22 * size * (low > 0), letters)


def shape_box(element, what):
    """The box of a <path> or a <circle>."""
    if element.tag == f"{SVG}circle":
        x, y, radius = (float(element.get(key)) for key in ("cx", "cy", "r"))
        return Box(x - radius, y - radius, x + radius, y + radius, what)
    numbers = [float(number) for number in re.findall(r"-?\d+\.?\d*", element.get("d"))]
    return Box(min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2]), what)


@dataclass
class Measured:
    """A parsed SVG: its canvas, the bodies of its parts, the labels in them, and all other texts."""

    canvas: Box
    bodies: list
    inside: list
    labels: list
    texts: list
    legs: list


def measure(svg):
    """Parse an SVG file; an error where it is no XML."""
    root = ElementTree.fromstring(svg)
    canvas = Box(0, 0, float(root.get("width")), float(root.get("height")), "canvas")
    found = Measured(canvas, [], [], [], [text_box(text) for text in root.iter(f"{SVG}text")], [])
    for group in root.iter(f"{SVG}g"):
        if group.get("class") == "wires":
            found.legs += [leg for path in group.findall(f"{SVG}path") for leg in _legs(path)]
        if group.get("class") not in BODIES:
            continue
        drawn = [child for child in group if child.tag in (f"{SVG}path", f"{SVG}circle")]
        body = shape_box(drawn[0], group.findtext(f"{SVG}title"))
        found.bodies.append(body)
        for text in group.iter(f"{SVG}text"):
            box = text_box(text)
            if text.get("text-anchor") == "middle" or (box.left < body.right - 1 and box.overlaps(body, 2)):
                found.inside.append((box, body))
            else:
                found.labels.append(box)
    return found


def _legs(path):
    """The boxes of the legs of a line."""
    if path.get("fill") != "none":
        return []
    numbers = [float(number) for number in re.findall(r"-?\d+\.?\d*", path.get("d"))]
    points = list(zip(numbers[::2], numbers[1::2], strict=True))
    return [Box(min(x, a), min(y, b), max(x, a), max(y, b), "a wire") for (x, y), (a, b) in pairwise(points)]


def faults_of_svg(svg):
    """What is wrong with an SVG, in words."""
    found = measure(svg)
    faults = [f"{text.what!r} leaves the canvas" for text in found.texts if not text.within(found.canvas)]
    faults += [f"{body.what!r} leaves the canvas" for body in found.bodies if not body.within(found.canvas)]
    faults += [f"{text.what!r} is cut off by {body.what!r}" for text, body in found.inside if not text.within(body)]
    for one, other in combinations(found.bodies, 2):
        if one.overlaps(other) and one != other:
            faults.append(f"{one.what!r} overlaps {other.what!r}")
    for label in found.labels:
        faults += [f"label {label.what!r} overlaps {body.what!r}" for body in found.bodies if label.overlaps(body, 1)]
        wide = Box(label.left, label.top, label.right, label.bottom - 2, label.what)
        faults += [f"a wire crosses label {label.what!r}" for leg in found.legs if _touches(wide, leg)]
    for one, other in combinations(found.texts, 2):
        if one.overlaps(other, 1):
            faults.append(f"text {one.what!r} overlaps text {other.what!r}")
    return faults


def _touches(box, leg):
    """Whether a line, which has no width, runs through a box."""
    return leg.left < box.right and leg.right > box.left and leg.top < box.bottom and leg.bottom > box.top


def faults_of_layout(layout):
    """What is wrong with the wires of a layout, in words."""
    faults = []
    parts = layout.drawing.parts
    bodies = [
        Box(p.x - p.shape.half, p.y - p.shape.above, p.x + p.shape.half, p.y + p.shape.below, part.about)
        for p, part in zip(layout.places, parts, strict=True)
    ]
    for wire in layout.wires:
        near = {wire.source} | {end[0] for end in (wire.starts, wire.ends) if end is not None}
        for (x, y), (a, b) in pairwise(wire.points):
            if x != a and y != b:
                faults.append(f"a wire of {parts[wire.source].about!r} is neither level nor upright")
            leg = Box(min(x, a) - 1, min(y, b) - 1, max(x, a) + 1, max(y, b) + 1)
            faults += [
                f"a wire of {parts[wire.source].about!r} passes through {body.what!r}"
                for number, body in enumerate(bodies)
                if number not in near and leg.overlaps(body, 0.1)
            ]
    for one, other in combinations(layout.wires, 2):
        if one.source != other.source and any(
            _lie_together(a, b) for a in pairwise(one.points) for b in pairwise(other.points)
        ):
            faults.append(f"wires of {parts[one.source].about!r} and {parts[other.source].about!r} lie on each other")
    for source, number, _ in layout.drawing.wires:
        if layout.places[source].x >= layout.places[number].x:
            faults.append(f"{parts[source].about!r} does not lie left of {parts[number].about!r}")
    return faults + _faults_of_memories(layout)


def _lie_together(one, other):
    """Whether two legs run along each other, or nearer than a reader can tell apart."""
    for axis in (0, 1):
        (low, high), (near, far) = (sorted(point[1 - axis] for point in leg) for leg in (one, other))
        same = one[0][axis] == one[1][axis] and other[0][axis] == other[1][axis]
        if same and abs(one[0][axis] - other[0][axis]) < 4 and min(high, far) - max(low, near) > 1:
            return True
    return False


def _faults_of_memories(layout):
    """Long memory runs along the top, short memory along the bottom; each leaves at the height at which it came."""
    faults = []
    inner = [
        (number, place)
        for number, (place, part) in enumerate(zip(layout.places, layout.drawing.parts, strict=True))
        if part.kind not in ("input", "output", "state_in", "state_out", "join")
    ]
    for memory in layout.drawing.memories:
        if memory.end is None:
            continue
        start, end = layout.places[memory.start], layout.places[memory.end]
        if start.y != end.y:
            faults.append(f"{memory.slot} leaves at another height")
        maker = layout.drawing.parts[memory.end].entries[0].source
        own = {*(part for other in layout.drawing.memories for part in other.rail), maker}
        own |= {number for source, number, _ in layout.drawing.wires if source == memory.start}
        for number, place in inner:
            if number not in own and (place.y <= start.y) == memory.top:
                faults.append(f"{layout.drawing.parts[number].about!r} lies beyond {memory.slot}")
    return faults
