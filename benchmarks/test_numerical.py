"""All derivatives of a small network by back propagation and by numerical differentiation."""

from __future__ import annotations

import numpy as np
import pytest

import fastbp as bp
from fastbp.bench.numerical import make_case

THREADS = 1
TOLERANCE = 1e-6  # of the largest derivative; central differences in float64 are good for 1e-9
WIDTHS = (4, 48)


@pytest.mark.parametrize("width", WIDTHS)
def test_back_propagation(benchmark, width):
    net, x, y = make_case(width)
    benchmark.group = f"derivatives of {net.parameters.size:,} parameters"
    assert bp.check_gradients(net, x, y).passed
    benchmark(net.loss_and_gradient, x, y, threads=THREADS)


@pytest.mark.parametrize("width", WIDTHS)
def test_numerical_differentiation(benchmark, width):
    net, x, y = make_case(width)
    benchmark.group = f"derivatives of {net.parameters.size:,} parameters"

    def loss_at(parameters):
        net.parameters[:] = parameters
        return net.evaluate(x, y, threads=THREADS)["loss"]

    start = net.parameters.copy()
    _, right = net.loss_and_gradient(x, y, threads=THREADS)
    numerical = benchmark(bp.numerical_gradient, loss_at, start)
    assert np.abs(numerical - right).max() <= TOLERANCE * np.abs(right).max()
