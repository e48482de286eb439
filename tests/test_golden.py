"""Runs recorded from PyTorch (``golden/make_golden.py``), followed from the same start over twenty epochs."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import tolerances
from cases import Case

import fastbp as bp

FILES = {path.stem: path for path in sorted((Path(__file__).parent / "golden").glob("*.npz"))}
BATCH_SIZE = 16
EPOCHS = 20
STEPS = EPOCHS * 7  # 100 rows: six whole batches and one of 4 rows

RUNS = {
    "classes_adam": ([12, 20, 5], "relu", "cross_entropy", bp.Adam(lr=0.01)),
    "classes_nesterov": (
        [8, 17, 9, 3],
        "tanh",
        "cross_entropy",
        bp.SGD(lr=0.05, momentum=0.9, nesterov=True),
    ),
    "regression_sgd": ([6, 16, 16, 2], "relu", "mse", bp.SGD(lr=0.05)),
    "regression_adam": (
        [4, 32, 16, 4],
        "tanh",
        "mse",
        bp.Adam(lr=0.003, beta1=0.8, beta2=0.99, epsilon=1e-6),
    ),
    "binary_momentum": ([5, 9, 1], "sigmoid", "bce", bp.SGD(lr=0.2, momentum=0.8)),
    "multilabel_adam": ([7, 15, 3], "tanh", "bce", bp.Adam(lr=0.02)),
    "multilabel_sum": ([6, 10, 4], "relu", "bce", bp.SGD(lr=0.002, momentum=0.9)),
    "probabilities_sum": (
        [9, 18, 4],
        "sigmoid",
        "cross_entropy",
        bp.SGD(lr=0.01, momentum=0.5, nesterov=True),
    ),
    "regression_sum": ([5, 11, 3], "identity", "mse", bp.SGD(lr=0.0005, momentum=0.9)),
    "deep_adam": ([6, 12, 10, 8, 7, 2], "relu tanh sigmoid softmax tanh", "mse", bp.Adam(lr=0.01)),
    "exponential_sgd": ([4, 8, 6, 2], "exp tanh exp", "mse", bp.SGD(lr=0.01)),
}
LAST = {"mse": "identity", "bce": "sigmoid", "cross_entropy": "softmax"}

every_run = pytest.mark.parametrize("name", RUNS)
every_dtype_name = pytest.mark.parametrize("dtype", ["float32", "float64"])


def start(name, dtype):
    sizes, activations, loss, optimizer = RUNS[name]
    names = activations.split()  # of every layer, or of all hidden ones
    if len(names) == 1:
        names = names * (len(sizes) - 2) + [LAST[loss]]
    description = [entry for pair in zip(itertools.pairwise(sizes), names, strict=True) for entry in pair]
    case = Case(tuple(description), loss, "sum" if name.endswith("_sum") else "mean")
    with np.load(FILES[name], allow_pickle=False) as file:
        golden = dict(file)
    net = case.network(dtype, optimizer)
    net.parameters[:] = golden["start"]
    return net, sizes, golden


def test_every_recorded_run_is_followed():
    assert set(FILES) == set(RUNS)


@every_run
@every_dtype_name
def test_the_first_loss_and_gradient_are_those_of_pytorch(name, dtype):
    net, sizes, golden = start(name, dtype)
    loss, gradient = net.loss_and_gradient(golden["x"][:BATCH_SIZE], golden["y"][:BATCH_SIZE])
    # Start and data are rounded once to the network's dtype: as if each layer had two more terms to sum.
    widths = [size + 2 for size in sizes]
    assert abs(loss - golden["first_loss"]) <= tolerances.chain(widths, BATCH_SIZE, loss, dtype)
    largest = np.abs(gradient).max()
    assert np.abs(gradient - golden["first_gradient"]).max() <= tolerances.chain(
        widths, BATCH_SIZE, largest, dtype
    )


@every_run
@every_dtype_name
def test_twenty_epochs_have_the_losses_and_the_end_of_pytorch(name, dtype):
    net, sizes, golden = start(name, dtype)
    losses = net.fit(golden["x"], golden["y"], epochs=EPOCHS, batch_size=BATCH_SIZE, shuffle=False).loss

    def bound(values):
        largest = np.abs(values).max()
        return tolerances.training(sizes, BATCH_SIZE, STEPS, largest, dtype, tolerances.GOLDEN_STRETCH)

    assert np.abs(losses - golden["losses"]).max() <= bound(golden["losses"])
    assert np.abs(net.parameters - golden["end"]).max() <= bound(golden["end"])
