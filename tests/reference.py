"""The mathematics of fastbp in plain NumPy float64, to be read next to the kernels.

A network is described by a list: a pair ``(in, out)`` is a dense layer, a string is an activation.  Its
parameters are one flat vector, layer by layer, weight then bias.  Nothing here is fused, blocked or clever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Description = Sequence[tuple[int, int] | str]


def affine_forward(x: Array, weight: Array, bias: Array) -> Array:
    """Z = X W + b, (B, I) @ (I, O) + (O,)."""
    return x @ weight + bias


def affine_backward(x: Array, weight: Array, dz: Array) -> tuple[Array, Array, Array]:
    """dX = dZ W^T, dW = X^T dZ, db = column sums of dZ."""
    return dz @ weight.T, x.T @ dz, dz.sum(axis=0)


def activation_forward(name: str, z: Array) -> Array:
    """A = f(Z), element by element, except softmax: along each row."""
    if name == "identity":
        return z
    if name == "relu":
        return np.where(z < 0.0, 0.0, z)
    if name == "tanh":
        return np.tanh(z)
    if name == "exp":
        return np.exp(z)
    if name == "sigmoid":
        small = np.exp(-np.abs(z))
        return np.where(z < 0.0, small, 1.0) / (1.0 + small)
    if name == "softmax":
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)
    raise KeyError(name)


def activation_backward(name: str, a: Array, da: Array) -> Array:
    """dZ = dA f'(Z), with f' written in terms of the output A."""
    if name == "identity":
        return da
    if name == "relu":
        return np.where(a > 0.0, da, 0.0)
    if name == "tanh":
        return da * (1.0 - a * a)
    if name == "exp":
        return da * a
    if name == "sigmoid":
        return da * a * (1.0 - a)
    if name == "softmax":
        return a * (da - (a * da).sum(axis=1, keepdims=True))
    raise KeyError(name)


def one_hot(labels: NDArray[np.int64], classes: int) -> Array:
    return np.eye(classes)[labels]


def loss_value(loss: str, output: Array, target: Array, reduction: str = "mean") -> float:
    """The loss of a batch; target has the shape of output.

    The mean is over samples for cross entropy, else over elements.
    """
    if loss == "mse":
        terms = (output - target) ** 2
    elif loss == "mae":
        terms = np.abs(output - target)
    elif loss == "bce":
        terms = -(target * np.log(output) + (1.0 - target) * np.log(1.0 - output))
    elif loss == "cross_entropy":
        terms = -(target * np.log(np.where(target > 0.0, output, 1.0)))
    else:
        raise KeyError(loss)
    return float(terms.sum() / loss_divisor(loss, output, reduction))


def loss_gradient(loss: str, output: Array, target: Array, reduction: str = "mean") -> Array:
    """dL/dA of the last layer, the pair of `loss_value`."""
    if loss == "mse":
        gradient = 2.0 * (output - target)
    elif loss == "mae":
        gradient = np.sign(output - target)
    elif loss == "bce":
        gradient = (output - target) / (output * (1.0 - output))
    elif loss == "cross_entropy":
        gradient = -target / output
    else:
        raise KeyError(loss)
    return gradient / loss_divisor(loss, output, reduction)


def loss_divisor(loss: str, output: Array, reduction: str) -> int:
    if reduction == "sum":
        return 1
    return len(output) if loss == "cross_entropy" else output.size


def shapes_of(description: Description) -> list[tuple[int, int]]:
    return [entry for entry in description if not isinstance(entry, str)]


def parameter_count(description: Description) -> int:
    return sum(inputs * outputs + outputs for inputs, outputs in shapes_of(description))


def split(description: Description, flat: Array) -> list[tuple[Array, Array]]:
    """Views (weight, bias) of every dense layer in the flat vector."""
    pairs, start = [], 0
    for inputs, outputs in shapes_of(description):
        middle, end = start + inputs * outputs, start + inputs * outputs + outputs
        pairs.append((flat[start:middle].reshape(inputs, outputs), flat[middle:end]))
        start = end
    return pairs


def forward(description: Description, parameters: Array, x: Array) -> list[Array]:
    """The value that enters each layer, and last the network's output."""
    values, dense = [np.asarray(x, np.float64)], iter(split(description, parameters))
    for entry in description:
        if isinstance(entry, str):
            values.append(activation_forward(entry, values[-1]))
        else:
            values.append(affine_forward(values[-1], *next(dense)))
    return values


def backward(
    description: Description, parameters: Array, values: list[Array], dy: Array
) -> tuple[Array, Array]:
    """The flat gradient and dX, from what `forward` kept and dL/dY."""
    gradient = np.zeros(parameter_count(description))
    weights, gradients = split(description, parameters), split(description, gradient)
    for entry, entered, left in zip(reversed(description), values[-2::-1], values[:0:-1], strict=True):
        if isinstance(entry, str):
            dy = activation_backward(entry, left, dy)
        else:
            dweight, dbias = gradients.pop()
            dy, dweight[...], dbias[...] = affine_backward(entered, weights.pop()[0], dy)
    return gradient, dy


def loss_and_gradient(
    description: Description, loss: str, parameters: Array, x: Array, target: Array, reduction: str = "mean"
) -> tuple[float, Array]:
    parameters = np.asarray(parameters, np.float64)
    values = forward(description, parameters, x)
    dy = loss_gradient(loss, values[-1], target, reduction)
    gradient, _ = backward(description, parameters, values, dy)
    return loss_value(loss, values[-1], target, reduction), gradient


@dataclass
class SGD:
    """v = momentum v + g; w -= lr v, or with Nesterov w -= lr (g + momentum v)."""

    lr: float
    momentum: float = 0.0
    nesterov: bool = False
    velocity: Array | float = 0.0

    def update(self, parameters: Array, gradient: Array) -> None:
        self.velocity = self.momentum * self.velocity + gradient
        move = gradient + self.momentum * self.velocity if self.nesterov else self.velocity
        parameters -= self.lr * move


@dataclass
class Adam:
    """Kingma and Ba, algorithm 1: the moving means of g and g^2, each divided by its bias."""

    lr: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    moments: list[Array | float] = field(default_factory=lambda: [0.0, 0.0])
    step: int = 0

    def update(self, parameters: Array, gradient: Array) -> None:
        self.step += 1
        first = self.moments[0] = self.beta1 * self.moments[0] + (1.0 - self.beta1) * gradient
        second = self.moments[1] = self.beta2 * self.moments[1] + (1.0 - self.beta2) * gradient**2
        first_unbiased = first / (1.0 - self.beta1**self.step)
        second_unbiased = second / (1.0 - self.beta2**self.step)
        parameters -= self.lr * first_unbiased / (np.sqrt(second_unbiased) + self.epsilon)


def train_epoch(
    description: Description,
    loss: str,
    optimizer: SGD | Adam,
    parameters: Array,
    x: Array,
    target: Array,
    order: NDArray[np.int64],
    batch_size: int,
    reduction: str = "mean",
) -> list[float]:
    """One pass over the rows in the given order, parameters in place; each batch's loss before its update."""
    losses = []
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]
        value, gradient = loss_and_gradient(description, loss, parameters, x[rows], target[rows], reduction)
        optimizer.update(parameters, gradient)
        losses.append(value)
    return losses
