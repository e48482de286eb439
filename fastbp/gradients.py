"""Numerical differentiation, and back propagation checked against it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastbp import _check
from fastbp.network import Network

STEP = 6e-6  # cube root of float64's epsilon: balances truncation, ~ step^2, and rounding, ~ epsilon / step
FINER_STEPS = (1e-6, 1e-7)  # where a derivative disagrees: the default step may have crossed a kink of ReLU
FLOOR = 1e-3  # of the largest derivative: what is smaller is lost in the rounding of the loss
TOLERANCE = 1e-5  # relative: a thousand times the error of central differences, well below a wrong formula's
_TINY = float(np.finfo(np.float64).tiny)  # so that 0 against 0 is no error


def numerical_gradient(
    f: Callable[[NDArray[np.float64]], float], x: ArrayLike, step: float | None = None
) -> NDArray[np.float64]:
    """The gradient of a function of many variables by central differences, (f(x + h) - f(x - h)) / 2h.

    Parameters
    ----------
    f : callable
        From a float64 array of the shape of ``x``, which it must not keep or change, to a number.
    x : array
        Where to differentiate; any shape.
    step : float, optional
        h, > 0; default: 6e-6 times max(1, abs(x)), entry by entry.

    Returns
    -------
    ndarray of float64
        The shape of ``x``; it costs two calls of ``f`` for every entry.

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
    gradient = np.empty_like(point)
    entries, slopes = point.reshape(-1), gradient.reshape(-1)
    for index, entry in enumerate(entries.tolist()):
        width = STEP * max(1.0, abs(entry)) if step is None else step
        above, below = entry + width, entry - width
        if above == below:
            raise ValueError(f"step is {step:g}, too small to move the entry {entry:g} of x")
        entries[index] = above
        upper = _value(f(point))
        entries[index] = below
        slopes[index] = (upper - _value(f(point))) / (above - below)
        entries[index] = entry
    return gradient


@dataclass(frozen=True)
class GradientCheck:
    """What `check_gradients` found.

    Attributes
    ----------
    max_relative_error : float
        The largest difference, relative to the derivative or, for small ones, to 0.001 of the largest.
    worst : (int, str, tuple of int)
        Where: index of the layer, "weight" or "bias", index into it.
    passed : bool
        Whether the largest difference is at most ``TOLERANCE``.
    checked, parameters : int
        Derivatives compared, and how many there are.
    backpropagation_seconds, numerical_seconds : float
        Time for all derivatives by back propagation, and for the compared ones numerically.
    """

    max_relative_error: float
    worst: tuple[int, str, tuple[int, ...]]
    checked: int
    parameters: int
    backpropagation_seconds: float
    numerical_seconds: float

    @property
    def passed(self) -> bool:
        return self.max_relative_error <= TOLERANCE

    @property
    def ratio(self) -> float:
        """How many times longer all the derivatives take numerically."""
        return self.numerical_seconds / self.checked * self.parameters / self.backpropagation_seconds

    def __str__(self) -> str:
        layer, name, index = self.worst
        place = f"layers[{layer}].{name}[{', '.join(map(str, index))}]"
        verdict = "agree" if self.passed else "DISAGREE"
        return (
            f"gradients {verdict}: {self.checked:,} of {self.parameters:,} derivatives compared, "
            f"largest relative difference {self.max_relative_error:.1e} at {place}; "
            f"back propagation {self.backpropagation_seconds * 1e3:.3g} ms for all, "
            f"numerical {self.numerical_seconds * 1e3:.3g} ms, {self.ratio:,.0f} times longer for all"
        )


def check_gradients(
    net: Network, x: ArrayLike, y: ArrayLike, *, subset: int | None = None, seed: int = 0
) -> GradientCheck:
    """Compare back propagation with numerical differentiation.

    A copy of the network in float64 is compared, also for a float32 network, where the rounding of the loss
    would hide the derivative.  The network itself is not touched.

    Parameters
    ----------
    net : Network
        The network.
    x, y : arrays
        Data and targets as for `Network.fit`; a few samples are enough.
    subset : int, optional
        Compare so many parameters drawn at random; default: all.
    seed : int
        Draws the subset; default 0.

    Returns
    -------
    GradientCheck
        The largest relative difference, where it is, and both times; ``passed`` is the verdict.

    Raises
    ------
    ValueError, TypeError
        For data that does not fit the network.
    FloatingPointError
        For a network whose loss is not finite.
    """
    if not isinstance(net, Network):
        raise TypeError(f"net is a {type(net).__name__}, expected a Network")
    twin = net.copy("float64")
    count = twin.parameters.size
    chosen = np.arange(count)
    if subset is not None:
        size = min(_check.whole_number(subset, "subset"), count)
        chosen = np.sort(np.random.default_rng(_check.seed(seed)).choice(count, size, replace=False))

    twin.loss_and_gradient(x, y)  # once unmeasured: the first call allocates
    start = time.perf_counter()
    _, gradient = twin.loss_and_gradient(x, y)
    backpropagation_seconds = time.perf_counter() - start

    def errors_at(where: NDArray[np.int64], step: float | None = None) -> NDArray[np.float64]:
        def loss_at(values: NDArray[np.float64]) -> float:
            twin.parameters[where] = values
            return twin.evaluate(x, y)["loss"]

        numerical = numerical_gradient(loss_at, net.parameters[where], step)
        twin.parameters[where] = net.parameters[where]
        return _relative_errors(gradient[where], numerical, floor)

    floor = FLOOR * float(np.abs(gradient).max())
    start = time.perf_counter()
    errors = errors_at(chosen)
    numerical_seconds = time.perf_counter() - start
    for step in FINER_STEPS:
        suspects = np.flatnonzero(errors > TOLERANCE)
        errors[suspects] = np.minimum(errors[suspects], errors_at(chosen[suspects], step))

    worst = int(errors.argmax())
    return GradientCheck(
        max_relative_error=float(errors[worst]),
        worst=_place(net, int(chosen[worst])),
        checked=len(chosen),
        parameters=count,
        backpropagation_seconds=backpropagation_seconds,
        numerical_seconds=numerical_seconds,
    )


def _value(number: float) -> float:
    """What a function gave, as a Python float: NumPy's would warn where two infinities are subtracted."""
    if not isinstance(number, Real) and getattr(number, "shape", None) != ():
        raise TypeError(f"f gave a {type(number).__name__}, expected a number")
    return float(number)


def _relative_errors(
    exact: NDArray[np.float64], numerical: NDArray[np.float64], floor: float
) -> NDArray[np.float64]:
    """Differences relative to the larger derivative, to ``floor`` where both are smaller."""
    size = np.maximum(np.maximum(np.abs(exact), np.abs(numerical)), max(floor, _TINY))
    return np.abs(exact - numerical) / size


def _place(net: Network, position: int) -> tuple[int, str, tuple[int, ...]]:
    """Layer, name and index of an entry of the flat vector."""
    for number, layer in enumerate(net.layers):
        for name, array in layer.parameters.items():
            if position < array.size:
                return number, name, tuple(map(int, np.unravel_index(position, array.shape)))
            position -= array.size
    raise IndexError(f"position {position} is behind the last parameter")
