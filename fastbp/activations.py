"""Activations: layers without parameters, element by element, Softmax along each row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import _native
from fastbp.layers import Layer

_FLOPS = 32  # of an exponential and what surrounds it


class Activation(Layer):
    """A = f(Z) without parameters; dZ from dA by the derivative of f, which is written by A alone."""

    def _forward(self, z: NDArray[Any], threads: int | None) -> NDArray[Any]:
        self._kept = self._apply(z, threads)
        return self._kept

    def _forward_over(self, z: NDArray[Any], threads: int | None) -> NDArray[Any]:
        self._kept = self._activate(z, z, threads)
        return self._kept

    def _apply(self, z: NDArray[Any], threads: int | None) -> NDArray[Any]:
        return self._activate(z, np.empty_like(z), threads)

    def _activate(self, z: NDArray[Any], a: NDArray[Any], threads: int | None) -> NDArray[Any]:
        """A = f(Z); a may be z."""
        code, team = _native.ACTIVATIONS[self.name], self._team(threads, _FLOPS * z.size)
        _native.kernels(z.dtype).activation_forward(code, z, a, team)
        return a

    def _backward(self, da: NDArray[Any], threads: int | None) -> NDArray[Any]:
        return self._differentiate(da, np.empty_like(da), threads)

    def _backward_over(self, da: NDArray[Any], threads: int | None) -> NDArray[Any]:
        return self._differentiate(da, da, threads)

    def _differentiate(self, da: NDArray[Any], dz: NDArray[Any], threads: int | None) -> NDArray[Any]:
        """dZ = dA f'(Z); dz may be da."""
        a, code = self._kept_for(da), _native.ACTIVATIONS[self.name]
        _native.kernels(a.dtype).activation_backward(code, a, da, dz, self._team(threads, a.size))
        return dz


class Identity(Activation):
    """a = z; dz = da."""

    name = "identity"


class Sigmoid(Activation):
    """a = 1 / (1 + exp(-z)), a probability; dz = da a (1 - a).

    Examples
    --------
    >>> layer = Sigmoid()
    >>> layer.forward([[0.0]])
    array([[0.5]])
    >>> layer.backward([[1.0]])
    array([[0.25]])
    """

    name = "sigmoid"


class Tanh(Activation):
    """a = tanh(z); dz = da (1 - a^2)."""

    name = "tanh"


class ReLU(Activation):
    """a = max(0, z); dz = da where z > 0, else 0."""

    name = "relu"


class Exp(Activation):
    """a = exp(z), a rate or a count; dz = da a."""

    name = "exp"


class Softmax(Activation):
    """a_k = exp(z_k) / sum_j exp(z_j) in every row: probabilities; dz_k = a_k (da_k - sum_j da_j a_j)."""

    name = "softmax"


ACTIVATIONS: dict[str, type[Activation]] = {
    activation.name: activation for activation in (Identity, Sigmoid, Tanh, ReLU, Exp, Softmax)
}
