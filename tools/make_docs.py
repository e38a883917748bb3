"""Write the pages that follow from the code: docs/errors.md, ops.md and cells.md, docs/cells/ and docs/pictures/.

python tools/make_docs.py            write them
python tools/make_docs.py --check    say which are out of step, and leave with 1 if any is
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import memory_table

from cellula import FormulaError, build, cells, compare, diagram, load_cell
from cellula.cells.page import Memory, print_page
from cellula.formula.error_table import ERRORS
from cellula.graph.classify import classify
from cellula.graph.inits import INITS
from cellula.graph.ops import OPS, Op
from cellula.printers.curves import Curve, draw_memory

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


def cells_page() -> str:
    """The index of the zoo."""
    parts = [_NOTICE + "# The cells\n"]
    parts.append(
        "Each has a page with its formula, equations, diagram, parameters, cost, backward equations and memory. The "
        "column of steps says how many of them hold 90 % of the gradient of the last output before any training "
        f"(input = hidden = {memory_table.HIDDEN}, {memory_table.STEPS} steps of noise), `+` where it goes on.\n"
    )
    parts.append("![The gradient over lags of nine cells](cells/memory.svg)\n")
    parts.append(
        "| cell | title | remembers | steps | gate nodes | layer nodes | learned, input 8, hidden 64 |\n"
        "|---|---|---|---|---|---|---|"
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
        link = f"[`{name}`](cells/{name}.md)"
        parts.append(f"| {link} | {graph.title} | {memory} | {_steps(name)} | {gates} | {layers} | {count} |")
    parts.append("\nWhat is measured, and how to measure your own: [Checking a cell](check.md#gradient-over-lags).")
    return "\n".join(parts) + "\n"


def _steps(name: str) -> str:
    found = _measured()[name]
    if found["verdict"] in ("no memory", "no gradient"):
        return found["verdict"]
    return f"{found['effective_memory'] + 1}{'+' if found['cut_off'] else ''}"


_KEPT = memory_table.read()


@cache
def _measured() -> dict[str, Any]:
    """What tools/measure_memory.py measured; it must be of these formulas."""
    stale = memory_table.stale(_KEPT)
    if stale:
        raise SystemExit(f"the memory of {', '.join(stale)} is not measured; run: python tools/measure_memory.py")
    return _KEPT


# Of the picture beside the index: one of every family.
_FAMILIES = ("co_rnn", "irnn", "slstm", "lstm", "gru", "elman", "mingru", "ltc", "lstm_printed")
_BESIDE = ("lstm", "elman")


def _curve(name: str, quiet: bool = False) -> Curve:
    return Curve(name, memory_table.LAGS, _measured()[name]["norms"], quiet)


def overview_picture() -> str:
    """The memory of some cells in one picture."""
    return draw_memory([_curve(name) for name in _FAMILIES], "How far back the gradient reaches before training")


def memory_picture(name: str) -> str:
    """The memory of one cell, with two others in grey."""
    curves = [_curve(name), *(_curve(other, True) for other in _BESIDE if other != name)]
    return draw_memory(curves, f"{name}: how far back the gradient reaches before training")


def cell_page(name: str) -> str:
    """All about one cell."""
    found = _measured()[name]
    drawn = found["verdict"] != "no gradient"
    memory = Memory(
        found["verdict"], found["growth"], found["effective_memory"], found["cut_off"], memory_table.STEPS,
        f"{name}-memory.svg" if drawn else "",
    )  # fmt: skip
    return print_page(load_cell(name), f"{name}.svg", memory, _NOTICE)


def _cell_files(name: str) -> dict[str, Callable[[], str]]:
    files = {
        f"cells/{name}.md": lambda: cell_page(name),
        f"cells/{name}.svg": lambda: str(diagram(name)),
    }
    if _KEPT.get(name, {}).get("verdict") != "no gradient":
        files[f"cells/{name}-memory.svg"] = lambda: memory_picture(name)
    return files


PAGES: dict[str, Callable[[], str]] = {
    "errors.md": errors_page,
    "ops.md": ops_page,
    "cells.md": cells_page,
    "cells/memory.svg": overview_picture,
    **{file: page for name in cells() for file, page in _cell_files(name).items()},
    # The pictures of docs/diagrams.md.
    "pictures/lstm.svg": lambda: str(diagram("lstm")),
    "pictures/peephole_lstm.svg": lambda: str(diagram("peephole_lstm")),
    "pictures/gru.svg": lambda: str(diagram("gru")),
    "pictures/lstm-3-steps.svg": lambda: str(diagram("lstm", steps=3)),
    "pictures/lstm-peephole_lstm-gru.svg": lambda: str(compare("lstm", "peephole_lstm", "gru")),
}


def out_of_step(pictures: bool = True) -> list[str]:
    """The pages that differ from what the code says, and those of cells that are gone.

    Args:
        pictures: whether to draw the diagrams of all cells, which takes most of the time; else it is enough that the
            files are there.
    """
    names = {f"{name}.svg" for name in cells()}
    there = {str(path.relative_to(DOCS)) for path in (DOCS / "cells").glob("*") if path.suffix in (".md", ".svg")}
    stale = sorted(there - PAGES.keys())
    for name, page in PAGES.items():
        path = DOCS / name
        skipped = not pictures and path.parent.name == "cells" and path.name in names
        if not path.exists() or not (skipped or path.read_text(encoding="utf-8") == page()):
            stale.append(name)
    return stale


def main() -> int:
    """Write the pages, or check them."""
    stale = out_of_step()
    if "--check" in sys.argv[1:]:
        for name in stale:
            print(f"docs/{name} is out of step with the code; run: python tools/make_docs.py", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        if name not in PAGES:
            (DOCS / name).unlink()
            print(f"removed docs/{name}")
            continue
        (DOCS / name).parent.mkdir(exist_ok=True)
        (DOCS / name).write_text(PAGES[name](), encoding="utf-8")
        print(f"wrote docs/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
