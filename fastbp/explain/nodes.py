"""The nodes: what each operation computes forward, and what it passes back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

import fastbp as bp
from fastbp import graph
from fastbp.explain.page import Page, Table, derivative, number
from fastbp.graph import Variable

ARRIVING = 10.0

# What it is, the operation, where, and the rule for what is passed to x and to y when g arrives.
NODES: tuple[tuple[str, Callable[..., Variable], tuple[float, ...], str], ...] = (
    ("x + y", lambda x, y: x + y, (3, 4), "g; g"),
    ("x * y", lambda x, y: x * y, (3, 4), "g y; g x"),
    ("x * x", lambda x: x * x, (3,), "g x + g x"),
    ("1 / x", lambda x: 1 / x, (4,), "-g z²"),
    ("exp(x)", graph.exp, (1,), "g z"),
    ("log(x)", graph.log, (4,), "g / x"),
    ("max(x, y)", graph.maximum, (3, 4), "0; g"),
    ("max(x, y)", graph.maximum, (4, 4), "g; 0"),
    ("x ** 3", lambda x: x**3, (2,), "3 g x²"),
    ("sigmoid(x)", graph.sigmoid, (0,), "g z (1 - z)"),
    ("relu(x)", graph.relu, (2,), "g"),
    ("relu(x)", graph.relu, (-2,), "0"),
    ("step(x)", graph.step, (2,), "0"),
)


def compute() -> Page:
    """Every operation at one point, its derivatives beside the numerical ones."""
    rows = []
    for name, operation, at, rule in NODES:
        inputs = [Variable(number_) for number_ in at]
        node = operation(*inputs)
        node.backward(ARRIVING)

        def arrives(point: NDArray[np.float64], operation: Callable[..., Variable] = operation) -> float:
            return ARRIVING * float(operation(*map(Variable, point)))

        numerical = bp.numerical_gradient(arrives, at)
        rows.append(
            (
                name,
                ", ".join(map(number, at)),
                number(node.value),
                rule,
                "; ".join(number(derivative(entry)) for entry in inputs),
                "; ".join(map(number, numerical)),
            )
        )
    return Page({"g": ARRIVING, "nodes": Table(rows)})
