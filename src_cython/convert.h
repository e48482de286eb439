/* Numbers of any type, anywhere in memory, to float and double: how a user's rows enter a batch. */
#ifndef FASTBP_CONVERT_H
#define FASTBP_CONVERT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "simd.h"

/* The type of a user's array; the same order as LETTERS in core.pyx, floating-point numbers last. */
enum {
    NUMBER_BOOL, NUMBER_INT8, NUMBER_UINT8, NUMBER_INT16, NUMBER_UINT16, NUMBER_INT32, NUMBER_UINT32,
    NUMBER_INT64, NUMBER_UINT64, NUMBER_FLOAT16, NUMBER_FLOAT32, NUMBER_FLOAT64
};

/* IEEE 754 binary16 to binary32: exact. */
static inline float number_half(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 31u, fraction = h & 0x3ffu, bits;
    float value;
    if (exponent == 0) { /* zero or subnormal: fraction * 2^-24 */
        value = (float)fraction * 5.9604644775390625e-8f;
        return sign ? -value : value;
    }
    bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112u) << 23) | fraction << 13;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* What a user's array is: where, how far from row to row and from column to column in bytes, numbers of which type. */
typedef struct {
    const char *data;
    ptrdiff_t rows, columns, row_stride, column_stride, size;
    int number, swapped;
} table;

enum { SWAPPED_RUN = 64 }; /* numbers whose bytes are put right together */

/* out (count, columns) = the rows that order names, or first, first + 1, ... where order is NULL.  memcpy, because a
 * user's numbers need not be aligned; the inner loop twice, because a stride that is known to be the number's size
 * lets the compiler use vectors. */
#define CONVERT_AS(T, VALUE)                                                                                      \
    for (ptrdiff_t r = 0; r < count; r++, out += out_row) {                                                       \
        const char *from = source->data + (order ? order[r] : first + r) * source->row_stride;                    \
        if (source->column_stride == (ptrdiff_t)sizeof(T))                                                        \
            for (ptrdiff_t i = 0; i < columns; i++) {                                                             \
                T v;                                                                                              \
                memcpy(&v, from + i * (ptrdiff_t)sizeof(T), sizeof v);                                            \
                out[i] = VALUE;                                                                                   \
            }                                                                                                     \
        else                                                                                                      \
            for (ptrdiff_t i = 0; i < columns; i++) {                                                             \
                T v;                                                                                              \
                memcpy(&v, from + i * source->column_stride, sizeof v);                                           \
                out[i] = VALUE;                                                                                   \
            }                                                                                                     \
    }

#define CONVERT_ROWS(P, real)                                                                                     \
    static void P##_convert_rows(real *out, ptrdiff_t out_row, const table *source, const int64_t *order,         \
                                 ptrdiff_t first, ptrdiff_t count) {                                              \
        const ptrdiff_t columns = source->columns;                                                                \
        switch (source->number) {                                                                                 \
        case NUMBER_BOOL: CONVERT_AS(uint8_t, (real)(v != 0)) break;                                              \
        case NUMBER_INT8: CONVERT_AS(int8_t, (real)v) break;                                                      \
        case NUMBER_UINT8: CONVERT_AS(uint8_t, (real)v) break;                                                    \
        case NUMBER_INT16: CONVERT_AS(int16_t, (real)v) break;                                                    \
        case NUMBER_UINT16: CONVERT_AS(uint16_t, (real)v) break;                                                  \
        case NUMBER_INT32: CONVERT_AS(int32_t, (real)v) break;                                                    \
        case NUMBER_UINT32: CONVERT_AS(uint32_t, (real)v) break;                                                  \
        case NUMBER_INT64: CONVERT_AS(int64_t, (real)v) break;                                                    \
        case NUMBER_UINT64: CONVERT_AS(uint64_t, (real)v) break;                                                  \
        case NUMBER_FLOAT16: CONVERT_AS(uint16_t, (real)number_half(v)) break;                                    \
        case NUMBER_FLOAT32: CONVERT_AS(float, (real)v) break;                                                    \
        default: CONVERT_AS(double, (real)v)                                                                      \
        }                                                                                                         \
    }                                                                                                             \
                                                                                                                  \
    /* The same for numbers whose bytes stand in the other order: a run at a time through a copy put right. */    \
    static void P##_convert_swapped_rows(real *out, ptrdiff_t out_row, const table *source, const int64_t *order, \
                                         ptrdiff_t first, ptrdiff_t count) {                                      \
        char right[SWAPPED_RUN * 8];                                                                              \
        const ptrdiff_t size = source->size, step = source->column_stride;                                        \
        table run = {right, 1, 0, 0, size, size, source->number, 0};                                              \
        for (ptrdiff_t r = 0; r < count; r++) {                                                                   \
            const char *from = source->data + (order ? order[r] : first + r) * source->row_stride;                \
            for (ptrdiff_t i = 0; i < source->columns; i += run.columns, from += run.columns * step) {            \
                run.columns = source->columns - i < SWAPPED_RUN ? source->columns - i : SWAPPED_RUN;              \
                for (ptrdiff_t c = 0; c < run.columns; c++)                                                       \
                    for (ptrdiff_t b = 0; b < size; b++) right[c * size + b] = from[c * step + size - 1 - b];     \
                P##_convert_rows(out + r * out_row + i, 0, &run, NULL, 0, 1);                                     \
            }                                                                                                     \
        }                                                                                                         \
    }
CONVERT_ROWS(f32, float)
CONVERT_ROWS(f64, double)
#undef CONVERT_ROWS
#undef CONVERT_AS

/* The same for rows of numbers that are aligned and need no conversion.  Returns whether all of them are finite: x - x
 * is 0 then, otherwise NaN. */
#define COPY_ROWS(P, real)                                                                                        \
    static int P##_copy_rows(real *out, ptrdiff_t out_row, const table *source, const int64_t *order,             \
                             ptrdiff_t first, ptrdiff_t count) {                                                  \
        const ptrdiff_t columns = source->columns, whole = columns / P##_LANES * P##_LANES;                       \
        const P##_tail tail = P##_tail_of((int)(columns - whole));                                                \
        P##_vec sum = P##_set(0);                                                                                 \
        for (ptrdiff_t r = 0; r < count; r++, out += out_row) {                                                   \
            const real *from =                                                                                    \
                (const real *)(source->data + (order ? order[r] : first + r) * source->row_stride);               \
            for (ptrdiff_t i = 0; i < whole; i += P##_LANES) {                                                    \
                P##_vec v = P##_load(from + i);                                                                   \
                P##_store(out + i, v);                                                                            \
                sum = P##_add(sum, P##_sub(v, v));                                                                \
            }                                                                                                     \
            if (whole < columns) {                                                                                \
                P##_vec v = P##_load_tail(from + whole, tail);                                                    \
                P##_store_tail(out + whole, v, tail);                                                             \
                sum = P##_add(sum, P##_sub(v, v));                                                                \
            }                                                                                                     \
        }                                                                                                         \
        real lanes[P##_LANES];                                                                                    \
        P##_store(lanes, sum);                                                                                    \
        int finite = 1;                                                                                           \
        for (int i = 0; i < P##_LANES; i++) finite &= lanes[i] == 0;                                              \
        return finite;                                                                                            \
    }
COPY_ROWS(f32, float)
COPY_ROWS(f64, double)
#undef COPY_ROWS

#endif
