/* Elementary functions on the vectors of simd.h, and on rows of numbers.
 *
 * Ranges are reduced as in Cody and Waite, "Software Manual for the Elementary Functions" (1980); the polynomials are
 * minimax fits (Remez; float32 exp and tanh: least squares with Lawson's weights). Largest errors seen, rounded up, in
 * units in the last place (ULP), on all levels, over every float32 from 2^-27 to 2^7 and millions of float64:
 *
 *              exp    sigmoid    tanh    log (x >= 1)    log1p(exp(-|x|))
 *   float32    1.1      1.8       1.7        0.9             2.1
 *   float64    1.0      1.7       1.7        1.2             2.0
 *
 * Infinities and NaN come out as the mathematics has them, but not from log; subnormal numbers are zero, as
 * float_mode.h has it.
 *
 * The file includes itself once for each type, REAL.
 */
#ifndef REAL
#ifndef FASTBP_VMATH_H
#define FASTBP_VMATH_H
#include <stddef.h>
#include "simd.h"

/* Natural logarithm of 2 in two parts: n * HIGH is exact for every exponent n. */
#define LN2_HIGH_32 0.693359375f
#define LN2_LOW_32 -2.12194440e-4f
#define LN2_HIGH_64 6.93145751953125e-1
#define LN2_LOW_64 1.42860682030941723212e-6
#define LOG2_E 1.44269504088896340736

/* 1.5 * 2^(mantissa bits): adding it rounds to a whole number, which then stands in the low bits. */
#define ROUND_32 12582912.0f
#define ROUND_64 6755399441055744.0

/* (e^r - 1 - r) / r^2 for |r| <= ln(2)/2, lowest power first. Error 3.6e-9 and 3.3e-19 of e^r. */
static const float f32_exp_terms[] = {0.499999934f, 0.166665204f, 0.0416683908f, 0.00836874521f, 0.00138145401f};
static const double f64_exp_terms[] = {
    0.49999999999999999997,    0.16666666666666671008,    0.041666666666666683865,  0.0083333333333261115518,
    0.0013888888888874351347,  0.00019841269874902752612, 2.4801587347451026413e-5, 2.7557255296319418182e-6,
    2.755725280476994264e-7,   2.5105260146988243446e-8,  2.0921625755418400347e-9};

/* 2 (artanh(s) - s) / s^3 as a function of s^2 <= 1/9. Error 3.5e-9 and 3.2e-20. */
static const float f32_log_terms[] = {0.666666673551f, 0.399996963058f, 0.285928107145f, 0.217000416132f,
                                      0.232537817023f};
static const double f64_log_terms[] = {
    0.6666666666666666666,  0.40000000000000016223, 0.28571428571421674612, 0.22222222223369771679,
    0.18181818083281327482, 0.15384620368365747708, 0.13333173946489904766, 0.11768048299245155485,
    0.10479853027233064323, 0.099456904737526607373, 0.06320210752538229844, 0.1525402231558978455};

/* Sums of columns: as many chains as an addition lasts, for two vectors side by side. */
enum { SUM_CHAINS = 4, SUM_VECTORS = 2 };

/* tanh at TANH_STEP times 4, 6, 8, 10, 0, 1, 2 and 3. All are float32 to 0.07 ULP: so the step was chosen, of 17 bits,
 * which leave its multiples exact. */
#define TANH_STEP 0.83028412f
static const float f32_tanh_table[] = {0.997395277f, 0.999905825f, 0.999996603f, 0.999999881f,
                                       0.0f,         0.680628538f, 0.930293679f, 0.986368835f};
/* (h coth h - 1) / h^2 as a function of h^2, for the h that tanh forms. Error 1.5e-8 of tanh, below 1/2 5e-9. */
static const float f32_coth_terms[] = {0.333333075f, -0.0222175363f, 0.00209166319f, -0.000166063517f};

#define REAL f32
#define real_t float
#define CHOOSE(for_float, for_double) for_float
#include "vmath.h"
#undef REAL
#undef real_t
#undef CHOOSE

#define REAL f64
#define real_t double
#define CHOOSE(for_float, for_double) for_double
#include "vmath.h"
#undef REAL
#undef real_t
#undef CHOOSE

#endif
#else /* REAL is defined: one type's functions */

#define vec FN(vec)
#define LANES FN(LANES)
#define EXPONENT_BIAS CHOOSE(127.0f, 1023.0)
#define ROUND CHOOSE(ROUND_32, ROUND_64)

/* Even and odd powers in two chains that run side by side: what an elementary function waits for is its own latency. */
SIMD_INLINE vec FN(polynomial)(vec x, const real_t *terms, int count) {
    const vec square = FN(mul)(x, x);
    vec even = FN(set)(terms[(count - 1) / 2 * 2]), odd = FN(set)(terms[count / 2 * 2 - 1]);
    SIMD_UNROLL
    for (int i = (count - 1) / 2 * 2 - 2; i >= 0; i -= 2) even = FN(fma)(even, square, FN(set)(terms[i]));
    SIMD_UNROLL
    for (int i = count / 2 * 2 - 3; i >= 0; i -= 2) odd = FN(fma)(odd, square, FN(set)(terms[i]));
    return FN(fma)(odd, x, even);
}

/* x = n ln 2 + r with |r| <= ln(2)/2; returns e^r - 1, accurate relative to itself, and in `low` what its last
 * rounding lost. */
SIMD_INLINE vec FN(expm1_reduced)(vec x, vec *n, vec *low) {
    const vec round = FN(set)(ROUND);
    *n = FN(sub)(FN(fma)(x, FN(set)((real_t)LOG2_E), round), round);
    vec r = FN(fma)(*n, FN(set)(-CHOOSE(LN2_HIGH_32, LN2_HIGH_64)), x);
    r = FN(fma)(*n, FN(set)(-CHOOSE(LN2_LOW_32, LN2_LOW_64)), r);
    vec q = FN(polynomial)(r, FN(exp_terms), CHOOSE(5, 11)), square = FN(mul)(r, r);
    vec p = FN(fma)(square, q, r);
    *low = FN(fma)(square, q, FN(sub)(r, p));
    return p;
}

/* 2^n for whole n between the exponents of the smallest and the largest normal number. */
SIMD_INLINE vec FN(two_to)(vec n) { return FN(to_exponent)(FN(add)(n, FN(set)(ROUND + EXPONENT_BIAS))); }

SIMD_INLINE vec FN(exp)(vec x) {
    /* Beyond these the result is 0 or infinity all the same, and n would leave the two factors' range. */
    x = FN(min)(FN(set)(CHOOSE(89.0f, 710.0)), FN(max)(FN(set)(CHOOSE(-105.0f, -750.0)), x));
    const vec round = FN(set)(ROUND), one = FN(set)(1);
    vec n, low, p = FN(expm1_reduced)(x, &n, &low);
    /* 2^n in two factors: 2^128 (2^1024) is never formed. */
    vec half = FN(sub)(FN(fma)(n, FN(set)((real_t)0.5), round), round);
    return FN(mul)(FN(mul)(FN(add)(p, one), FN(two_to)(half)), FN(two_to)(FN(sub)(n, half)));
}

/* 1 / (1 + e^-x). With e^-x = 2^n (1 + p) the denominator is (2^n + 1) + 2^n p: what the 1 loses in a large first
 * term goes into the second, and the rounding of the sum is left. */
SIMD_INLINE vec FN(sigmoid)(vec x) {
    /* Beyond these the result is 0, for it is subnormal, or 1 all the same, and 2^n would leave its range. */
    const vec limit = FN(set)(CHOOSE(88.0f, 709.0)), zero = FN(set)(0), one = FN(set)(1);
    vec y = FN(sub)(zero, FN(max)(FN(sub)(zero, limit), FN(min)(limit, x)));
    vec n, low, p = FN(expm1_reduced)(y, &n, &low), scale = FN(two_to)(n);
    vec sum = FN(add)(scale, one), lost = FN(sub)(one, FN(sub)(sum, scale));
    return FN(div)(one, FN(add)(sum, FN(fma)(scale, p, lost)));
}

#if CHOOSE(1, 0)
/* tanh(c + h) = t + (1 - t^2) h / (h coth(h) + t h) with t = tanh(c) from the table, and the sign of x. The points c
 * are 1 and then 2 steps apart; h goes from 0.3 of a step below c to 0.3 below the next. */
SIMD_INLINE vec FN(tanh)(vec x) {
    const vec four = FN(set)(4), one = FN(set)(1);
    vec y = FN(min)(FN(set)(9.02f), FN(abs)(x)); /* tanh is 1 to the last place from there on */
    vec place = FN(fma)(y, FN(set)(1 / TANH_STEP), FN(set)(4.3f)), c = FN(sub)(FN(leading)(place), four);
    vec h = FN(fma)(c, FN(set)(-TANH_STEP), y), t = FN(lookup)(FN(tanh_table), place), square = FN(mul)(h, h);
    vec d = FN(set)(FN(coth_terms)[3]); /* in one chain: `polynomial`, with another product, takes longer here */
    SIMD_UNROLL
    for (int i = 2; i >= 0; i--) d = FN(fma)(d, square, FN(set)(FN(coth_terms)[i]));
    d = FN(fma)(d, square, FN(fma)(t, h, one));
    vec less = FN(fma)(t, t, FN(set)(-1));
    return FN(copysign)(FN(sub)(t, FN(div)(FN(mul)(less, h), d)), x);
}
#else
/* q = m / d with m = e^(2|x|) - 1 and d = m + 2, and the sign of x.  What the rounding of m lost and that of d gained
 * goes back into q: it grows by (lost + q (gained - lost)) / d, and 1 / d is (1 - q) / 2. */
SIMD_INLINE vec FN(tanh)(vec x) {
    const vec one = FN(set)(1), two = FN(set)(2), half = FN(set)((real_t)0.5);
    vec y = FN(min)(FN(set)(20.0), FN(abs)(x)); /* tanh is 1 to the last place from there on */
    vec n, p_low, p = FN(expm1_reduced)(FN(add)(y, y), &n, &p_low);
    vec scale = FN(two_to)(n), less = FN(sub)(scale, one);
    vec m = FN(fma)(scale, p, less), lost = FN(fma)(scale, p_low, FN(fma)(scale, p, FN(sub)(less, m)));
    vec d = FN(add)(m, two), gained = FN(sub)(FN(sub)(d, FN(max)(m, two)), FN(min)(m, two));
    vec q = FN(div)(m, d), reciprocal = FN(fma)(FN(set)((real_t)-0.5), q, half);
    return FN(copysign)(FN(fma)(FN(fma)(q, FN(sub)(gained, lost), lost), reciprocal, q), x);
}
#endif

/* ln(1 + f) = 2 artanh(s), s = f / (2 + f), for |s| <= 1/3: f in [-1/2, 1]. */
SIMD_INLINE vec FN(log1p_reduced)(vec f) {
    vec s = FN(div)(f, FN(add)(FN(set)(2), f)), u = FN(mul)(s, s);
    vec q = FN(mul)(u, FN(polynomial)(u, FN(log_terms), CHOOSE(5, 12)));
    /* 2s = f - s f, so ln(1 + f) = f - s (f - q): the large term is exact. */
    return FN(sub)(f, FN(mul)(s, FN(sub)(f, q)));
}

/* ln x for x >= 1, finite. */
SIMD_INLINE vec FN(log)(vec x) {
    const vec one = FN(set)(1), half = FN(set)((real_t)0.5);
    vec n = FN(sub)(FN(exponent)(x), FN(set)(EXPONENT_BIAS)), m = FN(mantissa)(x);
    vec large = FN(sub)(m, FN(set)((real_t)1.41421356237309504880)); /* m > sqrt(2): halve it */
    n = FN(where_negative)(large, n, FN(add)(n, one));
    m = FN(where_negative)(large, m, FN(mul)(m, half));
    vec f = FN(fma)(n, FN(set)(CHOOSE(LN2_LOW_32, LN2_LOW_64)), FN(log1p_reduced)(FN(sub)(m, one)));
    return FN(fma)(n, FN(set)(CHOOSE(LN2_HIGH_32, LN2_HIGH_64)), f);
}

/* ln(1 + e^-|x|): what softplus adds to max(x, 0), and binary cross entropy to max(x, 0) - x y. */
SIMD_INLINE vec FN(log1p_exp)(vec x) { return FN(log1p_reduced)(FN(exp)(FN(sub)(FN(set)(0), FN(abs)(x)))); }

/* --- rows ------------------------------------------------------------------------------------------- */

/* out[i] = f(in[i]) for i < n; out may be in. The lanes a tail lacks compute f(1).
 *
 * Two vectors at a time, instruction by instruction: one alone fills the processor's window with instructions that wait
 * for one another (gcc puts them in this order only when asked).
 */
#if defined(__GNUC__) && !defined(__clang__)
#define VMATH_INTERLEAVED __attribute__((optimize("schedule-insns", "sched-pressure")))
#else
#define VMATH_INTERLEAVED
#endif
#define VMATH_ROW(f)                                                                                              \
    VMATH_INTERLEAVED static void FN(f##_row)(real_t *out, const real_t *in, ptrdiff_t n) {                       \
        ptrdiff_t i = 0;                                                                                          \
        for (; i + 2 * LANES <= n; i += 2 * LANES) {                                                              \
            vec first = FN(load)(in + i), second = FN(load)(in + i + LANES);                                      \
            FN(store)(out + i, FN(f)(first));                                                                     \
            FN(store)(out + i + LANES, FN(f)(second));                                                            \
        }                                                                                                         \
        for (; i < n; i += LANES) {                                                                               \
            FN(tail) t = FN(tail_of)((int)(n - i < LANES ? n - i : LANES));                                       \
            FN(store_tail)(out + i, FN(f)(FN(load_over)(FN(set)(1), in + i, t)), t);                              \
        }                                                                                                         \
    }
VMATH_ROW(exp)
VMATH_ROW(sigmoid)
VMATH_ROW(tanh)
VMATH_ROW(log)
VMATH_ROW(log1p_exp)
#undef VMATH_ROW

/* Largest of n >= 1 numbers; NaN when one of them is NaN is not promised. */
static real_t FN(max_row)(const real_t *in, ptrdiff_t n) {
    enum { PARTS = FN(GROUP) / LANES };
    vec m[PARTS];
    SIMD_UNROLL
    for (int p = 0; p < PARTS; p++) m[p] = FN(set)(in[0]);
    for (ptrdiff_t i = 0; i < n; i += FN(GROUP)) {
        SIMD_UNROLL
        for (int p = 0; p < PARTS; p++) {
            ptrdiff_t at = i + p * LANES, left = n - at;
            if (left >= LANES) m[p] = FN(max)(FN(load)(in + at), m[p]);
            else if (left > 0) m[p] = FN(max)(FN(load_over)(m[p], in + at, FN(tail_of)((int)left)), m[p]);
        }
    }
    return FN(reduce_max)(m);
}

/* out[i] = e^(in[i] - shift) for i < n; returns their sum, lane by lane over a GROUP and then in one tree. */
static real_t FN(exp_sum_row)(real_t *out, const real_t *in, real_t shift, ptrdiff_t n) {
    enum { PARTS = FN(GROUP) / LANES };
    const vec down = FN(set)(shift);
    vec sum[PARTS];
    SIMD_UNROLL
    for (int p = 0; p < PARTS; p++) sum[p] = FN(set)(0);
    for (ptrdiff_t i = 0; i < n; i += FN(GROUP)) {
        SIMD_UNROLL
        for (int p = 0; p < PARTS; p++) {
            ptrdiff_t at = i + p * LANES, left = n - at;
            if (left >= LANES) {
                vec e = FN(exp)(FN(sub)(FN(load)(in + at), down));
                FN(store)(out + at, e);
                sum[p] = FN(add)(sum[p], e);
            } else if (left > 0) {
                /* kept in registers: what a masked store wrote cannot be loaded again without waiting for it */
                FN(tail) t = FN(tail_of)((int)left);
                vec e = FN(keep)(FN(exp)(FN(sub)(FN(load_over)(down, in + at, t), down)), t);
                FN(store_tail)(out + at, e, t);
                sum[p] = FN(add)(sum[p], e);
            }
        }
    }
    return FN(reduce_add)(sum);
}

/* out (n) = the sums of a matrix's columns (rows, n), each in SUM_CHAINS interleaved sums that are added in pairs. */
SIMD_INLINE void FN(sum_columns)(const int vectors, const int whole, real_t *out, const real_t *matrix, ptrdiff_t row,
                                 ptrdiff_t rows, int n) {
    const FN(tail) tail = FN(tail_of)(whole ? LANES : n);
    vec sum[SUM_CHAINS][SUM_VECTORS];
    SIMD_UNROLL
    for (int i = 0; i < SUM_CHAINS * SUM_VECTORS; i++) sum[i / SUM_VECTORS][i % SUM_VECTORS] = FN(set)(0);
#define SUM_ROW(c)                                                                                                \
    SIMD_UNROLL                                                                                                   \
    for (int v = 0; v < vectors; v++) {                                                                           \
        const real_t *at = matrix + (c) * row + v * LANES;                                                        \
        sum[c][v] = FN(add)(sum[c][v], whole ? FN(load)(at) : FN(load_tail)(at, tail));                           \
    }
    for (; rows >= SUM_CHAINS; rows -= SUM_CHAINS, matrix += SUM_CHAINS * row) {
        SIMD_UNROLL
        for (int c = 0; c < SUM_CHAINS; c++) SUM_ROW(c)
    }
    if (rows > 0) SUM_ROW(0)
    if (rows > 1) SUM_ROW(1)
    if (rows > 2) SUM_ROW(2)
#undef SUM_ROW
    SIMD_UNROLL
    for (int v = 0; v < vectors; v++) {
        const vec total = FN(add)(FN(add)(sum[0][v], sum[1][v]), FN(add)(sum[2][v], sum[3][v]));
        if (whole) FN(store)(out + v * LANES, total);
        else FN(store_tail)(out + v * LANES, total, tail);
    }
}
static void FN(sum_rows)(real_t *out, const real_t *matrix, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t n) {
    ptrdiff_t i = 0;
    for (; i + SUM_VECTORS * LANES <= n; i += SUM_VECTORS * LANES)
        FN(sum_columns)(SUM_VECTORS, 1, out + i, matrix + i, row, rows, 0);
    for (; i + LANES <= n; i += LANES) FN(sum_columns)(1, 1, out + i, matrix + i, row, rows, 0);
    if (i < n) FN(sum_columns)(1, 0, out + i, matrix + i, row, rows, (int)(n - i));
}

#undef vec
#undef LANES
#undef EXPONENT_BIAS
#undef ROUND
#endif
