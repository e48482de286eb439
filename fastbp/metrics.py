"""Metrics, numbers that a person reads beside the loss, and the history of a training in such numbers.

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
        with np.errstate(all="ignore"):  # outputs of a network that diverged
            error = np.subtract(output, target.reshape(output.shape), dtype=np.float64)
            self._sum += float(np.square(error, out=error).sum())  # BLAS would add as its threads do
        self._count += output.size

    def result(self) -> float:
        return math.sqrt(super().result())


class History:
    """What `Network.fit` measured, one number an epoch.

    Attributes
    ----------
    loss : list of float
        The mean of the batches' losses, each before its update, weighted by their rows; their sum for a loss
        with ``reduction="sum"``.
    val_loss : list of float
        The loss on the validation data after the epoch; empty without.
    val_metrics : dict of str to list of float
        The metrics that belong to the loss, on the validation data after the epoch; empty without.
    """

    def __init__(self) -> None:
        self.loss: list[float] = []
        self.val_loss: list[float] = []
        self.val_metrics: dict[str, list[float]] = {}

    def __repr__(self) -> str:
        last = "".join(f", {name} {value:.6g}" for name, value in self.last().items())
        return f"<History of {len(self.loss)} epochs{last}>"

    def add_validation(self, measured: dict[str, float]) -> None:
        """Take in what `Network.evaluate` gives."""
        for name, value in measured.items():
            numbers = self.val_loss if name == "loss" else self.val_metrics.setdefault(name, [])
            numbers.append(value)

    def last(self) -> dict[str, float]:
        """The last epoch's numbers by name; empty before the first."""
        curves = {"loss": self.loss, "val_loss": self.val_loss}
        curves.update((f"val_{name}", numbers) for name, numbers in self.val_metrics.items())
        return {name: numbers[-1] for name, numbers in curves.items() if numbers}


OF_LOSS: dict[str, tuple[type[Metric], ...]] = {
    "mse": (RootMeanSquaredError,),
    "mae": (RootMeanSquaredError,),
    "bce": (BinaryAccuracy,),
    "cross_entropy": (Accuracy,),
}


def for_loss(name: str) -> list[Metric]:
    """Fresh metrics that belong to a loss; none to a user's own."""
    return [metric() for metric in OF_LOSS.get(name, ())]
