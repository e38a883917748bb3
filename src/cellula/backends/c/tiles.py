"""The tiles of a matrix product: a few rows times two vectors of results, all sums in registers."""

from __future__ import annotations

from functools import cache

__all__ = ["tiles"]

# More rows than any machine's registers hold; the compiler sees up to ROWS of them.
MOST_ROWS = 12


@cache
def tiles() -> str:
    """C functions `tile_1` to `tile_12`, and `multiply`, which chooses among them.

    Every result is added up in the same order whatever the tile, so that its bits do not depend on the batch.
    """
    parts = [f"#if ROWS >= {rows}\n{_tile(rows)}\n#endif" for rows in range(1, MOST_ROWS + 1)]
    return "\n".join([*parts, _multiply()])


def _tile(rows: int) -> str:
    numbers = range(rows)
    lines = [
        f"static void tile_{rows}(const term *t, int terms, int64_t row, const real *start, int64_t start_step, "
        "real *out, int64_t out_step) {",
        *(f"    vec c{r} = {{0}}, d{r} = {{0}};" for r in numbers),
        "    if (start) {",
        *(
            f"        c{r} = load(start + {r} * start_step), d{r} = load(start + {r} * start_step + WIDTH);"
            for r in numbers
        ),
        "    }",
        "    for (; terms--; t++) {",
        *(f"        const real *a{r} = row_of(t, row + {r});" for r in numbers),
        "        const real *w = t->weights;",
        "        for (int64_t k = 0; k < t->count; k++, w += t->weight_step) {",
        "            vec left = load(w), right = load(w + WIDTH), factor;",
        *(f"            factor = splat(a{r}[k]), c{r} += factor * left, d{r} += factor * right;" for r in numbers),
        "        }",
        "    }",
        *(f"    store(out + {r} * out_step, c{r}), store(out + {r} * out_step + WIDTH, d{r});" for r in numbers),
        "}",
    ]
    return "\n".join(lines)


def _multiply() -> str:
    cases = [
        f"#if ROWS >= {rows}\n    case {rows}: tile_{rows}(t, terms, row, start, start_step, out, out_step); break;\n#endif"
        for rows in range(1, MOST_ROWS + 1)
    ]
    head = (
        "/* out[r] = start[r] + the sum over terms of left[row + r] @ weights, for r < rows <= ROWS; start may be NULL. */\n"
        "static void multiply(int64_t rows, const term *t, int terms, int64_t row, const real *start, "
        "int64_t start_step, real *out, int64_t out_step) {\n    switch (rows) {"
    )
    return "\n".join([head, *cases, "    }\n}"])
