"""The tiles of a matrix product: a few rows times two vectors of results, all sums in registers."""

from __future__ import annotations

from functools import cache

__all__ = ["tiles"]

# More rows than any machine's registers hold; the compiler sees up to ROWS of them.
MOST_ROWS = 12
# How many sums of one row are made at a time: one alone would wait for each of its own additions.
MOST_LISTS = 4


@cache
def tiles() -> str:
    """C functions `tile_1` to `tile_12` and `narrow_...` for one or two rows, and what chooses among them.

    Every result is added up in the same order whatever the tile, so that its bits do not depend on the batch.
    """
    parts = [f"#if ROWS >= {rows}\n{_tile(rows)}\n#endif" for rows in range(1, MOST_ROWS + 1)]
    narrow = [_narrow(1, lists) for lists in range(2, MOST_LISTS + 1)] + [_narrow(2, 2)]
    return "\n".join([*parts, _multiply(), *narrow, _BLOCKS, _narrow_choice()])


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
        f"#if ROWS >= {rows}\n    case {rows}: tile_{rows}(t, terms, row, start, start_step, out, out_step); break;\n"
        "#endif"
        for rows in range(1, MOST_ROWS + 1)
    ]
    head = (
        "/* out[r] = start[r] + the sum over terms of left[row + r] @ weights, for r < rows <= ROWS; start may be "
        "NULL. */\n"
        "static void multiply(int64_t rows, const term *t, int terms, int64_t row, const real *start, "
        "int64_t start_step, real *out, int64_t out_step) {\n    switch (rows) {"
    )
    return "\n".join([head, *cases, "    }\n}"])


def _narrow(rows: int, lists: int) -> str:
    """Several sums of the same left sides at a time."""
    sums = [(r, j) for r in range(rows) for j in range(lists)]
    lines = [
        f"static void narrow_{rows}_{lists}(const term *const *lists, int terms, int64_t row, "
        "const real *const *start, int64_t start_step, real *const *out, int64_t out_step) {",
        *(f"    vec c{r}{j} = {{0}}, d{r}{j} = {{0}};" for r, j in sums),
        "    if (start[0]) {",
        *(
            f"        c{r}{j} = load(start[{j}] + {r} * start_step), "
            f"d{r}{j} = load(start[{j}] + {r} * start_step + WIDTH);"
            for r, j in sums
        ),
        "    }",
        "    for (int i = 0; i < terms; i++) {",
        *(f"        const real *a{r} = row_of(lists[0] + i, row + {r});" for r in range(rows)),
        *(
            f"        const real *w{j} = lists[{j}][i].weights; const int64_t s{j} = lists[{j}][i].weight_step;"
            for j in range(lists)
        ),
        "        const int64_t count = lists[0][i].count;",
        "        for (int64_t k = 0; k < count; k++) {",
        "            vec " + ", ".join(f"f{r} = splat(a{r}[k])" for r in range(rows)) + ";",
    ]
    for j in range(lists):
        lines.append(f"            {{ const vec left = load(w{j}), right = load(w{j} + WIDTH);")
        lines += [f"              c{r}{j} += f{r} * left, d{r}{j} += f{r} * right;" for r in range(rows)]
        lines.append(f"              w{j} += s{j}; }}")
    lines += ["        }", "    }"]
    lines += [
        f"    store(out[{j}] + {r} * out_step, c{r}{j}), store(out[{j}] + {r} * out_step + WIDTH, d{r}{j});"
        for r, j in sums
    ]
    return "\n".join([*lines, "}"])


# Factors of one block: its weights for one pair of vectors stay in the first cache while all tiles pass by.
_BLOCKS = """#ifndef BLOCK
#define BLOCK (16384 / (PAIR * (int)sizeof(real)))
#endif
/* Rows of a group: their sums stay near until the formula is done on them. */
#define GROUP_ROWS 48
#define BLOCK_TERMS 4

/* As `multiply`, for any number of rows; the order of additions is the same. */
static void multiply_all(int64_t rows, const term *list, int terms, int64_t row, const real *start, int64_t start_step,
                         real *out, int64_t out_step) {
    const int64_t tiles = TILES(rows), most = tiles > 1 ? BLOCK : INT64_MAX / 4;
    int i = 0;
    int64_t k = 0;
    do {
        term block[BLOCK_TERMS];
        int n = 0;
        for (int64_t room = most; i < terms && n < BLOCK_TERMS && room > 0; n++) {
            const int64_t left = list[i].count - k;
            const int64_t take = left < room + room / 2 ? left : room;
            block[n] = list[i], block[n].base += k, block[n].weights += k * list[i].weight_step, block[n].count = take;
            room -= take, k += take;
            if (k == list[i].count) i++, k = 0;
        }
        for (int64_t tile = 0; tile < tiles; tile++) {
            const int64_t first = tile_start(rows, tiles, tile), after = tile_start(rows, tiles, tile + 1);
            multiply(after - first, block, n, row + first, start ? start + first * start_step : NULL, start_step,
                     out + first * out_step, out_step);
        }
        start = out, start_step = out_step;
    } while (i < terms);
}
"""


def _narrow_choice() -> str:
    ones = "\n".join(
        f"        {'else ' if lists < MOST_LISTS else ''}if (alike >= {lists}) "
        f"narrow_1_{lists}(lists, terms, row, start, start_step, out, out_step), done = {lists};"
        for lists in range(MOST_LISTS, 1, -1)
    )
    return f"""/* Several sums of the same left sides, `count` lists of terms, over `rows` rows. */
static void multiply_lists(int64_t rows, const term *const *lists, int count, int terms, int64_t row,
                           const real *const *start, int64_t start_step, real *const *out, int64_t out_step) {{
    while (count) {{
        int done = 0, alike = 1;
        /* Blocks of a block-diagonal matrix have left sides of their own. */
        for (; alike < count; alike++) {{
            int same = 1;
            for (int i = 0; i < terms; i++) same &= lists[alike][i].base == lists[0][i].base;
            if (!same) break;
        }}
        if (rows == 1) {{
{ones}
        }} else if (rows == 2 && alike >= 2)
            narrow_2_2(lists, terms, row, start, start_step, out, out_step), done = 2;
        if (!done)
            multiply_all(rows, lists[0], terms, row, start[0], start_step, out[0], out_step), done = 1;
        lists += done, start += done, out += done, count -= done;
    }}
}}"""
