"""Batches of one row under plain gradient descent, on one thread.

They know no phases: the way back and the update are one pass over W, to the same bits.
"""

from libc.math cimport isfinite

from activations cimport activation_backward
from losses cimport loss_scale, sum_in_order, takes_logits
from optimizers cimport SGD
from phases cimport STRIP_SCRATCH, forward_rows, gather_batch, mini_batch, mini_batch_at, score_rows, training
from real cimport descend, real
from stages cimport DENSE, last_stage, network, stage


cdef inline bint descends_row_by_row(const training* job, int team) noexcept nogil:
    """Whether every batch is one row, and the update plain gradient descent: then one pass over W does all of it."""
    return team == 1 and job.batch_size == 1 and job.rule.optimizer == SGD and job.rule.momentum == 0


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
    cdef double scale = loss_scale(net.loss, job.summed, 1, last_stage(net).outputs)
    cdef double* loss = <double*>(workspace + job.values)
    cdef real* packed = workspace + job.scratch + STRIP_SCRATCH
    cdef mini_batch batch
    cdef ptrdiff_t number
    for number in range(job.rows):
        batch = mini_batch_at(job, number)
        gather_batch(job, &batch, workspace, 0, 1)
        forward_rows(job, &batch, workspace, packed, takes_logits(net.loss))
        score_rows(job, &batch, workspace, scale)
        job.losses[number] = scale * sum_in_order(loss, 1)
        if not isfinite(job.losses[number]):
            return number
        descend_row(job, &batch, workspace, <real>job.rule.lr)
    return job.rows
