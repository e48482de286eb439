"""Numerical differentiation: slopes of a function from its values on both sides of a point."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastbp import _check

# The step balances truncation, ~ step^order, and rounding, ~ epsilon / step: epsilon^(1 / (order + 1)).
STEPS = {2: 6e-6, 4: 7e-4}

Vector = NDArray[np.float64]


def numerical_gradient(
    f: Callable[[Vector], float], x: ArrayLike, step: float | None = None, order: int = 2
) -> Vector:
    """The gradient of a function of many variables by central differences, (f(x + h) - f(x - h)) / 2h.

    Parameters
    ----------
    f : callable
        From a float64 array of the shape of ``x``, which it must not keep or change, to a number.
    x : array
        Where to differentiate; any shape.
    step : float, optional
        h, > 0; default: 6e-6 times max(1, abs(x)), entry by entry, for order 4 7e-4 times.
    order : {2, 4}
        The error falls with h^order; 4 takes (8 (f(x + h) - f(x - h)) - f(x + 2h) + f(x - 2h)) / 12h, twice
        the calls, and is a hundred times as exact where f is smooth. Default 2.

    Returns
    -------
    ndarray of float64
        The shape of ``x``; it costs ``order`` calls of ``f`` for every entry.

    Raises
    ------
    ValueError, TypeError
        For an ``x`` that is not finite, a step that does not move it, and an ``f`` that gives no number.

    Examples
    --------
    >>> numerical_gradient(lambda x: float((x**2).sum()), [3.0, 4.0]).round(6)
    array([6., 8.])
    """
    point = np.array(_check.numeric(x, "x"), np.float64)
    _check.finite(point.reshape(-1), point.dtype, "x")
    if step is not None and not _check.real_number(step, "step"):
        raise ValueError("step is 0, expected a number > 0")
    if _check.whole_number(order, "order") not in STEPS:
        raise ValueError(f"order is {order}, expected 2 or 4")
    gradient = np.empty_like(point)
    slopes = gradient.reshape(-1)
    for index, entry in enumerate(point.reshape(-1).tolist()):
        width = STEPS[order] * max(1.0, abs(entry)) if step is None else step
        slopes[index] = difference(f, point, index, width, order)
    return gradient


def difference(f: Callable[[Vector], float], point: Vector, index: int, width: float, order: int) -> float:
    """The slope of f along one entry of a point, which is moved for it and put back."""
    entries = point.reshape(-1)
    entry = float(entries[index])
    if entry + width == entry - width:
        raise ValueError(f"step is {width:g}, too small to move the entry {entry:g} of x")

    def slope(width: float) -> float:
        above, below = entry + width, entry - width
        entries[index] = above
        upper = _value(f(point))
        entries[index] = below
        lower = _value(f(point))
        return (upper - lower) / (above - below)

    try:
        return slope(width) if order == 2 else (4.0 * slope(width) - slope(2.0 * width)) / 3.0
    finally:
        entries[index] = entry


def _value(number: float) -> float:
    """What a function gave, as a Python float: NumPy's would warn where two infinities are subtracted."""
    if not isinstance(number, Real) and getattr(number, "shape", None) != ():
        raise TypeError(f"f gave {_check.a_kind(type(number))}, expected a number")
    return float(number)
