"""Write the pages that follow from the code: docs/errors.md, docs/ops.md, docs/cells.md and docs/pictures/.

python tools/make_docs.py            write them
python tools/make_docs.py --check    say which are out of step, and leave with 1 if any is
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from cellula import FormulaError, build, cells, compare, diagram, load_cell, print_formula
from cellula.cells.about import PARTS, about
from cellula.formula.error_table import ERRORS
from cellula.graph.classify import classify
from cellula.graph.inits import INITS
from cellula.graph.ops import OPS, Op

DOCS = Path(__file__).parent.parent / "docs"
_NOTICE = "<!-- Written by tools/make_docs.py from the code; change it there. -->\n"
_SIZES = {"input": 8, "hidden": 64}


def errors_page() -> str:
    """Every row of the error table with the message of its first example."""
    parts = [_NOTICE + "# What can be wrong in a formula\n"]
    parts.append(
        "Every mistake has a row in `src/cellula/formula/error_table.py`. All mistakes of a text are reported at once, "
        "each with its place and what to write instead.\n"
    )
    for kind, row in ERRORS.items():
        shown = [example for example in row.examples if len(example) < 200]
        if not shown:
            continue
        try:
            build(shown[0])
        except FormulaError as error:
            lines = (line.rstrip() for line in str(error).split("\n"))
            parts.append(f"## {kind}\n\n```text\n" + "\n".join(lines) + "\n```\n")
    return "\n".join(parts)


def _call(op: Op) -> str:
    names = [a.name if a.default is None else f"{a.name}={a.default:g}" for a in op.arguments]
    if op.symbol and len(names) == 2:
        return f"{names[0]} {op.symbol} {names[1]}"
    return f"{op.symbol}{names[0]}" if op.symbol else f"{op.name}({', '.join(names)})"


def ops_page() -> str:
    """The op table and the table of inits."""
    parts = [_NOTICE + "# What may stand in a formula\n"]
    parts.append(
        "One row an op, as in `src/cellula/graph/ops.py`. `y` is the result, `dy` its gradient; gradients of arguments "
        "without one are zero.\n"
    )
    parts.append("| write | meaning | definition | gradient |\n|---|---|---|---|")
    for op in OPS.values():
        arguments = zip(op.arguments, op.gradient, strict=True)
        gradients = "<br>".join(f"`d{a.name} = {text}`" for a, text in arguments if text is not None)
        cells_of_row = (f"`{_call(op)}`", op.meaning, f"`{op.definition}`" if op.definition else "", gradients)
        parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells_of_row) + " |")
    parts.append(
        "| `a @ W` | linear map: W is a matrix, a block-diagonal matrix or a diagonal; `W.T` is its transpose | | |\n"
    )
    parts.append("## How parameters start\n\n| write | meaning |\n|---|---|")
    parts += [f"| `init={name}({', '.join(row.arguments)})` | {row.meaning} |" for name, row in INITS.items()]
    return "\n".join(parts) + "\n"


def _about(name: str) -> str:
    """The docstring of a cell, a paragraph a part."""
    found = about(name)
    labelled = [f"*{label}*: {getattr(found, part)}" for label, part in PARTS.items() if getattr(found, part)]
    return "\n\n".join([f"{found.title}. {found.description}", *labelled])


def cells_page() -> str:
    """Every cell of the zoo with its formula."""
    parts = [_NOTICE + "# The cells\n"]
    parts.append(
        "| cell | title | memory | gate nodes | layer nodes | learned, input 8, hidden 64 |\n|---|---|---|---|---|---|"
    )
    for name in cells():
        graph = load_cell(name)
        roles = classify(graph)
        gates = ", ".join(node for node, role in roles.items() if role == "gate")
        layers = ", ".join(node for node, role in roles.items() if role == "layer")
        memory = ", ".join(state.slot for state in graph.states) or "none"
        # A cell's own sizes count as large as the hidden one.
        own = dict.fromkeys(graph.extra_sizes, _SIZES["hidden"])
        count = f"{graph.parameter_count(own | _SIZES):,}"
        parts.append(f"| [`{name}`](#{name}) | {graph.title} | {memory} | {gates} | {layers} | {count} |")
    for name in cells():
        graph = load_cell(name)
        text = print_formula(graph)
        body = text.split('"""', 2)[-1].strip("\n") if text.startswith('"""') else text.strip("\n")
        references = "\n".join(f"- {reference}" for reference in graph.references)
        parts.append(f"\n## {name}\n\n{_about(name)}\n\n```text\n{body}\n```\n\n{references}")
    return "\n".join(parts) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "errors.md": errors_page,
    "ops.md": ops_page,
    "cells.md": cells_page,
    # The pictures of docs/diagrams.md.
    "pictures/lstm.svg": lambda: str(diagram("lstm")),
    "pictures/peephole_lstm.svg": lambda: str(diagram("peephole_lstm")),
    "pictures/gru.svg": lambda: str(diagram("gru")),
    "pictures/lstm-3-steps.svg": lambda: str(diagram("lstm", steps=3)),
    "pictures/lstm-peephole_lstm-gru.svg": lambda: str(compare("lstm", "peephole_lstm", "gru")),
}


def out_of_step() -> list[str]:
    """The pages that differ from what the code says."""
    return [
        name
        for name, page in PAGES.items()
        if not (DOCS / name).exists() or (DOCS / name).read_text(encoding="utf-8") != page()
    ]


def main() -> int:
    """Write the pages, or check them."""
    stale = out_of_step()
    if "--check" in sys.argv[1:]:
        for name in stale:
            print(f"docs/{name} is out of step with the code; run: python tools/make_docs.py", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        (DOCS / name).parent.mkdir(exist_ok=True)
        (DOCS / name).write_text(PAGES[name](), encoding="utf-8")
        print(f"wrote docs/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
