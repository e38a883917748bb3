"""The pages that are written from the code say what the code says."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parent.parent


def load_tool():
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "tools" / "make_docs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_in_step():
    assert load_tool().out_of_step() == [], "run: python tools/make_docs.py"


def test_a_page_that_was_changed_by_hand_is_found(tmp_path, monkeypatch):
    tool = load_tool()
    monkeypatch.setattr(tool, "DOCS", tmp_path)
    for name, page in tool.PAGES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(page(), encoding="utf-8")
    assert tool.out_of_step() == []
    with (tmp_path / "ops.md").open("a", encoding="utf-8") as file:
        file.write("by hand\n")
    assert tool.out_of_step() == ["ops.md"]
