/* How a product's panels are laid out for it, f32_ and f64_: copied together, as they are or turned. */
#ifndef REAL
#ifndef FASTBP_PANELS_H
#define FASTBP_PANELS_H

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

#define REAL f32
#define real_t float
#include "panels.h"
#undef REAL
#undef real_t

#define REAL f64
#define real_t double
#include "panels.h"
#undef REAL
#undef real_t

#endif
#else /* REAL is defined: one type's */

#define LANES FN(LANES)

/* out (n, m) = transpose of matrix (m, n), the two apart: square blocks, of which the last of a row or column lies over
 * part of the one before it, or element by element where there is no room for one. */
static void FN(transpose)(real_t *out, ptrdiff_t out_row, const real_t *matrix, ptrdiff_t row, ptrdiff_t m,
                          ptrdiff_t n) {
    enum { BLOCK = FN(BLOCK) };
    if (m < BLOCK || n < BLOCK) {
        for (ptrdiff_t i = 0; i < m; i++)
            for (ptrdiff_t j = 0; j < n; j++) out[j * out_row + i] = matrix[i * row + j];
        return;
    }
    for (ptrdiff_t i = 0; i < m; i += BLOCK) {
        const ptrdiff_t top = i < m - BLOCK ? i : m - BLOCK;
        for (ptrdiff_t j = 0; j < n; j += BLOCK) {
            const ptrdiff_t left = j < n - BLOCK ? j : n - BLOCK;
            FN(transpose_block)(out + left * out_row + top, out_row, matrix + top * row + left, row);
        }
    }
}

/* out (depth, n) = a panel of n columns of matrix (depth, ...). Where it ends inside a vector, zeros behind it fill
 * that, and what of them lies beyond out_row the next row overwrites. */
static void FN(pack)(real_t *out, ptrdiff_t out_row, const real_t *matrix, ptrdiff_t matrix_row, ptrdiff_t depth,
                     int n) {
    const int whole = n / LANES * LANES;
    const FN(tail) tail = FN(tail_of)(n - whole);
    for (ptrdiff_t k = 0; k < depth; k++, matrix += matrix_row, out += out_row) {
        for (int j = 0; j < whole; j += LANES) FN(store)(out + j, FN(load)(matrix + j));
        if (whole < n) FN(store)(out + whole, FN(load_tail)(matrix + whole, tail));
    }
}

/* The same for a panel of the transpose: out (depth, whole vectors) from n rows of matrix (n, depth). Whole lines of
 * the rows are read at a time: rows a power of two apart fall into the same few sets of the first-level cache. */
static void FN(pack_transposed)(real_t *out, const real_t *matrix, ptrdiff_t matrix_row, ptrdiff_t depth, int n) {
    enum { DEEP = 64 / sizeof(real_t) }; /* numbers in a line of the caches */
    const int width = (n + LANES - 1) / LANES * LANES;
    for (ptrdiff_t k = 0; k < depth; k += DEEP, matrix += DEEP, out += DEEP * width) {
        const ptrdiff_t rows = depth - k < DEEP ? depth - k : DEEP;
        FN(transpose)(out, width, matrix, matrix_row, n, rows);
        for (ptrdiff_t r = 0; n < width && r < rows; r++) memset(out + r * width + n, 0, (width - n) * sizeof(real_t));
    }
}

#undef LANES
#endif
