"""The chain rule: z = t^2 with t = x + y."""

from __future__ import annotations

import fastbp as bp
from fastbp.explain.page import Code, Graph, Page, derivative
from fastbp.graph import Variable

AT = 3.0, 4.0


def square_of_a_sum(x: Variable, y: Variable) -> Variable:
    t = x + y
    z = t**2
    t.name, z.name = "t", "z"
    return z


def compute() -> Page:
    """Both derivatives at one point, by the chain rule and numerically."""
    x, y = Variable(AT[0], "x"), Variable(AT[1], "y")
    z = square_of_a_sum(x, y)
    z.backward()
    (t,) = z.inputs
    numerical = bp.numerical_gradient(lambda at: float(square_of_a_sum(*map(Variable, at))), AT)
    values = {
        "code": Code(square_of_a_sum),
        "graph": Graph(z),
        "x": x.value,
        "y": y.value,
        "t": t.value,
        "z": z.value,
        "dz_dt": z.local_derivatives[0],
        "dt_dx": t.local_derivatives[0],
        "dt_dy": t.local_derivatives[1],
        "dz_dx": derivative(x),
        "dz_dy": derivative(y),
        "numerical_x": numerical[0],
        "numerical_y": numerical[1],
    }
    return Page(values, {"chain-rule.svg": z.draw})
