"""Layers and losses as a user writes them; pickle finds them here."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastbp as bp
from fastbp import graph

Array = NDArray[Any]
Node = graph.Variable


class Sigmoid(bp.Layer):
    """The text book's, letter for letter."""

    def __init__(self):
        self.out = None

    def forward(self, x):
        out = 1 / (1 + np.exp(-x))
        self.out = out
        return out

    def backward(self, dout):
        dx = dout * (1.0 - self.out) * self.out
        return dx  # noqa: RET504


class Scale(bp.Layer):
    """y = x * scale + shift, one of each per column; its own way of keeping x, and of adding gradients up."""

    def __init__(self, features: int) -> None:
        self.in_features = features

    def initial_parameters(self, rng: np.random.Generator) -> dict[str, Array]:
        return {"scale": rng.normal(1.0, 0.1, self.in_features), "shift": np.zeros(self.in_features)}

    def forward(self, x: Array) -> Array:
        self.x = x
        return x * self.parameters["scale"] + self.parameters["shift"]

    def backward(self, dy: Array) -> Array:
        self.gradients["scale"][:] = (dy * self.x).sum(axis=0)
        self.gradients["shift"][:] += dy.sum(axis=0)
        return dy * self.parameters["scale"]


class BothSigns(bp.Layer):
    """The positive and the negative part of each column: twice as many columns; writes into what it gets."""

    def __init__(self, features: int) -> None:
        self.in_features, self.out_features = features, 2 * features

    def forward(self, x: Array) -> Array:
        self.positive = x > 0
        negative = np.minimum(x, 0.0)
        np.maximum(x, 0.0, out=x)
        return np.hstack([x, negative])

    def backward(self, dy: Array) -> Array:
        dy[:, : self.in_features][~self.positive] = 0.0
        dy[:, self.in_features :][self.positive] = 0.0
        return dy[:, : self.in_features] + dy[:, self.in_features :]


class LeakyReLU(bp.ReLU):
    """A built-in layer with other passes."""

    def forward(self, x: Any, threads: int | None = None) -> Array:
        self.slope = np.where(np.asarray(x) > 0, 1.0, 0.1)
        return super().forward(x, threads) + 0.1 * np.minimum(x, 0.0)

    def backward(self, dy: Any, threads: int | None = None) -> Array:
        return np.asarray(dy * self.slope)


class HalfSquare(bp.MeanSquaredError):
    """A built-in loss with other terms."""

    def _terms(self, p, t, tiny):
        return 0.5 * (p - t) ** 2

    def _slopes(self, p, t, tiny):
        return p - t


class Cosine(bp.Loss):
    """A loss in NumPy: 1 - cos of the error, averaged."""

    def value(self, output: Any, target: Any) -> float:
        return float(np.mean(1.0 - np.cos(output - target)))

    def gradient(self, output: Any, target: Any) -> Array:
        return np.sin(output - target) / np.size(output)


def mean_square(output: Node, target: Node) -> Node:
    return ((output - target) ** 2).mean()


def sum_of_squares(output: Node, target: Node) -> Node:
    return graph.square(output - target).sum()


def mean_absolute(output: Node, target: Node) -> Node:
    return graph.absolute(output - target).mean()


def binary_cross_entropy(output: Node, target: Node) -> Node:
    return -(target * graph.log(output) + (1 - target) * graph.log(1 - output)).mean()


def cross_entropy(output: Node, target: Node) -> Node:
    return -(target * graph.log(output)).sum() / len(output.value)


def pinball(output: Node, target: Node) -> Node:
    error = target - output
    return graph.maximum(0.9 * error, -0.1 * error).mean()


def focal(output: Node, target: Node) -> Node:
    right = target * output + (1 - target) * (1 - output)
    return -((1 - right) ** 2 * graph.log(right)).mean()


def asymmetric(output: Node, target: Node) -> Node:
    error = output - target
    return (graph.square(graph.relu(error)) + 4 * graph.square(graph.relu(-error))).mean()
