"""Mean absolute and mean squared error, and an outlier."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

import fastbp as bp
from fastbp.explain.page import Code, Page, Table, number

TARGETS = (1.0, 2.0, 3.0, 100.0)
UPDATES = 100
SHOWN = (0, 1, 2, 3, 5, 10, 20, 100)
LEARNING_RATE = 0.3
PLACE = 10.0  # a prediction whose errors are compared


def fit_constant(loss: str, targets: tuple[float, ...]) -> list[float]:
    optimizer = bp.SGD(lr=LEARNING_RATE)
    net = bp.Network([bp.Dense(1, 1)], loss=loss, optimizer=optimizer, dtype="float64")
    x = np.zeros((len(targets), 1))
    way = []
    for _ in range(UPDATES + 1):
        way.append(float(net.predict(x)[0, 0]))
        net.partial_fit(x, targets)
    return way


def compute() -> Page:
    """The way of the prediction under both losses, with the outlier and without; what each error weighs."""
    ways = {loss: fit_constant(loss, TARGETS) for loss in ("mse", "mae")}
    without = {loss: fit_constant(loss, TARGETS[:-1])[-1] for loss in ways}
    target = np.array(TARGETS)[:, None]
    output = np.full_like(target, PLACE)
    squared, absolute = bp.MeanSquaredError(), bp.MeanAbsoluteError()
    slopes = [loss.gradient(output, target)[:, 0] for loss in (squared, absolute)]
    weights = [
        (
            number(aim),
            number(PLACE - aim),
            number((PLACE - aim) ** 2),
            number(abs(PLACE - aim)),
            *map(number, pair),
        )
        for aim, *pair in zip(TARGETS, *slopes, strict=True)
    ]
    values = {
        "code": Code(fit_constant),
        "place": PLACE,
        "weights": Table(weights),
        "lr": LEARNING_RATE,
        "way": Table([[f"{at:,}", number(ways["mse"][at]), number(ways["mae"][at])] for at in SHOWN]),
        "mse": ways["mse"][-1],
        "mae": ways["mae"][-1],
        "median": np.median(TARGETS),
        "mse_without": without["mse"],
        "mae_without": without["mae"],
    }
    return Page(values, {"outlier.svg": partial(_draw, ways["mse"][-1], ways["mae"][-1])})


def _draw(mse: float, mae: float, path: Path) -> None:
    from fastbp.charts import draw_points

    at = np.arange(1, len(TARGETS) + 1)
    lines = {f"MSE: {mse:.4g}": np.full(len(at), mse), f"MAE: {mae:.3g}": np.full(len(at), mae)}
    draw_points(
        at,
        TARGETS,
        path,
        lines=lines,
        title="A constant fitted to 1, 2, 3, 100",
        x_label="sample",
        y_label="target",
    )
