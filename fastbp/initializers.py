"""Starting points for weights and biases: descriptions that draw an array from a random generator.

A sum of ``fan_in`` products keeps its variance from layer to layer when the weights' variance is about
1 / fan_in; the three schemes differ in what the activation behind the layer does to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import _check

Draw = NDArray[np.float64]


class Initializer:
    """A way to draw the entries of a weight or a bias.

    Draws are float64 whatever the network's precision, so that a float32 network starts from the rounded
    numbers of its float64 twin.
    """

    def draw(self, rng: np.random.Generator, fan_in: int, fan_out: int, shape: tuple[int, ...]) -> Draw:
        """Entries for a layer of ``fan_in`` inputs and ``fan_out`` outputs.

        Parameters
        ----------
        rng : numpy.random.Generator
            Where the randomness comes from; it moves on.
        fan_in, fan_out : int
            Inputs and outputs of the layer.
        shape : tuple of int
            Shape of the array.

        Returns
        -------
        ndarray of float64
            A new array of that shape.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define draw")


@dataclass(frozen=True)
class _VarianceScaling(Initializer):
    """Entries of mean 0 with a variance set by the fans, uniform or normal."""

    distribution: str

    def __post_init__(self) -> None:
        _check.choice(self.distribution, "distribution", ("uniform", "normal"))

    def variance(self, fan_in: int, fan_out: int) -> float:
        """The variance of an entry."""
        raise NotImplementedError(f"{type(self).__name__} does not define variance")

    def draw(self, rng: np.random.Generator, fan_in: int, fan_out: int, shape: tuple[int, ...]) -> Draw:
        variance = self.variance(fan_in, fan_out)
        if self.distribution == "normal":
            return rng.normal(0.0, math.sqrt(variance), shape)
        limit = math.sqrt(3.0 * variance)  # the variance of uniform(-a, a) is a^2 / 3
        return rng.uniform(-limit, limit, shape)


@dataclass(frozen=True)
class Glorot(_VarianceScaling):
    """Variance 2 / (fan_in + fan_out), for tanh, sigmoid, softmax and linear layers.

    Parameters
    ----------
    distribution : {"uniform", "normal"}
        Shape of the distribution; default "uniform", as in the paper.

    References
    ----------
    Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010,
    equations 12 and 16.

    Examples
    --------
    >>> Glorot().draw(np.random.default_rng(0), 4, 2, (4, 2)).shape
    (4, 2)
    """

    distribution: str = "uniform"

    def variance(self, fan_in: int, fan_out: int) -> float:
        return 2.0 / (fan_in + fan_out)


Xavier = Glorot  # the author's first name: both names are in use


@dataclass(frozen=True)
class He(_VarianceScaling):
    """Variance 2 / fan_in, for ReLU, which lets half of the variance through.

    Parameters
    ----------
    distribution : {"uniform", "normal"}
        Shape of the distribution; default "normal", as in the paper.

    References
    ----------
    He, Zhang, Ren and Sun, Delving deep into rectifiers, 2015, equation 10.
    """

    distribution: str = "normal"

    def variance(self, fan_in: int, fan_out: int) -> float:
        return 2.0 / fan_in


@dataclass(frozen=True)
class LeCun(_VarianceScaling):
    """Variance 1 / fan_in: what a linear layer needs to pass the variance of its input on.

    Parameters
    ----------
    distribution : {"uniform", "normal"}
        Shape of the distribution; default "normal".

    References
    ----------
    LeCun, Bottou, Orr and Mueller, Efficient backprop, 1998, equation 16.
    """

    distribution: str = "normal"

    def variance(self, fan_in: int, fan_out: int) -> float:
        return 1.0 / fan_in


@dataclass(frozen=True)
class Uniform(Initializer):
    """Entries from ``low`` up to ``high``, whatever the layer's size.

    Parameters
    ----------
    low, high : float
        Bounds, low < high; default -0.05 and 0.05.
    """

    low: float = -0.05
    high: float = 0.05

    def __post_init__(self) -> None:
        low = _check.real_number(self.low, "low", -math.inf)
        high = _check.real_number(self.high, "high", -math.inf)
        if not -math.inf < low < high or high - low == math.inf:
            raise ValueError(
                f"low is {low:g} and high is {high:g}, "
                "expected finite numbers with low < high and a finite difference"
            )

    def draw(self, rng: np.random.Generator, fan_in: int, fan_out: int, shape: tuple[int, ...]) -> Draw:
        return rng.uniform(self.low, self.high, shape)


@dataclass(frozen=True)
class Normal(Initializer):
    """Entries of mean 0 and a fixed standard deviation, whatever the layer's size.

    Parameters
    ----------
    std : float
        Standard deviation, >= 0; default 0.05.
    """

    std: float = 0.05

    def __post_init__(self) -> None:
        _check.real_number(self.std, "std")

    def draw(self, rng: np.random.Generator, fan_in: int, fan_out: int, shape: tuple[int, ...]) -> Draw:
        return rng.normal(0.0, self.std, shape)


@dataclass(frozen=True)
class Zeros(Initializer):
    """Entries of 0, the start for biases; as weights they would keep all units of a layer alike."""

    def draw(self, rng: np.random.Generator, fan_in: int, fan_out: int, shape: tuple[int, ...]) -> Draw:
        return np.zeros(shape)


NAMES: dict[str, Callable[[], Initializer]] = {
    "glorot_uniform": lambda: Glorot("uniform"),
    "glorot_normal": lambda: Glorot("normal"),
    "xavier_uniform": lambda: Glorot("uniform"),
    "xavier_normal": lambda: Glorot("normal"),
    "he_uniform": lambda: He("uniform"),
    "he_normal": lambda: He("normal"),
    "lecun_uniform": lambda: LeCun("uniform"),
    "lecun_normal": lambda: LeCun("normal"),
    "uniform": Uniform,
    "normal": Normal,
    "zeros": Zeros,
}


def get(initializer: Any, argument: str = "initializer") -> Initializer:
    """The initializer itself, or the one that a string names."""
    return _check.described(initializer, Initializer, NAMES, argument)


def default_for(activation: str) -> Initializer:
    """The initializer that fits the activation behind a layer: He for ReLU, Glorot for the others."""
    return He() if activation == "relu" else Glorot()
