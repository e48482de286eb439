"""A network that learns: XOR to a tolerance, and handwritten digits."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import numpy as np

import fastbp as bp
from fastbp.explain.page import Code, Page, Table, number

XOR = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), np.array([0.0, 1.0, 1.0, 0.0])
TOLERANCE, MOST_UPDATES = 0.01, 10_000
SHOWN = (1, 10, 100, 500, 1_000, 2_000, 5_000)
LEARNING, EPOCHS = 1_500, 20


def learn_xor() -> tuple[bp.Network, list[float]]:
    layers = bp.mlp([2, 4, 1], activation="tanh", output="sigmoid")
    net = bp.Network(layers, loss="bce", optimizer=bp.SGD(lr=0.5), dtype="float64", seed=0)
    losses: list[float] = []
    while len(losses) < MOST_UPDATES and (not losses or losses[-1] > TOLERANCE):
        losses.append(net.partial_fit(*XOR))  # forward, backward, and one step of all weights
    return net, losses


def learn_digits() -> tuple[bp.Network, bp.History]:
    x, y = bp.datasets.load_digits()
    layers = bp.mlp([64, 128, 10], activation="relu", output="softmax")
    net = bp.Network(layers, loss="cross_entropy", optimizer=bp.Adam(lr=1e-3), seed=0)
    seen, unseen = (x[:LEARNING], y[:LEARNING]), (x[LEARNING:], y[LEARNING:])
    history = net.fit(*seen, EPOCHS, validation_data=unseen, verbose=False)
    return net, history


def compute() -> Page:
    """Both trainings, with what they reach."""
    net, losses = learn_xor()
    shown = [at for at in SHOWN if at < len(losses)] + [len(losses)]
    answers = net.predict(XOR[0])[:, 0]
    start = time.perf_counter()
    digits, history = learn_digits()
    seconds = time.perf_counter() - start
    x, y = bp.datasets.load_digits()
    epochs = [at for at in (1, 2, 5, 10, EPOCHS) if at <= EPOCHS]
    values = {
        "xor_code": Code(learn_xor),
        "tolerance": TOLERANCE,
        "updates": len(losses),
        "losses": Table([(f"{at:,}", number(losses[at - 1])) for at in shown]),
        "answers": Table(
            [
                (f"{a:g}, {b:g}", f"{aim:g}", f"{got:.3f}")
                for (a, b), aim, got in zip(*XOR, answers, strict=True)
            ]
        ),
        "digits_code": Code(learn_digits),
        "parameters": digits.parameters.size,
        "images": LEARNING,
        "unseen": len(x) - LEARNING,
        "milliseconds": 1e3 * seconds,
        "history": Table(
            [(str(at), number(history.loss[at - 1], 3), number(history.val_loss[at - 1], 3)) for at in epochs]
        ),
        "accuracy": 100 * digits.evaluate(x[LEARNING:], y[LEARNING:])["accuracy"],
        "guessing": 100 / len(np.unique(y)),
    }
    series = {"seen": history.loss, "not seen": history.val_loss}
    return Page(
        values,
        {
            "xor.svg": partial(_draw, {"loss": losses}, "XOR", "update"),
            "digits.svg": partial(_draw, series, "Handwritten digits", "epoch"),
        },
    )


def _draw(series: dict[str, list[float]], title: str, x_label: str, path: Path) -> None:
    from fastbp.charts import draw_curves

    draw_curves(series, path, title=title, x_label=x_label, y_label="cross entropy", log_y=True)
