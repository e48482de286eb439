"""The forward pass of evaluation: what one thread of a team does with its rows."""

from libc.stdint cimport int64_t

from activations cimport IDENTITY, activation_forward
from fetching cimport stretches
from losses cimport loss_rows, takes_logits
from real cimport padded, real
from rows cimport gather_rows
from stages cimport last_stage, network, stage, stage_forward


cdef struct evaluation:
    network net
    ptrdiff_t width           # elements from one row of a block to the next, at the most
    ptrdiff_t block           # rows that go through the layers together
    ptrdiff_t packed          # elements that a thread packs matrices into
    # A thread's part of the workspace: two blocks of rows, the targets of one, a sum of exponentials a row, what is
    # packed.
    ptrdiff_t share
    ptrdiff_t offset          # the row of x that the first of output belongs to


cdef inline bint evaluate_rows(
    const evaluation* job, real* output, double* values, real* scratch, ptrdiff_t first, ptrdiff_t rows
) noexcept nogil:
    """output (rows, outputs) for some rows, and unless values is NULL their losses; with a thread's share as scratch.

    Returns whether these rows of x are finite.
    """
    cdef const network* net = &job.net
    cdef const stage* last = last_stage(net)
    cdef bint logits = takes_logits(net.loss)
    cdef real* x
    cdef real* a
    cdef real* z
    cdef real* target = scratch + 2 * job.block * job.width
    cdef real* sums = target + job.block * net.y.columns
    cdef real* packed = scratch + job.share - job.packed
    cdef ptrdiff_t end = first + rows, x_row, a_row, n, i, r
    cdef bint finite = True
    while first < end:
        n = min(job.block, end - first)
        x, x_row, a = scratch, padded(net.x.columns), scratch + job.block * job.width
        finite &= gather_rows(x, x_row, &net.x, <const int64_t*>NULL, job.offset + first, n)
        for i in range(net.count):
            a_row = padded(net.stages[i].outputs)
            stage_forward(
                net.stages + i, <const real*>net.parameters, a, a_row, x, x_row, packed, n,
                IDENTITY if i + 1 == net.count else <int>net.stages[i].activation, <const stretches*>NULL,
            )
            x, x_row, a = a, a_row, x
        for r in range(n):
            activation_forward(
                <int>last.activation, output + (first + r) * last.outputs, x + r * x_row, last.outputs
            )
        if values != NULL:
            gather_rows(target, net.y.columns, &net.y, <const int64_t*>NULL, job.offset + first, n)
            z = x
            if not logits:
                z, x_row = output + first * last.outputs, last.outputs
            loss_rows(
                net.loss, values + first, <real*>NULL, 0, z, x_row, sums, target, net.y.columns, n, last.outputs, 1
            )
        first += n
    return finite
