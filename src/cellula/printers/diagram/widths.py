"""How wide letters are, in thousandths of their size, so that labels are measured without a font at hand.

Each number is the wider one of Times New Roman (by its metric twin Liberation Serif) and STIX General: a picture is
set in whichever of them the reader has.
"""

from __future__ import annotations

import unicodedata

__all__ = ["letter_width"]

# The letters from space to tilde.
_ROMAN = (
    250, 333, 408, 500, 500, 833, 778, 180, 333, 333, 500, 685, 250, 333, 250, 278, 500, 500, 500, 500, 500, 500, 500,
    500, 500, 500, 278, 278, 685, 685, 685, 444, 921, 722, 667, 667, 722, 611, 556, 722, 722, 333, 389, 722, 611, 889,
    722, 722, 557, 722, 667, 556, 611, 722, 722, 944, 722, 722, 612, 333, 278, 333, 469, 500, 333, 444, 500, 444, 500,
    444, 333, 500, 500, 278, 278, 500, 278, 778, 500, 500, 500, 500, 333, 389, 278, 500, 500, 722, 500, 500, 444, 480,
    200, 480, 541,
)  # fmt: skip
_ITALIC = (
    250, 333, 420, 501, 500, 833, 778, 214, 333, 333, 500, 675, 250, 333, 250, 278, 500, 500, 500, 500, 500, 500, 500,
    500, 500, 500, 333, 333, 675, 675, 675, 500, 920, 611, 611, 667, 722, 611, 611, 722, 722, 333, 444, 667, 556, 833,
    667, 722, 611, 722, 611, 500, 556, 722, 611, 833, 611, 556, 556, 389, 278, 389, 422, 500, 333, 501, 500, 444, 500,
    444, 278, 500, 500, 278, 278, 444, 278, 722, 500, 500, 504, 500, 389, 389, 278, 500, 444, 667, 444, 444, 389, 400,
    275, 400, 541,
)  # fmt: skip
_BOLD = (
    250, 333, 555, 500, 500, 1000, 833, 278, 333, 333, 500, 750, 250, 333, 250, 278, 500, 500, 500, 500, 500, 500, 500,
    500, 500, 500, 333, 333, 750, 750, 750, 500, 930, 722, 667, 722, 722, 667, 611, 778, 778, 389, 500, 778, 667, 944,
    722, 778, 611, 778, 722, 556, 667, 722, 722, 1000, 722, 722, 667, 333, 278, 333, 581, 500, 333, 500, 556, 444, 556,
    444, 333, 500, 556, 278, 333, 556, 278, 833, 556, 500, 556, 556, 444, 389, 333, 556, 500, 722, 500, 500, 444, 394,
    220, 394, 520,
)  # fmt: skip
# Signs and Greek letters: the widest of the three styles.
_OTHERS = {
    "·": 250, "×": 702, "÷": 570, "−": 750, "√": 965, "≤": 750, "≥": 750, "≠": 750, "…": 1000, "–": 500, "—": 1000,
    "’": 333, "“": 556, "”": 556, "°": 400, "•": 350, "²": 300, "³": 300,
    "Γ": 636, "Δ": 722, "Θ": 778, "Λ": 725, "Ξ": 677, "Π": 778, "Σ": 671, "Υ": 722, "Φ": 836, "Ψ": 808, "Ω": 801,
    "α": 644, "β": 556, "γ": 518, "δ": 519, "ε": 444, "ζ": 459, "η": 585, "θ": 522, "ι": 326, "κ": 581, "λ": 547,
    "μ": 610, "ν": 518, "ξ": 468, "π": 631, "ρ": 547, "σ": 568, "τ": 492, "υ": 576, "φ": 653, "χ": 612, "ψ": 763,
    "ω": 733,
}  # fmt: skip
_TABLES = {"roman": _ROMAN, "italic": _ITALIC, "bold": _BOLD}


def letter_width(letter: str, style: str) -> int:
    """The advance of a letter in thousandths of its size.

    Args:
        letter: one character; of scripts without a table the widest that fonts have.
        style: `"roman"`, `"italic"` or `"bold"`.
    """
    code = ord(letter)
    if 32 <= code < 127:
        return _TABLES[style][code - 32]
    if letter in _OTHERS:
        return _OTHERS[letter]
    if unicodedata.combining(letter):
        return 0
    # Accented Latin letters are as wide as their base; other scripts and pictures may fill more than a square.
    base = unicodedata.normalize("NFD", letter)[0]
    if base != letter and 32 <= ord(base) < 127:
        return _TABLES[style][ord(base) - 32]
    return 1000 if unicodedata.east_asian_width(letter) in "WF" and code < 0x10000 else 1300
