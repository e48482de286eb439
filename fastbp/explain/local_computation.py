"""Local computation: a node needs what arrives and its own derivative, nothing else."""

from __future__ import annotations

import math

from fastbp import graph
from fastbp.explain.page import Code, Graph, Page, Table, derivative, number
from fastbp.graph import Variable

SEEDS = 1.0, 10.0, -2.0


def bill(apples: Variable, other: Variable) -> Variable:
    goods = apples + other
    total = goods * 1.1
    goods.name, total.name = "goods", "total"
    return total


def compute() -> Page:
    """One sum with its second number made in three ways, and a square to which several derivatives arrive."""
    ways = (
        Variable(4_000, "other goods"),
        Variable(40) * Variable(100),
        graph.exp(Variable(math.log(4_000))),
    )
    rows = []
    for other in ways:
        apples = Variable(200, "apples")
        total = bill(apples, other)
        total.backward()
        goods, _ = total.inputs
        rows.append([number(node.value) for node in (goods, total)] + [number(derivative(apples))])
    first_apples = Variable(200, "apples")
    first = bill(first_apples, ways[0])
    first.backward()

    x = Variable(3, "x")
    square = x**2
    arriving = []
    for seed in SEEDS:
        square.backward(seed)
        arriving.append([number(seed), number(square.local_derivatives[0]), number(derivative(x))])
    values = {
        "code": Code(bill),
        "graph": Graph(first, (first_apples, ways[0], first.inputs[0], first)),
        "ways": Table(rows),
        "x": x.value,
        "square": square.value,
        "arriving": Table(arriving),
    }
    return Page(values, {"local-computation.svg": first.draw})
