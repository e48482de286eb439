"""Sigmoid, node by node."""

from __future__ import annotations

from fastbp import graph
from fastbp.explain.page import Code, Graph, Page, Table, derivative, number
from fastbp.graph import Variable

PLACES = -5.0, -1.0, 0.0, 1.0, 5.0


def four_nodes(x: Variable) -> Variable:
    return 1 / (graph.exp(x * -1) + 1)


def compute() -> Page:
    """The four nodes at x = 0 with all that flows through them, then beside the single node elsewhere."""
    x = Variable(0, "x")
    y = four_nodes(x)
    y.backward()
    a = y.inputs[1]
    e = a.inputs[0]
    m = e.inputs[0]
    y.name, a.name, e.name, m.name = "y", "a", "e", "m"
    rows = []
    for node, index, name in (  # from the output to the input; the index says which input leads to x
        (y, 1, "y = 1 / a"),
        (a, 0, "a = e + 1"),
        (e, 0, "e = exp(m)"),
        (m, 0, "m = x * (-1)"),
    ):
        passed_on = derivative(node.inputs[index])
        numbers = node.value, derivative(node), node.local_derivatives[index], passed_on
        rows.append((name, *map(number, numbers)))

    beside = []
    for place in PLACES:
        by_four, by_one = Variable(place), Variable(place)
        four, one = four_nodes(by_four), graph.sigmoid(by_one)
        four.backward()
        one.backward()
        formula = one.value * (1 - one.value)
        row = place, one.value, derivative(by_four), derivative(by_one), formula
        beside.append([number(entry, 5) for entry in row])
    values = {
        "code": Code(four_nodes),
        "graph": Graph(y),
        "y": y.value,
        "dy_dx": derivative(x),
        "way": Table(rows),
        "beside": Table(beside),
    }
    return Page(values, {"sigmoid.svg": y.draw})
