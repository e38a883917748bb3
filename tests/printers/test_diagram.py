"""Diagrams of every cell of the zoo: nothing overlaps, nothing is cut off, few wires cross, all has its place."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings

from cellula import UsageError, build, cells, compare, diagram, load_cell
from cellula.graph.classify import classify
from cellula.printers.diagram.layout import arrange
from cellula.printers.diagram.read import read_graph
from cellula.printers.diagram.wires import Wire
from picture_checks import SVG, faults_of_layout, faults_of_svg, measure
from strategies import formulas

SOURCE = Path(__file__).parent.parent.parent / "src"
# How many crossings a picture may have: three, but for cells in which everything reads everything.
CROSSINGS = {"fgr_lstm": 15, "lru": 11, "slstm": 20, "nas": 4, "unicornn": 4, "lmu": 4, "phased_lstm": 18,
             "layer_norm_lstm_joint": 19, "ltc_synapses": 28}  # fmt: skip


@cache
def drawn(name):
    return arrange(read_graph(load_cell(name)))


@pytest.mark.parametrize("name", cells())
def test_nothing_overlaps_and_nothing_is_cut_off(name):
    assert faults_of_layout(drawn(name)) == []
    picture = str(diagram(name))
    assert faults_of_svg(picture) == []
    assert len(drawn(name).crossings) <= CROSSINGS.get(name, 3)
    page = SOURCE.parent / "docs" / "cells" / f"{name}.svg"
    assert page.read_text(encoding="utf-8") == picture, "run: python tools/make_docs.py"


@pytest.mark.parametrize("name", cells())
def test_every_node_is_drawn_as_what_it_is(name):
    graph, drawing = load_cell(name), read_graph(load_cell(name))
    kinds = {node: part.kind for part in drawing.parts for node in part.names}
    assert list(kinds) and set(kinds) == {equation.name for equation in graph.equations}
    for node, role in classify(graph).items():
        # A linear map within a combination is drawn as a layer too.
        assert kinds[node] == role or (role == "combination" and kinds[node] != "gate"), node
    shown = {slot for part in drawing.parts if part.kind == "state_in" for slot in [part.slot]}
    assert {state.slot for state in graph.states if state.lag == 1 or name != "tau_gru"} <= shown


@pytest.mark.parametrize("name", ["lstm", "mlp", "slstm", "tau_gru", "qrnn_fo"])
def test_cells_chained_over_time(name):
    picture = diagram(name, steps=3)
    assert faults_of_svg(str(picture)) == []
    graph = load_cell(name)
    texts = {text.what for text in measure(str(picture)).texts}
    assert {f"{graph.output}{step}" for step in ("t−1", "t", "t+1")} <= texts
    # A state between two cells is drawn once.
    chips = [g for g in ElementTree.fromstring(str(picture)).iter(f"{SVG}g") if g.get("class", "").startswith("state_")]
    ends = sum(memory.end is not None for memory in read_graph(graph).memories)
    starts = len(read_graph(graph).memories)
    assert len(chips) == 3 * ends + starts + 2 * (starts - ends)


@settings(max_examples=25)
@given(formulas())
def test_random_formulas_can_be_drawn(text):
    graph = build(text)
    assert faults_of_layout(arrange(read_graph(graph))) == []
    assert faults_of_svg(str(diagram(graph))) == []


def test_long_memory_lies_above_short_memory():
    layout = drawn("lstm")
    long, short = layout.drawing.memories
    assert (long.slot, long.long, short.slot, short.long) == ("c", True, "h", False)
    heights = [place.y for place in layout.places]
    inner = [y for y, part in zip(heights, layout.drawing.parts, strict=True) if part.kind in ("gate", "layer")]
    assert heights[long.start] < min(inner) and max(inner) < heights[short.start]
    assert [layout.drawing.parts[part].kind for part in long.rail] == ["product", "sum"]
    assert {memory.slot: memory.long for memory in drawn("gru").drawing.memories} == {"h": True}


def test_peepholes_are_told_from_what_is_read_through_weights():
    drawing = read_graph(load_cell("peephole_lstm"))
    cell_state = {n for n, part in enumerate(drawing.parts) if part.slot == "c" or part.names == ("c",)}
    reads = {
        part.names[0]: [entry.how for entry in part.entries if entry.source in cell_state]
        for part in drawing.parts
        if part.kind in ("gate", "layer")
    }
    assert reads == {"i": ["pointwise"], "f": ["pointwise"], "g": [], "o": ["pointwise"]}


def test_pictures_do_not_depend_on_the_order_of_sets():
    code = f"import sys\nsys.path.insert(0, {str(SOURCE)!r})\nfrom cellula import compare\n"
    code += "print(compare('slstm', 'gru'), end='')"
    found = [
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert found[0] == found[1] == str(compare("slstm", "gru"))


HOSTILE = '''"""</title></text><script>alert(1)</script> & "quotes" \\x00\\x1b\\ud800 %s.

Reference: <img src=x onerror=alert(1)>
"""
h[t] = tanh(x[t] @ W + h[t-1] @ U)  # </title><script>alert(2)</script> <!-- ]]> &amp; %s
'''


def test_text_of_a_formula_stays_text():
    svg = str(diagram(build(HOSTILE % ("'" * 3, "javascript:"), name="<b>&name")))
    root = ElementTree.fromstring(svg)
    assert {element.tag for element in root.iter()} <= {
        SVG + tag for tag in "svg title rect g path circle text tspan".split()
    }
    assert not any(key.startswith("on") or "href" in key for element in root.iter() for key in element.attrib)
    titles = [element.text for element in root.iter(f"{SVG}title")]
    assert any("</title><script>alert(2)</script>" in title for title in titles)
    assert "\x00" not in svg and "\x1b" not in svg and "script" not in {element.tag for element in root.iter()}


def test_long_titles_and_names_stay_in_the_picture():
    title = "Ein sehr langer Titel mit vielen Wörtern " * 8 + "漢字" * 60
    name = "a_name_of_forty_letters_as_long_as_allow"
    svg = str(diagram(f'"""{title}."""\n{name}[t] = sigmoid(x[t] @ W_{name[:30]})\nh[t] = {name}[t] * h[t-1]'))
    assert faults_of_svg(svg) == []


def test_a_cell_with_too_many_parts_is_refused():
    lines = [f"a{n}[t] = tanh({'x' if n == 0 else f'a{n - 1}'}[t] @ W{n})" for n in range(320)]
    with pytest.raises(UsageError, match="322 parts, and 300 are the most"):
        diagram("\n".join([*lines, "h[t] = a319[t]"]))


@pytest.mark.parametrize("steps", [0, 13, 1.5, "3"])
def test_a_wrong_number_of_steps_is_refused(steps):
    with pytest.raises(UsageError, match="1 to 12 steps"):
        diagram("lstm", steps=steps)


# The checkers themselves: each kind of fault is found where there is one.


def moved(layout, number, x=0.0, y=0.0):
    """The layout with one part elsewhere, its wires left behind."""
    places = list(layout.places)
    places[number] = replace(places[number], x=places[number].x + x, y=places[number].y + y)
    return replace(layout, places=tuple(places))


def number_of(layout, name):
    return next(n for n, part in enumerate(layout.drawing.parts) if name in part.names)


def test_the_checks_of_a_layout_find_what_is_wrong():
    layout = drawn("lstm")
    o, f = number_of(layout, "o"), number_of(layout, "f")
    assert any("passes through" in fault for fault in faults_of_layout(moved(layout, o, x=250)))
    assert any("beyond c" in fault for fault in faults_of_layout(moved(layout, f, y=-400)))
    assert any("left of" in fault for fault in faults_of_layout(moved(layout, f, x=-300)))
    start = layout.drawing.memories[0].start
    assert any("another height" in fault for fault in faults_of_layout(moved(layout, start, y=5)))
    double = Wire(number_of(layout, "g"), tuple((x, y + 1) for x, y in layout.wires[0].points))
    assert any(
        "lie on each other" in fault for fault in faults_of_layout(replace(layout, wires=(*layout.wires, double)))
    )


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            'font-size="16" text-anchor="middle" xml:space="preserve">tanh',
            'font-size="60" text-anchor="middle">tanh',
            "cut off",
        ),
        ('width="672.25"', 'width="302"', "leaves the canvas"),
        ('x="305.22" y="322.8"', 'x="465" y="310"', "overlaps"),
    ],
)
def test_the_checks_of_a_picture_find_what_is_wrong(old, new, fault):
    svg = str(diagram("lstm"))
    assert old in svg, svg[:200]
    assert any(fault in found for found in faults_of_svg(svg.replace(old, new)))


def test_what_is_no_xml_is_found():
    with pytest.raises(ElementTree.ParseError):
        measure(str(diagram("lstm")).replace("</g>", "", 1))
