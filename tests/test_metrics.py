"""The metrics, by hand, and fed in parts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tolerances
from interpreter import run

from fastbp import metrics

BY_HAND = [
    ("cross_entropy", "accuracy", [[0.2, 0.8], [0.6, 0.4], [0.5, 0.5], [0.1, 0.9]], [1, 1, 0, 1], 3 / 4),
    ("cross_entropy", "accuracy", [[0.2, 0.8], [0.6, 0.4]], [[0.0, 1.0], [0.0, 1.0]], 1 / 2),
    ("bce", "accuracy", [[0.5], [0.4], [0.9]], [1, 1, 1], 2 / 3),
    ("bce", "accuracy", [[0.5, 0.4], [0.9, 0.1]], [[1, 1], [1, 0]], 3 / 4),
    ("mse", "rmse", [[1.0], [2.0]], [1.0, 6.0], math.sqrt(8.0)),
    ("mae", "rmse", [[1.0], [2.0]], [1.0, 6.0], math.sqrt(8.0)),
    ("mse", "rmse", [[3.0, 0.0]], [[0.0, 4.0]], math.sqrt(12.5)),
]


@pytest.mark.parametrize(("loss", "name", "output", "target", "wanted"), BY_HAND)
def test_value_is_what_a_pencil_gives(loss, name, output, target, wanted):
    (metric,) = metrics.for_loss(loss)
    metric.update(np.array(output), np.array(target))
    assert metric.name == name
    assert abs(metric.result() - wanted) <= tolerances.metric(np.float64) * wanted


@pytest.mark.parametrize("loss", metrics.OF_LOSS)
def test_parts_give_what_the_whole_gives(loss):
    rng = np.random.default_rng(0)
    output, target = rng.uniform(size=(30, 3)), rng.integers(0, 2, (30, 3))
    (whole,), (parts,) = metrics.for_loss(loss), metrics.for_loss(loss)
    whole.update(output, target)
    for first in range(0, 30, 7):
        parts.update(output[first : first + 7], target[first : first + 7])
    assert abs(whole.result() - parts.result()) <= tolerances.metric(np.float64)


@pytest.mark.parametrize("loss", metrics.OF_LOSS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e308])
def test_outputs_of_a_network_that_diverged_are_measured_without_a_warning(loss, value):
    (metric,) = metrics.for_loss(loss)
    metric.update(np.full((3, 2), value), np.eye(3, 2))
    metric.update(np.full((3, 2), -value), np.eye(3, 2))
    assert type(metric.result()) is float


def test_the_sum_of_squares_does_not_depend_on_the_threads_of_another_library():
    program = """
import numpy as np
from fastbp import metrics
rmse = metrics.RootMeanSquaredError()
rmse.update(np.random.default_rng(1).normal(size=(170_000, 3)), np.zeros((170_000, 3)))
print(rmse.result().hex())
"""
    assert len({run(program, OPENBLAS_NUM_THREADS=count, OMP_NUM_THREADS=count) for count in ("1", "2")}) == 1


def test_nothing_taken_in_gives_nan():
    assert all(math.isnan(metric.result()) for loss in metrics.OF_LOSS for metric in metrics.for_loss(loss))
