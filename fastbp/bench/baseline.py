"""Training in pure NumPy: the baseline in float32, and in float64 the reference for every result."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastbp.bench.workloads import Problem, layer_views


class Baseline:
    """Trains a problem as a careful NumPy user would: flat vectors, buffers made once, everything in place.

    Sigmoid with binary cross entropy and softmax with cross entropy are the pair ``p - y``; the loss itself,
    which no update needs, is not formed.
    """

    def __init__(self, problem: Problem, dtype: DTypeLike = np.float32) -> None:
        work = self.workload = problem.workload
        self.problem = problem
        self.x = problem.x.astype(dtype, copy=False)
        classes = work.loss == "cross_entropy"
        self.y = problem.y if classes else problem.y.reshape(-1, work.sizes[-1]).astype(dtype, copy=False)
        self.flat = problem.parameters.astype(dtype)
        self.gradient = np.empty_like(self.flat)
        self.first_moment, self.second_moment = np.zeros_like(self.flat), np.zeros_like(self.flat)
        self.scratch = np.empty_like(self.flat)
        self._update = self._adam if work.optimizer == "adam" else self._gradient_descent
        self.layers = layer_views(self.flat, work.sizes)
        self.layer_gradients = layer_views(self.gradient, work.sizes)
        self.outputs = [np.empty((work.batch_size, size), dtype) for size in work.sizes[1:]]
        self.slopes, self.deltas = (
            [np.empty((work.batch_size, size), dtype) for size in work.sizes[1:-1]] for _ in range(2)
        )
        self.restart()

    def restart(self) -> None:
        """Go back to the starting point."""
        self.flat[:] = self.problem.parameters
        self.first_moment.fill(0)
        self.second_moment.fill(0)
        self.step = self.epoch = 0

    def parameters(self) -> NDArray[Any]:
        """All parameters as one vector."""
        return self.flat

    def train(self, epochs: int) -> None:
        """Train on for this many epochs: rows in order, gathered once an epoch, cut into batches."""
        batch, orders = self.workload.batch_size, self.problem.orders
        x, y = self.x, self.y
        for _ in range(epochs):
            if self.workload.shuffled:
                order = orders[self.epoch % len(orders)]
                x, y = self.x[order], self.y[order]
            for start in range(0, len(x), batch):
                self.update(x[start : start + batch], y[start : start + batch])
            self.epoch += 1

    def update(self, x: NDArray[Any], y: NDArray[Any]) -> None:
        """One update on these rows as one batch."""
        self.backpropagate(x, y)
        self._update()

    def predict(self, x: NDArray[Any]) -> NDArray[Any]:
        """The last layer's output."""
        outputs = [np.empty((len(x), size), self.flat.dtype) for size in self.workload.sizes[1:]]
        return self._forward(x, outputs)

    def _forward(self, a: NDArray[Any], outputs: list[NDArray[Any]]) -> NDArray[Any]:
        activations = [self.workload.hidden] * (len(self.layers) - 1) + [self.workload.output]
        for (weight, bias), activation, z in zip(self.layers, activations, outputs, strict=True):
            affine_forward(a, weight, bias, z)
            activation_forward(activation, z, z)
            a = z
        return a

    def backpropagate(self, x: NDArray[Any], y: NDArray[Any]) -> None:
        """Form the gradient of the loss over these rows."""
        rows = len(x)
        outputs = [x, *(buffer[:rows] for buffer in self.outputs)]
        delta = self._forward(x, outputs[1:])
        if self.workload.loss == "cross_entropy":
            delta[np.arange(rows), y] -= 1
            delta *= 1 / rows
        else:
            delta -= y
            delta *= (2 if self.workload.loss == "mse" else 1) / delta.size
        for layer in reversed(range(len(self.layers))):
            da = self.slopes[layer - 1][:rows] if layer else None
            affine_backward(outputs[layer], self.layers[layer][0], delta, da, *self.layer_gradients[layer])
            if da is not None:
                delta = self.deltas[layer - 1][:rows]
                activation_backward(self.workload.hidden, outputs[layer], da, delta)

    def _gradient_descent(self) -> None:
        self.gradient *= self.workload.learning_rate
        self.flat -= self.gradient

    def _adam(self) -> None:
        beta1, beta2, epsilon = 0.9, 0.999, 1e-8
        self.step += 1
        g, m, v, t = self.gradient, self.first_moment, self.second_moment, self.scratch
        np.multiply(g, 1 - beta1, out=t)
        m *= beta1
        m += t
        np.multiply(g, g, out=t)
        t *= 1 - beta2
        v *= beta2
        v += t
        np.sqrt(v, out=t)
        t *= 1 / np.sqrt(1 - beta2**self.step)
        t += epsilon
        np.divide(m, t, out=t)
        t *= self.workload.learning_rate / (1 - beta1**self.step)
        self.flat -= t


def affine_forward(x: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any], z: NDArray[Any]) -> None:
    """z = x @ weight + bias."""
    np.matmul(x, weight, out=z)
    z += bias


def affine_backward(
    x: NDArray[Any],
    weight: NDArray[Any],
    dz: NDArray[Any],
    dx: NDArray[Any] | None,
    dweight: NDArray[Any],
    dbias: NDArray[Any],
) -> None:
    """The derivatives by x (unless it is None), weight and bias, given that by z."""
    np.matmul(x.T, dz, out=dweight)
    np.add.reduce(dz, axis=0, out=dbias)
    if dx is not None:
        np.matmul(dz, weight.T, out=dx)


def activation_forward(name: str, z: NDArray[Any], a: NDArray[Any]) -> None:
    """a = f(z); a may be z."""
    if name == "relu":
        np.maximum(z, 0, out=a)
    elif name == "tanh":
        np.tanh(z, out=a)
    elif name == "sigmoid":  # 1 / (1 + exp(-z)), where an exponential beyond all numbers gives 0
        np.negative(z, out=a)
        with np.errstate(over="ignore"):
            np.exp(a, out=a)
        a += 1
        np.divide(1, a, out=a)
    elif name == "softmax":
        np.subtract(z, np.maximum.reduce(z, axis=1, keepdims=True), out=a)
        np.exp(a, out=a)
        a /= np.add.reduce(a, axis=1, keepdims=True)


def activation_backward(name: str, a: NDArray[Any], da: NDArray[Any], dz: NDArray[Any]) -> None:
    """dz = da * f'(z), by the output a = f(z)."""
    if name == "relu":
        np.multiply(da, a > 0, out=dz)
    elif name == "tanh":
        np.multiply(a, a, out=dz)
        np.subtract(1, dz, out=dz)
        dz *= da
    elif name == "sigmoid":
        np.subtract(1, a, out=dz)
        dz *= a
        dz *= da
