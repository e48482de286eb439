"""Optimisers: descriptions of the update w <- w - ..., which the core applies.

A description has no state.  The network keeps what an optimiser remembers, ``slots`` rows of one number per
parameter, so that one description can serve several networks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass
from typing import Any, ClassVar

import numpy as np

from fastbp import _check

LearningRate = float | Callable[[int], float]


class Optimizer:
    """A rule for moving the parameters against their gradient.

    Attributes
    ----------
    name : str
        The core's name for the rule.
    lr : float or callable
        The learning rate, or a function from the epoch, counted from 0, to it; where the function fails, the
        training ends with the epochs before.
    """

    name: ClassVar[str]
    lr: LearningRate

    @property
    def slots(self) -> int:
        """Numbers remembered per parameter."""
        raise NotImplementedError(f"{type(self).__name__} does not define slots")

    def learning_rate(self, epoch: int) -> float:
        """The learning rate in an epoch, counted from 0."""
        if callable(self.lr):
            return _check.real_number(self.lr(epoch), f"lr({epoch})")
        return float(self.lr)

    def settings(self, epoch: int) -> dict[str, float]:
        """What the core has to be told in an epoch, by name."""
        raise NotImplementedError(f"{type(self).__name__} does not define settings")


def _unchanging(kind: type[Optimizer]) -> type[Optimizer]:
    """A frozen class, whose refusal says how a network gets other settings."""

    def refuse(optimizer: Optimizer, name: str, value: Any) -> None:
        raise FrozenInstanceError(
            f"{name} of {optimizer!r} cannot be assigned to, networks may share it: "
            f"net.optimizer = dataclasses.replace(net.optimizer, {name}={_check.shown(value)}) takes another"
        )

    kind.__setattr__ = refuse  # type: ignore[assignment]
    return kind


@_unchanging
@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum on request.

    v <- momentum * v + g;  w <- w - lr * v, with Nesterov's momentum w <- w - lr * (g + momentum * v).

    Parameters
    ----------
    lr : float or callable
        Learning rate >= 0, or a function from the epoch to it, asked before each epoch; default 0.01.
    momentum : float
        What is kept of the last velocity, in [0, 1); default 0: plain descent.
    nesterov : bool
        Look ahead by one step of momentum; needs momentum > 0. Default False.

    Raises
    ------
    ValueError
        For a number out of its range, or nesterov without momentum.

    References
    ----------
    Sutskever, Martens, Dahl and Hinton, On the importance of initialization and momentum in deep learning,
    2013; v without the factor lr, as in PyTorch.
    """

    lr: LearningRate = 1e-2
    momentum: float = 0.0
    nesterov: bool = False
    name: ClassVar[str] = "sgd"

    def __post_init__(self) -> None:
        _check_learning_rate(self.lr)
        _check.real_number(self.momentum, "momentum", below=1.0)
        _check.boolean(self.nesterov, "nesterov")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov is True, but momentum is 0: expected a momentum > 0")

    @property
    def slots(self) -> int:
        return 1 if self.momentum else 0

    def settings(self, epoch: int) -> dict[str, float]:
        lr, momentum = self.learning_rate(epoch), float(self.momentum)
        return {"lr": lr, "momentum": momentum, "nesterov": self.nesterov}


@_unchanging
@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam: steps scaled by running means of the gradient and of its square.

    m <- beta1 * m + (1 - beta1) * g;  v <- beta2 * v + (1 - beta2) * g^2;
    w <- w - lr * m' / (sqrt(v') + epsilon), in step t = 1, 2, ... with m' = m / (1 - beta1^t) and
    v' = v / (1 - beta2^t), the means without their start at 0.

    Parameters
    ----------
    lr : float or callable
        Learning rate >= 0, or a function from the epoch to it, asked before each epoch; default 0.001.
    beta1, beta2 : float
        Decay of the two means, in [0, 1); default 0.9 and 0.999.
    epsilon : float
        Keeps the quotient finite, at least the smallest normal float32; default 1e-8.

    Raises
    ------
    ValueError
        For a number out of its range.

    References
    ----------
    Kingma and Ba, Adam: a method for stochastic optimization, 2015, algorithm 1.
    """

    lr: LearningRate = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    name: ClassVar[str] = "adam"

    def __post_init__(self) -> None:
        _check_learning_rate(self.lr)
        _check.real_number(self.beta1, "beta1", below=1.0)
        _check.real_number(self.beta2, "beta2", below=1.0)
        _check.real_number(self.epsilon, "epsilon", minimum=float(np.finfo(np.float32).tiny))

    @property
    def slots(self) -> int:
        return 2

    def settings(self, epoch: int) -> dict[str, float]:
        lr, beta1, beta2 = self.learning_rate(epoch), float(self.beta1), float(self.beta2)
        return {"lr": lr, "beta1": beta1, "beta2": beta2, "epsilon": float(self.epsilon)}


NAMES: dict[str, Callable[[], Optimizer]] = {"sgd": SGD, "adam": Adam}


def get(optimizer: Any) -> Optimizer:
    """The optimiser itself, or the one that a string names, with its default settings."""
    found = _check.described(optimizer, Optimizer, NAMES, "optimizer")
    _check.known_to_core(found, "optimizer", NAMES)
    return found


def _check_learning_rate(lr: Any) -> None:
    if callable(lr):
        _check.function_of(lr, 1, "lr", "a number or a function of the epoch")
    else:
        _check.real_number(lr, "lr")
