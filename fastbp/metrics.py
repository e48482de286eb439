"""Metrics: numbers that a person reads beside the loss.

A metric is fed a part of the data at a time, so that evaluating needs no array of all outputs.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray


class Metric:
    """A number over outputs and targets that arrive in parts."""

    name: ClassVar[str]

    def __init__(self) -> None:
        self._sum = 0.0
        self._count = 0

    def update(self, output: NDArray[Any], target: NDArray[Any]) -> None:
        """Take in outputs (samples, outputs) and their targets (samples,) or (samples, outputs)."""
        raise NotImplementedError(f"{type(self).__name__} does not define update")

    def result(self) -> float:
        """The metric over everything taken in so far; NaN before that."""
        return self._sum / self._count if self._count else math.nan


class Accuracy(Metric):
    """The share of samples whose most probable class is the target's, labels or rows of probabilities.

    Examples
    --------
    >>> accuracy = Accuracy()
    >>> accuracy.update(np.array([[0.2, 0.8], [0.6, 0.4]]), np.array([1, 1]))
    >>> accuracy.result()
    0.5
    """

    name = "accuracy"

    def update(self, output: NDArray[Any], target: NDArray[Any]) -> None:
        labels = target if target.ndim == 1 else target.argmax(axis=1)
        self._sum += int(np.count_nonzero(output.argmax(axis=1) == labels))
        self._count += len(output)


class BinaryAccuracy(Metric):
    """The share of outputs on the same side of 0.5 as their target; 0.5 itself counts as 1."""

    name = "accuracy"

    def update(self, output: NDArray[Any], target: NDArray[Any]) -> None:
        agree = (output >= 0.5) == (target.reshape(output.shape) >= 0.5)
        self._sum += int(np.count_nonzero(agree))
        self._count += output.size


class RootMeanSquaredError(Metric):
    """The root of the mean over samples and outputs of (output - target)^2, in the target's unit."""

    name = "rmse"

    def update(self, output: NDArray[Any], target: NDArray[Any]) -> None:
        error = np.subtract(output, target.reshape(output.shape), dtype=np.float64)
        self._sum += float(np.vdot(error, error))
        self._count += output.size

    def result(self) -> float:
        return math.sqrt(super().result())


OF_LOSS: dict[str, tuple[type[Metric], ...]] = {
    "mse": (RootMeanSquaredError,),
    "bce": (BinaryAccuracy,),
    "cross_entropy": (Accuracy,),
}


def for_loss(name: str) -> list[Metric]:
    """Fresh metrics that belong to a loss."""
    return [metric() for metric in OF_LOSS[name]]
