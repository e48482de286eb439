# The door for predictions and losses, a part of core.pyx.


@final
@auto_pickle(False)
cdef class Evaluation:
    """Evaluations of one shape: the network and the places in the workspace, looked at once for every call."""
    cdef evaluation job  # but for what a call brings
    cdef void* workspace
    cdef ptrdiff_t rows, target_columns, itemsize
    cdef int threads
    cdef tuple arrays  # that all of it points into


def open_evaluation(
    const int64_t[:, ::1] stages, const real[::1] parameters, int loss, real[::1] workspace, Py_ssize_t rows,
    Py_ssize_t target_columns, Py_ssize_t width, Py_ssize_t block, Py_ssize_t packed, int threads,
):
    """An `Evaluation` of at most so many rows on at most so many threads; target_columns 0: of their output alone.

    workspace holds, for each thread, two blocks of rows of ``width`` elements, their targets, a sum a row and
    ``packed`` elements, as many as `packing` says; and behind all, where there are targets, a loss a row in float64.
    Nobody may write to stages any more.
    """
    cdef Evaluation opened = Evaluation.__new__(Evaluation)
    cdef evaluation* job = &opened.job
    cdef ptrdiff_t room = workspace.shape[0], values = 0, widest, i
    open_network(&job.net, stages, parameters, loss)
    widest = job.net.stages[0].inputs
    for i in range(job.net.count):
        widest = max(widest, job.net.stages[i].outputs)
    if min(rows, block, threads) < 1 or target_columns < 0 or width < padded(widest) or (
        max(width, packed, target_columns, rows if target_columns else 0) > room
        or block > room // (2 * width + target_columns + 1)
    ):
        raise ValueError(f"workspace has {room} entries, or a block has rows of {width}, too few")
    job.width, job.block, job.packed = width, block, packed
    job.share = padded(block * (2 * width + target_columns + 1)) + packed
    if target_columns:
        values = rows * <ptrdiff_t>(sizeof(double) // sizeof(real))
    if packed < packing_size(&job.net, &workspace[0], block) or threads > (room - values) // job.share or (
        (<size_t>&workspace[0]) % sizeof(double)
    ):
        raise ValueError(f"workspace has {room} entries, too few or ill aligned for {threads} threads")
    opened.workspace, opened.itemsize, opened.rows = &workspace[0], sizeof(real), rows
    opened.target_columns, opened.threads, opened.arrays = target_columns, threads, (stages, parameters, workspace)
    return opened


cdef void evaluate_member(
    const evaluation* job, real* output, double* values, real* workspace, ptrdiff_t rows, team_flag* nonfinite,
    int thread, int team,
) noexcept nogil:
    cdef uint64_t mode = float_mode_enter()
    cdef ptrdiff_t begin = cut(rows, team, thread), end = cut(rows, team, thread + 1)
    if not evaluate_rows(job, output, values, workspace + thread * job.share, begin, end - begin):
        team_flag_raise(nonfinite)
    float_mode_leave(mode)


cdef double evaluate_table(
    Evaluation opened, evaluation* job, real[:, ::1] output, bint scored, int threads, team_flag* nonfinite
) except? -1:
    """`evaluate` with x and y open: the sum of the losses; raises the flag where x is not finite."""
    cdef ptrdiff_t rows = output.shape[0]
    cdef real* workspace = <real*>opened.workspace
    cdef double* values = NULL
    cdef double total = 0
    cdef uint64_t mode
    if not 1 <= threads <= opened.threads:
        raise ValueError(f"threads is {threads}, but 1 to {opened.threads} were opened")
    if not 1 <= rows <= opened.rows or sizeof(real) != opened.itemsize:
        raise ValueError(f"output has {rows} rows, but 1 to {opened.rows} were opened, or is of another dtype")
    check_tables(&job.net, scored)
    if scored and job.net.y.columns != opened.target_columns:
        raise ValueError(f"y has {job.net.y.columns} columns, but {opened.target_columns} were opened")
    if not 0 <= job.offset <= job.net.x.rows - rows or output.shape[1] != last_stage(&job.net).outputs:
        raise ValueError(f"output is {rows} x {output.shape[1]}, which does not fit x and the network")
    if scored:
        values = <double*>(workspace + threads * job.share)
    with nogil:
        if threads == 1:
            evaluate_member(job, &output[0, 0], values, workspace, rows, nonfinite, 0, 1)
        else:
            with parallel(num_threads=threads):
                evaluate_member(job, &output[0, 0], values, workspace, rows, nonfinite, team_rank(), team_size())
        if scored:
            mode = float_mode_enter()
            total = sum_in_order(values, rows)
            float_mode_leave(mode)
    return total


def evaluate(Evaluation opened not None, x, y, Py_ssize_t first, real[:, ::1] output, int threads):
    """output (rows, outputs) = the network's output for rows first.. of x.

    Returns the sum of their losses and whether these rows of x are finite.  y is None where no loss is asked for: then
    the sum is 0.
    """
    cdef evaluation job = opened.job
    cdef Py_buffer x_view, y_view
    cdef team_flag nonfinite
    cdef double total
    team_flag_init(&nonfinite)
    job.offset = first
    open_table(x, &x_view, &job.net.x)
    try:
        if y is None:
            total = evaluate_table(opened, &job, output, False, threads, &nonfinite)
        else:
            open_table(y, &y_view, &job.net.y)
            try:
                total = evaluate_table(opened, &job, output, True, threads, &nonfinite)
            finally:
                PyBuffer_Release(&y_view)
    finally:
        PyBuffer_Release(&x_view)
    return total, not team_flag_raised(&nonfinite)
