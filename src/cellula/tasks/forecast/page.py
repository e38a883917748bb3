"""Pieces of an HTML page: everything that is not already HTML is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from types import MappingProxyType

__all__ = ["Html", "definitions", "element", "figure", "page", "table"]

NONE: Mapping[str, str] = MappingProxyType({})

# A page opens from a disk or a mail: it may load nothing and run nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


class Html(str):
    """Text that is HTML already; only this module and drawn figures make it."""

    __slots__ = ()


def to_html(content: object) -> Html:
    """HTML as it is; anything else as text, escaped."""
    return content if isinstance(content, Html) else Html(escape(str(content)))


def element(tag: str, *content: object, attributes: Mapping[str, str] = NONE) -> Html:
    """An element around its content.

    Args:
        tag: Its name, written by us.
        content: Put one after the other; text is escaped.
        attributes: By name, written by us; their values are escaped.

    Example:
        >>> element("p", "a < b", attributes={"class": "note"})
        '<p class="note">a &lt; b</p>'
    """
    written = "".join(f' {name}="{escape(value)}"' for name, value in attributes.items())
    return Html(f"<{tag}{written}>{''.join(to_html(part) for part in content)}</{tag}>")


def table(
    header: Sequence[object], rows: Sequence[Sequence[object]], *, strong: int | None = None, look: str = "wide"
) -> Html:
    """A table whose first column names its rows.

    Args:
        header: The names of the columns.
        rows: Each as many cells as `header`.
        strong: The row to make stand out.
        look: Classes of the style sheet.
    """
    head = element("tr", *(element("th", cell, attributes={"scope": "col"}) for cell in header))
    lines = []
    for index, (name, *cells) in enumerate(rows):
        first = element("th", name, attributes={"scope": "row"})
        role = {"class": "strong"} if index == strong else NONE
        lines.append(element("tr", first, *(element("td", cell) for cell in cells), attributes=role))
    whole = element("table", element("thead", head), element("tbody", *lines))
    return element("div", whole, attributes={"class": look})


def definitions(pairs: Iterable[tuple[object, object]]) -> Html:
    """Names and what they are, side by side."""
    return element("dl", *(element("div", element("dt", name), element("dd", what)) for name, what in pairs))


def figure(drawing: Html, caption: str, description: str, *, end_first: bool = False) -> Html:
    """A drawing with its caption, and a description for those who cannot see it.

    Args:
        drawing: The picture.
        caption: What stands below it.
        description: What it shows, in words.
        end_first: A window narrower than the drawing shows its right end first.
    """
    look = {"class": "wide end-first" if end_first else "wide", "role": "img", "aria-label": description}
    return element("figure", element("div", drawing, attributes=look), element("figcaption", caption))


def page(title: str, *body: object) -> str:
    """A whole page that needs no other file."""
    css = resources.files("cellula.tasks.forecast").joinpath("report.css").read_text(encoding="utf-8")
    head = (
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        element("title", title),
        element("style", Html(css)),
    )
    content = element(
        "html", element("head", *head), element("body", element("main", *body)), attributes={"lang": "en"}
    )
    return f"<!doctype html>\n{content}\n"
