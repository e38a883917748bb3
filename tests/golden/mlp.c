/* The kernels of mlp. */

typedef struct {
    int64_t steps, batch, parts, members, most_rows, chunk, block;
    int64_t units[2];
    const double *setting;
    real *const *pointer;
    /* Steps of every row and the rows from the longest to the shortest; NULL where all run all steps. */
    const int64_t *lengths, *order;
    matrix matrices[2];
    panel panels[2];
    real *packed[2];
    int64_t total_at[1];
    real *totals;
    char *scratch;
    size_t scratch_bytes;
    atomic_llong next_part, next_worker, next_pair;
    barrier gate;
} forward_job;

typedef struct {
    real *last[1], *next[1], *spare[1], *crossing[1];
    real *early, *totals;
    int64_t early_at[1], early_step, early_row, chunk;
    int64_t *ids, *flat;
    /* Of every row of a block its sequence; the sequences of this part. */
    int64_t *own, *first;
} forward_part;

/* Pass 1 of 2 forward: a */
static void forward_pass_0(const forward_job *J, const forward_part *P, int64_t t, int64_t rows, int member, int members) {
    const int64_t *ids = P->ids;
    real *const a0 = J->pointer[0] + (t) * J->batch * J->units[0];  /* x */
    real *const a1 = J->pointer[3];  /* parameter b_a */
    real *const a2 = J->pointer[6] + t * J->batch * (0 + J->units[1]) + 0;  /* work: a */
    const int64_t units = J->units[1], pairs = PAIRS(units);
    const int64_t span = rows <= 2 ? 4 : 1, end = pairs * (member + 1) / members;
    (void)t;
    for (int64_t pair = pairs * member / members, after; pair < end; pair = after) {
        after = MINIMUM(pair + span, end);
        real sums[MAXIMUM(GROUP_ROWS, 8) * 1 * PAIR] __attribute__((aligned(64)));
        term terms_0[4][1];
        for (int64_t p = 0; p < after - pair; p++) {
            terms_0[p][0] = term_of(a0, J->units[0], P->ids, &J->panels[0], pair + p);
        }
        for (int64_t row = 0, last; row < rows; row = last) {
            last = MINIMUM(row + GROUP_ROWS, rows);
            {
                {
                    const term *lists[4];
                    const real *start[4] = {NULL};
                    real *out[4];
                    int count = 0;
                    for (int64_t p = 0; p < after - pair; p++) {
                        lists[count] = terms_0[p] + 0;
                        out[count++] = sums + (p * 2 + 0) * PAIR;
                    }
                    multiply_lists(last - row, lists, count, 1, row, start, 0, out, 1 * PAIR);
                }
            }
            for (int half = 0; half < 2 * (after - pair); half++) {
                const int64_t u = pair * PAIR + half * WIDTH, left = units - u;
                if (left <= 0) break;
                if (left >= WIDTH) {
                    for (int64_t r = row; r < last; r++) {
                        const int64_t id = ids[r];
                        (void)id;
                        const vec v0 = load(sums + ((half / 2) * 2 + (r - row) * 1 + 0) * PAIR + half % 2 * WIDTH);  /* x @ W_a */
                        const vec v1 = load(a1 + u);
                        const vec v2 = v0 + v1;
                        const vec v3 = v_tanh(v2);
                        const vec v4 = v3;  /* a */
                        store(a2 + id * (0 + J->units[1]) + u, v4);
                    }
                } else {
                    const int n = (int)left;
                    (void)n;
                    for (int64_t r = row; r < last; r++) {
                        const int64_t id = ids[r];
                        (void)id;
                        const vec v0 = load(sums + ((half / 2) * 2 + (r - row) * 1 + 0) * PAIR + half % 2 * WIDTH);  /* x @ W_a */
                        const vec v1 = load_part(a1 + u, n);
                        const vec v2 = v0 + v1;
                        const vec v3 = v_tanh(v2);
                        const vec v4 = v3;  /* a */
                        store_part(a2 + id * (0 + J->units[1]) + u, v4, n);
                    }
                }
            }
        }
    }
}

/* Pass 2 of 2 forward: h */
static void forward_pass_1(const forward_job *J, const forward_part *P, int64_t t, int64_t rows, int member, int members) {
    const int64_t *ids = P->ids;
    real *const a0 = J->pointer[6] + t * J->batch * (0 + J->units[1]) + 0;  /* work: a */
    real *const a1 = J->pointer[4];  /* parameter b_h */
    real *const a2 = J->pointer[5] + (t) * J->batch * J->units[1];  /* output */
    const int64_t units = J->units[1], pairs = PAIRS(units);
    const int64_t span = rows <= 2 ? 4 : 1, end = pairs * (member + 1) / members;
    (void)t;
    for (int64_t pair = pairs * member / members, after; pair < end; pair = after) {
        after = MINIMUM(pair + span, end);
        real sums[MAXIMUM(GROUP_ROWS, 8) * 1 * PAIR] __attribute__((aligned(64)));
        term terms_0[4][1];
        for (int64_t p = 0; p < after - pair; p++) {
            terms_0[p][0] = term_of(a0, 0 + J->units[1], P->ids, &J->panels[1], pair + p);
        }
        for (int64_t row = 0, last; row < rows; row = last) {
            last = MINIMUM(row + GROUP_ROWS, rows);
            {
                {
                    const term *lists[4];
                    const real *start[4] = {NULL};
                    real *out[4];
                    int count = 0;
                    for (int64_t p = 0; p < after - pair; p++) {
                        lists[count] = terms_0[p] + 0;
                        out[count++] = sums + (p * 2 + 0) * PAIR;
                    }
                    multiply_lists(last - row, lists, count, 1, row, start, 0, out, 1 * PAIR);
                }
            }
            for (int half = 0; half < 2 * (after - pair); half++) {
                const int64_t u = pair * PAIR + half * WIDTH, left = units - u;
                if (left <= 0) break;
                if (left >= WIDTH) {
                    for (int64_t r = row; r < last; r++) {
                        const int64_t id = ids[r];
                        (void)id;
                        const vec v0 = load(sums + ((half / 2) * 2 + (r - row) * 1 + 0) * PAIR + half % 2 * WIDTH);  /* a @ W_h */
                        const vec v1 = load(a1 + u);
                        const vec v2 = v0 + v1;
                        const vec v3 = v_tanh(v2);
                        const vec v4 = v3;  /* h */
                        store(a2 + id * (J->units[1]) + u, v4);
                    }
                } else {
                    const int n = (int)left;
                    (void)n;
                    for (int64_t r = row; r < last; r++) {
                        const int64_t id = ids[r];
                        (void)id;
                        const vec v0 = load(sums + ((half / 2) * 2 + (r - row) * 1 + 0) * PAIR + half % 2 * WIDTH);  /* a @ W_h */
                        const vec v1 = load_part(a1 + u, n);
                        const vec v2 = v0 + v1;
                        const vec v3 = v_tanh(v2);
                        const vec v4 = v3;  /* h */
                        store_part(a2 + id * (J->units[1]) + u, v4, n);
                    }
                }
            }
        }
    }
}

static void forward_rows(
    forward_job *J, const forward_part *shared, int64_t number, int member, int members) {
    forward_part own = *shared, *P = &own;
    const int64_t batch = J->batch, first = batch * number / J->parts;
    const int64_t after = batch * (number + 1) / J->parts;
    const int64_t count = J->order ? (batch - number + J->parts - 1) / J->parts : after - first;
    P->totals = J->totals + number * J->total_at[0];
    if (!member)
        for (int64_t r = 0; r < count; r++) P->first[r] = J->order ? J->order[number + r * J->parts] : first + r;
    if (!member) for (int64_t r = 0; r < count; r++) {

    }
    wait_for_all(&J->gate, members);
    int64_t rows = count, span = 0, spans = 0, wide = 0;
    for (int64_t t = 0; t < J->steps; t += span) {
        for (; J->lengths && rows && J->lengths[P->first[rows - 1]] <= t; rows--) if (!member) {
            const int64_t r = rows - 1;

        }
        if (!rows) break;
        span = MINIMUM(MAXIMUM(J->block / rows, 1), J->steps - t);
        if (J->lengths) span = MINIMUM(span, J->lengths[P->first[rows - 1]] - t);
        const int64_t flat = span * rows;
        if ((span != spans || rows != wide) && !member)
            for (int64_t k = 0; k < span; k++)
                for (int64_t r = 0; r < rows; r++)
                    P->ids[k * rows + r] = k * batch + P->first[r], P->own[k * rows + r] = P->first[r];
        spans = span, wide = rows;
        wait_for_all(&J->gate, members);
        forward_pass_0(J, P, t, flat, member, members);
        wait_for_all(&J->gate, members);
        forward_pass_1(J, P, t, flat, member, members);
        wait_for_all(&J->gate, members);
    }
    if (!member) for (int64_t r = 0; r < rows; r++) {

    }
}

static size_t forward_memory(const forward_job *J, forward_part *P, char *memory) {
    char *cursor = memory;
    P->early_step = 0, P->early_row = 0, P->chunk = J->chunk;
    P->early = carve(&cursor, J->most_rows * P->chunk * P->early_step * sizeof(real));
    P->flat = carve(&cursor, J->most_rows * P->chunk * sizeof(int64_t));
    P->ids = carve(&cursor, J->block * sizeof(int64_t));
    P->own = carve(&cursor, J->block * sizeof(int64_t));
    P->first = carve(&cursor, J->most_rows * sizeof(int64_t));
    return (size_t)(cursor - memory);
}

static void forward_pack(void *data, int member, int members) {
    forward_job *J = data;
    (void)member, (void)members;
    for (;;) {
        int64_t pair = atomic_fetch_add(&J->next_pair, 1), number = 0;
        for (; number < 2 && pair >= J->panels[number].pairs; number++)
            pair -= J->panels[number].pairs;
        if (number == 2) return;
        if (J->packed[number]) pack_pair(&J->matrices[number], &J->panels[number], pair, J->packed[number]);
    }
}

static void forward_work(void *data, int member, int members) {
    forward_job *J = data;
    forward_part P;
    const int64_t worker = J->members > 1 ? 0 : atomic_fetch_add(&J->next_worker, 1);
    forward_memory(J, &P, J->scratch + worker * J->scratch_bytes);
    if (J->members > 1)
        forward_rows(J, &P, 0, member, members);
    else
        for (int64_t number; (number = atomic_fetch_add(&J->next_part, 1)) < J->parts;) forward_rows(J, &P, number, 0, 1);
}

/* n: torch's three thread functions, threads, steps, batch, lengths, order, the sizes, three strides a matrix.
   0: done; 1: no memory. */
int forward(const int64_t *n, void *const *pointer, const double *setting) {
    forward_job job = {0}, *J = &job;
    const threads pool = {(parallel_function)n[0], (count_function)n[1], (count_function)n[2]};
    J->steps = n[4], J->batch = n[5], J->lengths = (const int64_t *)n[6], J->order = (const int64_t *)n[7];
    if (!J->lengths) J->batch *= J->steps, J->steps = 1;
    memcpy(J->units, n + 8, 2 * sizeof(int64_t));
    J->setting = setting, J->pointer = (real *const *)pointer;
    J->matrices[0] = (matrix){J->pointer[1], J->units[0] / 1, J->units[1] / 1, 1, n[10], n[11], n[12]};
    J->matrices[1] = (matrix){J->pointer[2], J->units[1] / 1, J->units[1] / 1, 1, n[13], n[14], n[15]};

    const int64_t uses = J->steps * J->batch;
    size_t weights = 0, packed_bytes = 0;
    for (int number = 0; number < 2; number++) {
        const size_t reals = panel_reals(&J->matrices[number]);
        weights += reals;
        J->packed[number] = uses < DIRECT_USES && can_be_direct(&J->matrices[number]) ? NULL : (real *)1;
        if (J->packed[number]) packed_bytes += (reals * sizeof(real) + 63) / 64 * 64;
    }
    int workers = (int)n[3];
    if ((double)(weights + 64) * uses < SMALL_WORK) workers = 1;
    const int by_units = workers > 1 && pool.parallel && J->batch < workers && weights * MINIMUM(J->batch * J->steps, GROUP_ROWS) >= UNITS_WORK;
    J->members = by_units ? workers : 1;
    J->parts = by_units ? 1 : MAXIMUM(1, MINIMUM(workers, J->batch));
    workers = by_units ? workers : (int)J->parts;
    J->parts = MAXIMUM(J->parts, J->parts * ((J->batch + J->parts * MOST_ROWS - 1) / (J->parts * MOST_ROWS)));
    J->most_rows = (J->batch + J->parts - 1) / J->parts;
    const int64_t row_bytes = (1 + PAD(J->units[0])) * (int64_t)sizeof(real);
    J->block = MINIMUM(MAXIMUM(BLOCK_BYTES / row_bytes, GROUP_ROWS), MOST_BLOCK_ROWS) / GROUP_ROWS * GROUP_ROWS;
    J->block = MAXIMUM(MINIMUM(J->block, J->steps * J->most_rows), J->most_rows);
    forward_part measure;
    J->scratch_bytes = (forward_memory(J, &measure, NULL) + 4095) / 4096 * 4096;
    const size_t total_bytes = J->parts * J->total_at[0] * sizeof(real);
    const size_t scratch = J->scratch_bytes * (by_units ? 1 : workers);
    int kept;
    char *arena = take_arena(packed_bytes + scratch + total_bytes + 4096, &kept), *cursor = arena;
    if (!arena) return 1;
#ifdef CELLULA_POISON
    memset(arena, 0xff, packed_bytes + scratch + total_bytes);
#endif
    for (int number = 0; number < 2; number++) {
        if (J->packed[number]) J->packed[number] = carve(&cursor, panel_reals(&J->matrices[number]) * sizeof(real));
        J->panels[number] = panel_of(&J->matrices[number], J->packed[number]);
    }
    J->totals = (real *)cursor, cursor += total_bytes;
    memset(J->totals, 0, total_bytes);
    J->scratch = arena + (cursor - arena + 63) / 64 * 64;
    run_team(forward_pack, J, &pool, packed_bytes > PACK_BYTES ? workers : 1);
    run_team(forward_work, J, &pool, workers);

    give_arena(arena, kept);
    return 0;
}

typedef struct {
    int64_t steps, batch, parts, members, most_rows, chunk, block;
    int64_t units[2];
    const double *setting;
    real *const *pointer;
    /* Steps of every row and the rows from the longest to the shortest; NULL where all run all steps. */
    const int64_t *lengths, *order;
    matrix matrices[1];
    panel panels[1];
    real *packed[1];
    int64_t total_at[3];
    real *totals;
    char *scratch;
    size_t scratch_bytes;
    atomic_llong next_part, next_worker, next_pair;
    barrier gate;
} backward_job;

typedef struct {
    real *last[1], *next[1], *spare[1], *crossing[1];
    real *early, *totals;
    int64_t early_at[1], early_step, early_row, chunk;
    int64_t *ids, *flat;
    /* Of every row of a block its sequence; the sequences of this part. */
    int64_t *own, *first;
} backward_part;

/* Pass 1 of 2 backward: dh, dh_in */
static void backward_pass_0(const backward_job *J, const backward_part *P, int64_t t, int64_t rows, int member, int members) {
    const int64_t *ids = P->ids;
    real *const a0 = J->pointer[6] + (t) * J->batch * J->units[1];  /* d_output */
    real *const a1 = J->pointer[5] + (t) * J->batch * J->units[1];  /* output */
    real *const a2 = J->pointer[7] + t * J->batch * (0 + J->units[1]) + 0;  /* work: a */
    real *const a3 = J->pointer[8] + t * J->batch * (0 + J->units[1] + J->units[1]) + 0 + J->units[1];  /* extra: dh_in */
    real *const a4 = P->crossing[0];  /* for a later pass */
    const int64_t units = J->units[1], pairs = PAIRS(units);
    const int64_t span = rows <= 2 ? 1 : 1, end = pairs * (member + 1) / members;
    (void)t;
    for (int64_t pair = pairs * member / members, after; pair < end; pair = after) {
        after = MINIMUM(pair + span, end);
        vec total_0[2] = {splat(0)};
        for (int64_t row = 0, last; row < rows; row = last) {
            last = MINIMUM(row + rows, rows);
            for (int half = 0; half < 2 * (after - pair); half++) {
                const int64_t u = pair * PAIR + half * WIDTH, left = units - u;
                if (left <= 0) break;
                if (left >= WIDTH) {
                    for (int64_t r = row; r < last; r++) {
                        const int64_t id = ids[r];
                        (void)id;
                        const vec v0 = load(a0 + id * (J->units[1]) + u);
                        const vec v1 = v0;  /* dh */
                        const vec v2 = load(a1 + id * (J->units[1]) + u);  /* h */
                        const vec v3 = v2 * v2;
                        const vec v4 = splat((real)0x1.0000000000000p+0);
                        const vec v5 = v4 - v3;
                        const vec v6 = v1 * v5;
                        const vec v7 = v6;  /* dh_in */
                        const vec v8 = load(a2 + id * (0 + J->units[1]) + u);  /* a */
                        const vec v9 = v8 * v8;
                        const vec v10 = v4 - v9;
                        store(a3 + id * (0 + J->units[1] + J->units[1]) + u, v7);
                        store(a4 + r * (PAD(J->units[1])) + u, v10);
                        total_0[half] += v7;
                    }
                } else {
                    const int n = (int)left;
                    (void)n;
                    for (int64_t r = row; r < last; r++) {
                        const int64_t id = ids[r];
                        (void)id;
                        const vec v0 = load_part(a0 + id * (J->units[1]) + u, n);
                        const vec v1 = v0;  /* dh */
                        const vec v2 = load_part(a1 + id * (J->units[1]) + u, n);  /* h */
                        const vec v3 = v2 * v2;
                        const vec v4 = splat((real)0x1.0000000000000p+0);
                        const vec v5 = v4 - v3;
                        const vec v6 = v1 * v5;
                        const vec v7 = v6;  /* dh_in */
                        const vec v8 = load_part(a2 + id * (0 + J->units[1]) + u, n);  /* a */
                        const vec v9 = v8 * v8;
                        const vec v10 = v4 - v9;
                        store_part(a3 + id * (0 + J->units[1] + J->units[1]) + u, v7, n);
                        store(a4 + r * (PAD(J->units[1])) + u, v10);
                        total_0[half] += v7;
                    }
                }
            }
        }
        for (int half = 0; half < 2 * (after - pair); half++)
            store(P->totals + J->total_at[1] + pair * PAIR + half * WIDTH, load(P->totals + J->total_at[1] + pair * PAIR + half * WIDTH) + total_0[half]);
    }
}

/* Pass 2 of 2 backward: da, da_in */
static void backward_pass_1(const backward_job *J, const backward_part *P, int64_t t, int64_t rows, int member, int members) {
    const int64_t *ids = P->ids;
    real *const a0 = J->pointer[8] + t * J->batch * (0 + J->units[1] + J->units[1]) + 0 + J->units[1];  /* extra: dh_in */
    real *const a1 = P->crossing[0];  /* for a later pass */
    real *const a2 = J->pointer[8] + t * J->batch * (0 + J->units[1] + J->units[1]) + 0;  /* extra: da_in */
    const int64_t units = J->units[1], pairs = PAIRS(units);
    const int64_t span = rows <= 2 ? 4 : 1, end = pairs * (member + 1) / members;
    (void)t;
    for (int64_t pair = pairs * member / members, after; pair < end; pair = after) {
        after = MINIMUM(pair + span, end);
        vec total_0[8] = {splat(0)};
        real sums[MAXIMUM(GROUP_ROWS, 8) * 1 * PAIR] __attribute__((aligned(64)));
        term terms_0[4][1];
        for (int64_t p = 0; p < after - pair; p++) {
            terms_0[p][0] = term_of(a0, 0 + J->units[1] + J->units[1], P->ids, &J->panels[0], pair + p);
        }
        for (int64_t row = 0, last; row < rows; row = last) {
            last = MINIMUM(row + GROUP_ROWS, rows);
            {
                {
                    const term *lists[4];
                    const real *start[4] = {NULL};
                    real *out[4];
                    int count = 0;
                    for (int64_t p = 0; p < after - pair; p++) {
                        lists[count] = terms_0[p] + 0;
                        out[count++] = sums + (p * 2 + 0) * PAIR;
                    }
                    multiply_lists(last - row, lists, count, 1, row, start, 0, out, 1 * PAIR);
                }
            }
            for (int half = 0; half < 2 * (after - pair); half++) {
                const int64_t u = pair * PAIR + half * WIDTH, left = units - u;
                if (left <= 0) break;
                if (left >= WIDTH) {
                    for (int64_t r = row; r < last; r++) {
                        const int64_t id = ids[r];
                        (void)id;
                        const vec v0 = load(sums + ((half / 2) * 2 + (r - row) * 1 + 0) * PAIR + half % 2 * WIDTH);  /* dh_in @ W_h.T */
                        const vec v1 = v0;  /* da */
                        const vec v2 = load(a1 + r * (PAD(J->units[1])) + u);
                        const vec v3 = v1 * v2;
                        const vec v4 = v3;  /* da_in */
                        store(a2 + id * (0 + J->units[1] + J->units[1]) + u, v4);
                        total_0[half] += v4;
                    }
                } else {
                    const int n = (int)left;
                    (void)n;
                    for (int64_t r = row; r < last; r++) {
                        const int64_t id = ids[r];
                        (void)id;
                        const vec v0 = load(sums + ((half / 2) * 2 + (r - row) * 1 + 0) * PAIR + half % 2 * WIDTH);  /* dh_in @ W_h.T */
                        const vec v1 = v0;  /* da */
                        const vec v2 = load(a1 + r * (PAD(J->units[1])) + u);
                        const vec v3 = v1 * v2;
                        const vec v4 = v3;  /* da_in */
                        store_part(a2 + id * (0 + J->units[1] + J->units[1]) + u, v4, n);
                        total_0[half] += v4;
                    }
                }
            }
        }
        for (int half = 0; half < 2 * (after - pair); half++)
            store(P->totals + J->total_at[0] + pair * PAIR + half * WIDTH, load(P->totals + J->total_at[0] + pair * PAIR + half * WIDTH) + total_0[half]);
    }
}

static void backward_rows(
    backward_job *J, const backward_part *shared, int64_t number, int member, int members) {
    backward_part own = *shared, *P = &own;
    const int64_t batch = J->batch, first = batch * number / J->parts;
    const int64_t after = batch * (number + 1) / J->parts;
    const int64_t count = J->order ? (batch - number + J->parts - 1) / J->parts : after - first;
    P->totals = J->totals + number * J->total_at[2];
    if (!member)
        for (int64_t r = 0; r < count; r++) P->first[r] = J->order ? J->order[number + r * J->parts] : first + r;
    if (!member) for (int64_t r = 0; r < count; r++) {

    }
    wait_for_all(&J->gate, members);
    int64_t rows = 0, span = 0, spans = 0, wide = 0;
    for (int64_t t = J->steps - 1; t >= 0; t -= span) {
        for (; rows < count && (!J->lengths || J->lengths[P->first[rows]] > t); rows++) if (!member) {
            const int64_t r = rows;

        }
        span = 1;
        if (!rows) continue;
        if (t >= 1) span = MINIMUM(MAXIMUM(J->block / rows, 1), t + 1 - 1);
        if (rows < count) span = MINIMUM(span, t + 1 - J->lengths[P->first[rows]]);
        const int64_t flat = span * rows;
        if ((span != spans || rows != wide) && !member)
            for (int64_t k = 0; k < span; k++)
                for (int64_t r = 0; r < rows; r++)
                    P->ids[k * rows + r] = -k * batch + P->first[r], P->own[k * rows + r] = P->first[r];
        spans = span, wide = rows;
        wait_for_all(&J->gate, members);
        backward_pass_0(J, P, t, flat, member, members);
        wait_for_all(&J->gate, members);
        backward_pass_1(J, P, t, flat, member, members);
        wait_for_all(&J->gate, members);
    }
    if (!member) for (int64_t r = 0; r < count; r++) {
        if (r >= rows) {

        }

    }
}

static size_t backward_memory(const backward_job *J, backward_part *P, char *memory) {
    char *cursor = memory;
    P->crossing[0] = carve(&cursor, J->block * PAD(J->units[1]) * sizeof(real));
    P->early_step = 0, P->early_row = 0, P->chunk = J->chunk;
    P->early = carve(&cursor, J->most_rows * P->chunk * P->early_step * sizeof(real));
    P->flat = carve(&cursor, J->most_rows * P->chunk * sizeof(int64_t));
    P->ids = carve(&cursor, J->block * sizeof(int64_t));
    P->own = carve(&cursor, J->block * sizeof(int64_t));
    P->first = carve(&cursor, J->most_rows * sizeof(int64_t));
    return (size_t)(cursor - memory);
}

static void backward_pack(void *data, int member, int members) {
    backward_job *J = data;
    (void)member, (void)members;
    for (;;) {
        int64_t pair = atomic_fetch_add(&J->next_pair, 1), number = 0;
        for (; number < 1 && pair >= J->panels[number].pairs; number++)
            pair -= J->panels[number].pairs;
        if (number == 1) return;
        if (J->packed[number]) pack_pair(&J->matrices[number], &J->panels[number], pair, J->packed[number]);
    }
}

static void backward_work(void *data, int member, int members) {
    backward_job *J = data;
    backward_part P;
    const int64_t worker = J->members > 1 ? 0 : atomic_fetch_add(&J->next_worker, 1);
    backward_memory(J, &P, J->scratch + worker * J->scratch_bytes);
    if (J->members > 1)
        backward_rows(J, &P, 0, member, members);
    else
        for (int64_t number; (number = atomic_fetch_add(&J->next_part, 1)) < J->parts;) backward_rows(J, &P, number, 0, 1);
}

/* n: torch's three thread functions, threads, steps, batch, lengths, order, the sizes, three strides a matrix.
   0: done; 1: no memory. */
int backward(const int64_t *n, void *const *pointer, const double *setting) {
    backward_job job = {0}, *J = &job;
    const threads pool = {(parallel_function)n[0], (count_function)n[1], (count_function)n[2]};
    J->steps = n[4], J->batch = n[5], J->lengths = (const int64_t *)n[6], J->order = (const int64_t *)n[7];
    if (!J->lengths) J->batch *= J->steps, J->steps = 1;
    memcpy(J->units, n + 8, 2 * sizeof(int64_t));
    J->setting = setting, J->pointer = (real *const *)pointer;
    J->matrices[0] = (matrix){J->pointer[2], J->units[1] / 1, J->units[1] / 1, 1, n[13], n[14], n[15]};
    J->matrices[0] = turned(J->matrices[0]);
    J->total_at[1] = J->total_at[0] + PAD(J->units[1]);
    J->total_at[2] = J->total_at[1] + PAD(J->units[1]);
    const int64_t uses = J->steps * J->batch;
    size_t weights = 0, packed_bytes = 0;
    for (int number = 0; number < 1; number++) {
        const size_t reals = panel_reals(&J->matrices[number]);
        weights += reals;
        J->packed[number] = uses < DIRECT_USES && can_be_direct(&J->matrices[number]) ? NULL : (real *)1;
        if (J->packed[number]) packed_bytes += (reals * sizeof(real) + 63) / 64 * 64;
    }
    int workers = (int)n[3];
    if ((double)(weights + 64) * uses < SMALL_WORK) workers = 1;
    const int by_units = workers > 1 && pool.parallel && J->batch < workers && weights * MINIMUM(J->batch * J->steps, GROUP_ROWS) >= UNITS_WORK;
    J->members = by_units ? workers : 1;
    J->parts = by_units ? 1 : MAXIMUM(1, MINIMUM(workers, J->batch));
    workers = by_units ? workers : (int)J->parts;
    J->parts = MAXIMUM(J->parts, J->parts * ((J->batch + J->parts * MOST_ROWS - 1) / (J->parts * MOST_ROWS)));
    J->most_rows = (J->batch + J->parts - 1) / J->parts;
    const int64_t row_bytes = (1 + PAD(J->units[0]) + PAD(J->units[1])) * (int64_t)sizeof(real);
    J->block = MINIMUM(MAXIMUM(BLOCK_BYTES / row_bytes, GROUP_ROWS), MOST_BLOCK_ROWS) / GROUP_ROWS * GROUP_ROWS;
    J->block = MAXIMUM(MINIMUM(J->block, J->steps * J->most_rows), J->most_rows);
    backward_part measure;
    J->scratch_bytes = (backward_memory(J, &measure, NULL) + 4095) / 4096 * 4096;
    const size_t total_bytes = J->parts * J->total_at[2] * sizeof(real);
    const size_t scratch = J->scratch_bytes * (by_units ? 1 : workers);
    int kept;
    char *arena = take_arena(packed_bytes + scratch + total_bytes + 4096, &kept), *cursor = arena;
    if (!arena) return 1;
#ifdef CELLULA_POISON
    memset(arena, 0xff, packed_bytes + scratch + total_bytes);
#endif
    for (int number = 0; number < 1; number++) {
        if (J->packed[number]) J->packed[number] = carve(&cursor, panel_reals(&J->matrices[number]) * sizeof(real));
        J->panels[number] = panel_of(&J->matrices[number], J->packed[number]);
    }
    J->totals = (real *)cursor, cursor += total_bytes;
    memset(J->totals, 0, total_bytes);
    J->scratch = arena + (cursor - arena + 63) / 64 * 64;
    run_team(backward_pack, J, &pool, packed_bytes > PACK_BYTES ? workers : 1);
    run_team(backward_work, J, &pool, workers);
    add_parts(J->pointer[10], J->totals + J->total_at[0], J->units[1], J->parts, J->total_at[2]);
    add_parts(J->pointer[11], J->totals + J->total_at[1], J->units[1], J->parts, J->total_at[2]);
    give_arena(arena, kept);
    return 0;
}

