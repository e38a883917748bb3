/* What every kernel needs around its formula: panels of weights, tiles of a matrix product, rows over threads. */

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* A panel is two vectors of units wide; it is one cache line on most machines. */
#define PAIR (2 * WIDTH)
#define PAD(units) (((units) + PAIR - 1) / PAIR * PAIR)
#define PAIRS(units) (((units) + PAIR - 1) / PAIR)

/* A tile of ROWS x 2 vectors must fit the registers with its weights and one factor. */
#ifndef ROWS
#if CELLULA_BYTES == 64 || defined(__aarch64__)
#define ROWS 12
#else
#define ROWS 6
#endif
#endif

#define MINIMUM(a, b) ((a) < (b) ? (a) : (b))
#define MAXIMUM(a, b) ((a) > (b) ? (a) : (b))

/* ---- matrices and panels ------------------------------------------------------------------------------------- */

/* `blocks` blocks of rows x columns; element (k, n) of block b is data[b * block_step + k * row_step + n * column_step]. */
typedef struct {
    const real *data;
    int64_t rows, columns, blocks, row_step, column_step, block_step;
} matrix;

/* The weights of a product, two vectors of results at a time: `count` factors, `step` apart, for each pair of vectors. */
typedef struct {
    const real *data;
    int64_t step, pair, count, pairs;
    /* Of a block-diagonal matrix: results of one block; 0 where every factor meets every result. */
    int64_t block_columns;
} panel;

static matrix turned(matrix m) {
    matrix t = m;
    t.rows = m.columns, t.columns = m.rows, t.row_step = m.column_step, t.column_step = m.row_step;
    return t;
}

static int is_block_wise(const matrix *m) { return m->blocks > 1 && m->columns % PAIR == 0; }

static int64_t panel_reals(const matrix *m) {
    return PAD(m->columns * m->blocks) * (is_block_wise(m) ? m->rows : m->rows * m->blocks);
}

/* A panel that reads the matrix where it is, if its layout allows that. */
static int can_be_direct(const matrix *m) {
    return m->blocks == 1 && m->column_step == 1 && m->columns % PAIR == 0;
}

static panel panel_of(const matrix *m, const real *packed) {
    panel p = {0};
    p.pairs = PAIRS(m->columns * m->blocks);
    if (!packed) {
        p.data = m->data, p.step = m->row_step, p.pair = PAIR, p.count = m->rows;
        return p;
    }
    p.data = packed, p.step = PAIR;
    p.count = is_block_wise(m) ? m->rows : m->rows * m->blocks;
    p.pair = p.count * PAIR;
    p.block_columns = is_block_wise(m) ? m->columns : 0;
    return p;
}

static real element(const matrix *m, int64_t k, int64_t n) {
    int64_t block = n / m->columns;
    if (k / m->rows != block) return 0;
    return m->data[block * m->block_step + k % m->rows * m->row_step + n % m->columns * m->column_step];
}

static void pack_pair(const matrix *m, const panel *p, int64_t pair, real *packed) {
    real *to = packed + pair * p->pair;
    int64_t first = pair * PAIR, units = m->columns * m->blocks;
    int64_t width = MINIMUM(PAIR, units - first);
    if (m->blocks == 1 && m->column_step == 1) {
        for (int64_t k = 0; k < p->count; k++, to += PAIR) {
            memcpy(to, m->data + k * m->row_step + first, width * sizeof(real));
            for (int64_t n = width; n < PAIR; n++) to[n] = 0;
        }
        return;
    }
    if (m->blocks == 1) {
        for (int64_t n = 0; n < PAIR; n++) {
            const real *from = m->data + (first + n) * m->column_step;
            for (int64_t k = 0; k < p->count; k++) to[k * PAIR + n] = n < width ? from[k * m->row_step] : 0;
        }
        return;
    }
    int64_t offset = p->block_columns ? first / p->block_columns * m->rows : 0;
    for (int64_t k = 0; k < p->count; k++)
        for (int64_t n = 0; n < PAIR; n++) to[k * PAIR + n] = n < width ? element(m, k + offset, first + n) : 0;
}

/* ---- tiles of a product -------------------------------------------------------------------------------------- */

/* One factor of a sum of products: row r of the left side starts at base + rows[r] * step (rows[r] = r if NULL). */
typedef struct {
    const real *base;
    int64_t step;
    const int64_t *rows;
    const real *weights;
    int64_t weight_step, count;
} term;

static inline term term_of(const real *base, int64_t step, const int64_t *rows, const panel *p, int64_t pair) {
    int64_t offset = p->block_columns ? pair * PAIR / p->block_columns * p->count : 0;
    term t = {base + offset, step, rows, p->data + pair * p->pair, p->step, p->count};
    return t;
}

static inline const real *row_of(const term *t, int64_t row) {
    return t->base + (t->rows ? t->rows[row] : row) * t->step;
}

/* The rows of tile `number` of `tiles`: as even as can be. */
#define TILES(rows) (((rows) + ROWS - 1) / ROWS)
static inline int64_t tile_start(int64_t rows, int64_t tiles, int64_t number) {
    return rows / tiles * number + MINIMUM(number, rows % tiles);
}

/* ---- reductions over the units of a row ------------------------------------------------------------------------- */

static inline real sum_row(const real *from, int64_t units) {
    vec total = splat(0);
    int64_t u = 0;
    for (; u + WIDTH <= units; u += WIDTH) total += load(from + u);
    if (u < units) total += load_part(from + u, (int)(units - u));
    return sum_lanes(total);
}

static inline real peak_row(const real *from, int64_t units) {
    real most = from[0];
    for (int64_t u = 1; u < units; u++) most = from[u] > most || from[u] != from[u] ? from[u] : most;
    return most;
}

/* ---- threads ------------------------------------------------------------------------------------------------------ */

/* torch's own threads, where it has them: nothing is started anew, and its setting holds. */
typedef void (*parallel_function)(void (*)(void *), void *, unsigned, unsigned);
typedef int (*count_function)(void);

typedef struct {
    parallel_function parallel;
    count_function number, count;
} threads;

typedef struct {
    void (*work)(void *, int, int);
    void *data;
    const threads *pool;
    atomic_int next;
    int size;
} team;

static void team_member(void *data) {
    team *t = data;
    if (t->pool->parallel)
        t->work(t->data, t->pool->number(), t->pool->count());
    else
        t->work(t->data, atomic_fetch_add(&t->next, 1), t->size);
}

static void *team_thread(void *data) {
    team_member(data);
    return NULL;
}

/* Call work(data, member, members) from up to `size` threads; members may be fewer. */
static void run_team(void (*work)(void *, int, int), void *data, const threads *pool, int size) {
    team t = {work, data, pool, 0, size};
    if (size <= 1) {
        work(data, 0, 1);
        return;
    }
    if (pool->parallel) {
        pool->parallel(team_member, &t, (unsigned)size, 0);
        return;
    }
    pthread_t started[64];
    int count = 0;
    while (count < MINIMUM(size, 64) - 1 && !pthread_create(&started[count], NULL, team_thread, &t)) count++;
    team_member(&t);
    while (count--) pthread_join(started[count], NULL);
}

/* All members wait for each other. Spinning is quick while each has a core; else the others are let run. */
typedef struct {
    _Alignas(64) atomic_int waiting;
    _Alignas(64) atomic_int round;
} barrier;

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void wait_for_all(barrier *b, int members) {
    if (members == 1) return;
    int round = atomic_load_explicit(&b->round, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&b->waiting, 1, memory_order_acq_rel) == members - 1) {
        atomic_store_explicit(&b->waiting, 0, memory_order_relaxed);
        atomic_store_explicit(&b->round, round + 1, memory_order_release);
        return;
    }
    for (int spins = 0; atomic_load_explicit(&b->round, memory_order_acquire) == round; spins++)
        if (spins < 4096) relax();
        else sched_yield();
}

/* ---- memory ---------------------------------------------------------------------------------------------------------- */

/* One arena is kept between calls: fresh pages cost more than small kernels. */
#define KEPT_BYTES ((size_t)64 << 20)
static atomic_flag arena_busy = ATOMIC_FLAG_INIT;
static char *arena_kept;
static size_t arena_bytes;

static char *take_arena(size_t bytes, int *kept) {
    bytes = (bytes + 4095) / 4096 * 4096;
    *kept = bytes <= KEPT_BYTES && !atomic_flag_test_and_set(&arena_busy);
    if (!*kept) return aligned_alloc(4096, bytes);
    if (arena_bytes < bytes) {
        free(arena_kept);
        arena_kept = aligned_alloc(4096, bytes);
        arena_bytes = arena_kept ? bytes : 0;
        if (!arena_kept) {
            atomic_flag_clear(&arena_busy);
            *kept = 0;
        }
    }
    return arena_kept;
}

static void give_arena(char *arena, int kept) {
    if (kept) atomic_flag_clear(&arena_busy);
    else free(arena);
}

/* Sizes are often powers of two: without gaps between them, the same rows of all parts meet in the same few lines of the
   first cache, and push each other out. */
#ifndef GAP_BYTES
#define GAP_BYTES 192
#endif

/* A cursor that hands out parts of an arena; with NULL it only counts. */
static void *carve(char **cursor, size_t bytes) {
    char *part = *cursor;
    *cursor += (bytes + 63) / 64 * 64 + GAP_BYTES;
    return part;
}

/* ---- choices -------------------------------------------------------------------------------------------------------- */

/* A batch part of fewer rows has its input products made for many steps at a time. */
#ifndef EARLY_ROWS
#define EARLY_ROWS 24
#endif
/* They are kept in the second cache. */
#ifndef EARLY_BYTES
#define EARLY_BYTES (256 << 10)
#endif
/* Weights that are used fewer times are read where they are. */
#ifndef DIRECT_USES
#define DIRECT_USES 8
#endif
/* Work is counted in multiplications: less than this is not worth a second thread, or a barrier in every pass. */
#ifndef SMALL_WORK
#define SMALL_WORK 200e3
#endif
#ifndef UNITS_WORK
#define UNITS_WORK 32e3
#endif
/* Rows of one part of a batch, at most: its scratch memory must stay near. */
#ifndef MOST_ROWS
#define MOST_ROWS 128
#endif
/* What the rows of a block of steps read in every pass stays in the second cache. */
#ifndef BLOCK_BYTES
#define BLOCK_BYTES (128 << 10)
#endif
#ifndef MOST_BLOCK_ROWS
#define MOST_BLOCK_ROWS 960
#endif
#define PACK_BYTES (128 << 10)

/* The totals of all parts of a batch, added up in their order. */
static inline void add_parts(real *to, const real *from, int64_t units, int64_t parts, int64_t step) {
    for (int64_t u = 0; u < units; u++) {
        real total = 0;
        for (int64_t part = 0; part < parts; part++) total += from[part * step + u];
        to[u] = total;
    }
}
