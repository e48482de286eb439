"""Losses: one number for how far a network's output is from its target, and that number's gradient.

In training the core computes a loss together with the last activation, from what enters it; here both are
written out in float64 NumPy, for a loss on its own.  A loss of your own is a function of two nodes of the
computational graph, or a class with ``value`` and ``gradient``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastbp import _check

if TYPE_CHECKING:
    from fastbp.node import Variable

Values = NDArray[np.float64]

_FUNCTION = "a function of two nodes, output and target"


@dataclass(frozen=True)
class Loss:
    """The distance between outputs and targets, summed or averaged over a batch.

    A loss of your own defines ``value(self, output, target)``, a number, and ``gradient(self, output,
    target)`` of the output's shape; or it is a function of two nodes of the graph, see `CustomLoss`.  An
    ``__init__`` of its own calls this one: ``super().__init__("sum")`` where the value is a sum.

    Parameters
    ----------
    reduction : {"mean", "sum"}
        What to do with the terms: their mean (default), which keeps the learning rate's meaning for any batch
        size, or their sum.

    Attributes
    ----------
    name : str
        The core's name for the loss.
    target : str
        What it compares with: "real" (default), "probability" or "class".
    last_activation : str or None
        The activation that a network with this loss must end in.
    """

    reduction: str = "mean"
    name: ClassVar[str] = "own"
    target: ClassVar[str] = "real"
    last_activation: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        _check.choice(self.reduction, "reduction", ("mean", "sum"))

    def value(self, output: ArrayLike, target: ArrayLike) -> float:
        """The loss of a batch.

        Parameters
        ----------
        output : array (samples, outputs)
            What a network gave; probabilities for the cross entropies.
        target : array (samples,) or (samples, outputs)
            What it should have given.

        Returns
        -------
        float
            Summed in float64; finite for probabilities of exactly 0 and 1.

        Raises
        ------
        ValueError
            For shapes that do not fit, numbers that are not finite or cannot be probabilities or labels.
        """
        p, t, tiny = self._pair(output, target)
        with np.errstate(over="ignore", under="ignore"):  # a square beyond float64 is infinite
            return float(self._terms(p, t, tiny).sum()) / self.divisor(*p.shape)

    def gradient(self, output: ArrayLike, target: ArrayLike) -> NDArray[Any]:
        """The derivative of ``value`` by every entry of the output.

        Parameters and errors as in `value`.

        Returns
        -------
        ndarray
            Shape and dtype of ``output`` (float64 for whole numbers).
        """
        p, t, tiny = self._pair(output, target)
        given = np.asarray(output).dtype.newbyteorder("=")
        with np.errstate(over="ignore", under="ignore"):
            gradient = self._slopes(p, t, tiny) / self.divisor(*p.shape)
            return gradient.astype(given) if given.kind == "f" else gradient

    def divisor(self, rows: int, outputs: int) -> int:
        """What the sum over a batch is divided by: the number of terms for a mean, 1 for a sum."""
        return rows * outputs if self.reduction == "mean" else 1

    def _value_and_gradient(
        self, output: NDArray[Any], target: NDArray[Any]
    ) -> tuple[float, NDArray[Any] | None]:
        """Both at once, for arrays that were looked at; where the value is not finite, None as gradient."""
        value = self._one_value(output, target)
        return value, self.gradient(output, target) if math.isfinite(value) else None

    def _one_value(self, output: ArrayLike, target: ArrayLike) -> float:
        """The value, which a user's class may give in any shape."""
        value = self.value(output, target)
        if np.ndim(value):
            raise ValueError(f"{self!r}.value gave shape {np.shape(value)}, expected one number")
        return float(value)

    def _compared(self, output: NDArray[Any], target: NDArray[Any]) -> NDArray[Any]:
        """Targets as a loss in Python takes them: in the output's shape, or labels as whole numbers."""
        labels = self.target == "class" and target.ndim == 1
        return target.astype(np.intp) if labels else target.reshape(output.shape)

    def _runs_in_python(self) -> bool:
        """Whether a user's class computes it, and not the core."""
        return _check.redefines(self, ("value", "gradient", "_terms", "_slopes", "divisor"))

    def _pair(self, output: ArrayLike, target: ArrayLike) -> tuple[Values, Values, float]:
        """Output and target as float64 arrays of one shape, and the least probability a logarithm may see."""
        given = _check.features(output, None, "output", "the loss")
        rows, columns = given.shape
        wanted = _check.targets(target, rows, columns, self.target, ("output", "target"))
        if self.target == "real":
            for array, argument in ((given, "output"), (wanted, "target")):
                _check.finite(array, np.dtype(np.float64), argument)
        else:
            _check.probabilities(given, "output")
        if self.target == "class" and wanted.ndim == 1:
            wanted = np.equal.outer(wanted, np.arange(columns))
        tiny = np.finfo(given.dtype.newbyteorder("=") if given.dtype.kind == "f" else np.float64).tiny
        p, t = (np.ascontiguousarray(array, np.float64) for array in (given, wanted.reshape(given.shape)))
        return p, t, float(tiny)  # in C order: a sum takes the terms as they lie in memory

    def _terms(self, p: Values, t: Values, tiny: float) -> Values:
        raise NotImplementedError(f"{type(self).__name__} does not define its terms")

    def _slopes(self, p: Values, t: Values, tiny: float) -> Values:
        raise NotImplementedError(f"{type(self).__name__} does not define its slopes")


@dataclass(frozen=True, repr=False)
class CustomLoss(Loss):
    """A loss of your own: a function of two nodes of the computational graph, which differentiates it.

    A network takes the plain function as well: ``Network(layers, loss=pinball)``.

    Parameters
    ----------
    function : callable
        From two nodes of the graph (`fastbp.graph.Variable`) of shape (samples, outputs) and dtype float64,
        output and target, to a node with one element: the mean or the sum of its terms.
    reduction : {"mean", "sum"}
        What the function does, default "mean": the history adds up the batches' losses of a sum.

    Examples
    --------
    >>> def pinball(output, target):
    ...     error = target - output
    ...     return graph.maximum(0.9 * error, -0.1 * error).mean()
    >>> from fastbp import graph
    >>> round(CustomLoss(pinball).value([[1.0], [2.0]], [3.0, 1.0]), 6)
    0.95
    """

    function: Callable[[Variable, Variable], Variable]
    reduction: str = field(default="mean", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.function) or isinstance(self.function, type):
            raise TypeError(f"function is {_check.shown(self.function)}, expected {_FUNCTION}")
        _check.function_of(self.function, 2, "function", _FUNCTION)

    def __repr__(self) -> str:
        reduction = "" if self.reduction == "mean" else f", reduction={self.reduction!r}"
        return f"CustomLoss({self._name()}{reduction})"

    def value(self, output: ArrayLike, target: ArrayLike) -> float:
        """The loss of a batch; parameters, result and errors as those of `Loss.value`."""
        p, t, _ = self._pair(output, target)
        return float(self._node(p, t)[1].value.item())

    def gradient(self, output: ArrayLike, target: ArrayLike) -> NDArray[Any]:
        """The derivative of ``value`` by every entry of the output, as `Loss.gradient` gives it."""
        p, t, _ = self._pair(output, target)
        dtype = np.asarray(output).dtype.newbyteorder("=")
        gradient = self._slope(*self._node(p, t))
        with np.errstate(over="ignore", under="ignore"):
            return gradient.astype(dtype) if dtype.kind == "f" else gradient

    def _value_and_gradient(
        self, output: NDArray[Any], target: NDArray[Any]
    ) -> tuple[float, NDArray[Any] | None]:
        output = output.astype(np.float64)
        entered, loss = self._node(output, target.reshape(output.shape).astype(np.float64))
        value = float(loss.value.item())
        return value, self._slope(entered, loss) if math.isfinite(value) else None

    def _node(self, output: Values, target: Values) -> tuple[Variable, Variable]:
        """The nodes of output and loss."""
        from fastbp.node import Variable

        entered = Variable(output, name="output")
        return entered, self._evaluate(entered, Variable(target, name="target"))

    def _evaluate(self, output: Variable, target: Variable) -> Variable:
        """What the function gives, looked at."""
        from fastbp.node import Variable

        loss = self.function(output, target)
        if not isinstance(loss, Variable):
            found = _check.a_kind(type(loss))
            raise TypeError(f"loss {self._name()} gave {found}, expected a node made of its two arguments")
        if loss.value.size != 1:
            shape = loss.value.shape
            raise ValueError(
                f"loss {self._name()} gave shape {shape}, expected one element: end it in .mean() or .sum()"
            )
        return loss

    def _slope(self, entered: Variable, loss: Variable) -> Values:
        loss.backward()
        if entered.grad is None:
            raise ValueError(f"loss {self._name()} does not depend on its first argument, the output")
        return entered.grad

    def _name(self) -> str:
        return str(getattr(self.function, "__name__", type(self.function).__name__))

    def _runs_in_python(self) -> bool:
        return True


class MeanSquaredError(Loss):
    """The mean over samples and outputs of (output - target)^2; large errors weigh most.

    Parameters
    ----------
    reduction : {"mean", "sum"}
        "sum" gives the sum of the squares; default "mean".

    Examples
    --------
    >>> MeanSquaredError().value([[1.0], [2.0]], [0.0, 4.0])
    2.5
    """

    name = "mse"
    target = "real"

    def _terms(self, p: Values, t: Values, tiny: float) -> Values:
        return (p - t) ** 2

    def _slopes(self, p: Values, t: Values, tiny: float) -> Values:
        return 2.0 * (p - t)


class MeanAbsoluteError(Loss):
    """The mean over samples and outputs of abs(output - target); all errors weigh alike, outliers too.

    Its derivative is the sign of the error, 0 where there is none.

    Parameters
    ----------
    reduction : {"mean", "sum"}
        "sum" gives the sum of the absolute errors; default "mean".

    Examples
    --------
    >>> MeanAbsoluteError().value([[1.0], [2.0]], [0.0, 4.0])
    1.5
    """

    name = "mae"
    target = "real"

    def _terms(self, p: Values, t: Values, tiny: float) -> Values:
        return np.abs(p - t)

    def _slopes(self, p: Values, t: Values, tiny: float) -> Values:
        return np.sign(p - t)


class BinaryCrossEntropy(Loss):
    """The mean over samples and outputs of -(t ln p + (1 - t) ln(1 - p)), for a network that ends in Sigmoid.

    Every output is a question of its own with a target from 0 (no) to 1 (yes).

    Parameters
    ----------
    reduction : {"mean", "sum"}
        "sum" gives the sum of the terms; default "mean".

    Examples
    --------
    >>> round(BinaryCrossEntropy().value([[0.5]], [1]), 4)
    0.6931
    """

    name = "bce"
    target = "probability"
    last_activation = "sigmoid"

    def _terms(self, p: Values, t: Values, tiny: float) -> Values:
        return -(t * np.log(np.maximum(p, tiny)) + (1.0 - t) * np.log(np.maximum(1.0 - p, tiny)))

    def _slopes(self, p: Values, t: Values, tiny: float) -> Values:
        return (1.0 - t) / np.maximum(1.0 - p, tiny) - t / np.maximum(p, tiny)


class CrossEntropy(Loss):
    """The mean over samples of -sum_k t_k ln p_k, for a network that ends in Softmax.

    Targets are labels 0, 1, ... of shape (samples,), or rows of probabilities (one-hot: a single 1).

    Parameters
    ----------
    reduction : {"mean", "sum"}
        "sum" gives the sum over the samples; default "mean".

    Examples
    --------
    >>> round(CrossEntropy().value([[0.25, 0.75], [0.5, 0.5]], [1, 0]), 4)
    0.4904
    """

    name = "cross_entropy"
    target = "class"
    last_activation = "softmax"

    def divisor(self, rows: int, outputs: int) -> int:
        return rows if self.reduction == "mean" else 1

    def _terms(self, p: Values, t: Values, tiny: float) -> Values:
        return -t * np.log(np.maximum(p, tiny))

    def _slopes(self, p: Values, t: Values, tiny: float) -> Values:
        return -t / np.maximum(p, tiny)


NAMES: dict[str, Callable[[], Loss]] = {
    loss.name: loss for loss in (MeanSquaredError, MeanAbsoluteError, BinaryCrossEntropy, CrossEntropy)
}


def get(loss: Any) -> Loss:
    """The loss itself, the one that a string names, as a mean, or that of a function of two nodes."""
    if callable(loss) and not isinstance(loss, (type, Loss)):
        _check.function_of(loss, 2, "loss", _FUNCTION)
        return CustomLoss(loss)
    found = _check.described(loss, Loss, NAMES, "loss", _FUNCTION)
    if not found._runs_in_python():
        _check.known_to_core(found, "loss", NAMES, "value and gradient")
    for method, term in (("value", "_terms"), ("gradient", "_slopes")):
        if all(getattr(type(found), name) is getattr(Loss, name) for name in (method, term)):
            raise TypeError(f"loss is {found!r}, which defines no {method}(self, output, target)")
    return found
