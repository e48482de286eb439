"""Activations on rows: A = f(Z), and dZ = dA * f'(Z) with the derivative read off the output A.

=========  =========================  ==============================
identity   a = z                      da
relu       a = max(0, z)              da where a > 0, else 0
sigmoid    a = 1 / (1 + e^-z)         da a (1 - a)
tanh       a = tanh z                 da (1 - a^2)
softmax    a = e^z / sum of e^z       a (da - sum of da a)
exp        a = e^z                    da a
=========  =========================  ==============================
"""

from real cimport (
    TILE_EXP_SLOPE, TILE_RELU_SLOPE, TILE_SIGMOID_SLOPE, TILE_STORE, TILE_TANH_SLOPE,
    exp_row, exp_sum_row, max_row, real, sigmoid_row, tanh_row,
)

cdef enum activation_code:
    IDENTITY = 0
    RELU = 1
    SIGMOID = 2
    TANH = 3
    SOFTMAX = 4
    EXP = 5


cdef inline bint is_elementwise(int activation) noexcept nogil:
    """Whether rows may be run together: softmax alone needs to know where one ends."""
    return activation != SOFTMAX


cdef inline void activation_forward(int activation, real* a, const real* z, ptrdiff_t n) noexcept nogil:
    """One row, or any run where `is_elementwise`; a may be z."""
    cdef ptrdiff_t i
    cdef real total
    if activation == SIGMOID:
        sigmoid_row(a, z, n)
    elif activation == TANH:
        tanh_row(a, z, n)
    elif activation == EXP:
        exp_row(a, z, n)
    elif activation == RELU:
        for i in range(n):
            a[i] = 0 if z[i] < 0 else z[i]  # a NaN stays
    elif activation == SOFTMAX:
        total = exp_sum_row(a, z, max_row(z, n), n)
        for i in range(n):
            a[i] /= total
    elif a != z:
        for i in range(n):
            a[i] = z[i]


cdef inline void activation_backward(
    int activation, real* dz, const real* da, const real* a, ptrdiff_t n
) noexcept nogil:
    """One row, or any run where `is_elementwise`; dz may be da."""
    cdef ptrdiff_t i
    cdef real one = 1, dot  # 1 itself would be a double, and so would what it is subtracted from
    if activation == RELU:
        for i in range(n):
            dz[i] = da[i] if a[i] > 0 else 0
    elif activation == SIGMOID:
        for i in range(n):
            dz[i] = da[i] * (a[i] * (one - a[i]))
    elif activation == TANH:
        for i in range(n):
            dz[i] = da[i] * (one - a[i] * a[i])
    elif activation == EXP:
        for i in range(n):
            dz[i] = da[i] * a[i]
    elif activation == SOFTMAX:
        dot = 0
        for i in range(n):
            dot += da[i] * a[i]
        for i in range(n):
            dz[i] = a[i] * (da[i] - dot)
    elif dz != da:
        for i in range(n):
            dz[i] = da[i]


cdef inline int slope_epilogue(int activation) noexcept nogil:
    """The tile's epilogue that multiplies by this activation's derivative; softmax needs whole rows and has none."""
    if activation == RELU:
        return TILE_RELU_SLOPE
    if activation == SIGMOID:
        return TILE_SIGMOID_SLOPE
    if activation == TANH:
        return TILE_TANH_SLOPE
    if activation == EXP:
        return TILE_EXP_SLOPE
    return TILE_STORE
