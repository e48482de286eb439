"""Back propagation checked against numerical differentiation: of networks, layers and losses."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastbp import _check, losses
from fastbp.differences import STEPS, Vector, difference
from fastbp.layers import Layer
from fastbp.losses import Loss
from fastbp.network import Network
from fastbp.training import progress_bar

# Where a derivative disagrees, more steps with their orders, from the widest, which hides the rounding of a
# large loss, to the finest two, which do not cross a kink of ReLU.
LADDER = ((4, 7e-4), (4, 6e-5), (2, 6e-6), (2, 1e-6), (2, 1e-7), (2, 2e-8))
FLOOR = 1e-3  # of the largest derivative: what is smaller is lost in the rounding of the loss
TOLERANCE = 1e-5  # relative: a thousand times the error of central differences, well below a wrong formula's
FLOAT32_TOLERANCE = 1e-3  # of the largest derivative: sums of some thousand products, each rounded to 6e-8
MOST = 10_000  # derivatives compared unless more are asked for
KINK_STEPS = (
    1e-5,
    1e-6,
)  # over which the slopes to both sides of a kink differ alike, those of a curve do not
BESIDE = 1e-3  # how far from a kink derivatives are compared instead
_EPSILON = float(np.finfo(np.float64).eps)
_TINY = float(np.finfo(np.float64).tiny)  # so that 0 against 0 is no error


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
    at_kink : bool
        Whether the point given lies on a kink, as of ReLU at exactly 0, and one beside it was taken instead.
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
    at_kink: bool = False

    @property
    def passed(self) -> bool:
        """The verdict."""
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
        beside = ", beside a kink at the point given" if self.at_kink else ""
        return (
            f"gradients {verdict}: {self.checked:,} of {self.parameters:,} derivatives compared{beside}, "
            f"largest relative difference {self.max_relative_error:.1e} at {place}{single}; "
            f"back propagation {self.backpropagation_seconds * 1e3:.3g} ms for all, "
            f"numerical {self.numerical_seconds * 1e3:.3g} ms, {self.ratio:,.0f} times longer for all"
        )


@dataclass(frozen=True)
class _Problem:
    """A function of many variables at a point, and its gradient by back propagation, in a precision."""

    value: Callable[[Vector], float]
    point: Vector
    gradient: Callable[[Vector, type[np.floating[Any]]], NDArray[Any]]
    is_single: bool  # whether it is to be held against float32
    places: Sequence[tuple[int | None, str, tuple[int, ...]]]  # layer, name, shape of what is in the point

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

    Copies in float64 are compared by central differences of second order, and where those disagree by
    others, of the order and step whose neighbours agree best.  At a kink, as of ReLU at exactly 0, where
    new biases and a row of zeros lead, there is no derivative: then all is compared at a point beside it.
    What computes in float32 is held against float64.

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
    chosen = np.arange(problem.point.size)
    if size < len(chosen):
        chosen = np.sort(rng.choice(len(chosen), size, replace=False))
    check, disagreeing = _compare(problem, chosen, verbose)
    if any(_is_at_kink(problem, index) for index in disagreeing.tolist()):
        problem = replace(problem, point=_beside(problem.point, rng))
        check = replace(_compare(problem, chosen, verbose)[0], at_kink=True)
    return check


def _compare(
    problem: _Problem, chosen: NDArray[np.int64], verbose: bool | None
) -> tuple[GradientCheck, NDArray[np.int64]]:
    """Back propagation and differences at the problem's point, and which of the chosen entries disagree."""
    point = problem.point
    problem.gradient(point, np.float64)  # once unmeasured: the first call allocates
    start = time.perf_counter()
    gradient = problem.gradient(point, np.float64)
    backpropagation_seconds = time.perf_counter() - start
    largest = float(np.abs(gradient).max())
    rounding = _EPSILON * abs(problem.value(point.copy()))
    floor = max(FLOOR * largest, 4.0 * rounding / STEPS[4] / TOLERANCE)
    start = time.perf_counter()
    numerical = _differences(problem, chosen, verbose)
    numerical_seconds = time.perf_counter() - start

    errors = _relative_errors(gradient[chosen], numerical, floor)
    suspects = np.flatnonzero(~(errors <= TOLERANCE))
    better = _best_differences(problem, chosen[suspects], rounding)
    errors[suspects] = _relative_errors(gradient[chosen[suspects]], better, floor)
    float32_error = None
    if problem.is_single:
        single = problem.gradient(point, np.float32).astype(np.float64)
        float32_error = float(np.abs(single - gradient).max() / max(largest, _TINY))

    worst = int(np.nan_to_num(errors, nan=np.inf).argmax())
    check = GradientCheck(
        max_relative_error=float(errors[worst]),
        worst=problem.place(int(chosen[worst])),
        float32_error=float32_error,
        checked=len(chosen),
        parameters=point.size,
        backpropagation_seconds=backpropagation_seconds,
        numerical_seconds=numerical_seconds,
    )
    return check, chosen[~(errors <= TOLERANCE)]


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
    is_single = net.dtype == np.float32
    twin = net.copy("float64")
    twins = {np.dtype(dtype): net.copy(dtype) for dtype in ("float64", "float32")[: 1 + is_single]}

    def value(parameters: Vector) -> float:
        twin.parameters[:] = parameters
        return twin.evaluate(x, y)["loss"]

    def gradient(parameters: Vector, dtype: type[np.floating[Any]]) -> NDArray[Any]:
        twins[np.dtype(dtype)].parameters[:] = parameters
        return twins[np.dtype(dtype)].loss_and_gradient(x, y)[1]

    return _Problem(
        value,
        twin.parameters.copy(),
        gradient,
        is_single,
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
    arrays = {"x": start, **twin.parameters}
    point = np.concatenate([array.ravel() for array in arrays.values()])
    dy = rng.normal(size=np.shape(_result(layer, "forward", twin.forward(start.copy()), len(start))))

    def enter(alone: Layer, point: Vector) -> Vector:
        """Have a layer take its parameters from a point, which also holds x."""
        first = start.size
        for array in alone.parameters.values():
            array[...] = point[first : first + array.size].reshape(array.shape)
            first += array.size
        return point[: start.size].reshape(start.shape).copy()

    def value(point: Vector) -> float:
        return float(np.vdot(twin.forward(enter(twin, point)), dy))

    def gradient(point: Vector, dtype: type[np.floating[Any]]) -> NDArray[Any]:
        alone = _alone(layer, dtype)
        alone.forward(enter(alone, point).astype(dtype))
        dx = _result(layer, "backward", alone.backward(dy.astype(dtype)), len(start))
        if dx.shape != start.shape:
            raise ValueError(f"{layer!r}.backward gave shape {dx.shape}, expected {start.shape}")
        return np.concatenate([array.ravel() for array in (dx, *alone.gradients.values())])

    is_single = given.dtype == np.float32 or layer._dtype == np.float32
    places = [(None, name, array.shape) for name, array in arrays.items()]
    return _Problem(value, point, gradient, is_single, places)


def _problem_of_loss(loss: Loss, output: ArrayLike, target: ArrayLike) -> _Problem:
    """The loss as a function of the output."""
    given = _check.features(output, None, "output", "the loss")
    start = _check.contiguous(given, np.dtype(np.float64), "output")
    wanted = _check.targets(target, len(start), start.shape[1], loss.target, ("output", "target"))
    _check.finite(wanted, np.dtype(np.float64), "target")
    compared = loss._compared(start, wanted)

    def gradient(point: Vector, dtype: type[np.floating[Any]]) -> NDArray[Any]:
        return np.asarray(loss.gradient(point.reshape(start.shape).astype(dtype), compared)).ravel()

    return _Problem(
        lambda point: loss._one_value(point.reshape(start.shape), compared),
        start.ravel().copy(),
        gradient,
        given.dtype == np.float32,
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
            slopes[number] = difference(problem.value, point, index, width, 2)
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
            [difference(problem.value, point, index, step * size, order) for order, step in LADDER]
        )
        with np.errstate(invalid="ignore"):
            error = np.abs(np.diff(slopes)) + rounding / steps[:-1] / size
        best[number] = slopes[int(np.nan_to_num(error, nan=np.inf).argmin())]
    return best


def _is_at_kink(problem: _Problem, index: int) -> bool:
    """Whether the slopes to both sides of an entry differ however short the steps."""
    entry, middle = float(problem.point[index]), problem.value(problem.point.copy())
    bends = []
    for step in KINK_STEPS:
        width, point = step * max(1.0, abs(entry)), problem.point.copy()
        point[index] = entry + width
        above = problem.value(point.copy())
        point[index] = entry - width
        bends.append(abs(above - 2.0 * middle + problem.value(point)) / width)
    rounding = _EPSILON * abs(middle) / KINK_STEPS[-1]
    return bends[-1] > max(0.5 * bends[0], 100.0 * rounding)


def _beside(point: Vector, rng: np.random.Generator) -> Vector:
    """A point nearby, exact in float32, every entry on towards 1/2: a probability stays one."""
    way = np.where(point > 0.5, -BESIDE, BESIDE) * rng.uniform(0.5, 1.0, point.shape)
    return (point + way * np.maximum(1.0, np.abs(point))).astype(np.float32).astype(np.float64)


def _relative_errors(exact: Vector, numerical: Vector, floor: float) -> Vector:
    """Differences relative to the larger derivative, to ``floor`` where both are smaller."""
    size = np.maximum(np.maximum(np.abs(exact), np.abs(numerical)), max(floor, _TINY))
    return np.asarray(np.abs(exact - numerical) / size)
