/* The products that follow the steps, for calls so small that a call of a library would cost more than its work. */

/* Factors of one tile. */
#define ROWS_OF_OUTER 6
/* What is added to the gradient of the input at a time: so many products, or parts of them, of so many factors. */
#define INPUT_PARTS 4
#define INPUT_FACTORS 128
/* Rows and tiles of left factors that are put side by side. */
#define PACKED_ROWS 128
#define PACKED_TILES 16

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

/* Some rows of some left factors, tile by tile. */
typedef struct {
    const real *at;
    int64_t step, tile_step, height;
} left_tiles;

static left_tiles pack_left(const real *left, int64_t step, int64_t rows, int64_t height, real *packed) {
    for (int64_t k = 0; k < height; k += ROWS_OF_OUTER, packed += rows * ROWS_OF_OUTER) {
        const int64_t now = MINIMUM(height - k, ROWS_OF_OUTER);
        /* A vector at a time where it does not reach beyond the row; what it holds too much, the next row replaces. */
        const int64_t whole = k + WIDTH <= height && WIDTH >= ROWS_OF_OUTER ? rows - 1 : 0;
        for (int64_t row = 0; row < whole; row++) store(packed + row * ROWS_OF_OUTER, load(left + row * step + k));
        for (int64_t row = whole; row < rows; row++)
            for (int64_t i = 0; i < now; i++) packed[row * ROWS_OF_OUTER + i] = left[row * step + k + i];
    }
    return (left_tiles){packed - (height + ROWS_OF_OUTER - 1) / ROWS_OF_OUTER * rows * ROWS_OF_OUTER, ROWS_OF_OUTER,
                        rows * ROWS_OF_OUTER, height};
}

/* One product with the left factors that are ready; out is where the first of them goes. */
static void right_product(const left_tiles *left, int64_t rows, const real *right, int64_t right_step, int64_t width,
                          real *out, int add, real sign) {
    for (int64_t u = 0, now; u < width; u += now) {
        now = width - u >= PAIR ? PAIR : MINIMUM(width - u, WIDTH);
        const real *tile = left->at;
        for (int64_t k = 0; k < left->height; k += ROWS_OF_OUTER, tile += left->tile_step)
            outer((int)MINIMUM(left->height - k, ROWS_OF_OUTER), (int)now, rows, tile, left->step, right + u,
                  right_step, out + k * width + u, width, add, sign);
    }
}

/* Products with one left factor.  n: 0, left: buffer, first value, step; right: the same; rows, height, width, number of
   the result, add, negative. */
static void weight_products(const int64_t *n, int64_t count, real *const *buffers, real *const *results) {
    real packed[PACKED_ROWS * PACKED_TILES * ROWS_OF_OUTER] __attribute__((aligned(64)));
    const int64_t left_step = n[3], rows = n[7], height = n[8];
    const real *left = buffers[n[1]] + n[2];
    for (int64_t row = 0; row < rows; row += PACKED_ROWS)
        for (int64_t k = 0; k < height; k += PACKED_TILES * ROWS_OF_OUTER) {
            const int64_t rows_now = MINIMUM(rows - row, PACKED_ROWS);
            const int64_t height_now = MINIMUM(height - k, PACKED_TILES * ROWS_OF_OUTER);
            const real *from = left + row * left_step + k;
            const left_tiles tiles = rows_now * height_now > WIDTH * WIDTH
                ? pack_left(from, left_step, rows_now, height_now, packed)
                : (left_tiles){from, left_step, ROWS_OF_OUTER, height_now};
            for (const int64_t *one = n; one < n + 13 * count; one += 13)
                right_product(&tiles, rows_now, buffers[one[4]] + one[5] + row * one[6], one[6], one[9],
                              results[one[10]] + k * one[9], one[11] != 0 || row, one[12] ? -1 : 1);
        }
}

/* How many products from here on have the same left factor. */
static int64_t with_one_left(const int64_t *n, int64_t most) {
    int64_t count = 1;
    for (; count < most; count++) {
        const int64_t *other = n + 13 * count;
        if (other[0] || other[1] != n[1] || other[2] != n[2] || other[3] != n[3] || other[7] != n[7] || other[8] != n[8])
            break;
    }
    return count;
}

/* Some factors of a product for the gradient of the input. */
typedef struct {
    const real *left;
    int64_t left_step;
    matrix weights;
} input_part;

/* out (+)= the sum of left[row] @ weights over some parts. */
static void add_input_parts(const input_part *parts, int count, int64_t rows, int64_t width, real *out, int add,
                            int negative) {
    real packed[INPUT_PARTS * INPUT_FACTORS * PAIR] __attribute__((aligned(64)));
    real sums[GROUP_ROWS * PAIR] __attribute__((aligned(64)));
    for (int64_t pair = 0; pair < PAIRS(width); pair++) {
        term terms[INPUT_PARTS];
        for (int i = 0; i < count; i++) {
            real *own = packed + i * INPUT_FACTORS * PAIR;
            panel p = {own, PAIR, 0, parts[i].weights.rows, PAIRS(width), 0};
            pack_pair(&parts[i].weights, &p, pair, own);
            terms[i] = (term){parts[i].left, parts[i].left_step, NULL, own, PAIR, parts[i].weights.rows};
        }
        for (int64_t row = 0; row < rows; row += GROUP_ROWS) {
            const int64_t rows_now = MINIMUM(GROUP_ROWS, rows - row);
            multiply_all(rows_now, terms, count, row, NULL, 0, sums, PAIR);
            for (int64_t r = 0; r < rows_now; r++)
                for (int64_t half = 0; half < 2; half++) {
                    const int64_t u = pair * PAIR + half * WIDTH, now = MINIMUM(width - u, WIDTH);
                    if (now <= 0) break;
                    real *at = out + (row + r) * width + u;
                    vec value = load(sums + r * PAIR + half * WIDTH);
                    if (negative) value = -value;
                    if (now == WIDTH) store(at, add ? value + load(at) : value);
                    else store_part(at, add ? value + load_part(at, (int)now) : value, (int)now);
                }
        }
    }
}

/* The gradient of the input.  n: 1, left: buffer, first value, step; number of the matrix, negative, 0, rows, factors,
   width, -1, add, whether the matrix is turned. Of a matrix its pointer and two steps are given. */
static void input_products(const int64_t *n, int64_t count, real *const *buffers, const int64_t *matrices, real *out) {
    input_part parts[INPUT_PARTS];
    int held = 0, add = n[11] != 0;
    for (int64_t job = 0; job < count; job++, n += 13) {
        const int64_t *given = matrices + 3 * n[4];
        const matrix straight = {(const real *)given[0], n[8], n[9], 1, given[1], given[2], 0};
        matrix m = straight;
        if (n[12]) m.row_step = straight.column_step, m.column_step = straight.row_step;
        for (int64_t k = 0; k < m.rows; k += INPUT_FACTORS) {
            matrix part = m;
            part.rows = MINIMUM(INPUT_FACTORS, m.rows - k), part.data = m.data + k * m.row_step;
            parts[held++] = (input_part){buffers[n[1]] + n[2] + k, n[3], part};
            const int last = k + INPUT_FACTORS >= m.rows && (job + 1 == count || n[13 + 5] != n[5]);
            if (held < INPUT_PARTS && !last) continue;
            add_input_parts(parts, held, n[7], n[9], out, add, n[5] != 0);
            held = 0, add = 1;
        }
    }
}

/* Thirteen numbers a product; pointers: buffers, results, three numbers a matrix, the gradient of the input. */
void products(const int64_t *n, int64_t count, const int64_t *pointers, int64_t buffers, int64_t results) {
    real *const *first = (real *const *)pointers;
    const int64_t *matrices = pointers + buffers + results;
    int64_t turned = 0;
    for (int64_t i = 0; i < count; i++) turned += n[13 * i];
    /* Those for the gradient of the input come last. */
    if (turned) input_products(n + 13 * (count - turned), turned, first, matrices, (real *)matrices[3 * turned]);
    for (int64_t now; count > turned; count -= now, n += 13 * now) {
        now = with_one_left(n, count - turned);
        weight_products(n, now, first, first + buffers);
    }
}
