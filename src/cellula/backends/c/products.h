/* The products that follow the steps, for calls so small that a call of a library would cost more than its work. */

/* Factors and rows of one tile. */
#define ROWS_OF_OUTER 6
#define OUTER_FACTORS 128

/* out[k][n] (+)= the sum over rows of left[row][k] * right[row][n], for k < height and n < width. */
static inline __attribute__((always_inline)) void outer_tile(int height, int vectors, int64_t rows, const real *left,
                                                             int64_t left_step, const real *right, int64_t right_step,
                                                             real *out, int64_t out_step, int width, int add) {
    vec sums[ROWS_OF_OUTER][2];
    for (int k = 0; k < height; k++)
        for (int v = 0; v < vectors; v++) sums[k][v] = splat(0);
    for (int64_t row = 0; row < rows; row++, left += left_step, right += right_step) {
        vec factor[2];
        for (int v = 0; v < vectors; v++)
            factor[v] = width < WIDTH ? load_part(right, width) : load(right + v * WIDTH);
        for (int k = 0; k < height; k++)
            for (int v = 0; v < vectors; v++) sums[k][v] += splat(left[k]) * factor[v];
    }
    for (int k = 0; k < height; k++)
        for (int v = 0; v < vectors; v++) {
            real *at = out + k * out_step + v * WIDTH;
            if (width < WIDTH)
                store_part(at, add ? load_part(at, width) + sums[k][v] : sums[k][v], width);
            else
                store(at, add ? load(at) + sums[k][v] : sums[k][v]);
        }
}

#define OUTER_CASE(height) \
    case height: \
        if (width >= PAIR) \
            outer_tile(height, 2, rows, left, left_step, right, right_step, out, out_step, PAIR, add); \
        else if (width >= WIDTH) \
            outer_tile(height, 1, rows, left, left_step, right, right_step, out, out_step, WIDTH, add); \
        else \
            outer_tile(height, 1, rows, left, left_step, right, right_step, out, out_step, width, add); \
        break;

static void outer(int height, int width, int64_t rows, const real *left, int64_t left_step, const real *right,
                  int64_t right_step, real *out, int64_t out_step, int add) {
    switch (height) {
        OUTER_CASE(1)
        OUTER_CASE(2)
        OUTER_CASE(3)
        OUTER_CASE(4)
        OUTER_CASE(5)
        OUTER_CASE(6)
    }
}

static void weight_product(const int64_t *n) {
    const real *left = (const real *)n[1], *right = (const real *)n[3];
    const int64_t rows = n[6], height = n[7], width = n[8];
    real *out = (real *)n[9];
    for (int64_t u = 0, now; u < width; u += now) {
        now = width - u >= PAIR ? PAIR : MINIMUM(width - u, WIDTH);
        for (int64_t k = 0; k < height; k += ROWS_OF_OUTER)
            outer((int)MINIMUM(height - k, ROWS_OF_OUTER), (int)now, rows, left + k, n[2], right + u, n[4],
                  out + k * width + u, width, n[10] != 0);
    }
}

/* out[row][n] (+)= left[row] @ weights. */
static void input_product(const int64_t *n) {
    const real *left = (const real *)n[1];
    const matrix m = {(const real *)n[3], n[7], n[8], 1, n[4], n[5], 0};
    const int64_t rows = n[6], width = n[8];
    real *out = (real *)n[9];
    for (int64_t pair = 0; pair < PAIRS(width); pair++) {
        real packed[OUTER_FACTORS * PAIR] __attribute__((aligned(64))), sums[GROUP_ROWS * PAIR] __attribute__((aligned(64)));
        for (int64_t k = 0; k < m.rows; k += OUTER_FACTORS) {
            matrix part = m;
            part.rows = MINIMUM(OUTER_FACTORS, m.rows - k), part.data = m.data + k * m.row_step;
            panel p = {packed, PAIR, 0, part.rows, PAIRS(width), 0};
            pack_pair(&part, &p, pair, packed);
            const term t = {left + k, n[2], NULL, packed, PAIR, part.rows};
            for (int64_t row = 0; row < rows; row += GROUP_ROWS) {
                const int64_t count = MINIMUM(GROUP_ROWS, rows - row);
                multiply_all(count, &t, 1, row, NULL, 0, sums, PAIR);
                for (int64_t r = 0; r < count; r++)
                    for (int64_t half = 0; half < 2; half++) {
                        const int64_t u = pair * PAIR + half * WIDTH, now = MINIMUM(width - u, WIDTH);
                        if (now <= 0) break;
                        real *at = out + (row + r) * width + u;
                        vec value = load(sums + r * PAIR + half * WIDTH);
                        if (n[10] || k) value += load_part(at, (int)now);
                        store_part(at, value, (int)now);
                    }
            }
        }
    }
}

/* Eleven numbers a product; see products.py. */
void products(const int64_t *n, int64_t count) {
    for (; count--; n += 11)
        if (n[0]) input_product(n);
        else weight_product(n);
}
