"""The pages that are written from the code say what the code says."""

import importlib.util
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from functools import cache
from pathlib import Path

import pytest

from cellula import cells
from cellula.printers.curves import Curve, draw_memory

ROOT = Path(__file__).parent.parent


@cache
def load_tool():
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        spec = importlib.util.spec_from_file_location("make_docs", ROOT / "tools" / "make_docs.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "tools"))
    return module


def test_generated_pages_are_in_step():
    # The diagrams of all cells are compared in tests/printers/test_diagram.py, where they are drawn anyway.
    assert load_tool().out_of_step(pictures=False) == [], "run: python tools/make_docs.py"


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A folder of pages that says what the code says."""
    tool = load_tool()
    for name in ("ops.md", "cells/lstm.md", "cells/lstm.svg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / "docs" / name).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(tool, "DOCS", tmp_path)
    monkeypatch.setattr(
        tool, "PAGES", {name: tool.PAGES[name] for name in ("ops.md", "cells/lstm.md", "cells/lstm.svg")}
    )
    return tool, tmp_path


def test_a_page_that_was_changed_by_hand_is_found(copied):
    tool, folder = copied
    assert tool.out_of_step() == []
    for name in ("ops.md", "cells/lstm.svg"):
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write("by hand\n")
    assert tool.out_of_step() == ["ops.md", "cells/lstm.svg"] and tool.out_of_step(pictures=False) == ["ops.md"]
    (folder / "cells" / "lstm.svg").unlink()
    assert tool.out_of_step(pictures=False) == ["ops.md", "cells/lstm.svg"]


def test_the_page_of_a_cell_that_is_gone_is_found(copied):
    tool, folder = copied
    (folder / "cells" / "lstn.md").write_text("gone")
    assert tool.out_of_step() == ["cells/lstn.md"]


def test_a_formula_that_was_not_measured_is_found(monkeypatch):
    table = load_tool().memory_table
    kept = table.read()
    assert table.stale(kept) == []
    assert table.stale({**kept, "gru": {**kept["gru"], "formula": "another"}}) == ["gru"]
    assert table.stale({name: row for name, row in kept.items() if name != "elman"}) == ["elman"]
    document = json.loads(table.FILE.read_text(encoding="utf-8"))
    assert document["lags"] == table.LAGS and document["how"] == table.HOW and list(kept) == list(cells())


@pytest.mark.parametrize("name", cells())
def test_a_page_has_all_its_parts(name):
    text = (ROOT / "docs" / "cells" / f"{name}.md").read_text(encoding="utf-8")
    parts = ["Formula", "Diagram", "Nodes", "Parameters", "Cost", "Backpropagation through time", "Memory", "Use"]
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == parts
    assert text.count("```math") >= 2 and "**Reference" in text
    # GitHub refuses these.
    assert not re.search(r"\\(operatorname|mbox|phantom|tag|label)\b", text)


def test_a_curve_ends_where_it_leaves_the_chart():
    picture = draw_memory(
        [Curve("falls", [0, 1, 2, 3], [1.0, 1e-4, 1e-12, 1e-13]), Curve("ends", [0, 3], [2, 0])], "a < b"
    )
    root = ElementTree.fromstring(picture)
    lines = [line.get("points").split() for line in root.iter("{http://www.w3.org/2000/svg}polyline")]
    # Left edge 52, 430 wide; top 30, 190 high for eight decades.
    assert lines[1] == ["52.0,30.0", "195.3,125.0", "267.0,220.0"]
    assert lines[0] == ["52.0,30.0", "52.0,220.0"]
    assert root.find("{http://www.w3.org/2000/svg}title").text == "a < b"
