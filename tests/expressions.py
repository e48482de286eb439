"""Random expressions, written as Python writes them: NumPy, PyTorch and the graph can all compute them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHAPES = {"a": (3, 4), "b": (4,), "c": (3, 1), "s": (), "w": (4, 4)}  # all but w can be repeated to (3, 4)
DEPTH = 4

# E stands for any expression, F for one of shape (3, 4).  Nothing leaves the domain of its function.
RULES = (
    "(E + E)", "(E - E)", "(E * E)", "(E / (1 + square(E)))", "maximum(E, E)", "minimum(E, E)",
    "where(E > 0.1, E, E)", "(-E)", "(2 * E)", "(E - 0.5)", "(0.25 + E)", "(1 - E)",
    "(1 / (2 + square(E)))", "(E / 3)", "(E ** 3)", "((1 + absolute(E)) ** -1.5)", "(2 ** tanh(E))",
    "((1 + absolute(E)) ** tanh(E))", "exp(-square(E))", "log(1 + square(E))", "sqrt(0.5 + absolute(E))",
    "sigmoid(E)", "tanh(E)", "relu(E)", "absolute(E)", "(F @ w)", "affine(F, w, b)", "softmax(F)",
    "F.sum()", "F.sum(0)", "F.mean(0)", "F.mean()", "F.sum(1).reshape(3, 1)", "F.mean(-1).reshape((3, 1))",
    "F.T.reshape(3, 4)", "F.reshape(2, -1).reshape(3, 4)", "(F.T @ F)[1]", "(F @ b).reshape(3, 1)",
    "(F[0] @ w)", "F[1]", "F[0, 2]", "F[:, 1:2]", "F[[0, 2, 0]]", "F[:, [1, 1, 0, 3]]",
    "F[[2, 2, 1], [0, 0, 3]].sum()",
)  # fmt: skip

Choose = Callable[[Sequence[str]], str]


def expression(choose: Choose) -> str:
    """An expression whose value is one number; ``choose`` takes one of several strings."""
    return f"({_filled('F', DEPTH, choose)}).sum()"


def _filled(symbol: str, depth: int, choose: Choose) -> str:
    if symbol == "F":
        return f"(a + {_filled('E', depth - 1, choose)})"
    rule = choose(RULES) if depth > 0 else choose("abcs")
    parts = [_filled(part, depth - 1, choose) if part in ("E", "F") else part for part in rule]
    return "".join(parts)


def inputs(seed: int) -> dict[str, NDArray[np.float64]]:
    """A value for each name."""
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(-1.5, 1.5, shape) for name, shape in SHAPES.items()}


def softmax(z: NDArray[Any]) -> NDArray[Any]:
    weights = np.exp(z - z.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


NUMPY: dict[str, Any] = {
    name: getattr(np, name)
    for name in ("exp", "log", "sqrt", "square", "absolute", "maximum", "minimum", "tanh", "where")
} | {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "affine": lambda x, w, b: x @ w + b,
    "softmax": softmax,
}


def computed(text: str, functions: dict[str, Any], values: dict[str, Any]) -> Any:
    """The value of an expression where its functions and names mean these."""
    return eval(text, {**functions, **values})
