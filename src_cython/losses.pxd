"""The loss of each row and its gradient: one pass over a block of rows gives both.

================  =============================================  =======================================
mse               sum over outputs of (a - t)^2                   dA = 2 (a - t) scale
mae               sum over outputs of abs(a - t)                  dA = sign(a - t) scale, 0 where a = t
bce               sum of max(z, 0) - z t + ln(1 + e^-abs(z))      dZ = (sigmoid(z) - t) scale
cross_entropy     sum of t (ln(sum of e^z) - z)                   dZ = (sum of t softmax(z) - t) scale
================  =============================================  =======================================

The cross entropies are computed from z, which enters the last activation, so that no value overflows.  ``scale`` is
1 for a sum, 1 / samples for the mean over a batch, 1 / (samples outputs) where the mean is over all elements.
"""

from libc.math cimport NAN

from real cimport exp_sum_row, is_one_run, log1p_exp_row, log_row, max_row, real, sigmoid_row

cdef enum loss_code:
    MSE = 0
    BCE = 1
    CROSS_ENTROPY = 2
    MAE = 3

cdef enum:
    SUMS = 8  # independent running sums: one chain of additions would cost 4 cycles an element


cdef inline bint takes_logits(int loss) noexcept nogil:
    """Whether the loss is computed from Z, its activation included, rather than from A."""
    return loss == BCE or loss == CROSS_ENTROPY


cdef inline double loss_scale(int loss, bint summed, ptrdiff_t rows, ptrdiff_t outputs) noexcept nogil:
    if summed:
        return 1.0
    return 1.0 / rows if loss == CROSS_ENTROPY else 1.0 / (<double>rows * outputs)


cdef inline double sum_in_order(const double* x, ptrdiff_t n) noexcept nogil:
    """SUMS interleaved sums, then those one after the other."""
    cdef double sums[SUMS]
    cdef double total = 0
    cdef ptrdiff_t i = 0
    cdef int s
    for s in range(SUMS):
        sums[s] = 0
    while i + SUMS <= n:
        for s in range(SUMS):
            sums[s] += x[i + s]
        i += SUMS
    for s in range(<int>(n - i)):
        sums[s] += x[i + s]
    for s in range(SUMS):
        total += sums[s]
    return total


cdef inline double distance_of(real error, bint squared) noexcept nogil:
    return <double>error * error if squared else <double>error if error > 0 else -<double>error


cdef inline real slope_of(real error, real scale, bint squared) noexcept nogil:
    """The derivative of scale times the distance."""
    cdef real two = 2
    return two * scale * error if squared else scale if error > 0 else -scale if error < 0 else 0


cdef inline double short_distance(
    real* delta, const real* a, const real* t, ptrdiff_t n, real scale, bint squared
) noexcept nogil:
    """distance for n <= SUMS, and dA in the same pass."""
    cdef double total = 0
    cdef real error
    cdef ptrdiff_t i
    for i in range(n):
        error = a[i] - t[i]
        total += distance_of(error, squared)
        if delta != NULL:
            delta[i] = slope_of(error, scale, squared)
    return total


cdef inline double distance(const real* a, const real* t, ptrdiff_t n, bint squared) noexcept nogil:
    """The sum of (a - t)^2, or of abs(a - t), in float64, in the order of sum_in_order."""
    cdef double sums[SUMS]
    cdef double total = 0
    cdef ptrdiff_t i = 0
    cdef int s
    for s in range(SUMS):
        sums[s] = 0
    while i + SUMS <= n:
        for s in range(SUMS):
            sums[s] += distance_of(a[i + s] - t[i + s], squared)
        i += SUMS
    for s in range(<int>(n - i)):
        sums[s] += distance_of(a[i + s] - t[i + s], squared)
    for s in range(SUMS):
        total += sums[s]
    return total


cdef inline void distance_rows(
    bint squared, double* values, real* delta, ptrdiff_t delta_row, const real* a, ptrdiff_t a_row,
    const real* target, ptrdiff_t rows, ptrdiff_t outputs, real scale,
) noexcept nogil:
    """mse (squared) or mae: values (rows) and, unless delta is NULL, dA; delta may be a."""
    cdef ptrdiff_t r, j
    for r in range(rows):
        if outputs <= SUMS:
            values[r] = short_distance(delta, a, target, outputs, scale, squared)
        else:
            values[r] = distance(a, target, outputs, squared)
            for j in range(outputs if delta != NULL else 0):
                delta[j] = slope_of(a[j] - target[j], scale, squared)
        if delta != NULL:
            delta += delta_row
        a += a_row
        target += outputs


cdef inline void bce_rows(
    double* values, real* delta, ptrdiff_t delta_row, real* z, ptrdiff_t z_row,
    const real* target, ptrdiff_t rows, ptrdiff_t outputs, real scale,
) noexcept nogil:
    """values (rows) and, unless delta is NULL, dZ; overwrites z."""
    cdef ptrdiff_t runs = 1 if is_one_run(z_row, outputs) else rows
    cdef ptrdiff_t run = (rows - 1) * z_row + outputs if runs == 1 else outputs
    cdef ptrdiff_t r, j
    cdef double total
    if delta != NULL:
        for r in range(runs):
            sigmoid_row(delta + r * delta_row, z + r * z_row, run)
    for r in range(rows):
        total = 0
        for j in range(outputs):
            total += (z[r * z_row + j] if z[r * z_row + j] > 0 else 0) - z[r * z_row + j] * target[r * outputs + j]
        values[r] = total
        if delta != NULL:
            for j in range(outputs):
                delta[r * delta_row + j] = scale * (delta[r * delta_row + j] - target[r * outputs + j])
    for r in range(runs):
        log1p_exp_row(z + r * z_row, z + r * z_row, run)
    for r in range(rows):
        total = 0
        for j in range(outputs):
            total += z[r * z_row + j]
        values[r] += total


cdef inline double mass_of(const real* target, ptrdiff_t outputs) noexcept nogil:
    """What a row of probabilities sums to: 1, but for its rounding."""
    cdef double mass = 0
    cdef ptrdiff_t j
    for j in range(outputs):
        mass += target[j]
    return mass


cdef inline void cross_entropy_rows(
    double* values, real* delta, ptrdiff_t delta_row, real* z, ptrdiff_t z_row, real* sums,
    const real* target, ptrdiff_t target_columns, ptrdiff_t rows, ptrdiff_t outputs, real scale,
) noexcept nogil:
    """values (rows) and, unless delta is NULL, dZ; overwrites z and sums (rows).

    target holds a label a row (target_columns = 1) or a distribution a row (target_columns = outputs).  Labels were
    checked, but they lie in memory that is not ours: one that is no longer a label gives a loss of NaN.
    """
    cdef ptrdiff_t r, j, label = 0
    cdef real largest, share
    cdef real* e
    cdef double total
    for r in range(rows):
        largest = max_row(z, outputs)
        if target_columns == 1:
            label = <ptrdiff_t>target[0] if 0 <= target[0] < outputs else -1
            values[r] = largest - z[label] if label >= 0 else NAN
        else:
            total = 0
            for j in range(outputs):
                total += target[j] * (largest - z[j])
            values[r] = total
        e = delta if delta != NULL else z
        sums[r] = exp_sum_row(e, z, largest, outputs)
        values[r] += sums[r] - sums[r]  # 0, or NaN, of which the logarithm would make a number
        if delta != NULL:
            share = scale / sums[r]
            if target_columns == 1:
                for j in range(outputs):
                    e[j] *= share
                if label >= 0:
                    e[label] -= scale
            else:
                share *= <real>mass_of(target, outputs)
                for j in range(outputs):
                    e[j] = e[j] * share - scale * target[j]
            delta += delta_row
        z += z_row
        target += target_columns
    log_row(sums, sums, rows)
    if target_columns == 1:
        for r in range(rows):
            values[r] += sums[r]
    else:
        target -= rows * outputs
        for r in range(rows):
            values[r] += mass_of(target + r * outputs, outputs) * sums[r]


cdef inline void loss_rows(
    int loss, double* values, real* delta, ptrdiff_t delta_row, real* z, ptrdiff_t z_row, real* sums,
    const real* target, ptrdiff_t target_columns, ptrdiff_t rows, ptrdiff_t outputs, double scale,
) noexcept nogil:
    """The losses of a block of rows in float64, and the gradient for the last layer: dA for mse and mae, else dZ.

    z holds A for mse and mae.  delta is NULL where no gradient is wanted.
    """
    if loss == CROSS_ENTROPY:
        cross_entropy_rows(
            values, delta, delta_row, z, z_row, sums, target, target_columns, rows, outputs, <real>scale
        )
    elif loss == BCE:
        bce_rows(values, delta, delta_row, z, z_row, target, rows, outputs, <real>scale)
    elif loss == MAE:
        distance_rows(False, values, delta, delta_row, z, z_row, target, rows, outputs, <real>scale)
    else:
        distance_rows(True, values, delta, delta_row, z, z_row, target, rows, outputs, <real>scale)
