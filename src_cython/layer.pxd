"""The passes of a dense layer on its own, on arrays without padding: what falls to one of a team's threads.

No thread needs what another forms, so that they never meet.  However many rows there are, they go through in blocks.
"""

from dense cimport (
    STRIP_ELEMENTS, backward_packing, cut, dense_forward, dense_weight_strip, lie_apart, multiply,
    pack_panels, strip_count, strip_packing, strip_tiles, vector_cut, worth_copying, worth_multiplying, worth_packing,
)
from fetching cimport stretches, upcoming
from real cimport EPILOGUE_NONE, TILE_ROWS, ceil_div, dots, lanes, pack, product, real, sum_rows

cdef enum:
    BLOCK_ROWS = 512     # that go through together: panels are packed once for all of them
    COPIED_COLUMNS = 64  # of X that are copied together for the strips to come: its rows lie on a page each
    COPIED_ROWS = 16     # of them at a time
    GAP_ROWS = 2         # behind a copy: what is written beyond its end does not reach the next

cdef struct part:
    # Of a matrix.
    ptrdiff_t top
    ptrdiff_t bottom
    ptrdiff_t left
    ptrdiff_t right


cdef inline part part_of(
    const real* like, ptrdiff_t rows, ptrdiff_t columns, bint packs, int thread, int team
) noexcept nogil:
    """A thread's part of a product: some of its rows, or of its columns where these are more and ``packs`` says that
    panels of them are packed: then no panel is packed twice.
    """
    cdef part own
    own.top, own.bottom, own.left, own.right = 0, rows, 0, columns
    if packs and columns > rows:
        own.left, own.right = vector_cut(like, columns, team, thread), vector_cut(like, columns, team, thread + 1)
    else:
        own.top, own.bottom = cut(rows, team, thread), cut(rows, team, thread + 1)
    return own


cdef inline ptrdiff_t block_count(ptrdiff_t rows) noexcept nogil:
    return ceil_div(rows, BLOCK_ROWS)


cdef inline part block_of(const part* own, ptrdiff_t number) noexcept nogil:
    """Some rows of a part, of which there are block_count(its rows) such blocks."""
    cdef part block = own[0]
    cdef ptrdiff_t rows = own.bottom - own.top, blocks = block_count(rows)
    block.top, block.bottom = own.top + cut(rows, blocks, number), own.top + cut(rows, blocks, number + 1)
    return block


cdef inline void layer_forward(
    real* z, const real* x, const real* weight, const real* bias, real* scratch, ptrdiff_t rows, ptrdiff_t inputs,
    ptrdiff_t outputs, int thread, int team,
) noexcept nogil:
    """A thread's part of Z = X W + b."""
    cdef ptrdiff_t tiles = ceil_div(min(rows, <ptrdiff_t>BLOCK_ROWS), TILE_ROWS), number
    cdef part own = part_of(z, rows, outputs, worth_packing(z, outputs, inputs, tiles), thread, team), block
    for number in range(block_count(own.bottom - own.top)):
        block = block_of(&own, number)
        dense_forward(
            z + block.top * outputs + block.left, outputs, x + block.top * inputs, inputs, weight + block.left, outputs,
            bias + block.left, scratch, block.bottom - block.top, inputs, block.right - block.left, EPILOGUE_NONE,
            False, <const stretches*>NULL,
        )


cdef inline ptrdiff_t backward_scratch(
    const real* like, ptrdiff_t rows, ptrdiff_t inputs, ptrdiff_t outputs
) noexcept nogil:
    """Elements a thread needs for the backward pass."""
    cdef ptrdiff_t depth = min(rows, <ptrdiff_t>BLOCK_ROWS)
    cdef ptrdiff_t strips = copied_size(like, depth, inputs) + strip_packing(like, depth, outputs, outputs)
    return max(STRIP_ELEMENTS + strips, backward_packing(like, rows, outputs))


cdef inline void layer_input_gradient(
    real* dx, const real* dz, const real* weight, real* scratch, ptrdiff_t rows, ptrdiff_t inputs, ptrdiff_t outputs,
    int thread, int team,
) noexcept nogil:
    """A thread's part of dX = dZ W^T."""
    cdef product p
    cdef part own = part_of(dx, rows, inputs, True, thread, team), block
    cdef ptrdiff_t number
    weight += own.left * outputs
    if not worth_multiplying(rows):
        dots(dx + own.left, 1, weight, outputs, dz, (own.right - own.left) * (own.bottom - own.top), outputs)
        return
    p.a_row, p.a_k, p.depth, p.c_row, p.y_row, p.epilogue = outputs, 1, outputs, inputs, 0, EPILOGUE_NONE
    p.padded = False
    for number in range(block_count(own.bottom - own.top)):
        block = block_of(&own, number)
        p.b_k = 0
        multiply(
            &p, dz + block.top * outputs, weight, outputs, dx + block.top * inputs + block.left, <const real*>NULL,
            <const real*>NULL, scratch, block.bottom - block.top, block.right - block.left, <const stretches*>NULL,
        )


cdef inline void layer_weight_gradient(
    real* dw, const real* x, const real* dz, real* scratch, ptrdiff_t rows, ptrdiff_t inputs, ptrdiff_t outputs,
    int thread, int team,
) noexcept nogil:
    """A thread's part of dW = X^T dZ: some of its rows."""
    cdef ptrdiff_t top = cut(inputs, team, thread), bottom = cut(inputs, team, thread + 1)
    cdef ptrdiff_t strips = strip_count(x, min(rows, <ptrdiff_t>BLOCK_ROWS), outputs)
    cdef ptrdiff_t blocks = block_count(rows), block, first, count
    for block in range(blocks):
        first = cut(rows, blocks, block)
        count = cut(rows, blocks, block + 1) - first
        add_weight_gradient(
            dw + top * outputs, x + first * inputs + top, inputs, dz + first * outputs, scratch, count, bottom - top,
            outputs, strips, block > 0,
        )


cdef inline void add_weight_gradient(
    real* dw, const real* x, ptrdiff_t x_row, const real* dz, real* scratch, ptrdiff_t rows, ptrdiff_t inputs,
    ptrdiff_t outputs, ptrdiff_t strips, bint adds,
) noexcept nogil:
    """dW (inputs, outputs) = X^T dZ of a block of rows, or dW += that, in so many strips of columns."""
    cdef ptrdiff_t strip, left, right = 0, columns, top, height, stride, together, dz_row, strip_row
    cdef ptrdiff_t tiles = ceil_div(inputs, TILE_ROWS)
    cdef real* copied = scratch + STRIP_ELEMENTS
    cdef real* packed = copied + copied_size(x, rows, x_row)
    cdef const real* strip_dz
    cdef const real* strip_x
    for strip in range(strips):
        left, right = right, vector_cut(x, outputs, strips, strip + 1)
        columns = right - left
        strip_dz, dz_row = dz + left, outputs
        if columns >= lanes(x) and worth_packing(x, outputs, rows, tiles):  # else it may be turned
            pack_panels(packed, strip_dz, outputs, rows, columns)
            strip_dz, dz_row = packed, 0
        stride, top = strip_tiles(columns) * TILE_ROWS, 0
        together = COPIED_COLUMNS // stride * stride
        while top < inputs:
            height = min(inputs - top, stride)
            strip_x, strip_row = x + top, x_row
            if worth_copying(x, x_row, columns):
                if top % together == 0:
                    copy_strips(copied, x + top, x_row, rows, min(inputs - top, together), stride)
                strip_x, strip_row = copied + top % together * (rows + GAP_ROWS), height
            dense_weight_strip(
                dw + top * outputs + left, outputs, scratch, strip_x, strip_row, strip_dz, dz_row, rows, height,
                columns, adds, <upcoming*>NULL,
            )
            top += height


cdef inline ptrdiff_t copied_size(const real* like, ptrdiff_t rows, ptrdiff_t x_row) noexcept nogil:
    """Elements of the strips of X that are copied together."""
    return COPIED_COLUMNS * (rows + GAP_ROWS) if lie_apart(like, x_row) else 0


cdef inline void copy_strips(
    real* out, const real* x, ptrdiff_t x_row, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t stride
) noexcept nogil:
    """Columns of X as strips one behind the other, ``stride`` columns in each, the last may have less."""
    cdef ptrdiff_t first = 0, left, count, width
    while first < rows:
        count, left = min(rows - first, <ptrdiff_t>COPIED_ROWS), 0
        while left < columns:
            width = min(columns - left, stride)
            pack(
                out + left * (rows + GAP_ROWS) + first * width, width, x + first * x_row + left, x_row, count,
                <int>width,
            )
            left += stride
        first += COPIED_ROWS


cdef inline void layer_bias_gradient(
    real* db, const real* dz, ptrdiff_t rows, ptrdiff_t outputs, int thread, int team
) noexcept nogil:
    """A thread's part of db, the sums of dZ's columns."""
    cdef ptrdiff_t left = vector_cut(dz, outputs, team, thread), right = vector_cut(dz, outputs, team, thread + 1)
    if right > left:
        sum_rows(db + left, dz + left, outputs, rows, right - left)
