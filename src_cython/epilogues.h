/* What becomes of a result c before it is stored. With y the output an activation gave going forward:
 *
 *     EPILOGUE_NONE  c                    EPILOGUE_RELU_SLOPE     c where y > 0, else 0
 *     EPILOGUE_RELU  max(0, c)            EPILOGUE_SIGMOID_SLOPE  c y (1 - y)
 *                                         EPILOGUE_TANH_SLOPE     c (1 - y^2)
 *                                         EPILOGUE_EXP_SLOPE      c y
 *
 * Going forward c is Z; going back it is dA, and the slope makes dZ of it. So the derivatives stand here and nowhere
 * else: a register tile applies them to what it holds, and rows on their own have the same bits.
 *
 * The file includes itself once for each type, REAL.
 */
#ifndef REAL
#ifndef FASTBP_EPILOGUES_H
#define FASTBP_EPILOGUES_H
#include <stddef.h>
#include "simd.h"

enum {
    EPILOGUE_NONE,
    EPILOGUE_RELU,
    EPILOGUE_RELU_SLOPE, /* from here on y is read */
    EPILOGUE_SIGMOID_SLOPE,
    EPILOGUE_TANH_SLOPE,
    EPILOGUE_EXP_SLOPE
};

/* f(epilogue) with a constant: a switch around a loop, not within. */
#define EACH_EPILOGUE(epilogue, f)                                                                                \
    switch (epilogue) {                                                                                           \
    case EPILOGUE_RELU: f(EPILOGUE_RELU) break;                                                                   \
    case EPILOGUE_RELU_SLOPE: f(EPILOGUE_RELU_SLOPE) break;                                                       \
    case EPILOGUE_SIGMOID_SLOPE: f(EPILOGUE_SIGMOID_SLOPE) break;                                                 \
    case EPILOGUE_TANH_SLOPE: f(EPILOGUE_TANH_SLOPE) break;                                                       \
    case EPILOGUE_EXP_SLOPE: f(EPILOGUE_EXP_SLOPE) break;                                                         \
    default: f(EPILOGUE_NONE)                                                                                     \
    }

#define REAL f32
#define real_t float
#include "epilogues.h"
#undef REAL
#undef real_t

#define REAL f64
#define real_t double
#include "epilogues.h"
#undef REAL
#undef real_t

#endif
#else /* REAL is defined: one type's functions */

#define vec FN(vec)
#define LANES FN(LANES)

SIMD_INLINE vec FN(epilogue)(int epilogue, vec c, vec y) {
    const vec one = FN(set)(1);
    switch (epilogue) {
    case EPILOGUE_RELU: return FN(max)(FN(set)(0), c); /* this order lets a NaN through */
    case EPILOGUE_RELU_SLOPE: return FN(where_positive)(y, c);
    case EPILOGUE_SIGMOID_SLOPE: return FN(mul)(c, FN(mul)(y, FN(sub)(one, y)));
    case EPILOGUE_TANH_SLOPE: return FN(mul)(c, FN(sub)(one, FN(mul)(y, y)));
    case EPILOGUE_EXP_SLOPE: return FN(mul)(c, y);
    default: return c;
    }
}

/* The same for n numbers; out may be c or y, and y is NULL where it is not read. */
static void FN(epilogue_row)(int epilogue, real_t *out, const real_t *c, const real_t *y, ptrdiff_t n) {
    const ptrdiff_t whole = n / LANES * LANES;
    const FN(tail) tail = FN(tail_of)((int)(n - whole));
    const vec none = FN(set)(0);
#define PASS(which)                                                                                               \
    {                                                                                                             \
        const int reads = which >= EPILOGUE_RELU_SLOPE;                                                           \
        for (ptrdiff_t i = 0; i < whole; i += LANES)                                                              \
            FN(store)(out + i, FN(epilogue)(which, FN(load)(c + i), reads ? FN(load)(y + i) : none));             \
        if (whole < n) {                                                                                          \
            const vec slope = reads ? FN(load_tail)(y + whole, tail) : none;                                      \
            FN(store_tail)(out + whole, FN(epilogue)(which, FN(load_tail)(c + whole, tail), slope), tail);        \
        }                                                                                                         \
    }
    EACH_EPILOGUE(epilogue, PASS)
#undef PASS
}

#undef vec
#undef LANES
#endif
