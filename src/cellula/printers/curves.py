"""Curves over lags as a small SVG: how far back cells remember."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

__all__ = ["Curve", "draw_memory"]

# After Okabe and Ito, apart for colour-blind readers; the dashes tell them apart in grey print.
_STYLES = (
    ("#0072b2", ""), ("#d55e00", ""), ("#009e73", ""), ("#000000", ""), ("#cc79a7", ""),
    ("#0072b2", "6 3"), ("#d55e00", "6 3"), ("#009e73", "6 3"), ("#000000", "2 3"), ("#cc79a7", "2 3"),
)  # fmt: skip
_GREY = "#9a9a9a"
_FONT = "font-family=\"Helvetica, Arial, 'Liberation Sans', sans-serif\""
# Below this share of its largest value a gradient teaches nothing in float32.
_DECADES = 8
_LEFT, _TOP, _WIDE, _HIGH, _LEGEND, _BOTTOM = 52.0, 30.0, 430.0, 190.0, 200.0, 40.0


@dataclass(frozen=True)
class Curve:
    """One cell's gradient over lags.

    Args:
        name: of the cell.
        lags: how many steps back.
        norms: the norm of the gradient there.
        quiet: whether it is drawn in grey, for comparison.
    """

    name: str
    lags: Sequence[int]
    norms: Sequence[float]
    quiet: bool = False


def draw_memory(curves: Sequence[Curve], title: str) -> str:
    """A chart of gradients over lags, each as a share of its largest value, on a logarithmic scale.

    Args:
        curves: one to ten of cells, and others in grey.
        title: above the chart.

    Returns:
        SVG text.

    Example:
        >>> from cellula.printers.curves import Curve, draw_memory
        >>> draw_memory([Curve("halved", [0, 1, 2], [1.0, 0.5, 0.25])], "Memory").count("<polyline")
        1
    """
    longest = max(max(curve.lags) for curve in curves)
    width, height = _LEFT + _WIDE + _LEGEND, _TOP + _HIGH + _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" role="img" {_FONT} font-size="11">',
        f"<title>{escape(title)}</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{_LEFT:g}" y="18" font-size="13">{escape(title)}</text>',
        *_axes(longest),
    ]
    styles = iter(_STYLES)
    lines, legend = [], []
    for number, curve in enumerate(curves):
        colour, dash = (_GREY, "" if number % 2 else "4 3") if curve.quiet else next(styles)
        style = f'fill="none" stroke="{colour}" stroke-width="{1.3 if curve.quiet else 2:g}"'
        style += f' stroke-dasharray="{dash}"' if dash else ""
        y = _TOP + 10 + 18 * number
        x = _LEFT + _WIDE + 14
        lines.append(f'<polyline points="{_points(curve, longest)}" {style} stroke-linejoin="round"/>')
        legend.append(f'<path d="M{x:g} {y:g}h22" {style}/>')
        legend.append(f'<text x="{x + 28:g}" y="{y + 4:g}">{escape(curve.name)}</text>')
    # What is drawn last lies on top: the first curve.
    return "\n".join([*parts, *reversed(lines), *legend, "</svg>"]) + "\n"


def _axes(longest: int) -> list[str]:
    """Grid, numbers and names of the axes."""
    parts = []
    for decade in range(0, _DECADES + 1, 2):
        y = _TOP + _HIGH * decade / _DECADES
        text = "1" if decade == 0 else f'10<tspan dy="-4" font-size="8">−{decade}</tspan>'
        parts.append(f'<path d="M{_LEFT:g} {y:g}h{_WIDE:g}" stroke="#e3e3e3"/>')
        parts.append(f'<text x="{_LEFT - 8:g}" y="{y + 4:g}" text-anchor="end">{text}</text>')
    step = 10 ** math.floor(math.log10(longest)) // 2 or 1
    for lag in range(0, longest + 2, step):
        x = _LEFT + _WIDE * min(1.0, lag / longest)
        parts.append(f'<path d="M{x:g} {_TOP + _HIGH:g}v4" stroke="#555555"/>')
        parts.append(f'<text x="{x:g}" y="{_TOP + _HIGH + 17:g}" text-anchor="middle">{lag}</text>')
    frame = f'<path d="M{_LEFT:g} {_TOP:g}v{_HIGH:g}h{_WIDE:g}" fill="none" stroke="#555555"/>'
    middle = _LEFT + _WIDE / 2
    name = f'<text x="{middle:g}" y="{_TOP + _HIGH + 33:g}" text-anchor="middle">steps back</text>'
    across = _TOP + _HIGH / 2
    share = (
        f'<text x="14" y="{across:g}" text-anchor="middle" transform="rotate(-90 14 {across:g})">'
        "gradient, share of its largest</text>"
    )
    return [*parts, frame, name, share]


def _points(curve: Curve, longest: int) -> str:
    """Where a curve runs; it ends where it leaves the chart below."""
    largest = max(curve.norms) or 1.0
    points: list[tuple[float, float]] = []
    for lag, norm in zip(curve.lags, curve.norms, strict=True):
        share = norm / largest
        decade = -math.log10(share) if share > 0.0 else math.inf
        x = _LEFT + _WIDE * lag / longest
        if decade > _DECADES:
            # Up to where it crosses the lower edge; what is exactly 0 falls upright.
            if points:
                before = points[-1]
                down = _TOP + _HIGH
                fraction = (
                    0.0 if math.isinf(decade) else (down - before[1]) / (_TOP + _HIGH * decade / _DECADES - before[1])
                )
                points.append((before[0] + fraction * (x - before[0]), down))
            break
        points.append((x, _TOP + _HIGH * decade / _DECADES))
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
