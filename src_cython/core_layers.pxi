# The door for single pieces of a step, a part of core.pyx: dense, activations, losses and the update, on arrays without
# padding.


cdef int check_arrays(bint fit, Py_ssize_t entries, int threads) except -1:
    """Refuse arrays that do not fit each other, or hold nothing."""
    if not fit or entries < 1 or threads < 1:
        raise ValueError("the arrays do not fit each other, are empty, or threads is below 1")
    return 0


cdef ptrdiff_t scratch_size(const real* like, ptrdiff_t rows, ptrdiff_t inputs, ptrdiff_t outputs, bint backward):
    """Elements of scratch that a thread needs for a pass of so many rows through a dense layer: whole lines."""
    return padded(
        backward_scratch(like, rows, inputs, outputs) if backward else forward_packing(like, inputs, outputs)
    )


def layer_scratch(
    const real[::1] like, Py_ssize_t inputs, Py_ssize_t outputs, Py_ssize_t rows, bint backward, int threads
):
    """Elements of scratch that so many threads need for a pass of so many rows through a dense layer."""
    cdef ptrdiff_t size
    check_arrays(like.shape[0] > 0, min(rows, inputs, outputs), threads)
    size = scratch_size(&like[0], rows, inputs, outputs, backward)
    return threads * size + LINE if size else 0


cdef real* open_scratch(real[::1] scratch, ptrdiff_t size, int threads) except? NULL:
    """Where the threads' scratch begins, on a line of the caches; NULL where they need none."""
    if size == 0:
        return NULL
    if scratch.shape[0] < threads * size + LINE:
        raise ValueError(f"scratch has {scratch.shape[0]} entries, expected {threads} x {size} and {LINE}")
    return <real*>(<size_t>ceil_div(<ptrdiff_t>&scratch[0], FETCHED_LINE) * FETCHED_LINE)


def dense_forward(
    const real[:, ::1] x, const real[:, ::1] weight, const real[::1] bias, real[:, ::1] z, real[::1] scratch,
    int threads,
):
    """z = x @ weight + bias; scratch as `layer_scratch` says."""
    cdef ptrdiff_t rows = x.shape[0], inputs = weight.shape[0], outputs = weight.shape[1], size
    cdef real* room
    check_arrays(
        x.shape[1] == inputs and bias.shape[0] == outputs and z.shape[0] == rows and z.shape[1] == outputs,
        rows * inputs * outputs, threads,
    )
    size = scratch_size(&weight[0, 0], rows, inputs, outputs, False)
    room = open_scratch(scratch, size, threads)
    with nogil, parallel(num_threads=threads):
        dense_forward_member(
            &z[0, 0], &x[0, 0], &weight[0, 0], &bias[0], room, size, rows, inputs, outputs, team_rank(), team_size()
        )


cdef void dense_forward_member(
    real* z, const real* x, const real* weight, const real* bias, real* scratch, ptrdiff_t size, ptrdiff_t rows,
    ptrdiff_t inputs, ptrdiff_t outputs, int thread, int team,
) noexcept nogil:
    cdef uint64_t mode = float_mode_enter()
    if size:
        scratch += thread * size
    layer_forward(z, x, weight, bias, scratch, rows, inputs, outputs, thread, team)
    float_mode_leave(mode)


def dense_backward(
    const real[:, ::1] x, const real[:, ::1] weight, const real[:, ::1] dz, real[:, ::1] dx, real[:, ::1] dweight,
    real[::1] dbias, real[::1] scratch, int threads,
):
    """dx = dz @ weight.T, dweight = x.T @ dz, dbias = dz.sum(0); an empty dx is not formed.

    scratch as `layer_scratch` says.
    """
    cdef ptrdiff_t rows = x.shape[0], inputs = weight.shape[0], outputs = weight.shape[1], size
    cdef real* dx_start = NULL
    cdef real* room
    check_arrays(
        x.shape[1] == inputs and dz.shape[0] == rows and dz.shape[1] == outputs and dbias.shape[0] == outputs
        and dweight.shape[0] == inputs and dweight.shape[1] == outputs,
        rows * inputs * outputs, threads,
    )
    if dx.shape[0]:
        check_arrays(dx.shape[0] == rows and dx.shape[1] == inputs, 1, threads)
        dx_start = &dx[0, 0]
    size = scratch_size(&weight[0, 0], rows, inputs, outputs, True)
    room = open_scratch(scratch, size, threads)
    with nogil, parallel(num_threads=threads):
        dense_backward_member(
            &x[0, 0], &weight[0, 0], &dz[0, 0], dx_start, &dweight[0, 0], &dbias[0], room, size, rows, inputs,
            outputs, team_rank(), team_size(),
        )


cdef void dense_backward_member(
    const real* x, const real* weight, const real* dz, real* dx, real* dweight, real* dbias, real* scratch,
    ptrdiff_t size, ptrdiff_t rows, ptrdiff_t inputs, ptrdiff_t outputs, int thread, int team,
) noexcept nogil:
    cdef uint64_t mode = float_mode_enter()
    scratch += thread * size
    if dx != NULL:
        layer_input_gradient(dx, dz, weight, scratch, rows, inputs, outputs, thread, team)
    layer_weight_gradient(dweight, x, dz, scratch, rows, inputs, outputs, thread, team)
    layer_bias_gradient(dbias, dz, rows, outputs, thread, team)
    float_mode_leave(mode)


def activation_forward(int activation, const real[:, ::1] z, real[:, ::1] a, int threads):
    """a = f(z); a may be z."""
    cdef ptrdiff_t rows = z.shape[0], columns = z.shape[1]
    check_arrays(a.shape[0] == rows and a.shape[1] == columns, rows * columns, threads)
    with nogil, parallel(num_threads=threads):
        activation_forward_member(activation, &a[0, 0], &z[0, 0], rows, columns, team_rank(), team_size())


cdef void activation_forward_member(
    int activation, real* a, const real* z, ptrdiff_t rows, ptrdiff_t columns, int thread, int team
) noexcept nogil:
    cdef uint64_t mode = float_mode_enter()
    cdef ptrdiff_t first, last, r
    if is_elementwise(activation):
        first, last = vector_cut(z, rows * columns, team, thread), vector_cut(z, rows * columns, team, thread + 1)
        activation_forward_row(activation, a + first, z + first, last - first)
    else:
        for r in range(cut(rows, team, thread), cut(rows, team, thread + 1)):
            activation_forward_row(activation, a + r * columns, z + r * columns, columns)
    float_mode_leave(mode)


def activation_backward(int activation, const real[:, ::1] a, const real[:, ::1] da, real[:, ::1] dz, int threads):
    """dz = da * f'(z), from the output a; dz may be da."""
    cdef ptrdiff_t rows = a.shape[0], columns = a.shape[1]
    check_arrays(
        da.shape[0] == rows and da.shape[1] == columns and dz.shape[0] == rows and dz.shape[1] == columns,
        rows * columns, threads,
    )
    with nogil, parallel(num_threads=threads):
        activation_backward_member(activation, &dz[0, 0], &da[0, 0], &a[0, 0], rows, columns, team_rank(), team_size())


cdef void activation_backward_member(
    int activation, real* dz, const real* da, const real* a, ptrdiff_t rows, ptrdiff_t columns, int thread, int team
) noexcept nogil:
    cdef uint64_t mode = float_mode_enter()
    cdef ptrdiff_t first, last, r
    if is_elementwise(activation):
        first, last = vector_cut(a, rows * columns, team, thread), vector_cut(a, rows * columns, team, thread + 1)
        activation_backward_row(activation, dz + first, da + first, a + first, last - first)
    else:
        for r in range(cut(rows, team, thread), cut(rows, team, thread + 1)):
            activation_backward_row(activation, dz + r * columns, da + r * columns, a + r * columns, columns)
    float_mode_leave(mode)


def loss_gradient(
    int loss, bint summed, real[:, ::1] a, const real[:, ::1] target, real[:, ::1] delta, double[::1] values,
    real[::1] sums,
):
    """The loss of a batch, and delta = dA for mse and mae, else dZ; an empty delta is not formed.

    a holds Z for the others, and may be overwritten.  target has the shape of a, or for cross_entropy a label a row;
    values and sums have room for a number a row.
    """
    cdef ptrdiff_t rows = a.shape[0], outputs = a.shape[1]
    cdef real* delta_start = NULL
    cdef double scale = loss_scale(loss, summed, rows, outputs), total
    cdef uint64_t mode
    check_arrays(
        target.shape[0] == rows and values.shape[0] >= rows and sums.shape[0] >= rows
        and (target.shape[1] == outputs or (loss == CROSS_ENTROPY and target.shape[1] == 1)), rows * outputs, 1,
    )
    if delta.shape[0]:
        check_arrays(delta.shape[0] == rows and delta.shape[1] == outputs, 1, 1)
        delta_start = &delta[0, 0]
    with nogil:
        mode = float_mode_enter()
        loss_rows(
            loss, &values[0], delta_start, outputs, &a[0, 0], outputs, &sums[0], &target[0, 0], target.shape[1], rows,
            outputs, scale,
        )
        total = sum_in_order(&values[0], rows)
        float_mode_leave(mode)
    return scale * total


def update(
    real[::1] parameters, const real[::1] gradients, real[:, ::1] state, Rule rule not None, int64_t step, double loss,
    double[::1] losses, int threads,
):
    """One update of all parameters from their gradient, the one that makes ``step`` updates step + 1.

    losses[0] = loss is written here too: whatever may strike between two lines of Python, an update is counted.
    """
    cdef ptrdiff_t count = parameters.shape[0], slots = state.shape[0]
    cdef real* state_start = &state[0, 0] if slots else &parameters[0]  # some address to count from
    cdef update_rule now = rule_at(&rule.rule, step + 1)
    check_arrays(gradients.shape[0] == count and (not slots or state.shape[1] == count), count, threads)
    if slots < rule.slots:
        raise ValueError(f"state has {slots} rows, expected {rule.slots}")
    if not is_update(&now):
        raise ValueError("the rule does not update")
    if losses.shape[0] == 0:
        raise ValueError("losses is empty")
    with nogil:
        if threads == 1:
            update_member(&now, &parameters[0], &gradients[0], state_start, count, 0, 1)
        else:
            with parallel(num_threads=threads):
                update_member(&now, &parameters[0], &gradients[0], state_start, count, team_rank(), team_size())
        losses[0] = loss


cdef void update_member(
    const update_rule* rule, real* parameters, const real* gradients, real* state, ptrdiff_t count, int thread, int team
) noexcept nogil:
    cdef uint64_t mode = float_mode_enter()
    cdef ptrdiff_t first = cut(count, team, thread)
    update_run(rule, parameters + first, state + first, count, gradients + first, cut(count, team, thread + 1) - first)
    float_mode_leave(mode)
