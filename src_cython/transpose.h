/* Transposes of square blocks of floats (f32_) and doubles (f64_). */
#ifndef FASTBP_TRANSPOSE_H
#define FASTBP_TRANSPOSE_H

#include <stddef.h>
#include "simd.h"

/* out (n, n) = transpose of matrix (n, n), n = BLOCK: 8 floats or 4 doubles a side where 256-bit vectors exist. */
#if defined(__AVX2__)
enum { f32_BLOCK = 8, f64_BLOCK = 4 };

SIMD_INLINE void f32_transpose_block(float *out, ptrdiff_t out_row, const float *matrix, ptrdiff_t row) {
    __m256 r[8], s[8];
    for (int i = 0; i < 8; i++) r[i] = _mm256_loadu_ps(matrix + i * row);
    for (int i = 0; i < 8; i += 2) {
        s[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        s[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_shuffle_ps(s[i], s[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(s[i], s[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(s[i + 1], s[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(s[i + 1], s[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_ps(out + i * out_row, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
        _mm256_storeu_ps(out + (i + 4) * out_row, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    }
}
SIMD_INLINE void f64_transpose_block(double *out, ptrdiff_t out_row, const double *matrix, ptrdiff_t row) {
    __m256d r[4], s[4];
    for (int i = 0; i < 4; i++) r[i] = _mm256_loadu_pd(matrix + i * row);
    for (int i = 0; i < 4; i += 2) {
        s[i] = _mm256_unpacklo_pd(r[i], r[i + 1]);
        s[i + 1] = _mm256_unpackhi_pd(r[i], r[i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        _mm256_storeu_pd(out + i * out_row, _mm256_permute2f128_pd(s[i], s[i + 2], 0x20));
        _mm256_storeu_pd(out + (i + 2) * out_row, _mm256_permute2f128_pd(s[i], s[i + 2], 0x31));
    }
}
#else
enum { f32_BLOCK = 4, f64_BLOCK = 4 };
#define SIMD_TRANSPOSE(P, real)                                                                                   \
    SIMD_INLINE void P##_transpose_block(real *out, ptrdiff_t out_row, const real *matrix, ptrdiff_t row) {       \
        for (int i = 0; i < 4; i++)                                                                               \
            for (int j = 0; j < 4; j++) out[j * out_row + i] = matrix[i * row + j];                               \
    }
SIMD_TRANSPOSE(f32, float)
SIMD_TRANSPOSE(f64, double)
#undef SIMD_TRANSPOSE
#endif

#endif
