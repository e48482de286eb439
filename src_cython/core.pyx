"""The door of the core: arrays in, status out, one region without the GIL per call."""

from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_STRIDED_RO, PyBuffer_IsContiguous, PyBuffer_Release, PyObject_GetBuffer,
)
from cython cimport auto_pickle, final
from cython.parallel cimport parallel
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset, strchr

from activations cimport EXP, IDENTITY, RELU, SIGMOID, SOFTMAX, TANH, is_elementwise
from activations cimport activation_backward as activation_backward_row
from activations cimport activation_forward as activation_forward_row
from dense cimport cut, forward_packing, vector_cut, worth_multiplying
from evaluation cimport evaluate_rows, evaluation
from fetching cimport FETCHED_LINE
from layer cimport (
    backward_scratch, layer_bias_gradient, layer_forward, layer_input_gradient, layer_weight_gradient,
)
from losses cimport BCE, CROSS_ENTROPY, MAE, MSE, loss_rows, loss_scale, sum_in_order
from optimizers cimport ADAM, GRADIENT, SGD, is_update, rule_at, update_rule
from optimizers cimport update as update_run
from phases cimport STRIP_SCRATCH, training
from real cimport (
    FORESEEING_PAYS, LINE, SIMD_NAME, ceil_div, copy_rows, f32_LANES, f64_LANES, float_mode_enter,
    float_mode_leave, padded, real, table, tile_foresee,
)
from real cimport multiply_add as multiply_add_thread
from rows cimport all_between, find_nonfinite_number, find_nonfinite_row, shuffle_rows, sums_to_one
from stages cimport DENSE, ELEMENTWISE, last_stage, network, packing_size, stage
from step cimport CLOCK_ROW, backpropagate_batch, propagate_batch, train_batches
from team cimport (
    openmp_address, openmp_version, team_breaks_up, team_flag, team_flag_init, team_flag_raise, team_flag_raised,
    team_gate, team_gate_init, team_limit, team_rank, team_size, team_watch, team_watch_start,
)

import sys

from numpy import ndarray

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
LOSSES = {"mse": MSE, "mae": MAE, "bce": BCE, "cross_entropy": CROSS_ENTROPY}
STAGE_KINDS = {"elementwise": ELEMENTWISE, "dense": DENSE}
STAGE_FIELDS = (
    "kind", "activation", "inputs", "outputs", "weight", "bias", "output", "delta", "row", "propagates",
)
CLOCK_FIELDS = ("first phase", "first meeting", "second phase", "second meeting")
BUILD = {
    "simd": (<bytes>SIMD_NAME).decode(),
    "lanes": {"float32": f32_LANES, "float64": f64_LANES},
    "line": LINE,
    "strip": STRIP_SCRATCH,
    "clock": CLOCK_ROW,
    "compiler": (<bytes>COMPILER).decode(),
    "flags": (<bytes>FASTBP_FLAGS).decode(),
    "openmp": openmp_version(),
}

# struct-module letters of the numbers that may come in, in the order of convert.h, and what they take; "l" and "L" are
# the C long. Read without a string of Python's: that would cost a call on one row 5 % of its time.
cdef const char* LETTERS = "?bBhHiIqQefd"
cdef Py_ssize_t* SIZES = [1, 1, 1, 2, 2, 4, 4, 8, 8, 2, 4, 8]
cdef const char* ORDERS = "@=^<>!"
cdef const char* OTHER_ORDERS = ">!" if sys.byteorder == "little" else "<"


cdef double ROUNDED = 2e-4  # by how much a row of probabilities may miss a sum of 1 without a closer look


cdef inline bint is_among(char letter, const char* letters) noexcept:
    return letter != 0 and strchr(letters, letter) != NULL


cdef int number_of(const char* form) noexcept:
    """The place of a buffer's format in convert.h, or -1."""
    cdef char letter = form[is_among(form[0], ORDERS)]
    if letter == b"l":
        letter = b"q" if sizeof(long) == 8 else b"i"
    elif letter == b"L":
        letter = b"Q" if sizeof(long) == 8 else b"I"
    if not is_among(letter, LETTERS) or form[1 + is_among(form[0], ORDERS)] != 0:
        return -1
    return <int>(strchr(LETTERS, letter) - LETTERS)


cdef int open_table(object array, Py_buffer* view, table* source) except -1:
    """Describe a user's array of rank one or two; where this succeeds the caller releases the view."""
    cdef int number
    PyObject_GetBuffer(array, view, PyBUF_STRIDED_RO | PyBUF_FORMAT)
    number = number_of(view.format)
    if number < 0 or SIZES[number] != view.itemsize or not 1 <= view.ndim <= 2:
        form, rank = (<bytes>view.format).decode(errors="replace"), view.ndim
        PyBuffer_Release(view)
        raise TypeError(f"the core takes arrays of numbers of rank 1 or 2, not format {form!r}, rank {rank}")
    source.data = <const char*>view.buf
    source.number = number
    source.size = view.itemsize
    source.swapped = is_among(view.format[0], OTHER_ORDERS)
    source.rows = view.shape[0]
    source.row_stride = view.strides[0]
    source.columns = view.shape[1] if view.ndim == 2 else 1
    source.column_stride = view.strides[1] if view.ndim == 2 else view.itemsize
    return 0


cdef int open_stages(network* net, const int64_t[:, ::1] stages) except -1:
    """Describe a network but for its parameters."""
    cdef const stage* s
    cdef ptrdiff_t i
    if stages.shape[0] < 1 or stages.shape[1] * sizeof(int64_t) != sizeof(stage):
        raise ValueError(f"stages is {stages.shape[0]} x {stages.shape[1]}, expected {len(STAGE_FIELDS)} fields")
    memset(net, 0, sizeof(network))
    net.stages = <const stage*>&stages[0, 0]
    net.count = stages.shape[0]
    for i in range(net.count):
        s = net.stages + i
        if s.inputs < 1 or s.outputs < 1 or (i and s.inputs != net.stages[i - 1].outputs):
            raise ValueError(f"stage {i} takes {s.inputs} and gives {s.outputs} features, which does not fit")
    return 0


cdef int open_network(network* net, const int64_t[:, ::1] stages, const real[::1] parameters, int loss) except -1:
    """Describe a network whose parameters lie where its stages say."""
    cdef const stage* s
    cdef ptrdiff_t i
    open_stages(net, stages)
    net.parameters = <void*>&parameters[0]  # what writes to them asks for leave by itself
    net.parameter_count = parameters.shape[0]
    net.loss = loss
    for i in range(net.count):
        s = net.stages + i
        if s.kind == DENSE and (
            s.weight < 0 or s.bias < 0 or s.weight + s.inputs * s.outputs > net.parameter_count
            or s.bias + s.outputs > net.parameter_count
        ):
            raise ValueError(f"stage {i} lies outside the {net.parameter_count} parameters")
    return 0


cdef int check_tables(const network* net, bint scored) except -1:
    """Refuse an x, and a y where there is one, that the network cannot take."""
    cdef ptrdiff_t outputs = last_stage(net).outputs
    if net.x.columns != net.stages[0].inputs:
        raise ValueError(f"x has {net.x.columns} columns, but the network takes {net.stages[0].inputs}")
    if scored and net.y.rows != net.x.rows:
        raise ValueError(f"y has {net.y.rows} rows, but x has {net.x.rows}")
    if scored and net.y.columns != outputs and not (net.loss == CROSS_ENTROPY and net.y.columns == 1):
        raise ValueError(f"y has {net.y.columns} columns, but the network gives {outputs}")
    return 0


def packing(const int64_t[:, ::1] stages, const real[::1] like, Py_ssize_t rows):
    """Elements that each thread needs to pack matrices into when so many rows run together."""
    cdef network net
    if like.shape[0] < 1:
        raise ValueError("like is empty")
    open_stages(&net, stages)
    return packing_size(&net, &like[0], rows)


def find_nonfinite(x, real[::1] scratch):
    """Flat index of the first entry of x that is not finite once converted, or -1; any scratch but an empty one."""
    cdef Py_buffer view
    cdef table source
    cdef ptrdiff_t found
    if scratch.shape[0] < 1:
        raise ValueError("scratch is empty")
    open_table(x, &view, &source)
    with nogil:
        found = find_nonfinite_number(&source, &scratch[0], scratch.shape[0])
    PyBuffer_Release(&view)
    return found


def fits(x, y, Py_ssize_t columns, Py_ssize_t outputs, str kind not None):
    """Whether x and y are, as they come, arrays that a network may train on: (samples, columns), and their targets.

    kind says what targets are, "real", "probability" or "class", or is empty where x stands alone.  A no is not the
    last word: what is no array may be made one, and rows of probabilities may sum to 1 a little less exactly.
    """
    cdef Py_buffer view
    cdef table data, target
    cdef bint classes = kind == "class", bounded = kind != "real", labels, fit
    cdef ptrdiff_t r
    if not describe(x, &view, &data):
        return False
    fit = view.ndim == 2 and data.columns == columns and data.rows > 0
    PyBuffer_Release(&view)
    if not fit or kind == "":
        return fit
    if bounded and not classes and kind != "probability":
        raise ValueError(f"kind is {kind!r}, expected 'real', 'probability' or 'class'")
    if not describe(y, &view, &target):
        return False
    labels = classes and view.ndim == 1
    with nogil:
        fit = target.rows == data.rows and (labels or target.columns == outputs)
        if fit and bounded:
            fit = all_between(&target, <double>outputs - 1 if labels else 1, labels)
        if fit and classes and not labels:
            for r in range(target.rows):
                fit &= sums_to_one(&target, r, ROUNDED)
    PyBuffer_Release(&view)
    return fit


cdef bint describe(object array, Py_buffer* view, table* source) except -1:
    """As `open_table`, but of an array of NumPy's alone; whether it is one, and of numbers."""
    if type(array) is not ndarray:
        return False
    try:
        open_table(array, view, source)
    except (TypeError, ValueError, BufferError):
        return False
    return True


def examine(const real[::1] values, int threads, real[::1] copy=None):
    """Whether all values are finite; copied, too, where there is room for a copy."""
    cdef team_flag nonfinite
    cdef real* room = NULL
    cdef ptrdiff_t count = values.shape[0]
    if threads < 1:
        raise ValueError(f"threads is {threads}, expected at least 1")
    if copy is not None and copy.shape[0] != count:
        raise ValueError(f"copy has {copy.shape[0]} entries, expected {count}")
    if count == 0:
        return True
    if copy is not None:
        room = &copy[0]
    team_flag_init(&nonfinite)
    with nogil:
        if threads == 1:
            examine_member(room, &values[0], count, &nonfinite, 0, 1)
        else:
            with parallel(num_threads=threads):
                examine_member(room, &values[0], count, &nonfinite, team_rank(), team_size())
    return not team_flag_raised(&nonfinite)


cdef void examine_member(
    real* copy, const real* values, ptrdiff_t count, team_flag* nonfinite, int thread, int team
) noexcept nogil:
    cdef ptrdiff_t begin = cut(count, team, thread), end = cut(count, team, thread + 1)
    cdef bint finite
    cdef table share
    if copy == NULL:
        finite = find_nonfinite_row(values + begin, end - begin) < 0
    else:
        share.data, share.columns, share.row_stride = <const char*>(values + begin), end - begin, 0
        finite = copy_rows(copy + begin, 0, &share, <const int64_t*>NULL, 0, 1)
    if not finite:
        team_flag_raise(nonfinite)


def foresee(bint on):
    """Have what a processor may foresee by itself fetched ahead of need, or leave it to that; returns how it was."""
    return bool(tile_foresee(on))


foresee(FORESEEING_PAYS)


def openmp_limit():
    """Threads of a parallel region that names no number, as the OpenMP runtime has it for the calling thread."""
    return team_limit()


def openmp_place():
    """The address of the OpenMP runtime that this core calls, 0 where there is none."""
    return openmp_address()


def multiply_add(Py_ssize_t rounds, real[::1] out, int threads):
    """Independent fused multiply-adds on every thread; returns how many flops they were."""
    cdef ptrdiff_t flops = 0
    if out.shape[0] < 64 * threads:
        raise ValueError(f"out has {out.shape[0]} entries, expected at least {64 * threads}")
    with nogil, parallel(num_threads=threads):
        multiply_add_member(&out[0], rounds, &flops, team_rank(), team_size())
    return flops


cdef void multiply_add_member(real* out, ptrdiff_t rounds, ptrdiff_t* flops, int thread, int team) noexcept nogil:
    cdef ptrdiff_t done = multiply_add_thread(out + 64 * thread, rounds)
    if thread == 0:
        flops[0] = done * team


def shuffle(int64_t[::1] order, uint64_t seed, uint64_t epoch):
    """order = a permutation of 0..n-1, a function of n, seed and epoch alone."""
    if order.shape[0]:
        with nogil:
            shuffle_rows(&order[0], order.shape[0], seed, epoch)


include "core_training.pxi"
include "core_evaluation.pxi"
include "core_layers.pxi"
