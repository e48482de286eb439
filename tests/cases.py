"""The networks that the tests train, as descriptions (see `reference`), and the library's objects of them."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np
import reference
from axes import Guarded
from numpy.typing import DTypeLike, NDArray

import fastbp as bp
from fastbp import _native, _plan

ACTIVATIONS: dict[str, type[bp.Layer]] = {
    "identity": bp.Identity, "relu": bp.ReLU, "sigmoid": bp.Sigmoid, "tanh": bp.Tanh, "exp": bp.Exp,
    "softmax": bp.Softmax,
}  # fmt: skip
LOSSES: dict[str, type[bp.Loss]] = {
    "mse": bp.MeanSquaredError, "bce": bp.BinaryCrossEntropy, "cross_entropy": bp.CrossEntropy,
}  # fmt: skip
Reduction = Literal["mean", "sum"]


@dataclass(frozen=True)
class Case:
    """A network, its loss, and data that fit it."""

    description: tuple[tuple[int, int] | str, ...]
    loss: str
    reduction: Reduction = "mean"

    @property
    def shapes(self) -> list[tuple[int, int]]:
        return reference.shapes_of(self.description)

    @property
    def widths(self) -> list[int]:
        return [self.shapes[0][0], *(outputs for _, outputs in self.shapes)]

    def layers(self) -> list[bp.Layer]:
        return [
            ACTIVATIONS[entry]() if isinstance(entry, str) else bp.Dense(*entry) for entry in self.description
        ]

    def network(self, dtype: DTypeLike = np.float64, optimizer: Any = "adam", seed: int = 0) -> bp.Network:
        loss = LOSSES[self.loss](reduction=self.reduction)
        return bp.Network(
            self.layers(), loss=loss, optimizer=optimizer, dtype=np.dtype(dtype).name, seed=seed
        )

    def parameters(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Weights with the norms level, biases that are not 0; small where exponentials would run away."""
        scale = 0.3 if "exp" in self.description else 1.0
        flat = np.empty(reference.parameter_count(self.description))
        for weight, bias in reference.split(self.description, flat):
            weight[...] = rng.normal(0.0, scale * np.sqrt(2.0 / sum(weight.shape)), weight.shape)
            bias[...] = rng.normal(0.0, 0.1, bias.shape)
        return flat

    def data(self, rng: np.random.Generator, rows: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """x and a target of the output's shape; x holds values that float32 holds too."""
        x = rng.normal(size=(rows, self.widths[0])).astype(np.float32).astype(np.float64)
        shape = (rows, self.widths[-1])
        if self.loss == "cross_entropy":
            return x, reference.one_hot(rng.integers(0, shape[1], rows), shape[1])
        if self.loss == "bce":
            return x, rng.integers(0, 2, shape).astype(np.float64)
        return x, rng.normal(size=shape).astype(np.float32).astype(np.float64)


CASES = {
    "one_neuron": Case(((1, 1),), "mse"),
    "linear": Case(((3, 2),), "mse"),
    "linear_sum": Case(((3, 2),), "mse", "sum"),
    "relu": Case(((10, 40), "relu", (40, 40), "relu", (40, 1)), "mse"),
    "tanh": Case(((4, 32), "tanh", (32, 16), "tanh", (16, 4)), "mse", "sum"),
    "binary": Case(((5, 9), "sigmoid", (9, 1), "sigmoid"), "bce"),
    "multilabel": Case(((7, 17), "tanh", (17, 3), "sigmoid"), "bce", "sum"),
    "digits": Case(((64, 128), "relu", (128, 10), "softmax"), "cross_entropy"),
    "classes": Case(((6, 33), "sigmoid", (33, 15), "tanh", (15, 5), "softmax"), "cross_entropy", "sum"),
    "exponential": Case(((3, 5), "exp", (5, 2), "exp"), "mse"),
    "softmax_inside": Case(((6, 8), "softmax", (8, 5), "identity"), "mse"),
    "no_activation": Case(((5, 7), (7, 3)), "mse"),
    "activations_in_a_row": Case(("tanh", (4, 9), "relu", "sigmoid", (9, 2), "tanh"), "mse"),
    "softmax_regression": Case(((8, 3), "softmax"), "mse"),
}


@dataclass
class NativeRun:
    """What one call of the core's train left behind."""

    batches: int
    losses: NDArray[np.float64]
    parameters: NDArray[Any]
    gradients: NDArray[Any]
    state: NDArray[Any]


def train_natively(
    core: ModuleType,
    case: Case,
    parameters: NDArray[Any],
    x: NDArray[Any],
    y: NDArray[Any],
    order: NDArray[np.int64],
    batch_size: int,
    *,
    optimizer: str = "gradient",
    rates: tuple[float, ...] = (0.0,),
    state_rows: int = 0,
    state: NDArray[Any] | None = None,
    step: int = 0,
    threads: int = 1,
) -> NativeRun:
    """One call of the core's train on guarded copies; parameters' dtype decides the arithmetic."""
    dtype = parameters.dtype
    space = _plan.lower(case.layers(), dtype).training_space(batch_size, y.size // len(y), threads)
    moved, remembered = Guarded(parameters.shape, dtype), Guarded((state_rows, parameters.size), dtype)
    moved.array[...] = parameters
    remembered.array[...] = 0.0 if state is None else state
    gradients = Guarded(parameters.size if optimizer == "gradient" else 0, dtype)
    workspace = Guarded(space.array.shape, dtype)
    workspace.array[...] = 0.0
    losses = Guarded(-(-len(order) // batch_size), np.float64)
    settings = np.array([case.reduction == "sum", *rates], np.float64)
    batches = core.train(
        space.stages, space.layout, moved.array, gradients.array, remembered.array, _native.LOSSES[case.loss],
        _native.OPTIMIZERS[optimizer], settings, x, y, order, batch_size, step, workspace.array, losses.array,
        threads,
    )  # fmt: skip
    for guarded in (moved, remembered, gradients, workspace, losses):
        assert guarded.intact, "the core wrote outside of an array"
    return NativeRun(batches, losses.array, moved.array, gradients.array, remembered.array)
