"""The pictures of a lens: what stands in them, read from their SVG, and what they refuse."""

import json
import re

import numpy as np
import pytest
import torch
from matplotlib.text import Text

import cellula
from cellula import Recurrent
from cellula.errors import RunError, UsageError
from cellula.inspection.coloured import ink_on, lines_of
from cellula.inspection.curve import draw_memory, power
from cellula.inspection.memory import gradient_over_lags

TEXT = "if <x>:\n\treturn y & z"


@pytest.fixture(scope="module")
def found():
    torch.manual_seed(0)
    return cellula.lens(Recurrent("lstm", 2, 6), torch.randn(30, 2, 2), input_names=("load", "wind"))


@pytest.fixture(scope="module")
def read():
    torch.manual_seed(0)
    return cellula.lens(Recurrent("gru", 4, 5), torch.randn(len(TEXT), 1, 4), characters=TEXT)


def words(drawing):
    return [text.get_text() for text in drawing.figure.findobj(Text)]


def test_a_heat_map_has_the_input_and_a_panel_a_node(found):
    shown = words(found.heat_map("f", "c"))
    assert {"input", "load", "wind", "f, forget gate", "c, cell state: long memory", "step"} <= set(shown)
    assert "lstm, sequence 0" in shown
    assert not any(text.startswith("i,") for text in shown)
    assert "lstm, sequence 1; units that move together side by side" in words(found.heat_map(row=1, order="similarity"))


def test_all_panels_have_one_time_axis(found):
    # After the first panel, each is followed by its scale.
    axes = found.plot().figure.axes
    panels = [axes[0], *axes[1::2]]
    assert len(panels) == 6
    assert {axes.get_xlim() for axes in panels} == {(-0.5, 29.5)}


def test_a_heat_map_holds_the_values(found):
    image = found.heat_map("f", row=1).figure.axes[1].images[0]
    np.testing.assert_allclose(image.get_array(), found.node("f").values[:, 1].T)
    assert image.get_clim() == (0.0, 1.0)
    low, high = found.heat_map("c").figure.axes[1].images[0].get_clim()
    assert low == -high


def test_a_trace_shows_one_unit(found):
    figure = found.trace(4, "f", "c").figure
    line = figure.axes[1].lines[0]
    assert line.get_ydata().tolist() == pytest.approx(found.node("f").values[:, 0, 4].tolist())
    assert "unit 4 of lstm, sequence 0" in words(found.trace(4))


def test_saturation_has_a_dot_a_unit(found):
    axes = found.saturation().figure.axes
    assert [panel.get_title(loc="left") for panel in axes][:2] == ["i, input gate", "f, forget gate"]
    assert len(axes[0].collections[0].get_offsets()) == 6


def test_a_memory_curve_says_its_verdict(found):
    assert "lstm: the gradient vanishes" in words(found.memory_curve())
    cases = {"h[t] = 2 * h[t-1] + x[t]": "explodes", "h[t] = h[t-1] + x[t]": "is steady"}
    for formula, word in cases.items():
        memory = gradient_over_lags(Recurrent(formula, 2, 2), torch.zeros(30, 1, 2))
        assert f"a: the gradient {word}" in words(draw_memory(memory, "a"))
    overflow = gradient_over_lags(Recurrent("h[t] = 1e100 * h[t-1] + x[t]", 2, 2), torch.zeros(9, 1, 2))
    assert "not finite from lag 4 on" in draw_memory(overflow, "a").svg()
    nothing = gradient_over_lags(Recurrent("h[t] = sign(x[t])", 2, 2), torch.zeros(9, 1, 2))
    assert "a: there is no gradient" in words(draw_memory(nothing, "a"))
    assert power(1e-12, None) == "10⁻¹²"


def test_text_is_coloured_whole_and_escaped(read):
    drawing = read.coloured_text(2)
    page = drawing.html()
    spans = re.findall(r'<span style="[^"]*" title="([^"]*)">([^<]*)</span>', page)
    assert "".join(text for _, text in spans) == "if &lt;x&gt;:↵→return y &amp; z"
    assert [float(value) for value, _ in spans] == pytest.approx(read.node("h").values[:, 0, 2].tolist(), abs=6e-4)
    assert "<script" not in page and "http" not in page.replace('charset="utf-8"', "")
    assert "↵" in words(drawing)
    assert read.coloured_text(2, "z").html() != page


def test_lines_break_after_line_feeds_and_where_they_are_full():
    assert [list(line) for line in lines_of("ab\nabcd", 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert lines_of("") == []


def test_ink_can_be_read():
    assert ink_on(torch.ones(3).numpy()) == "#000000"
    assert ink_on(torch.zeros(3).numpy()) == "#ffffff"


def test_save_writes_pictures_and_numbers(read, tmp_path):
    files = read.save(tmp_path / "a" / "b", "z", units=(1,))
    names = {path.name for path in files}
    assert names == {
        "heat-map.png",
        "memory.png",
        "saturation.png",
        "trace-1.png",
        "text-1.png",
        "text-1.html",
        "lens.json",
    }
    assert all(path.stat().st_size > 500 for path in files)
    assert (tmp_path / "a/b/heat-map.png").read_bytes()[:4] == b"\x89PNG"
    written = json.loads((tmp_path / "a/b/lens.json").read_text(encoding="utf-8"))
    assert [node["name"] for node in written["nodes"]] == ["r", "z", "n", "h"]
    assert len(written["nodes"][0]["per_unit"]["low_share"]) == 5
    assert len(written["memory"]["norms"]) == len(TEXT)


def test_files_by_their_ending(found, tmp_path):
    drawing = found.memory_curve()
    assert drawing.save(tmp_path / "a.svg").read_text(encoding="utf-8") == drawing.svg()
    with pytest.raises(UsageError, match=r"\.jpg"):
        drawing.save(tmp_path / "a.jpg")
    with pytest.raises(UsageError, match="only coloured text"):
        drawing.save(tmp_path / "a.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot make the folder"):
        found.save(tmp_path / "file", "f")


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda found: found.heat_map("q"), "'q' was not recorded"),
        (lambda found: found.heat_map(row=2), "row 2 is not there; write a number from 0 to 1"),
        (lambda found: found.heat_map(layer=1), "layer 1 is not there"),
        (lambda found: found.heat_map(order="size"), "order is 'size'"),
        (lambda found: found.trace(6), "unit 6 is not there; write a number from 0 to 5"),
        (lambda found: found.trace(-1), "unit -1"),
        (lambda found: found.coloured_text(0), "not known to be text"),
        (lambda found: found.save("x", form="jpg"), "form is 'jpg'"),
    ],
)
def test_what_is_refused(found, ask, message):
    with pytest.raises(UsageError, match=message):
        ask(found)


def test_a_unit_of_the_text_that_is_not_there(read):
    with pytest.raises(UsageError, match="h has units 0 to 4"):
        read.coloured_text(5)


def test_many_columns_and_long_sequences_are_images():
    found = cellula.lens(Recurrent("elman", 9, 3), torch.randn(900, 1, 9))
    assert len(found.plot().figure.axes[0].images) == 1
    assert found.plot().png()[:4] == b"\x89PNG"


def test_the_same_picture_is_the_same_file(found):
    assert found.memory_curve().svg() == found.memory_curve().svg()
