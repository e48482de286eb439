"""The networks that are timed, as data, and the synthetic data that they are trained on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import _native

# As a reader writes them.
SPELLINGS = {
    "relu": "ReLU",
    "mse": "MSE",
    "bce": "binary cross entropy",
    "cross_entropy": "cross entropy",
    "sgd": "SGD",
    "adam": "Adam",
}


@dataclass(frozen=True)
class Workload:
    """One network, its loss, optimiser and batch, and the number of batches that make an epoch."""

    name: str
    sizes: tuple[int, ...]
    hidden: str
    loss: str
    optimizer: str
    learning_rate: float
    batch_size: int
    steps: int
    in_order: bool = False

    @property
    def output(self) -> str:
        """The activation of the last layer: the one that makes a pair with the loss."""
        return {"mse": "identity", "bce": "sigmoid", "cross_entropy": "softmax"}[self.loss]

    @property
    def samples(self) -> int:
        """Rows of the data set: whole batches, since a compiled rival cannot take a short one."""
        return self.batch_size * self.steps

    @property
    def shuffled(self) -> bool:
        """Whether an epoch has an order of its own; a single batch of everything has none."""
        return self.steps > 1 and not self.in_order

    @property
    def step_flops(self) -> int:
        """Floating-point operations of the products of one step; the first layer forms no dX."""
        products = [2 * i * o * (3 if layer else 2) for layer, (i, o) in enumerate(pairwise(self.sizes))]
        return self.batch_size * sum(products)

    @property
    def description(self) -> str:
        """``10-40x4-1 ReLU, MSE, SGD, 32``."""
        hidden, loss, optimizer = (
            SPELLINGS.get(name, name) for name in (self.hidden, self.loss, self.optimizer)
        )
        return f"{self.network} {hidden}, {loss}, {optimizer}, {self.batch_size:,}"

    @property
    def network(self) -> str:
        """Layer sizes: ``10-40x4-1``."""
        runs = [(size, len(list(run))) for size, run in groupby(self.sizes)]
        return "-".join(
            f"{size}x{count}" if count > 3 else "-".join([str(size)] * count) for size, count in runs
        )


# Learning rates are large enough for one epoch to move the parameters far beyond float32's rounding, which is
# what the comparison with the reference needs, and small enough not to diverge.
WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        Workload("tiny", (4, 32, 32, 1), "tanh", "mse", "sgd", 5e-2, 32, 256),
        Workload("matexp", (4, 32, 16, 4), "tanh", "mse", "adam", 1e-3, 10_000, 1),
        Workload("grid40", (10, 40, 40, 40, 40, 1), "relu", "mse", "sgd", 1e-2, 32, 256),
        Workload("grid160", (10, *[160] * 8, 1), "relu", "mse", "sgd", 2e-3, 128, 64),
        Workload("xor64", (2, 64, 64, 64, 1), "relu", "mse", "adam", 1e-3, 256, 64),
        Workload("digits", (64, 128, 10), "relu", "cross_entropy", "adam", 1e-3, 64, 128),
        Workload("sigmoid", (64, 100, 100, 10), "sigmoid", "cross_entropy", "sgd", 1e-1, 64, 128),
        Workload("mnist", (784, 128, 64, 10), "relu", "cross_entropy", "adam", 1e-3, 128, 64),
        Workload("higgs", (28, *[300] * 5, 1), "tanh", "bce", "adam", 1e-3, 100, 64),
        Workload("wide", (784, 2048, 2048, 10), "relu", "cross_entropy", "adam", 1e-3, 256, 6),
        Workload("square", (1024, 1024, 1024, 1024), "relu", "mse", "sgd", 10.0, 512, 6),
    )
}

# What the project aims at, by number of threads: share of the machine's peak, and how many times longer the
# best rival is to take.  tiny and grid40 are to be no slower on two threads than on one.
GOALS: dict[str, dict[int, tuple[float, float]]] = {
    "tiny": {1: (0.48, 2.4), 2: (0.24, 2.4)},
    "matexp": {1: (0.50, 2.3), 2: (0.48, 3.2)},
    "grid40": {1: (0.58, 1.8), 2: (0.29, 1.8)},
    "grid160": {1: (0.88, 1.1), 2: (0.80, 1.8)},
    "xor64": {1: (0.80, 1.4), 2: (0.70, 2.3)},
    "digits": {1: (0.70, 1.6), 2: (0.50, 2.6)},
    "sigmoid": {1: (0.72, 1.4), 2: (0.57, 2.3)},
    "mnist": {1: (0.90, 1.25), 2: (0.80, 1.6)},
    "higgs": {1: (0.85, 1.2), 2: (0.78, 1.45)},
    "wide": {1: (0.85, 1.1), 2: (0.78, 1.15)},
    "square": {1: (0.94, 1.1), 2: (0.93, 1.1)},
}


@dataclass(frozen=True)
class Problem:
    """A workload with its data: what every contender is given.

    ``parameters`` is the starting point as one flat vector, layer by layer, weight (in, out) then bias.
    ``orders`` holds the order of the rows for the first epochs, one epoch a row; later epochs begin again.
    """

    workload: Workload
    x: NDArray[np.float32]
    y: NDArray[Any]
    parameters: NDArray[np.float32]
    orders: NDArray[np.int64]
    seed: int


def layer_views(flat: NDArray[Any], sizes: tuple[int, ...]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Weight and bias of every layer as views of one flat vector."""
    views, start = [], 0
    for inputs, outputs in pairwise(sizes):
        stop = start + inputs * outputs
        views.append((flat[start:stop].reshape(inputs, outputs), flat[stop : stop + outputs]))
        start = stop + outputs
    return views


def make_problem(workload: Workload, seed: int = 0) -> Problem:
    """Normal inputs and the targets that a random shallow network gives them, all from one seed."""
    rng = np.random.default_rng(seed)
    inputs, outputs = workload.sizes[0], workload.sizes[-1]
    x = rng.standard_normal((workload.samples, inputs), dtype=np.float32)
    teacher = rng.standard_normal((inputs, outputs), dtype=np.float32) / np.sqrt(inputs, dtype=np.float32)
    signal = np.tanh(x @ teacher)
    y: NDArray[Any]
    if workload.loss == "cross_entropy":
        y = signal.argmax(axis=1)
    elif workload.loss == "bce":
        y = (signal > 0).astype(np.float32)
    else:
        y = signal
    return assemble(workload, x, y, seed)


def assemble(workload: Workload, x: NDArray[np.float32], y: NDArray[Any], seed: int = 0) -> Problem:
    """A problem from given data: starting point and orders are drawn here."""
    rng = np.random.default_rng(seed)
    layers = list(pairwise(workload.sizes))
    parameters = np.zeros(sum(i * o + o for i, o in layers), dtype=np.float32)
    gain = 2.0 if workload.hidden == "relu" else 1.0
    for weight, _ in layer_views(parameters, workload.sizes):
        rng.standard_normal(weight.shape, dtype=np.float32, out=weight)
        weight *= np.sqrt(gain / weight.shape[0], dtype=np.float32)
    orders = np.empty((8 if workload.shuffled else 1, len(x)), dtype=np.int64)
    for epoch, order in enumerate(orders):
        if workload.shuffled:
            _native.shuffle(order, seed, epoch)
        else:
            order[:] = np.arange(len(x))
    return Problem(workload, x, y, parameters, orders, seed)
