"""The two phases of a batch, as the schedules of the training step combine them.

The first takes a block of rows through forward, loss and the whole backward chain.  The second forms dW = X^T dZ of a
strip of the parameters and applies it at once: updates the parameters, or keeps or adds up the gradient.
"""

from libc.math cimport NAN
from libc.stdint cimport int64_t

from activations cimport IDENTITY, activation_backward
from dense cimport (
    STRIP_COLUMNS, STRIP_ROWS, dense_weight_strip, lie_apart, pack_panels, strip_count, strip_tiles, vector_cut,
    worth_copying, worth_fetching, worth_fetching_rows, worth_packing, worth_turning,
)
from fetching cimport expect, expect_nothing, no_memory, runs_in_order, runs_of_memory, stretches, upcoming
from losses cimport loss_rows, takes_logits
from optimizers cimport ADAM, GRADIENT, GRADIENT_SUM, SGD, is_update, update, update_rule
from real cimport (
    FETCH_INTERVAL, FETCHES_TO_READ, FETCHES_TO_WRITE, LINE, TILE_ROWS, ceil_div, lanes, pack, real, sum_rows, table,
)
from rows cimport gather_rows
from stages cimport DENSE, entry_of, last_stage, network, stage, stage_backward, stage_forward

cdef struct training:
    network net
    void* gradients
    void* state
    update_rule rule          # of the present epoch
    bint summed               # reduction="sum"
    const int64_t* order
    ptrdiff_t rows
    ptrdiff_t batch_size
    ptrdiff_t block           # rows that go through phase 1 together
    int64_t step
    ptrdiff_t partials        # how many partial gradients a batch's is the sum of; 0: it is formed whole
    # In the workspace: the batch and behind it the next one, a fault a row (NaN at the first of rows gathered together
    # that are not all finite, or else 0), the targets, and a sum of exponentials a row: with partial gradients of a
    # block for each thread instead of the batch.  A loss (float64) for each of the batch's rows.  A thread's own: a
    # strip of dW, and what is packed.  The partial gradients.  For steps in halves always the batch, nothing behind
    # it, and nothing for targets and losses.
    ptrdiff_t input
    ptrdiff_t input_row
    ptrdiff_t faults
    ptrdiff_t target
    ptrdiff_t values
    ptrdiff_t sums
    ptrdiff_t scratch
    ptrdiff_t scratch_row
    ptrdiff_t partial
    ptrdiff_t partial_row     # elements from one partial gradient to the next
    bint shared               # whether several threads work on it: what one writes comes from its caches to the others
    double* losses
    # NULL, or dA of the last stage (rows, outputs) where the loss is computed elsewhere, between the forward half of a
    # step and this one: then all rows of the batch have their places, whatever parts its gradient is the sum of.
    const void* slope
    double* clock             # NULL, or a row of CLOCK_ROW a thread: seconds that its parts of a step took

cdef struct mini_batch:
    # A batch, or a block of its rows.
    const int64_t* order      # its rows in the user's x
    ptrdiff_t size
    ptrdiff_t whole           # size of the batch
    ptrdiff_t input           # in the workspace: X (size, input_row)
    ptrdiff_t place           # of its first row in every A and dZ, the targets, faults and sums of exponentials
    ptrdiff_t loss            # of its first row among the batch's losses

cdef enum:
    STRIP_SCRATCH = STRIP_ROWS * STRIP_COLUMNS  # elements of a strip of dW
    GATHERED_RUN = 512  # elements of the next batch that are gathered at a time, or a row: less is all overhead


cdef inline mini_batch mini_batch_at(const training* job, ptrdiff_t number) noexcept nogil:
    """A batch with its own rows in the workspace, none behind the last; the two buffers for X take turns."""
    cdef mini_batch batch
    cdef ptrdiff_t start = min(number * job.batch_size, job.rows)
    batch.order, batch.size, batch.place, batch.loss = job.order + start, min(job.batch_size, job.rows - start), 0, 0
    batch.whole = batch.size
    batch.input = job.input + number % 2 * job.batch_size * job.input_row
    return batch


cdef inline mini_batch block_of(
    const training* job, const mini_batch* batch, ptrdiff_t first, ptrdiff_t rows
) noexcept nogil:
    """Some rows of a batch."""
    cdef mini_batch block = batch[0]
    block.order, block.size = batch.order + first, rows
    block.input, block.place, block.loss = batch.input + first * job.input_row, batch.place + first, batch.loss + first
    return block


cdef inline ptrdiff_t rows_due(const training* job, ptrdiff_t rows, ptrdiff_t done, ptrdiff_t total) noexcept nogil:
    """How many of a batch's rows are to be gathered once so much of phase 2 is done: all at its end, in runs."""
    cdef ptrdiff_t run = max(1, GATHERED_RUN // job.input_row)
    return rows if done == total else rows * done // total // run * run


cdef inline void gather_batch(
    const training* job, const mini_batch* batch, real* workspace, ptrdiff_t first, ptrdiff_t last
) noexcept nogil:
    """Rows first..last of a batch's X, and their faults."""
    cdef real* faults = workspace + job.faults + batch.place
    cdef ptrdiff_t r
    if first == last:
        return
    for r in range(first, last):
        faults[r] = 0
    if not gather_rows(
        workspace + batch.input + first * job.input_row, job.input_row, &job.net.x, batch.order + first, 0,
        last - first,
    ):
        faults[first] = NAN


cdef inline void forward_rows(
    const training* job, const mini_batch* block, real* workspace, real* packed, bint logits
) noexcept nogil:
    """For a block of rows every A; of the last stage Z where ``logits`` says so."""
    cdef const network* net = &job.net
    cdef real* x = workspace + block.input
    cdef real* a
    cdef ptrdiff_t x_row = job.input_row, i
    cdef stretches beyond
    for i in range(net.count):
        a = workspace + net.stages[i].output + block.place * net.stages[i].row
        if job.shared:
            beyond = no_memory()
            if i + 1 < net.count:
                beyond = entry_of(net.stages + i + 1, <const real*>net.parameters, block.size)
        stage_forward(
            net.stages + i, <const real*>net.parameters, a, net.stages[i].row, x, x_row, packed, block.size,
            IDENTITY if logits and i + 1 == net.count else <int>net.stages[i].activation,
            &beyond if job.shared else NULL,
        )
        x, x_row = a, net.stages[i].row


cdef inline void score_rows(
    const training* job, const mini_batch* block, real* workspace, double scale
) noexcept nogil:
    """For a block of rows that went forward the losses, NaN where x is not finite, and the last dZ."""
    cdef const stage* last = last_stage(&job.net)
    cdef real* target = workspace + job.target + block.place * job.net.y.columns
    cdef real* a = workspace + last.output + block.place * last.row
    cdef real* dz = workspace + last.delta + block.place * last.row
    cdef const real* faults = workspace + job.faults + block.place
    cdef double* values = <double*>(workspace + job.values) + block.loss
    cdef ptrdiff_t r
    gather_rows(target, job.net.y.columns, &job.net.y, block.order, 0, block.size)
    loss_rows(
        job.net.loss, values, dz, last.row, a, last.row, workspace + job.sums + block.place, target, job.net.y.columns,
        block.size, last.outputs, scale,
    )
    for r in range(block.size):  # an activation may have hidden a fault: tanh makes 1 of infinity
        values[r] += faults[r]
    if not takes_logits(job.net.loss) and last.activation != IDENTITY:
        slope_rows(job, block, workspace, dz, last.row)


cdef inline void slope_rows(
    const training* job, const mini_batch* block, real* workspace, const real* da, ptrdiff_t da_row
) noexcept nogil:
    """The last dZ of a block of rows from its dA, which it may be."""
    cdef const stage* last = last_stage(&job.net)
    cdef const real* a = workspace + last.output + block.place * last.row
    cdef real* dz = workspace + last.delta + block.place * last.row
    cdef ptrdiff_t r
    for r in range(block.size):
        activation_backward(
            <int>last.activation, dz + r * last.row, da + r * da_row, a + r * last.row, last.outputs
        )


cdef inline void backward_rows(
    const training* job, const mini_batch* block, real* workspace, real* packed
) noexcept nogil:
    """For a block of rows every dZ below the last."""
    cdef const network* net = &job.net
    cdef ptrdiff_t i
    for i in range(net.count - 1, 0, -1):
        if net.stages[i].propagates:
            stage_backward(
                net.stages + i, net.stages + i - 1, <const real*>net.parameters, workspace, workspace, packed,
                block.place, block.size, block.whole,
            )


cdef inline void backpropagate_rows(
    const training* job, const mini_batch* block, real* workspace, real* packed, double scale
) noexcept nogil:
    """Phase 1 for a block of rows: every A and every dZ, and the rows' losses; NaN where x is not finite.

    Every dZ alone where the loss is computed elsewhere.
    """
    cdef ptrdiff_t outputs = last_stage(&job.net).outputs
    if block.size == 0:  # a piece more than there are rows
        return
    if job.slope != NULL:
        slope_rows(job, block, workspace, <const real*>job.slope + block.place * outputs, outputs)
    else:
        forward_rows(job, block, workspace, packed, takes_logits(job.net.loss))
        score_rows(job, block, workspace, scale)
    backward_rows(job, block, workspace, packed)


cdef inline void apply_gradient(
    const training* job, const update_rule* rule, const real* g, ptrdiff_t at, ptrdiff_t n
) noexcept nogil:
    """Parameters at.. at + n from their gradient, or the gradient kept or added to what is there."""
    cdef real* kept = <real*>job.gradients + at
    cdef ptrdiff_t i
    if rule.optimizer == GRADIENT:
        for i in range(n):
            kept[i] = g[i]
    elif rule.optimizer == GRADIENT_SUM:
        for i in range(n):
            kept[i] += g[i]
    else:
        update(rule, <real*>job.net.parameters + at, <real*>job.state + at, job.net.parameter_count, g, n)


cdef inline int fetched_arrays(const training* job, const update_rule* rule, const real* like) noexcept nogil:
    """Of how many arrays, parameters and state, a strip's share had better be asked for before it is updated."""
    cdef int arrays = 3 if rule.optimizer == ADAM else 2 if rule.optimizer == SGD and rule.momentum != 0 else 1
    if rule.optimizer == GRADIENT:
        return 0
    if worth_fetching(like, arrays, job.net.parameter_count):
        return arrays
    return 1 if job.shared else 0  # the parameters: another thread has read them, the state nobody


cdef inline void expect_update(
    upcoming* wanted, const training* job, const update_rule* rule, const stage* s, const real* like, int arrays,
    ptrdiff_t top, ptrdiff_t bottom, ptrdiff_t left, ptrdiff_t right,
) noexcept nogil:
    """Have what applying dW of rows top..bottom and columns left..right of a stage changes asked for meanwhile."""
    cdef ptrdiff_t at = s.weight + top * s.outputs + left, size = sizeof(real), i
    cdef const real* array = <const real*>(job.net.parameters if is_update(rule) else job.gradients)
    for i in range(arrays):
        expect(wanted, runs_of_memory(
            FETCHES_TO_WRITE, array + at, s.outputs * size, bottom - top, (right - left) * size
        ))
        array = <const real*>job.state + i * job.net.parameter_count


cdef inline void expect_rows(
    upcoming* wanted, const training* job, const mini_batch* batch, const real* workspace, ptrdiff_t first,
    ptrdiff_t last, bint are_far,
) noexcept nogil:
    """Have the places that rows first..last of a batch are gathered to, and rows that are far, asked for meanwhile."""
    cdef const table* source = &job.net.x
    cdef const real* places = workspace + batch.input + first * job.input_row
    cdef ptrdiff_t row = job.input_row * <ptrdiff_t>sizeof(real)
    if are_far:
        expect(wanted, runs_in_order(
            FETCHES_TO_READ, batch.order + first, source.data, source.row_stride, last - first,
            source.columns * source.size,
        ))
    expect(wanted, runs_of_memory(FETCHES_TO_WRITE, places, row, last - first, row))


cdef inline bint are_near(const stage* s, const real* like) noexcept nogil:
    """Whether a dense stage's rows of A and dZ lie so close together that all of them are worth asking for."""
    return s.kind == DENSE and not lie_apart(like, s.row)


cdef inline void expect_operands(
    upcoming* wanted, const stage* s, const real* workspace, const mini_batch* batch, ptrdiff_t first, ptrdiff_t last
) noexcept nogil:
    """Have rows first..last of a stage's A, and of dZ of the stage after it, asked for meanwhile."""
    cdef const stage* after = s + 1
    cdef const real* a = workspace + s.output + (batch.place + first) * s.row
    cdef const real* dz = workspace + after.delta + (batch.place + first) * after.row
    cdef ptrdiff_t size = sizeof(real), count = last - first
    expect(wanted, runs_of_memory(FETCHES_TO_READ, a, s.row * size, count, s.outputs * size))
    expect(wanted, runs_of_memory(FETCHES_TO_READ, dz, after.row * size, count, after.outputs * size))


cdef inline void update_strip(
    const training* job, const update_rule* rule, const stage* s, real* scratch,
    const real* x, ptrdiff_t x_row, const real* dz, ptrdiff_t dz_row, ptrdiff_t batch,
    ptrdiff_t top, ptrdiff_t bottom, ptrdiff_t left, ptrdiff_t right, upcoming* wanted,
) noexcept nogil:
    """Phase 2 for rows top..bottom and columns left..right of a stage's W: dW and the update.

    x points at the strip's rows, dz at its columns.
    """
    cdef ptrdiff_t columns = right - left, i
    cdef real* turned = scratch + STRIP_SCRATCH // 2
    dense_weight_strip(scratch, columns, turned, x, x_row, dz, dz_row, batch, bottom - top, columns, False, wanted)
    if columns == s.outputs:  # the strip's rows follow one another in memory: one run, one tail
        apply_gradient(job, rule, scratch, s.weight + top * s.outputs, (bottom - top) * columns)
    else:
        for i in range(bottom - top):
            apply_gradient(job, rule, scratch + i * columns, s.weight + (top + i) * s.outputs + left, columns)


cdef inline ptrdiff_t first_tile(ptrdiff_t begin, ptrdiff_t tile, ptrdiff_t tiles) noexcept nogil:
    """Number of the tiles of a strip, each ``tile`` long, of which more than half lies before ``begin``."""
    return min((begin + (tile - 1) // 2) // tile, tiles) if begin > 0 else 0


cdef inline ptrdiff_t tile_length(const stage* s, const real* like, ptrdiff_t columns) noexcept nogil:
    """Length in phase 2 of a register tile of so many columns of a stage's dW, the same for the last of them."""
    if worth_turning(like, s.inputs, s.outputs):
        return ceil_div(columns * ceil_div(s.inputs, lanes(like)), ceil_div(s.inputs, TILE_ROWS))
    return min(s.inputs, TILE_ROWS) * ceil_div(columns, lanes(like))


cdef inline ptrdiff_t gradient_length(const network* net, const real* like) noexcept nogil:
    """Length of phase 2: of the register tiles of every dW."""
    cdef const stage* s
    cdef ptrdiff_t total = 0, i
    for i in range(net.count):
        s = net.stages + i
        if s.kind == DENSE:
            total += ceil_div(s.inputs, TILE_ROWS) * tile_length(s, like, s.outputs)
    return total


cdef inline void update_parameters(
    const training* job, const update_rule* rule, const mini_batch* batch, const mini_batch* following,
    real* workspace, real* scratch, ptrdiff_t total, ptrdiff_t begin, ptrdiff_t end,
) noexcept nogil:
    """Phase 2 from ``begin`` to ``end`` of its length ``total``: strips of all stages in turn, and after each strip the
    rows of the following batch that fall to it."""
    cdef const network* net = &job.net
    cdef const stage* s
    cdef real* copied = scratch + STRIP_SCRATCH
    cdef real* packed = copied + LINE * batch.size
    cdef const real* x = workspace + batch.input
    cdef const real* dz
    cdef const real* strip_x
    cdef bint goes_on
    cdef bint fetches = batch.size >= FETCH_INTERVAL  # the tiles of a smaller batch are over before their first fetch
    cdef bint are_far = worth_fetching_rows(&net.x)  # the following batch's rows
    cdef int arrays = fetched_arrays(job, rule, x) if fetches else 0
    cdef upcoming wanted
    cdef ptrdiff_t x_row = job.input_row, passed = 0, i, strips, strip, tiles, tile, length, reached, gathered
    cdef ptrdiff_t first, last, top, bottom, left, right, dz_row, strip_row
    cdef ptrdiff_t depth = job.block if job.partials else job.batch_size
    for i in range(net.count):
        s = net.stages + i
        tiles, strips, right = ceil_div(s.inputs, TILE_ROWS), strip_count(x, depth, s.outputs), 0
        for strip in range(strips if s.kind == DENSE else 0):
            left, right = right, vector_cut(x, s.outputs, strips, strip + 1)
            length = tile_length(s, x, right - left)
            first, last = first_tile(begin - passed, length, tiles), first_tile(end - passed, length, tiles)
            passed += tiles * length
            if first == last:
                continue
            dz, dz_row = workspace + s.delta + batch.place * s.row + left, s.row
            if first == 0:
                sum_rows(scratch, dz, dz_row, batch.size, right - left)
                apply_gradient(job, rule, scratch, s.bias + left, right - left)
            if right - left >= lanes(x) and worth_packing(x, dz_row, batch.size, last - first):  # else it may be turned
                pack_panels(packed, dz, dz_row, batch.size, right - left)
                dz, dz_row = packed, 0
            # whether a next stage's operands are asked for, half of which the other threads have
            goes_on = fetches and job.shared and strip + 1 == strips and passed < end
            goes_on = goes_on and are_near(s, x) and are_near(s + 1, x)
            tile, bottom = first, first * TILE_ROWS
            while tile < last:
                gathered = rows_due(job, following.size, passed - (tiles - tile) * length, total)
                tile = min(tile + strip_tiles(right - left), last)
                top, bottom = bottom, min(tile * TILE_ROWS, s.inputs)
                reached = rows_due(job, following.size, passed - (tiles - tile) * length, total)
                expect_nothing(&wanted)
                if arrays > 0:
                    expect_update(&wanted, job, rule, s, x, arrays, top, bottom, left, right)
                if fetches and (job.shared or are_far):
                    expect_rows(&wanted, job, following, workspace, gathered, reached, are_far)
                if goes_on:
                    expect_operands(
                        &wanted, s, workspace, batch, batch.size * (top // TILE_ROWS - first) // (last - first),
                        batch.size * (tile - first) // (last - first),
                    )
                strip_x, strip_row = x + top, x_row
                if worth_copying(x, x_row, right - left):
                    strip_x, strip_row = copied, bottom - top
                    pack(copied, strip_row, x + top, x_row, batch.size, <int>strip_row)
                update_strip(
                    job, rule, s, scratch, strip_x, strip_row, dz, dz_row, batch.size, top, bottom, left, right,
                    &wanted if wanted.expected > 0 else NULL,
                )
                gather_batch(job, following, workspace, gathered, reached)
        x, x_row = workspace + s.output + batch.place * s.row, s.row
