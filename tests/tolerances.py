"""How far a result may lie from the truth: one table, each entry with its reason.

u is the unit roundoff, 2^-24 for float32 and 2^-53 for float64: half the spacing of the numbers just above 1.
Bounds are absolute, arrays of the compared shape or scalars: a test reads ``abs(got - truth) <= bound``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

# exp, tanh and sigmoid: what the project promises, in units of the last place of the exact result.
ELEMENTARY_ULP = 2.0
# ln(1 + e^z), of which binary cross entropy is made: an error of e^z counts up to 4/3 in its smaller units.
SOFTPLUS_ULP = 2.1

# Central differences in float64 with the step that balances both errors, eps^(1/3): truncation h^2 |f'''|
# / 6 and rounding eps |f| / h are both about eps^(2/3) = 3.7e-11 in units of f.  The factor 300 leaves
# room for third derivatives that are larger than the gradient, and for the |f| of sums over a batch.
CENTRAL_DIFFERENCE = 300.0 * float(np.finfo(np.float64).eps) ** (2.0 / 3.0)

# A mean over drawn numbers: this many of its standard deviations.  The seeds are fixed, so it is met or
# not, for good.
SIGMAS = 4.0

# How much farther apart two float64 runs end than they start, 1e-12 of the largest parameter: measured
# over one and ten epochs of every network and optimiser of the tests, at worst 31 (Adam, whose first
# steps divide by a small gradient).
STRETCH = 32.0

# The same for the golden runs, against what was measured and not against the worst case of `chain`, whose
# roundings cancel over 140 steps: at worst 8e-4 of steps times chain, times a hundred for other processors.
GOLDEN_STRETCH = 0.1

# What a network that learns reaches: the share of held-out digits, the loss left on exclusive or.
DIGITS_ACCURACY = 0.90
XOR_LOSS = 0.01

# A constant found by descent: what the loss' flat bottom leaves after the steps the test makes, far under
# the distance to any other candidate (the text book's 26.5 against a value between 2 and 3).
CONSTANT_BY_DESCENT = 0.05


def unit(dtype: DTypeLike) -> float:
    """The unit roundoff u."""
    return float(np.finfo(dtype).eps) / 2.0


def product(terms: int, magnitude: NDArray[Any], dtype: DTypeLike) -> NDArray[np.float64]:
    """A sum of products and a bias, in any order, fused or not; magnitude is the same sum of absolute values.

    Higham, Accuracy and Stability of Numerical Algorithms, 3.1: (n u / (1 - n u)) sum |a b|.  One term more
    for the bias, one for the denominator; the smallest normal number for sums that go below it.
    """
    return (terms + 2) * unit(dtype) * np.asarray(magnitude, np.float64) + float(np.finfo(dtype).tiny)


def softmax(z: NDArray[Any], dtype: DTypeLike) -> NDArray[np.float64]:
    """exp(z - max) / sum of such, along rows.

    Relative to the result: u |z - max| from the rounded difference and 4 u for an exp of 2 ULP, as much for
    the worst exp in the sum, u for each of its k additions and for the quotient. What is below the smallest
    normal number is 0.
    """
    largest = z.max(axis=1, keepdims=True)
    spread = (largest - z.min(axis=1, keepdims=True)) * np.ones_like(z)
    exact = np.exp(z - largest) / np.exp(z - largest).sum(axis=1, keepdims=True)
    relative = (2.0 * spread + z.shape[1] + 10.0) * unit(dtype)
    return np.asarray(relative * exact + float(np.finfo(dtype).tiny), np.float64)


def activation_derivative(
    name: str, a: NDArray[Any], da: NDArray[Any], dtype: DTypeLike
) -> NDArray[np.float64]:
    """dA f'(Z) from the output A.

    Identity and ReLU select: exact.  Exp: one product.  Sigmoid and tanh: 1 - a or 1 - a^2 loses at most 2 u
    in absolute terms, and two products follow, so 4 u |da|.  Softmax: a (da - s) with s a sum of k products,
    so (k + 4) u a (sum |a da| + |da|).
    """
    if name in ("identity", "relu"):
        return np.zeros_like(a, np.float64)
    tiny = float(np.finfo(dtype).tiny)
    if name == "exp":
        return np.asarray(unit(dtype) * np.abs(da * a) + tiny, np.float64)
    if name == "softmax":
        magnitude = np.abs(a * da).sum(axis=1, keepdims=True) + np.abs(da)
        return np.asarray((a.shape[1] + 4) * unit(dtype) * a * magnitude + tiny, np.float64)
    return np.asarray(4.0 * unit(dtype) * np.abs(da) + tiny, np.float64)


def chain(widths: Sequence[int], rows: int, largest: float, dtype: DTypeLike) -> float:
    """A whole forward and backward pass against the largest entry of the result.

    Each layer adds one relative error of n u for a sum of n terms (its width forward, its width backward),
    and the weight's gradient one for the rows of the batch.  Weights drawn by Glorot or He keep the norms
    level, so the errors add and do not multiply.  16 u a layer stand for its activation and for the loss.
    """
    terms = 2 * sum(widths) + rows + 16 * len(widths)
    return terms * unit(dtype) * largest + float(np.finfo(dtype).tiny)


def training(
    widths: Sequence[int], rows: int, steps: int, largest: float, dtype: DTypeLike, stretch: float = STRETCH
) -> float:
    """Parameters, or losses, after some updates, against the largest of them.

    Every step brings the error of one pass, and the steps after it stretch it.
    """
    return stretch * steps * chain(widths, rows, largest, dtype)


def metric(dtype: DTypeLike) -> float:
    """A ratio of counts, or a root of a mean formed in float64 from under 1000 numbers; relative."""
    return 1000 * unit(np.float64) + 2 * unit(dtype)


def fuzzed(widths: Sequence[int], rows: int, largest: float, dtype: DTypeLike) -> float:
    """Loss and gradient of a random network against the reference; a mean, or one term of a sum.

    Its weights are drawn in any way, so nothing keeps the norms level: errors are those of `chain` relative
    to a product of two of the largest numbers on the way, of which a squared error and a gradient are made.
    """
    return chain(widths, rows, max(1.0, largest) ** 2, dtype)


def expression(nodes: int, largest: float, dtype: DTypeLike) -> float:
    """Value and derivatives of an expression of so many nodes, against another way to compute them.

    A node rounds a few times forward and back, sums up to 12 entries and uses functions of 4 u: 32 u for all.
    What it rounded is passed on with the factors that derivatives are made of, two of the largest numbers.
    """
    return 32 * nodes * unit(dtype) * max(1.0, largest) ** 2
