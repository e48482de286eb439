/* Elementary functions on the vectors of simd.h, and on rows of numbers.
 *
 * Ranges are reduced as in Cody and Waite, "Software Manual for the Elementary Functions" (1980); the polynomials are
 * minimax fits (Remez; float32 tanh and sigmoid: least squares with Lawson's weights). Largest errors seen, in units in
 * the last place (ULP), on all levels, over float32 numbers of every exponent and 2 million float64, against 80-bit
 * arithmetic:
 *
 *              exp    sigmoid    tanh    log (x >= 1)    log1p(exp(-|x|))
 *   float32    1.0      1.8       1.3        0.9             2.0
 *   float64    1.0      1.2       1.6        1.2             2.0
 *
 * Infinities and NaN come out as the mathematics has them, but not from log; subnormal numbers are zero, as
 * float_mode.h has it.
 *
 * The file includes itself once for each type: REAL is f32 or f64, FN(name) is f32_name or f64_name.
 */
#ifndef REAL
#ifndef FASTBP_VMATH_H
#define FASTBP_VMATH_H
#include <stddef.h>
#include "simd.h"

#define VMATH_PASTE_(a, b) a##_##b
#define VMATH_PASTE(a, b) VMATH_PASTE_(a, b)
#define FN(name) VMATH_PASTE(REAL, name)

/* Natural logarithm of 2 in two parts: n * HIGH is exact for every exponent n. */
#define LN2_HIGH_32 0.693359375f
#define LN2_LOW_32 -2.12194440e-4f
#define LN2_HIGH_64 6.93145751953125e-1
#define LN2_LOW_64 1.42860682030941723212e-6
#define LOG2_E 1.44269504088896340736

/* 1.5 * 2^(mantissa bits): adding it rounds to a whole number, which then stands in the low bits. */
#define ROUND_32 12582912.0f
#define ROUND_64 6755399441055744.0

/* (e^r - 1 - r) / r^2 for |r| <= ln(2)/2, lowest power first. Error 1.4e-9 and 1.4e-18. */
static const float f32_exp_terms[] = {0.50000000135f,  0.166666667567f,  0.0416664645754f,
                                      0.0083332859272f, 0.0013933688081f, 0.000199076403458f};
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

/* tanh around TANH_STEP times 0, 1/2, 1, 2, 3, 5, 7 and 11, up to the next of them: polynomials with the lowest power
 * first. Error 1.2e-8 of tanh. At all of these points tanh is a float32 to 0.08 ULP: so the step was chosen. */
#define TANH_STEP 0.626032f
static const float f32_tanh_terms[][8] = {
    {0.0f, 0.30317837f, 0.5553139f, 0.8488614f, 0.95432246f, 0.996186f, 0.9996877f, 0.9999979f},
    {1.0f, 0.9080832f, 0.69162583f, 0.2794351f, 0.08926924f, 0.007613349f, 6.2421156e-4f, 4.1209123e-6f},
    {-1.7241778e-7f, -0.27532884f, -0.38403943f, -0.23722252f, -0.085206866f, -0.0075827893f, -6.2049064e-4f,
     -3.8070648e-6f},
    {-0.33332294f, -0.21886283f, -0.017714515f, 0.10843143f, 0.051673997f, 0.005005893f, 4.01298e-4f, 1.8337103e-6f},
    {-2.0634252e-4f, 0.15469256f, 0.14073992f, -0.013926943f, -0.021304186f, -0.0024295833f, -1.8070731e-4f,
     -2.0056187e-7f},
    {0.13517949f, 0.06328238f, -0.06678246f, -0.015957596f, 0.0057648984f, 8.8126643e-4f, 5.497893e-5f,
     -2.4605592e-7f},
    {-0.007956469f, -0.12017704f, -8.339112e-4f, 0.010923055f, -8.685982e-4f, -2.1854033e-4f, -1.0057481e-5f,
     1.18019244e-7f},
    {-0.039629042f, 0.05960832f, 0.0074183396f, -0.0024080419f, 4.2727494e-5f, 2.73688e-5f, 8.237393e-7f,
     -1.646083e-8f}};

/* 1 / (1 + e^y) around SIGMOID_STEP times 0 to 7, up to half a step from there, chosen and fitted likewise; a step has
 * 21 bits, so that its multiples are exact without fused multiply-add too. Error 5.6e-9 of the value. */
#define SIGMOID_STEP 1.0780611f
#define SIGMOID_NEAR 8.08f /* less than 7.5 steps */
static const float f32_sigmoid_terms[][8] = {
    {0.5f, 0.25387311f, 0.10376051f, 0.037899416f, 0.013226157f, 0.0045398753f, 0.0015493541f, 5.2771426e-4f},
    {-0.25f, -0.18942155f, -0.092994265f, -0.036463048f, -0.013051226f, -0.0045192647f, -0.0015469536f,
     -5.274358e-4f},
    {7.723746e-8f, 0.046621703f, 0.036848042f, 0.016849589f, 0.0063529932f, 0.0022391155f, 7.7108009e-4f,
     2.6343961e-4f},
    {0.020832159f, 0.0043103746f, -0.0068510715f, -0.0047476394f, -0.002004873f, -7.3278695e-4f, -2.554323e-4f,
     -8.762768e-5f},
    {8.4299745e-6f, -0.0049453094f, -3.5683086e-4f, 7.899293e-4f, 4.4654519e-4f, 1.7647435e-4f, 6.306167e-5f,
     2.1813314e-5f},
    {-0.0021150939f, 5.9356698e-4f, 5.8271526e-4f, -1.9819026e-5f, -6.838357e-5f, -3.264847e-5f, -1.2298281e-5f,
     -4.3265545e-6f},
    {6.2743573e-5f, 3.2634789e-4f, -1.4504125e-4f, -3.4309112e-5f, 4.6502687e-6f, 4.575944e-6f, 1.957998e-6f,
     7.149553e-7f},
    {1.5616733e-4f, -1.1127075e-4f, 3.6004974e-6f, 1.1373558e-5f, 9.6354415e-7f, -4.0880784e-7f, -2.4554211e-7f,
     -9.6802140e-8f}};

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
    vec q = FN(polynomial)(r, FN(exp_terms), CHOOSE(6, 11)), square = FN(mul)(r, r);
    vec p = FN(fma)(square, q, r);
    *low = FN(fma)(square, q, FN(sub)(r, p));
    return p;
}

/* 2^n for whole n between the exponents of the smallest and the largest normal number. */
SIMD_INLINE vec FN(two_to)(vec n) { return FN(to_exponent)(FN(add)(n, FN(set)(ROUND + EXPONENT_BIAS))); }

/* e^x as the sum of the result and `low`, what its last rounding lost. */
SIMD_INLINE vec FN(exp_parts)(vec x, vec *low) {
    /* Beyond these the result is 0 or infinity all the same, and n would leave the two factors' range. */
    x = FN(min)(FN(set)(CHOOSE(89.0f, 710.0)), FN(max)(FN(set)(CHOOSE(-105.0f, -750.0)), x));
    const vec round = FN(set)(ROUND), one = FN(set)(1);
    vec n, p_low, p = FN(expm1_reduced)(x, &n, &p_low), high = FN(add)(p, one);
    /* 2^n in two factors: 2^128 (2^1024) is never formed. */
    vec half = FN(sub)(FN(fma)(n, FN(set)((real_t)0.5), round), round);
    vec first = FN(two_to)(half), second = FN(two_to)(FN(sub)(n, half));
    *low = FN(mul)(FN(mul)(FN(add)(FN(sub)(p, FN(sub)(high, one)), p_low), first), second);
    return FN(mul)(FN(mul)(high, first), second);
}
SIMD_INLINE vec FN(exp)(vec x) {
    vec low;
    return FN(exp_parts)(x, &low);
}

/* q = e / (1 + e) with e = e^-|x|, then 1 - q on the right.  The rounding of 1 + e and of e would cost 2.4 ULP:
 * one Newton step with what they lost, 1 / (1 + e) being 1 - q, leaves 1.2. */
SIMD_INLINE vec FN(sigmoid_far)(vec x) {
    const vec one = FN(set)(1), zero = FN(set)(0);
    vec e_low, e = FN(exp_parts)(FN(sub)(zero, FN(abs)(x)), &e_low);
    vec d = FN(add)(one, e), d_low = FN(add)(FN(sub)(e, FN(sub)(d, one)), e_low);
    vec q = FN(div)(e, d), minus_q = FN(sub)(zero, q);
    vec rest = FN(fma)(minus_q, d_low, FN(add)(FN(fma)(minus_q, d, e), e_low));
    q = FN(fma)(rest, FN(sub)(one, q), q);
    return FN(where_negative)(x, q, FN(sub)(one, q));
}

#if CHOOSE(1, 0)
/* A polynomial of degree 7 of the eight that `terms` has, chosen lane by lane. */
SIMD_INLINE vec FN(chosen_polynomial)(vec x, const real_t (*terms)[8], vec place) {
    vec q = FN(lookup)(terms[7], place);
    SIMD_UNROLL
    for (int i = 6; i >= 0; i--) q = FN(fma)(q, x, FN(lookup)(terms[i], place));
    return q;
}

/* q by the polynomial that is nearest, for |x| < SIGMOID_NEAR; 1 - q on the right. */
SIMD_INLINE vec FN(sigmoid_near)(vec x) {
    const vec round = FN(set)(ROUND);
    vec y = FN(abs)(x), place = FN(fma)(y, FN(set)(1 / SIGMOID_STEP), round);
    vec h = FN(fma)(FN(sub)(place, round), FN(set)(-SIGMOID_STEP), y);
    vec q = FN(chosen_polynomial)(h, FN(sigmoid_terms), place);
    return FN(where_negative)(x, q, FN(sub)(FN(set)(1), q));
}
SIMD_INLINE vec FN(sigmoid)(vec x) {
    return FN(where_negative)(FN(sub)(FN(abs)(x), FN(set)(SIGMOID_NEAR)), FN(sigmoid_near)(x), FN(sigmoid_far)(x));
}
SIMD_INLINE int FN(both_near)(vec a, vec b) {
    return FN(all_below)(FN(abs)(a), FN(set)(SIGMOID_NEAR)) && FN(all_below)(FN(abs)(b), FN(set)(SIGMOID_NEAR));
}

/* The polynomial of the interval that |x| lies in, and the sign of x. */
SIMD_INLINE vec FN(tanh)(vec x) {
    const vec two = FN(set)(2);
    vec y = FN(min)(FN(set)(9.3f), FN(abs)(x)); /* tanh is 1 to the last place from there on */
    vec place = FN(fma)(y, FN(set)(2 / TANH_STEP), two), start = FN(sub)(FN(leading)(place), two);
    vec h = FN(fma)(start, FN(set)(-TANH_STEP / 2), y);
    return FN(copysign)(FN(chosen_polynomial)(h, FN(tanh_terms), FN(leading_place)(place)), x);
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
SIMD_INLINE vec FN(sigmoid)(vec x) { return FN(sigmoid_far)(x); }
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

/* out[i] = f(in[i]) for i < n; out may be in. The lanes a tail lacks compute f(1).  `often` stands in for f where all
 * lanes of two vectors allow it, to the same bits.  Two vectors at a time, instruction by instruction: one alone fills
 * the processor's window with instructions that wait for one another (gcc puts them in this order only when asked).
 */
#if defined(__GNUC__) && !defined(__clang__)
#define VMATH_INTERLEAVED __attribute__((optimize("schedule-insns", "sched-pressure")))
#else
#define VMATH_INTERLEAVED
#endif
#define VMATH_ROW(f, often, applies)                                                                              \
    VMATH_INTERLEAVED static void FN(f##_row)(real_t *out, const real_t *in, ptrdiff_t n) {                       \
        ptrdiff_t i = 0;                                                                                          \
        for (; i + 2 * LANES <= n; i += 2 * LANES) {                                                              \
            vec first = FN(load)(in + i), second = FN(load)(in + i + LANES);                                      \
            if (applies(first, second)) first = FN(often)(first), second = FN(often)(second);                     \
            else first = FN(f)(first), second = FN(f)(second);                                                    \
            FN(store)(out + i, first);                                                                            \
            FN(store)(out + i + LANES, second);                                                                   \
        }                                                                                                         \
        for (; i < n; i += LANES) {                                                                               \
            FN(tail) t = FN(tail_of)((int)(n - i < LANES ? n - i : LANES));                                       \
            FN(store_tail)(out + i, FN(f)(FN(load_over)(FN(set)(1), in + i, t)), t);                              \
        }                                                                                                         \
    }
#define ALWAYS(first, second) 1
VMATH_ROW(exp, exp, ALWAYS)
#if CHOOSE(1, 0)
VMATH_ROW(sigmoid, sigmoid_near, FN(both_near))
#else
VMATH_ROW(sigmoid, sigmoid, ALWAYS)
#endif
VMATH_ROW(tanh, tanh, ALWAYS)
VMATH_ROW(log, log, ALWAYS)
VMATH_ROW(log1p_exp, log1p_exp, ALWAYS)
#undef ALWAYS
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
