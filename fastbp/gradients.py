"""Numerical differentiation, and back propagation checked against it: of networks, layers and losses."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastbp import _check, losses
from fastbp.layers import Layer
from fastbp.losses import Loss
from fastbp.network import Network
from fastbp.training import progress_bar

# The step balances truncation, ~ step^order, and rounding, ~ epsilon / step: epsilon^(1 / (order + 1)).
STEPS = {2: 6e-6, 4: 7e-4}
# Where a derivative disagrees, more steps with their orders, from the widest, which hides the rounding of a
# large loss, to the finest two, which do not cross a kink of ReLU.
LADDER = ((4, 7e-4), (4, 6e-5), (2, 6e-6), (2, 1e-6), (2, 1e-7), (2, 2e-8))
FLOOR = 1e-3  # of the largest derivative: what is smaller is lost in the rounding of the loss
TOLERANCE = 1e-5  # relative: a thousand times the error of central differences, well below a wrong formula's
FLOAT32_TOLERANCE = 1e-3  # of the largest derivative: sums of some thousand products, each rounded to 6e-8
MOST = 10_000  # derivatives compared unless more are asked for
_EPSILON = float(np.finfo(np.float64).eps)
_TINY = float(np.finfo(np.float64).tiny)  # so that 0 against 0 is no error

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
        slopes[index] = _difference(f, point, index, width, order)
    return gradient


def _difference(f: Callable[[Vector], float], point: Vector, index: int, width: float, order: int) -> float:
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


@dataclass(frozen=True, repr=False)
class GradientCheck:
    """What `check_gradients` found.

    Attributes
    ----------
    max_relative_error : float
        The largest difference, relative to the derivative or, for small ones, to 0.001 of the largest, and to
        what the rounding of a large loss leaves to see.
    worst : (int or None, str, tuple of int)
        Where: index of the layer in a network, else None; "weight", "bias" ..., or "x" or "output"; index.
    float32_error : float or None
        How far the derivatives in float32 are from those in float64, the largest difference as a share of the
        largest derivative; None where nothing computes in float32.
    passed : bool
        Whether the differences are at most ``TOLERANCE`` and ``FLOAT32_TOLERANCE``.
    checked, parameters : int
        Derivatives compared, and how many there are.
    backpropagation_seconds, numerical_seconds : float
        Time for all derivatives by back propagation, and for the compared ones numerically.
    """

    max_relative_error: float
    worst: tuple[int | None, str, tuple[int, ...]]
    float32_error: float | None
    checked: int
    parameters: int
    backpropagation_seconds: float
    numerical_seconds: float

    @property
    def passed(self) -> bool:
        return self.max_relative_error <= TOLERANCE and (self.float32_error or 0.0) <= FLOAT32_TOLERANCE

    @property
    def ratio(self) -> float:
        """How many times longer all the derivatives take numerically."""
        return self.numerical_seconds / self.checked * self.parameters / self.backpropagation_seconds

    def __repr__(self) -> str:
        layer, name, index = self.worst
        place = f"{'' if layer is None else f'layers[{layer}].'}{name}[{', '.join(map(str, index))}]"
        single = "" if self.float32_error is None else f"; float32 {self.float32_error:.1e} from float64"
        verdict = "agree" if self.passed else "DISAGREE"
        return (
            f"gradients {verdict}: {self.checked:,} of {self.parameters:,} derivatives compared, "
            f"largest relative difference {self.max_relative_error:.1e} at {place}{single}; "
            f"back propagation {self.backpropagation_seconds * 1e3:.3g} ms for all, "
            f"numerical {self.numerical_seconds * 1e3:.3g} ms, {self.ratio:,.0f} times longer for all"
        )


@dataclass(frozen=True)
class _Problem:
    """A function of many variables at a point, and its gradient there by back propagation."""

    value: Callable[[Vector], float]
    point: Vector
    gradient: Callable[[], Vector]
    gradient_in_float32: Callable[[], NDArray[Any]] | None
    places: list[tuple[int | None, str, tuple[int, ...]]]  # layer, name and shape of the arrays in the point

    def place(self, position: int) -> tuple[int | None, str, tuple[int, ...]]:
        """Layer, name and index of an entry of the point."""
        for layer, name, shape in self.places:
            size = int(np.prod(shape))
            if position < size:
                return layer, name, tuple(map(int, np.unravel_index(position, shape)))
            position -= size
        raise IndexError(f"position {position} is behind the last parameter")


def check_gradients(
    checked: Network | Layer | Loss | str | Callable[..., Any],
    x: ArrayLike,
    y: ArrayLike | None = None,
    *,
    subset: int | None = None,
    seed: int = 0,
    verbose: bool | None = None,
) -> GradientCheck:
    """Compare back propagation with numerical differentiation: of a network, a layer or a loss.

    Copies in float64 are compared by central differences of second order, and where those disagree by others,
    of the order and step whose neighbours agree best.  What computes in float32 is then held against float64.

    Parameters
    ----------
    checked : Network, Layer, Loss, str or callable
        A network with ``x, y`` as for `Network.fit`; a layer with ``x``, whose output is summed with random
        weights; a loss, its name or function with the output as ``x`` and the target as ``y``.
    x, y : arrays
        A few samples are enough.
    subset, seed : int, optional
        Compare so many derivatives drawn at random by the seed, default 0; default: all up to 10,000.
    verbose : bool, optional
        Show a tqdm bar (default: when it is installed and a terminal watches).

    Returns
    -------
    GradientCheck
        The largest relative difference, where it is, and both times; ``passed`` is the verdict.

    Raises
    ------
    ValueError, TypeError, FloatingPointError
        For data that does not fit, and for a loss that is not finite.
    """
    verbose = None if verbose is None else _check.boolean(verbose, "verbose")
    size = MOST if subset is None else _check.whole_number(subset, "subset")
    rng = np.random.default_rng(_check.seed(seed))
    problem = _problem(checked, x, y, rng)
    count = problem.point.size
    chosen = np.arange(count)
    if size < count:
        chosen = np.sort(rng.choice(count, size, replace=False))

    problem.gradient()  # once unmeasured: the first call allocates
    start = time.perf_counter()
    gradient = problem.gradient()
    backpropagation_seconds = time.perf_counter() - start
    largest = float(np.abs(gradient).max())
    rounding = _EPSILON * abs(problem.value(problem.point.copy()))
    floor = max(FLOOR * largest, 4.0 * rounding / STEPS[4] / TOLERANCE)
    start = time.perf_counter()
    numerical = _differences(problem, chosen, verbose)
    numerical_seconds = time.perf_counter() - start

    errors = _relative_errors(gradient[chosen], numerical, floor)
    suspects = np.flatnonzero(~(errors <= TOLERANCE))
    better = _best_differences(problem, chosen[suspects], rounding)
    errors[suspects] = _relative_errors(gradient[chosen[suspects]], better, floor)
    float32_error = None
    if problem.gradient_in_float32 is not None:
        single = problem.gradient_in_float32().astype(np.float64)
        float32_error = float(np.abs(single - gradient).max() / max(largest, _TINY))

    worst = int(np.nan_to_num(errors, nan=np.inf).argmax())
    return GradientCheck(
        max_relative_error=float(errors[worst]),
        worst=problem.place(int(chosen[worst])),
        float32_error=float32_error,
        checked=len(chosen),
        parameters=count,
        backpropagation_seconds=backpropagation_seconds,
        numerical_seconds=numerical_seconds,
    )


def _problem(checked: Any, x: Any, y: Any, rng: np.random.Generator) -> _Problem:
    if isinstance(checked, Layer):
        if y is not None:
            raise TypeError("y is given, but a layer has no target")
        return _problem_of_layer(checked, x, rng)
    if isinstance(checked, type):
        found = checked.__name__
        raise TypeError(f"checked is the class {found}, expected an object: {found}(...)")
    if not isinstance(checked, (Network, Loss, str)) and not callable(checked):
        found = _check.a_kind(type(checked))
        raise TypeError(f"checked is {found}, expected a Network, a Layer or a loss")
    if y is None:
        raise TypeError("y is missing: the targets of a network, or of a loss")
    return (
        _problem_of_network(checked, x, y)
        if isinstance(checked, Network)
        else _problem_of_loss(losses.get(checked), x, y)
    )


def _problem_of_network(net: Network, x: ArrayLike, y: ArrayLike) -> _Problem:
    """The loss as a function of the parameters."""
    twin, exact = net.copy("float64"), net.copy("float64")

    def value(parameters: Vector) -> float:
        twin.parameters[:] = parameters
        return twin.evaluate(x, y)["loss"]

    return _Problem(
        value,
        exact.parameters.copy(),
        lambda: exact.loss_and_gradient(x, y)[1],
        (lambda: net.copy().loss_and_gradient(x, y)[1]) if net.dtype == np.float32 else None,
        [
            (number, name, array.shape)
            for number, layer in enumerate(net.layers)
            for name, array in layer.parameters.items()
        ],
    )


def _problem_of_layer(layer: Layer, x: ArrayLike, rng: np.random.Generator) -> _Problem:
    """The output, summed with random weights, as a function of x and the parameters."""
    given = _check.features(x, layer.in_features, taker="the layer")
    start = _check.contiguous(given, np.dtype(np.float64), "x")
    twin = _alone(layer, np.float64)
    arrays = [start, *twin.parameters.values()]
    names = ["x", *twin.parameters]
    dy = rng.normal(size=np.shape(_result(layer, "forward", twin.forward(start.copy()), len(start))))

    def value(point: Vector) -> float:
        first = start.size
        for array in twin.parameters.values():
            array[...] = point[first : first + array.size].reshape(array.shape)
            first += array.size
        return float(np.vdot(twin.forward(point[: start.size].reshape(start.shape).copy()), dy))

    def gradient(dtype: type[np.floating[Any]] = np.float64) -> NDArray[Any]:
        alone = _alone(layer, dtype)
        alone.forward(start.astype(dtype))
        dx = _result(layer, "backward", alone.backward(dy.astype(dtype)), len(start))
        if dx.shape != start.shape:
            raise ValueError(f"{layer!r}.backward gave shape {dx.shape}, expected {start.shape}")
        return np.concatenate([array.ravel() for array in (dx, *alone.gradients.values())])

    point = np.concatenate([array.ravel() for array in arrays])
    single = given.dtype == np.float32 or layer._dtype == np.float32
    return _Problem(
        value,
        point,
        lambda: gradient().astype(np.float64),
        (lambda: gradient(np.float32)) if single else None,
        [(None, name, array.shape) for name, array in zip(names, arrays, strict=True)],
    )


def _problem_of_loss(loss: Loss, output: ArrayLike, target: ArrayLike) -> _Problem:
    """The loss as a function of the output."""
    given = _check.features(output, None, "output", "the loss")
    start = _check.contiguous(given, np.dtype(np.float64), "output")
    return _Problem(
        lambda point: loss._one_value(point.reshape(start.shape), target),
        start.ravel().copy(),
        lambda: np.asarray(loss.gradient(start, target), np.float64).ravel(),
        (lambda: loss.gradient(given, target).ravel()) if given.dtype == np.float32 else None,
        [(None, "output", start.shape)],
    )


def _alone(layer: Layer, dtype: type[np.floating[Any]]) -> Layer:
    """A copy of a layer outside of any network, in another precision, its gradients 0."""
    numbers = {name: array.astype(dtype) for name, array in layer.parameters.items()}
    alone = copy.deepcopy(layer)
    alone._bind(numbers, {name: np.zeros_like(array) for name, array in numbers.items()})
    return alone


def _result(layer: Layer, method: str, given: Any, rows: int) -> NDArray[Any]:
    """What a layer's method gave: an array with as many rows as went in."""
    array = _check.numeric(given, f"what {layer!r}.{method} gave")
    if array.ndim != 2 or len(array) != rows:
        raise ValueError(f"{layer!r}.{method} gave shape {array.shape}, expected {rows} rows")
    return array


def _differences(problem: _Problem, chosen: NDArray[np.int64], verbose: bool | None) -> Vector:
    """Central differences of second order along the chosen entries."""
    point, bar = problem.point.copy(), progress_bar(verbose, len(chosen), "derivative")
    slopes = np.empty(len(chosen))
    try:
        for number, index in enumerate(chosen.tolist()):
            width = STEPS[2] * max(1.0, abs(float(point[index])))
            slopes[number] = _difference(problem.value, point, index, width, 2)
            if bar is not None:
                bar.update()
    finally:
        if bar is not None:
            bar.close()
    return slopes


def _best_differences(problem: _Problem, suspects: NDArray[np.int64], rounding: float) -> Vector:
    """Of a ladder of differences the one with the least error, whatever back propagation says.

    The error is estimated by how far the neighbour with a finer step is, and by the rounding of the values.
    """
    point = problem.point.copy()
    best, steps = np.empty(len(suspects)), np.array([step for _, step in LADDER])
    for number, index in enumerate(suspects.tolist()):
        size = max(1.0, abs(float(point[index])))
        slopes = np.array(
            [_difference(problem.value, point, index, step * size, order) for order, step in LADDER]
        )
        with np.errstate(invalid="ignore"):
            error = np.abs(np.diff(slopes)) + rounding / steps[:-1] / size
        best[number] = slopes[int(np.nan_to_num(error, nan=np.inf).argmin())]
    return best


def _value(number: float) -> float:
    """What a function gave, as a Python float: NumPy's would warn where two infinities are subtracted."""
    if not isinstance(number, Real) and getattr(number, "shape", None) != ():
        raise TypeError(f"f gave {_check.a_kind(type(number))}, expected a number")
    return float(number)


def _relative_errors(exact: Vector, numerical: Vector, floor: float) -> Vector:
    """Differences relative to the larger derivative, to ``floor`` where both are smaller."""
    size = np.maximum(np.maximum(np.abs(exact), np.abs(numerical)), max(floor, _TINY))
    return np.asarray(np.abs(exact - numerical) / size)
