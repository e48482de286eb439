"""Three linear layers, two outputs: the errors of both flow back to every hidden weight, and add up."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastbp as bp
from fastbp import graph
from fastbp.explain.page import Code, Page, Table, derivative, matrix, number
from fastbp.graph import Variable

SIZES = [2, 3, 3, 2]
LEARNING_RATE = 0.1
UPDATES = (0, 1, 10, 100, 1_000)


def three_layers(x: Variable, parameters: list[Variable]) -> Variable:
    w1, b1, w2, b2, w3, b3 = parameters
    h1 = graph.sigmoid(x @ w1 + b1)
    h2 = graph.sigmoid(h1 @ w2 + b2)
    return h2 @ w3 + b3


def make_network() -> bp.Network:
    layers = bp.mlp(SIZES, activation="sigmoid")
    loss, optimizer = bp.MeanSquaredError("sum"), bp.SGD(lr=LEARNING_RATE)
    return bp.Network(layers, loss=loss, optimizer=optimizer, dtype="float64", seed=1)


def compute() -> Page:
    """The derivatives by one hidden weight from each output alone and from both; then the learning."""
    x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = np.column_stack([x[:, 0] * x[:, 1], x[:, 0] + x[:, 1]]) / 2
    net = make_network()
    dense = [layer for layer in net.layers if isinstance(layer, bp.Dense)]
    parameters = [Variable(array) for layer in dense for array in (layer.weight, layer.bias)]
    y_hat = three_layers(Variable(x), parameters)
    error = graph.square(y_hat - y)
    j1, j2 = error[:, 0].sum(), error[:, 1].sum()
    j = j1 + j2

    def gradients(node: Variable) -> list[NDArray[Any]]:
        node.backward()
        return [derivative(parameter) for parameter in parameters]

    first, second, both = gradients(j1), gradients(j2), gradients(j)
    sums = [one + other for one, other in zip(first, second, strict=True)]
    rows = [
        [name, *(matrix(array) for array in (first[at], second[at], both[at]))]
        for name, at in (("dW1", 0), ("dW2", 2), ("dW3", 4))
    ]
    _, gradient = net.loss_and_gradient(x, y)
    flat = np.concatenate([array.ravel() for array in both])

    losses, done = [], 0
    for updates in UPDATES:
        for _ in range(updates - done):
            net.partial_fit(x, y)
        done = updates
        losses.append([f"{updates:,}", number(net.evaluate(x, y)["loss"])])
    values = {
        "code": Code(three_layers),
        "j1": j1.value,
        "j2": j2.value,
        "j": j.value,
        "gradients": Table(rows),
        "additions": max(np.abs(one - other).max() for one, other in zip(sums, both, strict=True)),
        "nodes": len(graph.walk(j)),
        "units": SIZES[2],
        "outputs": SIZES[3],
        "ways": SIZES[2] * SIZES[3],
        "difference": np.abs(flat - gradient).max(),
        "lr": LEARNING_RATE,
        "losses": Table(losses),
    }
    return Page(values)
