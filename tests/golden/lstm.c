/* The kernels of lstm. */

typedef struct {
    int64_t steps, batch, parts, members, most_rows, chunk;
    int64_t units[2];
    const double *setting;
    real *const *pointer;
    /* Steps of every row and the rows from the longest to the shortest; NULL where all run all steps. */
    const int64_t *lengths, *order;
    matrix matrices[8];
    panel panels[8];
    real *packed[8];
    int64_t total_at[1];
    real *totals;
    char *scratch;
    size_t scratch_bytes;
    atomic_llong next_part, next_worker, next_pair;
    barrier gate;
} forward_job;

typedef struct {
    real *last[2], *next[2], *crossing[1];
    real *early, *totals;
    int64_t early_at[4], early_step, early_row, chunk;
    int64_t *ids, *flat;
} forward_part;

/* Pass 1 of 1 forward: o, f, i, g, c, h */
static void forward_pass_0(const forward_job *J, const forward_part *P, int64_t t, int64_t rows, int member, int members) {
    const int64_t *ids = P->ids;
    real *const a0 = J->pointer[0] + (t) * J->batch * J->units[0];  /* x */
    real *const a1 = P->last[1];  /* state h */
    real *const a2 = J->pointer[12];  /* parameter b_o */
    real *const a3 = J->pointer[10];  /* parameter b_f */
    real *const a4 = P->last[0];  /* state c */
    real *const a5 = J->pointer[9];  /* parameter b_i */
    real *const a6 = J->pointer[11];  /* parameter b_g */
    real *const a7 = P->next[0];  /* state c after the step */
    real *const a8 = P->next[1];  /* state h after the step */
    real *const a9 = J->pointer[18] + (t) * J->batch * J->units[1];  /* series c */
    real *const a10 = J->pointer[19] + t * J->batch * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + 0;  /* work: i */
    real *const a11 = J->pointer[19] + t * J->batch * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + 0 + J->units[1];  /* work: f */
    real *const a12 = J->pointer[19] + t * J->batch * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + 0 + J->units[1] + J->units[1];  /* work: g */
    real *const a13 = J->pointer[19] + t * J->batch * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + 0 + J->units[1] + J->units[1] + J->units[1];  /* work: o */
    real *const a14 = J->pointer[13] + (t) * J->batch * J->units[1];  /* output */
    const int64_t units = J->units[1], pairs = PAIRS(units);
    const int64_t span = rows <= 2 ? 4 : 1, end = pairs * (member + 1) / members;
    (void)t;
    for (int64_t pair = pairs * member / members, after; pair < end; pair = after) {
        after = MINIMUM(pair + span, end);
        real sums[MAXIMUM(GROUP_ROWS, 8) * 4 * PAIR] __attribute__((aligned(64)));
        term terms_0[4][2];
        for (int64_t p = 0; p < after - pair; p++) {
            terms_0[p][0] = term_of(a0, J->units[0], P->ids, &J->panels[0], pair + p);
            terms_0[p][1] = term_of(a1, PAD(J->units[1]), NULL, &J->panels[1], pair + p);
        }
        term terms_1[4][2];
        for (int64_t p = 0; p < after - pair; p++) {
            terms_1[p][0] = term_of(a0, J->units[0], P->ids, &J->panels[2], pair + p);
            terms_1[p][1] = term_of(a1, PAD(J->units[1]), NULL, &J->panels[3], pair + p);
        }
        term terms_2[4][2];
        for (int64_t p = 0; p < after - pair; p++) {
            terms_2[p][0] = term_of(a0, J->units[0], P->ids, &J->panels[4], pair + p);
            terms_2[p][1] = term_of(a1, PAD(J->units[1]), NULL, &J->panels[5], pair + p);
        }
        term terms_3[4][2];
        for (int64_t p = 0; p < after - pair; p++) {
            terms_3[p][0] = term_of(a0, J->units[0], P->ids, &J->panels[6], pair + p);
            terms_3[p][1] = term_of(a1, PAD(J->units[1]), NULL, &J->panels[7], pair + p);
        }
        for (int64_t row = 0, last; row < rows; row = last) {
            last = MINIMUM(row + GROUP_ROWS, rows);
            if (P->chunk) {
                {
                    const term *lists[16];
                    const real *start[16] = {NULL};
                    real *out[16];
                    int count = 0;
                    for (int64_t p = 0; p < after - pair; p++) {
                        lists[count] = terms_0[p] + 1;
                        start[count] = P->early + (P->early_row + row) * P->early_step + P->early_at[0] + (pair + p) * PAIR;
                        out[count++] = sums + (p * 8 + 0) * PAIR;
                    }
                    for (int64_t p = 0; p < after - pair; p++) {
                        lists[count] = terms_1[p] + 1;
                        start[count] = P->early + (P->early_row + row) * P->early_step + P->early_at[1] + (pair + p) * PAIR;
                        out[count++] = sums + (p * 8 + 1) * PAIR;
                    }
                    for (int64_t p = 0; p < after - pair; p++) {
                        lists[count] = terms_2[p] + 1;
                        start[count] = P->early + (P->early_row + row) * P->early_step + P->early_at[2] + (pair + p) * PAIR;
                        out[count++] = sums + (p * 8 + 2) * PAIR;
                    }
                    for (int64_t p = 0; p < after - pair; p++) {
                        lists[count] = terms_3[p] + 1;
                        start[count] = P->early + (P->early_row + row) * P->early_step + P->early_at[3] + (pair + p) * PAIR;
                        out[count++] = sums + (p * 8 + 3) * PAIR;
                    }
                    multiply_lists(last - row, lists, count, 1, row, start, P->early_step, out, 4 * PAIR);
                }
            } else {
                {
                    const term *lists[16];
                    const real *start[16] = {NULL};
                    real *out[16];
                    int count = 0;
                    for (int64_t p = 0; p < after - pair; p++) {
                        lists[count] = terms_0[p] + 0;
                        out[count++] = sums + (p * 8 + 0) * PAIR;
                    }
                    for (int64_t p = 0; p < after - pair; p++) {
                        lists[count] = terms_1[p] + 0;
                        out[count++] = sums + (p * 8 + 1) * PAIR;
                    }
                    for (int64_t p = 0; p < after - pair; p++) {
                        lists[count] = terms_2[p] + 0;
                        out[count++] = sums + (p * 8 + 2) * PAIR;
                    }
                    for (int64_t p = 0; p < after - pair; p++) {
                        lists[count] = terms_3[p] + 0;
                        out[count++] = sums + (p * 8 + 3) * PAIR;
                    }
                    multiply_lists(last - row, lists, count, 2, row, start, 0, out, 4 * PAIR);
                }
            }
            for (int half = 0; half < 2 * (after - pair); half++) {
                const int64_t u = pair * PAIR + half * WIDTH, left = units - u;
                if (left <= 0) break;
                if (left >= WIDTH) {
                    for (int64_t r = row; r < last; r++) {
                        const int64_t id = ids[r];
                        (void)id;
                        const vec v0 = load(sums + ((half / 2) * 8 + (r - row) * 4 + 0) * PAIR + half % 2 * WIDTH);  /* x @ W_o + h(t - 1) @ U_o */
                        const vec v1 = load(a2 + u);
                        const vec v2 = v0 + v1;
                        const vec v3 = v_sigmoid(v2);
                        const vec v4 = v3;  /* o */
                        const vec v5 = load(sums + ((half / 2) * 8 + (r - row) * 4 + 1) * PAIR + half % 2 * WIDTH);  /* x @ W_f + h(t - 1) @ U_f */
                        const vec v6 = load(a3 + u);
                        const vec v7 = v5 + v6;
                        const vec v8 = v_sigmoid(v7);
                        const vec v9 = v8;  /* f */
                        const vec v10 = load(a4 + r * (PAD(J->units[1])) + u);
                        const vec v11 = v9 * v10;
                        const vec v12 = load(sums + ((half / 2) * 8 + (r - row) * 4 + 2) * PAIR + half % 2 * WIDTH);  /* x @ W_i + h(t - 1) @ U_i */
                        const vec v13 = load(a5 + u);
                        const vec v14 = v12 + v13;
                        const vec v15 = v_sigmoid(v14);
                        const vec v16 = v15;  /* i */
                        const vec v17 = load(sums + ((half / 2) * 8 + (r - row) * 4 + 3) * PAIR + half % 2 * WIDTH);  /* x @ W_g + h(t - 1) @ U_g */
                        const vec v18 = load(a6 + u);
                        const vec v19 = v17 + v18;
                        const vec v20 = v_tanh(v19);
                        const vec v21 = v20;  /* g */
                        const vec v22 = v16 * v21;
                        const vec v23 = v11 + v22;
                        const vec v24 = v23;  /* c */
                        const vec v25 = v_tanh(v24);
                        const vec v26 = v4 * v25;
                        const vec v27 = v26;  /* h */
                        store(a7 + r * (PAD(J->units[1])) + u, v24);
                        store(a8 + r * (PAD(J->units[1])) + u, v27);
                        store(a9 + id * (J->units[1]) + u, v24);
                        store(a10 + id * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + u, v16);
                        store(a11 + id * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + u, v9);
                        store(a12 + id * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + u, v21);
                        store(a13 + id * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + u, v4);
                        store(a14 + id * (J->units[1]) + u, v27);
                    }
                } else {
                    const int n = (int)left;
                    (void)n;
                    for (int64_t r = row; r < last; r++) {
                        const int64_t id = ids[r];
                        (void)id;
                        const vec v0 = load(sums + ((half / 2) * 8 + (r - row) * 4 + 0) * PAIR + half % 2 * WIDTH);  /* x @ W_o + h(t - 1) @ U_o */
                        const vec v1 = load_part(a2 + u, n);
                        const vec v2 = v0 + v1;
                        const vec v3 = v_sigmoid(v2);
                        const vec v4 = v3;  /* o */
                        const vec v5 = load(sums + ((half / 2) * 8 + (r - row) * 4 + 1) * PAIR + half % 2 * WIDTH);  /* x @ W_f + h(t - 1) @ U_f */
                        const vec v6 = load_part(a3 + u, n);
                        const vec v7 = v5 + v6;
                        const vec v8 = v_sigmoid(v7);
                        const vec v9 = v8;  /* f */
                        const vec v10 = load(a4 + r * (PAD(J->units[1])) + u);
                        const vec v11 = v9 * v10;
                        const vec v12 = load(sums + ((half / 2) * 8 + (r - row) * 4 + 2) * PAIR + half % 2 * WIDTH);  /* x @ W_i + h(t - 1) @ U_i */
                        const vec v13 = load_part(a5 + u, n);
                        const vec v14 = v12 + v13;
                        const vec v15 = v_sigmoid(v14);
                        const vec v16 = v15;  /* i */
                        const vec v17 = load(sums + ((half / 2) * 8 + (r - row) * 4 + 3) * PAIR + half % 2 * WIDTH);  /* x @ W_g + h(t - 1) @ U_g */
                        const vec v18 = load_part(a6 + u, n);
                        const vec v19 = v17 + v18;
                        const vec v20 = v_tanh(v19);
                        const vec v21 = v20;  /* g */
                        const vec v22 = v16 * v21;
                        const vec v23 = v11 + v22;
                        const vec v24 = v23;  /* c */
                        const vec v25 = v_tanh(v24);
                        const vec v26 = v4 * v25;
                        const vec v27 = v26;  /* h */
                        store(a7 + r * (PAD(J->units[1])) + u, v24);
                        store(a8 + r * (PAD(J->units[1])) + u, v27);
                        store_part(a9 + id * (J->units[1]) + u, v24, n);
                        store_part(a10 + id * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + u, v16, n);
                        store_part(a11 + id * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + u, v9, n);
                        store_part(a12 + id * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + u, v21, n);
                        store_part(a13 + id * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + u, v4, n);
                        store_part(a14 + id * (J->units[1]) + u, v27, n);
                    }
                }
            }
        }
    }
}

static void forward_early(const forward_job *J, const forward_part *P, int64_t rows, int member, int members) {
    const real *x = J->pointer[0];
    for (int64_t pairs = PAIRS(J->units[1]), pair = pairs * member / members;
         pair < pairs * (member + 1) / members; pair++) {
        const term terms[] = {term_of(x, J->units[0], P->flat, &J->panels[0], pair)};
        for (int64_t row = 0; row < rows; row += GROUP_ROWS)
            multiply_all(MINIMUM(GROUP_ROWS, rows - row), terms, 1, row, NULL, 0,
                         P->early + row * P->early_step + P->early_at[0] + pair * PAIR, P->early_step);
    }
    for (int64_t pairs = PAIRS(J->units[1]), pair = pairs * member / members;
         pair < pairs * (member + 1) / members; pair++) {
        const term terms[] = {term_of(x, J->units[0], P->flat, &J->panels[2], pair)};
        for (int64_t row = 0; row < rows; row += GROUP_ROWS)
            multiply_all(MINIMUM(GROUP_ROWS, rows - row), terms, 1, row, NULL, 0,
                         P->early + row * P->early_step + P->early_at[1] + pair * PAIR, P->early_step);
    }
    for (int64_t pairs = PAIRS(J->units[1]), pair = pairs * member / members;
         pair < pairs * (member + 1) / members; pair++) {
        const term terms[] = {term_of(x, J->units[0], P->flat, &J->panels[4], pair)};
        for (int64_t row = 0; row < rows; row += GROUP_ROWS)
            multiply_all(MINIMUM(GROUP_ROWS, rows - row), terms, 1, row, NULL, 0,
                         P->early + row * P->early_step + P->early_at[2] + pair * PAIR, P->early_step);
    }
    for (int64_t pairs = PAIRS(J->units[1]), pair = pairs * member / members;
         pair < pairs * (member + 1) / members; pair++) {
        const term terms[] = {term_of(x, J->units[0], P->flat, &J->panels[6], pair)};
        for (int64_t row = 0; row < rows; row += GROUP_ROWS)
            multiply_all(MINIMUM(GROUP_ROWS, rows - row), terms, 1, row, NULL, 0,
                         P->early + row * P->early_step + P->early_at[3] + pair * PAIR, P->early_step);
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
        for (int64_t r = 0; r < count; r++) P->ids[r] = J->order ? J->order[number + r * J->parts] : first + r;
    if (!member) for (int64_t r = 0; r < count; r++) {
        memcpy(P->last[0] + r * PAD(J->units[1]), J->pointer[14] + P->ids[r] * J->units[1], J->units[1] * sizeof(real));
        memcpy(P->last[1] + r * PAD(J->units[1]), J->pointer[15] + P->ids[r] * J->units[1], J->units[1] * sizeof(real));
    }
    wait_for_all(&J->gate, members);
    int64_t rows = count;
    for (int64_t t = 0; t < J->steps; t++) {
        for (; J->lengths && rows && J->lengths[P->ids[rows - 1]] <= t; rows--) if (!member) {
            const int64_t r = rows - 1;
        memcpy(J->pointer[16] + P->ids[r] * J->units[1], P->last[0] + r * PAD(J->units[1]), J->units[1] * sizeof(real));
        memcpy(J->pointer[17] + P->ids[r] * J->units[1], P->last[1] + r * PAD(J->units[1]), J->units[1] * sizeof(real));
        }
        if (!rows) break;
        if (P->chunk && t % P->chunk == 0) {
            int64_t flat = 0;
            for (int64_t s = t, left = rows; s < MINIMUM(t + P->chunk, J->steps); s++) {
                while (J->lengths && left && J->lengths[P->ids[left - 1]] <= s) left--;
                if (!member) for (int64_t r = 0; r < left; r++) P->flat[flat + r] = s * batch + P->ids[r];
                flat += left;
            }
            wait_for_all(&J->gate, members);
            forward_early(J, P, flat, member, members);
            wait_for_all(&J->gate, members);
            P->early_row = 0;
        }
        forward_pass_0(J, P, t, rows, member, members);
        wait_for_all(&J->gate, members);
        { real *swap = P->last[0]; P->last[0] = P->next[0]; P->next[0] = swap; }
        { real *swap = P->last[1]; P->last[1] = P->next[1]; P->next[1] = swap; }
        P->early_row += rows;
    }
    if (!member) for (int64_t r = 0; r < rows; r++) {
        memcpy(J->pointer[16] + P->ids[r] * J->units[1], P->last[0] + r * PAD(J->units[1]), J->units[1] * sizeof(real));
        memcpy(J->pointer[17] + P->ids[r] * J->units[1], P->last[1] + r * PAD(J->units[1]), J->units[1] * sizeof(real));
    }
}

static size_t forward_memory(const forward_job *J, forward_part *P, char *memory) {
    char *cursor = memory;
    P->last[0] = carve(&cursor, J->most_rows * PAD(J->units[1]) * sizeof(real));
    P->next[0] = carve(&cursor, J->most_rows * PAD(J->units[1]) * sizeof(real));
    P->last[1] = carve(&cursor, J->most_rows * PAD(J->units[1]) * sizeof(real));
    P->next[1] = carve(&cursor, J->most_rows * PAD(J->units[1]) * sizeof(real));
    P->early_step = 0, P->early_row = 0, P->chunk = J->chunk;
    P->early_at[0] = P->early_step, P->early_step += PAD(J->units[1]);
    P->early_at[1] = P->early_step, P->early_step += PAD(J->units[1]);
    P->early_at[2] = P->early_step, P->early_step += PAD(J->units[1]);
    P->early_at[3] = P->early_step, P->early_step += PAD(J->units[1]);
    P->early = carve(&cursor, J->most_rows * P->chunk * P->early_step * sizeof(real));
    P->flat = carve(&cursor, J->most_rows * P->chunk * sizeof(int64_t));
    P->ids = carve(&cursor, J->most_rows * sizeof(int64_t));
    return (size_t)(cursor - memory);
}

static void forward_pack(void *data, int member, int members) {
    forward_job *J = data;
    (void)member, (void)members;
    for (;;) {
        int64_t pair = atomic_fetch_add(&J->next_pair, 1), number = 0;
        for (; number < 8 && pair >= J->panels[number].pairs; number++)
            pair -= J->panels[number].pairs;
        if (number == 8) return;
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
    memcpy(J->units, n + 8, 2 * sizeof(int64_t));
    J->setting = setting, J->pointer = (real *const *)pointer;
    J->matrices[0] = (matrix){J->pointer[7], J->units[0] / 1, J->units[1] / 1, 1, n[28], n[29], n[30]};
    J->matrices[1] = (matrix){J->pointer[8], J->units[1] / 1, J->units[1] / 1, 1, n[31], n[32], n[33]};
    J->matrices[2] = (matrix){J->pointer[3], J->units[0] / 1, J->units[1] / 1, 1, n[16], n[17], n[18]};
    J->matrices[3] = (matrix){J->pointer[4], J->units[1] / 1, J->units[1] / 1, 1, n[19], n[20], n[21]};
    J->matrices[4] = (matrix){J->pointer[1], J->units[0] / 1, J->units[1] / 1, 1, n[10], n[11], n[12]};
    J->matrices[5] = (matrix){J->pointer[2], J->units[1] / 1, J->units[1] / 1, 1, n[13], n[14], n[15]};
    J->matrices[6] = (matrix){J->pointer[5], J->units[0] / 1, J->units[1] / 1, 1, n[22], n[23], n[24]};
    J->matrices[7] = (matrix){J->pointer[6], J->units[1] / 1, J->units[1] / 1, 1, n[25], n[26], n[27]};

    const int64_t uses = J->steps * J->batch;
    size_t weights = 0, packed_bytes = 0;
    for (int number = 0; number < 8; number++) {
        const size_t reals = panel_reals(&J->matrices[number]);
        weights += reals;
        J->packed[number] = uses < DIRECT_USES && can_be_direct(&J->matrices[number]) ? NULL : (real *)1;
        if (J->packed[number]) packed_bytes += (reals * sizeof(real) + 63) / 64 * 64;
    }
    int workers = (int)n[3];
    if ((double)(weights + 64) * uses < SMALL_WORK) workers = 1;
    const int by_units = workers > 1 && pool.parallel && J->batch < workers && weights * J->batch >= UNITS_WORK;
    J->members = by_units ? workers : 1;
    J->parts = by_units ? 1 : MAXIMUM(1, MINIMUM(workers, J->batch));
    workers = by_units ? workers : (int)J->parts;
    J->parts = MAXIMUM(J->parts, J->parts * ((J->batch + J->parts * MOST_ROWS - 1) / (J->parts * MOST_ROWS)));
    J->most_rows = (J->batch + J->parts - 1) / J->parts;
    if (J->steps > 1 && J->most_rows < EARLY_ROWS) {
        const int64_t step = J->most_rows * (PAD(J->units[1]) + PAD(J->units[1]) + PAD(J->units[1]) + PAD(J->units[1])) * (int64_t)sizeof(real);
        J->chunk = MINIMUM(J->steps, MAXIMUM(EARLY_BYTES / step, 1));
    }
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
    for (int number = 0; number < 8; number++) {
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
    int64_t steps, batch, parts, members, most_rows, chunk;
    int64_t units[2];
    const double *setting;
    real *const *pointer;
    /* Steps of every row and the rows from the longest to the shortest; NULL where all run all steps. */
    const int64_t *lengths, *order;
    matrix matrices[4];
    panel panels[4];
    real *packed[4];
    int64_t total_at[5];
    real *totals;
    char *scratch;
    size_t scratch_bytes;
    atomic_llong next_part, next_worker, next_pair;
    barrier gate;
} backward_job;

typedef struct {
    real *last[2], *next[2], *crossing[1];
    real *early, *totals;
    int64_t early_at[1], early_step, early_row, chunk;
    int64_t *ids, *flat;
} backward_part;

/* Pass 1 of 2 backward: dh, dc, do, do_in, dg, dg_in, df, df_in, di, di_in */
static void backward_pass_0(const backward_job *J, const backward_part *P, int64_t t, int64_t rows, int member, int members) {
    const int64_t *ids = P->ids;
    real *const a0 = J->pointer[14] + (t) * J->batch * J->units[1];  /* d_output */
    real *const a1 = P->last[1];  /* gradient carried to h */
    real *const a2 = J->pointer[22] + t * J->batch * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + 0 + J->units[1] + J->units[1] + J->units[1];  /* work: o */
    real *const a3 = J->pointer[21] + (t) * J->batch * J->units[1];  /* series c */
    real *const a4 = P->last[0];  /* gradient carried to c */
    real *const a5 = J->pointer[22] + t * J->batch * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + 0 + J->units[1];  /* work: f */
    real *const a6 = J->pointer[22] + t * J->batch * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + 0;  /* work: i */
    real *const a7 = J->pointer[22] + t * J->batch * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + 0 + J->units[1] + J->units[1];  /* work: g */
    real *const a8 = (t ? J->pointer[21] + (t - 1) * J->batch * J->units[1] : J->pointer[19]);  /* state c before the step */
    real *const a9 = P->next[0];  /* gradient carried on of c */
    const int64_t units = J->units[1], pairs = PAIRS(units);
    const int64_t span = rows <= 2 ? 1 : 1, end = pairs * (member + 1) / members;
    (void)t;
    for (int64_t pair = pairs * member / members, after; pair < end; pair = after) {
        after = MINIMUM(pair + span, end);
        vec total_0[2] = {splat(0)};
        vec total_1[2] = {splat(0)};
        vec total_2[2] = {splat(0)};
        vec total_3[2] = {splat(0)};
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
                        const vec v1 = load(a1 + r * (PAD(J->units[1])) + u);
                        const vec v2 = v0 + v1;
                        const vec v3 = v2;  /* dh */
                        const vec v4 = load(a2 + id * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + u);  /* o */
                        const vec v5 = v3 * v4;
                        const vec v6 = load(a3 + id * (J->units[1]) + u);  /* c */
                        const vec v7 = v_tanh(v6);
                        const vec v8 = v7 * v7;
                        const vec v9 = splat((real)0x1.0000000000000p+0);
                        const vec v10 = v9 - v8;
                        const vec v11 = v5 * v10;
                        const vec v12 = load(a4 + r * (PAD(J->units[1])) + u);
                        const vec v13 = v12 + v11;
                        const vec v14 = v13;  /* dc */
                        const vec v15 = load(a5 + id * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + u);  /* f */
                        const vec v16 = v14 * v15;
                        const vec v17 = v3 * v7;
                        const vec v18 = v17;  /* do */
                        const vec v19 = v18 * v4;
                        const vec v20 = v9 - v4;
                        const vec v21 = v19 * v20;
                        const vec v22 = v21;  /* do_in */
                        const vec v23 = load(a6 + id * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + u);  /* i */
                        const vec v24 = v14 * v23;
                        const vec v25 = v24;  /* dg */
                        const vec v26 = load(a7 + id * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + u);  /* g */
                        const vec v27 = v26 * v26;
                        const vec v28 = v9 - v27;
                        const vec v29 = v25 * v28;
                        const vec v30 = v29;  /* dg_in */
                        const vec v31 = load(a8 + id * (J->units[1]) + u);
                        const vec v32 = v14 * v31;
                        const vec v33 = v32;  /* df */
                        const vec v34 = v33 * v15;
                        const vec v35 = v9 - v15;
                        const vec v36 = v34 * v35;
                        const vec v37 = v36;  /* df_in */
                        const vec v38 = v14 * v26;
                        const vec v39 = v38;  /* di */
                        const vec v40 = v39 * v23;
                        const vec v41 = v9 - v23;
                        const vec v42 = v40 * v41;
                        const vec v43 = v42;  /* di_in */
                        store(a9 + r * (PAD(J->units[1])) + u, v16);
                        store(a6 + id * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + u, v43);
                        store(a5 + id * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + u, v37);
                        store(a7 + id * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + u, v30);
                        store(a2 + id * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + u, v22);
                        total_0[half] += v43;
                        total_1[half] += v37;
                        total_2[half] += v30;
                        total_3[half] += v22;
                    }
                } else {
                    const int n = (int)left;
                    (void)n;
                    for (int64_t r = row; r < last; r++) {
                        const int64_t id = ids[r];
                        (void)id;
                        const vec v0 = load_part(a0 + id * (J->units[1]) + u, n);
                        const vec v1 = load(a1 + r * (PAD(J->units[1])) + u);
                        const vec v2 = v0 + v1;
                        const vec v3 = v2;  /* dh */
                        const vec v4 = load_part(a2 + id * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + u, n);  /* o */
                        const vec v5 = v3 * v4;
                        const vec v6 = load_part(a3 + id * (J->units[1]) + u, n);  /* c */
                        const vec v7 = v_tanh(v6);
                        const vec v8 = v7 * v7;
                        const vec v9 = splat((real)0x1.0000000000000p+0);
                        const vec v10 = v9 - v8;
                        const vec v11 = v5 * v10;
                        const vec v12 = load(a4 + r * (PAD(J->units[1])) + u);
                        const vec v13 = v12 + v11;
                        const vec v14 = v13;  /* dc */
                        const vec v15 = load_part(a5 + id * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + u, n);  /* f */
                        const vec v16 = v14 * v15;
                        const vec v17 = v3 * v7;
                        const vec v18 = v17;  /* do */
                        const vec v19 = v18 * v4;
                        const vec v20 = v9 - v4;
                        const vec v21 = v19 * v20;
                        const vec v22 = v21;  /* do_in */
                        const vec v23 = load_part(a6 + id * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + u, n);  /* i */
                        const vec v24 = v14 * v23;
                        const vec v25 = v24;  /* dg */
                        const vec v26 = load_part(a7 + id * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + u, n);  /* g */
                        const vec v27 = v26 * v26;
                        const vec v28 = v9 - v27;
                        const vec v29 = v25 * v28;
                        const vec v30 = v29;  /* dg_in */
                        const vec v31 = load_part(a8 + id * (J->units[1]) + u, n);
                        const vec v32 = v14 * v31;
                        const vec v33 = v32;  /* df */
                        const vec v34 = v33 * v15;
                        const vec v35 = v9 - v15;
                        const vec v36 = v34 * v35;
                        const vec v37 = v36;  /* df_in */
                        const vec v38 = v14 * v26;
                        const vec v39 = v38;  /* di */
                        const vec v40 = v39 * v23;
                        const vec v41 = v9 - v23;
                        const vec v42 = v40 * v41;
                        const vec v43 = v42;  /* di_in */
                        store(a9 + r * (PAD(J->units[1])) + u, v16);
                        store_part(a6 + id * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + u, v43, n);
                        store_part(a5 + id * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + u, v37, n);
                        store_part(a7 + id * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + u, v30, n);
                        store_part(a2 + id * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + u, v22, n);
                        total_0[half] += v43;
                        total_1[half] += v37;
                        total_2[half] += v30;
                        total_3[half] += v22;
                    }
                }
            }
        }
        for (int half = 0; half < 2 * (after - pair); half++)
            store(P->totals + J->total_at[0] + pair * PAIR + half * WIDTH, load(P->totals + J->total_at[0] + pair * PAIR + half * WIDTH) + total_0[half]);
        for (int half = 0; half < 2 * (after - pair); half++)
            store(P->totals + J->total_at[1] + pair * PAIR + half * WIDTH, load(P->totals + J->total_at[1] + pair * PAIR + half * WIDTH) + total_1[half]);
        for (int half = 0; half < 2 * (after - pair); half++)
            store(P->totals + J->total_at[2] + pair * PAIR + half * WIDTH, load(P->totals + J->total_at[2] + pair * PAIR + half * WIDTH) + total_2[half]);
        for (int half = 0; half < 2 * (after - pair); half++)
            store(P->totals + J->total_at[3] + pair * PAIR + half * WIDTH, load(P->totals + J->total_at[3] + pair * PAIR + half * WIDTH) + total_3[half]);
    }
}

/* Pass 2 of 2 backward: unnamed values */
static void backward_pass_1(const backward_job *J, const backward_part *P, int64_t t, int64_t rows, int member, int members) {
    const int64_t *ids = P->ids;
    real *const a0 = J->pointer[22] + t * J->batch * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + 0 + J->units[1] + J->units[1] + J->units[1];  /* work: o */
    real *const a1 = J->pointer[22] + t * J->batch * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + 0 + J->units[1] + J->units[1];  /* work: g */
    real *const a2 = J->pointer[22] + t * J->batch * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + 0 + J->units[1];  /* work: f */
    real *const a3 = J->pointer[22] + t * J->batch * (0 + J->units[1] + J->units[1] + J->units[1] + J->units[1]) + 0;  /* work: i */
    real *const a4 = P->next[1];  /* gradient carried on of h */
    const int64_t units = J->units[1], pairs = PAIRS(units);
    const int64_t span = rows <= 2 ? 4 : 1, end = pairs * (member + 1) / members;
    (void)t;
    for (int64_t pair = pairs * member / members, after; pair < end; pair = after) {
        after = MINIMUM(pair + span, end);
        real sums[MAXIMUM(GROUP_ROWS, 8) * 1 * PAIR] __attribute__((aligned(64)));
        term terms_0[4][4];
        for (int64_t p = 0; p < after - pair; p++) {
            terms_0[p][0] = term_of(a0, 0 + J->units[1] + J->units[1] + J->units[1] + J->units[1], P->ids, &J->panels[0], pair + p);
            terms_0[p][1] = term_of(a1, 0 + J->units[1] + J->units[1] + J->units[1] + J->units[1], P->ids, &J->panels[1], pair + p);
            terms_0[p][2] = term_of(a2, 0 + J->units[1] + J->units[1] + J->units[1] + J->units[1], P->ids, &J->panels[2], pair + p);
            terms_0[p][3] = term_of(a3, 0 + J->units[1] + J->units[1] + J->units[1] + J->units[1], P->ids, &J->panels[3], pair + p);
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
                    multiply_lists(last - row, lists, count, 4, row, start, 0, out, 1 * PAIR);
                }
            }
            for (int half = 0; half < 2 * (after - pair); half++) {
                const int64_t u = pair * PAIR + half * WIDTH, left = units - u;
                if (left <= 0) break;
                if (left >= WIDTH) {
                    for (int64_t r = row; r < last; r++) {
                        const int64_t id = ids[r];
                        (void)id;
                        const vec v0 = load(sums + ((half / 2) * 2 + (r - row) * 1 + 0) * PAIR + half % 2 * WIDTH);  /* do_in @ U_o.T + dg_in @ U_g.T + df_in @ U_f.T + di_in @ U_i.T */
                        store(a4 + r * (PAD(J->units[1])) + u, v0);
                    }
                } else {
                    const int n = (int)left;
                    (void)n;
                    for (int64_t r = row; r < last; r++) {
                        const int64_t id = ids[r];
                        (void)id;
                        const vec v0 = load(sums + ((half / 2) * 2 + (r - row) * 1 + 0) * PAIR + half % 2 * WIDTH);  /* do_in @ U_o.T + dg_in @ U_g.T + df_in @ U_f.T + di_in @ U_i.T */
                        store(a4 + r * (PAD(J->units[1])) + u, v0);
                    }
                }
            }
        }
    }
}

static void backward_rows(
    backward_job *J, const backward_part *shared, int64_t number, int member, int members) {
    backward_part own = *shared, *P = &own;
    const int64_t batch = J->batch, first = batch * number / J->parts;
    const int64_t after = batch * (number + 1) / J->parts;
    const int64_t count = J->order ? (batch - number + J->parts - 1) / J->parts : after - first;
    P->totals = J->totals + number * J->total_at[4];
    if (!member)
        for (int64_t r = 0; r < count; r++) P->ids[r] = J->order ? J->order[number + r * J->parts] : first + r;
    if (!member) for (int64_t r = 0; r < count; r++) {
        if (J->pointer[15]) memcpy(P->last[0] + r * PAD(J->units[1]), J->pointer[15] + P->ids[r] * J->units[1], J->units[1] * sizeof(real)); else memset(P->last[0] + r * PAD(J->units[1]), 0, J->units[1] * sizeof(real));
        if (J->pointer[16]) memcpy(P->last[1] + r * PAD(J->units[1]), J->pointer[16] + P->ids[r] * J->units[1], J->units[1] * sizeof(real)); else memset(P->last[1] + r * PAD(J->units[1]), 0, J->units[1] * sizeof(real));
        if (J->pointer[15]) memcpy(P->next[0] + r * PAD(J->units[1]), J->pointer[15] + P->ids[r] * J->units[1], J->units[1] * sizeof(real)); else memset(P->next[0] + r * PAD(J->units[1]), 0, J->units[1] * sizeof(real));
        if (J->pointer[16]) memcpy(P->next[1] + r * PAD(J->units[1]), J->pointer[16] + P->ids[r] * J->units[1], J->units[1] * sizeof(real)); else memset(P->next[1] + r * PAD(J->units[1]), 0, J->units[1] * sizeof(real));
    }
    wait_for_all(&J->gate, members);
    int64_t rows = J->lengths ? 0 : count;
    for (int64_t t = J->steps; t--;) {
        while (rows < count && J->lengths[P->ids[rows]] > t) rows++;
        if (!rows) continue;
        backward_pass_0(J, P, t, rows, member, members);
        wait_for_all(&J->gate, members);
        backward_pass_1(J, P, t, rows, member, members);
        wait_for_all(&J->gate, members);
        { real *swap = P->last[0]; P->last[0] = P->next[0]; P->next[0] = swap; }
        { real *swap = P->last[1]; P->last[1] = P->next[1]; P->next[1] = swap; }
        wait_for_all(&J->gate, members);
    }
    if (!member) for (int64_t r = 0; r < count; r++) {
        memcpy(J->pointer[17] + P->ids[r] * J->units[1], P->last[0] + r * PAD(J->units[1]), J->units[1] * sizeof(real));
        memcpy(J->pointer[18] + P->ids[r] * J->units[1], P->last[1] + r * PAD(J->units[1]), J->units[1] * sizeof(real));
    }
}

static size_t backward_memory(const backward_job *J, backward_part *P, char *memory) {
    char *cursor = memory;
    P->last[0] = carve(&cursor, J->most_rows * PAD(J->units[1]) * sizeof(real));
    P->next[0] = carve(&cursor, J->most_rows * PAD(J->units[1]) * sizeof(real));
    P->last[1] = carve(&cursor, J->most_rows * PAD(J->units[1]) * sizeof(real));
    P->next[1] = carve(&cursor, J->most_rows * PAD(J->units[1]) * sizeof(real));
    P->early_step = 0, P->early_row = 0, P->chunk = J->chunk;
    P->early = carve(&cursor, J->most_rows * P->chunk * P->early_step * sizeof(real));
    P->flat = carve(&cursor, J->most_rows * P->chunk * sizeof(int64_t));
    P->ids = carve(&cursor, J->most_rows * sizeof(int64_t));
    return (size_t)(cursor - memory);
}

static void backward_pack(void *data, int member, int members) {
    backward_job *J = data;
    (void)member, (void)members;
    for (;;) {
        int64_t pair = atomic_fetch_add(&J->next_pair, 1), number = 0;
        for (; number < 4 && pair >= J->panels[number].pairs; number++)
            pair -= J->panels[number].pairs;
        if (number == 4) return;
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
    memcpy(J->units, n + 8, 2 * sizeof(int64_t));
    J->setting = setting, J->pointer = (real *const *)pointer;
    J->matrices[0] = (matrix){J->pointer[8], J->units[1] / 1, J->units[1] / 1, 1, n[31], n[32], n[33]};
    J->matrices[0] = turned(J->matrices[0]);
    J->matrices[1] = (matrix){J->pointer[6], J->units[1] / 1, J->units[1] / 1, 1, n[25], n[26], n[27]};
    J->matrices[1] = turned(J->matrices[1]);
    J->matrices[2] = (matrix){J->pointer[4], J->units[1] / 1, J->units[1] / 1, 1, n[19], n[20], n[21]};
    J->matrices[2] = turned(J->matrices[2]);
    J->matrices[3] = (matrix){J->pointer[2], J->units[1] / 1, J->units[1] / 1, 1, n[13], n[14], n[15]};
    J->matrices[3] = turned(J->matrices[3]);
    J->total_at[1] = J->total_at[0] + PAD(J->units[1]);
    J->total_at[2] = J->total_at[1] + PAD(J->units[1]);
    J->total_at[3] = J->total_at[2] + PAD(J->units[1]);
    J->total_at[4] = J->total_at[3] + PAD(J->units[1]);
    const int64_t uses = J->steps * J->batch;
    size_t weights = 0, packed_bytes = 0;
    for (int number = 0; number < 4; number++) {
        const size_t reals = panel_reals(&J->matrices[number]);
        weights += reals;
        J->packed[number] = uses < DIRECT_USES && can_be_direct(&J->matrices[number]) ? NULL : (real *)1;
        if (J->packed[number]) packed_bytes += (reals * sizeof(real) + 63) / 64 * 64;
    }
    int workers = (int)n[3];
    if ((double)(weights + 64) * uses < SMALL_WORK) workers = 1;
    const int by_units = workers > 1 && pool.parallel && J->batch < workers && weights * J->batch >= UNITS_WORK;
    J->members = by_units ? workers : 1;
    J->parts = by_units ? 1 : MAXIMUM(1, MINIMUM(workers, J->batch));
    workers = by_units ? workers : (int)J->parts;
    J->parts = MAXIMUM(J->parts, J->parts * ((J->batch + J->parts * MOST_ROWS - 1) / (J->parts * MOST_ROWS)));
    J->most_rows = (J->batch + J->parts - 1) / J->parts;

    backward_part measure;
    J->scratch_bytes = (backward_memory(J, &measure, NULL) + 4095) / 4096 * 4096;
    const size_t total_bytes = J->parts * J->total_at[4] * sizeof(real);
    const size_t scratch = J->scratch_bytes * (by_units ? 1 : workers);
    int kept;
    char *arena = take_arena(packed_bytes + scratch + total_bytes + 4096, &kept), *cursor = arena;
    if (!arena) return 1;
#ifdef CELLULA_POISON
    memset(arena, 0xff, packed_bytes + scratch + total_bytes);
#endif
    for (int number = 0; number < 4; number++) {
        if (J->packed[number]) J->packed[number] = carve(&cursor, panel_reals(&J->matrices[number]) * sizeof(real));
        J->panels[number] = panel_of(&J->matrices[number], J->packed[number]);
    }
    J->totals = (real *)cursor, cursor += total_bytes;
    memset(J->totals, 0, total_bytes);
    J->scratch = arena + (cursor - arena + 63) / 64 * 64;
    run_team(backward_pack, J, &pool, packed_bytes > PACK_BYTES ? workers : 1);
    run_team(backward_work, J, &pool, workers);
    add_parts(J->pointer[25], J->totals + J->total_at[0], J->units[1], J->parts, J->total_at[4]);
    add_parts(J->pointer[26], J->totals + J->total_at[1], J->units[1], J->parts, J->total_at[4]);
    add_parts(J->pointer[27], J->totals + J->total_at[2], J->units[1], J->parts, J->total_at[4]);
    add_parts(J->pointer[28], J->totals + J->total_at[3], J->units[1], J->parts, J->total_at[4]);
    give_arena(arena, kept);
    return 0;
}

