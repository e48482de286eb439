"""What a loss or a layer written in Python costs: an epoch with it, beside the same built in."""

from __future__ import annotations

import numpy as np
import pytest

import fastbp as bp

THREADS, BATCHES = 1, 8
SHAPES = {  # sizes, batch; an epoch is BATCHES of them
    "4-32-32-1, batch 32": ((4, 32, 32, 1), 32),
    "64-128-10, batch 64": ((64, 128, 10), 64),
    "784-128-64-10, batch 128": ((784, 128, 64, 10), 128),
    "1024-1024-1024, batch 512": ((1024, 1024, 1024), 512),
}
TOLERANCE = 1e-4  # of the largest parameter after an epoch, in float32


class Sigmoid(bp.Layer):
    """The text book's."""

    def forward(self, x):
        self.out = 1 / (1 + np.exp(-x))
        return self.out

    def backward(self, dout):
        return dout * (1.0 - self.out) * self.out


def mean_square(output, target):
    return ((output - target) ** 2).mean()


def network(sizes, activation=bp.Sigmoid, loss="mse"):
    layers = bp.mlp(sizes)
    layers = [activation() if isinstance(layer, bp.ReLU) else layer for layer in layers]
    return bp.Network(layers, loss, bp.SGD(lr=0.01))


CONTENDERS = {
    "built in": {},
    "own loss": {"loss": mean_square},
    "own layers": {"activation": Sigmoid},
}


@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("name", SHAPES)
def test_own(benchmark, name, contender):
    (sizes, batch_size), rng = SHAPES[name], np.random.default_rng(0)
    rows = BATCHES * batch_size
    x, y = rng.normal(size=(rows, sizes[0])), rng.normal(size=(rows, sizes[-1]))
    x, y = x.astype(np.float32), y.astype(np.float32)
    benchmark.group = name
    plain, net = network(sizes), network(sizes, **CONTENDERS[contender])
    for one in (plain, net):
        one.fit(x, y, batch_size=batch_size, threads=THREADS)
    difference = np.abs(net.parameters - plain.parameters).max()
    assert difference <= TOLERANCE * np.abs(plain.parameters).max()
    benchmark(net.fit, x, y, batch_size=batch_size, threads=THREADS)
