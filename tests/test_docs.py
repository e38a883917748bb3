"""The pages are in step with the code: links lead somewhere, every page is listed, examples run."""

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/**/*.md"),
        *ROOT.glob("src/**/*.md"),
    ]
)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)

by_name = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def dead_links(text: str, folder: Path) -> list[str]:
    """The relative links of a page that lead to nothing."""
    links = [link for link in LINK.findall(FENCE.sub("", text)) if not re.match(r"[a-z]+:", link)]
    return [link for link in links if not (folder / link).exists()]


@by_name
def test_links_lead_somewhere(page):
    assert dead_links(page.read_text(encoding="utf-8"), page.parent) == []


def test_a_dead_link_is_found(tmp_path):
    assert dead_links("[a](missing.md) [b](https://example.org) [c](.)", tmp_path) == ["missing.md"]


def test_the_index_lists_every_page():
    # The pages of the cells have an index of their own.
    index = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("README.md", "cells.md"))
    pages = [str(page.relative_to(ROOT / "docs")) for page in PAGES if page.is_relative_to(ROOT / "docs")]
    assert [page for page in pages if page != "README.md" and f"({page})" not in index] == []


def run_examples(page: Path) -> doctest.TestResults:
    """Run the page's `>>>` examples, one after another in one namespace."""
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    text = "\n".join(body for language, body in FENCE.findall(page.read_text(encoding="utf-8")) if language == "python")
    test = doctest.DocTestParser().get_doctest(text, {"__name__": "__main__"}, page.name, str(page), 0)
    return doctest.DocTestRunner(optionflags=flags).run(test)


# Pages whose examples need an extra of the package.
NEEDS = {"onnx.md": ("onnx", "onnxruntime")}


@by_name
def test_examples_give_what_the_page_shows(page, tmp_path, monkeypatch):
    for package in NEEDS.get(page.name, ()):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'cellula[onnx]'")
    monkeypatch.chdir(tmp_path)
    assert run_examples(page).failed == 0


def test_a_wrong_example_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\n>>> 1 + 1\n3\n```\n")
    assert run_examples(page).failed == 1


@by_name
def test_targets_of_make_that_a_page_names_exist(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z]+)[ `]", page.read_text(encoding="utf-8")))
    assert named <= targets
