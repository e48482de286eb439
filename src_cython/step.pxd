"""The training step under the tile schedule: what one thread of a team does.

A batch is two phases with a meeting of all threads after each.  In the first a thread takes blocks of rows through
forward, loss and the whole backward chain, and meets nobody.  In the second it takes strips of the parameters, forms
each strip of dW = X^T dZ over the whole batch and updates the parameters with it at once; the rows of the next batch
are gathered between the strips.  Both are handed out piece by piece, so that all are done together when a processor is
slow.  Which thread does what changes no sum, so the bits do not depend on the team.

Batches of one row under plain gradient descent, on one thread, take neither: `train_row_by_row` does the way back and
the update in one pass over W, to the same bits.
"""

from libc.math cimport NAN, isfinite
from libc.stdint cimport int64_t

from activations cimport IDENTITY, activation_backward
from dense cimport (
    STRIP_COLUMNS, STRIP_ROWS, ceil_div, cut, dense_weight_gradient, pack_panels, panel_count, strip_count,
    strip_tiles, upcoming, vector_cut, worth_fetching, worth_fetching_rows, worth_packing, worth_turning,
)
from losses cimport loss_rows, loss_scale, sum_in_order, takes_logits
from optimizers cimport ADAM, GRADIENT, SGD, rule_at, update, update_rule
from real cimport TILE_ROWS, descend, lanes, real, sum_rows, transpose
from rows cimport gather_rows
from stages cimport DENSE, network, stage, stage_backward, stage_forward
from team cimport team_break_up, team_breaks_up, team_gate, team_meet, team_queues, team_take, team_watch

cdef struct training:
    network net
    void* gradients
    void* state
    int optimizer
    bint summed               # reduction="sum"
    const double* settings
    const int64_t* order
    ptrdiff_t rows
    ptrdiff_t batch_size
    ptrdiff_t block           # rows that go through phase 1 together
    int64_t step
    # In the workspace: the batch and behind it the next one, a fault a row (NaN at the first of rows gathered together
    # that are not all finite, or else 0), the targets, a loss (float64) and a sum of exponentials a row; and a thread's
    # own: a strip of dW, and what is packed.
    ptrdiff_t input
    ptrdiff_t input_row
    ptrdiff_t faults
    ptrdiff_t target
    ptrdiff_t values
    ptrdiff_t sums
    ptrdiff_t scratch
    ptrdiff_t scratch_row
    double* losses

cdef struct mini_batch:
    const int64_t* order      # its rows in the user's x
    ptrdiff_t size
    ptrdiff_t input           # in the workspace: X (size, input_row)

cdef enum:
    STRIP_SCRATCH = STRIP_ROWS * STRIP_COLUMNS  # elements of a strip of dW
    PIECES = 8  # that a thread's share of phase 2 is cut into, where they have PIECE_FLOPS: about 5 us
    PIECE_FLOPS = 1048576
    GATHERED_RUN = 512  # elements of the next batch that are gathered at a time, or a row: less is all overhead


cdef inline mini_batch mini_batch_at(const training* job, ptrdiff_t number) noexcept nogil:
    """The rows of a batch, none behind the last; the two buffers for X take turns."""
    cdef mini_batch batch
    cdef ptrdiff_t start = min(number * job.batch_size, job.rows)
    batch.order, batch.size = job.order + start, min(job.batch_size, job.rows - start)
    batch.input = job.input + number % 2 * job.batch_size * job.input_row
    return batch


cdef inline ptrdiff_t rows_due(const training* job, ptrdiff_t rows, ptrdiff_t done, ptrdiff_t total) noexcept nogil:
    """How many of a batch's rows are to be gathered once so much of phase 2 is done: all at its end, in runs."""
    cdef ptrdiff_t run = max(1, GATHERED_RUN // job.input_row)
    return rows if done == total else rows * done // total // run * run


cdef inline void gather_batch(
    const training* job, const mini_batch* batch, real* workspace, ptrdiff_t first, ptrdiff_t last
) noexcept nogil:
    """Rows first..last of a batch's X, and their faults."""
    cdef real* faults = workspace + job.faults
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
    const training* job, const mini_batch* batch, real* workspace, real* packed, ptrdiff_t first, ptrdiff_t rows,
    double scale,
) noexcept nogil:
    """For a block of rows every A, the last dZ, and the rows' losses; NaN where x is not finite."""
    cdef const network* net = &job.net
    cdef const stage* last = net.stages + net.count - 1
    cdef real* x = workspace + batch.input + first * job.input_row
    cdef real* target = workspace + job.target + first * net.y.columns
    cdef real* a = workspace
    cdef real* dz = workspace + last.delta + first * last.row
    cdef const real* faults = workspace + job.faults
    cdef double* values = <double*>(workspace + job.values)
    cdef ptrdiff_t x_row = job.input_row, i, r
    cdef bint logits = takes_logits(net.loss)
    gather_rows(target, net.y.columns, &net.y, batch.order + first, 0, rows)
    for i in range(net.count):
        a = workspace + net.stages[i].output + first * net.stages[i].row
        stage_forward(
            net.stages + i, <const real*>net.parameters, a, net.stages[i].row, x, x_row, packed, rows,
            IDENTITY if logits and i + 1 == net.count else <int>net.stages[i].activation,
        )
        x, x_row = a, net.stages[i].row
    loss_rows(
        net.loss, values + first, dz, last.row, a, last.row, workspace + job.sums + first, target, net.y.columns, rows,
        last.outputs, scale,
    )
    for r in range(first, first + rows):  # an activation may have hidden a fault: tanh makes 1 of infinity
        values[r] += faults[r]
    if not logits:
        for r in range(rows):
            activation_backward(
                <int>last.activation, dz + r * last.row, dz + r * last.row, a + r * last.row, last.outputs
            )


cdef inline void backpropagate_rows(
    const training* job, const mini_batch* batch, real* workspace, real* packed, ptrdiff_t first, ptrdiff_t rows,
    double scale,
) noexcept nogil:
    """Phase 1 for a block of rows: every A and every dZ, and the rows' losses; NaN where x is not finite."""
    cdef const network* net = &job.net
    cdef ptrdiff_t i
    if rows == 0:  # a piece more than there are rows
        return
    forward_rows(job, batch, workspace, packed, first, rows, scale)
    for i in range(net.count - 1, 0, -1):
        if net.stages[i].propagates:
            stage_backward(
                net.stages + i, net.stages + i - 1, <const real*>net.parameters, workspace, workspace, packed, first,
                rows, batch.size,
            )


cdef inline void apply_gradient(
    const training* job, const update_rule* rule, const real* g, ptrdiff_t at, ptrdiff_t n
) noexcept nogil:
    """Parameters at.. at + n from their gradient, or the gradient kept."""
    cdef real* kept = <real*>job.gradients + at
    cdef ptrdiff_t i
    if rule.optimizer == GRADIENT:
        for i in range(n):
            kept[i] = g[i]
    else:
        update(rule, <real*>job.net.parameters + at, <real*>job.state + at, job.net.parameter_count, g, n)


cdef inline void expect_update(
    upcoming* wanted, const training* job, const update_rule* rule, const stage* s, const real* like,
    ptrdiff_t top, ptrdiff_t bottom, ptrdiff_t left, ptrdiff_t right,
) noexcept nogil:
    """Have what an update of rows top..bottom and columns left..right of a stage's W touches asked for meanwhile."""
    cdef ptrdiff_t at = s.weight + top * s.outputs + left, elements = (bottom - top) * (right - left), i
    wanted.arrays, wanted.runs, wanted.asked, wanted.left = 0, 0, 0, 0
    if rule.optimizer != GRADIENT:
        wanted.arrays = 3 if rule.optimizer == ADAM else 2 if rule.momentum != 0 else 1
    if not worth_fetching(like, wanted.arrays, job.net.parameter_count):
        wanted.arrays = 0
        return
    wanted.updated[0] = <const char*>(<const real*>job.net.parameters + at)
    for i in range(1, wanted.arrays):
        wanted.updated[i] = <const char*>(<const real*>job.state + (i - 1) * job.net.parameter_count + at)
    wanted.runs, wanted.run_distance = bottom - top, s.outputs * <ptrdiff_t>sizeof(real)
    wanted.run = (right - left) * <ptrdiff_t>sizeof(real)
    if right - left == s.outputs:  # the rows follow one another: a run for each register tile
        wanted.runs = panel_count(like, s.outputs) * ceil_div(bottom - top, TILE_ROWS)
        wanted.run = wanted.run_distance = ceil_div(elements * <ptrdiff_t>sizeof(real), wanted.runs)


cdef inline void update_strip(
    const training* job, const update_rule* rule, const stage* s, real* workspace, real* scratch,
    const real* x, ptrdiff_t x_row, const real* dz, ptrdiff_t dz_row, ptrdiff_t batch,
    ptrdiff_t top, ptrdiff_t bottom, ptrdiff_t left, ptrdiff_t right, upcoming* wanted, bint is_last_batch,
) noexcept nogil:
    """Phase 2 for rows top..bottom and columns left..right of a stage's W: dW, the update, and unless this batch is the
    last W^T brought up to date.

    x points at the strip's rows, dz at its columns.  dW of few columns is formed as its transpose, to the same bits.
    """
    cdef const real* weight = <const real*>job.net.parameters + s.weight
    cdef ptrdiff_t columns = right - left, i
    cdef real* turned
    cdef bint one_run = columns == s.outputs  # the strip's rows follow one another in memory: one run, one tail
    expect_update(wanted, job, rule, s, x, top, bottom, left, right)
    if worth_turning(x, bottom - top, columns):
        turned = scratch if columns == 1 else scratch + STRIP_SCRATCH // 2
        dense_weight_gradient(turned, bottom - top, dz, dz_row, x, x_row, batch, columns, bottom - top, wanted)
        if columns > 1:
            transpose(scratch, columns, turned, bottom - top, columns, bottom - top)
    else:
        dense_weight_gradient(scratch, columns, x, x_row, dz, dz_row, batch, bottom - top, columns, wanted)
    if one_run:
        apply_gradient(job, rule, scratch, s.weight + top * s.outputs, (bottom - top) * columns)
    else:
        for i in range(bottom - top):
            apply_gradient(job, rule, scratch + i * columns, s.weight + (top + i) * s.outputs + left, columns)
    if s.propagates and s.transposed_row and rule.optimizer != GRADIENT and not is_last_batch:
        transpose(
            workspace + s.transposed + left * s.transposed_row + top, s.transposed_row,
            weight + top * s.outputs + left, s.outputs, bottom - top, columns,
        )


cdef inline ptrdiff_t first_tile(ptrdiff_t begin, ptrdiff_t tile, ptrdiff_t tiles) noexcept nogil:
    """Number of the tiles of a strip, each ``tile`` long, that start before ``begin``."""
    return min(ceil_div(begin, tile), tiles) if begin > 0 else 0


cdef inline ptrdiff_t gradient_vectors(const network* net, const real* like) noexcept nogil:
    """Length of phase 2: the vectors of every dW, a register tile's rows together counting once."""
    cdef ptrdiff_t total = 0, i
    for i in range(net.count):
        if net.stages[i].kind == DENSE:
            total += ceil_div(net.stages[i].inputs, TILE_ROWS) * ceil_div(net.stages[i].outputs, lanes(like))
    return total


cdef inline int piece_count(ptrdiff_t flops) noexcept nogil:
    """How many pieces so much of phase 2 is cut into."""
    return <int>max(1, min(PIECES, flops // PIECE_FLOPS))


cdef inline void update_parameters(
    const training* job, const update_rule* rule, const mini_batch* batch, const mini_batch* following,
    real* workspace, real* scratch, ptrdiff_t total, ptrdiff_t begin, ptrdiff_t end,
) noexcept nogil:
    """Phase 2 from ``begin`` to ``end`` of its length ``total``: strips of all stages in turn, and after each strip the
    rows of the following batch that fall to it."""
    cdef const network* net = &job.net
    cdef const stage* s
    cdef real* packed = scratch + STRIP_SCRATCH
    cdef const real* x = workspace + batch.input
    cdef const real* dz
    cdef bint rows_are_far = worth_fetching_rows(&net.x)
    cdef upcoming wanted
    cdef ptrdiff_t x_row = job.input_row, passed = 0, i, strips, strip, tiles, tile, length, reached, gathered
    cdef ptrdiff_t first, last, top, bottom, left, right, dz_row
    wanted.source, wanted.order = &net.x, following.order
    wanted.copy_row = job.input_row * <ptrdiff_t>sizeof(real)
    for i in range(net.count):
        s = net.stages + i
        tiles, strips, right = ceil_div(s.inputs, TILE_ROWS), strip_count(x, job.batch_size, s.outputs), 0
        for strip in range(strips if s.kind == DENSE else 0):
            left, right = right, vector_cut(x, s.outputs, strips, strip + 1)
            length = ceil_div(right - left, lanes(x))
            first, last = first_tile(begin - passed, length, tiles), first_tile(end - passed, length, tiles)
            passed += tiles * length
            if first == last:
                continue
            dz, dz_row = workspace + s.delta + left, s.row
            if first == 0:
                sum_rows(scratch, dz, dz_row, batch.size, right - left)
                apply_gradient(job, rule, scratch, s.bias + left, right - left)
            if right - left >= lanes(x) and worth_packing(x, dz_row, last - first):  # else it may be turned
                pack_panels(packed, dz, dz_row, batch.size, right - left)
                dz, dz_row = packed, 0
            tile, bottom = first, cut(s.inputs, tiles, first)
            while tile < last:
                gathered = rows_due(job, following.size, passed - (tiles - tile) * length, total)
                tile = min(tile + strip_tiles(right - left), last)
                top, bottom = bottom, cut(s.inputs, tiles, tile)
                reached = rows_due(job, following.size, passed - (tiles - tile) * length, total)
                wanted.first, wanted.last = gathered, reached if rows_are_far else gathered
                wanted.copy = <const char*>(workspace + following.input + gathered * job.input_row)
                update_strip(
                    job, rule, s, workspace, scratch, x + top, x_row, dz, dz_row, batch.size, top, bottom, left, right,
                    &wanted, following.size == 0,
                )
                gather_batch(job, following, workspace, gathered, reached)
        x, x_row = workspace + s.output, s.row


cdef inline void transpose_weights(const training* job, real* workspace, int thread, int team) noexcept nogil:
    """W^T of every stage that propagates: users write to the weights whenever native code is not running."""
    cdef const stage* s
    cdef ptrdiff_t i, first, last
    for i in range(job.net.count):
        s = job.net.stages + i
        if s.propagates and s.transposed_row:
            first, last = cut(s.inputs, team, thread), cut(s.inputs, team, thread + 1)
            transpose(
                workspace + s.transposed + first, s.transposed_row,
                <const real*>job.net.parameters + s.weight + first * s.outputs, s.outputs, last - first, s.outputs,
            )


cdef inline bint descends_row_by_row(const training* job, int team) noexcept nogil:
    """Whether every batch is one row, and the update plain gradient descent: then one pass over W does all of it."""
    return team == 1 and job.batch_size == 1 and job.optimizer == SGD and job.settings[2] == 0


cdef inline void descend_row(
    const training* job, const mini_batch* batch, real* workspace, real rate
) noexcept nogil:
    """The way back of a batch of one row, each layer's dX and the update of its parameters together."""
    cdef const stage* s
    cdef const real* x
    cdef const real* dz
    cdef real* dx
    cdef real* parameters = <real*>job.net.parameters
    cdef real one = 1
    cdef ptrdiff_t i
    for i in range(job.net.count - 1, -1, -1):
        s = job.net.stages + i
        x = workspace + (s - 1).output if i else workspace + batch.input
        dx = workspace + (s - 1).delta if i and s.propagates else NULL
        dz = workspace + s.delta
        if s.kind == DENSE:
            descend(dx, parameters + s.weight, x, dz, rate, s.inputs, s.outputs)
            descend(<real*>NULL, parameters + s.bias, &one, dz, rate, 1, s.outputs)
            dz = dx
        if dx != NULL:
            activation_backward(<int>(s - 1).activation, dx, dz, x, s.inputs)


cdef inline ptrdiff_t train_row_by_row(const training* job, real* workspace) noexcept nogil:
    """Every batch of the call where each is one row and one thread does all; returns the batches done."""
    cdef const network* net = &job.net
    cdef double scale = loss_scale(net.loss, job.summed, 1, net.stages[net.count - 1].outputs)
    cdef double* loss = <double*>(workspace + job.values)
    cdef mini_batch batch
    cdef ptrdiff_t number
    for number in range(job.rows):
        batch = mini_batch_at(job, number)
        gather_batch(job, &batch, workspace, 0, 1)
        forward_rows(job, &batch, workspace, workspace + job.scratch + STRIP_SCRATCH, 0, 1, scale)
        job.losses[number] = scale * sum_in_order(loss, 1)
        if not isfinite(job.losses[number]):
            return number
        descend_row(job, &batch, workspace, <real>job.settings[1])
    return job.rows


cdef inline ptrdiff_t train_batches(
    const training* job, real* workspace, team_gate* gate, team_watch* watch, int thread, int team
) noexcept nogil:
    """Every batch of the call, as one thread of the team.  Returns the batches done; all threads return the same.

    The thread with a watch has the team break up once it is kept waiting for most of the time.
    """
    cdef const network* net = &job.net
    cdef ptrdiff_t outputs = net.stages[net.count - 1].outputs, batches = ceil_div(job.rows, job.batch_size), number
    cdef ptrdiff_t length = gradient_vectors(net, workspace), pieces
    cdef double scale, loss
    cdef update_rule rule
    cdef mini_batch batch, following = mini_batch_at(job, 0)
    cdef real* scratch = workspace + job.scratch + thread * job.scratch_row
    cdef int queues = team_queues(team), blocks, shares, piece
    if descends_row_by_row(job, team):
        return train_row_by_row(job, workspace)
    transpose_weights(job, workspace, thread, team)
    gather_batch(
        job, &following, workspace, cut(following.size, team, thread), cut(following.size, team, thread + 1)
    )
    team_meet(gate, team, watch)
    for number in range(batches):
        batch, following = following, mini_batch_at(job, number + 1)
        scale = loss_scale(net.loss, job.summed, batch.size, outputs)
        blocks = <int>ceil_div(batch.size, queues * job.block)
        pieces = queues * blocks
        piece = team_take(gate, thread, team, blocks)
        while piece >= 0:
            backpropagate_rows(
                job, &batch, workspace, scratch + STRIP_SCRATCH, cut(batch.size, pieces, piece),
                cut(batch.size, pieces, piece + 1) - cut(batch.size, pieces, piece), scale,
            )
            piece = team_take(gate, thread, team, blocks)
        team_meet(gate, team, watch)
        # by every thread: all must decide alike
        loss = scale * sum_in_order(<double*>(workspace + job.values), batch.size)
        if thread == 0:
            job.losses[number] = loss
        if not isfinite(loss):
            return number
        rule = rule_at(job.optimizer, job.settings, job.step + number + 1)
        shares = piece_count(2 * TILE_ROWS * lanes(workspace) * length * batch.size // queues) if team > 1 else 1
        pieces = queues * shares
        piece = team_take(gate, thread, team, shares)
        while piece >= 0:
            update_parameters(
                job, &rule, &batch, &following, workspace, scratch, length, cut(length, pieces, piece),
                cut(length, pieces, piece + 1),
            )
            piece = team_take(gate, thread, team, shares)
        if watch != NULL and watch.kept_waiting:
            team_break_up(gate, number)
        team_meet(gate, team, watch)
        if team_breaks_up(gate, number):
            return number + 1
    return batches
