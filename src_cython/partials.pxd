"""The gradient of a tall batch as a sum of partial gradients, each of some of its rows.

Where the rows are many, forming dW over the whole batch would fetch X, every A and every dZ from outer caches, or from
memory page by page, and half of them from other cores. Instead the rows are cut into parts, whose number depends on
shapes alone; a thread takes a part through the network block by block, in buffers of its own that stay in the inner
caches, and adds each block's dW to the part's. Then the partial gradients are summed in order.
"""

from dense cimport cut
from optimizers cimport GRADIENT, GRADIENT_SUM, update_rule
from phases cimport (
    STRIP_SCRATCH, apply_gradient, backpropagate_rows, block_of, gather_batch, gradient_length, mini_batch, training,
    update_parameters,
)
from real cimport ceil_div, real, sum_rows
from stages cimport DENSE, network, stage

cdef enum:
    SUMMED_RUN = 8192  # elements that are summed and applied together: they stay in the first-level cache


cdef inline mini_batch part_block(
    const training* job, const mini_batch* part, ptrdiff_t blocks, ptrdiff_t number, int thread
) noexcept nogil:
    """A block of a part's rows in the thread's own place, none behind the last; its two buffers for X take turns.

    In the rows' own place where they went forward before.
    """
    cdef ptrdiff_t first = cut(part.size, blocks, number), end = min(cut(part.size, blocks, number + 1), part.size)
    cdef mini_batch block = block_of(job, part, first, end - first)
    if job.slope == NULL:
        block.place = thread * job.block
        block.input = job.input + (2 * block.place + number % 2 * job.block) * job.input_row
    return block


cdef inline void differentiate_part(
    const training* job, const mini_batch* batch, real* workspace, real* scratch, ptrdiff_t number, int thread,
    double scale,
) noexcept nogil:
    """Partial gradient ``number`` of a batch, and its rows' losses."""
    cdef training own = job[0]
    cdef ptrdiff_t first = cut(batch.size, job.partials, number), end = cut(batch.size, job.partials, number + 1), i
    cdef mini_batch part = block_of(job, batch, first, end - first)
    cdef ptrdiff_t blocks = max(1, ceil_div(part.size, job.block)), length = gradient_length(&job.net, workspace)
    cdef mini_batch block, following = part_block(job, &part, blocks, 0, thread), gathered
    cdef update_rule rule = job.rule
    own.gradients, own.shared = workspace + job.partial + number * job.partial_row, False
    if job.slope == NULL:
        gather_batch(job, &following, workspace, 0, following.size)
    for i in range(blocks):
        block, following = following, part_block(job, &part, blocks, i + 1, thread)
        gathered = following
        if job.slope != NULL:  # all have been
            gathered.size = 0
        rule.optimizer = GRADIENT_SUM if i else GRADIENT
        backpropagate_rows(&own, &block, workspace, scratch + STRIP_SCRATCH, scale)
        update_parameters(&own, &rule, &block, &gathered, workspace, scratch, length, 0, length)


cdef inline void apply_partials(
    const training* job, const update_rule* rule, real* workspace, real* scratch, ptrdiff_t at, ptrdiff_t n
) noexcept nogil:
    """Parameters at.. at + n from the sum of their partial gradients."""
    cdef ptrdiff_t end = at + n, some
    while at < end:
        some = min(<ptrdiff_t>SUMMED_RUN, end - at)
        sum_rows(scratch, workspace + job.partial + at, job.partial_row, job.partials, some)
        apply_gradient(job, rule, scratch, at, some)
        at += some


cdef inline void update_by_partials(
    const training* job, const update_rule* rule, real* workspace, real* scratch, int piece, int pieces
) noexcept nogil:
    """A piece of phase 2: some rows of every W, the biases with the first."""
    cdef const network* net = &job.net
    cdef const stage* s
    cdef ptrdiff_t i, first, last
    for i in range(net.count):
        s = net.stages + i
        if s.kind != DENSE:
            continue
        first, last = cut(s.inputs, pieces, piece), cut(s.inputs, pieces, piece + 1)
        apply_partials(job, rule, workspace, scratch, s.weight + first * s.outputs, (last - first) * s.outputs)
        if piece == 0:
            apply_partials(job, rule, workspace, scratch, s.bias, s.outputs)
