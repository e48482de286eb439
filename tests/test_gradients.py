"""Numerical differentiation, and back propagation checked against it for every activation and loss."""

from __future__ import annotations

import math
import sys
import types

import numpy as np
import pytest
import tolerances
from axes import same_bits
from cases import ACTIVATIONS, CASES, Case

import fastbp as bp
from fastbp import gradients

# Every activation inside, under every last activation that a loss may have.
ENDS = [(loss, name) for loss in ("mse", "mae") for name in ACTIVATIONS]
ENDS += [("bce", "sigmoid"), ("cross_entropy", "softmax")]
NETWORKS = {
    f"{inner}-{last}-{loss}-{reduction}": Case(((5, 7), inner, (7, 4), inner, (4, 3), last), loss, reduction)
    for inner in ACTIVATIONS
    for loss, last in ENDS
    for reduction in ("mean", "sum")
}


def prepared(case, dtype="float64", rows=6):
    rng = np.random.default_rng(3)
    net = case.network(dtype)
    net.parameters[:] = case.parameters(rng)
    return net, *case.data(rng, rows)


@pytest.mark.parametrize("case", NETWORKS.values(), ids=NETWORKS)
def test_every_derivative_of_every_activation_and_loss_is_the_numerical_one(case):
    net, x, y = prepared(case)
    loss, gradient = net.loss_and_gradient(x, y)

    def loss_at(parameters):
        net.parameters[:] = parameters
        return net.loss_and_gradient(x, y)[0]

    numerical = bp.numerical_gradient(loss_at, net.parameters.copy())
    assert np.abs(numerical).max() > 100 * tolerances.CENTRAL_DIFFERENCE  # there is something to compare
    assert np.abs(gradient - numerical).max() <= tolerances.CENTRAL_DIFFERENCE * max(1.0, loss)


# numerical_gradient


def kinked(v):
    return np.float64(math.inf if v[0] > 1.0 else -math.inf)


def test_a_function_that_is_infinite_has_an_infinite_slope_without_a_warning():
    assert bp.numerical_gradient(kinked, [1.0]).tolist() == [math.inf]
    assert np.isnan(bp.numerical_gradient(lambda v: np.float64(math.inf), [1.0])).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: bp.numerical_gradient(lambda v: v[0], [1.0, math.nan]), ValueError, r"^x\[1\] is nan"),
        (lambda: bp.numerical_gradient(lambda v: v[0], ["a"]), ValueError, "^x has dtype"),
        (
            lambda: bp.numerical_gradient(lambda v: v, [1.0, 2.0]),
            TypeError,
            "^f gave a ndarray, expected a number",
        ),
        (lambda: bp.numerical_gradient(lambda v: None, [1.0]), TypeError, "^f gave a NoneType"),
        (lambda: bp.numerical_gradient(lambda v: v[0], [1.0], step=0.0), ValueError, "^step is 0"),
        (
            lambda: bp.numerical_gradient(lambda v: v[0], [1.0], step=1e-30),
            ValueError,
            "^step is 1e-30, too small",
        ),
        (
            lambda: bp.check_gradients(None, [[1.0]], [1.0]),
            TypeError,
            "^checked is a NoneType, expected a Network, a Layer or a loss",
        ),
        (lambda: check(np.full((3, 3), math.nan)), ValueError, r"^x\[0, 0\] is nan"),
        (lambda: check(np.ones((3, 3)), subset=0), ValueError, "^subset is 0"),
        (lambda: check(np.ones((3, 3)), seed=-1, subset=2), ValueError, "^seed is -1"),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()


def check(x, **options):
    return bp.check_gradients(CASES["linear"].network(), x, np.zeros((3, 2)), **options)


def test_derivatives_of_the_text_book_come_out():
    square_of_sum = bp.numerical_gradient(lambda v: float((v[0] + v[1]) ** 2), [3.0, 4.0])
    assert np.abs(square_of_sum - 14.0).max() <= tolerances.CENTRAL_DIFFERENCE * 49.0


def test_the_gradient_has_the_shape_of_the_point_and_the_point_is_untouched():
    point = np.random.default_rng(0).normal(size=(2, 3, 4))
    kept = point.copy()
    gradient = bp.numerical_gradient(lambda v: float((v**2).sum()), point)
    assert gradient.shape == point.shape
    assert gradient.dtype == np.float64
    assert same_bits(point, kept)
    assert np.abs(gradient - 2 * point).max() <= tolerances.CENTRAL_DIFFERENCE * float((point**2).sum())


def test_a_given_step_is_the_distance_to_both_sides():
    asked = []
    bp.numerical_gradient(lambda v: asked.append(float(v[0])) or 0.0, [2.0], step=0.25)
    assert asked == [2.25, 1.75]


@pytest.mark.parametrize("step", [0.0, -1.0, np.nan])
def test_a_step_that_is_no_distance_is_refused(step):
    with pytest.raises(ValueError, match="step is"):
        bp.numerical_gradient(lambda v: 0.0, [1.0], step=step)


# check_gradients


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_check_gradients_passes_a_correct_network(case, dtype):
    net, x, y = prepared(case, dtype)
    result = bp.check_gradients(net, x, y, subset=60)
    assert result.passed, str(result)
    assert result.checked == min(60, net.parameters.size)
    assert result.parameters == net.parameters.size
    assert result.backpropagation_seconds > 0
    assert result.numerical_seconds > 0
    assert result.ratio > 0


def test_check_gradients_finds_a_wrong_derivative_and_names_it(monkeypatch):
    net, x, y = prepared(CASES["binary"])
    true = bp.Network.loss_and_gradient
    wrong = 5 * 9 + 9 + 4  # layers[2].weight[4, 0]

    def slightly_wrong(self, *arguments, **options):
        loss, gradient = true(self, *arguments, **options)
        gradient[wrong] *= 1.01
        return loss, gradient

    monkeypatch.setattr(bp.Network, "loss_and_gradient", slightly_wrong)
    result = bp.check_gradients(net, x, y)
    assert not result.passed
    assert result.worst == (2, "weight", (4, 0))
    assert "layers[2].weight[4, 0]" in str(result)


# Planted mistakes in layers and losses of a user's own


class Affine(bp.Layer):
    """y = x W + b with a backward that a test spoils."""

    in_features, out_features = 4, 3

    def __init__(self, mistake="none"):
        self.mistake = mistake

    def initial_parameters(self, rng):
        return {"weight": rng.normal(size=(4, 3)), "bias": rng.normal(size=3)}

    def forward(self, x):
        self.x = x
        return x @ self.parameters["weight"] + self.parameters["bias"]

    def backward(self, dy):
        weight = self.parameters["weight"]
        self.gradients["weight"][:] = self.x.T @ dy * (0.5 if self.mistake == "factor" else 1.0)
        self.gradients["bias"][:] = dy[0] if self.mistake == "column sum" else dy.sum(axis=0)
        if self.mistake == "transposed":
            return dy @ weight.reshape(3, 4)
        if self.mistake == "forgotten":
            self.gradients["weight"][1, 2] = 0.0
        return -dy @ weight.T if self.mistake == "sign" else dy @ weight.T


MISTAKES = {
    "factor": "weight", "column sum": "bias", "forgotten": "weight", "transposed": "x", "sign": "x",
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("mistake", "name"), MISTAKES.items())
def test_a_planted_mistake_in_a_layer_is_found_alone_and_in_a_network(mistake, name, dtype):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 4)).astype(dtype), rng.normal(size=(6, 2))
    assert bp.check_gradients(Affine(), x).passed
    alone = bp.check_gradients(Affine(mistake), x)
    assert not alone.passed
    assert alone.worst[:2] == (None, name)
    if mistake == "forgotten":
        assert alone.worst[2] == (1, 2)
        assert "at weight[1, 2]" in str(alone)
    layers = [bp.Dense(4, 4), bp.Tanh(), Affine(mistake), bp.Dense(3, 2)]
    within = bp.check_gradients(bp.Network(layers, dtype=dtype), x, y)
    assert not within.passed
    if name != "x":  # of a wrong dx the layers below suffer
        assert within.worst[:2] == (2, name)
    layers[2].mistake = "none"
    assert bp.check_gradients(bp.Network([layer._blank() for layer in layers], dtype=dtype), x, y).passed


class WrongSlope(bp.MeanSquaredError):
    def _slopes(self, p, t, tiny):
        return p - t


def test_a_planted_mistake_in_a_loss_is_found():
    output, target = np.random.default_rng(0).normal(size=(2, 6, 2))
    for loss in ("mse", "mae", bp.MeanSquaredError("sum"), lambda o, t: ((o - t) ** 4).mean()):
        result = bp.check_gradients(loss, output, target)
        assert result.passed, str(result)
        assert result.parameters == output.size
        assert result.worst[:2] == (None, "output")
    wrong = bp.check_gradients(WrongSlope(), output, target)
    assert not wrong.passed
    assert abs(wrong.max_relative_error - 0.5) <= 1e3 * tolerances.CENTRAL_DIFFERENCE


@pytest.mark.parametrize("layer", [*(kind() for kind in ACTIVATIONS.values()), bp.Dense(4, 3)], ids=repr)
def test_every_built_in_layer_passes_alone_in_both_precisions(layer):
    x = np.random.default_rng(0).normal(size=(6, 4))
    for dtype in ("float32", "float64"):
        result = bp.check_gradients(layer, x.astype(dtype))
        assert result.passed, str(result)
        assert (result.float32_error is None) == (dtype == "float64" and not layer.parameters)
        assert result.parameters == x.size + sum(array.size for array in layer.parameters.values())


def test_a_layer_that_is_wrong_in_float32_alone_is_found():
    class Coarse(bp.Identity):
        def backward(self, dy, threads=None):
            return dy.astype(np.float16).astype(dy.dtype) * 1.01 if dy.dtype == np.float32 else dy

    x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    result = bp.check_gradients(Coarse(), x)
    assert not result.passed
    assert result.max_relative_error <= tolerances.CENTRAL_DIFFERENCE
    assert "float32 9.6e-03 from float64" in str(result)


def test_a_kink_nearer_than_the_first_step_is_no_mistake():
    """The wider steps cross it, and are not believed because the finest two agree."""
    x = np.array([[3e-6, -4e-7, 1.0, -1.0]])
    assert bp.check_gradients(bp.ReLU(), x).passed


XOR = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1, 0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(5))
def test_a_network_at_a_kink_is_compared_beside_it(seed, dtype):
    """New biases are 0, and so is Z of a row of zeros: there ReLU has no derivative."""
    net = bp.Network(bp.mlp([2, 4, 3, 1], output="sigmoid"), loss="bce", dtype=dtype, seed=seed)
    before = net.parameters.copy()
    check = bp.check_gradients(net, *XOR)
    assert check.passed
    assert check.at_kink
    assert f"{net.parameters.size} derivatives compared, beside a kink at the point given, largest" in repr(
        check
    )
    assert same_bits(net.parameters, before)
    net.parameters[net.parameters == 0.0] = 0.01
    check = bp.check_gradients(net, *XOR)
    assert check.passed
    assert not check.at_kink
    assert "kink" not in repr(check)


def test_a_loss_and_a_layer_at_a_kink_are_compared_beside_it():
    assert bp.check_gradients(bp.ReLU(), np.zeros((2, 3))).at_kink
    assert bp.check_gradients(bp.ReLU(), np.zeros((2, 3))).passed

    def above_half(output, target):
        return bp.graph.relu(output - 0.5).mean() + (0.0 * target).mean()

    check = bp.check_gradients(above_half, [[0.5, 0.7], [0.3, 0.5]], np.zeros((2, 2)))
    assert check.at_kink
    assert check.passed


def test_a_mistake_at_a_kink_is_found_beside_it():
    class Steep(bp.ReLU):
        def forward(self, x):
            self.x = x
            return np.maximum(x, 0.0)

        def backward(self, dy):
            return 1.01 * dy * (self.x > 0.0)

    check = bp.check_gradients(Steep(), np.zeros((2, 3)))
    assert check.at_kink
    assert not check.passed
    check = bp.check_gradients(Steep(), np.ones((2, 3)))
    assert not check.at_kink
    assert not check.passed


class Squares(bp.Loss):
    """A user's class, which takes its arrays as they come."""

    def value(self, output, target):
        return float(((output - target) ** 2).mean())

    def gradient(self, output, target):
        return 2 * (output - target) / output.size


def test_the_target_of_an_own_loss_is_looked_at_as_in_a_network():
    output = np.random.default_rng(0).normal(size=(5, 1))
    assert bp.check_gradients(Squares(), output, [1, 2, 3, 4, 5]).passed
    with pytest.raises(ValueError, match=r"^target has 3 rows, but output has 5"):
        bp.check_gradients(Squares(), output, np.ones(3))
    with pytest.raises(ValueError, match=r"^target\[0, 0\] is nan"):
        bp.check_gradients(Squares(), output, np.full((5, 1), math.nan))


def test_small_derivatives_of_a_large_loss_are_found_by_the_fourth_order():
    """A loss of 1e7 is rounded to 2e-9, 2e-4 of a slope over a step of 6e-6, and 2e-6 of one over 7e-4."""

    def shifted(output, target):
        return (0.3 * (output - target) ** 3).sum() + 1e7

    output, target = np.random.default_rng(0).normal(size=(2, 6, 2))
    second = bp.numerical_gradient(lambda o: float(bp.losses.CustomLoss(shifted).value(o, target)), output)
    exact = 0.9 * (output - target) ** 2
    assert np.abs(second - exact).max() > gradients.TOLERANCE * exact.max()
    assert bp.check_gradients(shifted, output, target).passed


def test_the_fourth_order_is_as_exact_as_it_says():
    point = np.random.default_rng(0).normal(size=5)
    errors = {
        order: np.abs(
            bp.numerical_gradient(lambda v: float(np.exp(v).sum()), point, 0.1, order) - np.exp(point)
        )
        for order in (2, 4)
    }
    assert np.allclose(errors[2] / np.exp(point), 0.1**2 / 6, rtol=0.01)
    assert np.allclose(errors[4] / np.exp(point), 4 * 0.1**4 / 120, rtol=0.01)


def test_a_large_network_is_compared_in_part_with_progress(monkeypatch):
    shown = []

    class Bar:
        def __init__(self, total, unit):
            shown.append((total, unit))

        def update(self):
            shown.append("update")

        def close(self):
            shown.append("close")

    monkeypatch.setitem(sys.modules, "tqdm", types.SimpleNamespace(tqdm=Bar))
    monkeypatch.setattr(gradients, "MOST", 20)
    net, x, y = prepared(CASES["digits"])
    result = bp.check_gradients(net, x, y, verbose=True)
    assert (result.checked, result.parameters) == (20, net.parameters.size)
    assert shown == [(20, "derivative"), *["update"] * 20, "close"]


def test_check_gradients_leaves_a_layer_as_it_was():
    layer, x = Affine(), np.ones((2, 4))
    layer.forward(x)
    kept = {name: array.copy() for name, array in layer.parameters.items()}
    bp.check_gradients(layer, np.zeros((3, 4)))
    assert all(same_bits(layer.parameters[name], array) for name, array in kept.items())
    assert layer.x is x
    assert not layer.gradients["bias"].any()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: bp.check_gradients(bp.ReLU(), [[1.0]], [[1.0]]), TypeError, "^y is given, but a layer"),
        (lambda: bp.check_gradients("mse", [[1.0]]), TypeError, "^y is missing"),
        (lambda: bp.check_gradients("mze", [[1.0]], [1.0]), ValueError, "^loss is 'mze'"),
        (lambda: bp.check_gradients(bp.Dense(3, 1), [[1.0]]), ValueError, "^x has 1 column, but the"),
        (lambda: bp.check_gradients(bp.ReLU(), [[math.nan]]), ValueError, r"^x\[0, 0\] is nan"),
        (lambda: bp.check_gradients(bp.ReLU(), [[1.0]], verbose=3), TypeError, "^verbose is 3"),
        (lambda: bp.numerical_gradient(lambda v: v[0], [1.0], order=3), ValueError, "^order is 3"),
    ],
)  # fmt: skip
def test_what_cannot_be_checked_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_check_gradients_leaves_the_network_as_it_was():
    net, x, y = prepared(CASES["relu"])
    net.fit(x, y)
    twin = net.copy()
    bp.check_gradients(net, x, y, subset=20)
    assert same_bits(net.parameters, twin.parameters)
    assert net.fit(x, y).loss == twin.fit(x, y).loss
    assert same_bits(net.parameters, twin.parameters)


def test_a_subset_is_drawn_by_its_seed():
    net, x, y = prepared(CASES["digits"])
    first, again = (bp.check_gradients(net, x, y, subset=15, seed=7) for _ in range(2))
    assert first.worst == again.worst
    assert first.max_relative_error == again.max_relative_error
