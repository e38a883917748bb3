"""What every cell says of itself, in one form."""

import re

import pytest

from cellula import cells, load_cell
from cellula.cells.about import about

TEXT = '''"""A cell (AC).

What it does,
in two lines.
Good for: this, and
not for that.
Start: as the paper says.
Not to be confused with: `lstm`, which remembers.
Reference: Somebody & Other 1999, A Title, with a Comma, Journal 3(1), https://example.org/a
Reference: told by word of mouth
"""
h[t] = tanh(x[t] @ W)
'''


def test_the_parts_of_a_docstring():
    found = about(TEXT)
    assert (found.title, found.description) == ("A cell (AC)", "What it does,\nin two lines.")
    assert found.good_for == "this, and not for that." and found.start == "as the paper says."
    assert found.not_to_be_confused_with == "`lstm`, which remembers."
    first, second = found.references
    assert (first.authors, first.year) == ("Somebody & Other", "1999")
    assert (first.work, first.link) == ("A Title, with a Comma, Journal 3(1)", "https://example.org/a")
    assert (second.text, second.authors, second.link) == ("told by word of mouth", "", "")
    assert about("h[t] = tanh(x[t] @ W)").good_for == ""


@pytest.mark.parametrize("name", cells())
def test_every_cell_says_all_there_is_to_say(name):
    found = about(name)
    assert len(found.description) > 40 and "Reference" not in found.description
    for part in (found.good_for, found.not_to_be_confused_with, found.start):
        assert part.endswith(".") and len(part) > 12 and ": " not in part[:3]
    for cited in found.references:
        assert cited.authors and 1980 < int(cited.year) < 2030 and len(cited.work) > 10, cited.text
        assert cited.link.startswith("https://"), cited.text
    # What is named is there.
    text = load_cell(name).description
    for other in re.findall(r"`([a-z][a-z0-9_]*)`", text):
        assert other in (*cells(), *load_cell(name).extra_sizes, *(s.name for s in load_cell(name).settings)), other
    assert f"`{name}`" not in found.not_to_be_confused_with
