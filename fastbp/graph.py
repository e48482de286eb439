"""The computational graph: numbers and arrays that know how they were computed, and pass derivatives back.

>>> apples, price, tax = Variable(2, "apples"), Variable(100, "price"), Variable(1.1, "tax")
>>> total = apples * price * tax
>>> total.backward()
>>> round(float(total), 6), round(float(price.grad), 6)
(220.0, 2.2)

All operations follow IEEE arithmetic without warnings: log(0) is -inf, 1/0 is inf, the root of -1 is NaN.
Where the derivative that arrives is 0, log, sqrt, / and ** pass on 0, even if their own is infinite.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastbp.node import (
    ONE,
    TAKES_NODES,
    Array,
    Axis,
    Operand,
    Operation,
    Shape,
    Variable,
    times,
    times_if_any,
    walk,
)

__all__ = [
    "Operation", "Variable", "absolute", "add", "affine", "clip", "divide", "exp", "log", "matmul", "maximum",
    "minimum", "multiply", "negative", "power", "relu", "sigmoid", "softmax", "sqrt", "square", "step",
    "subtract", "tanh", "times", "times_if_any", "walk", "where",
]  # fmt: skip

# Element by element

_TWO, _TWO_IF_ANY = (times, times), (times_if_any, times_if_any)

add = Operation("+", "x + y", np.add, lambda z, x, y: (ONE, ONE), _TWO)
subtract = Operation("-", "x - y", np.subtract, lambda z, x, y: (ONE, -1), _TWO)
multiply = Operation("*", "x y", np.multiply, lambda z, x, y: (y, x), _TWO)
divide = Operation("/", "x / y", np.divide, lambda z, x, y: (1 / y, -z / y), _TWO_IF_ANY)
negative = Operation("neg", "-x", np.negative, lambda y, x: (-1,))
exp = Operation("exp", "e^x", np.exp, lambda y, x: (y,))
log = Operation("log", "ln x", np.log, lambda y, x: (1 / x,), (times_if_any,))
sqrt = Operation("sqrt", "root of x", np.sqrt, lambda y, x: (0.5 / y,), (times_if_any,))
square = Operation("square", "x^2", np.square, lambda y, x: (2 * x,))
absolute = Operation("absolute", "|x|, with derivative 0 at 0", np.absolute, lambda y, x: (np.sign(x),))
maximum = Operation("maximum", "the larger, x of equals", np.maximum, lambda z, x, y: (x >= y, x < y), _TWO)
minimum = Operation("minimum", "the smaller, x of equals", np.minimum, lambda z, x, y: (x <= y, x > y), _TWO)
sigmoid = Operation("sigmoid", "1 / (1 + e^-x)", lambda x: 1 / (1 + np.exp(-x)), lambda y, x: (y * (1 - y),))
tanh = Operation("tanh", "tanh x", np.tanh, lambda y, x: (1 - y * y,))
relu = Operation("relu", "max(0, x)", lambda x: np.maximum(x, 0), lambda y, x: (x > 0,))
step = Operation("step", "1 where x > 0, else 0", lambda x: x > 0, lambda y, x: (0,))
_where = Operation("where", "x or y", lambda x, y, c: np.where(c, x, y), lambda z, x, y, c: (c, ~c), _TWO)
_power = Operation(
    "**",
    "x^y",
    np.power,
    lambda z, x, y: (np.where(y == 0, 0, y * x ** (y - 1)), np.where(z == 0, 0, z * np.log(x))),
    _TWO_IF_ANY,
)
_number_power = Operation(
    "** {:g}", "x^n", operator.pow, lambda y, x, n: (n * x ** (n - 1) if n else 0,), (times_if_any,)
)


def power(x: Operand, n: Operand) -> Variable:
    """x^n; a plain number n is part of the operation, anything else an input with a derivative of its own."""
    return _number_power(x, settings=(float(n),)) if isinstance(n, Real) else _power(x, n)


def where(chosen: ArrayLike, x: Operand, y: Operand) -> Variable:
    """x where ``chosen`` is true, y elsewhere; to each comes back what arrives in its places."""
    return _where(x, y, settings=(np.asarray(chosen, np.bool_),))


def clip(x: Operand, low: Operand | None = None, high: Operand | None = None) -> Variable:
    """x kept between two bounds; where it lies beyond them nothing comes back to it."""
    floored = maximum(x, -np.inf if low is None else low)
    return floored if high is None else minimum(floored, high)


# Matrices


def _product(x: Array, w: Array) -> Array:
    if max(x.ndim, w.ndim) > 2:
        raise ValueError("expected at most 2 axes")
    return np.asarray(x @ w)


def _affine(x: Array, w: Array, b: Array) -> Array:
    z = _product(x, w)
    z += b  # in place, so that z cannot be repeated to fit b
    return z


def _times_right(g: Array, w_transposed: Array, *_: Any) -> Array:
    """dX = dZ W^T of Z = X W."""
    return np.multiply.outer(g, w_transposed) if w_transposed.ndim == 1 else g @ w_transposed


def _times_left(g: Array, x_transposed: Array, *_: Any) -> Array:
    """dW = X^T dZ of Z = X W."""
    return np.multiply.outer(x_transposed, g) if x_transposed.ndim == 1 else x_transposed @ g


def _softmax(z: Array) -> Array:
    weights = np.exp(z - z.max(-1, keepdims=True))
    return np.asarray(weights / weights.sum(-1, keepdims=True))


def _times_jacobian(g: Array, a: Array, *_: Any) -> Array:
    """dz = (diag(a) - a a^T) da in every row, of a = softmax(z)."""
    return np.asarray(a * (g - (g * a).sum(-1, keepdims=True)))


matmul = Operation("@", "X W", _product, lambda z, x, w: (w.T, x.T), (_times_right, _times_left))
affine = Operation(
    "affine", "X W + b", _affine, lambda z, x, w, b: (w.T, x.T, ONE), (_times_right, _times_left, times)
)
softmax = Operation("softmax", "e^x / sum of e^x", _softmax, lambda y, x: (y,), (_times_jacobian,))

# Entries summed and moved


def _reduced(kept: Array, axis: Axis, keepdims: bool) -> Array:
    """A sum or mean that kept its axes, without them unless they are to stay."""
    return kept if keepdims else kept.squeeze(axis)


def _sum_up(x: Array, axis: Axis, keepdims: bool) -> Array:
    return _reduced(x.sum(axis, keepdims=True), axis, keepdims)


def _average(x: Array, axis: Axis, keepdims: bool) -> Array:
    if not x.size:
        raise ValueError("there is nothing to average")
    return _reduced(x.mean(axis, keepdims=True), axis, keepdims)


def _spread(g: Array, local: Any, shape: Shape, axis: Axis, keepdims: bool) -> Array:
    """To every entry that went into a sum or a mean."""
    if axis is not None and not keepdims:
        axes = axis if isinstance(axis, tuple) else (axis,)
        g = np.expand_dims(g, tuple(each % len(shape) for each in axes))
    return np.broadcast_to(g if local is ONE else g * local, shape)


def _put_back(g: Array, local: Any, shape: Shape, key: Any) -> Array:
    """To where the entries were taken from; one that was taken twice adds up."""
    dx = np.zeros(shape, g.dtype)
    parts = key if isinstance(key, tuple) else (key,)
    if all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in parts):
        dx[key] = g
    else:
        np.add.at(dx, key, g)
    return dx


_sum = Operation("sum", "sum of x", _sum_up, lambda y, x, *_: (ONE,), (_spread,))
_mean = Operation("mean", "mean of x", _average, lambda y, x, *_: (y.size / x.size,), (_spread,))
_reshape = Operation(
    "reshape",
    "x in another shape",
    np.reshape,
    lambda y, x, _: (ONE,),
    (lambda g, local, shape, _: g.reshape(shape),),
)
_transpose = Operation(
    "transpose",
    "x with its axes in another order",
    np.transpose,
    lambda y, x, _: (ONE,),
    (lambda g, local, shape, axes: g.transpose(axes and np.argsort([i % len(shape) for i in axes])),),
)
_getitem = Operation("getitem", "x[key]", operator.getitem, lambda y, x, _: (ONE,), (_put_back,))


def _taken(x: Variable, key: Any) -> Variable:
    parts = tuple(map(_index, key)) if isinstance(key, tuple) else _index(key)
    return _getitem(x, settings=(parts,))


def _index(part: Any) -> Any:
    """A part of a key; labels in a node, floating point as all values there, become the whole numbers."""
    if not isinstance(part, Variable):
        return part
    whole = part.value.astype(np.intp)
    if (whole != part.value).any():
        raise IndexError(f"{part!r} is an index, expected whole numbers")
    return whole


# What operators, methods and functions of NumPy do with nodes


def _of_values(comparison: np.ufunc) -> Callable[..., Any]:
    """A comparison of the values, which gives an array and no node."""
    return lambda *operands: comparison(*(x.value if isinstance(x, Variable) else x for x in operands))


def _clip_by_numpy(
    a: Operand, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None
) -> Variable:
    """`clip` with NumPy's names for the bounds, older and newer ones."""
    return clip(a, a_min if min is None else min, a_max if max is None else max)


for _same in (
    add, subtract, multiply, divide, negative, exp, log, sqrt, square, absolute, maximum, minimum, tanh
):  # fmt: skip
    TAKES_NODES[_same.forward] = _same
for _comparison in (np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal):
    TAKES_NODES[_comparison] = _of_values(_comparison)
for _question in (np.shape, np.ndim, np.size):
    TAKES_NODES[_question] = operator.attrgetter(_question.__name__)
TAKES_NODES[np.power] = power
TAKES_NODES[np.matmul] = TAKES_NODES[np.dot] = matmul
TAKES_NODES[np.where] = where
TAKES_NODES[np.clip] = _clip_by_numpy
TAKES_NODES[np.sum] = lambda x, axis=None, keepdims=False: _sum(x, settings=(axis, keepdims))
TAKES_NODES[np.mean] = lambda x, axis=None, keepdims=False: _mean(x, settings=(axis, keepdims))
TAKES_NODES[np.reshape] = lambda x, shape: _reshape(x, settings=(shape,))
TAKES_NODES[np.transpose] = lambda x, axes=None: _transpose(x, settings=(axes,))
TAKES_NODES[operator.getitem] = _taken
