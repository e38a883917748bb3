/* The products that follow the steps, for calls so small that a call of a library would cost more than its work. */

/* Factors and rows of one tile. */
#define ROWS_OF_OUTER 6
#define OUTER_FACTORS 128

/* out[k][n] (+)= the sum over rows of left[row][k] * right[row][n], for k < height and n < width. */
static inline __attribute__((always_inline)) void outer_tile(int height, int vectors, int64_t rows, const real *left,
                                                             int64_t left_step, const real *right, int64_t right_step,
                                                             real *out, int64_t out_step, int width, int add,
                                                             real sign) {
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
            sums[k][v] *= splat(sign);
            if (width < WIDTH)
                store_part(at, add ? load_part(at, width) + sums[k][v] : sums[k][v], width);
            else
                store(at, add ? load(at) + sums[k][v] : sums[k][v]);
        }
}

#define OUTER_CASE(height) \
    case height: \
        if (width >= PAIR) \
            outer_tile(height, 2, rows, left, left_step, right, right_step, out, out_step, PAIR, add, sign); \
        else if (width >= WIDTH) \
            outer_tile(height, 1, rows, left, left_step, right, right_step, out, out_step, WIDTH, add, sign); \
        else \
            outer_tile(height, 1, rows, left, left_step, right, right_step, out, out_step, width, add, sign); \
        break;

static void outer(int height, int width, int64_t rows, const real *left, int64_t left_step, const real *right,
                  int64_t right_step, real *out, int64_t out_step, int add, real sign) {
    switch (height) {
        OUTER_CASE(1)
        OUTER_CASE(2)
        OUTER_CASE(3)
        OUTER_CASE(4)
        OUTER_CASE(5)
        OUTER_CASE(6)
    }
}

/* n: 0, left: buffer, first value, step; right: the same; rows, height, width, number of the result, add, negative. */
static void weight_product(const int64_t *n, real *const *buffers, real *const *results) {
    const real *left = buffers[n[1]] + n[2], *right = buffers[n[4]] + n[5];
    const int64_t left_step = n[3], right_step = n[6], rows = n[7], height = n[8], width = n[9];
    real *out = results[n[10]];
    for (int64_t u = 0, now; u < width; u += now) {
        now = width - u >= PAIR ? PAIR : MINIMUM(width - u, WIDTH);
        for (int64_t k = 0; k < height; k += ROWS_OF_OUTER)
            outer((int)MINIMUM(height - k, ROWS_OF_OUTER), (int)now, rows, left + k, left_step, right + u,
                  right_step, out + k * width + u, width, n[11] != 0, n[12] ? -1 : 1);
    }
}

/* out[row][n] (+)= left[row] @ weights.  n: 1, left as above, number of the matrix, negative, 0, rows, factors, width, -1, add,
   whether the matrix is turned. Of a matrix its pointer and two steps are given. */
static void input_product(const int64_t *n, real *const *buffers, const int64_t *matrices, real *out) {
    const real *left = buffers[n[1]] + n[2];
    const int64_t *given = matrices + 3 * n[4];
    const int64_t left_step = n[3], rows = n[7], width = n[9];
    const matrix straight = {(const real *)given[0], n[8], width, 1, given[1], given[2], 0};
    matrix m = straight;
    if (n[12]) m.row_step = straight.column_step, m.column_step = straight.row_step;
    for (int64_t pair = 0; pair < PAIRS(width); pair++) {
        real packed[OUTER_FACTORS * PAIR] __attribute__((aligned(64))), sums[GROUP_ROWS * PAIR] __attribute__((aligned(64)));
        for (int64_t k = 0; k < m.rows; k += OUTER_FACTORS) {
            matrix part = m;
            part.rows = MINIMUM(OUTER_FACTORS, m.rows - k), part.data = m.data + k * m.row_step;
            panel p = {packed, PAIR, 0, part.rows, PAIRS(width), 0};
            pack_pair(&part, &p, pair, packed);
            const term t = {left + k, left_step, NULL, packed, PAIR, part.rows};
            for (int64_t row = 0; row < rows; row += GROUP_ROWS) {
                const int64_t count = MINIMUM(GROUP_ROWS, rows - row);
                multiply_all(count, &t, 1, row, NULL, 0, sums, PAIR);
                for (int64_t r = 0; r < count; r++)
                    for (int64_t half = 0; half < 2; half++) {
                        const int64_t u = pair * PAIR + half * WIDTH, now = MINIMUM(width - u, WIDTH);
                        if (now <= 0) break;
                        real *at = out + (row + r) * width + u;
                        vec value = load(sums + r * PAIR + half * WIDTH);
                        if (n[5]) value = -value;
                        if (n[11] || k) value += load_part(at, (int)now);
                        store_part(at, value, (int)now);
                    }
            }
        }
    }
}

/* Thirteen numbers a product; pointers: buffers, results, three numbers a matrix, the gradient of the input. */
void products(const int64_t *n, int64_t count, const int64_t *pointers, int64_t buffers, int64_t results) {
    real *const *first = (real *const *)pointers;
    const int64_t *matrices = pointers + buffers + results;
    int64_t turned = 0;
    for (int64_t i = 0; i < count; i++) turned += n[13 * i];
    for (; count--; n += 13)
        if (n[0]) input_product(n, first, matrices, (real *)matrices[3 * turned]);
        else weight_product(n, first, first + buffers);
}
