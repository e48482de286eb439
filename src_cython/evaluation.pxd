"""The forward pass of evaluation: what one thread of a team does with its rows."""

from libc.stdint cimport int64_t

from activations cimport IDENTITY, activation_forward
from fetching cimport stretches
from losses cimport loss_rows, takes_logits
from real cimport padded, real
from rows cimport gather_rows
from stages cimport network, stage, stage_forward


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
                IDENTITY if i + 1 == net.count else <int>net.stages[i].activation, <const stretches*>NULL,
            )
            x, x_row, a = a, a_row, x
        for r in range(n):
            activation_forward(
                <int>last.activation, output + (first + r) * last.outputs, x + r * x_row, last.outputs
            )
        if values != NULL:
            gather_rows(target, net.y.columns, &net.y, <const int64_t*>NULL, offset + first, n)
            z = x
            if not logits:
                z, x_row = output + first * last.outputs, last.outputs
            loss_rows(
                net.loss, values + first, <real*>NULL, 0, z, x_row, sums, target, net.y.columns, n, last.outputs, 1
            )
        first += n
    return finite
