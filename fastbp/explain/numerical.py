"""Numerical differentiation and back propagation: the same derivatives, and how long each takes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

import fastbp as bp
from fastbp.explain.page import Page, Table
from fastbp.gradients import GradientCheck

FEATURES, CLASSES, SAMPLES = 16, 4, 16
WIDTHS = (4, 48, 480, 4_800)  # of the hidden layer: about 10^2 to 10^5 parameters
SUBSET = 100  # derivatives computed numerically, whose time is multiplied up for all
REPEATS = 3  # of which the one is shown that was least disturbed


def check(width: int) -> GradientCheck:
    layers = bp.mlp([FEATURES, width, CLASSES], activation="tanh", output="softmax")
    net = bp.Network(layers, loss="cross_entropy", seed=0)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((SAMPLES, FEATURES)), rng.integers(CLASSES, size=SAMPLES)
    return bp.check_gradients(net, x, y, subset=SUBSET)


def compute() -> Page:
    """A check of the gradients for each width."""
    checks = [
        min((check(width) for _ in range(REPEATS)), key=lambda found: found.backpropagation_seconds)
        for width in WIDTHS
    ]
    sizes = [found.parameters for found in checks]
    back = [1e3 * found.backpropagation_seconds for found in checks]
    forth = [time * found.ratio for time, found in zip(back, checks, strict=True)]
    rows = [
        (
            f"{FEATURES}-{width}-{CLASSES}",
            f"{found.parameters:,}",
            f"{found.max_relative_error:.0e}",
            f"{one:.3f}",
            f"{other:,.1f}",
            f"{found.ratio:,.0f}",
        )
        for width, found, one, other in zip(WIDTHS, checks, back, forth, strict=True)
    ]
    values = {
        "rows": Table(rows),
        "subset": SUBSET,
        "worst": max(found.max_relative_error for found in checks),
        "smallest_ratio": checks[0].ratio,
        "largest_ratio": checks[-1].ratio,
    }
    return Page(values, {"numerical.svg": partial(_draw, sizes, back, forth)})


def _draw(sizes: list[int], back: list[float], forth: list[float], path: Path) -> None:
    from fastbp.charts import draw_curves

    series = {
        "back propagation": np.array([sizes, back]),
        "numerical differentiation": np.array([sizes, forth]),
    }
    title, x_label, y_label = "All derivatives of a network", "parameters", "milliseconds"
    draw_curves(series, path, title=title, x_label=x_label, y_label=y_label, log_x=True, log_y=True)
