"""It learns: what a network of a kind must be able to do, on both dtypes."""

from __future__ import annotations

import numpy as np
import pytest
import tolerances

import fastbp as bp
from fastbp import datasets

XOR_X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
XOR_Y = np.array([0, 1, 1, 0])

every_dtype_name = pytest.mark.parametrize("dtype", ["float32", "float64"])


@every_dtype_name
@pytest.mark.parametrize(
    ("hidden", "output", "loss", "outputs", "optimizer"),
    [
        ("tanh", "identity", "mse", 1, bp.Adam(lr=0.02)),
        ("relu", "sigmoid", "bce", 1, bp.Adam(lr=0.02)),
        ("sigmoid", "softmax", "cross_entropy", 2, bp.Adam(lr=0.05)),
        ("tanh", "sigmoid", "bce", 1, bp.SGD(lr=0.5, momentum=0.9)),
        ("tanh", "softmax", "cross_entropy", 2, bp.SGD(lr=0.5, momentum=0.9, nesterov=True)),
    ],
    ids=str,
)  # fmt: skip
def test_exclusive_or_is_learnt(dtype, hidden, output, loss, outputs, optimizer):
    net = bp.Network(bp.mlp([2, 16, outputs], hidden, output), loss, optimizer, dtype=dtype)
    net.fit(XOR_X, XOR_Y, epochs=1000, batch_size=4)
    assert net.evaluate(XOR_X, XOR_Y)["loss"] < tolerances.XOR_LOSS


@every_dtype_name
def test_a_line_through_points_is_that_of_least_squares(dtype):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    y = x @ [1.0, -2.0, 0.5] + 3.0 + 0.1 * rng.normal(size=200)
    net = bp.Network([bp.Dense(3, 1)], "mse", bp.SGD(lr=0.1), dtype=dtype)
    net.fit(x, y, epochs=500, batch_size=200)
    solution = np.linalg.lstsq(np.column_stack([x, np.ones(200)]), y, rcond=None)[0]
    bound = tolerances.training([3, 1], 200, 1, np.abs(solution).max(), dtype)
    assert np.abs(net.parameters - solution).max() <= bound


@every_dtype_name
def test_more_than_nine_of_ten_held_out_digits_are_recognised(dtype):
    x, y = datasets.load_digits()
    net = bp.Network(bp.mlp([64, 128, 10], output="softmax"), "cross_entropy", dtype=dtype)
    net.fit(x[:1500], y[:1500], epochs=50, batch_size=32)
    assert net.evaluate(x[1500:], y[1500:])["accuracy"] > tolerances.DIGITS_ACCURACY
    assert net.evaluate(x[:1500], y[:1500])["accuracy"] > net.evaluate(x[1500:], y[1500:])["accuracy"]


@pytest.mark.parametrize(
    "optimizer", [bp.SGD(lr=0.1), bp.SGD(lr=0.1, momentum=0.9), bp.Adam(lr=0.1)], ids=str
)
def test_descent_on_a_convex_surface_ends_at_its_lowest_point(optimizer):
    """Softmax regression on two overlapping clouds: from two starting points to one loss."""
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(-0.5, 1.0, (100, 2)), rng.normal(0.5, 1.0, (100, 2))])
    y = np.repeat([0, 1], 100)
    losses = []
    for seed in (0, 1):
        net = bp.Network(
            bp.mlp([2, 2], output="softmax"), "cross_entropy", optimizer, dtype="float64", seed=seed
        )
        net.fit(x, y, epochs=2000, batch_size=200)
        losses.append(net.evaluate(x, y)["loss"])
    assert abs(losses[0] - losses[1]) <= tolerances.training([2, 2], 200, 2000, losses[0], np.float64)
