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

cdef enum term_code:
    SQUARE     # (a - t)^2
    ABSOLUTE   # abs(a - t)
    SOFTPLUS   # max(a, 0) - a t: with ln(1 + e^-abs(a)) the softplus of a, less a t
    SHARE      # t (peak - a)
    PLAIN      # a

cdef enum:
    SUMS = 8  # independent running sums: one chain of additions would cost 4 cycles an element
    FEW = 32  # terms that are added one after the other: what comes of several sums is one chain, too


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


cdef inline double term_of(int term, real a, real t, real peak) noexcept nogil:
    if term == SQUARE:
        return <double>(a - t) * (a - t)
    if term == ABSOLUTE:
        return <double>(a - t) if a - t > 0 else -<double>(a - t)
    if term == SOFTPLUS:
        return (a if a > 0 else 0) - a * t
    if term == SHARE:
        return t * (peak - a)
    return a


cdef inline real slope_of(int term, real error, real scale) noexcept nogil:
    """The derivative of scale times a SQUARE or an ABSOLUTE error."""
    cdef real two = 2
    return two * scale * error if term == SQUARE else scale if error > 0 else -scale if error < 0 else 0


cdef inline double short_distance(
    int term, real* delta, const real* a, const real* t, ptrdiff_t n, real scale
) noexcept nogil:
    """sum_of_terms for n <= FEW, and dA in the same pass, which may overwrite a."""
    cdef double total = 0
    cdef real error
    cdef ptrdiff_t i
    for i in range(n):
        error = a[i] - t[i]
        total += term_of(term, a[i], t[i], 0)
        if delta != NULL:
            delta[i] = slope_of(term, error, scale)
    return total


cdef inline double sum_of_terms(int term, const real* a, const real* t, ptrdiff_t n, real peak) noexcept nogil:
    """In float64, many in the order of sum_in_order; t is read where the term has one."""
    cdef double sums[SUMS]
    cdef double total = 0
    cdef ptrdiff_t i = 0
    cdef int s
    if n > FEW:
        for s in range(SUMS):
            sums[s] = 0
        while i + SUMS <= n:
            for s in range(SUMS):
                sums[s] += term_of(term, a[i + s], t[i + s] if term != PLAIN else 0, peak)
            i += SUMS
        for s in range(<int>(n - i)):
            sums[s] += term_of(term, a[i + s], t[i + s] if term != PLAIN else 0, peak)
        for s in range(SUMS):
            total += sums[s]
    else:
        for i in range(n):
            total += term_of(term, a[i], t[i] if term != PLAIN else 0, peak)
    return total


cdef inline void distance_rows(
    int term, double* values, real* delta, ptrdiff_t delta_row, const real* a, ptrdiff_t a_row,
    const real* target, ptrdiff_t rows, ptrdiff_t outputs, real scale,
) noexcept nogil:
    """mse or mae by their terms: values (rows) and, unless delta is NULL, dA; delta may be a."""
    cdef ptrdiff_t r, j
    for r in range(rows):
        if outputs <= FEW:
            values[r] = short_distance(term, delta, a, target, outputs, scale)
        else:
            values[r] = sum_of_terms(term, a, target, outputs, 0)
            for j in range(outputs if delta != NULL else 0):
                delta[j] = slope_of(term, a[j] - target[j], scale)
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
    if delta != NULL:
        for r in range(runs):
            sigmoid_row(delta + r * delta_row, z + r * z_row, run)
    for r in range(rows):
        values[r] = sum_of_terms(SOFTPLUS, z + r * z_row, target + r * outputs, outputs, 0)
        if delta != NULL:
            for j in range(outputs):
                delta[r * delta_row + j] = scale * (delta[r * delta_row + j] - target[r * outputs + j])
    for r in range(runs):
        log1p_exp_row(z + r * z_row, z + r * z_row, run)
    for r in range(rows):
        values[r] += sum_of_terms(PLAIN, z + r * z_row, z, outputs, 0)


cdef inline double mass_of(const real* target, ptrdiff_t outputs) noexcept nogil:
    """What a row of probabilities sums to: 1, but for its rounding."""
    return sum_of_terms(PLAIN, target, target, outputs, 0)


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
    for r in range(rows):
        largest = max_row(z, outputs)
        if target_columns == 1:
            label = <ptrdiff_t>target[0] if 0 <= target[0] < outputs else -1
            values[r] = largest - z[label] if label >= 0 else NAN
        else:
            values[r] = sum_of_terms(SHARE, z, target, outputs, largest)
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
    target -= rows * target_columns
    for r in range(rows):
        values[r] += sums[r] if target_columns == 1 else mass_of(target + r * outputs, outputs) * sums[r]


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
        distance_rows(ABSOLUTE, values, delta, delta_row, z, z_row, target, rows, outputs, <real>scale)
    else:
        distance_rows(SQUARE, values, delta, delta_row, z, z_row, target, rows, outputs, <real>scale)
