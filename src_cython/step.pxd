"""The training step under the tile schedule, and the forward pass of evaluation: what one thread of a team does.

A batch is two phases with a meeting of all threads after each.  In the first a thread takes its own rows through
gather, forward, loss and the whole backward chain, a block of rows at a time, and meets nobody.  In the second it takes
its own strips of the parameters, forms each strip of dW = X^T dZ over the whole batch and updates the parameters with
it at once.  Which thread does what changes no sum, so the bits do not depend on the team.
"""

from libc.math cimport NAN, isfinite
from libc.stdint cimport int64_t

from activations cimport (
    IDENTITY, RELU, SOFTMAX, activation_backward, activation_forward, is_elementwise, slope_epilogue,
)
from dense cimport (
    PACKED_TILES, STRIP_COLUMNS, ceil_div, cut, dense_bias_gradient, dense_forward, dense_input_gradient,
    dense_weight_gradient, pack_panels, strip_count, strip_tiles, vector_cut, worth_fetching, worth_packing,
)
from losses cimport loss_rows, loss_scale, sum_in_order, takes_logits
from optimizers cimport ADAM, GRADIENT, rule_at, update, update_rule
from real cimport (
    TILE_RELU, TILE_ROWS, TILE_STORE, convert_rows, is_one_run, lanes, padded, panel_columns, real, table,
    transpose,
)
from rows cimport gather_rows
from team cimport team_gate, team_meet

cdef enum stage_kind:
    ELEMENTWISE = 0  # an activation without a dense layer before it
    DENSE = 1

cdef struct stage:
    # One dense layer with the activation after it, or an activation alone. Offsets and widths in elements;
    # every field is int64 so that a row of an integer array is one stage. The order is STAGE_FIELDS.
    int64_t kind
    int64_t activation
    int64_t inputs
    int64_t outputs
    int64_t weight          # in the parameters: (inputs, outputs)
    int64_t bias            # in the parameters: (outputs)
    int64_t output          # in the workspace: A (batch, row)
    int64_t delta           # in the workspace: dZ (batch, row)
    int64_t row
    int64_t propagates      # 1 where a layer below needs dX
    int64_t transposed      # in the workspace: W^T (outputs, transposed_row), where propagates is 1
    int64_t transposed_row

cdef struct network:
    const stage* stages
    ptrdiff_t count
    void* parameters
    ptrdiff_t parameter_count
    int loss
    table x
    table y

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
    # In the workspace: the batch, its targets, a loss (float64) and a sum of exponentials a row; and a thread's own:
    # a strip of dW, and what is packed.
    void* workspace
    ptrdiff_t input
    ptrdiff_t input_row
    ptrdiff_t target
    ptrdiff_t values
    ptrdiff_t sums
    ptrdiff_t scratch
    ptrdiff_t scratch_row
    double* losses

cdef enum:
    STRIP_SCRATCH = TILE_ROWS * STRIP_COLUMNS  # elements of a strip of dW


cdef inline void stage_forward(
    const stage* s, const real* parameters, real* a, ptrdiff_t a_row, const real* x, ptrdiff_t x_row,
    real* packed, ptrdiff_t rows, int activation,
) noexcept nogil:
    """A = f(X W + b), or A = f(X), for a block of rows; ``activation`` stands in for the stage's own."""
    cdef ptrdiff_t r
    if s.kind == DENSE:
        dense_forward(
            a, a_row, x, x_row, parameters + s.weight, parameters + s.bias, packed, rows, s.inputs,
            s.outputs, TILE_RELU if activation == RELU else TILE_STORE,
        )
        if activation == RELU or activation == IDENTITY:
            return
        x, x_row = a, a_row
    if x_row == a_row and is_elementwise(activation) and is_one_run(a_row, s.outputs):
        activation_forward(activation, a, x, (rows - 1) * a_row + s.outputs)  # the padding in between too
        return
    for r in range(rows):
        activation_forward(activation, a + r * a_row, x + r * x_row, s.outputs)


cdef inline void stage_backward(
    const stage* s, const stage* below, const real* workspace, real* dx, real* packed, ptrdiff_t first, ptrdiff_t rows
) noexcept nogil:
    """dZ of the stage below from dZ of this one, for rows first.. of the batch."""
    cdef const real* y = workspace + below.output + first * below.row
    cdef const real* dz = workspace + s.delta + first * s.row
    cdef ptrdiff_t r
    dx += below.delta + first * below.row
    if s.kind == DENSE:
        dense_input_gradient(
            dx, below.row, dz, s.row, workspace + s.transposed, s.transposed_row, y, below.row,
            packed, rows, s.inputs, s.outputs, slope_epilogue(<int>below.activation),
        )
        if below.activation != SOFTMAX:
            return
        dz = dx
    for r in range(rows):
        activation_backward(<int>below.activation, dx + r * below.row, dz + r * below.row, y + r * below.row, s.inputs)


cdef inline void backpropagate_rows(
    const training* job, const int64_t* order, real* workspace, real* packed, ptrdiff_t first, ptrdiff_t rows,
    double scale,
) noexcept nogil:
    """Phase 1 for a block of rows: every A and every dZ, and the rows' losses; NaN where x is not finite."""
    cdef const network* net = &job.net
    cdef const stage* last = net.stages + net.count - 1
    cdef real* x = workspace + job.input + first * job.input_row
    cdef real* target = workspace + job.target + first * net.y.columns
    cdef real* a = workspace
    cdef real* dz = workspace + last.delta + first * last.row
    cdef ptrdiff_t x_row = job.input_row, i, r
    cdef bint logits = takes_logits(net.loss), finite
    finite = gather_rows(x, x_row, &net.x, order + first, 0, rows)
    convert_rows(target, net.y.columns, &net.y, order + first, 0, rows)
    for i in range(net.count):
        a = workspace + net.stages[i].output + first * net.stages[i].row
        stage_forward(
            net.stages + i, <const real*>net.parameters, a, net.stages[i].row, x, x_row, packed, rows,
            IDENTITY if logits and i + 1 == net.count else <int>net.stages[i].activation,
        )
        x, x_row = a, net.stages[i].row
    loss_rows(
        net.loss, <double*>(workspace + job.values) + first, dz, last.row, a, last.row, workspace + job.sums + first,
        target, net.y.columns, rows, last.outputs, scale,
    )
    if not finite:  # an activation may have hidden it: tanh makes 1 of infinity
        (<double*>(workspace + job.values))[first] = NAN
    if not logits:
        for r in range(rows):
            activation_backward(
                <int>last.activation, dz + r * last.row, dz + r * last.row, a + r * last.row, last.outputs
            )
    for i in range(net.count - 1, 0, -1):
        if net.stages[i].propagates:
            stage_backward(net.stages + i, net.stages + i - 1, workspace, workspace, packed, first, rows)


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


cdef inline void update_strip(
    const training* job, const update_rule* rule, const stage* s, real* workspace, real* scratch,
    const real* x, ptrdiff_t x_row, const real* dz, ptrdiff_t dz_row, ptrdiff_t batch,
    ptrdiff_t top, ptrdiff_t bottom, ptrdiff_t left, ptrdiff_t right,
) noexcept nogil:
    """Phase 2 for rows top..bottom and columns left..right of a stage's W: dW, the update, and W^T brought up to date.

    x points at the strip's rows, dz at its columns.
    """
    cdef const real* weight = <const real*>job.net.parameters + s.weight
    cdef const real* state = <const real*>job.state + s.weight + top * s.outputs
    cdef const char* ahead[3]
    cdef const char** wanted = NULL
    cdef ptrdiff_t columns = right - left, i
    cdef bint one_run = columns == s.outputs  # the strip's rows follow one another in memory: one run, one tail
    if one_run and rule.optimizer == ADAM and worth_fetching(x, (bottom - top) * columns, job.net.parameter_count):
        ahead[0] = <const char*>(weight + top * s.outputs)
        ahead[1], ahead[2] = <const char*>state, <const char*>(state + job.net.parameter_count)
        wanted = ahead
    dense_weight_gradient(scratch, columns, x, x_row, dz, dz_row, batch, bottom - top, columns, wanted)
    if one_run:
        apply_gradient(job, rule, scratch, s.weight + top * s.outputs, (bottom - top) * columns)
    else:
        for i in range(bottom - top):
            apply_gradient(job, rule, scratch + i * columns, s.weight + (top + i) * s.outputs + left, columns)
    if s.propagates and rule.optimizer != GRADIENT:
        transpose(
            workspace + s.transposed + left * s.transposed_row + top, s.transposed_row,
            weight + top * s.outputs + left, s.outputs, bottom - top, columns,
        )


cdef inline ptrdiff_t first_tile(ptrdiff_t begin, ptrdiff_t tile, ptrdiff_t tiles) noexcept nogil:
    """Number of the tiles of a strip, each ``tile`` long, that start before ``begin``."""
    return min(ceil_div(begin, tile), tiles) if begin > 0 else 0


cdef inline void update_parameters(
    const training* job, const update_rule* rule, real* workspace, ptrdiff_t batch, int thread, int team
) noexcept nogil:
    """Phase 2: this thread's share of all strips of all stages, counted through in vectors of dW."""
    cdef const network* net = &job.net
    cdef const stage* s
    cdef real* scratch = workspace + job.scratch + thread * job.scratch_row
    cdef real* packed = scratch + STRIP_SCRATCH
    cdef const real* x = workspace + job.input
    cdef const real* dz
    cdef ptrdiff_t x_row = job.input_row, total = 0, begin, end, i, strips, strip, tiles, tile, length
    cdef ptrdiff_t first, last, top, bottom, left, right, dz_row
    for i in range(net.count):
        if net.stages[i].kind == DENSE:
            total += ceil_div(net.stages[i].inputs, TILE_ROWS) * ceil_div(net.stages[i].outputs, lanes(x))
    begin, end = cut(total, team, thread), cut(total, team, thread + 1)  # of what is left to count
    for i in range(net.count):
        s = net.stages + i
        tiles, strips, right = ceil_div(s.inputs, TILE_ROWS), strip_count(x, job.batch_size, s.outputs), 0
        for strip in range(strips if s.kind == DENSE else 0):
            left, right = right, vector_cut(x, s.outputs, strips, strip + 1)
            length = ceil_div(right - left, lanes(x))
            first, last = first_tile(begin, length, tiles), first_tile(end, length, tiles)
            begin, end = begin - tiles * length, end - tiles * length
            if first == last:
                continue
            dz, dz_row = workspace + s.delta + left, s.row
            if first == 0:
                dense_bias_gradient(scratch, dz, dz_row, batch, right - left)
                apply_gradient(job, rule, scratch, s.bias + left, right - left)
            if worth_packing(x, dz_row, last - first):
                pack_panels(packed, dz, dz_row, batch, right - left)
                dz, dz_row = packed, 0
            tile, bottom = first, cut(s.inputs, tiles, first)
            while tile < last:
                tile = min(tile + strip_tiles(right - left), last)
                top, bottom = bottom, cut(s.inputs, tiles, tile)
                update_strip(
                    job, rule, s, workspace, scratch, x + top, x_row, dz, dz_row, batch, top, bottom, left, right
                )
        x, x_row = workspace + s.output, s.row


cdef inline ptrdiff_t packing_size(const network* net, const real* like, ptrdiff_t batch) noexcept nogil:
    """Elements a thread needs for what is packed: the largest panel of a forward or backward pass, or strip of dZ."""
    cdef const stage* s
    cdef ptrdiff_t size = 0, i
    for i in range(net.count):
        s = net.stages + i
        if s.kind == DENSE:
            if worth_packing(like, s.outputs, PACKED_TILES):
                size = max(size, (s.inputs + 1) * panel_columns(like))
            if s.propagates and worth_packing(like, s.transposed_row, PACKED_TILES):
                size = max(size, (s.outputs + 1) * panel_columns(like))
            if worth_packing(like, s.row, PACKED_TILES):
                size = max(size, batch * (ceil_div(s.outputs, strip_count(like, batch, s.outputs)) + 2 * lanes(like)))
    return padded(size)


cdef inline void transpose_weights(const training* job, real* workspace, int thread, int team) noexcept nogil:
    """W^T of every stage that propagates: users write to the weights whenever native code is not running."""
    cdef const stage* s
    cdef ptrdiff_t i, first, last
    for i in range(job.net.count):
        s = job.net.stages + i
        if s.propagates and s.kind == DENSE:
            first, last = cut(s.inputs, team, thread), cut(s.inputs, team, thread + 1)
            transpose(
                workspace + s.transposed + first, s.transposed_row,
                <const real*>job.net.parameters + s.weight + first * s.outputs, s.outputs, last - first, s.outputs,
            )


cdef inline ptrdiff_t train_batches(
    const training* job, real* workspace, team_gate* gate, int thread, int team
) noexcept nogil:
    """Every batch of the call, as one thread of the team.  Returns the batches done; all threads return the same."""
    cdef const network* net = &job.net
    cdef ptrdiff_t outputs = net.stages[net.count - 1].outputs
    cdef ptrdiff_t batches = ceil_div(job.rows, job.batch_size), batch, start, size, first, last, blocks, i
    cdef double scale, loss
    cdef update_rule rule
    cdef real* packed = workspace + job.scratch + thread * job.scratch_row + STRIP_SCRATCH
    transpose_weights(job, workspace, thread, team)
    team_meet(gate, team)
    for batch in range(batches):
        start = batch * job.batch_size
        size = min(job.batch_size, job.rows - start)
        scale = loss_scale(net.loss, job.summed, size, outputs)
        first, last = cut(size, team, thread), cut(size, team, thread + 1)
        blocks = ceil_div(last - first, job.block)
        for i in range(blocks):
            backpropagate_rows(
                job, job.order + start, workspace, packed, first + cut(last - first, blocks, i),
                cut(last - first, blocks, i + 1) - cut(last - first, blocks, i), scale,
            )
        team_meet(gate, team)
        loss = scale * sum_in_order(<double*>(workspace + job.values), size)  # by every thread: all must decide alike
        if thread == 0:
            job.losses[batch] = loss
        if not isfinite(loss):
            return batch
        rule = rule_at(job.optimizer, job.settings, job.step + batch + 1)
        update_parameters(job, &rule, workspace, size, thread, team)
        team_meet(gate, team)
    return batches


cdef inline bint evaluate_rows(
    const network* net, real* output, double* values, real* scratch, real* packed, ptrdiff_t width, ptrdiff_t block,
    ptrdiff_t first, ptrdiff_t rows, ptrdiff_t offset,
) noexcept nogil:
    """output (rows, outputs) for rows first.. of x, and unless values is NULL the rows' losses.

    Returns whether these rows of x are finite.  scratch holds two blocks of (block, width), the targets of a block and
    a sum a row; x is read from row ``offset``.
    """
    cdef const stage* last = net.stages + net.count - 1
    cdef bint logits = takes_logits(net.loss)
    cdef real* x
    cdef real* a
    cdef real* z
    cdef real* target = scratch + 2 * block * width
    cdef real* sums = target + block * net.y.columns
    cdef ptrdiff_t end = first + rows, x_row, a_row, n, i, r
    cdef bint finite = True
    while first < end:
        n = min(block, end - first)
        x, x_row, a = scratch, padded(net.x.columns), scratch + block * width
        finite &= gather_rows(x, x_row, &net.x, <const int64_t*>NULL, offset + first, n)
        for i in range(net.count):
            a_row = padded(net.stages[i].outputs)
            stage_forward(
                net.stages + i, <const real*>net.parameters, a, a_row, x, x_row, packed, n,
                IDENTITY if i + 1 == net.count else <int>net.stages[i].activation,
            )
            x, x_row, a = a, a_row, x
        for r in range(n):
            activation_forward(
                <int>last.activation, output + (first + r) * last.outputs, x + r * x_row, last.outputs
            )
        if values != NULL:
            convert_rows(target, net.y.columns, &net.y, <const int64_t*>NULL, offset + first, n)
            z = x
            if not logits:
                z, x_row = output + first * last.outputs, last.outputs
            loss_rows(
                net.loss, values + first, <real*>NULL, 0, z, x_row, sums, target, net.y.columns, n, last.outputs, 1
            )
        first += n
    return finite
