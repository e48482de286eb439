"""The losses on their own: values from a table that a pencil checks, and value and gradient as a pair."""

from __future__ import annotations

import math

import numpy as np
import pytest
import reference
import tolerances
from cases import LOSSES

import fastbp as bp
from fastbp import losses
from fastbp.architectures import refuse_bad_pair

BY_HAND = [
    # loss, output, target, sum over the batch, the mean's divisor
    ("mse", [[1.0, 2.0], [3.0, 5.0]], [[0.0, 2.0], [1.0, 1.0]], 1.0 + 0.0 + 4.0 + 16.0, 4),
    ("mse", [[2.0], [4.0]], [1.0, 1.0], 1.0 + 9.0, 2),
    ("mae", [[1.0, 2.0], [3.0, 5.0]], [[0.0, 2.0], [4.0, 1.0]], 1.0 + 0.0 + 1.0 + 4.0, 4),
    ("mae", [[2.0], [-4.0]], [1.0, 1.0], 1.0 + 5.0, 2),
    ("bce", [[0.5], [0.25]], [1, 0], math.log(2.0) + math.log(4.0 / 3.0), 2),
    ("bce", [[0.5, 0.75]], [[0.5, 1.0]], math.log(2.0) + math.log(4.0 / 3.0), 2),
    ("cross_entropy", [[0.25, 0.75], [0.5, 0.5]], [1, 0], math.log(4.0 / 3.0) + math.log(2.0), 2),
    ("cross_entropy", [[0.25, 0.75]], [[0.5, 0.5]], 0.5 * math.log(4.0) + 0.5 * math.log(4.0 / 3.0), 1),
]
every_loss = pytest.mark.parametrize("name", LOSSES)


def close(got, wanted):
    return abs(got - wanted) <= 4 * np.spacing(wanted)


@pytest.mark.parametrize(("name", "output", "target", "total", "divisor"), BY_HAND)
def test_value_is_what_a_pencil_gives(name, output, target, total, divisor):
    assert close(LOSSES[name]().value(output, target), total / divisor)
    assert close(LOSSES[name]("sum").value(output, target), total)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_probabilities_that_sum_to_1_but_for_their_rounding_have_a_value_and_its_gradient(reduction):
    rng = np.random.default_rng(7)
    loss, x = bp.CrossEntropy(reduction), rng.normal(size=(6, 3))
    for target in (np.full((6, 10), 0.1, np.float16), rng.dirichlet(np.ones(10), 6).astype(np.float16)):
        assert (target.sum(axis=1, dtype=np.float64) != 1.0).any()
        net = bp.Network([bp.Dense(3, 10), bp.Softmax()], loss, dtype="float64")
        value, gradient = net.loss_and_gradient(x, target)
        assert np.isclose(value, loss.value(net.predict(x), target), rtol=1e-14)
        assert np.isclose(value, net.evaluate(x, target)["loss"], rtol=1e-14)
        net.forward(x)
        net.backward(loss.gradient(net.predict(x), target))
        assert np.allclose(net.gradients, gradient, rtol=0, atol=1e-14 * np.abs(gradient).max())
        assert bp.check_gradients(net, x, target).passed


def pair(name, rng, rows=7, outputs=4):
    output = rng.uniform(0.1, 0.9, (rows, outputs))
    if name == "cross_entropy":
        return output / output.sum(axis=1, keepdims=True), rng.dirichlet(np.ones(outputs), rows)
    return output, rng.uniform(0.0, 1.0, (rows, outputs))


@every_loss
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_value_and_gradient_equal_the_reference(name, reduction):
    output, target = pair(name, np.random.default_rng(0))
    loss = LOSSES[name](reduction=reduction)
    value = reference.loss_value(name, output, target, reduction)
    gradient = reference.loss_gradient(name, output, target, reduction)
    assert abs(loss.value(output, target) - value) <= tolerances.chain([output.size], 1, value, np.float64)
    bound = tolerances.chain([1], 1, np.abs(gradient).max(), np.float64)
    assert np.abs(loss.gradient(output, target) - gradient).max() <= bound


@every_loss
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_gradient_is_the_value_differentiated_numerically(name, reduction):
    """Outputs move freely here, also away from rows that sum to 1: the value is a function of every entry."""
    output, target = pair(name, np.random.default_rng(1))
    loss = LOSSES[name](reduction=reduction)
    numerical = bp.numerical_gradient(lambda moved: loss.value(moved, target), output)
    scale = max(1.0, abs(loss.value(output, target)))
    assert np.abs(loss.gradient(output, target) - numerical).max() <= tolerances.CENTRAL_DIFFERENCE * scale


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@every_loss
def test_the_gradient_has_the_shape_and_dtype_of_the_output(name, dtype):
    output, target = pair(name, np.random.default_rng(2))
    gradient = LOSSES[name]().gradient(output.astype(dtype), target)
    assert gradient.shape == output.shape
    assert gradient.dtype == dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["bce", "cross_entropy"])
def test_probabilities_of_exactly_zero_and_one_give_finite_numbers(name, dtype):
    output, target = np.array([[0.0, 1.0], [1.0, 0.0]], dtype), np.array([[1.0, 0.0], [1.0, 0.0]])
    loss = LOSSES[name]()
    right, wrong = loss.value(output[1:], target[1:]), loss.value(output[:1], target[:1])
    assert right == 0.0
    assert math.isfinite(wrong)
    assert wrong > -math.log(np.finfo(dtype).eps)
    assert np.isfinite(loss.gradient(output, target)).all()


def test_a_square_beyond_float64_is_infinite_without_a_warning():
    assert bp.MeanSquaredError().value([[1e200]], [[-1e200]]) == math.inf
    assert np.isfinite(bp.MeanSquaredError().gradient([[1e200]], [[-1e200]])).all()
    assert bp.MeanSquaredError("sum").gradient(np.array([[6e4]], np.float16), [[-6e4]])[0, 0] == math.inf


def test_the_gradient_for_bytes_in_the_other_order_comes_in_the_machines():
    output, target = pair("mse", np.random.default_rng(2))
    swapped = output.astype(output.dtype.newbyteorder("S"))
    gradient = bp.MeanSquaredError().gradient(swapped, target)
    assert gradient.dtype.isnative
    assert np.array_equal(gradient, bp.MeanSquaredError().gradient(output, target))


def test_labels_are_one_hot_rows_in_short():
    output, labels = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]), np.array([2, 0])
    loss, rows = bp.CrossEntropy(), reference.one_hot(labels, 3)
    assert loss.value(output, labels) == loss.value(output, rows)
    assert np.array_equal(loss.gradient(output, labels), loss.gradient(output, rows))


def test_the_value_is_summed_in_float64():
    """In float32 a sum of 2^24 + 1 ones stays at 2^24; here one large term hides a thousand small ones."""
    output = np.full((1001, 1), 1.0, np.float32)
    output[0] = 2.0**13  # squared: 2^26, whose float32 neighbours are 8 apart
    assert bp.MeanSquaredError("sum").value(output, np.zeros(1001)) == 2.0**26 + 1000.0


@pytest.mark.parametrize(("name", "kind"), LOSSES.items())
def test_a_string_names_a_loss(name, kind):
    assert type(losses.get(name)) is kind
    assert losses.get(name).reduction == "mean"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: losses.get("mze"), ValueError, "loss.*'mze'.*'mse'.*'bce'.*'cross_entropy'"),
        (lambda: losses.get(bp.MeanSquaredError), TypeError, r"loss.*MeanSquaredError\(\.\.\.\)"),
        (lambda: losses.get(3), TypeError, "loss is 3"),
        (lambda: bp.MeanSquaredError("middle"), ValueError, "reduction.*'middle'.*'mean'.*'sum'"),
        (lambda: bp.MeanSquaredError().value([[1.0]], [1.0, 2.0]), ValueError, "target.*2.*output.*1"),
        (lambda: bp.MeanSquaredError().value([[1.0, 2.0]], [[1.0]]), ValueError, "target"),
        (lambda: bp.MeanSquaredError().value([[math.nan]], [1.0]), ValueError, r"^output\[0, 0\] is nan"),
        (lambda: bp.MeanSquaredError().gradient([[1.0]], [math.inf]), ValueError, r"^target\[0\] is inf"),
        (lambda: bp.BinaryCrossEntropy().gradient([[math.nan]], [1]), ValueError, r"^output\[0, 0\] is nan"),
        (lambda: bp.CrossEntropy().value([[0.5, 0.5]], [math.nan]), ValueError, r"^target\[0\] is nan"),
        (lambda: bp.CrossEntropy().value(np.zeros((0, 2)), []), ValueError, "^output has no rows"),
        (lambda: bp.BinaryCrossEntropy().value([[1.5]], [1.0]), ValueError, r"output\[0, 0\] is 1.5"),
        (lambda: bp.BinaryCrossEntropy().value([[0.5]], [2.0]), ValueError, r"target\[0\] is 2"),
        (lambda: bp.CrossEntropy().value([[0.5, 0.5]], [2]), ValueError, r"target\[0\] is 2.*0 to 1"),
        (lambda: bp.CrossEntropy().value([[0.5, 0.5]], [0.5]), ValueError, r"target\[0\] is 0.5"),
        (lambda: bp.CrossEntropy().value([[0.5, 0.5]], [[0.5, 0.6]]), ValueError, "target sums to 1.1"),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_more_labels_than_the_precision_tells_apart_are_refused():
    layers, loss = [bp.Dense(1, 2**24 + 1), bp.Softmax()], bp.CrossEntropy()
    with pytest.raises(ValueError, match=r"^the last layer has 16,777,217 outputs, more labels than float32"):
        bp.Network(layers, loss)
    refuse_bad_pair(layers, loss, np.dtype(np.float64))
    refuse_bad_pair([bp.Dense(1, 2**24), bp.Softmax()], loss, np.dtype(np.float32))
