"""The training step: what one thread of a team does for every batch of a call.

A batch is two phases with a meeting of all threads after each.  In the first a thread takes blocks of rows through
forward, loss and the whole backward chain, and meets nobody.  In the second it takes strips of the parameters, forms
each strip of dW = X^T dZ over the whole batch and updates the parameters with it at once; the rows of the next batch
are gathered between the strips.  Both are handed out piece by piece, so that all are done together when a processor is
slow.  Which thread does what changes no sum, so the bits do not depend on the team.

A tall batch forms partial gradients in the first phase (partials.pxd); batches of one row under plain gradient descent
know no phases (online.pxd).  Where the loss is computed elsewhere a step has two halves, cut where the loss is due.
"""

from libc.math cimport isfinite

from dense cimport cut
from losses cimport loss_scale, sum_in_order
from online cimport descends_row_by_row, train_row_by_row
from optimizers cimport rule_at, update_rule
from partials cimport differentiate_part, update_by_partials
from phases cimport (
    STRIP_SCRATCH, backpropagate_rows, block_of, forward_rows, gather_batch, gradient_length, mini_batch, mini_batch_at,
    training, update_parameters,
)
from real cimport ceil_div, lanes, real
from stages cimport last_stage, network, stage
from team cimport team_break_up, team_breaks_up, team_gate, team_meet, team_queues, team_take, team_time, team_watch

cdef enum:
    PIECES = 8  # that a thread's share of phase 2 is cut into, where they have PIECE_FLOPS: about 5 us
    PIECE_FLOPS = 1048576
    # Places in a thread's row of the clock. The order of the first is CLOCK_FIELDS; a row is a line of the caches.
    FIRST_PHASE = 0
    FIRST_MEETING = 1
    SECOND_PHASE = 2
    SECOND_MEETING = 3
    LAST_LAP = 7
    CLOCK_ROW = 8


cdef inline void start_laps(const training* job, int thread) noexcept nogil:
    """From here on a thread's time is counted, if a clock is there."""
    if job.clock != NULL:
        job.clock[thread * CLOCK_ROW + LAST_LAP] = team_time()


cdef inline void count_lap(const training* job, int thread, int place) noexcept nogil:
    """The time since the last lap is that part's."""
    cdef double* laps
    cdef double now
    if job.clock != NULL:
        laps, now = job.clock + thread * CLOCK_ROW, team_time()
        laps[place] += now - laps[LAST_LAP]
        laps[LAST_LAP] = now


cdef inline int piece_count(ptrdiff_t flops) noexcept nogil:
    """How many pieces so much of phase 2 is cut into."""
    return <int>max(1, min(PIECES, flops // PIECE_FLOPS))


cdef inline bint take_block(
    const training* job, const mini_batch* batch, team_gate* gate, int thread, int team, mini_batch* block
) noexcept nogil:
    """The next block of rows that this thread comes to take of phase 1, perhaps an empty one; whether there is one."""
    cdef int queues = team_queues(team), shares = <int>ceil_div(batch.size, queues * job.block)
    cdef int pieces = queues * shares, piece = team_take(gate, thread, team, shares)
    cdef ptrdiff_t first = cut(batch.size, pieces, piece)
    if piece < 0:
        return False
    block[0] = block_of(job, batch, first, cut(batch.size, pieces, piece + 1) - first)
    return True


cdef inline void first_phase(
    const training* job, const mini_batch* batch, real* workspace, real* scratch, team_gate* gate, double scale,
    int thread, int team,
) noexcept nogil:
    """What this thread comes to take of phase 1: blocks of rows, or the parts of partial gradients."""
    cdef int shares = <int>ceil_div(job.partials, team_queues(team)), piece
    cdef mini_batch block
    if job.partials == 0:
        while take_block(job, batch, gate, thread, team, &block):
            backpropagate_rows(job, &block, workspace, scratch + STRIP_SCRATCH, scale)
        return
    piece = team_take(gate, thread, team, shares)
    while piece >= 0:
        if piece < job.partials:
            differentiate_part(job, batch, workspace, scratch, piece, thread, scale)
        piece = team_take(gate, thread, team, shares)


cdef inline void second_phase(
    const training* job, const update_rule* rule, const mini_batch* batch, const mini_batch* following,
    real* workspace, real* scratch, team_gate* gate, ptrdiff_t length, int thread, int team,
) noexcept nogil:
    """What this thread comes to take of phase 2; ``length`` as of `gradient_length`."""
    cdef int queues = team_queues(team), shares = 1, pieces, piece
    if team > 1 and job.partials == 0:
        shares = piece_count(2 * lanes(workspace) * length * batch.size // queues)
    pieces = queues * shares
    piece = team_take(gate, thread, team, shares)
    while piece >= 0:
        if job.partials:
            update_by_partials(job, rule, workspace, scratch, piece, pieces)
        else:
            update_parameters(
                job, rule, batch, following, workspace, scratch, length, cut(length, pieces, piece),
                cut(length, pieces, piece + 1),
            )
        piece = team_take(gate, thread, team, shares)


cdef inline ptrdiff_t train_batches(
    const training* job, real* workspace, team_gate* gate, team_watch* watch, int thread, int team
) noexcept nogil:
    """Every batch of the call, as one thread of the team.  Returns the batches done; all threads return the same.

    The thread with a watch has the team break up once it is kept waiting for most of the time.
    """
    cdef const network* net = &job.net
    cdef ptrdiff_t outputs = last_stage(net).outputs, batches = ceil_div(job.rows, job.batch_size), number
    cdef ptrdiff_t length = gradient_length(net, workspace)
    cdef double scale, loss
    cdef update_rule rule
    cdef mini_batch batch, following = mini_batch_at(job, 0)
    cdef real* scratch = workspace + job.scratch + thread * job.scratch_row
    if descends_row_by_row(job, team):
        return train_row_by_row(job, workspace)
    if job.partials == 0:
        gather_batch(
            job, &following, workspace, cut(following.size, team, thread), cut(following.size, team, thread + 1)
        )
    team_meet(gate, team, watch)
    start_laps(job, thread)
    for number in range(batches):
        batch, following = following, mini_batch_at(job, number + 1)
        scale = loss_scale(net.loss, job.summed, batch.size, outputs)
        first_phase(job, &batch, workspace, scratch, gate, scale, thread, team)
        count_lap(job, thread, FIRST_PHASE)
        team_meet(gate, team, watch)
        count_lap(job, thread, FIRST_MEETING)
        # by every thread: all must decide alike
        loss = scale * sum_in_order(<double*>(workspace + job.values), batch.size)
        if thread == 0:
            job.losses[number] = loss
        if not isfinite(loss):
            return number
        rule = rule_at(&job.rule, job.step + number + 1)
        second_phase(job, &rule, &batch, &following, workspace, scratch, gate, length, thread, team)
        count_lap(job, thread, SECOND_PHASE)
        if watch != NULL and watch.kept_waiting:
            team_break_up(gate, number)
        team_meet(gate, team, watch)
        count_lap(job, thread, SECOND_MEETING)
        if team_breaks_up(gate, number):
            return number + 1
    return batches


cdef inline bint propagate_batch(
    const training* job, real* workspace, real* output, team_gate* gate, int thread, int team
) noexcept nogil:
    """The forward half of a step whose loss is computed elsewhere, as one thread of the team: every A of a batch.

    output (rows, outputs) = the last A.  Returns whether this thread's rows of x are finite.
    """
    cdef const stage* last = last_stage(&job.net)
    cdef real* scratch = workspace + job.scratch + thread * job.scratch_row
    cdef real* a
    cdef mini_batch batch = mini_batch_at(job, 0), block
    cdef bint finite = True
    cdef ptrdiff_t r, j
    while take_block(job, &batch, gate, thread, team, &block):
        if block.size == 0:
            continue
        gather_batch(job, &block, workspace, 0, block.size)
        finite &= workspace[job.faults + block.place] == 0
        forward_rows(job, &block, workspace, scratch + STRIP_SCRATCH, False)
        a = workspace + last.output + block.place * last.row
        for r in range(block.size):
            for j in range(last.outputs):
                output[(block.place + r) * last.outputs + j] = a[r * last.row + j]
    return finite


cdef inline void backpropagate_batch(
    const training* job, real* workspace, team_gate* gate, int thread, int team
) noexcept nogil:
    """The other half, from the slope of a loss: every dZ, dW and the update."""
    cdef real* scratch = workspace + job.scratch + thread * job.scratch_row
    cdef mini_batch batch = mini_batch_at(job, 0), none = mini_batch_at(job, 1)
    cdef update_rule rule = rule_at(&job.rule, job.step + 1)
    first_phase(job, &batch, workspace, scratch, gate, 1, thread, team)
    team_meet(gate, team, NULL)
    second_phase(
        job, &rule, &batch, &none, workspace, scratch, gate, gradient_length(&job.net, workspace), thread, team
    )
