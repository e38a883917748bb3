"""Characters that people paste from papers and keyboards, and what to write for them."""

from __future__ import annotations

import unicodedata

__all__ = ["advice"]

_OPERATORS = {
    "×": "*",
    "·": "*",
    "⋅": "*",
    "∗": "*",
    "⊙": "*",
    "∘": "*",
    "⊗": "*",
    "•": "*",
    "÷": "/",
    "∕": "/",
    "−": "-",
    "–": "-",
    "—": "-",
    "‐": "-",
    "≤": "<=",
    "≥": ">=",
    "≠": "!=",
    "←": "=",
    "≔": "=",
    "²": "** 2",
    "³": "** 3",
    "½": "0.5",
    "√": "sqrt(...)",
    "∑": "sum(...)",
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
    "ₜ": "[t]",
    "∞": "a finite number",
    "、": ",",
    "。": ".",
    "【": "[",
    "】": "]",
}
_GREEK = {
    "σ": "sigmoid",
    "λ": "lam",
    "Σ": "sum(...)",
    "φ": "phi",
    "ϕ": "phi",
    "ε": "epsilon",
    "ϵ": "epsilon",
    "θ": "theta",
    "ϑ": "theta",
    "∂": "d",
    "∇": "gradient",
}
# Letters of other scripts that look like an ASCII letter.
_LETTERS = dict(
    zip(
        "аеорсхуһіјѕкмтвнԁԝѵԛɡΑΒΕΖΗΙΚΜΝΟΡΤΥΧоАВЕКМНОРСТУХІЈЅ",
        "aeopcxyhijskmtBHdwvqgABEZHIKMNOPTYXoABEKMHOPCTYXIJS",
        strict=True,
    )
)


def advice(char: str) -> str:
    """What to write instead of one non-ASCII character."""
    if char in _OPERATORS:
        return f"write `{_OPERATORS[char]}`"
    if char in _LETTERS:
        return f"it looks like the letter `{_LETTERS[char]}` but is another one: write `{_LETTERS[char]}`"
    if char in _GREEK:
        return f"write `{_GREEK[char]}`"
    plain = unicodedata.normalize("NFKC", char)
    if plain.isascii() and plain.strip():
        return f"write `{plain}`"
    name = unicodedata.name(char, "")
    if name.startswith(("GREEK SMALL LETTER ", "GREEK CAPITAL LETTER ")):
        word = name.split()[3].lower()
        return f"write `{word if 'SMALL' in name else word.capitalize()}`"
    if not char.strip() or not char.isprintable():
        return "write an ordinary space"
    return "write names in ASCII letters and digits; any script may stand in comments and in the docstring"
