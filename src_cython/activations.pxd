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
    EPILOGUE_EXP_SLOPE, EPILOGUE_NONE, EPILOGUE_RELU, EPILOGUE_RELU_SLOPE, EPILOGUE_SIGMOID_SLOPE,
    EPILOGUE_TANH_SLOPE, dots, epilogue_row, exp_row, exp_sum_row, max_row, real, sigmoid_row, tanh_row,
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


cdef inline int slope_epilogue(int activation) noexcept nogil:
    """The epilogue that multiplies by this activation's derivative; softmax needs whole rows and has none."""
    if activation == RELU:
        return EPILOGUE_RELU_SLOPE
    if activation == SIGMOID:
        return EPILOGUE_SIGMOID_SLOPE
    if activation == TANH:
        return EPILOGUE_TANH_SLOPE
    if activation == EXP:
        return EPILOGUE_EXP_SLOPE
    return EPILOGUE_NONE


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
    elif activation == SOFTMAX:
        total = exp_sum_row(a, z, max_row(z, n), n)
        for i in range(n):
            a[i] /= total
    elif activation == RELU or a != z:
        epilogue_row(EPILOGUE_RELU if activation == RELU else EPILOGUE_NONE, a, z, <const real*>NULL, n)


cdef inline void activation_backward(
    int activation, real* dz, const real* da, const real* a, ptrdiff_t n
) noexcept nogil:
    """One row, or any run where `is_elementwise`; dz may be da."""
    cdef ptrdiff_t i
    cdef real dot
    if activation == SOFTMAX:
        dots(&dot, 1, da, n, a, 1, n)
        for i in range(n):
            dz[i] = a[i] * (da[i] - dot)
    elif activation != IDENTITY or dz != da:
        epilogue_row(slope_epilogue(activation), dz, da, a, n)
