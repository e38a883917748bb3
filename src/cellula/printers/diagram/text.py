"""Lines of text with letters of several kinds, and how wide they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cellula.printers.diagram.widths import letter_width

__all__ = ["SMALL", "Line", "Run", "at_step", "joined", "name_line", "plain", "roman", "widest", "width", "wrapped"]

# Indices and exponents are this much smaller than their line.
SMALL = 0.7
_GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "zeta": "ζ", "eta": "η", "theta": "θ",
    "iota": "ι", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π", "rho": "ρ", "sigma": "σ",
    "tau": "τ", "upsilon": "υ", "phi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω", "Gamma": "Γ", "Delta": "Δ",
    "Theta": "Θ", "Lambda": "Λ", "Xi": "Ξ", "Pi": "Π", "Sigma": "Σ", "Upsilon": "Υ", "Phi": "Φ", "Psi": "Ψ",
    "Omega": "Ω",
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """Letters of one kind.

    Args:
        text: the letters.
        style: `"roman"`, `"italic"` or `"bold"`.
        level: 0 on the line, -1 an index below it, 1 an exponent above it.
        step: for the index of a step, how many steps after t it is; None for all other letters.
    """

    text: str
    style: str = "roman"
    level: int = 0
    step: int | None = None


Line = tuple[Run, ...]


def roman(text: str) -> Line:
    """Upright letters."""
    return (Run(text),)


def joined(*lines: Line) -> Line:
    """Lines one after another; neighbours of one kind become one run."""
    found: list[Run] = []
    for run in (run for line in lines for run in line):
        if found and (found[-1].style, found[-1].level, found[-1].step) == (run.style, run.level, None) == _kind(run):
            found[-1] = Run(found[-1].text + run.text, run.style, run.level)
        elif run.text:
            found.append(run)
    return tuple(found)


def _kind(run: Run) -> tuple[str, int, int | None]:
    return run.style, run.level, run.step


def plain(line: Line) -> str:
    """The letters alone."""
    return "".join(run.text for run in line)


def width(line: Line, size: float) -> float:
    """How wide a line is at this size of letters."""
    total = 0.0
    for run in line:
        scale = SMALL if run.level else 1.0
        total += scale * sum(letter_width(letter, run.style) for letter in run.text)
    return total * size / 1000


def name_line(name: str, step: int | None = None) -> Line:
    """A name as papers set it: `W_i` with a small i, `h` at the step before t (-1) with a small t−1."""
    letter, _, index = name.rstrip("_").partition("_")
    below = [_word(part, -1) for part in index.split("_")] if index else []
    if step is not None:
        below.append(_step(step))
    runs = [_word(letter or name, 0)]
    for number, part in enumerate(below):
        runs += [Run(",", level=-1), part] if number else [part]
    return joined(tuple(runs))


def _word(word: str, level: int) -> Run:
    """Single letters slant, words stand upright."""
    shown = _GREEK.get(word, word)
    return Run(shown, "italic" if len(shown) == 1 and shown.isalpha() else "roman", level)


def _step(step: int) -> Run:
    """The index of a step: t, t−1, t+1."""
    return Run("t" if step == 0 else f"t{step:+d}".replace("-", "−"), "italic", -1, step)


def at_step(line: Line, shift: int) -> Line:
    """The same line so many steps later."""
    return tuple(run if run.step is None else _step(run.step + shift) for run in line)


def widest(line: Line, shifts: Iterable[int]) -> Line:
    """The line with every step written as at the shift where that takes the most room."""
    variants = [at_step(line, shift) for shift in shifts]
    return tuple(max(runs, key=lambda run: width((run,), 1.0)) for runs in zip(*variants, strict=True))


def wrapped(pieces: Iterable[Line], size: float, limit: float) -> tuple[Line, ...]:
    """Pieces set one after another, with a new line wherever the next one would pass the limit."""
    lines: list[Line] = []
    for piece in pieces:
        longer = joined(lines[-1], piece) if lines else piece
        if lines and width(longer, size) <= limit:
            lines[-1] = longer
        else:
            # A piece begins a line without the space in front of it.
            lines.append((Run(piece[0].text.lstrip(), piece[0].style, piece[0].level), *piece[1:]))
    return tuple(lines)
