"""Calls that must be refused: what each argument cannot be, and the word that the refusal must hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from arbitrary import Array, Rng, arrange, chance, pick
from cases import LOSSES, Case

import fastbp as bp

Mistake = tuple[str, Callable[[], Any]]  # a pattern that the message must hold, and the call

BATCH_SIZES = (1, 7, 32)  # a bad row may come after many updates
NOT_WHOLE = (1.5, "3", True, [1], 1j, math.nan, np.float64(3.0), object())
NEGATIVE = (*NOT_WHOLE, -1, -(2**70), np.int8(-5))
NOT_POSITIVE = (*NEGATIVE, 0)
NOT_A_RATE = (math.nan, math.inf, -math.inf, -1e-9, "0.1", True, 1j, [0.1], object())
NOT_A_DECAY = (*NOT_A_RATE, 1.0, 1 + 1e-9)
NOT_A_NAME = ("", "mze", 3, object(), b"mse", ["mse"])
NOT_A_PRECISION = ("float16", "int32", "real", 3, object(), np.longdouble, "f4,f4")
NOT_LAYERS = (None, [], 3, bp.ReLU(), [bp.ReLU()], [bp.Dense], ["relu"], [bp.Dense(2, 3), bp.Dense(2, 3)])
NOT_SIZES = ([], [3], [3, 0], [3, None], "ab", None, 7, [2.5, 1])
NOT_BOUNDS = ((1.0, 0.0), (0.0, math.nan), (-math.inf, 0.0), ("a", 1.0), (0.0, math.inf))
NOT_IN_MEMORY = ((2**20, 2**20), (2**40, 2**40), (2**31, 2**31), (1, 2**62), (2**80, 1))


def not_numbers(rng: Rng) -> Any:
    """An object that is no array of real numbers in one or two dimensions."""
    if chance(rng, 0.5):
        kinds = "complex64", object, np.longdouble, "M8[s]", "m8[s]", "f4,i4", "V8", "U3", "S3"
        return np.zeros((2, 2), pick(rng, kinds))
    return pick(
        rng,
        (
            None, "text", b"bytes", {}, {1.0}, object(), 1j, 1.0, [], [1j], ["a", "b"], [[1.0], [1.0, 2.0]],
            [None], [2**70], (value for value in (1.0, 2.0)), np.zeros((2, 2, 2)), np.float64,
            np.ma.masked_array(np.zeros((2, 2)), True),
        ),
    )  # fmt: skip


def spoil(rng: Rng, plain: Array, dtype: np.dtype[Any]) -> Any:
    """One entry that is not a finite number of the network's dtype, in a random layout."""
    bad = np.array(plain, np.float64)
    values = (math.nan, math.inf, -math.inf) + ((1e39, -1e300) if dtype == np.float32 else ())
    bad[tuple(int(rng.integers(count)) for count in bad.shape)] = pick(rng, values)
    return arrange(rng, bad, fixed=True).given


def bad_features(rng: Rng, plain: Array, dtype: np.dtype[Any]) -> Any:
    rows, columns = plain.shape
    if chance(rng, 0.4):
        return spoil(rng, plain, dtype)
    if chance(rng, 0.5):
        return not_numbers(rng)
    shapes = (
        (rows, columns + 1),
        (rows, columns - 1),
        (0, columns),
        (rows, 0),
        (rows,),
        (1, rows, columns),
        (),
    )
    return np.zeros(pick(rng, shapes))


def bad_targets(rng: Rng, plain: Array, case: Case, dtype: np.dtype[Any]) -> Any:
    rows, outputs = len(plain), case.widths[-1]
    if chance(rng, 0.3):
        return np.zeros(pick(rng, ((rows + 1, outputs), (rows, outputs + 1), (0,), (rows, 1, 1), ())))
    if chance(rng, 0.3):
        return not_numbers(rng)
    if case.loss in ("mse", "mae") or chance(rng, 0.5):
        return spoil(rng, plain, dtype)
    bad = np.array(plain, np.float64)
    wrong = {"bce": (-1e-3, 1.001, 2.0), "cross_entropy": (-1.0, outputs, 1e9, 0.5)}[case.loss]
    bad[tuple(int(rng.integers(count)) for count in bad.shape)] = pick(rng, wrong)
    if bad.ndim == 2 and case.loss == "cross_entropy":
        bad[int(rng.integers(rows))] = 0.7  # two outputs and more: the row sums to at least 1.4
    return bad


def backward(net: bp.Network, x: Array, dy: Any) -> None:
    net.forward(x)
    net.backward(dy)


def about_data(rng: Rng, case: Case, net: bp.Network, x: Array, y: Array) -> list[Mistake]:
    """Data, derivatives and options that do not fit a network, in every call that takes them."""
    bad_x, bad_y = bad_features(rng, x, net.dtype), bad_targets(rng, y, case, net.dtype)
    call = pick(rng, ("fit", "partial_fit", "evaluate", "loss_and_gradient"))
    either = getattr(net, pick(rng, (call, "predict", "forward")))
    more = () if either.__name__ in ("predict", "forward") else (y,)
    pair = pick(rng, ((bad_x, y), (x, bad_y), x, (x,), (x, y, y), 3, "xy", {"x": x, "y": y}))
    exact = net.copy("float64")
    wide_x, wide_y = bad_features(rng, x, exact.dtype), bad_targets(rng, y, case, exact.dtype)
    overflowing = np.full((len(x), case.widths[-1]), 1e39 if net.dtype == np.float32 else 1j)
    one_nan = spoil(rng, np.ones((len(x), case.widths[-1])), exact.dtype)
    return [
        (r"\bx\b", lambda: either(bad_x, *more)),
        (r"\by\b", lambda: getattr(net, call)(x, bad_y)),
        (r"\bx\b", lambda: net.fit(spoil(rng, x, net.dtype), y, batch_size=pick(rng, BATCH_SIZES))),
        ("threads", lambda: either(x, *more, threads=pick(rng, NOT_POSITIVE))),
        ("surprise", lambda: either(x, *more, surprise=1)),
        ("epochs", lambda: net.fit(x, y, epochs=pick(rng, (None, *NEGATIVE)))),
        ("batch_size", lambda: net.fit(x, y, batch_size=pick(rng, (None, *NOT_POSITIVE)))),
        ("shuffle", lambda: net.fit(x, y, shuffle=pick(rng, (None, 1, "no", [])))),
        ("verbose", lambda: net.fit(x, y, verbose=pick(rng, (0, 1, "no", [])))),
        ("validation_data", lambda: net.fit(x, y, validation_data=pair)),
        ("seed", lambda: net.reset(pick(rng, (*NEGATIVE, 2**63)))),
        ("dtype", lambda: net.copy(pick(rng, NOT_A_PRECISION))),
        ("forward", lambda: net.copy().backward(y)),
        ("dy", lambda: backward(net.copy(), x, pick(rng, (overflowing, one_nan, np.ones((len(x) + 1, 1)))))),
        ("lr", lambda: case.network(net.dtype, bp.SGD(lambda epoch: pick(rng, NOT_A_RATE))).fit(x, y)),
        (r"\b[xy]\b", lambda: bp.check_gradients(exact, *pick(rng, ((wide_x, y), (x, wide_y))))),
        ("subset", lambda: bp.check_gradients(net, x, y, subset=pick(rng, NOT_POSITIVE))),
        (r"\bx\b", lambda: bp.Dense(x.shape[1], 2).forward(pick(rng, (not_numbers(rng), np.ones((2, 999)))))),
        (r"\bx\b", lambda: bp.Tanh().forward(pick(rng, (not_numbers(rng), one_nan)))),
        ("output", lambda: LOSSES[case.loss]().value(not_numbers(rng), y)),
        ("target", lambda: bp.MeanSquaredError().value(np.ones((len(x), case.widths[-1])), one_nan)),
        ("target", lambda: LOSSES[case.loss]().gradient(np.full((len(x), 2), 0.5), not_numbers(rng))),
        ("step", lambda: bp.numerical_gradient(np.sum, [1.0], pick(rng, (*NOT_A_RATE, 0.0)))),
        ("x", lambda: bp.numerical_gradient(np.sum, pick(rng, ("text", [1j], [None], [[1.0], [1.0, 2.0]])))),
        ("threads", lambda: bp.set_num_threads(pick(rng, NOT_POSITIVE))),
        ("surprise", lambda: bp.datasets.load_digits(surprise=1)),
    ]


def about_descriptions(rng: Rng, net: bp.Network) -> list[Mistake]:
    """Layers, losses, optimisers and initializers that cannot be."""
    layer, name = bp.Dense(2, 3), pick(rng, (None, *NOT_A_NAME))
    rate, size = pick(rng, (None, *NOT_A_RATE)), pick(rng, (None, *NOT_POSITIVE))
    return [
        ("lr", lambda: pick(rng, (bp.SGD, bp.Adam))(rate)),
        ("momentum", lambda: bp.SGD(momentum=pick(rng, NOT_A_DECAY))),
        ("nesterov", lambda: bp.SGD(nesterov=True)),
        ("beta1", lambda: bp.Adam(beta1=pick(rng, NOT_A_DECAY))),
        ("beta2", lambda: bp.Adam(beta2=pick(rng, NOT_A_DECAY))),
        ("epsilon", lambda: bp.Adam(epsilon=pick(rng, (*NOT_A_RATE, 0.0, 1e-300)))),
        ("in_features", lambda: bp.Dense(size, 2)),
        ("out_features", lambda: bp.Dense(2, size)),
        ("weight", lambda: bp.Dense(2, 2, weight=pick(rng, NOT_A_NAME))),
        ("bias", lambda: bp.Dense(2, 2, bias=name)),
        ("dtype", lambda: bp.Network([layer], dtype=pick(rng, (None, *NOT_A_PRECISION)))),
        ("seed", lambda: bp.Network([layer], seed=pick(rng, (None, *NEGATIVE, 2**63)))),
        ("loss", lambda: bp.Network([layer], name)),
        ("optimizer", lambda: bp.Network([layer], "mse", name)),
        ("layers", lambda: bp.Network(pick(rng, (*NOT_LAYERS, layer, [layer, layer], net.layers)))),
        ("parameters", lambda: bp.Network([bp.Dense(*pick(rng, NOT_IN_MEMORY))])),
        ("Softmax|Sigmoid", lambda: bp.Network([layer, bp.Tanh()], pick(rng, ("bce", "cross_entropy")))),
        ("sizes|features", lambda: bp.mlp(pick(rng, NOT_SIZES))),
        ("activation", lambda: bp.mlp([2, 2], activation=name)),
        ("output", lambda: bp.mlp([2, 2], output=name)),
        ("reduction", lambda: pick(rng, LOSSES.values())(name)),
        ("low|high", lambda: bp.Uniform(*pick(rng, NOT_BOUNDS))),
        ("std", lambda: bp.Normal(rate)),
        ("distribution", lambda: pick(rng, (bp.Glorot, bp.He, bp.LeCun))(name)),
    ]
