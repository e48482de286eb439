/* Numbers of any type, anywhere in memory, to float and double: how a user's rows enter a batch. */
#ifndef FASTBP_CONVERT_H
#define FASTBP_CONVERT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The type of a user's array; the same order as NUMBER_FORMATS in core.pyx. */
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

/* out[i] = the number at from + i * stride (bytes). memcpy, because a user's numbers need not be aligned; the
 * second loop, because a stride known to be the number's size lets the compiler use vectors. */
#define CONVERT_AS(T, VALUE)                                                                                      \
    if (stride == (ptrdiff_t)sizeof(T))                                                                           \
        for (ptrdiff_t i = 0; i < n; i++) {                                                                       \
            T v;                                                                                                  \
            memcpy(&v, from + i * (ptrdiff_t)sizeof(T), sizeof v);                                                \
            out[i] = VALUE;                                                                                       \
        }                                                                                                         \
    else                                                                                                          \
        for (ptrdiff_t i = 0; i < n; i++) {                                                                       \
            T v;                                                                                                  \
            memcpy(&v, from + i * stride, sizeof v);                                                              \
            out[i] = VALUE;                                                                                       \
        }

#define CONVERT_ROW(P, real)                                                                                      \
    static void P##_convert_row(real *out, const char *from, ptrdiff_t stride, ptrdiff_t n, int number) {         \
        switch (number) {                                                                                         \
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
    }
CONVERT_ROW(f32, float)
CONVERT_ROW(f64, double)
#undef CONVERT_ROW
#undef CONVERT_AS

/* The same for numbers whose bytes stand in the other order: one at a time through a copy put right. */
#define CONVERT_SWAPPED_ROW(P, real)                                                                              \
    static void P##_convert_swapped_row(real *out, const char *from, ptrdiff_t stride, ptrdiff_t n, int number,   \
                                        ptrdiff_t size) {                                                         \
        for (ptrdiff_t i = 0; i < n; i++) {                                                                       \
            char right[8];                                                                                        \
            for (ptrdiff_t b = 0; b < size; b++) right[b] = from[i * stride + size - 1 - b];                      \
            P##_convert_row(out + i, right, size, 1, number);                                                     \
        }                                                                                                         \
    }
CONVERT_SWAPPED_ROW(f32, float)
CONVERT_SWAPPED_ROW(f64, double)
#undef CONVERT_SWAPPED_ROW

#endif
