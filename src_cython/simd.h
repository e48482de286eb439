/* Vectors of float (f32_) and double (f64_): the few operations everything else is written in.
 *
 * Spelt four times: AVX-512, AVX2 with fused multiply-add, NEON, and plain C (vectors of the compiler where it
 * has them, else one lane).  Each spelling gives the same bits for an operation on one lane, with one exception: plain
 * C has no fused multiply-add, so fma rounds twice there.  Nothing here estimates (no rcp, no rsqrt), and
 * every reduction adds a GROUP of lanes that does not depend on the width of the vector, in one fixed tree.
 *
 * A tail is the first n lanes of a vector: load_tail and keep put 0 into the others, load_over leaves a's there.
 * leading(x) has of x the exponent and the mantissa's first two bits; lookup(table, x) reads a table of 8 numbers in
 * every lane, at the place that the last three of these make: 0 to 7 for 8, 10, 12, 14, 4, 5, 6, 7 and what lies above
 * each.
 * max(a, b) is a > b ? a : b and min(a, b) is a < b ? a : b: where one is NaN the second operand comes back.
 */
#ifndef FASTBP_SIMD_H
#define FASTBP_SIMD_H

#include <stdint.h>
#include <string.h>

/* In a file that includes itself once for each type: REAL is f32 or f64, FN(name) is f32_name or f64_name. */
#define SIMD_PASTE_(a, b) a##_##b
#define SIMD_PASTE(a, b) SIMD_PASTE_(a, b)
#define FN(name) SIMD_PASTE(REAL, name)

#if defined(_MSC_VER) && !defined(__clang__)
#define SIMD_INLINE static __forceinline
#define SIMD_UNROLL
#define SIMD_PREFETCH(p) (void)(p)
#define SIMD_PREFETCH_TO_WRITE(p) (void)(p)
#else
#define SIMD_INLINE static inline __attribute__((always_inline))
#define SIMD_UNROLL _Pragma("GCC unroll 32")
#define SIMD_PREFETCH(p) __builtin_prefetch(p)
#if defined(__x86_64__) /* old processors pass over it; the builtin does not use it unasked */
#define SIMD_PREFETCH_TO_WRITE(p) __asm__ volatile("prefetchw %0" : : "m"(*(const char *)(p)))
#else
#define SIMD_PREFETCH_TO_WRITE(p) __builtin_prefetch(p, 1)
#endif
#endif

#if defined(__AVX2__) || defined(__SSE2__) || defined(_M_X64)
#include <immintrin.h>
#endif

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define SIMD_AVX512
#endif

/* Lanes that one reduction adds, whatever the vector's width: one AVX-512 vector. */
enum { f32_GROUP = 16, f64_GROUP = 8 };

/* Integer images of the numbers that take floats apart and put them together. */
#define F32_TWO23 8388608.0f         /* 2^23: the mantissa's last bit is worth 1 */
#define F64_TWO52 4503599627370496.0 /* 2^52 */
#define F32_LEADING 0xffe00000u      /* sign, exponent and the mantissa's first two bits ... */
#define F32_PLACE 21                 /* ... of which the last is this one */

/* ---------------------------------------------------------------------------------------- AVX-512 */
#if defined(SIMD_AVX512)
#define SIMD_NAME "AVX-512"

enum { f32_LANES = 16, f64_LANES = 8 };
typedef __m512 f32_vec;
typedef __m512d f64_vec;
typedef __mmask16 f32_tail;
typedef __mmask8 f64_tail;

SIMD_INLINE f32_tail f32_tail_of(int n) { return (f32_tail)((1u << n) - 1u); }
SIMD_INLINE f32_vec f32_load(const float *p) { return _mm512_loadu_ps(p); }
SIMD_INLINE void f32_store(float *p, f32_vec a) { _mm512_storeu_ps(p, a); }
SIMD_INLINE f32_vec f32_load_tail(const float *p, f32_tail t) { return _mm512_maskz_loadu_ps(t, p); }
SIMD_INLINE f32_vec f32_load_over(f32_vec a, const float *p, f32_tail t) { return _mm512_mask_loadu_ps(a, t, p); }
SIMD_INLINE void f32_store_tail(float *p, f32_vec a, f32_tail t) { _mm512_mask_storeu_ps(p, t, a); }
SIMD_INLINE f32_vec f32_keep(f32_vec a, f32_tail t) { return _mm512_maskz_mov_ps(t, a); }
SIMD_INLINE f32_vec f32_set(float x) { return _mm512_set1_ps(x); }
SIMD_INLINE f32_vec f32_add(f32_vec a, f32_vec b) { return _mm512_add_ps(a, b); }
SIMD_INLINE f32_vec f32_sub(f32_vec a, f32_vec b) { return _mm512_sub_ps(a, b); }
SIMD_INLINE f32_vec f32_mul(f32_vec a, f32_vec b) { return _mm512_mul_ps(a, b); }
SIMD_INLINE f32_vec f32_div(f32_vec a, f32_vec b) { return _mm512_div_ps(a, b); }
SIMD_INLINE f32_vec f32_fma(f32_vec a, f32_vec b, f32_vec c) { return _mm512_fmadd_ps(a, b, c); }
SIMD_INLINE f32_vec f32_max(f32_vec a, f32_vec b) { return _mm512_max_ps(a, b); }
SIMD_INLINE f32_vec f32_min(f32_vec a, f32_vec b) { return _mm512_min_ps(a, b); }
SIMD_INLINE f32_vec f32_abs(f32_vec a) { return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), a); }
SIMD_INLINE f32_vec f32_copysign(f32_vec a, f32_vec s) {
    return _mm512_or_ps(a, _mm512_and_ps(_mm512_set1_ps(-0.0f), s));
}
SIMD_INLINE f32_vec f32_where_negative(f32_vec x, f32_vec a, f32_vec b) { /* x < 0 ? a : b */
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ), b, a);
}
SIMD_INLINE f32_vec f32_where_positive(f32_vec x, f32_vec a) { /* x > 0 ? a : 0 */
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ), a);
}
SIMD_INLINE f32_vec f32_to_exponent(f32_vec a) { /* low bits of the image become the exponent */
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a), 23));
}
SIMD_INLINE f32_vec f32_exponent(f32_vec a) { /* biased exponent of a > 0, as a number */
    __m512i e = _mm512_srli_epi32(_mm512_castps_si512(a), 23);
    e = _mm512_or_si512(e, _mm512_castps_si512(_mm512_set1_ps(F32_TWO23)));
    return _mm512_sub_ps(_mm512_castsi512_ps(e), _mm512_set1_ps(F32_TWO23));
}
SIMD_INLINE f32_vec f32_mantissa(f32_vec a) { /* mantissa of a > 0, in [1, 2) */
    __m512i m = _mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(0x007fffff));
    return _mm512_castsi512_ps(_mm512_or_si512(m, _mm512_castps_si512(_mm512_set1_ps(1.0f))));
}
SIMD_INLINE f32_vec f32_leading(f32_vec x) {
    return _mm512_and_ps(x, _mm512_castsi512_ps(_mm512_set1_epi32((int)F32_LEADING)));
}
SIMD_INLINE f32_vec f32_lookup(const float *table, f32_vec x) { /* the table twice, as the next bit is any */
    const f32_vec twice = _mm512_broadcast_f32x8(_mm256_loadu_ps(table));
    return _mm512_permutexvar_ps(_mm512_srli_epi32(_mm512_castps_si512(x), F32_PLACE), twice);
}

SIMD_INLINE f64_tail f64_tail_of(int n) { return (f64_tail)((1u << n) - 1u); }
SIMD_INLINE f64_vec f64_load(const double *p) { return _mm512_loadu_pd(p); }
SIMD_INLINE void f64_store(double *p, f64_vec a) { _mm512_storeu_pd(p, a); }
SIMD_INLINE f64_vec f64_load_tail(const double *p, f64_tail t) { return _mm512_maskz_loadu_pd(t, p); }
SIMD_INLINE f64_vec f64_load_over(f64_vec a, const double *p, f64_tail t) { return _mm512_mask_loadu_pd(a, t, p); }
SIMD_INLINE void f64_store_tail(double *p, f64_vec a, f64_tail t) { _mm512_mask_storeu_pd(p, t, a); }
SIMD_INLINE f64_vec f64_keep(f64_vec a, f64_tail t) { return _mm512_maskz_mov_pd(t, a); }
SIMD_INLINE f64_vec f64_set(double x) { return _mm512_set1_pd(x); }
SIMD_INLINE f64_vec f64_add(f64_vec a, f64_vec b) { return _mm512_add_pd(a, b); }
SIMD_INLINE f64_vec f64_sub(f64_vec a, f64_vec b) { return _mm512_sub_pd(a, b); }
SIMD_INLINE f64_vec f64_mul(f64_vec a, f64_vec b) { return _mm512_mul_pd(a, b); }
SIMD_INLINE f64_vec f64_div(f64_vec a, f64_vec b) { return _mm512_div_pd(a, b); }
SIMD_INLINE f64_vec f64_fma(f64_vec a, f64_vec b, f64_vec c) { return _mm512_fmadd_pd(a, b, c); }
SIMD_INLINE f64_vec f64_max(f64_vec a, f64_vec b) { return _mm512_max_pd(a, b); }
SIMD_INLINE f64_vec f64_min(f64_vec a, f64_vec b) { return _mm512_min_pd(a, b); }
SIMD_INLINE f64_vec f64_abs(f64_vec a) { return _mm512_andnot_pd(_mm512_set1_pd(-0.0), a); }
SIMD_INLINE f64_vec f64_copysign(f64_vec a, f64_vec s) {
    return _mm512_or_pd(a, _mm512_and_pd(_mm512_set1_pd(-0.0), s));
}
SIMD_INLINE f64_vec f64_where_negative(f64_vec x, f64_vec a, f64_vec b) {
    return _mm512_mask_blend_pd(_mm512_cmp_pd_mask(x, _mm512_setzero_pd(), _CMP_LT_OQ), b, a);
}
SIMD_INLINE f64_vec f64_where_positive(f64_vec x, f64_vec a) {
    return _mm512_maskz_mov_pd(_mm512_cmp_pd_mask(x, _mm512_setzero_pd(), _CMP_GT_OQ), a);
}
SIMD_INLINE f64_vec f64_to_exponent(f64_vec a) {
    return _mm512_castsi512_pd(_mm512_slli_epi64(_mm512_castpd_si512(a), 52));
}
SIMD_INLINE f64_vec f64_exponent(f64_vec a) {
    __m512i e = _mm512_srli_epi64(_mm512_castpd_si512(a), 52);
    e = _mm512_or_si512(e, _mm512_castpd_si512(_mm512_set1_pd(F64_TWO52)));
    return _mm512_sub_pd(_mm512_castsi512_pd(e), _mm512_set1_pd(F64_TWO52));
}
SIMD_INLINE f64_vec f64_mantissa(f64_vec a) {
    __m512i m = _mm512_and_si512(_mm512_castpd_si512(a), _mm512_set1_epi64(0x000fffffffffffffLL));
    return _mm512_castsi512_pd(_mm512_or_si512(m, _mm512_castpd_si512(_mm512_set1_pd(1.0))));
}

/* ------------------------------------------------------------------------------- AVX2 with FMA */
#elif defined(__AVX2__) && (defined(__FMA__) || defined(_MSC_VER))
#define SIMD_NAME "AVX2"

enum { f32_LANES = 8, f64_LANES = 4 };
typedef __m256 f32_vec;
typedef __m256d f64_vec;
typedef struct { __m256i mask; int count; } f32_tail;
typedef f32_tail f64_tail;

SIMD_INLINE f32_tail f32_tail_of(int n) {
    return (f32_tail){_mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)), n};
}
SIMD_INLINE f32_vec f32_load(const float *p) { return _mm256_loadu_ps(p); }
SIMD_INLINE void f32_store(float *p, f32_vec a) { _mm256_storeu_ps(p, a); }
SIMD_INLINE f32_vec f32_load_tail(const float *p, f32_tail t) { return _mm256_maskload_ps(p, t.mask); }
SIMD_INLINE f32_vec f32_load_over(f32_vec a, const float *p, f32_tail t) {
    return _mm256_blendv_ps(a, _mm256_maskload_ps(p, t.mask), _mm256_castsi256_ps(t.mask));
}
/* Piece by piece: on AMD's processors a masked store takes 18 cycles. */
SIMD_INLINE void f32_store_tail(float *p, f32_vec a, f32_tail t) {
    __m128 some = _mm256_castps256_ps128(a);
    if (t.count == f32_LANES) f32_store(p, a);
    if (t.count & 4) _mm_storeu_ps(p, some), some = _mm256_extractf128_ps(a, 1), p += 4;
    if (t.count & 2) _mm_storel_pi((__m64 *)p, some), some = _mm_movehl_ps(some, some), p += 2;
    if (t.count & 1) _mm_store_ss(p, some);
}
SIMD_INLINE f32_vec f32_keep(f32_vec a, f32_tail t) { return _mm256_and_ps(a, _mm256_castsi256_ps(t.mask)); }
SIMD_INLINE f32_vec f32_set(float x) { return _mm256_set1_ps(x); }
SIMD_INLINE f32_vec f32_add(f32_vec a, f32_vec b) { return _mm256_add_ps(a, b); }
SIMD_INLINE f32_vec f32_sub(f32_vec a, f32_vec b) { return _mm256_sub_ps(a, b); }
SIMD_INLINE f32_vec f32_mul(f32_vec a, f32_vec b) { return _mm256_mul_ps(a, b); }
SIMD_INLINE f32_vec f32_div(f32_vec a, f32_vec b) { return _mm256_div_ps(a, b); }
SIMD_INLINE f32_vec f32_fma(f32_vec a, f32_vec b, f32_vec c) { return _mm256_fmadd_ps(a, b, c); }
SIMD_INLINE f32_vec f32_max(f32_vec a, f32_vec b) { return _mm256_max_ps(a, b); }
SIMD_INLINE f32_vec f32_min(f32_vec a, f32_vec b) { return _mm256_min_ps(a, b); }
SIMD_INLINE f32_vec f32_abs(f32_vec a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
SIMD_INLINE f32_vec f32_copysign(f32_vec a, f32_vec s) {
    return _mm256_or_ps(a, _mm256_and_ps(_mm256_set1_ps(-0.0f), s));
}
SIMD_INLINE f32_vec f32_where_negative(f32_vec x, f32_vec a, f32_vec b) {
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_LT_OQ));
}
SIMD_INLINE f32_vec f32_where_positive(f32_vec x, f32_vec a) {
    return _mm256_and_ps(a, _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GT_OQ));
}
SIMD_INLINE f32_vec f32_to_exponent(f32_vec a) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a), 23));
}
SIMD_INLINE f32_vec f32_exponent(f32_vec a) {
    __m256i e = _mm256_srli_epi32(_mm256_castps_si256(a), 23);
    e = _mm256_or_si256(e, _mm256_castps_si256(_mm256_set1_ps(F32_TWO23)));
    return _mm256_sub_ps(_mm256_castsi256_ps(e), _mm256_set1_ps(F32_TWO23));
}
SIMD_INLINE f32_vec f32_mantissa(f32_vec a) {
    __m256i m = _mm256_and_si256(_mm256_castps_si256(a), _mm256_set1_epi32(0x007fffff));
    return _mm256_castsi256_ps(_mm256_or_si256(m, _mm256_castps_si256(_mm256_set1_ps(1.0f))));
}
SIMD_INLINE f32_vec f32_leading(f32_vec x) {
    return _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32((int)F32_LEADING)));
}
SIMD_INLINE f32_vec f32_lookup(const float *table, f32_vec x) {
    return _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), _mm256_srli_epi32(_mm256_castps_si256(x), F32_PLACE));
}

SIMD_INLINE f64_tail f64_tail_of(int n) {
    return (f64_tail){_mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3)), n};
}
SIMD_INLINE f64_vec f64_load(const double *p) { return _mm256_loadu_pd(p); }
SIMD_INLINE void f64_store(double *p, f64_vec a) { _mm256_storeu_pd(p, a); }
SIMD_INLINE f64_vec f64_load_tail(const double *p, f64_tail t) { return _mm256_maskload_pd(p, t.mask); }
SIMD_INLINE f64_vec f64_load_over(f64_vec a, const double *p, f64_tail t) {
    return _mm256_blendv_pd(a, _mm256_maskload_pd(p, t.mask), _mm256_castsi256_pd(t.mask));
}
SIMD_INLINE void f64_store_tail(double *p, f64_vec a, f64_tail t) {
    __m128d some = _mm256_castpd256_pd128(a);
    if (t.count == f64_LANES) f64_store(p, a);
    if (t.count & 2) _mm_storeu_pd(p, some), some = _mm256_extractf128_pd(a, 1), p += 2;
    if (t.count & 1) _mm_store_sd(p, some);
}
SIMD_INLINE f64_vec f64_keep(f64_vec a, f64_tail t) { return _mm256_and_pd(a, _mm256_castsi256_pd(t.mask)); }
SIMD_INLINE f64_vec f64_set(double x) { return _mm256_set1_pd(x); }
SIMD_INLINE f64_vec f64_add(f64_vec a, f64_vec b) { return _mm256_add_pd(a, b); }
SIMD_INLINE f64_vec f64_sub(f64_vec a, f64_vec b) { return _mm256_sub_pd(a, b); }
SIMD_INLINE f64_vec f64_mul(f64_vec a, f64_vec b) { return _mm256_mul_pd(a, b); }
SIMD_INLINE f64_vec f64_div(f64_vec a, f64_vec b) { return _mm256_div_pd(a, b); }
SIMD_INLINE f64_vec f64_fma(f64_vec a, f64_vec b, f64_vec c) { return _mm256_fmadd_pd(a, b, c); }
SIMD_INLINE f64_vec f64_max(f64_vec a, f64_vec b) { return _mm256_max_pd(a, b); }
SIMD_INLINE f64_vec f64_min(f64_vec a, f64_vec b) { return _mm256_min_pd(a, b); }
SIMD_INLINE f64_vec f64_abs(f64_vec a) { return _mm256_andnot_pd(_mm256_set1_pd(-0.0), a); }
SIMD_INLINE f64_vec f64_copysign(f64_vec a, f64_vec s) {
    return _mm256_or_pd(a, _mm256_and_pd(_mm256_set1_pd(-0.0), s));
}
SIMD_INLINE f64_vec f64_where_negative(f64_vec x, f64_vec a, f64_vec b) {
    return _mm256_blendv_pd(b, a, _mm256_cmp_pd(x, _mm256_setzero_pd(), _CMP_LT_OQ));
}
SIMD_INLINE f64_vec f64_where_positive(f64_vec x, f64_vec a) {
    return _mm256_and_pd(a, _mm256_cmp_pd(x, _mm256_setzero_pd(), _CMP_GT_OQ));
}
SIMD_INLINE f64_vec f64_to_exponent(f64_vec a) {
    return _mm256_castsi256_pd(_mm256_slli_epi64(_mm256_castpd_si256(a), 52));
}
SIMD_INLINE f64_vec f64_exponent(f64_vec a) {
    __m256i e = _mm256_srli_epi64(_mm256_castpd_si256(a), 52);
    e = _mm256_or_si256(e, _mm256_castpd_si256(_mm256_set1_pd(F64_TWO52)));
    return _mm256_sub_pd(_mm256_castsi256_pd(e), _mm256_set1_pd(F64_TWO52));
}
SIMD_INLINE f64_vec f64_mantissa(f64_vec a) {
    __m256i m = _mm256_and_si256(_mm256_castpd_si256(a), _mm256_set1_epi64x(0x000fffffffffffffLL));
    return _mm256_castsi256_pd(_mm256_or_si256(m, _mm256_castpd_si256(_mm256_set1_pd(1.0))));
}

/* ------------------------------------------------------------- 128 bits: NEON, or plain C vectors */
#elif defined(__GNUC__)

enum { f32_LANES = 4, f64_LANES = 2 };
typedef float f32_vec __attribute__((vector_size(16)));
typedef double f64_vec __attribute__((vector_size(16)));
typedef int32_t f32_bits __attribute__((vector_size(16)));
typedef int64_t f64_bits __attribute__((vector_size(16)));
typedef int f32_tail;
typedef int f64_tail;

#if defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#define SIMD_NAME "NEON"
SIMD_INLINE f32_vec f32_fma(f32_vec a, f32_vec b, f32_vec c) {
    return (f32_vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
SIMD_INLINE f64_vec f64_fma(f64_vec a, f64_vec b, f64_vec c) {
    return (f64_vec)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
SIMD_INLINE f32_vec f32_lookup(const float *table, f32_vec x) { /* byte by byte */
    const uint8x16x2_t bytes = {{vld1q_u8((const uint8_t *)table), vld1q_u8((const uint8_t *)table + 16)}};
    const uint32x4_t last = vandq_u32(vshrq_n_u32((uint32x4_t)x, F32_PLACE), vdupq_n_u32(7));
    return (f32_vec)vqtbl2q_u8(bytes, (uint8x16_t)vmlaq_n_u32(vdupq_n_u32(0x03020100), last, 0x04040404));
}
#else
#define SIMD_NAME "128-bit vectors"
SIMD_INLINE f32_vec f32_fma(f32_vec a, f32_vec b, f32_vec c) { return a * b + c; }
SIMD_INLINE f64_vec f64_fma(f64_vec a, f64_vec b, f64_vec c) { return a * b + c; }
SIMD_INLINE f32_vec f32_lookup(const float *table, f32_vec x) {
    const f32_bits last = (f32_bits)x >> F32_PLACE & 7;
    return (f32_vec){table[last[0]], table[last[1]], table[last[2]], table[last[3]]};
}
#endif
SIMD_INLINE f32_vec f32_leading(f32_vec x) { return (f32_vec)((f32_bits)x & (int32_t)F32_LEADING); }

/* Both types by the compiler's own vector arithmetic; a mask is -1 or 0 in every lane. */
#define SIMD_128(P, real, LANES, SIGN, SHIFT, FRACTION, ONE, MAGIC)                                               \
    SIMD_INLINE P##_tail P##_tail_of(int n) { return n; }                                                         \
    SIMD_INLINE P##_vec P##_load(const real *p) { P##_vec a; memcpy(&a, p, sizeof a); return a; }                 \
    SIMD_INLINE void P##_store(real *p, P##_vec a) { memcpy(p, &a, sizeof a); }                                   \
    SIMD_INLINE P##_vec P##_load_over(P##_vec a, const real *p, P##_tail n) {                                     \
        real t[LANES];                                                                                            \
        P##_store(t, a);                                                                                          \
        for (int i = 0; i < n; i++) t[i] = p[i];                                                                  \
        return P##_load(t);                                                                                       \
    }                                                                                                             \
    SIMD_INLINE P##_vec P##_load_tail(const real *p, P##_tail n) { return P##_load_over((P##_vec){0}, p, n); }    \
    SIMD_INLINE void P##_store_tail(real *p, P##_vec a, P##_tail n) {                                             \
        for (int i = 0; i < n; i++) p[i] = a[i];                                                                  \
    }                                                                                                             \
    SIMD_INLINE P##_vec P##_keep(P##_vec a, P##_tail n) {                                                         \
        P##_vec b = {0};                                                                                          \
        for (int i = 0; i < n; i++) b[i] = a[i];                                                                  \
        return b;                                                                                                 \
    }                                                                                                             \
    SIMD_INLINE P##_vec P##_set(real x) { return x - (P##_vec){0}; }                                              \
    SIMD_INLINE P##_vec P##_add(P##_vec a, P##_vec b) { return a + b; }                                           \
    SIMD_INLINE P##_vec P##_sub(P##_vec a, P##_vec b) { return a - b; }                                           \
    SIMD_INLINE P##_vec P##_mul(P##_vec a, P##_vec b) { return a * b; }                                           \
    SIMD_INLINE P##_vec P##_div(P##_vec a, P##_vec b) { return a / b; }                                           \
    SIMD_INLINE P##_vec P##_pick(P##_bits m, P##_vec a, P##_vec b) {                                              \
        return (P##_vec)((m & (P##_bits)a) | (~m & (P##_bits)b));                                                 \
    }                                                                                                             \
    SIMD_INLINE P##_vec P##_max(P##_vec a, P##_vec b) { return P##_pick((P##_bits)(a > b), a, b); }               \
    SIMD_INLINE P##_vec P##_min(P##_vec a, P##_vec b) { return P##_pick((P##_bits)(a < b), a, b); }               \
    SIMD_INLINE P##_vec P##_abs(P##_vec a) { return (P##_vec)((P##_bits)a & ~SIGN); }                             \
    SIMD_INLINE P##_vec P##_copysign(P##_vec a, P##_vec s) {                                                      \
        return (P##_vec)((P##_bits)a | ((P##_bits)s & SIGN));                                                     \
    }                                                                                                             \
    SIMD_INLINE P##_vec P##_where_negative(P##_vec x, P##_vec a, P##_vec b) {                                     \
        return P##_pick((P##_bits)(x < P##_set(0)), a, b);                                                        \
    }                                                                                                             \
    SIMD_INLINE P##_vec P##_where_positive(P##_vec x, P##_vec a) {                                                \
        return (P##_vec)((P##_bits)(x > P##_set(0)) & (P##_bits)a);                                               \
    }                                                                                                             \
    SIMD_INLINE P##_vec P##_to_exponent(P##_vec a) { return (P##_vec)((P##_bits)a << SHIFT); }                    \
    SIMD_INLINE P##_vec P##_exponent(P##_vec a) {                                                                 \
        return (P##_vec)(((P##_bits)a >> SHIFT) | (P##_bits)P##_set(MAGIC)) - P##_set(MAGIC);                     \
    }                                                                                                             \
    SIMD_INLINE P##_vec P##_mantissa(P##_vec a) {                                                                 \
        return (P##_vec)(((P##_bits)a & FRACTION) | (P##_bits)P##_set(ONE));                                      \
    }

SIMD_128(f32, float, 4, INT32_MIN, 23, 0x007fffff, 1.0f, F32_TWO23)
SIMD_128(f64, double, 2, INT64_MIN, 52, 0x000fffffffffffffLL, 1.0, F64_TWO52)
#undef SIMD_128

/* ---------------------------------------------------------- one lane: any C compiler (untried: MSVC) */
#else
#define SIMD_NAME "one lane"

enum { f32_LANES = 1, f64_LANES = 1 };
typedef float f32_vec;
typedef double f64_vec;
typedef int f32_tail;
typedef int f64_tail;

#define SIMD_1(P, real, bits, SIGN, SHIFT, FRACTION, ONE, MAGIC)                                                  \
    SIMD_INLINE bits P##_image(real a) { bits b; memcpy(&b, &a, sizeof b); return b; }                            \
    SIMD_INLINE real P##_of(bits b) { real a; memcpy(&a, &b, sizeof a); return a; }                               \
    SIMD_INLINE int P##_tail_of(int n) { return n; }                                                              \
    SIMD_INLINE real P##_load(const real *p) { return *p; }                                                       \
    SIMD_INLINE void P##_store(real *p, real a) { *p = a; }                                                       \
    SIMD_INLINE real P##_load_over(real a, const real *p, int n) { return n ? *p : a; }                           \
    SIMD_INLINE real P##_load_tail(const real *p, int n) { return n ? *p : 0; }                                   \
    SIMD_INLINE void P##_store_tail(real *p, real a, int n) { if (n) *p = a; }                                    \
    SIMD_INLINE real P##_keep(real a, int n) { return n ? a : 0; }                                                \
    SIMD_INLINE real P##_set(real x) { return x; }                                                                \
    SIMD_INLINE real P##_add(real a, real b) { return a + b; }                                                    \
    SIMD_INLINE real P##_sub(real a, real b) { return a - b; }                                                    \
    SIMD_INLINE real P##_mul(real a, real b) { return a * b; }                                                    \
    SIMD_INLINE real P##_div(real a, real b) { return a / b; }                                                    \
    SIMD_INLINE real P##_fma(real a, real b, real c) { return a * b + c; }                                        \
    SIMD_INLINE real P##_max(real a, real b) { return a > b ? a : b; }                                            \
    SIMD_INLINE real P##_min(real a, real b) { return a < b ? a : b; }                                            \
    SIMD_INLINE real P##_abs(real a) { return P##_of(P##_image(a) & ~SIGN); }                                     \
    SIMD_INLINE real P##_copysign(real a, real s) { return P##_of(P##_image(a) | (P##_image(s) & SIGN)); }        \
    SIMD_INLINE real P##_where_negative(real x, real a, real b) { return x < 0 ? a : b; }                         \
    SIMD_INLINE real P##_where_positive(real x, real a) { return x > 0 ? a : 0; }                                 \
    SIMD_INLINE real P##_to_exponent(real a) { return P##_of(P##_image(a) << SHIFT); }                            \
    SIMD_INLINE real P##_exponent(real a) { return (real)(P##_image(a) >> SHIFT); }                               \
    SIMD_INLINE real P##_mantissa(real a) { return P##_of((P##_image(a) & FRACTION) | P##_image(ONE)); }

SIMD_1(f32, float, uint32_t, 0x80000000u, 23, 0x007fffffu, 1.0f, F32_TWO23)
SIMD_1(f64, double, uint64_t, 0x8000000000000000u, 52, 0x000fffffffffffffu, 1.0, F64_TWO52)
#undef SIMD_1
SIMD_INLINE float f32_leading(float x) { return f32_of(f32_image(x) & F32_LEADING); }
SIMD_INLINE float f32_lookup(const float *table, float x) { return table[f32_image(x) >> F32_PLACE & 7]; }
#endif

/* ------------------------------------------------------------------------ reductions in one fixed tree */
/* The lanes of `parts` vectors, GROUP numbers in all: lane i joins lane i + GROUP/2, then i + GROUP/4, ... */
#if defined(__AVX2__) /* in registers, folded in halves */
#if defined(SIMD_AVX512)
#define SIMD_HALVES_F32(OP, a) OP(_mm512_castps512_ps256(*a), _mm512_extractf32x8_ps(*a, 1))
#define SIMD_HALVES_F64(OP, a) OP(_mm512_castpd512_pd256(*a), _mm512_extractf64x4_pd(*a, 1))
#else
#define SIMD_HALVES_F32(OP, a) OP(a[0], a[1])
#define SIMD_HALVES_F64(OP, a) OP(a[0], a[1])
#endif
#define SIMD_REDUCE(NAME)                                                                                         \
    SIMD_INLINE float f32_reduce_##NAME(const f32_vec *parts) {                                                   \
        __m256 h = SIMD_HALVES_F32(_mm256_##NAME##_ps, parts);                                                    \
        __m128 q = _mm_##NAME##_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));                       \
        q = _mm_##NAME##_ps(q, _mm_movehl_ps(q, q));                                                              \
        return _mm_cvtss_f32(_mm_##NAME##_ss(q, _mm_movehdup_ps(q)));                                             \
    }                                                                                                             \
    SIMD_INLINE double f64_reduce_##NAME(const f64_vec *parts) {                                                  \
        __m256d h = SIMD_HALVES_F64(_mm256_##NAME##_pd, parts);                                                   \
        __m128d q = _mm_##NAME##_pd(_mm256_castpd256_pd128(h), _mm256_extractf128_pd(h, 1));                      \
        return _mm_cvtsd_f64(_mm_##NAME##_sd(q, _mm_unpackhi_pd(q, q)));                                          \
    }
SIMD_REDUCE(add)
SIMD_REDUCE(max)
#undef SIMD_HALVES_F32
#undef SIMD_HALVES_F64
#else
#define SIMD_REDUCE(P, real, NAME, OF_TWO)                                                                        \
    SIMD_INLINE real P##_reduce_##NAME(const P##_vec *parts) {                                                    \
        real t[P##_GROUP];                                                                                        \
        for (int i = 0; i < P##_GROUP / P##_LANES; i++) P##_store(t + i * P##_LANES, parts[i]);                   \
        for (int width = P##_GROUP / 2; width > 0; width /= 2)                                                    \
            for (int i = 0; i < width; i++) { real a = t[i], b = t[i + width]; t[i] = OF_TWO; }                   \
        return t[0];                                                                                              \
    }
SIMD_REDUCE(f32, float, add, a + b)
SIMD_REDUCE(f32, float, max, a > b ? a : b)
SIMD_REDUCE(f64, double, add, a + b)
SIMD_REDUCE(f64, double, max, a > b ? a : b)
#endif
#undef SIMD_REDUCE

#endif
