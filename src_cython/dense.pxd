"""The dense layer on blocks of rows: every product is cut into register tiles here.

Matrices are row-major; ``x_row`` is the distance in elements from one row of x to the next.  A cut is even, so that no
tile is left with a sliver of a row or column: 50 rows are six tiles of 7 and one of 8, not six of 8 and one of 2.  The
rows of dW alone are cut at multiples of a tile's, from the beginning of a thread's share on.
"""

from fetching cimport (
    FETCHED_LINE, columns_of_rows, expect, expect_nothing, fetch_meanwhile, no_memory, runs_of_memory, stretches,
    upcoming,
)
from real cimport (
    EPILOGUE_NONE, EPILOGUE_RELU, FETCHES_NOTHING, FETCHES_TO_READ, LINE, NARROW_ROWS, ROW_VECTORS, SHALLOW_DEPTH,
    TILE_ROWS, ceil_div, dots, lanes, multiply_row, multiply_shallow, multiply_tile, pack, pack_transposed,
    panel_columns, product, real, table, tile_foresees, transpose,
)


cdef inline ptrdiff_t cut(ptrdiff_t total, ptrdiff_t parts, ptrdiff_t part) noexcept nogil:
    """Where part number ``part`` of an even cut of 0..total begins: the first total % parts are longer by one."""
    cdef ptrdiff_t longer = total % parts
    return total // parts * part + (part if part < longer else longer)


cdef inline ptrdiff_t vector_cut(const real* like, ptrdiff_t columns, ptrdiff_t parts, ptrdiff_t part) noexcept nogil:
    """First column of a part of an even cut into whole vectors; the end of the last is ``columns``."""
    return min(lanes(like) * cut(ceil_div(columns, lanes(like)), parts, part), columns) if part else 0


cdef inline ptrdiff_t panel_count(const real* like, ptrdiff_t columns) noexcept nogil:
    return ceil_div(columns, panel_columns(like))


cdef inline ptrdiff_t tile_count(const real* like, ptrdiff_t rows, ptrdiff_t columns) noexcept nogil:
    """How many register tiles one above the other cover so many rows of a panel: a narrow one has taller tiles."""
    return ceil_div(rows, TILE_ROWS if columns > 2 * lanes(like) else NARROW_ROWS)


cdef inline bint worth_multiplying(ptrdiff_t batch) noexcept nogil:
    """Whether a batch's dX is a product with W^T: for a single row, dot products with W are cheaper than turning it."""
    return batch > 1


cdef enum:
    # Bytes from one row of B to the next from which a panel is copied together before use: the rows would lie on a
    # page each, and powers of two would fall into the same few sets of the caches.
    PACKED_STRIDE = 2048
    PACKED_ROWS = 8  # that panels are copied by where their rows have lines in common
    PACKED_TILES = 4  # register tiles that must use the copy to pay for it
    OVERFLOW_TILES = 12  # or where the rows lie nearer, but are too many for the first-level cache
    NEAR_BYTES = 32768  # of that cache; lines so far apart share the same few places in it:
    NEAR_PERIOD = 4096
    # dW is formed and handed to the optimiser a strip at a time: parameters and optimiser state are then touched in
    # long runs, whole rows if possible: those that follow one another come ahead of need by themselves. Of dZ this many
    # bytes stay in the cache, for dW of this many columns there is room. A strip is as tall as a register tile or two,
    # or as several where it is narrow: then it has this many elements at the most.
    STRIP_BYTES = 524288
    STRIP_COLUMNS = 4160
    STRIP_ROWS = 8
    STRIP_ELEMENTS = 1024
    # Parameters and state beyond these bytes come from the third-level cache, strip by strip: a strip's share is asked
    # for while its dW is formed. What the first-level cache cannot keep beside the operands waits in the second.
    FAR_BYTES = 1048576
    FETCHING_TILES = 4  # register tiles that fetch a panel: four streams bring a line for each k, and it has up to four
    FETCHED_ROW = 256  # bytes: shorter rows are copied before a fetch of them has come


cdef inline bint lie_apart(const real* like, ptrdiff_t row) noexcept nogil:
    """Whether pieces of rows, each so many elements on from the one before, had better be copied together first."""
    return row * <ptrdiff_t>sizeof(real) >= PACKED_STRIDE


cdef inline bint overflows(const real* like, ptrdiff_t row, ptrdiff_t depth) noexcept nogil:
    """Whether the first-level cache cannot keep a panel of so many rows, each so many elements on from the one before.

    The larger the power of two in their distance, the fewer it keeps.  Only where a panel's row is no whole lines: then
    more comes from the outer caches than is of use.
    """
    cdef ptrdiff_t distance = row * <ptrdiff_t>sizeof(real), width = panel_columns(like) * <ptrdiff_t>sizeof(real)
    cdef ptrdiff_t touched = width + FETCHED_LINE, shared = min(distance & -distance, <ptrdiff_t>NEAR_PERIOD)
    return width % FETCHED_LINE != 0 and distance > touched and depth * max(touched, shared) > NEAR_BYTES


cdef inline bint may_pack(const real* like, ptrdiff_t b_row, ptrdiff_t depth) noexcept nogil:
    return lie_apart(like, b_row) or overflows(like, b_row, depth)


cdef inline bint worth_packing(const real* like, ptrdiff_t b_row, ptrdiff_t depth, ptrdiff_t tiles) noexcept nogil:
    """Whether a panel is read better from a copy by so many register tiles."""
    if lie_apart(like, b_row):
        return tiles >= PACKED_TILES
    return tiles >= OVERFLOW_TILES and overflows(like, b_row, depth)


cdef inline bint worth_fetching(const real* like, int arrays, ptrdiff_t parameters) noexcept nogil:
    """Whether a strip's share of so many arrays of parameters should be asked for before it is needed."""
    return tile_foresees and arrays * parameters * <ptrdiff_t>sizeof(real) > FAR_BYTES


cdef inline bint worth_fetching_rows(const table* source) noexcept nogil:
    """Whether rows of a data set come from far enough, and in runs long enough, to be asked for."""
    cdef ptrdiff_t row = source.columns * source.size
    return source.column_stride == source.size and row >= FETCHED_ROW and source.rows * row > FAR_BYTES


cdef inline ptrdiff_t whole_vectors(const real* like, ptrdiff_t columns) noexcept nogil:
    return ceil_div(columns, lanes(like)) * lanes(like)


cdef inline ptrdiff_t panels_together(const real* like) noexcept nogil:
    """How many panels of a matrix are copied together: if their rows are no whole lines, two have lines in common."""
    return 1 if panel_columns(like) * <ptrdiff_t>sizeof(real) % FETCHED_LINE == 0 else 2


cdef inline void pack_panels(
    real* packed, const real* matrix, ptrdiff_t row, ptrdiff_t depth, ptrdiff_t columns
) noexcept nogil:
    """The panels of a block of columns one after the other, each (depth, its columns); where they have lines in common
    a few rows of all at a time."""
    cdef ptrdiff_t panels = panel_count(matrix, columns), top = 0, rows, panel, left, right, width
    cdef ptrdiff_t most = PACKED_ROWS if panels_together(matrix) > 1 else depth
    while top < depth:
        rows, right = min(most, depth - top), 0
        for panel in range(panels):
            left, right = right, vector_cut(matrix, columns, panels, panel + 1)
            width = whole_vectors(matrix, right - left)
            pack(
                packed + depth * left + top * width, width, matrix + top * row + left, row, rows, <int>(right - left)
            )
        top += rows


cdef inline void multiply_single(
    product* p, const real* b, real* c, const real* bias, const real* y, ptrdiff_t columns
) noexcept nogil:
    """c (columns) = bias + p's a @ b: a single row, in pieces as wide as the registers hold."""
    cdef ptrdiff_t panels = ceil_div(columns, ROW_VECTORS * lanes(c)), panel, left, right = 0
    for panel in range(panels):
        left, right = right, vector_cut(c, columns, panels, panel + 1)
        p.b = b + left
        p.start = bias + left if bias != NULL else NULL
        p.y = y + left if y != NULL else NULL
        multiply_row(p, c + left, <int>(right - left))


cdef inline stretches panel_of(
    const real* b, ptrdiff_t b_k, ptrdiff_t b_column, ptrdiff_t depth, ptrdiff_t columns
) noexcept nogil:
    """The memory of a panel whose first element is at b, with the strides of `multiply`."""
    cdef ptrdiff_t size = sizeof(real)
    if b_column != 1:
        return runs_of_memory(FETCHES_TO_READ, b, 0, 1, columns * b_column * size)
    return columns_of_rows(b, b_k * size, depth, columns * size)


cdef inline stretches first_panel(
    const real* weight, ptrdiff_t rows, ptrdiff_t inputs, ptrdiff_t outputs
) noexcept nogil:
    """The memory that a forward pass of so many rows begins with, unless it copies that from afar, unforeseen."""
    cdef bint is_far = lie_apart(weight, outputs) and worth_packing(weight, outputs, inputs, ceil_div(rows, TILE_ROWS))
    if is_far and not tile_foresees:
        return no_memory()
    return panel_of(weight, outputs, 1, inputs, vector_cut(weight, outputs, panel_count(weight, outputs), 1))


cdef inline void multiply(
    product* p, const real* a, const real* b, ptrdiff_t b_column, real* c, const real* bias, const real* y,
    real* packed, ptrdiff_t rows, ptrdiff_t columns, const stretches* beyond,
) noexcept nogil:
    """c (rows, columns) = bias + a @ b, tile by tile, with p's strides, depth and epilogue.

    Panels of columns outside, rows inside: a panel of b stays in the caches while the rows of a pass by.  With
    ``packed``, see `forward_packing`, it is copied there first if that pays, alone or with the next.  p.padded: whether
    c's and y's rows go on to the end of a vector.  b_column: elements from one column of b to the next, 1 unless b is
    the transpose of a matrix without gaps and of several columns: then its panels are always copied.  ``beyond``: NULL
    where one thread works alone; else what is wanted next, or no memory.  Then the last tiles of a panel fetch the
    next one, or else that.  One that will be copied from afar is fetched wherever `tile_foresees`, and nowhere else.
    p.b_k and p.padded are overwritten.
    """
    cdef ptrdiff_t panels = panel_count(c, columns), b_k = p.b_k, right = 0
    cdef ptrdiff_t panel, tiles, tile, left, top, bottom, width, height, longer
    cdef bint transposes = b_column != 1
    cdef bint packs = transposes or packed != NULL and worth_packing(c, b_k, p.depth, ceil_div(rows, TILE_ROWS))
    cdef bint is_far = transposes or packs and lie_apart(c, b_k)
    cdef bint fetches = tile_foresees if is_far else beyond != NULL  # what follows of b
    cdef ptrdiff_t together = panels_together(c) if packs and not transposes else 1, block = 0
    cdef real* copied
    cdef upcoming wanted
    if rows == 0:  # a thread more than there are rows
        return
    p.start_row, p.padded = 0, p.padded and packs  # b's rows go on as well where they are copied
    if rows == 1 and not transposes:
        p.a = a
        multiply_single(p, b, c, bias, y, columns)
        return
    for panel in range(panels):
        left, right = right, vector_cut(c, columns, panels, panel + 1)
        tiles = tile_count(c, rows, right - left)
        height, longer = rows // tiles, rows % tiles
        p.b = b + left
        p.start = bias + left if bias != NULL else NULL
        if packs:
            width, copied = whole_vectors(c, right - left), packed + panel_columns(c)  # behind the bias
            if panel % together == 0:
                block = left
            if transposes:
                pack_transposed(copied, b + left * b_column, b_column, p.depth, <int>(right - left))
            elif block == left:
                pack_panels(copied, b + left, b_k, p.depth, vector_cut(c, columns, panels, panel + together) - left)
            p.b, p.b_k = copied + p.depth * (left - block), width
            if bias != NULL:
                pack(packed, width, bias + left, 0, 1, <int>(right - left))
                p.start = packed
        top, p.fetches = 0, FETCHES_NOTHING
        if p.depth <= SHALLOW_DEPTH and right - left >= lanes(c):
            p.a, p.y = a, y + left if y != NULL else NULL
            multiply_shallow(p, c + left, rows, <int>(right - left))
            continue
        expect_nothing(&wanted)
        if right == columns:
            if beyond != NULL:
                expect(&wanted, beyond[0])
        elif fetches and (panel + 1) % together == 0:
            expect(&wanted, panel_of(
                b + right * b_column, b_k, b_column, p.depth,
                vector_cut(c, columns, panels, panel + 1 + together) - right,
            ))
        for tile in range(tiles):
            bottom = top + height + (tile < longer)
            p.a = a + top * p.a_row
            p.y = y + top * p.y_row + left if y != NULL else NULL
            if wanted.expected > 0 and tiles - tile <= FETCHING_TILES:
                fetch_meanwhile(p, &wanted)
            multiply_tile(p, c + top * p.c_row + left, <int>(bottom - top), <int>(right - left))
            top = bottom


cdef inline void dense_forward(
    real* z, ptrdiff_t z_row, const real* x, ptrdiff_t x_row, const real* weight, ptrdiff_t weight_row,
    const real* bias, real* packed, ptrdiff_t rows, ptrdiff_t inputs, ptrdiff_t outputs, int epilogue, bint padded,
    const stretches* beyond,
) noexcept nogil:
    """Z = X W + b, (B, O) = (B, I) @ (I, O) + (O); overwrites z, which may not alias x.

    ``epilogue``: EPILOGUE_NONE, or EPILOGUE_RELU for A = max(0, Z).  packed, padded, beyond: see multiply.  A single
    output is a dot product for each row: of a vector the product would use one lane.  Then W is a single column without
    gaps.  2 B I O flops.
    """
    cdef product p
    cdef ptrdiff_t r
    if outputs == 1 and weight_row == 1:
        dots(z, z_row, x, x_row, weight, rows, inputs)
        for r in range(rows):
            z[r * z_row] += bias[0]
            if epilogue == EPILOGUE_RELU and z[r * z_row] < 0:
                z[r * z_row] = 0
        return
    p.a_row, p.a_k, p.b_k, p.depth = x_row, 1, weight_row, inputs
    p.c_row, p.y_row, p.epilogue, p.padded = z_row, 0, epilogue, padded
    multiply(&p, x, weight, 1, z, bias, <const real*>NULL, packed, rows, outputs, beyond)


cdef inline void dense_input_gradient(
    real* dx, ptrdiff_t dx_row, const real* dz, ptrdiff_t dz_row, const real* weight, const real* y, ptrdiff_t y_row,
    real* packed, ptrdiff_t rows, ptrdiff_t inputs, ptrdiff_t outputs, int epilogue,
) noexcept nogil:
    """dX = dZ W^T, (B, I) = (B, O) @ (O, I), whose panels are packed straight from W; overwrites dx, which is padded.

    ``epilogue`` may multiply by the slope of the activation below, whose output is y: then dx is the layer below's dZ.
    packed: see multiply.  2 B I O flops.
    """
    cdef product p
    p.a_row, p.a_k, p.b_k, p.depth = dz_row, 1, 0, outputs
    p.c_row, p.y_row, p.epilogue, p.padded = dx_row, y_row, epilogue, True
    multiply(&p, dz, weight, outputs, dx, <const real*>NULL, y, packed, rows, inputs, <const stretches*>NULL)


cdef inline ptrdiff_t strip_tiles(ptrdiff_t columns) noexcept nogil:
    """How many register tiles one above the other make a strip of so many columns."""
    return max(STRIP_ROWS // TILE_ROWS, STRIP_ELEMENTS // (TILE_ROWS * columns))


cdef inline bint worth_copying(const real* like, ptrdiff_t x_row, ptrdiff_t columns) noexcept nogil:
    """Whether a strip's columns of X are copied together first: they lie far apart, and dW's columns are many."""
    return lie_apart(like, x_row) and strip_tiles(columns) * TILE_ROWS <= LINE


cdef inline ptrdiff_t strip_count(const real* like, ptrdiff_t batch, ptrdiff_t outputs) noexcept nogil:
    """Blocks of columns that dW is formed in: dZ's share of one stays in a second-level cache while all rows pass."""
    cdef ptrdiff_t by_cache = ceil_div(batch * outputs * <ptrdiff_t>sizeof(real), STRIP_BYTES)
    cdef ptrdiff_t by_scratch = ceil_div(outputs, STRIP_COLUMNS - 2 * lanes(like))
    return min(max(by_cache, by_scratch), ceil_div(outputs, lanes(like)))


cdef inline void multiply_outer(
    real* c, ptrdiff_t c_row, const real* a, const real* b, ptrdiff_t rows, ptrdiff_t columns
) noexcept nogil:
    """c (rows, columns) = a (rows) times b (columns): a product of depth 1, for which a tile would not pay."""
    cdef ptrdiff_t i, j
    cdef real factor
    for i in range(rows):
        factor = a[i]
        for j in range(columns):
            c[i * c_row + j] = factor * b[j] + 0  # as a sum that begins with 0: of -0 it makes 0


cdef inline void dense_weight_gradient(
    real* dw, ptrdiff_t dw_row, const real* x, ptrdiff_t x_row, const real* dz, ptrdiff_t dz_row, ptrdiff_t batch,
    ptrdiff_t inputs, ptrdiff_t outputs, bint adds, upcoming* wanted,
) noexcept nogil:
    """dW = X^T dZ, (I, O) = (I, B) @ (B, O), for a block of rows and columns of dW; overwrites dw, or adds to it.

    x and dz point at the first column. The sum runs over the batch in order.  dz_row 0: dz is packed by pack_panels.
    wanted: NULL, or what to fetch meanwhile.  2 B I O flops.
    """
    cdef product p
    cdef ptrdiff_t panels = panel_count(dz, outputs), right = 0, panel, tiles, tile, left, top
    if batch == 1 and not adds:
        multiply_outer(dw, dw_row, x, dz, inputs, outputs)
        return
    p.a_row, p.a_k, p.b_k, p.depth = 1, x_row, dz_row, batch
    p.start, p.start_row, p.y = NULL, dw_row, NULL
    p.c_row, p.y_row, p.epilogue, p.padded, p.fetches = dw_row, 0, EPILOGUE_NONE, False, FETCHES_NOTHING
    for panel in range(panels):
        left, right = right, vector_cut(dz, outputs, panels, panel + 1)
        tiles = tile_count(dz, inputs, right - left)
        p.b = dz + left
        if dz_row == 0:
            p.b, p.b_k = dz + batch * left, whole_vectors(dz, right - left)
        for tile in range(tiles):
            top = cut(inputs, tiles, tile)
            p.a = x + top
            if adds:
                p.start = dw + top * dw_row + left
            if wanted != NULL:
                fetch_meanwhile(&p, wanted)
            multiply_tile(&p, dw + top * dw_row + left, <int>(cut(inputs, tiles, tile + 1) - top), <int>(right - left))


cdef inline bint worth_turning(const real* like, ptrdiff_t inputs, ptrdiff_t outputs) noexcept nogil:
    """Whether dW = X^T dZ of few outputs had better be formed as dZ^T X, with the inputs along the lanes."""
    return outputs < lanes(like) and outputs * ceil_div(inputs, lanes(like)) < inputs


cdef inline void dense_weight_strip(
    real* dw, ptrdiff_t dw_row, real* turned, const real* x, ptrdiff_t x_row, const real* dz, ptrdiff_t dz_row,
    ptrdiff_t batch, ptrdiff_t inputs, ptrdiff_t outputs, bint adds, upcoming* wanted,
) noexcept nogil:
    """dW = X^T dZ, or dW += X^T dZ, of a strip.  Of few columns it is formed as its transpose, to the same bits.

    turned: room for that, STRIP_ELEMENTS apart from dw.  A single column in a run (dw_row 1) needs none.
    """
    if not worth_turning(x, inputs, outputs):
        dense_weight_gradient(dw, dw_row, x, x_row, dz, dz_row, batch, inputs, outputs, adds, wanted)
        return
    if dw_row == 1:
        turned = dw
    elif adds:
        transpose(turned, inputs, dw, dw_row, inputs, outputs)
    dense_weight_gradient(turned, inputs, dz, dz_row, x, x_row, batch, outputs, inputs, adds, wanted)
    if dw_row > 1:
        transpose(dw, dw_row, turned, inputs, outputs, inputs)


cdef inline ptrdiff_t forward_packing(const real* like, ptrdiff_t inputs, ptrdiff_t outputs) noexcept nogil:
    """Elements a thread needs for the bias and the panels that a forward pass packs together."""
    return (1 + inputs * panels_together(like)) * panel_columns(like) if may_pack(like, outputs, inputs) else 0


cdef inline ptrdiff_t backward_packing(const real* like, ptrdiff_t batch, ptrdiff_t outputs) noexcept nogil:
    """Elements a thread needs for the panel that dX packs."""
    return (outputs + 1) * panel_columns(like) if worth_multiplying(batch) and outputs > 1 else 0


cdef inline ptrdiff_t strip_packing(
    const real* like, ptrdiff_t batch, ptrdiff_t outputs, ptrdiff_t dz_row
) noexcept nogil:
    """Elements a thread needs for the panels of dZ's share in a strip."""
    if not may_pack(like, dz_row, batch):
        return 0
    return batch * (ceil_div(outputs, strip_count(like, batch, outputs)) + 2 * lanes(like))
