"""Losses of a user's own: functions of two nodes, and classes, wherever a loss is taken."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import own
import pytest
import reference
import tolerances
from axes import every_dtype, same_bits
from cases import CASES, Case

import fastbp as bp
from fastbp import graph, losses

AGAIN = {  # a built-in loss, and the same as a function
    "linear": own.mean_square,
    "linear_sum": bp.losses.CustomLoss(own.sum_of_squares, reduction="sum"),
    "tanh": bp.losses.CustomLoss(own.sum_of_squares, reduction="sum"),
    "absolute": own.mean_absolute,
    "binary": own.binary_cross_entropy,
    "digits": own.cross_entropy,
}
every_pair = pytest.mark.parametrize(("name", "loss"), AGAIN.items(), ids=AGAIN)
OTHERS = {
    "pinball": own.pinball, "focal": own.focal, "asymmetric": own.asymmetric, "cosine": own.Cosine(),
    "half": own.HalfSquare(),
}  # fmt: skip
every_other = pytest.mark.parametrize("loss", OTHERS.values(), ids=OTHERS)


def twins(name, loss, dtype, optimizer="adam", rows=37):
    case: Case = CASES[name]
    built_in = case.network(dtype, optimizer)
    other = bp.Network(case.layers(), loss, optimizer, dtype=dtype)
    rng = np.random.default_rng(3)
    built_in.parameters[:] = other.parameters[:] = case.parameters(rng)
    return built_in, other, *case.data(rng, rows)


@every_dtype
@every_pair
def test_a_built_in_loss_written_as_a_function_has_its_value_and_its_gradient(name, loss, dtype):
    built_in, other, x, y = twins(name, loss, dtype)
    widths = CASES[name].widths
    value, gradient = built_in.loss_and_gradient(x, y)
    again, slopes = other.loss_and_gradient(x, y)
    assert abs(again - value) <= tolerances.chain(widths, len(x), value, dtype)
    assert np.abs(slopes - gradient).max() <= tolerances.chain(widths, len(x), np.abs(gradient).max(), dtype)
    assert same_bits(slopes, other.gradients)
    got = other.evaluate(x, y)
    assert set(got) == {"loss"}
    assert abs(got["loss"] - value) <= tolerances.chain(widths, len(x), value, dtype)
    output = built_in.predict(x)
    assert same_bits(other.predict(x), output)
    assert abs(other.loss.value(output, y) - value) <= tolerances.chain(widths, len(x), value, dtype)
    wanted = built_in.loss.gradient(output, y)
    assert other.loss.gradient(output, y).dtype == output.dtype
    bound = tolerances.chain([1], 1, np.abs(wanted).max(), dtype)
    assert np.abs(other.loss.gradient(output, y) - wanted).max() <= bound


@pytest.mark.parametrize("optimizer", [bp.SGD(0.01), bp.SGD(0.01, 0.9, True), bp.Adam(0.005)], ids=str)
@every_pair
def test_it_trains_to_the_numbers_of_the_built_in_one(name, loss, optimizer):
    """In float64: where a loss has kinks or an optimiser divides, rounding grows with the steps."""
    built_in, other, x, y = twins(name, loss, np.float64, optimizer)
    wanted, got = (net.fit(x, y, epochs=3, batch_size=8) for net in (built_in, other))
    widths, steps = CASES[name].widths, 3 * 5
    bound = tolerances.training(widths, 8, steps, np.abs(built_in.parameters).max(), np.float64)
    assert np.abs(other.parameters - built_in.parameters).max() <= bound
    bound = tolerances.training(widths, 8, steps, max(wanted.loss), np.float64)
    assert np.abs(np.subtract(got.loss, wanted.loss)).max() <= bound
    assert other.steps == built_in.steps == steps
    assert abs(other.partial_fit(x, y) - built_in.partial_fit(x, y)) <= bound


def network(loss, dtype="float64", seed=3):
    layers = bp.mlp([3, 7, 2], "tanh", "sigmoid")
    return bp.Network(layers, loss, bp.Adam(lr=0.01), dtype=dtype, seed=seed)


def data(rows=37):
    rng = np.random.default_rng(1)
    return rng.normal(size=(rows, 3)), rng.integers(0, 2, (rows, 2)).astype(np.float64)


@every_other
def test_the_gradient_is_the_numerical_one_and_training_lowers_the_loss(loss):
    net, (x, y) = network(loss), data()
    result = bp.check_gradients(net, x, y)
    assert result.passed, str(result)
    history = net.fit(x, y, epochs=40, batch_size=8, validation_data=(x, y))
    assert history.loss[-1] < history.loss[0]
    assert history.val_loss[-1] < history.val_loss[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_other
def test_fit_keeps_its_promises(monkeypatch, loss, dtype):
    """Bits: any number of threads, two fits as one, copies, pickles and deep copies as the network itself."""
    monkeypatch.setattr("fastbp._native.FLOPS_PER_THREAD", 8)  # else it would run on one
    x, y = data()
    whole = network(loss, dtype)
    wanted = whole.fit(x, y, epochs=4, batch_size=8, threads=1).loss
    for make in (bp.Network.copy, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))):
        parts = network(loss, dtype)
        first = parts.fit(x, y, epochs=1, batch_size=8, threads=3).loss
        other = make(parts)
        assert first + other.fit(x, y, epochs=3, batch_size=8, threads=2).loss == wanted
        assert same_bits(other.parameters, whole.parameters)
        assert (other.steps, other.epochs) == (whole.steps, whole.epochs) == (20, 4)


def test_the_rows_are_taken_in_the_order_of_a_built_in_loss():
    x = np.arange(20.0)[:, None]
    seen = []

    def watching(output, target):
        seen.append(target.value[:, 0].tolist())
        return own.mean_square(output, target)

    net = bp.Network([bp.Dense(1, 1)], watching, bp.SGD(0.0), seed=5)
    net.fit(x, x, epochs=1, batch_size=8)
    order = np.arange(20)
    bp._native.shuffle(order, 5, 0)
    assert seen == [order[:8].tolist(), order[8:16].tolist(), order[16:].tolist()]
    net.fit(x, x, batch_size=20, shuffle=False)
    assert seen[-1] == x[:, 0].tolist()


def test_the_function_sees_nodes_of_the_outputs_shape_in_float64():
    def looking(output, target):
        assert output.value.shape == target.value.shape == (5, 1)  # of a target of shape (5,)
        assert output.value.dtype == target.value.dtype == np.float64
        assert (output.name, target.name) == ("output", "target")
        return own.mean_square(output, target)

    net = bp.Network([bp.Dense(2, 1)], looking)
    net.loss_and_gradient(np.ones((5, 2)), np.ones(5, np.int8))
    assert net.loss.function is looking
    assert repr(net.loss) == "CustomLoss(looking)"


def test_evaluate_asks_for_the_loss_of_all_outputs_at_once(monkeypatch):
    """The largest error: no weighing of parts could give it."""
    monkeypatch.setattr("fastbp.evaluator.EVALUATED_ROWS", 8)

    def largest(output, target):
        return (graph.absolute(output - target) ** 60).sum() ** (1 / 60)

    net, x = bp.Network([bp.Dense(1, 1)], largest, dtype="float64"), np.linspace(0.0, 1.0, 50)[:, None]
    net.parameters[:] = [1.0, 0.0]
    target = x.copy()
    target[33] += 3.0
    assert abs(net.evaluate(x, target)["loss"] - 3.0) <= 10 * np.spacing(3.0)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_history_weighs_the_batches_by_the_reduction(reduction):
    function = own.mean_square if reduction == "mean" else own.sum_of_squares
    x, y = data(20)
    still = bp.Network(
        bp.mlp([3, 7, 2]), losses.CustomLoss(function, reduction=reduction), bp.SGD(0.0), dtype="float64"
    )
    loss = still.fit(x, y, batch_size=8).loss[0]
    assert abs(loss - still.evaluate(x, y)["loss"]) <= tolerances.chain([3, 7, 2], 20, loss, np.float64)


@every_other
def test_the_graph_of_the_network_holds_it_with_the_same_gradient(loss):
    net, (x, y) = network(loss), data()
    value, _ = net.loss_and_gradient(x, y)
    drawn = net.graph(x, y)
    bound = tolerances.chain([3, 7, 2], 37, value, np.float64)
    assert abs(float(drawn["L"].value) - value) <= bound
    slopes = net.layers[0].gradients["weight"]
    bound = tolerances.chain([3, 7, 2], 37, np.abs(slopes).max(), np.float64)
    assert np.abs(drawn["W1"].grad - slopes).max() <= bound


# When it goes wrong


def nan_after(batches):
    calls = []

    def loss(output, target):
        calls.append(1)
        mean = own.mean_square(output, target)
        return mean * math.nan if len(calls) > batches else mean

    return loss


def test_a_loss_that_is_not_finite_ends_fit_at_the_last_finite_state():
    x, y = data(64)
    net = network(nan_after(5))
    start = net.parameters.copy()
    with pytest.raises(FloatingPointError, match=r"batch 6 of 8 in epoch 0.*back at step 0.*graph\.clip"):
        net.fit(x, y, batch_size=8)
    assert same_bits(net.parameters, start)
    assert net.steps == 0


def test_a_loss_that_is_not_finite_leaves_out_the_update_and_the_gradient():
    x, y = data()
    net = network(nan_after(1))
    net.loss_and_gradient(x, y)
    parameters, gradients = net.parameters.copy(), net.gradients.copy()
    for call in (net.partial_fit, net.loss_and_gradient):
        with pytest.raises(FloatingPointError, match="the loss is nan"):
            call(x, y)
    assert same_bits(net.parameters, parameters)
    assert same_bits(net.gradients, gradients)
    assert net.steps == 0


@pytest.mark.parametrize("name", ["x", "y"])
@pytest.mark.parametrize("call", ["fit", "partial_fit", "loss_and_gradient", "evaluate"])
def test_data_that_are_not_finite_are_refused_by_name_and_change_nothing(name, call):
    given = dict(zip("xy", data(), strict=True))
    net = network(lambda output, target: (output * 0.0).sum())  # hides it
    start = net.parameters.copy()
    given[name][30, 1] = math.inf
    with pytest.raises(ValueError, match=rf"^{name}\[30, 1\] is inf"):
        getattr(net, call)(**given)
    assert same_bits(net.parameters, start)
    assert net.steps == 0


def test_ctrl_c_in_the_function_leaves_the_steps_before_it():
    calls = []

    def interrupting(output, target):
        calls.append(1)
        if len(calls) == 11:
            raise KeyboardInterrupt
        return own.mean_square(output, target)

    x, y = data(32)
    net, other = network(interrupting), network(own.mean_square)
    with pytest.raises(KeyboardInterrupt):
        net.fit(x, y, epochs=5, batch_size=8)
    assert (net.steps, net.epochs, len(net.history.loss)) == (10, 2, 2)
    other.fit(x, y, epochs=2, batch_size=8)
    assert net.history.loss == other.history.loss
    other.fit(x, y, epochs=1, batch_size=8)
    net.predict(x)
    net.fit(x, y, batch_size=8)
    assert net.steps == 14


def test_a_loss_that_trains_its_own_network_is_refused():
    x, y = data()
    net = network(lambda output, target: net.partial_fit(x, y))
    with pytest.raises(RuntimeError, match="in another call that changes it"):
        net.fit(x, y)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda o, t: (o - t) ** 2, ValueError, r"loss <lambda> gave shape \(37, 2\), expected one element"),
        (lambda o, t: (o - t).mean(axis=0), ValueError, r"gave shape \(2,\), expected one element"),
        (lambda o, t: 3.0, TypeError, "gave a float, expected a node"),
        (lambda o, t: np.mean(o.value - t.value), TypeError, "gave a float64, expected a node"),
        (lambda o, t: t.mean(), ValueError, "does not depend on its first argument, the output"),
    ],
)
def test_a_function_that_gives_no_loss_is_refused(function, error, message):
    x, y = data()
    with pytest.raises(error, match=message):
        network(function).fit(x, y, batch_size=37)


def test_a_gradient_of_another_shape_is_refused():
    class Flat(own.Cosine):
        def gradient(self, output, target):
            return super().gradient(output, target).ravel()

    x, y = data()
    with pytest.raises(ValueError, match=r"Flat.*gradient gave shape \(74,\), expected shape \(37, 2\)"):
        network(Flat()).loss_and_gradient(x, y)


@pytest.mark.parametrize("layer", [bp.Sigmoid, own.Sigmoid], ids=["built in", "own"])
@pytest.mark.parametrize("call", ["fit", "partial_fit", "loss_and_gradient"])
def test_a_gradient_that_is_forgotten_is_refused_and_nothing_counted(layer, call):
    class Forgetful(own.Cosine):
        def gradient(self, output, target):
            super().gradient(output, target)

    x, y = data()
    net = bp.Network([bp.Dense(x.shape[1], 2), layer()], loss=Forgetful())
    before = net.parameters.copy()
    with pytest.raises(ValueError, match=r"Forgetful.*gradient gave None, expected shape \(\d+, 2\)"):
        getattr(net, call)(x, y)
    assert np.array_equal(net.parameters, before)
    assert (net.steps, net.epochs) == (0, 0)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: losses.CustomLoss(3), TypeError, "^function is 3, expected a function"),
        (lambda: losses.CustomLoss(own.Cosine), TypeError, "^function is <class"),
        (lambda: losses.CustomLoss(lambda output: output), TypeError, "^function is .*two nodes.*too many"),
        (lambda: losses.CustomLoss(own.pinball, reduction="max"), ValueError, "^reduction is 'max'"),
        (lambda: losses.get(own.Cosine), TypeError, r"^loss is the class Cosine.*Cosine\(\.\.\.\)"),
        (lambda: losses.get(3), TypeError, "a function of two nodes, output and target"),
    ],
)
def test_what_cannot_be_a_loss_is_refused(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize("loss", [own.pinball, own.Cosine()], ids=["function", "class"])
def test_save_refuses_it_and_says_how_to_go_on(loss, tmp_path):
    with pytest.raises(TypeError, match=r"^loss is .*which a file cannot hold: save net.parameters"):
        network(loss).save(tmp_path / "net.npz")
    assert not list(tmp_path.iterdir())


def test_a_subclass_that_changes_a_built_in_loss_is_honoured_and_one_that_does_not_runs_in_the_core():
    class Named(bp.MeanSquaredError):
        def describe(self):
            return "mine"

    x, y = data()
    square, half, named = network("mse"), network(own.HalfSquare()), network(Named())
    assert same_bits(named.loss_and_gradient(x, y)[1], square.loss_and_gradient(x, y)[1])
    assert set(named.evaluate(x, y)) == set(half.evaluate(x, y)) == {"loss", "rmse"}
    value, gradient = half.loss_and_gradient(x, y)
    wanted, slopes = reference.loss_and_gradient(
        ((3, 7), "tanh", (7, 2), "sigmoid"), "mse", half.parameters, x, y
    )
    assert abs(value - wanted / 2) <= tolerances.chain([3, 7, 2], 37, wanted, np.float64)
    bound = tolerances.chain([3, 7, 2], 37, np.abs(slopes).max(), np.float64)
    assert np.abs(gradient - slopes / 2).max() <= bound


class SquaredError(bp.Loss):
    """What a beginner writes: NumPy on what comes in."""

    def value(self, output, target):
        return np.float32(np.mean((output - target) ** 2))

    def gradient(self, output, target):
        return 2.0 * (output - target) / output.size


class LabelledError(bp.Loss):
    """Cross entropy by labels."""

    target = "class"

    def value(self, output, target):
        return -np.mean(np.log(output[np.arange(len(target)), target]))

    def gradient(self, output, target):
        slope = np.zeros_like(output)
        slope[np.arange(len(target)), target] = -1.0 / (len(target) * output[np.arange(len(target)), target])
        return slope


def test_the_graph_gives_a_class_its_labels_too():
    rng = np.random.default_rng(0)
    net = bp.Network(bp.mlp([3, 4, 2], output="softmax"), loss=LabelledError(), dtype="float64")
    x, y = rng.normal(size=(6, 3)), np.arange(6) % 2
    value, _ = net.loss_and_gradient(x, y)
    drawn = net.graph(x, y)
    assert float(drawn.loss) == value
    assert drawn["Y"].value.tolist() == np.eye(2)[y].tolist()
    bound = tolerances.chain([3, 4, 2], 6, 1.0, np.float64)
    assert np.abs(drawn["W1"].grad - net.layers[0].gradients["weight"]).max() <= bound


def test_the_repr_of_a_function_says_that_it_is_a_sum():
    def total(output, target):
        return ((output - target) ** 2).sum()

    assert repr(bp.CustomLoss(total)) == "CustomLoss(total)"
    assert repr(bp.CustomLoss(total, reduction="sum")) == "CustomLoss(total, reduction='sum')"


def test_a_class_sees_targets_in_the_shape_of_the_output_and_gives_a_plain_number():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)), rng.normal(size=20)
    own, built_in = (
        bp.Network([bp.Dense(3, 1)], loss=loss, dtype="float64") for loss in (SquaredError(), "mse")
    )
    for target in (y, y[:, None]):
        loss = own.evaluate(x, target)["loss"]
        assert type(loss) is float
        assert abs(loss / built_in.evaluate(x, target)["loss"] - 1.0) <= tolerances.metric(np.float32)
    histories = [net.fit(x, y, epochs=3, validation_data=(x, y)) for net in (own, built_in)]
    assert type(histories[0].val_loss[-1]) is float
    bound = tolerances.training((3, 1), 20, own.steps, np.abs(own.parameters).max(), np.float64)
    assert np.abs(own.parameters - built_in.parameters).max() <= bound


def test_a_class_that_compares_labels_gets_whole_numbers():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)), rng.integers(0, 4, 20)
    layers = (bp.mlp([3, 4], output="softmax") for _ in range(2))
    own, built_in = (
        bp.Network(net, loss=loss, dtype="float64")
        for net, loss in zip(layers, (LabelledError(), "cross_entropy"), strict=True)
    )
    for net in (own, built_in):
        net.fit(x, y, epochs=3)
    bound = tolerances.training((3, 4), 20, own.steps, np.abs(own.parameters).max(), np.float64)
    assert np.abs(own.parameters - built_in.parameters).max() <= bound
    assert bp.check_gradients(own, x, y).passed


def test_a_class_that_lacks_a_pass_or_gives_no_number_is_refused_by_name():
    class Half(bp.Loss):
        def value(self, output, target):
            return (output - target) ** 2

    class Vague(Half):
        def gradient(self, output, target):
            return output

    with pytest.raises(TypeError, match=r"Half.*defines no gradient\(self, output, target\)"):
        bp.Network([bp.Dense(2, 1)], loss=Half())
    net = bp.Network([bp.Dense(2, 1)], loss=Vague())
    for call in (net.evaluate, net.fit):
        with pytest.raises(ValueError, match=r"value gave shape \(3, 1\), expected one number"):
            call(np.ones((3, 2)), np.ones(3))
