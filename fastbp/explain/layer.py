"""A layer: forward keeps what backward needs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import fastbp as bp
from fastbp.explain.page import Code, Page, Table, matrix

Array = NDArray[np.float64]

X = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
W = np.array([[1.0, 0.0, -1.0, 2.0], [0.0, 1.0, 1.0, -1.0]])
B = np.array([1.0, 2.0, 3.0, 4.0])


class Sigmoid(bp.Layer):
    def forward(self, x: Array) -> Array:
        self.out = 1.0 / (1.0 + np.exp(-x))
        return self.out

    def backward(self, dout: Array) -> Array:
        return dout * (1.0 - self.out) * self.out


def compute() -> Page:
    """Sigmoid written by hand beside the library's and its Jacobian; an affine layer and its shapes."""
    z = np.array([[-1.0, 0.0, 2.0]])
    dout = np.array([[1.0, 2.0, 3.0]])
    own, built_in = Sigmoid(), bp.Sigmoid()
    out, dz = own.forward(z), own.backward(dout)
    difference = max(
        np.abs(built_in.forward(z) - out).max(),
        np.abs(built_in.backward(dout) - dz).max(),
    )
    jacobian = []
    for column in range(z.shape[1]):

        def output(at: Array, column: int = column) -> float:
            return float(own.forward(at)[0, column])

        jacobian.append(bp.numerical_gradient(output, z)[0])
    affine = bp.Dense(2, 4, dtype="float64")
    affine.weight[:], affine.bias[:] = W, B
    dz_affine = np.ones((3, 4))
    z_affine, dx = affine.forward(X), affine.backward(dz_affine)
    arrays = (
        ("X", X, "dX = dZ Wᵀ", dx),
        ("W", affine.weight, "dW = Xᵀ dZ", affine.gradients["weight"]),
        ("b", affine.bias, "db", affine.gradients["bias"]),
        ("Z = X W + b", z_affine, "dZ", dz_affine),
    )
    shapes = [
        (name, str(value.shape), matrix(value, 0), rule, str(slope.shape), matrix(slope, 0))
        for name, value, rule, slope in arrays
    ]
    values = {
        "code": Code(Sigmoid),
        "arrays": Table(
            [(name, matrix(array)) for name, array in (("x", z), ("out", out), ("dout", dout), ("dx", dz))]
        ),
        "difference": difference,
        "jacobian": Table([[matrix(jacobian), matrix(dout @ jacobian), matrix(dz)]]),
        "shapes": Table(shapes),
    }
    return Page(values)
