"""Vanishing gradients: the norm of dL/dW in every layer, by activation and initialisation."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np

import fastbp as bp
from fastbp.activations import ACTIVATIONS
from fastbp.charts import bar, draw_norms
from fastbp.explain.page import Page, Table, number

DEPTH, WIDTH, SAMPLES = 10, 64, 128
DEPTHS = (2, 5, 10, 20)  # hidden layers of the table by depth
SMALL, LARGE, XAVIER, HE = bp.Normal(0.05), bp.Normal(0.5), bp.Xavier(), bp.He()
FITTING: dict[str, tuple[str, bp.Initializer]] = {
    "sigmoid, Xavier": ("sigmoid", XAVIER),
    "tanh, Xavier": ("tanh", XAVIER),
    "ReLU, He": ("relu", HE),
}
OTHERS: dict[str, tuple[str, bp.Initializer]] = {
    "tanh, N(0, 0.05²)": ("tanh", SMALL),
    "ReLU, N(0, 0.05²)": ("relu", SMALL),
    "ReLU, N(0, 0.5²)": ("relu", LARGE),
}
FLOOR, BAR = -10, 12  # a bar is as long as the norm's logarithm above 1e-10


def gradient_norms(activation: str, weight: bp.Initializer, depth: int) -> list[float]:
    """The norm of dL/dW in every hidden layer of a network at its start, from the input on."""
    layers: list[bp.Layer] = []
    for _ in range(depth):
        layers += [bp.Dense(WIDTH, WIDTH, weight=weight), ACTIVATIONS[activation]()]
    net = bp.Network([*layers, bp.Dense(WIDTH, 1, weight=weight)], dtype="float64", seed=0)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((SAMPLES, WIDTH)), rng.standard_normal(SAMPLES)
    return list(net.gradient_norms(x, y).weight[:-1])


def compute() -> Page:
    """Norms by layer with bars where activation and initialisation fit; without; and by depth."""
    norms = {name: gradient_norms(*how, DEPTH) for name, how in (FITTING | OTHERS).items()}
    fitting, others = ([norms[name] for name in names] for names in (FITTING, OTHERS))
    with_bars = [
        [str(layer), *(cell for norm in row for cell in (f"{norm:.1e}", _bar(norm)))]
        for layer, row in enumerate(zip(*fitting, strict=True), 1)
    ]
    plain = [
        [str(layer), *(f"{norm:.1e}" for norm in row)]
        for layer, row in enumerate(zip(*others, strict=True), 1)
    ]
    by_depth = []
    for depth in DEPTHS:
        firsts = [gradient_norms(*how, depth)[0] for how in FITTING.values()]
        by_depth.append([str(depth), *(f"{norm:.1e}" for norm in firsts)])
    slopes = [bp.Sigmoid(), bp.Tanh(), bp.ReLU()]
    places = np.array([[0.5, 2.0, 5.0]])
    for layer in slopes:
        layer.forward(places)
    values = {
        "depth": DEPTH,
        "width": WIDTH,
        "slopes": Table([tuple(map(number, layer.backward(np.ones_like(places))[0])) for layer in slopes]),
        "fitting": Table(with_bars),
        "others": Table(plain),
        "by_depth": Table(by_depth),
        "sigmoid_fall": norms["sigmoid, Xavier"][-1] / norms["sigmoid, Xavier"][0],
    }
    return Page(values, {"vanishing.svg": partial(_draw, norms)})


def _bar(norm: float) -> str:
    return bar(1 - math.log10(norm) / FLOOR, BAR)


def _draw(norms: dict[str, list[float]], path: Path) -> None:
    names = [str(layer) for layer in range(1, DEPTH + 1)]
    draw_norms(names, norms, path, title="Norm of the gradient, layer by layer", y_label="norm of dL/dW")
