"""Section of the report: back propagation and numerical differentiation as the parameters grow in number."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

import fastbp as bp
from fastbp.bench.rows import Result, Row, Task
from fastbp.bench.timing import Job, call_job, fill, seconds_of

FEATURES, CLASSES, SAMPLES = 16, 4, 16
WIDTHS = (4, 48, 480, 4_800, 48_000)  # about 10^2 to 10^6 parameters
SUBSET = 100  # derivatives compared and timed; the time for all is in proportion to it


def measure(task: Task) -> Iterator[Row]:
    """One row for each width of the hidden layer, in float64.

    Both ways use the same compiled forward pass, so that the ratio is that of the methods.
    """
    for width in WIDTHS[: 2 if task.effort.quick else None]:
        net, x, y = make_case(width)
        check = bp.check_gradients(net, x, y, subset=SUBSET)
        results = {
            "back propagation": Result(check.max_relative_error, check.passed),
            "numerical": Result(check.max_relative_error, check.passed),
        }
        network = f"{FEATURES}-{width}-{CLASSES}"
        row = Row("numerical", f"{net.parameters.size:,}", network, task.threads, results)
        jobs = {
            "back propagation": call_job(partial(net.loss_and_gradient, x, y, threads=task.threads)),
            "numerical": numerical_job(net, x, y, task.threads),
        }
        yield fill(row, jobs, task.effort.light)


def make_case(width: int) -> tuple[bp.Network, NDArray[np.float64], NDArray[np.int64]]:
    """A network with so many hidden units, and a batch."""
    layers = bp.mlp([FEATURES, width, CLASSES], activation="tanh", output="softmax")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((SAMPLES, FEATURES))
    y = rng.integers(CLASSES, size=SAMPLES)
    return bp.Network(layers, loss="cross_entropy", dtype="float64", seed=0), x, y


def numerical_job(net: bp.Network, x: NDArray[np.float64], y: NDArray[np.int64], threads: int) -> Job:
    """A job that returns the seconds of all derivatives by central differences."""
    count = min(SUBSET, net.parameters.size)
    start = net.parameters[:count].copy()

    def loss_at(parameters: NDArray[np.float64]) -> float:
        net.parameters[:count] = parameters
        return net.evaluate(x, y, threads=threads)["loss"]

    return lambda: seconds_of(lambda: bp.numerical_gradient(loss_at, start)) / count * net.parameters.size
