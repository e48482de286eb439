# The door for predictions and losses, a part of core.pyx.


cdef void evaluate_member(
    const network* net, real* output, double* values, team_flag* nonfinite, real* workspace, ptrdiff_t share,
    ptrdiff_t packed, ptrdiff_t width, ptrdiff_t block, ptrdiff_t first, ptrdiff_t rows, int thread, int team,
) noexcept nogil:
    cdef uint64_t mode = float_mode_enter()
    cdef ptrdiff_t begin = cut(rows, team, thread), end = cut(rows, team, thread + 1)
    cdef real* own = workspace + thread * share
    if not evaluate_rows(net, output, values, own, own + share - packed, width, block, begin, end - begin, first):
        team_flag_raise(nonfinite)
    float_mode_leave(mode)


cdef double evaluate_table(
    const network* net, real[:, ::1] output, real[::1] workspace, ptrdiff_t width, ptrdiff_t block, ptrdiff_t packed,
    ptrdiff_t first, bint scored, int threads, team_flag* nonfinite,
) except? -1:
    """`evaluate` with x and y open: the sum of the losses; raises the flag where x is not finite."""
    cdef const stage* last = net.stages + net.count - 1
    cdef ptrdiff_t rows = output.shape[0], widest = net.x.columns, i
    cdef ptrdiff_t share = padded(block * (2 * width + net.y.columns + 1)) + packed
    cdef double* values = NULL
    cdef double total = 0
    cdef uint64_t mode
    check_tables(net, scored)
    for i in range(net.count):
        widest = max(widest, net.stages[i].outputs)
    if rows < 1 or first < 0 or first + rows > net.x.rows or output.shape[1] != last.outputs:
        raise ValueError(f"output is {rows} x {output.shape[1]}, which does not fit x and the network")
    if threads < 1 or block < 1 or width < padded(widest) or packed < packing_size(net, &workspace[0], block) or (
        threads * share + scored * rows * <ptrdiff_t>(sizeof(double) // sizeof(real)) > workspace.shape[0]
        or (<size_t>&workspace[0]) % sizeof(double)
    ):
        raise ValueError(f"workspace has {workspace.shape[0]} entries, too few or ill aligned for {threads} threads")
    if scored:
        values = <double*>&workspace[threads * share]
    with nogil:
        if threads == 1:
            evaluate_member(
                net, &output[0, 0], values, nonfinite, &workspace[0], share, packed, width, block, first, rows, 0, 1
            )
        else:
            with parallel(num_threads=threads):
                evaluate_member(
                    net, &output[0, 0], values, nonfinite, &workspace[0], share, packed, width, block, first, rows,
                    team_rank(), team_size(),
                )
        if scored:
            mode = float_mode_enter()
            total = sum_in_order(values, rows)
            float_mode_leave(mode)
    return total


def evaluate(
    const int64_t[:, ::1] stages, real[::1] parameters, int loss, x, y, Py_ssize_t first, real[:, ::1] output,
    real[::1] workspace, Py_ssize_t width, Py_ssize_t block, Py_ssize_t packed, int threads,
):
    """output (rows, outputs) = the network's output for rows first.. of x.

    Returns the sum of their losses and whether these rows of x are finite.  y is None where no loss is asked for: then
    the sum is 0.  workspace holds, for each thread, two blocks of rows of ``width`` elements, their targets, a sum a
    row and ``packed`` elements, as many as `packing` says, and behind all a loss a row in float64.
    """
    cdef network net
    cdef Py_buffer x_view, y_view
    cdef team_flag nonfinite
    cdef double total
    team_flag_init(&nonfinite)
    open_network(&net, stages, parameters, loss)
    open_table(x, &x_view, &net.x)
    try:
        if y is None:
            total = evaluate_table(&net, output, workspace, width, block, packed, first, False, threads, &nonfinite)
        else:
            open_table(y, &y_view, &net.y)
            try:
                total = evaluate_table(&net, output, workspace, width, block, packed, first, True, threads, &nonfinite)
            finally:
                PyBuffer_Release(&y_view)
    finally:
        PyBuffer_Release(&x_view)
    return total, not team_flag_raised(&nonfinite)
