"""What every cell says of itself, in one form."""

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
