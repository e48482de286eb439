# The door for training, a part of core.pyx.


# By name, the code of an optimiser and what has to be said of it.
cdef dict OPTIMIZERS = {
    "gradient": (GRADIENT, set()),
    "sgd": (SGD, {"lr", "momentum", "nesterov"}),
    "adam": (ADAM, {"lr", "beta1", "beta2", "epsilon"}),
}


@final
@auto_pickle(False)
cdef class Rule:
    """How parameters are updated in an epoch: by an optimiser with its settings; or not, and the gradient is stored."""
    cdef update_rule rule
    cdef ptrdiff_t slots  # rows of state that it needs

    def __init__(self, str optimizer not None, **settings):
        if optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer is {optimizer!r}, expected one of {sorted(OPTIMIZERS)}")
        code, wanted = OPTIMIZERS[optimizer]
        if set(settings) != wanted:
            raise TypeError(f"{optimizer} takes the settings {sorted(wanted)}, not {sorted(settings)}")
        memset(&self.rule, 0, sizeof(update_rule))
        self.rule.optimizer = code
        if self.rule.optimizer == SGD:
            self.rule.lr, self.rule.momentum = settings["lr"], settings["momentum"]
            self.rule.nesterov = settings["nesterov"]
            self.slots = self.rule.momentum != 0
        elif self.rule.optimizer == ADAM:
            self.rule.lr, self.rule.epsilon = settings["lr"], settings["epsilon"]
            self.rule.beta1, self.rule.beta2 = settings["beta1"], settings["beta2"]
            self.slots = 2

    @property
    def lr(self):
        """The learning rate."""
        return self.rule.lr

    @property
    def updates(self):
        """Whether it changes parameters."""
        return is_update(&self.rule)


@final
@auto_pickle(False)
cdef class Training:
    """Steps of one shape: the network, what moves, and the places in the workspace, looked at once for every call."""
    cdef training job  # but for what a call brings
    cdef void* workspace
    cdef ptrdiff_t target_columns, slots, itemsize
    cdef int threads
    cdef const int64_t[::1] all_rows
    cdef tuple arrays  # that the job points into
    cdef bint halved  # for steps in two halves
    cdef ptrdiff_t propagated  # rows whose A are in the workspace, for `backpropagate`


cdef int check_layout(const training* job, real[::1] workspace, int threads, bint halved) except -1:
    """Refuse a workspace that its parts do not fit into."""
    cdef const stage* s
    cdef ptrdiff_t batch = job.batch_size, room = workspace.shape[0], i
    cdef ptrdiff_t rows, scored  # that have their place at a time, and their targets
    cdef bint fits = 0 < job.block <= batch and job.input_row >= job.net.x.columns
    fits &= 0 <= min(
        job.input, job.faults, job.target, job.values, job.sums, job.scratch, job.partials, job.partial, job.partial_row
    ) and max(job.input_row, job.scratch_row, job.partials, job.partial_row if job.partials else 0) <= room
    if not fits:
        raise ValueError("layout has a place outside of the workspace, or a block larger than the batch")
    rows = threads * job.block if job.partials and not halved else batch
    scored = 0 if halved else rows
    fits &= job.input + (2 - halved) * rows * job.input_row <= room and job.faults + rows <= room
    fits &= job.target + scored * job.net.y.columns <= room and job.sums + scored <= room
    fits &= halved or job.values + batch * <ptrdiff_t>(sizeof(double) // sizeof(real)) <= room
    fits &= job.scratch_row >= STRIP_SCRATCH + packing_size(
        &job.net, &workspace[0], job.block if job.partials else batch
    )
    fits &= worth_multiplying(job.block) or not job.partials  # packing_size has no room for W in a block of one row
    fits &= job.scratch + threads * job.scratch_row <= room
    fits &= job.partial_row >= job.net.parameter_count or not job.partials
    fits &= job.partial + job.partials * job.partial_row <= room
    for i in range(job.net.count):
        s = job.net.stages + i
        fits &= min(s.output, s.delta) >= 0 and s.row <= room
        fits &= s.row >= padded(s.outputs) and s.output + rows * s.row <= room and s.delta + rows * s.row <= room
    fits &= (<size_t>&workspace[0]) % sizeof(double) == 0  # the losses in it are float64 for float32 too
    if not fits:
        raise ValueError(f"workspace has {room} entries, too few or ill aligned for {threads} threads of {batch} rows")
    return 0


def open_training(
    const int64_t[:, ::1] stages, dict layout not None, const int64_t[::1] all_rows, const real[::1] parameters,
    const real[::1] gradients, real[:, ::1] state, real[::1] workspace, int loss, bint summed,
    Py_ssize_t target_columns, int threads, bint halved,
):
    """A `Training` in batches of at most as many rows as all_rows names, on at most so many threads.

    Its calls update parameters and state, or fill gradients.  halved: they are `propagate` and `backpropagate`, for a
    loss that is computed elsewhere, and else `train`.  Nobody may write to stages any more.
    """
    cdef Training opened = Training.__new__(Training)
    cdef training* job = &opened.job
    if all_rows.shape[0] < 1 or threads < 1 or target_columns < 1:
        raise ValueError("all_rows, target_columns and threads must not be empty")
    if state.shape[0] and state.shape[1] != parameters.shape[0]:
        raise ValueError(f"state has {state.shape[1]} columns, expected {parameters.shape[0]}")
    open_network(&job.net, stages, parameters, loss)
    job.net.x.columns, job.net.y.columns = job.net.stages[0].inputs, target_columns
    job.gradients = <void*>&gradients[0] if gradients.shape[0] else NULL
    job.state = &state[0, 0] if state.shape[0] else job.net.parameters  # some address to count from
    job.summed, job.batch_size = summed, all_rows.shape[0]
    job.block, job.input, job.input_row = layout["block"], layout["input"], layout["input_row"]
    job.faults, job.target = layout["faults"], layout["target"]
    job.values, job.sums = layout["values"], layout["sums"]
    job.scratch, job.scratch_row = layout["scratch"], layout["scratch_row"]
    job.partials, job.partial, job.partial_row = layout["partials"], layout["partial"], layout["partial_row"]
    check_layout(job, workspace, threads, halved)
    opened.workspace, opened.itemsize, opened.threads = &workspace[0], sizeof(real), threads
    opened.target_columns, opened.slots, opened.halved = target_columns, state.shape[0], halved
    opened.all_rows, opened.arrays = all_rows, (stages, parameters, gradients, state, workspace)
    return opened


cdef int check_rows(const training* job) except -1:
    """Refuse rows that x does not have."""
    cdef ptrdiff_t i
    for i in range(job.rows):
        if not 0 <= job.order[i] < job.net.x.rows:
            raise ValueError(f"order[{i}] is {job.order[i]}, but x has {job.net.x.rows} rows")
    return 0


cdef int check_team(Training opened, int threads) except -1:
    """Refuse more threads than have their place."""
    if not 1 <= threads <= opened.threads:
        raise ValueError(f"threads is {threads}, but 1 to {opened.threads} were opened")
    return 0


cdef int set_rule(training* job, Training opened, Rule rule, object moved) except -1:
    """Have a rule move what was opened for it, and refuse one without the state that it needs."""
    cdef bint updates = is_update(&rule.rule)
    cdef const void* to_move = job.net.parameters if updates else job.gradients
    name = "parameters" if updates else "gradients"
    if one_run(moved, name, opened.itemsize, job.net.parameter_count, True) != to_move:
        raise ValueError(f"moved is not the array that was opened for {name}")
    if rule.slots > opened.slots:
        raise ValueError(f"state has {opened.slots} rows, expected {rule.slots}")
    job.rule = rule.rule
    return 0


cdef void* one_run(object array, str name, ptrdiff_t size, ptrdiff_t least, bint writes) except NULL:
    """Where the numbers of an array without gaps begin: float32 or float64, by their size.  The caller keeps it."""
    cdef Py_buffer view
    cdef void* place
    cdef char letter = b"f" if size == sizeof(float) else b"d"
    cdef bint whole
    found = ""
    PyObject_GetBuffer(array, &view, PyBUF_STRIDED_RO | PyBUF_FORMAT)
    place, whole = view.buf, PyBuffer_IsContiguous(&view, b"C")
    if not whole or view.len < least * size or (writes and view.readonly) or view.format[0] != letter or (
        view.format[1] != 0
    ):
        found = f"{view.len} bytes of format {(<bytes>view.format).decode(errors='replace')!r}"
        found += ("" if whole else " with gaps") + (" that is read-only" if view.readonly else "")
    PyBuffer_Release(&view)
    if found:
        raise ValueError(f"{name} has {found}, expected {least} or more of float{8 * size} in one run")
    return place


cdef void train_member(
    const training* job, void* workspace, bint single, team_gate* gate, team_watch* watch, ptrdiff_t* done, int thread,
    int team,
) noexcept nogil:
    cdef uint64_t mode = float_mode_enter()
    cdef team_watch* own = watch if thread == 0 else NULL
    cdef ptrdiff_t batches
    if single:
        batches = train_batches(job, <float*>workspace, gate, own, thread, team)
    else:
        batches = train_batches(job, <double*>workspace, gate, own, thread, team)
    if thread == 0:
        done[0] = batches
    float_mode_leave(mode)


def train(
    Training opened not None, moved, Rule rule not None, x, y, const int64_t[::1] order, int64_t step, losses,
    int threads, double[:, ::1] clock=None,
):
    """Train on the rows that order names, batch by batch; None: on all as one batch.

    moved is what the rule changes, the opened parameters or gradients: they may have been made read-only since.

    Returns the number of batches done, and whether the team broke up behind the last of them because its threads were
    kept waiting for one another.  Otherwise there are fewer than all where a batch's loss was not finite, as it is
    where a number of x or y is not.  That batch changed nothing, and losses holds its loss.  To each thread's row of
    clock, as long as BUILD["clock"] says, the seconds of its CLOCK_FIELDS are added; what is trained row by row has
    none.
    """
    cdef training job = opened.job
    cdef bint single = opened.itemsize == sizeof(float)
    cdef team_gate gate
    cdef team_watch watch
    cdef Py_buffer x_view, y_view
    cdef ptrdiff_t done = 0
    if order is None:
        order = opened.all_rows
    check_team(opened, threads)
    if opened.halved:
        raise ValueError("steps in halves were opened, expected propagate and backpropagate")
    if order.shape[0] < 1:
        raise ValueError("order is empty")
    set_rule(&job, opened, rule, moved)
    job.losses = <double*>one_run(losses, "losses", sizeof(double), ceil_div(order.shape[0], job.batch_size), True)
    if clock is not None and (clock.shape[0] < threads or clock.shape[1] != CLOCK_ROW):
        raise ValueError(f"clock is {clock.shape[0]} x {clock.shape[1]}, expected {CLOCK_ROW} columns, a row a thread")
    job.order, job.rows, job.step, job.shared = &order[0], order.shape[0], step, threads > 1
    job.clock = &clock[0, 0] if clock is not None else NULL
    team_gate_init(&gate, threads)
    watch.kept_waiting = 0
    open_table(x, &x_view, &job.net.x)
    try:
        open_table(y, &y_view, &job.net.y)
        try:
            check_tables(&job.net, True)
            if job.net.y.columns != opened.target_columns:
                raise ValueError(f"y has {job.net.y.columns} columns, but {opened.target_columns} were opened")
            check_rows(&job)
            with nogil:
                if threads == 1:
                    train_member(&job, opened.workspace, single, &gate, &watch, &done, 0, 1)
                else:
                    team_watch_start(&watch)
                    with parallel(num_threads=threads):
                        train_member(
                            &job, opened.workspace, single, &gate, &watch, &done, team_rank(), team_size()
                        )
        finally:
            PyBuffer_Release(&y_view)
    finally:
        PyBuffer_Release(&x_view)
    return done, done > 0 and team_breaks_up(&gate, done - 1)


# The two halves of a step whose loss is computed in between, elsewhere.


cdef void propagate_member(
    const training* job, void* workspace, void* output, bint single, team_gate* gate, team_flag* nonfinite, int thread,
    int team,
) noexcept nogil:
    cdef uint64_t mode = float_mode_enter()
    cdef bint finite
    if single:
        finite = propagate_batch(job, <float*>workspace, <float*>output, gate, thread, team)
    else:
        finite = propagate_batch(job, <double*>workspace, <double*>output, gate, thread, team)
    if not finite:
        team_flag_raise(nonfinite)
    float_mode_leave(mode)


def propagate(Training opened not None, x, const int64_t[::1] order, output, int threads):
    """output (rows, outputs) = the network's output for the rows that order names, None: all.

    Returns whether these rows of x are finite.
    """
    cdef training job = opened.job
    cdef bint single = opened.itemsize == sizeof(float)
    cdef void* out
    cdef team_gate gate
    cdef team_flag nonfinite
    cdef Py_buffer view
    if order is None:
        order = opened.all_rows
    check_team(opened, threads)
    if not opened.halved:
        raise ValueError("whole steps were opened, not halves: expected train")
    if not 1 <= order.shape[0] <= job.batch_size:
        raise ValueError(f"order has {order.shape[0]} rows, but 1 to {job.batch_size} were opened")
    job.order, job.rows, job.shared = &order[0], order.shape[0], threads > 1
    out = one_run(output, "output", opened.itemsize, job.rows * last_stage(&job.net).outputs, True)
    opened.propagated = 0
    team_gate_init(&gate, threads)
    team_flag_init(&nonfinite)
    open_table(x, &view, &job.net.x)
    try:
        check_tables(&job.net, False)
        check_rows(&job)
        with nogil:
            if threads == 1:
                propagate_member(&job, opened.workspace, out, single, &gate, &nonfinite, 0, 1)
            else:
                with parallel(num_threads=threads):
                    propagate_member(
                        &job, opened.workspace, out, single, &gate, &nonfinite, team_rank(), team_size()
                    )
    finally:
        PyBuffer_Release(&view)
    opened.propagated = job.rows
    return not team_flag_raised(&nonfinite)


cdef void backpropagate_member(
    const training* job, void* workspace, bint single, team_gate* gate, int thread, int team
) noexcept nogil:
    cdef uint64_t mode = float_mode_enter()
    if single:
        backpropagate_batch(job, <float*>workspace, gate, thread, team)
    else:
        backpropagate_batch(job, <double*>workspace, gate, thread, team)
    float_mode_leave(mode)


def backpropagate(
    Training opened not None, moved, Rule rule not None, slope, int64_t step, double loss, losses, int threads,
):
    """Train on the rows of the last `propagate`, from slope (rows, outputs), the loss's derivative by the output.

    moved as in `train`.  losses[0] = loss is written here too: whatever may strike between two lines of Python, an
    update is counted.
    """
    cdef training job = opened.job
    cdef bint single = opened.itemsize == sizeof(float)
    cdef ptrdiff_t outputs = last_stage(&job.net).outputs if opened.propagated else 0
    cdef double* counted = <double*>one_run(losses, "losses", sizeof(double), 1, True)
    cdef team_gate gate
    check_team(opened, threads)
    if opened.propagated == 0:
        raise ValueError("there was no propagate before, or its rows have been trained on")
    set_rule(&job, opened, rule, moved)
    job.slope = one_run(slope, "slope", opened.itemsize, opened.propagated * outputs, False)
    job.order, job.rows, job.step = &opened.all_rows[0], opened.propagated, step
    job.shared, opened.propagated = threads > 1, 0
    team_gate_init(&gate, threads)
    with nogil:
        if threads == 1:
            backpropagate_member(&job, opened.workspace, single, &gate, 0, 1)
        else:
            with parallel(num_threads=threads):
                backpropagate_member(&job, opened.workspace, single, &gate, team_rank(), team_size())
        counted[0] = loss
