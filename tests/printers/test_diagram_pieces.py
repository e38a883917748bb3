"""The pieces that diagrams are made of: distances, labels, widths, differences, PNG."""

import itertools
import random
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from matplotlib.font_manager import FontProperties
from matplotlib.image import imread
from matplotlib.textpath import text_to_path

from cellula import UsageError, build, cells, compare, diagram, load_cell
from cellula.errors import MissingPackageError
from cellula.printers.diagram.difference import find_difference
from cellula.printers.diagram.parts import Drawing
from cellula.printers.diagram.read import read_graph
from cellula.printers.diagram.simplex import tightest
from cellula.printers.diagram.text import Run, at_step, name_line, plain, width
from cellula.printers.diagram.write import write
from picture_checks import SVG, faults_of_svg, measure


def cost(numbers, distances):
    return sum(weight * (numbers[other] - numbers[one]) for one, other, _, weight in distances)


def cheapest(count, distances, most=7):
    """The least cost by trying everything."""
    tried = ((0, *rest) for rest in itertools.product(range(most), repeat=count - 1))
    kept = (t for t in tried if all(t[other] - t[one] >= least for one, other, least, _ in distances))
    return min(cost(t, distances) for t in kept)


def test_distances_are_as_tight_as_can_be():
    draw = random.Random(0)
    for _ in range(150):
        count = draw.randint(2, 5)
        distances = [(0, n, 0, draw.choice((0, 0, 1))) for n in range(1, count)]
        for _ in range(draw.randint(1, 7)):
            one, other = sorted(draw.sample(range(count), 2))
            distances.append((one, other, draw.randint(0, 2), draw.randint(0, 5)))
        numbers = tightest(count, distances)
        assert all(numbers[other] - numbers[one] >= least for one, other, least, _ in distances)
        assert cost(numbers, distances) == cheapest(count, distances)


def test_distances_in_a_circle_are_refused():
    with pytest.raises(ValueError, match="cycle"):
        tightest(2, [(0, 1, 1, 1), (1, 0, 0, 1)])


@pytest.mark.parametrize("style", ["roman", "italic", "bold"])
def test_letters_are_not_wider_than_the_table_says(style):
    looks = {"italic": {"style": "italic"}, "bold": {"weight": "bold"}}.get(style, {})
    font = FontProperties(family="STIXGeneral", size=100, **looks)
    # Signs stand upright in every label.
    signs = "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΥΦΨΩé·×−" + ("≤≥≠…√" if style == "roman" else "")
    for letter in [chr(code) for code in range(32, 127)] + list(signs):
        real = text_to_path.get_text_width_height_descent(letter, font, ismath=False)[0]
        assert real - 1.0 <= width((Run(letter, style),), 100) <= 1.45 * real + 1, letter


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        ("h[t] = tanh(x[t] @ W_in + h[t-1] @ U + b)", "tanh(xt Win + ht−1 U + b)"),
        ("h[t] = b_f * h[t-2] - (x[t] @ W - c)", "bf · ht−2 − (xt W − c)"),
        ("h[t] = (r * h[t-1]) @ U.T + x[t] @ W", "(r · ht−1) UT + xt W"),
        ("h[t] = r * (h[t-1] @ U) + x[t] @ W / (1 + alpha)", "r · (ht−1 U) + (xt W) / (1 + α)"),
        ("h[t] = (x[t] @ W) ** 2 + leaky_relu(x[t] @ V)", "(xt W)2 + leaky ReLU(xt V)"),
        ("h[t] = abs(x[t] @ W) - -1e-7 * b", "|xt W| − (−10−7 · b)"),
        ("h[t] = where(x[t] @ W > 0, 1, -(x[t] @ V))", "where(xt W > 0, 1, −xt V)"),
    ],
)
def test_expressions_as_papers_print_them(formula, text):
    assert plain(write(build(formula).equation["h"].value)) == text


def test_names_at_other_steps():
    assert [plain(at_step(name_line("g_y", -1), shift)) for shift in (-1, 0, 1, 2)] == [
        "gy,t−2",
        "gy,t−1",
        "gy,t",
        "gy,t+1",
    ]
    # A weight may be called t too: only steps move.
    assert plain(at_step(name_line("W_t"), 1)) == "Wt"


def difference(name, base):
    drawing, other = read_graph(load_cell(name)), read_graph(load_cell(base))
    found = find_difference(drawing, other)

    def names(numbers):
        return {name for number in numbers for name in drawing.parts[number].names}

    matched = {
        (drawing.parts[one].names[0], other.parts[two].names[0])
        for one, two in found.pairs.items()
        if drawing.parts[one].names and other.parts[two].names
    }
    return found, names, matched, drawing


def test_peepholes_are_all_that_the_peephole_lstm_has_more():
    found, names, matched, drawing = difference("peephole_lstm", "lstm")
    assert found.new == () and found.gone == () and names(found.changed) == {"i", "f", "o"}
    sources = [drawing.parts[drawing.parts[part].entries[entry].source] for part, entry in found.reads]
    assert [source.slot or source.names for source in sources] == ["c", "c", ("c",)]
    assert matched == {(name, name) for name in "ifgoch"}


def test_the_gru_is_matched_by_roles_not_by_names():
    found, names, matched, _ = difference("gru", "lstm")
    assert matched == {("h", "c"), ("z", "f"), ("n", "g")}
    assert names(found.new) == {"r"} and set(found.gone) == {"i", "o", "h"}


def test_coupled_gates_are_a_change_of_one_gate():
    found, names, _, _ = difference("cifg_lstm", "lstm")
    assert names(found.changed) == {"f"} and found.new == () and found.gone == ()


@pytest.mark.parametrize("name", cells())
def test_a_cell_does_not_differ_from_itself_nor_from_itself_renamed(name):
    found, _, matched, drawing = difference(name, name)
    assert (found.new, found.changed, found.reads, found.gone) == ((), (), (), ())
    assert all(one == two for one, two in matched)
    assert isinstance(drawing, Drawing)


def test_other_names_are_no_difference():
    lstm = load_cell("lstm").source.text
    swapped = lstm.replace("g[t]", "cand[t]").replace("c[t", "s[t").replace("i[t]", "inp[t]")
    drawing, other = read_graph(build(swapped)), read_graph(load_cell("lstm"))
    found = find_difference(drawing, other)
    assert (found.new, found.changed, found.reads, found.gone) == ((), (), (), ())


def test_a_comparison_marks_what_differs_and_says_so():
    svg = str(compare("lstm", "peephole_lstm", "gru"))
    assert faults_of_svg(svg) == []
    texts = [text.what for text in measure(svg).texts]
    assert "i, f read c[t-1] here." in texts and "o reads c[t] here." in texts
    assert "In the same place: z for f; n for g; h for c." in texts and "Without: i, o, h." in texts
    # Three gates in one cell; a gate, a product and a function in the other.
    assert svg.count('stroke="#d55e00" stroke-width="2.8" stroke-dasharray') == 6
    assert "No difference in what is computed." in str(compare("lstm", "lstm"))


@pytest.mark.parametrize("names", [(), ("lstm",), ("lstm",) * 13])
def test_too_few_or_too_many_cells_are_refused(names):
    with pytest.raises(UsageError, match="2 to 12 cells"):
        compare(*names)


def test_png_shows_the_same_scene(tmp_path):
    picture = diagram("elman")
    picture.save(tmp_path / "elman.png")
    pixels = imread(tmp_path / "elman.png")
    assert abs(pixels.shape[1] - 2 * picture.scene.width) <= 1 and abs(pixels.shape[0] - 2 * picture.scene.height) <= 1
    layer = next(body for body in measure(str(picture)).bodies if body.what.startswith("h[t] = tanh"))
    corner = pixels[int(2 * layer.top) + 6, int(2 * layer.left) + 6]
    assert tuple((corner[:3] * 255).round()) == (0xD9, 0xEE, 0xFB)
    # Dark pixels of letters within the layer.
    inside = pixels[
        int(2 * layer.top) + 6 : int(2 * layer.bottom) - 6, int(2 * layer.left) + 6 : int(2 * layer.right) - 6
    ]
    assert (inside[..., :3].max(axis=-1) < 0.3).sum() > 200


def test_a_title_with_signs_of_mathematics_is_drawn_as_it_is(tmp_path):
    diagram('"""$\\\\frac{1$ 漢字 _^{}."""\nh[t] = tanh(x[t] @ W)').save(tmp_path / "title.png")
    assert (tmp_path / "title.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_png_without_matplotlib_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "cellula.printers.diagram.png", raising=False)
    with pytest.raises(MissingPackageError, match=r"pip install 'cellula\[forecast\]'"):
        diagram("elman").png()
    assert str(diagram("elman")).startswith("<svg")


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"\.svg or \.png"):
        diagram("elman").save(tmp_path / "elman.pdf")


def test_a_notebook_shows_a_picture():
    picture = diagram("gru")
    assert picture._repr_svg_() == str(picture) == picture.svg
    assert repr(picture).startswith("<Picture of gru: Gated recurrent unit")


def test_text_that_fills_its_room_keeps_its_width_in_every_font():
    texts = list(ElementTree.fromstring(str(diagram("lstm"))).iter(f"{SVG}text"))
    fixed = {"".join(text.itertext()): text.get("textLength") for text in texts}
    layers = [float(length) for letters, length in fixed.items() if "ht−1 U" in letters and length]
    assert len(layers) >= 3 and min(layers) > 80 and fixed["σ"] is None
