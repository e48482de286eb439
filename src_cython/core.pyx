"""The door of the core: memoryviews in, status out, one region without the GIL per call."""

from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_STRIDED_RO, PyBuffer_Release, PyObject_GetBuffer,
)
from cython.parallel cimport parallel
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from activations cimport EXP, IDENTITY, RELU, SIGMOID, SOFTMAX, TANH
from activations cimport activation_backward as activation_backward_row
from activations cimport activation_forward as activation_forward_row
from dense cimport ceil_div, cut, dense_backward_share
from dense cimport dense_forward as dense_forward_rows
from losses cimport BCE, CROSS_ENTROPY, MSE, sum_in_order
from optimizers cimport ADAM, GRADIENT, SGD
from real cimport (
    SIMD_NAME, TILE_ROWS, TILE_STORE, TILE_VECTORS, convert_rows, f32_LANES, f64_LANES, real, simd_enter, simd_leave, table,
)
from real cimport multiply_add as multiply_add_thread
from rows cimport find_nonfinite_row, shuffle_rows
from step cimport DENSE, ELEMENTWISE, evaluate_rows, network, scratch_size, stage, train_batches, training
from team cimport openmp_version, team_gate, team_gate_init, team_rank, team_size

import sys

cdef extern from *:
    """
    #if defined(__clang__)
    #define COMPILER "clang " __clang_version__
    #elif defined(__GNUC__)
    #define COMPILER "gcc " __VERSION__
    #elif defined(_MSC_VER)
    #define COMPILER "MSVC"
    #else
    #define COMPILER "unknown"
    #endif
    #ifndef FASTBP_FLAGS
    #define FASTBP_FLAGS ""
    #endif
    """
    const char* COMPILER
    const char* FASTBP_FLAGS

ACTIVATIONS = {
    "identity": IDENTITY, "relu": RELU, "sigmoid": SIGMOID, "tanh": TANH, "softmax": SOFTMAX, "exp": EXP,
}
LOSSES = {"mse": MSE, "bce": BCE, "cross_entropy": CROSS_ENTROPY}
OPTIMIZERS = {"gradient": GRADIENT, "sgd": SGD, "adam": ADAM}
STAGE_KINDS = {"elementwise": ELEMENTWISE, "dense": DENSE}
STAGE_FIELDS = (
    "kind", "activation", "inputs", "outputs", "weight", "bias", "output", "delta", "row", "propagates",
    "transposed", "transposed_row",
)
LAYOUT_FIELDS = ("block", "input", "input_row", "target", "values", "sums", "scratch", "scratch_row")
cdef int LAYOUT_SIZE = 8
BUILD = {
    "simd": (<bytes>SIMD_NAME).decode(),
    "lanes": {"float32": f32_LANES, "float64": f64_LANES},
    "tile": (TILE_ROWS, TILE_VECTORS),
    "compiler": (<bytes>COMPILER).decode(),
    "flags": (<bytes>FASTBP_FLAGS).decode(),
    "openmp": openmp_version(),
}

# struct-module letters of the numbers that may come in, in the order of convert.h; "l" and "L" are the C long.
cdef dict NUMBER_FORMATS = {
    "?": 0, "b": 1, "B": 2, "h": 3, "H": 4, "i": 5, "I": 6, "q": 7, "Q": 8, "e": 9, "f": 10, "d": 11,
    "l": 7 if sizeof(long) == 8 else 5, "L": 8 if sizeof(long) == 8 else 6,
}
cdef str OTHER_ORDER = ">!" if sys.byteorder == "little" else "<"


cdef int open_table(object array, Py_buffer* view, table* source) except -1:
    """Describe a user's array of rank one or two; the caller releases the view."""
    cdef str form
    PyObject_GetBuffer(array, view, PyBUF_STRIDED_RO | PyBUF_FORMAT)
    form = view.format.decode()
    source.swapped = form[0] in OTHER_ORDER
    form = form.lstrip("@=<>!^")
    if form not in NUMBER_FORMATS or not 1 <= view.ndim <= 2:
        PyBuffer_Release(view)
        raise TypeError(f"the core takes arrays of numbers of rank 1 or 2, not of format {form!r}, rank {view.ndim}")
    source.data = <const char*>view.buf
    source.number = NUMBER_FORMATS[form]
    source.size = view.itemsize
    source.rows = view.shape[0]
    source.row_stride = view.strides[0]
    source.columns = view.shape[1] if view.ndim == 2 else 1
    source.column_stride = view.strides[1] if view.ndim == 2 else view.itemsize
    return 0


cdef int open_network(
    network* net, const int64_t[:, ::1] stages, real[::1] parameters, int loss
) except -1:
    if stages.shape[0] < 1 or stages.shape[1] * sizeof(int64_t) != sizeof(stage):
        raise ValueError(f"stages has {stages.shape[1]} fields, expected {len(STAGE_FIELDS)}")
    memset(net, 0, sizeof(network))
    net.stages = <const stage*>&stages[0, 0]
    net.count = stages.shape[0]
    net.parameters = &parameters[0]
    net.parameter_count = parameters.shape[0]
    net.loss = loss
    return 0


def scratch(const int64_t[:, ::1] stages, real[::1] any, Py_ssize_t rows):
    """Elements of the dtype of ``any`` that each thread needs of its own to run so many rows together."""
    cdef network net
    open_network(&net, stages, any, 0)
    return scratch_size(&net, &any[0], rows)


cdef void train_member(const training* job, real* workspace, team_gate* gate, ptrdiff_t* done) noexcept nogil:
    cdef uint64_t mode = simd_enter()
    cdef int thread = team_rank()
    cdef ptrdiff_t batches = train_batches(job, workspace, gate, thread, team_size())
    if thread == 0:
        done[0] = batches
    simd_leave(mode)


def train(
    const int64_t[:, ::1] stages, const int64_t[::1] layout, real[::1] parameters, real[::1] gradients,
    real[:, ::1] state, int loss, int optimizer, const double[::1] settings, x, y, const int64_t[::1] order,
    Py_ssize_t batch_size, int64_t step, real[::1] workspace, double[::1] losses, int threads,
):
    """Train on the rows that order names, batch by batch.

    Returns the number of batches done: fewer than there are where a batch's loss was not finite.  That batch changed
    nothing, and losses holds its loss.
    """
    cdef training job
    cdef team_gate gate
    cdef Py_buffer x_view, y_view
    cdef ptrdiff_t done = 0
    if order.shape[0] < 1 or batch_size < 1 or threads < 1 or layout.shape[0] != LAYOUT_SIZE:
        raise ValueError("order, batch_size, threads and layout must not be empty")
    if losses.shape[0] < ceil_div(order.shape[0], batch_size):
        raise ValueError(f"losses has {losses.shape[0]} entries, too few for {order.shape[0]} rows")
    open_network(&job.net, stages, parameters, loss)
    job.gradients = &gradients[0] if gradients.shape[0] else NULL
    job.state = &state[0, 0] if state.shape[0] else NULL
    job.optimizer, job.settings, job.summed = optimizer, &settings[0], settings[0] != 0
    job.order, job.rows, job.batch_size, job.step = &order[0], order.shape[0], batch_size, step
    job.block, job.input, job.input_row, job.target = layout[0], layout[1], layout[2], layout[3]
    job.values, job.sums, job.scratch, job.scratch_row = layout[4], layout[5], layout[6], layout[7]
    job.losses = &losses[0]
    if job.scratch_row < scratch_size(&job.net, &workspace[0], batch_size) or job.scratch + threads * job.scratch_row > workspace.shape[0]:
        raise ValueError(f"workspace has {workspace.shape[0]} entries, too few for {threads} threads")
    open_table(x, &x_view, &job.net.x)
    try:
        open_table(y, &y_view, &job.net.y)
    except BaseException:
        PyBuffer_Release(&x_view)
        raise
    team_gate_init(&gate)
    with nogil:
        if threads == 1:
            train_member(&job, &workspace[0], &gate, &done)
        else:
            with parallel(num_threads=threads):
                train_member(&job, &workspace[0], &gate, &done)
    PyBuffer_Release(&y_view)
    PyBuffer_Release(&x_view)
    return done


cdef void evaluate_member(
    const network* net, real* output, real* values, real* workspace, ptrdiff_t share, ptrdiff_t packed,
    ptrdiff_t width, ptrdiff_t block, ptrdiff_t first, ptrdiff_t rows,
) noexcept nogil:
    cdef uint64_t mode = simd_enter()
    cdef int thread = team_rank(), team = team_size()
    cdef ptrdiff_t begin = cut(rows, team, thread), end = cut(rows, team, thread + 1)
    cdef real* blocks = workspace + thread * share
    evaluate_rows(net, output, values, blocks, blocks + share - packed, width, block, begin, end - begin, first)
    simd_leave(mode)


def evaluate(
    const int64_t[:, ::1] stages, real[::1] parameters, int loss, x, y, Py_ssize_t first, real[:, ::1] output,
    real[::1] workspace, Py_ssize_t width, Py_ssize_t block, Py_ssize_t packed, int threads,
):
    """output (rows, outputs) = the network's output for rows first.. of x; returns the sum of their losses.

    y is None where no loss is asked for: then 0.  workspace holds, for each thread, two blocks of rows of ``width``
    elements, their targets, a sum a row and ``packed`` elements, as many as `scratch` says, and behind all a loss a row.
    """
    cdef network net
    cdef Py_buffer x_view, y_view
    cdef ptrdiff_t rows = output.shape[0], share
    cdef real* values = NULL
    cdef double total = 0
    cdef bint scored = y is not None
    open_network(&net, stages, parameters, loss)
    if rows < 1 or output.shape[1] != net.stages[net.count - 1].outputs or threads < 1 or block < 1 or (
        packed < scratch_size(&net, &workspace[0], block)
    ):
        raise ValueError(f"output is {output.shape[0]} x {output.shape[1]}, which does not fit the network")
    open_table(x, &x_view, &net.x)
    try:
        if net.x.rows < first + rows or net.x.columns != net.stages[0].inputs:
            raise ValueError(f"x is {net.x.rows} x {net.x.columns}, which does not fit rows {first}..{first + rows}")
        if scored:
            open_table(y, &y_view, &net.y)
        share = block * (2 * width + net.y.columns + 1) + packed
        if threads * share + scored * rows > workspace.shape[0]:
            if scored:
                PyBuffer_Release(&y_view)
            raise ValueError(f"workspace has {workspace.shape[0]} entries, too few for {threads} threads")
    except BaseException:
        PyBuffer_Release(&x_view)
        raise
    if scored:
        values = &workspace[threads * share]
    with nogil:
        if threads == 1:
            evaluate_member(&net, &output[0, 0], values, &workspace[0], share, packed, width, block, first, rows)
        else:
            with parallel(num_threads=threads):
                evaluate_member(&net, &output[0, 0], values, &workspace[0], share, packed, width, block, first, rows)
        if scored:
            total = sum_in_order(values, rows)
    if scored:
        PyBuffer_Release(&y_view)
    PyBuffer_Release(&x_view)
    return total


def dense_forward(
    const real[:, ::1] x, const real[:, ::1] weight, const real[::1] bias, real[:, ::1] z, int threads,
):
    """z = x @ weight + bias."""
    cdef ptrdiff_t rows = x.shape[0], inputs = weight.shape[0], outputs = weight.shape[1]
    if x.shape[1] != inputs or bias.shape[0] != outputs or z.shape[0] != rows or z.shape[1] != outputs:
        raise ValueError("x, weight, bias and z do not fit each other")
    with nogil, parallel(num_threads=threads):
        dense_forward_member(&z[0, 0], &x[0, 0], &weight[0, 0], &bias[0], rows, inputs, outputs)


cdef void dense_forward_member(
    real* z, const real* x, const real* weight, const real* bias, ptrdiff_t rows, ptrdiff_t inputs, ptrdiff_t outputs
) noexcept nogil:
    cdef uint64_t mode = simd_enter()
    cdef ptrdiff_t first = cut(rows, team_size(), team_rank()), last = cut(rows, team_size(), team_rank() + 1)
    dense_forward_rows(
        z + first * outputs, outputs, x + first * inputs, inputs, weight, bias, <real*>NULL, last - first, inputs, outputs,
        TILE_STORE,
    )
    simd_leave(mode)


def dense_backward(
    const real[:, ::1] x, const real[:, ::1] weight, const real[:, ::1] dz, real[:, ::1] dx, real[:, ::1] dweight,
    real[::1] dbias, real[::1] transposed, int threads,
):
    """dx = dz @ weight.T, dweight = x.T @ dz, dbias = dz.sum(0); an empty dx is not formed."""
    cdef ptrdiff_t rows = x.shape[0], inputs = weight.shape[0], outputs = weight.shape[1]
    cdef ptrdiff_t transposed_row = ceil_div(inputs, 16) * 16
    cdef real* dx_start = NULL
    cdef team_gate gate
    if x.shape[1] != inputs or dz.shape[0] != rows or dz.shape[1] != outputs or dbias.shape[0] != outputs or (
        dweight.shape[0] != inputs or dweight.shape[1] != outputs
    ):
        raise ValueError("x, weight, dz, dweight and dbias do not fit each other")
    if dx.shape[0]:
        if dx.shape[0] != rows or dx.shape[1] != inputs or transposed.shape[0] < outputs * transposed_row:
            raise ValueError("dx or transposed does not fit x and weight")
        dx_start = &dx[0, 0]
    team_gate_init(&gate)
    with nogil, parallel(num_threads=threads):
        dense_backward_member(
            &x[0, 0], &weight[0, 0], &dz[0, 0], dx_start, &dweight[0, 0], &dbias[0], &transposed[0] if dx_start else NULL,
            transposed_row, rows, inputs, outputs, &gate,
        )


cdef void dense_backward_member(
    const real* x, const real* weight, const real* dz, real* dx, real* dweight, real* dbias, real* transposed,
    ptrdiff_t transposed_row, ptrdiff_t rows, ptrdiff_t inputs, ptrdiff_t outputs, team_gate* gate,
) noexcept nogil:
    cdef uint64_t mode = simd_enter()
    dense_backward_share(
        x, weight, dz, dx, dweight, dbias, transposed, transposed_row, rows, inputs, outputs, gate, team_rank(),
        team_size(),
    )
    simd_leave(mode)


def activation_forward(int activation, const real[:, ::1] z, real[:, ::1] a, int threads):
    """a = f(z) row by row; a may be z."""
    cdef ptrdiff_t rows = z.shape[0], columns = z.shape[1]
    if a.shape[0] != rows or a.shape[1] != columns:
        raise ValueError("z and a do not fit each other")
    with nogil, parallel(num_threads=threads):
        activation_forward_member(activation, &a[0, 0], &z[0, 0], rows, columns)


cdef void activation_forward_member(
    int activation, real* a, const real* z, ptrdiff_t rows, ptrdiff_t columns
) noexcept nogil:
    cdef uint64_t mode = simd_enter()
    cdef ptrdiff_t r
    for r in range(cut(rows, team_size(), team_rank()), cut(rows, team_size(), team_rank() + 1)):
        activation_forward_row(activation, a + r * columns, z + r * columns, columns)
    simd_leave(mode)


def activation_backward(int activation, const real[:, ::1] a, const real[:, ::1] da, real[:, ::1] dz, int threads):
    """dz = da * f'(z), from the output a, row by row; dz may be da."""
    cdef ptrdiff_t rows = a.shape[0], columns = a.shape[1]
    if da.shape[0] != rows or da.shape[1] != columns or dz.shape[0] != rows or dz.shape[1] != columns:
        raise ValueError("a, da and dz do not fit each other")
    with nogil, parallel(num_threads=threads):
        activation_backward_member(activation, &dz[0, 0], &da[0, 0], &a[0, 0], rows, columns)


cdef void activation_backward_member(
    int activation, real* dz, const real* da, const real* a, ptrdiff_t rows, ptrdiff_t columns
) noexcept nogil:
    cdef uint64_t mode = simd_enter()
    cdef ptrdiff_t r
    for r in range(cut(rows, team_size(), team_rank()), cut(rows, team_size(), team_rank() + 1)):
        activation_backward_row(activation, dz + r * columns, da + r * columns, a + r * columns, columns)
    simd_leave(mode)


def find_nonfinite(x, real[::1] scratch):
    """Flat index of the first entry of x that is not finite once converted, or -1; scratch holds a row or more."""
    cdef Py_buffer view
    cdef table source
    cdef ptrdiff_t found = -1, row = 0, columns
    open_table(x, &view, &source)
    columns = source.columns
    if scratch.shape[0] < columns:
        PyBuffer_Release(&view)
        raise ValueError(f"scratch has {scratch.shape[0]} entries, x has {columns} columns")
    with nogil:
        if source.column_stride == source.size and source.row_stride == columns * source.size:
            # one long row, looked at a scratch-full at a time
            columns = scratch.shape[0]
            source.rows = source.rows * source.columns
            while row < source.rows and found < 0:
                source.columns = min(columns, source.rows - row)
                source.row_stride = source.size
                convert_rows(&scratch[0], 0, &source, <const int64_t*>NULL, row, 1)
                found = find_nonfinite_row(&scratch[0], source.columns)
                if found >= 0:
                    found += row
                row += columns
        else:
            while row < source.rows and found < 0:
                convert_rows(&scratch[0], 0, &source, <const int64_t*>NULL, row, 1)
                found = find_nonfinite_row(&scratch[0], columns)
                if found >= 0:
                    found += row * columns
                row += 1
    PyBuffer_Release(&view)
    return found


def multiply_add(Py_ssize_t rounds, real[::1] out, int threads):
    """Independent fused multiply-adds on every thread; returns how many flops they were."""
    cdef ptrdiff_t flops = 0
    if out.shape[0] < 64 * threads:
        raise ValueError(f"out has {out.shape[0]} entries, expected at least {64 * threads}")
    with nogil, parallel(num_threads=threads):
        multiply_add_member(&out[0], rounds, &flops)
    return flops


cdef void multiply_add_member(real* out, ptrdiff_t rounds, ptrdiff_t* flops) noexcept nogil:
    cdef ptrdiff_t done = multiply_add_thread(out + 64 * team_rank(), rounds)
    if team_rank() == 0:
        flops[0] = done * team_size()


def shuffle(int64_t[::1] order, uint64_t seed, uint64_t epoch):
    """order = a permutation of 0..n-1, a function of n, seed and epoch alone."""
    if order.shape[0]:
        with nogil:
            shuffle_rows(&order[0], order.shape[0], seed, epoch)
