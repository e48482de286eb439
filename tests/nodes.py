"""Graphs for the tests of pictures, of plain objects that have what is asked of a node and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(eq=False)
class Node:
    value: np.ndarray
    grad: np.ndarray | None = None
    name: str | None = None
    operation: str = ""
    inputs: tuple[Node, ...] = ()


def leaf(value, grad=None, name=None):
    return made("", value, grad, (), name)


def made(operation, value, grad, inputs, name=None):
    grad = None if grad is None else np.asarray(grad, np.float64)
    return Node(np.asarray(value, np.float64), grad, name, operation, tuple(inputs))


def shop():
    """Two apples at 100, three mandarins at 150, a tax of 10 per cent."""
    apples = made("*", 200, 1.1, [leaf(2, 110, "number of apples"), leaf(100, 2.2, "price of an apple")])
    numbers = leaf(3, 165, "number of mandarins"), leaf(150, 3.3, "price of a mandarin")
    goods = made("+", 650, 1.1, [apples, made("*", 450, 1.1, numbers)])
    return made("*", 715, 1, [goods, leaf(1.1, 650, "tax")], "total")


def sigmoid():
    """1 / (1 + exp(x * -1)) at x = 0, node by node."""
    product = made("*", 0.0, -0.25, [leaf(0, 0.25, "x"), leaf(-1, 0)])
    denominator = made("+", 2, -0.25, [leaf(1, -0.25), made("exp", 1, -0.25, [product])])
    return made("/", 0.5, 1, [leaf(1, 0.5), denominator], "y")


def square():
    """x * x at 3: a node used twice."""
    x = leaf(3, 6, "x")
    return made("*", 9, 1, [x, x])


def layer():
    """The mean of X W + b, with arrays small and large, and X used twice."""
    x = leaf([[1, 2], [3, 4]], [[0.5, 0], [0.25, -0.125]], "X")
    weight = leaf(np.ones((2, 50)), np.zeros((2, 50)), "W")
    z = made("affine", np.ones((2, 50)), np.full((2, 50), 0.01), [x, weight, leaf(np.zeros(50))], "Z")
    penalty = made("sum", 10, 0.75, [x])
    return made("+", 11, 1, [made("mean", 1, 1, [z]), penalty], "L")


def chain(length):
    node = leaf(1, 1, "x")
    for _ in range(length):
        node = made("tanh", 1, 1, [node])
    return node


GRAPHS = {"shop": shop, "sigmoid": sigmoid, "square": square, "layer": layer}


def nodes_of(result):
    """Every node once."""
    found = {id(result): result}
    waiting = [result]
    while waiting:
        for before in waiting.pop().inputs:
            if id(before) not in found:
                found[id(before)] = before
                waiting.append(before)
    return list(found.values())
