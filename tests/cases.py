"""The networks that the tests train, as descriptions (see `reference`), and the library's objects of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest
import reference
from numpy.typing import DTypeLike, NDArray

import fastbp as bp

ACTIVATIONS: dict[str, type[bp.Layer]] = {
    "identity": bp.Identity, "relu": bp.ReLU, "sigmoid": bp.Sigmoid, "tanh": bp.Tanh, "exp": bp.Exp,
    "softmax": bp.Softmax,
}  # fmt: skip
LOSSES: dict[str, type[bp.Loss]] = {
    "mse": bp.MeanSquaredError, "mae": bp.MeanAbsoluteError, "bce": bp.BinaryCrossEntropy,
    "cross_entropy": bp.CrossEntropy,
}  # fmt: skip
Reduction = Literal["mean", "sum"]
Problem = tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64], np.random.Generator]


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
    "absolute": Case(
        ((5, 12), "tanh", (12, 16)), "mae"
    ),  # 8 rows: signs that cancel leave no rounding for Adam
    "absolute_sum": Case(((4, 9), "relu", (9, 2), "tanh"), "mae", "sum"),
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

# Sizes at which the core packs panels, forms dW in strips, and takes a batch in blocks; rows of that batch.
LARGE = {
    "wide": (Case(((20, 1100), "relu", (1100, 530), "tanh", (530, 7), "softmax"), "cross_entropy"), 65),
    "power_of_two": (Case(((40, 512), "sigmoid", (512, 512), "softmax", (512, 3)), "mse"), 40),
    "tall": (Case(((9, 40), "exp", (40, 40), "tanh", (40, 1), "sigmoid"), "bce"), 2100),
    "few_rows": (Case(((20, 300), "tanh", (300, 2200), "relu", (2200, 3)), "mse"), 6),
    "strips": (Case(((40, 600), "relu", (600, 1)), "mse"), 110),
    "last_in_strips": (Case(((300, 100), "tanh", (100, 300)), "mse"), 512),
    "beyond_the_first_cache": (
        Case(((300, 130), "relu", (130, 64), "tanh", (64, 3), "softmax"), "cross_entropy"),
        220,
    ),
    "one_output": (Case(((2, 98_305), "relu", (98_305, 1)), "mse"), 72),
}

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
every_large_case = pytest.mark.parametrize(("case", "batch_size"), LARGE.values(), ids=LARGE)


def problem(case: Case, rows: int, dtype: DTypeLike, seed: int = 0) -> Problem:
    """Parameters of the dtype, x, target, and the generator they were drawn from."""
    rng = np.random.default_rng(seed)
    x, target = case.data(rng, rows)
    return case.parameters(rng).astype(dtype), x, target, rng
