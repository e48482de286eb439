"""One update of a run of parameters from its gradient: formulas and defaults as PyTorch states them.

========  ========================================================================================
sgd       v <- momentum v + g;  w <- w - lr v,  or with Nesterov  w <- w - lr (g + momentum v)
adam      m <- m + (1 - beta1)(g - m);  v <- beta2 v + (1 - beta2) g^2;
          w <- w - lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)
========  ========================================================================================
"""

from libc.math cimport pow as power, sqrt as root
from libc.stdint cimport int64_t

from real cimport real, square_root

cdef enum optimizer_code:
    GRADIENT = 0      # no update: the gradient is stored
    SGD = 1
    ADAM = 2
    GRADIENT_SUM = 3  # no update: the gradient is added to what is there: for partial gradients, not from outside

cdef struct update_rule:
    # An epoch's, or that of one step, as `rule_at` makes it.
    int optimizer
    double lr          # adam in step t: divided by 1 - beta1^t
    double momentum
    bint nesterov
    double beta1
    double beta2
    double epsilon
    double correction  # adam in step t: 1 / sqrt(1 - beta2^t)


cdef inline bint is_update(const update_rule* rule) noexcept nogil:
    """Whether the rule changes parameters."""
    return rule.optimizer == SGD or rule.optimizer == ADAM


cdef inline update_rule rule_at(const update_rule* rule, int64_t step) noexcept nogil:
    """An epoch's rule in step number ``step``, counted from 1."""
    cdef update_rule at = rule[0]
    if rule.optimizer == ADAM:
        at.lr /= 1 - power(rule.beta1, <double>step)
        at.correction = 1 / root(1 - power(rule.beta2, <double>step))
    return at


cdef inline void sgd_update(real* w, const real* g, ptrdiff_t n, real lr) noexcept nogil:
    cdef ptrdiff_t i
    for i in range(n):
        w[i] -= lr * g[i]


cdef inline void momentum_update(
    real* w, real* v, const real* g, ptrdiff_t n, real lr, real momentum, bint nesterov
) noexcept nogil:
    cdef ptrdiff_t i
    if nesterov:
        for i in range(n):
            v[i] = momentum * v[i] + g[i]
            w[i] -= lr * (g[i] + momentum * v[i])
    else:
        for i in range(n):
            v[i] = momentum * v[i] + g[i]
            w[i] -= lr * v[i]


cdef inline void adam_update(
    real* w, real* m, real* v, const real* g, ptrdiff_t n,
    real lr, real beta2, real less1, real less2, real correction, real epsilon,
) noexcept nogil:
    """less1 = 1 - beta1, less2 = 1 - beta2, formed in float64."""
    cdef ptrdiff_t i
    for i in range(n):
        m[i] += less1 * (g[i] - m[i])
        v[i] = beta2 * v[i] + less2 * (g[i] * g[i])
        w[i] -= lr * m[i] / (square_root(v[i]) * correction + epsilon)


cdef inline void update(
    const update_rule* rule, real* w, real* state, ptrdiff_t slot, const real* g, ptrdiff_t n
) noexcept nogil:
    """w (n) from g (n).  The optimiser's arrays stand ``slot`` elements apart from state on: v, or m and v."""
    if rule.optimizer == ADAM:
        adam_update(
            w, state, state + slot, g, n, <real>rule.lr, <real>rule.beta2, <real>(1 - rule.beta1),
            <real>(1 - rule.beta2), <real>rule.correction, <real>rule.epsilon,
        )
    elif rule.momentum != 0:
        momentum_update(w, state, g, n, <real>rule.lr, <real>rule.momentum, rule.nesterov)
    else:
        sgd_update(w, g, n, <real>rule.lr)
