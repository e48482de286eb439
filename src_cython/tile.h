/* The register tile, from which nearly every product of the library comes:
 *
 *     C (m, n)  =  START + A (m, K) @ B (K, n),     m <= TILE_ROWS,  n <= TILE_VECTORS vectors
 *                                                   m <= NARROW_ROWS,  n <= 2 vectors;    m = 1,  n <= ROW_VECTORS
 *                                  any m,  n from one vector to TILE_VECTORS,  K <= SHALLOW_DEPTH
 *
 * The others are `dots`: a dot product for each row where the result is a single column.
 *
 * The tile of C stays in registers; for each k a row of B is loaded once and every element of A's column is spread
 * over a vector.  A is read through two strides, so X, or its transpose in place; B and C are rows with unit stride.
 * Each element of C is one chain of fused multiply-adds over k in order: its bits depend on nothing else, neither on
 * the tile's shape nor on the vector's width.  2 m n K flops; per k, m + n numbers are read from the first-level cache.
 *
 * An epilogue of epilogues.h acts on the registers as they are stored, with Y (m, n), which may be C.  Rows are stored
 * in order.  Nothing is read or written beyond the n columns, except where `padded` says that C's and Y's rows go on to
 * the end of the vector, and B's too: then whole vectors are moved.
 */
#ifndef REAL
#ifndef FASTBP_TILE_H
#define FASTBP_TILE_H
#include "epilogues.h"
#include "panels.h"
#include "simd.h"

/* As many accumulators as the registers hold beside a row of B and an element of A, in the shape that loads least.
 * A tile two vectors wide, or one, has NARROW_ROWS instead: of 8 chains of additions or fewer each waits for itself. */
#if defined(SIMD_AVX512) || defined(__aarch64__)
enum { TILE_ROWS = 8, TILE_VECTORS = 3, NARROW_ROWS = 8 }; /* 24 + 3 + 1 of 32 */
#elif defined(__AVX2__)
enum { TILE_ROWS = 4, TILE_VECTORS = 3, NARROW_ROWS = 6 }; /* 12 + 3 + 1 of 16, or 12 + 2 + 1 */
#else
enum { TILE_ROWS = 4, TILE_VECTORS = 2, NARROW_ROWS = 4 }; /* 8 + 2 + 1, and one for the product, of 16 */
#endif

/* A row on its own takes more columns: as many chains of additions as a multiply-add lasts, two at a time. */
enum { ROW_VECTORS = 8 };

/* A panel of so many rows fits the registers of all levels, beside a row of C and an element of A. */
enum { SHALLOW_DEPTH = 4 };

/* Rows of weights that one row's update takes together. */
enum { DESCENT_ROWS = 4 };

/* Whether the last of so many vectors is moved through a mask where the columns end within it.  Else it is moved back
 * to end with them: what it has in common with the vector before it is computed twice, to the same bits. */
#if defined(SIMD_AVX512)
enum { MASKS_ARE_FREE = 1 };
#else /* a mask takes a register that the tile has none to spare for, or is moved lane by lane */
enum { MASKS_ARE_FREE = 0 };
#endif
#define IS_MASKED(vectors) (MASKS_ARE_FREE || (vectors) == 1)

/* Memory that is fetched while a product runs, all of it for one use: at every FETCH_INTERVAL-th k a line of each
 * stream, so many bytes on from the one before. */
enum { FETCHES_NOTHING, FETCHES_TO_READ, FETCHES_TO_WRITE };
enum { TILE_STREAMS = 4, FETCH_INTERVAL = 4 };
typedef struct {
    const char *at;
    ptrdiff_t step;
} tile_stream;

/* Whether memory that a processor can foresee by itself is fetched so: panels that are to be packed, and parameters and
 * state beyond the inner caches. Rows of a data set, in an order of their own, and what other cores work on too and is
 * read in place always are. On an Intel Xeon such fetches keep the very loads waiting that the product needs meanwhile:
 * by default only where it was measured to pay. */
static int tile_foresees;
SIMD_INLINE int tile_foresee(int on) {
    const int before = tile_foresees;
    tile_foresees = on;
    return before;
}
#if defined(__x86_64__) && defined(__GNUC__)
#define FORESEEING_PAYS __builtin_cpu_is("amd")
#else
#define FORESEEING_PAYS 0
#endif

/* The operands of a product, for either type; strides in elements. The tile of C is named at each call. */
typedef struct {
    const void *a; /* A[i, k] = a[i * a_row + k * a_k] */
    ptrdiff_t a_row, a_k;
    const void *b; /* B[k, j] = b[k * b_k + j] */
    ptrdiff_t b_k, depth;
    const void *start; /* START[i, j] = start[i * start_row + j], a bias (n) with 0 for start_row; NULL for zeros */
    ptrdiff_t start_row;
    const void *y;    /* Y[i, j] = y[i * y_row + j] */
    ptrdiff_t y_row, c_row;
    int epilogue, padded;
    int fetches; /* the use of what is asked for meanwhile: */
    tile_stream ahead[TILE_STREAMS];
} product;

#define REAL f32
#define real_t float
#include "tile.h"
#undef REAL
#undef real_t

#define REAL f64
#define real_t double
#include "tile.h"
#undef REAL
#undef real_t

#endif
#else /* REAL is defined: one type's tile */

#define vec FN(vec)
#define LANES FN(LANES)

/* Where the last vector begins: at the end of the columns, unless a mask or what comes behind them makes it whole. */
SIMD_INLINE ptrdiff_t FN(last_vector)(const int vectors, const product *p, int n) {
    return IS_MASKED(vectors) || p->padded ? (vectors - 1) * LANES : n - LANES;
}

/* rows, vectors, masks and ahead are constants wherever this is expanded, so that `c` is registers and nothing else. */
SIMD_INLINE void FN(tile_of)(const int rows, const int vectors, const int masks, const int ahead, const product *p,
                             real_t *out, int n) {
    const FN(tail) tail = FN(tail_of)(n - (vectors - 1) * LANES);
    const ptrdiff_t last = FN(last_vector)(vectors, p, n);
#define AT(v) ((v) + 1 < vectors ? (v) * LANES : last)
#define LOAD(from, v)                                                                                             \
    (masks && (v) + 1 == vectors ? FN(load_tail)((from) + AT(v), tail) : FN(load)((from) + AT(v)))
#define STORE(to, v, value)                                                                                       \
    {                                                                                                             \
        if (masks && (v) + 1 == vectors) FN(store_tail)((to) + AT(v), value, tail);                               \
        else FN(store)((to) + AT(v), value);                                                                      \
    }
    vec c[NARROW_ROWS][TILE_VECTORS];
    if (p->start) {
        SIMD_UNROLL
        for (int r = 0; r < rows; r++) {
            SIMD_UNROLL
            for (int v = 0; v < vectors; v++) c[r][v] = LOAD((const real_t *)p->start + r * p->start_row, v);
        }
    } else {
        SIMD_UNROLL
        for (int r = 0; r < rows; r++) {
            SIMD_UNROLL
            for (int v = 0; v < vectors; v++) c[r][v] = FN(set)(0);
        }
    }
    const real_t *a = p->a, *b = p->b;
    const ptrdiff_t a_row = p->a_row, a_k = p->a_k, b_k = p->b_k;
    tile_stream next[TILE_STREAMS];
    if (ahead) memcpy(next, p->ahead, sizeof next);
    const int writes = ahead && p->fetches == FETCHES_TO_WRITE;
    for (ptrdiff_t k = p->depth; k > 0; k--) {
        vec row[TILE_VECTORS];
        SIMD_UNROLL
        for (int v = 0; v < vectors; v++) row[v] = LOAD(b, v);
        SIMD_UNROLL
        for (int r = 0; r < rows; r++) {
            vec spread = FN(set)(a[r * a_row]);
            SIMD_UNROLL
            for (int v = 0; v < vectors; v++) c[r][v] = FN(fma)(spread, row[v], c[r][v]);
        }
        a += a_k;
        b += b_k;
        if (ahead && k % FETCH_INTERVAL == 0) {
            SIMD_UNROLL
            for (int i = 0; i < TILE_STREAMS; i++) {
                if (writes) SIMD_PREFETCH_TO_WRITE(next[i].at);
                else SIMD_PREFETCH(next[i].at);
                next[i].at += next[i].step;
            }
        }
    }
#define STORE_ALL(which)                                                                                          \
    SIMD_UNROLL                                                                                                   \
    for (int r = 0; r < rows; r++) {                                                                              \
        vec y[TILE_VECTORS]; /* all of the row before any is overwritten */                                       \
        SIMD_UNROLL                                                                                               \
        for (int v = 0; v < vectors; v++)                                                                         \
            y[v] = which >= EPILOGUE_RELU_SLOPE ? LOAD((const real_t *)p->y + r * p->y_row, v) : FN(set)(0);      \
        SIMD_UNROLL                                                                                               \
        for (int v = 0; v < vectors; v++)                                                                         \
            STORE(out + r * p->c_row, v, FN(epilogue)(which, c[r][v], y[v]))                                      \
    }
    EACH_EPILOGUE(p->epilogue, STORE_ALL)
#undef STORE_ALL
}

/* One tile of p: `rows` rows and n columns, any numbers from 1 to what the registers hold. */
static void FN(tile)(const product *p, real_t *c, int rows, int n) {
    const int vectors = (n + LANES - 1) / LANES, whole = p->padded || n == vectors * LANES;
#define TILE(r, v)                                                                                                \
    case r * 4 + v:                                                                                               \
        if (v > TILE_VECTORS) break;                                                                              \
        if (IS_MASKED(v) && p->fetches && (MASKS_ARE_FREE || !whole))                                             \
            FN(tile_of)(r, v > TILE_VECTORS ? 1 : v, 1, 1, p, c, n);                                              \
        else if (p->fetches) FN(tile_of)(r, v > TILE_VECTORS ? 1 : v, 0, 1, p, c, n);                             \
        else if (whole || !IS_MASKED(v)) FN(tile_of)(r, v > TILE_VECTORS ? 1 : v, 0, 0, p, c, n);                 \
        else FN(tile_of)(r, v > TILE_VECTORS ? 1 : v, 1, 0, p, c, n);                                             \
        break;
#define TILES(r) TILE(r, 1) TILE(r, 2) TILE(r, 3)
    switch (rows * 4 + vectors) {
        TILES(1) TILES(2) TILES(3) TILES(4)
#if defined(SIMD_AVX512) || defined(__aarch64__)
        TILES(5) TILES(6) TILES(7) TILES(8)
#elif defined(__AVX2__)
        TILE(5, 1) TILE(5, 2) TILE(6, 1) TILE(6, 2)
#endif
    default: break;
    }
#undef TILES
#undef TILE
}

/* The same for a row on its own, up to ROW_VECTORS wide. Not a case of tile_of: with that the compiler made the
 * tiles of all shapes 5 % slower. */
SIMD_INLINE void FN(row_of)(const int vectors, const int masks, const product *p, real_t *out, int n) {
    const FN(tail) tail = FN(tail_of)(n - (vectors - 1) * LANES);
    const ptrdiff_t last = FN(last_vector)(vectors, p, n);
    vec c[ROW_VECTORS];
    SIMD_UNROLL
    for (int v = 0; v < vectors; v++) c[v] = p->start ? LOAD((const real_t *)p->start, v) : FN(set)(0);
    const real_t *a = p->a, *b = p->b;
    for (ptrdiff_t k = p->depth; k > 0; k--, a += p->a_k, b += p->b_k) {
        vec spread = FN(set)(*a);
        SIMD_UNROLL
        for (int v = 0; v < vectors; v++) c[v] = FN(fma)(spread, LOAD(b, v), c[v]);
    }
    SIMD_UNROLL
    for (int v = 0; v < vectors; v++) {
        vec y = p->epilogue >= EPILOGUE_RELU_SLOPE ? LOAD((const real_t *)p->y, v) : FN(set)(0);
        c[v] = FN(epilogue)(p->epilogue, c[v], y);
    }
    SIMD_UNROLL
    for (int v = 0; v < vectors; v++) STORE(out, v, c[v])
}

static void FN(row)(const product *p, real_t *c, int n) {
#define ROW(v)                                                                                                    \
    case v:                                                                                                       \
        if (p->padded || n == v * LANES || !IS_MASKED(v)) FN(row_of)(v, 0, p, c, n);                              \
        else FN(row_of)(v, 1, p, c, n);                                                                           \
        break;
    switch ((n + LANES - 1) / LANES) {
        ROW(1) ROW(2) ROW(3) ROW(4) ROW(5) ROW(6) ROW(7) ROW(8)
    default: break;
    }
#undef ROW
}

/* The same for a panel of so few rows that the registers hold all of it, while any number of A's rows pass by: tiles of
 * so little depth take longer to be set up than to be computed.  START is one row. */
SIMD_INLINE void FN(shallow_of)(const int depth, const int vectors, const int masks, const product *p, real_t *out,
                                ptrdiff_t rows, int n) {
    static const real_t zeros[TILE_VECTORS * LANES];
    const FN(tail) tail = FN(tail_of)(n - (vectors - 1) * LANES);
    const ptrdiff_t last = FN(last_vector)(vectors, p, n);
    const real_t *a = p->a, *start = p->start ? p->start : zeros, *y = p->y;
    const ptrdiff_t a_row = p->a_row, a_k = p->a_k, y_row = p->y_row, c_row = p->c_row;
    vec b[SHALLOW_DEPTH][TILE_VECTORS];
    SIMD_UNROLL
    for (int k = 0; k < depth; k++) {
        SIMD_UNROLL
        for (int v = 0; v < vectors; v++) b[k][v] = LOAD((const real_t *)p->b + k * p->b_k, v);
    }
#define PASS(which)                                                                                               \
    for (; rows > 0; rows--, a += a_row, out += c_row, y += y_row) {                                              \
        vec c[TILE_VECTORS], slope[TILE_VECTORS];                                                                 \
        SIMD_UNROLL                                                                                               \
        for (int v = 0; v < vectors; v++) c[v] = LOAD(start, v);                                                  \
        SIMD_UNROLL                                                                                               \
        for (int k = 0; k < depth; k++) {                                                                         \
            const vec spread = FN(set)(a[k * a_k]);                                                               \
            SIMD_UNROLL                                                                                           \
            for (int v = 0; v < vectors; v++) c[v] = FN(fma)(spread, b[k][v], c[v]);                              \
        }                                                                                                         \
        SIMD_UNROLL                                                                                               \
        for (int v = 0; v < vectors; v++) slope[v] = which >= EPILOGUE_RELU_SLOPE ? LOAD(y, v) : FN(set)(0);      \
        SIMD_UNROLL                                                                                               \
        for (int v = 0; v < vectors; v++) STORE(out, v, FN(epilogue)(which, c[v], slope[v]))                      \
    }
    EACH_EPILOGUE(p->epilogue, PASS)
#undef PASS
}

static void FN(shallow)(const product *p, real_t *c, ptrdiff_t rows, int n) {
#define SHALLOW(depth, v)                                                                                         \
    case (depth) * 4 + (v):                                                                                       \
        if ((v) <= TILE_VECTORS)                                                                                  \
            FN(shallow_of)(depth, (v) > TILE_VECTORS ? 1 : (v), MASKS_ARE_FREE, p, c, rows, n);                   \
        break;
#define SHALLOWS(depth) SHALLOW(depth, 1) SHALLOW(depth, 2) SHALLOW(depth, 3)
    switch (p->depth * 4 + (n + LANES - 1) / LANES) {
        SHALLOWS(1) SHALLOWS(2) SHALLOWS(3) SHALLOWS(4)
    default: break;
    }
#undef SHALLOWS
#undef SHALLOW
}
#undef LOAD
#undef STORE
#undef AT

/* out (rows), out_step apart, = a (rows, n) b (n): a dot product for each row, its lanes added as in exp_sum_row. */
static void FN(dots)(real_t *out, ptrdiff_t out_step, const real_t *a, ptrdiff_t a_row, const real_t *b, ptrdiff_t rows,
                     ptrdiff_t n) {
    enum { PARTS = FN(GROUP) / LANES };
    const ptrdiff_t whole = n / LANES * LANES;
    const FN(tail) tail = FN(tail_of)((int)(n - whole));
    for (ptrdiff_t i = 0; i < rows; i++, a += a_row) {
        vec sum[PARTS];
        SIMD_UNROLL
        for (int p = 0; p < PARTS; p++) sum[p] = FN(set)(0);
        ptrdiff_t j = 0;
        for (; j + FN(GROUP) <= n; j += FN(GROUP)) {
            SIMD_UNROLL
            for (int p = 0; p < PARTS; p++)
                sum[p] = FN(fma)(FN(load)(a + j + p * LANES), FN(load)(b + j + p * LANES), sum[p]);
        }
        SIMD_UNROLL
        for (int p = 0; p < PARTS; p++, j += LANES) {
            if (j < whole) sum[p] = FN(fma)(FN(load)(a + j), FN(load)(b + j), sum[p]);
            else if (j < n) sum[p] = FN(fma)(FN(load_tail)(a + j, tail), FN(load_tail)(b + j, tail), sum[p]);
            else if (n % FN(GROUP)) sum[p] = FN(add)(sum[p], FN(set)(0)); /* as a tail's last lanes: -0 becomes 0 */
        }
        out[i * out_step] = FN(reduce_add)(sum);
    }
}

/* Plain gradient descent on a batch of one row, a layer's whole way back in one pass over its weights: dx (inputs) =
 * w (inputs, outputs) z unless dx is NULL, as in `dots`, and then w -= rate * x z^T, rounded as a tile of depth 1 and
 * an update after it.  The last rows first: those of a large w that a forward pass read last are still near. */
SIMD_INLINE void FN(descend_rows)(const int rows, const int propagates, real_t *dx, real_t *w, ptrdiff_t w_row,
                                  const real_t *x, const real_t *z, vec rate) {
    enum { PARTS = FN(GROUP) / LANES };
    const ptrdiff_t whole = w_row / LANES * LANES;
    const FN(tail) tail = FN(tail_of)((int)(w_row - whole));
    vec spread[DESCENT_ROWS], sum[DESCENT_ROWS][PARTS], old[DESCENT_ROWS];
    SIMD_UNROLL
    for (int r = 0; r < rows; r++) {
        spread[r] = FN(set)(x[r]);
        SIMD_UNROLL
        for (int p = 0; p < PARTS; p++) sum[r][p] = FN(set)(0);
    }
/* All rows are loaded before one is stored: a load that overlaps a store under way has to wait for it. */
#define DESCEND(p, load, store)                                                                                   \
    {                                                                                                             \
        const vec slope = load(z + j);                                                                            \
        SIMD_UNROLL                                                                                               \
        for (int r = 0; r < rows; r++) old[r] = load(w + r * w_row + j);                                          \
        SIMD_UNROLL                                                                                               \
        for (int r = 0; r < rows; r++) {                                                                          \
            if (propagates) sum[r][p] = FN(fma)(old[r], slope, sum[r][p]);                                        \
            const vec gradient = FN(fma)(spread[r], slope, FN(set)(0));                                           \
            store(w + r * w_row + j, FN(sub)(old[r], FN(mul)(rate, gradient)));                                   \
        }                                                                                                         \
    }
#define LOAD_TAIL(at) FN(load_tail)(at, tail)
#define STORE_TAIL(at, value) FN(store_tail)(at, value, tail)
    ptrdiff_t j = 0;
    for (; j + FN(GROUP) <= w_row; ) {
        SIMD_UNROLL
        for (int p = 0; p < PARTS; p++, j += LANES) DESCEND(p, FN(load), FN(store))
    }
    SIMD_UNROLL
    for (int p = 0; p < PARTS; p++, j += LANES) {
        if (j < whole) DESCEND(p, FN(load), FN(store))
        else if (j < w_row) DESCEND(p, LOAD_TAIL, STORE_TAIL)
        else if (propagates && w_row % FN(GROUP)) {
            SIMD_UNROLL
            for (int r = 0; r < rows; r++) sum[r][p] = FN(add)(sum[r][p], FN(set)(0));
        }
    }
    SIMD_UNROLL
    for (int r = 0; r < rows && propagates; r++) dx[r] = FN(reduce_add)(sum[r]);
#undef DESCEND
#undef LOAD_TAIL
#undef STORE_TAIL
}

static void FN(descend)(real_t *dx, real_t *w, const real_t *x, const real_t *z, real_t rate, ptrdiff_t inputs,
                        ptrdiff_t outputs) {
    const vec rates = FN(set)(rate);
    for (ptrdiff_t i = inputs; i > 0;) {
        const int rows = i < DESCENT_ROWS ? 1 : DESCENT_ROWS;
        i -= rows;
        if (dx && rows == 1) FN(descend_rows)(1, 1, dx + i, w + i * outputs, outputs, x + i, z, rates);
        else if (dx) FN(descend_rows)(DESCENT_ROWS, 1, dx + i, w + i * outputs, outputs, x + i, z, rates);
        else if (rows == 1) FN(descend_rows)(1, 0, dx, w + i * outputs, outputs, x + i, z, rates);
        else FN(descend_rows)(DESCENT_ROWS, 0, dx, w + i * outputs, outputs, x + i, z, rates);
    }
}

/* Independent chains of fused multiply-adds, ROUNDS on each: what the processor can do at the most. Returns flops. */
static ptrdiff_t FN(multiply_add)(real_t *out, ptrdiff_t rounds) {
    enum { CHAINS = TILE_ROWS * TILE_VECTORS };
    vec c[CHAINS];
    const vec x = FN(set)((real_t)0.999), y = FN(set)((real_t)0.001);
    SIMD_UNROLL
    for (int i = 0; i < CHAINS; i++) c[i] = FN(set)((real_t)i);
    for (ptrdiff_t k = 0; k < rounds; k++) {
        SIMD_UNROLL
        for (int i = 0; i < CHAINS; i++) c[i] = FN(fma)(c[i], x, y);
    }
    vec sum = c[0];
    SIMD_UNROLL
    for (int i = 1; i < CHAINS; i++) sum = FN(add)(sum, c[i]);
    FN(store)(out, sum);
    return rounds * CHAINS * LANES * 2;
}

#undef vec
#undef LANES
#endif
