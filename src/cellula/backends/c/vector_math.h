/* Mathematics on vectors of numbers: the head of every C source that Cellula writes.
 *
 * C11 with the vector types of GCC and Clang. Above this text the source defines CELLULA_DOUBLE, 0 for float and 1 for
 * double. Compile with -O3 -ffp-contract=fast -fno-math-errno -fno-trapping-math, and never with -ffast-math: NaN and
 * infinity keep their meaning, and the rounding below relies on the order of additions.
 *
 * Every function treats each lane by itself with the same operations in the same order: the result for an argument has
 * the same bits in every lane, whatever the neighbours hold. Nothing branches on a value.
 *
 * Error at most, in units of the last place: exp 1.3, log 2, tanh 2.6, sigmoid 3 in float and 5 in double from -10 on.
 * Further below 0 the relative error of sigmoid grows with its argument, to 30 at -87; where the processor has no fused
 * multiply-add it is 11 at -10 and 85 at -87.
 *
 * exp, tanh and sigmoid take a power of two out of the argument and put it back as the bits of an exponent, after
 * W. J. Cody and W. Waite, "Software Manual for the Elementary Functions", 1980. All polynomials are minimax fits of
 * the relative error. They are summed in pairs, since the processor can reorder a few dozen operations, not more: a
 * short chain is worth an extra multiplication.
 */
#include <float.h>
#include <math.h>
#include <stdint.h>

#if CELLULA_DOUBLE
typedef double real;
typedef int64_t integer;
typedef uint64_t unsigned_integer;
#define REAL(literal) literal
#define REAL_FUNCTION(name) name
#else
typedef float real;
typedef int32_t integer;
typedef uint32_t unsigned_integer;
#define REAL(literal) literal##f
#define REAL_FUNCTION(name) name##f
#endif

#ifndef CELLULA_BYTES
#if defined(__AVX512F__)
#define CELLULA_BYTES 64
#elif defined(__AVX__)
#define CELLULA_BYTES 32
#else
#define CELLULA_BYTES 16
#endif
#endif

/* Lanes of one vector. */
#define WIDTH (CELLULA_BYTES / (int)sizeof(real))

#define ALWAYS_INLINE static inline __attribute__((always_inline, unused))
#define MAYBE_INLINE static inline __attribute__((unused))

typedef real vec __attribute__((vector_size(CELLULA_BYTES)));
typedef integer ivec __attribute__((vector_size(CELLULA_BYTES)));
/* Bits are shifted and added without a sign, where running over is defined. */
typedef unsigned_integer bits __attribute__((vector_size(CELLULA_BYTES)));
/* A vector at any address that holds a real. */
typedef real uvec __attribute__((vector_size(CELLULA_BYTES), aligned(sizeof(real)), may_alias));

typedef union {
    vec vector;
    real lane[WIDTH];
} lanes;

#if CELLULA_DOUBLE
enum { MANTISSA_BITS = 52, EXPONENT_BIAS = 1023 };
static const real SMALLEST_NORMAL = DBL_MIN;
static const unsigned_integer SQRT_HALF_BITS = 0x3fe6a09e667f3bcd;
/* log(2) in two parts: the first one times a whole number up to 2^11 is exact. */
static const real LN_2_HIGH = 6.93147180369123816490e-01, LN_2_LOW = 1.90821492927058770002e-10;
/* Beyond these exp is infinite and 0; from the highest on, sigmoid and tanh are 1; below the lowest, sigmoid is 0. */
static const real EXP_HIGHEST = 710, EXP_LOWEST = -746, SIGMOID_HIGHEST = 40, SIGMOID_LOWEST = -709, TANH_HIGHEST = 20;
/* exp(x) = 1 + x + x^2 (EXP[0] + EXP[1] x + ...) */
static const real EXP_TABLE[] = {
    0.5000000000000006,     0.1666666666666658,    0.04166666666657068,  0.008333333333395128,  0.0013888888933842498,
    0.00019841269709279112, 2.480150228818995e-05, 2.75574133040481e-06, 2.7627301565131514e-07, 2.505306614845488e-08,
};
/* tanh(x) = x + x^3 (TANH[0] + TANH[1] x^2 + ...) and tanh(x / 2) = x / 2 + x^3 (HALF_TANH[0] + ...) */
static const real TANH_TABLE[] = {
    -0.3333333333333244, 0.13333333332758168,   -0.05396825273806129,
    0.02186936745937072, -0.008857200379012475, 0.00344350601745059,
};
static const real HALF_TANH_TABLE[] = {
    -0.3333333333333244 / 8,   0.13333333332758168 / 32,     -0.05396825273806129 / 128,
    0.02186936745937072 / 512, -0.008857200379012475 / 2048, 0.00344350601745059 / 8192,
};
/* log((1 + s) / (1 - s)) = 2 s + s^3 (LOG[0] + LOG[1] s^2 + ...) */
static const real LOG_TABLE[] = {
    0.666666666666674,   0.39999999999376634, 0.28571428751572375, 0.22222197562701435,
    0.18183620133162856, 0.15312543611964732, 0.14811776269470975,
};
#else
enum { MANTISSA_BITS = 23, EXPONENT_BIAS = 127 };
static const real SMALLEST_NORMAL = FLT_MIN;
static const unsigned_integer SQRT_HALF_BITS = 0x3f3504f3;
static const real LN_2_HIGH = 0.693359375f, LN_2_LOW = -2.12194440e-4f;
static const real EXP_HIGHEST = 89, EXP_LOWEST = -105, SIGMOID_HIGHEST = 20, SIGMOID_LOWEST = -88, TANH_HIGHEST = 10;
static const real EXP_TABLE[] = {0.49999997f, 0.166665405f, 0.0416674651f, 0.00836701319f, 0.00138688821f};
static const real TANH_TABLE[] = {-0.333312392f, 0.131087646f};
static const real HALF_TANH_TABLE[] = {-0.333312392f / 8, 0.131087646f / 32};
static const real LOG_TABLE[] = {0.666667819f, 0.399768591f, 0.298903376f};
#endif
static const real LOG2_E = REAL(1.4426950408889634), LN_2 = REAL(0.6931471805599453);
/* 1.5 * 2^MANTISSA_BITS: added to a number, it leaves the nearest whole number in the low bits of the sum, signed. */
static const real ROUNDER = (real)((integer)3 << (MANTISSA_BITS - 1));

/* Memory. */

ALWAYS_INLINE vec load(const real *source) { return *(const uvec *)source; }

ALWAYS_INLINE void store(real *target, vec value) { *(uvec *)target = value; }

ALWAYS_INLINE vec splat(real value) { return value - (vec){0}; }

/* The first n lanes from memory, 0 <= n <= WIDTH, the others 0. Compilers make a masked load of the loop. */
ALWAYS_INLINE vec load_part(const real *source, int n) {
    lanes result;
    for (int i = 0; i < WIDTH; i++) result.lane[i] = i < n ? source[i] : 0;
    return result.vector;
}

ALWAYS_INLINE void store_part(real *target, vec value, int n) {
    lanes from = {value};
    for (int i = 0; i < WIDTH; i++)
        if (i < n) target[i] = from.lane[i];
}

/* Choice and comparison. A mask is all ones or 0 in every lane. */

ALWAYS_INLINE vec v_select(ivec mask, vec a, vec b) { return (vec)((mask & (ivec)a) | (~mask & (ivec)b)); }

ALWAYS_INLINE vec one_where(ivec mask) { return (vec)(mask & (ivec)splat(1)); }

ALWAYS_INLINE vec v_less(vec a, vec b) { return one_where((ivec)(a < b)); }
ALWAYS_INLINE vec v_less_equal(vec a, vec b) { return one_where((ivec)(a <= b)); }
ALWAYS_INLINE vec v_greater(vec a, vec b) { return one_where((ivec)(a > b)); }
ALWAYS_INLINE vec v_greater_equal(vec a, vec b) { return one_where((ivec)(a >= b)); }
ALWAYS_INLINE vec v_equal(vec a, vec b) { return one_where((ivec)(a == b)); }
ALWAYS_INLINE vec v_not_equal(vec a, vec b) { return one_where((ivec)(a != b)); }

/* The smaller and the larger one; NaN where either is NaN. */
ALWAYS_INLINE vec v_min(vec a, vec b) { return v_select((ivec)(a < b) | (ivec)(a != a), a, b); }
ALWAYS_INLINE vec v_max(vec a, vec b) { return v_select((ivec)(a > b) | (ivec)(a != a), a, b); }

/* x cut at a bound; a NaN stays. Clang sees that each is one instruction, GCC has to be told. */
#if defined(__AVX__) && CELLULA_BYTES == 32 && !defined(__clang__)
#if CELLULA_DOUBLE
ALWAYS_INLINE vec at_most(vec x, real bound) { return __builtin_ia32_minpd256(splat(bound), x); }
ALWAYS_INLINE vec at_least(vec x, real bound) { return __builtin_ia32_maxpd256(splat(bound), x); }
#else
ALWAYS_INLINE vec at_most(vec x, real bound) { return __builtin_ia32_minps256(splat(bound), x); }
ALWAYS_INLINE vec at_least(vec x, real bound) { return __builtin_ia32_maxps256(splat(bound), x); }
#endif
#else
ALWAYS_INLINE vec at_most(vec x, real bound) { return v_select((ivec)(splat(bound) < x), splat(bound), x); }
ALWAYS_INLINE vec at_least(vec x, real bound) { return v_select((ivec)(x < splat(bound)), splat(bound), x); }
#endif

ALWAYS_INLINE vec v_abs(vec x) { return (vec)((ivec)x & ~(ivec)splat(REAL(-0.0))); }

/* -1, 0 or 1; 0 for NaN, as in torch. */
ALWAYS_INLINE vec v_sign(vec x) { return v_greater(x, splat(0)) - v_less(x, splat(0)); }

/* Reductions. Halves are folded onto each other: the order depends on WIDTH alone. */

ALWAYS_INLINE real sum_lanes(vec value) {
    lanes part = {value};
    for (int half = WIDTH / 2; half; half /= 2)
        for (int i = 0; i < half; i++) part.lane[i] += part.lane[i + half];
    return part.lane[0];
}

/* The largest lane; NaN where any is NaN. */
ALWAYS_INLINE real peak_lanes(vec value) {
    lanes part = {value};
    for (int half = WIDTH / 2; half; half /= 2)
        for (int i = 0; i < half; i++) {
            real a = part.lane[i], b = part.lane[i + half];
            part.lane[i] = ((a > b) | (a != a)) ? a : b;
        }
    return part.lane[0];
}

/* Exponential, hyperbolic tangent, logistic function, logarithm. */

ALWAYS_INLINE vec pair(vec x, const real *table) { return x * table[1] + table[0]; }

/* table[0] + table[1] x + table[2] x^2 ... */
ALWAYS_INLINE vec polynomial(vec x, const real *table, int terms) {
    vec square = x * x;
    int i = terms % 2 ? terms - 1 : terms - 2;
    vec sum = terms % 2 ? splat(table[i]) : pair(x, table + i);
    for (i -= 2; i >= 0; i -= 2) sum = sum * square + pair(x, table + i);
    return sum;
}
#define TERMS(table) ((int)(sizeof(table) / sizeof(real)))

/* 2^k, given k + ROUNDER; 0 where the exponent bits are 0. */
ALWAYS_INLINE vec power_of_two(bits shifted) {
    return (vec)((shifted << MANTISSA_BITS) + ((unsigned_integer)EXPONENT_BIAS << MANTISSA_BITS));
}

ALWAYS_INLINE vec v_exp(vec x) {
    x = at_least(at_most(x, EXP_HIGHEST), EXP_LOWEST);
    vec shifted = x * LOG2_E + ROUNDER;
    vec k = shifted - ROUNDER;
    vec rest = (x - k * LN_2_HIGH) - k * LN_2_LOW;
    vec square = rest * rest;
    vec less_one = (rest + square * pair(rest, EXP_TABLE)) +
                   square * square * polynomial(rest, EXP_TABLE + 2, TERMS(EXP_TABLE) - 2);
    /* Two factors, since the power of the largest and of the smallest results is not among the numbers. */
    bits half = (bits)shifted >> 1;
    vec power = power_of_two(half);
    return (less_one * power + power) * power_of_two((bits)shifted - half);
}

ALWAYS_INLINE vec v_sigmoid(vec x) {
    x = at_least(at_most(x, SIGMOID_HIGHEST), SIGMOID_LOWEST);
    vec shifted = x * LOG2_E + ROUNDER;
    vec rest = x - (shifted - ROUNDER) * LN_2;
    vec square = rest * rest;
    vec slope = square * polynomial(square, HALF_TANH_TABLE, TERMS(HALF_TANH_TABLE)) + REAL(0.5);
    /* exp(x) = power (1 + t) / (1 - t), where t = tanh(rest / 2) = rest * slope; both sides of the quotient that is
     * asked for, exp(x) / (exp(x) + 1), are multiplied by 1 - t. */
    vec power = power_of_two((bits)shifted);
    vec grown = power * rest * slope + power;
    return grown / (grown + (1 - rest * slope));
}

ALWAYS_INLINE vec v_tanh(vec x) {
    vec size = at_most(v_abs(x), TANH_HIGHEST);
    vec shifted = size * (2 * LOG2_E) + ROUNDER;
    vec rest = size - (shifted - ROUNDER) * (LN_2 / 2);
    vec square = rest * rest;
    vec t = rest + rest * square * polynomial(square, TANH_TABLE, TERMS(TANH_TABLE));
    /* (exp(2 size) - 1) / (exp(2 size) + 1), where exp(2 size) = power (1 + t) / (1 - t) and t = tanh(rest). Near 0 the
     * power is 1 and nothing cancels; far out numerator and denominator become equal. */
    vec power = power_of_two((bits)shifted);
    vec below = power - 1, above = power + 1;
    vec result = (above * t + below) / (below * t + above);
    return (vec)((bits)result | ((bits)x & (bits)splat(REAL(-0.0))));
}

ALWAYS_INLINE vec v_log(vec x) {
    const unsigned_integer one = (unsigned_integer)EXPONENT_BIAS << MANTISSA_BITS;
    const unsigned_integer mantissa = ((unsigned_integer)1 << MANTISSA_BITS) - 1;
    const real whole = (real)((integer)1 << MANTISSA_BITS);
    /* Numbers below the normal ones are lifted to them. */
    ivec tiny = (ivec)(x < SMALLEST_NORMAL);
    bits raised = (bits)v_select(tiny, x * whole, x) + (one - SQRT_HALF_BITS);
    /* x = 2^k m, m from sqrt(1/2) to sqrt(2). The number whole + k + bias has k + bias as its low bits. */
    vec m = (vec)((raised & mantissa) + SQRT_HALF_BITS);
    vec k = (vec)((raised >> MANTISSA_BITS) | (bits)splat(whole)) - (whole + EXPONENT_BIAS);
    k -= (vec)(tiny & (ivec)splat(MANTISSA_BITS));
    vec f = m - 1;
    vec s = f / (f + 2);
    vec square = s * s;
    vec result = k * LN_2 + ((s + s) + s * square * polynomial(square, LOG_TABLE, TERMS(LOG_TABLE)));
    /* Infinity and NaN stay; 0 gives -infinity; below 0 all bits are set, which is NaN. */
    result = v_select((ivec)(x < INFINITY), result, x);
    vec out_of_range = (vec)((ivec)(x < 0) | (ivec)splat(-INFINITY));
    return v_select((ivec)(x <= 0), out_of_range, result);
}
#undef TERMS

/* Lane by lane; compilers make one instruction of the loop over the square root. */
#define LANE_BY_LANE(linkage, name, function)                                                   \
    linkage vec name(vec x) {                                                                   \
        lanes from = {x}, result;                                                               \
        for (int i = 0; i < WIDTH; i++) result.lane[i] = REAL_FUNCTION(function)(from.lane[i]); \
        return result.vector;                                                                   \
    }

LANE_BY_LANE(ALWAYS_INLINE, v_sqrt, sqrt)
LANE_BY_LANE(MAYBE_INLINE, v_erf, erf)
LANE_BY_LANE(MAYBE_INLINE, v_sin, sin)
LANE_BY_LANE(MAYBE_INLINE, v_cos, cos)
#undef LANE_BY_LANE

MAYBE_INLINE vec v_pow(vec base, vec exponent) {
    lanes b = {base}, e = {exponent}, result;
    for (int i = 0; i < WIDTH; i++) result.lane[i] = REAL_FUNCTION(pow)(b.lane[i], e.lane[i]);
    return result.vector;
}
