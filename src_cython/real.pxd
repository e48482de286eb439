"""The one fused type, and the one place that asks which of its two types is meant.

Everything above is written once for ``real``; everything below is C with a prefix per type.  The first argument whose
type is a pointer to ``real`` decides.
"""

from libc.stdint cimport int64_t, uint64_t

ctypedef fused real:
    float
    double

cdef extern from "simd.h" nogil:
    const char* SIMD_NAME
    enum: f32_LANES
    enum: f64_LANES

cdef extern from "float_mode.h" nogil:
    uint64_t float_mode_enter()
    void float_mode_leave(uint64_t caller)

cdef extern from "tile.h" nogil:
    enum: TILE_ROWS
    enum: TILE_VECTORS
    enum: NARROW_ROWS
    enum: ROW_VECTORS
    enum: SHALLOW_DEPTH
    enum: TILE_STREAMS
    enum: FETCH_INTERVAL
    enum: FETCHES_NOTHING
    enum: FETCHES_TO_READ
    enum: FETCHES_TO_WRITE
    bint FORESEEING_PAYS
    bint tile_foresees
    bint tile_foresee(bint)

    ctypedef struct tile_stream:
        const char* at
        ptrdiff_t step

    ctypedef struct product:
        const void* a
        ptrdiff_t a_row
        ptrdiff_t a_k
        const void* b
        ptrdiff_t b_k
        ptrdiff_t depth
        const void* start
        ptrdiff_t start_row
        const void* y
        ptrdiff_t y_row
        ptrdiff_t c_row
        int epilogue
        int padded
        int fetches
        tile_stream ahead[4]

    void f32_tile(const product*, float*, int, int)
    void f64_tile(const product*, double*, int, int)
    void f32_row(const product*, float*, int)
    void f64_row(const product*, double*, int)
    void f32_shallow(const product*, float*, ptrdiff_t, int)
    void f64_shallow(const product*, double*, ptrdiff_t, int)
    void f32_dots(float*, ptrdiff_t, const float*, ptrdiff_t, const float*, ptrdiff_t, ptrdiff_t)
    void f64_dots(double*, ptrdiff_t, const double*, ptrdiff_t, const double*, ptrdiff_t, ptrdiff_t)
    void f32_descend(float*, float*, const float*, const float*, float, ptrdiff_t, ptrdiff_t)
    void f64_descend(double*, double*, const double*, const double*, double, ptrdiff_t, ptrdiff_t)
    void f32_transpose(float*, ptrdiff_t, const float*, ptrdiff_t, ptrdiff_t, ptrdiff_t)
    void f64_transpose(double*, ptrdiff_t, const double*, ptrdiff_t, ptrdiff_t, ptrdiff_t)
    void f32_pack(float*, ptrdiff_t, const float*, ptrdiff_t, ptrdiff_t, int)
    void f64_pack(double*, ptrdiff_t, const double*, ptrdiff_t, ptrdiff_t, int)
    void f32_pack_transposed(float*, const float*, ptrdiff_t, ptrdiff_t, int)
    void f64_pack_transposed(double*, const double*, ptrdiff_t, ptrdiff_t, int)
    ptrdiff_t f32_multiply_add(float*, ptrdiff_t)
    ptrdiff_t f64_multiply_add(double*, ptrdiff_t)

cdef extern from "vmath.h" nogil:
    void f32_exp_row(float*, const float*, ptrdiff_t)
    void f64_exp_row(double*, const double*, ptrdiff_t)
    void f32_log_row(float*, const float*, ptrdiff_t)
    void f64_log_row(double*, const double*, ptrdiff_t)
    void f32_tanh_row(float*, const float*, ptrdiff_t)
    void f64_tanh_row(double*, const double*, ptrdiff_t)
    void f32_sigmoid_row(float*, const float*, ptrdiff_t)
    void f64_sigmoid_row(double*, const double*, ptrdiff_t)
    void f32_log1p_exp_row(float*, const float*, ptrdiff_t)
    void f64_log1p_exp_row(double*, const double*, ptrdiff_t)
    float f32_max_row(const float*, ptrdiff_t)
    double f64_max_row(const double*, ptrdiff_t)
    float f32_exp_sum_row(float*, const float*, float, ptrdiff_t)
    double f64_exp_sum_row(double*, const double*, double, ptrdiff_t)
    void f32_sum_rows(float*, const float*, ptrdiff_t, ptrdiff_t, ptrdiff_t)
    void f64_sum_rows(double*, const double*, ptrdiff_t, ptrdiff_t, ptrdiff_t)

cdef extern from "epilogues.h" nogil:
    enum: EPILOGUE_NONE
    enum: EPILOGUE_RELU
    enum: EPILOGUE_RELU_SLOPE
    enum: EPILOGUE_SIGMOID_SLOPE
    enum: EPILOGUE_TANH_SLOPE
    enum: EPILOGUE_EXP_SLOPE

    void f32_epilogue_row(int, float*, const float*, const float*, ptrdiff_t)
    void f64_epilogue_row(int, double*, const double*, const double*, ptrdiff_t)

cdef extern from "convert.h" nogil:
    enum: NUMBER_FLOAT16
    enum: NUMBER_FLOAT32
    enum: NUMBER_FLOAT64

    ctypedef struct table:
        const char* data
        ptrdiff_t rows
        ptrdiff_t columns
        ptrdiff_t row_stride
        ptrdiff_t column_stride
        ptrdiff_t size
        int number
        int swapped

    void f32_convert_rows(float*, ptrdiff_t, const table*, const int64_t*, ptrdiff_t, ptrdiff_t)
    void f64_convert_rows(double*, ptrdiff_t, const table*, const int64_t*, ptrdiff_t, ptrdiff_t)
    int f32_copy_rows(float*, ptrdiff_t, const table*, const int64_t*, ptrdiff_t, ptrdiff_t)
    int f64_copy_rows(double*, ptrdiff_t, const table*, const int64_t*, ptrdiff_t, ptrdiff_t)
    void f32_convert_swapped_rows(float*, ptrdiff_t, const table*, const int64_t*, ptrdiff_t, ptrdiff_t)
    void f64_convert_swapped_rows(double*, ptrdiff_t, const table*, const int64_t*, ptrdiff_t, ptrdiff_t)

cdef enum:
    LINE = 16  # elements that padded rows are a multiple of: whole vectors at every level
    PADDING = 2 * LINE  # rows with less than this behind them are run through as one

cdef extern from "<math.h>" nogil:
    float sqrtf(float)
    double sqrt(double)


cdef inline bint is_one_run(ptrdiff_t row, ptrdiff_t columns) noexcept nogil:
    """Whether a function of single numbers may run through a block of rows and the padding between them at once."""
    return row - columns < PADDING


cdef inline ptrdiff_t ceil_div(ptrdiff_t a, ptrdiff_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline ptrdiff_t padded(ptrdiff_t columns) noexcept nogil:
    return ceil_div(columns, LINE) * LINE


cdef inline int lanes(const real* like) noexcept nogil:
    if real is float:
        return f32_LANES
    else:
        return f64_LANES


cdef inline int panel_columns(const real* like) noexcept nogil:
    """Columns of a full register tile."""
    return TILE_VECTORS * lanes(like)


cdef inline void multiply_tile(const product* p, real* c, int rows, int columns) noexcept nogil:
    if real is float:
        f32_tile(p, c, rows, columns)
    else:
        f64_tile(p, c, rows, columns)


cdef inline void multiply_row(const product* p, real* c, int columns) noexcept nogil:
    if real is float:
        f32_row(p, c, columns)
    else:
        f64_row(p, c, columns)


cdef inline void multiply_shallow(const product* p, real* c, ptrdiff_t rows, int columns) noexcept nogil:
    if real is float:
        f32_shallow(p, c, rows, columns)
    else:
        f64_shallow(p, c, rows, columns)


cdef inline void dots(
    real* out, ptrdiff_t out_step, const real* a, ptrdiff_t a_row, const real* b, ptrdiff_t rows, ptrdiff_t n
) noexcept nogil:
    """out (rows), out_step elements apart, = a (rows, n) @ b (n)."""
    if real is float:
        f32_dots(out, out_step, a, a_row, b, rows, n)
    else:
        f64_dots(out, out_step, a, a_row, b, rows, n)


cdef inline void descend(
    real* dx, real* w, const real* x, const real* z, real rate, ptrdiff_t inputs, ptrdiff_t outputs
) noexcept nogil:
    """dx (inputs) = w (inputs, outputs) @ z (outputs) unless dx is NULL, then w -= rate x z^T."""
    if real is float:
        f32_descend(dx, w, x, z, rate, inputs, outputs)
    else:
        f64_descend(dx, w, x, z, rate, inputs, outputs)


cdef inline void transpose(
    real* out, ptrdiff_t out_row, const real* matrix, ptrdiff_t matrix_row, ptrdiff_t rows, ptrdiff_t columns
) noexcept nogil:
    """out (columns, rows) = the transpose of matrix (rows, columns)."""
    if real is float:
        f32_transpose(out, out_row, matrix, matrix_row, rows, columns)
    else:
        f64_transpose(out, out_row, matrix, matrix_row, rows, columns)


cdef inline void pack(
    real* out, ptrdiff_t out_row, const real* matrix, ptrdiff_t matrix_row, ptrdiff_t depth, int columns
) noexcept nogil:
    """out (depth, columns) = the first columns of matrix, each row with zeros up to the end of a vector.

    Where out_row is less, the next row overwrites them: there must be room for the last row's.
    """
    if real is float:
        f32_pack(out, out_row, matrix, matrix_row, depth, columns)
    else:
        f64_pack(out, out_row, matrix, matrix_row, depth, columns)


cdef inline void pack_transposed(
    real* out, const real* matrix, ptrdiff_t matrix_row, ptrdiff_t depth, int rows
) noexcept nogil:
    """out (depth, whole vectors) = the transpose of the first rows of matrix, with zeros behind them."""
    if real is float:
        f32_pack_transposed(out, matrix, matrix_row, depth, rows)
    else:
        f64_pack_transposed(out, matrix, matrix_row, depth, rows)


cdef inline ptrdiff_t multiply_add(real* out, ptrdiff_t rounds) noexcept nogil:
    if real is float:
        return f32_multiply_add(out, rounds)
    else:
        return f64_multiply_add(out, rounds)


cdef inline void exp_row(real* out, const real* x, ptrdiff_t n) noexcept nogil:
    if real is float:
        f32_exp_row(out, x, n)
    else:
        f64_exp_row(out, x, n)


cdef inline void log_row(real* out, const real* x, ptrdiff_t n) noexcept nogil:
    """Natural logarithm of numbers from 1 to the largest."""
    if real is float:
        f32_log_row(out, x, n)
    else:
        f64_log_row(out, x, n)


cdef inline void tanh_row(real* out, const real* x, ptrdiff_t n) noexcept nogil:
    if real is float:
        f32_tanh_row(out, x, n)
    else:
        f64_tanh_row(out, x, n)


cdef inline void sigmoid_row(real* out, const real* x, ptrdiff_t n) noexcept nogil:
    if real is float:
        f32_sigmoid_row(out, x, n)
    else:
        f64_sigmoid_row(out, x, n)


cdef inline void log1p_exp_row(real* out, const real* x, ptrdiff_t n) noexcept nogil:
    """ln(1 + e^-abs(x))."""
    if real is float:
        f32_log1p_exp_row(out, x, n)
    else:
        f64_log1p_exp_row(out, x, n)


cdef inline void epilogue_row(int epilogue, real* out, const real* c, const real* y, ptrdiff_t n) noexcept nogil:
    """out (n) = what the epilogue makes of c, with y where it is a slope; out may be c."""
    if real is float:
        f32_epilogue_row(epilogue, out, c, y, n)
    else:
        f64_epilogue_row(epilogue, out, c, y, n)


cdef inline real max_row(const real* x, ptrdiff_t n) noexcept nogil:
    if real is float:
        return f32_max_row(x, n)
    else:
        return f64_max_row(x, n)


cdef inline real exp_sum_row(real* out, const real* x, real shift, ptrdiff_t n) noexcept nogil:
    """out = e^(x - shift); returns the sum of out."""
    if real is float:
        return f32_exp_sum_row(out, x, shift, n)
    else:
        return f64_exp_sum_row(out, x, shift, n)


cdef inline void sum_rows(
    real* out, const real* matrix, ptrdiff_t matrix_row, ptrdiff_t rows, ptrdiff_t columns
) noexcept nogil:
    """out (columns) = the sums of a matrix's columns."""
    if real is float:
        f32_sum_rows(out, matrix, matrix_row, rows, columns)
    else:
        f64_sum_rows(out, matrix, matrix_row, rows, columns)


cdef inline void convert_rows(
    real* out, ptrdiff_t out_row, const table* source, const int64_t* order, ptrdiff_t first, ptrdiff_t count
) noexcept nogil:
    """out (count, columns) = the rows that order names, or first, first + 1, ... where order is NULL."""
    if real is float:
        if source.swapped:
            f32_convert_swapped_rows(out, out_row, source, order, first, count)
        else:
            f32_convert_rows(out, out_row, source, order, first, count)
    else:
        if source.swapped:
            f64_convert_swapped_rows(out, out_row, source, order, first, count)
        else:
            f64_convert_rows(out, out_row, source, order, first, count)


cdef inline bint needs_conversion(const real* like, const table* source) noexcept nogil:
    """Whether a user's rows are anything else than runs of aligned numbers of our own type."""
    cdef int own = NUMBER_FLOAT32 if real is float else NUMBER_FLOAT64
    return (
        source.number != own or source.swapped or source.column_stride != source.size
        or (<size_t>source.data | <size_t>source.row_stride) % sizeof(real) != 0
    )


cdef inline bint copy_rows(
    real* out, ptrdiff_t out_row, const table* source, const int64_t* order, ptrdiff_t first, ptrdiff_t count
) noexcept nogil:
    """out = the rows that order names, or first, first + 1, ...; whether all is finite.  They need no conversion."""
    if real is float:
        return f32_copy_rows(out, out_row, source, order, first, count)
    else:
        return f64_copy_rows(out, out_row, source, order, first, count)


cdef inline real square_root(real x) noexcept nogil:
    if real is float:
        return sqrtf(x)
    else:
        return sqrt(x)
