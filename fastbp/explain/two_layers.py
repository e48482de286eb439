"""Two layers with binary cross entropy, every intermediate by name."""

from __future__ import annotations

import math

import numpy as np

import fastbp as bp
from fastbp.explain.page import Code, Page, Table, derivative, matrix

LN3 = math.log(3.0)  # sigmoid(k ln 3) is 3^k / (3^k + 1): 1/4, 1/2, 3/4 for k = -1, 0, 1
X = np.array([[1.0, 1.0], [0.0, 1.0]])
Y = np.array([[1.0], [0.0]])
W1 = LN3 * np.array([[1.0, -1.0, -2.0], [0.0, 1.0, 1.0]])
W2 = LN3 * np.array([[2.0], [-4.0], [1.0]])
B2 = LN3 / 4
NAMES = "X", "W1", "b1", "Z1", "A1", "W2", "b2", "Z2", "A2", "L"


def make_network() -> bp.Network:
    layers = [bp.Dense(2, 3), bp.Sigmoid(), bp.Dense(3, 1), bp.Sigmoid()]
    return bp.Network(layers, loss="bce", optimizer=bp.SGD(lr=0.5), dtype="float64")


def compute() -> Page:
    """All arrays of one forward and one backward pass, and the update that follows from them."""
    net = make_network()
    net.parameters[:] = np.concatenate([W1.ravel(), np.zeros(3), W2.ravel(), [B2]])
    nodes = net.graph(X, Y)
    rows = [
        (name, str(nodes[name].shape), matrix(nodes[name].value, 5), matrix(derivative(nodes[name]), 5))
        for name in NAMES
    ]
    shapes = [(name, str(nodes[name].shape), str(derivative(nodes[name]).shape)) for name in NAMES]
    shortcut = (nodes["A2"].value - Y) / len(X)
    _, gradient = net.loss_and_gradient(X, Y)
    by_graph = np.concatenate([derivative(nodes[name]).ravel() for name in ("W1", "b1", "W2", "b2")])
    before = net.partial_fit(X, Y)
    values = {
        "code": Code(make_network),
        "targets": Y[:, 0],
        "ln3": LN3,
        "rows": Table(rows),
        "shapes": Table(shapes),
        "equal_shapes": sum(node.shape == derivative(node).shape for node in map(nodes.__getitem__, NAMES)),
        "names": len(NAMES),
        "shortcut": Table([[matrix(derivative(nodes["Z2"]), 5), matrix(shortcut, 5)]]),
        "difference": np.abs(gradient - by_graph).max(),
        "parameters": net.parameters.size,
        "loss_before": before,
        "loss_after": net.evaluate(X, Y)["loss"],
    }
    return Page(values, {"two-layers.svg": nodes.draw})
