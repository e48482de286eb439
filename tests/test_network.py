"""The network: its flat vectors and views, its calls one by one, and what it refuses to be built of."""

from __future__ import annotations

import concurrent.futures
import contextlib
import copy
import gc
import pickle
import sys
import weakref

import numpy as np
import pytest
import reference
import tolerances
from axes import every_dtype, same_bits
from cases import CASES, every_case

import fastbp as bp


def dense_layers(net):
    return [layer for layer in net.layers if isinstance(layer, bp.Dense)]


def prepared(case, rows=20, dtype="float64", **options):
    rng = np.random.default_rng(0)
    net = case.network(dtype, **options)
    net.parameters[:] = case.parameters(rng)
    return net, *case.data(rng, rows)


# The flat vectors


@every_case
@every_dtype
def test_the_flat_vector_is_unpadded_layer_by_layer_weight_then_bias_in_c_order(case, dtype):
    net = case.network(dtype)
    assert net.parameters.shape == net.gradients.shape == (reference.parameter_count(case.description),)
    assert net.parameters.dtype == net.gradients.dtype == dtype
    for flat, name in ((net.parameters, "parameters"), (net.gradients, "gradients")):
        flat[:] = np.arange(flat.size)
        for layer, (weight, bias) in zip(
            dense_layers(net), reference.split(case.description, flat), strict=True
        ):
            assert list(getattr(layer, name)) == ["weight", "bias"]
            assert np.array_equal(getattr(layer, name)["weight"], weight)
            assert np.array_equal(getattr(layer, name)["bias"], bias)


def test_views_are_writable_and_true_both_ways():
    net, x, _ = prepared(CASES["linear"])
    net.layers[0].weight[...] = 0.0
    net.layers[0].bias[...] = [3.0, 4.0]
    assert net.parameters.tolist() == [0.0] * 6 + [3.0, 4.0]
    assert net.predict(x).tolist() == [[3.0, 4.0]] * len(x)
    net.parameters[-1] = 5.0
    assert net.layers[0].bias[1] == 5.0
    assert net.predict(x)[0, 1] == 5.0


def test_views_stay_true_after_training():
    net, x, y = prepared(CASES["relu"])
    weight = net.layers[0].weight
    before = weight.copy()
    net.fit(x, y, epochs=2)
    assert np.shares_memory(weight, net.parameters)
    assert not np.array_equal(weight, before)
    assert same_bits(weight, net.parameters[: weight.size].reshape(weight.shape))


def test_what_is_written_to_the_weights_between_two_calls_counts_at_once():
    """Derived copies, such as a transposed weight, must not outlive a call."""
    net, x, y = prepared(CASES["relu"])
    net.partial_fit(x, y)
    for layer in dense_layers(net):
        layer.weight[...] *= -0.5
    fresh = CASES["relu"].network()
    fresh.parameters[:] = net.parameters
    assert same_bits(net.loss_and_gradient(x, y)[1], fresh.loss_and_gradient(x, y)[1])
    assert same_bits(net.predict(x), fresh.predict(x))


def test_a_layer_bound_to_a_network_works_alone_on_the_networks_parameters():
    net, x, _ = prepared(CASES["linear"])
    assert same_bits(net.layers[0].forward(x), net.predict(x))
    net.layers[0].backward(np.ones((len(x), 2)))
    assert net.gradients[-2:].tolist() == [len(x)] * 2


# Forward, backward, loss


@every_case
@every_dtype
def test_forward_layer_by_layer_gives_what_predict_gives(case, dtype):
    net, x, _ = prepared(case, dtype=dtype)
    output = net.forward(x)
    largest = np.abs(output).max()
    assert output.dtype == net.predict(x).dtype == dtype
    assert np.abs(output - net.predict(x)).max() <= tolerances.chain(case.widths, 1, largest, dtype)
    truth = reference.forward(
        case.description, net.parameters.astype(np.float64), x.astype(dtype).astype(np.float64)
    )
    assert np.abs(output - truth[-1]).max() <= tolerances.chain(case.widths, 1, largest, dtype)


@every_case
@every_dtype
def test_backward_layer_by_layer_gives_the_gradient_of_the_step(case, dtype):
    net, x, y = prepared(case, dtype=dtype)
    loss, gradient = net.loss_and_gradient(x, y)
    gradient = gradient.copy()
    assert type(loss) is float
    assert same_bits(gradient, net.gradients)
    output = net.forward(x)
    net.gradients[:] = np.nan  # backward overwrites
    loss_object = type(net.loss)(reduction=case.reduction)
    dx = net.backward(loss_object.gradient(output, y))
    bound = tolerances.chain(case.widths, len(x), np.abs(gradient).max(), dtype)
    assert np.abs(net.gradients - gradient).max() <= bound
    assert dx.shape == x.shape
    assert dx.dtype == dtype
    assert abs(loss_object.value(output, y) - loss) <= tolerances.chain(case.widths, len(x), loss, dtype)


@every_case
def test_loss_and_dx_are_a_pair(case):
    net, x, y = prepared(case, rows=4)
    loss = type(net.loss)(reduction=case.reduction)
    dx = net.backward(loss.gradient(net.forward(x), y))
    numerical = bp.numerical_gradient(lambda moved: net.loss_and_gradient(moved, y)[0], x)
    scale = max(1.0, abs(loss.value(net.predict(x), y)))
    assert np.abs(dx - numerical).max() <= tolerances.CENTRAL_DIFFERENCE * scale


def test_loss_and_gradient_change_no_parameter_and_fill_every_view():
    net, x, y = prepared(CASES["digits"])
    before = net.parameters.copy()
    _, gradient = net.loss_and_gradient(x, y)
    assert same_bits(net.parameters, before)
    for layer, (weight, bias) in zip(
        dense_layers(net), reference.split(CASES["digits"].description, gradient), strict=True
    ):
        assert np.array_equal(layer.gradients["weight"], weight)
        assert np.array_equal(layer.gradients["bias"], bias)


def test_backward_is_not_disturbed_by_a_prediction_in_between():
    net, x, _ = prepared(CASES["relu"])
    net.forward(x)
    undisturbed, gradients = net.backward(np.ones((len(x), 1))), net.gradients.copy()
    net.forward(x)
    net.predict(np.ones((3, 10)))
    net.evaluate(np.ones((3, 10)), np.ones(3))
    assert same_bits(net.backward(np.ones((len(x), 1))), undisturbed)
    assert same_bits(net.gradients, gradients)


def test_backward_before_forward_is_refused():
    with pytest.raises(ValueError, match="forward"):
        CASES["relu"].network().backward(np.ones((3, 1)))


@every_case
def test_a_prediction_does_not_depend_on_the_rows_around_it_or_their_number(case):
    net, x, _ = prepared(case, rows=300, dtype="float32")
    together = net.predict(x)
    for rows in (slice(0, 1), slice(7, 24), slice(299, 300)):
        assert same_bits(net.predict(x[rows]), together[rows])
    assert all(same_bits(net.predict(x, threads=threads), together) for threads in (1, 2, 3))


def test_a_prediction_is_a_new_array_each_time():
    net, x, _ = prepared(CASES["relu"])
    first = net.predict(x)
    kept = first.copy()
    net.predict(-x)
    assert same_bits(first, kept)
    assert not np.shares_memory(first, net.predict(x))


def test_several_python_threads_may_predict_with_one_network_at_once():
    net, x, _ = prepared(CASES["digits"], rows=400, dtype="float32")
    alone = net.predict(x)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda _: net.predict(x, threads=2), range(40)))
    assert all(same_bits(prediction, alone) for prediction in together)


@every_case
def test_evaluate_gives_the_loss_of_the_reference_and_the_metric(case):
    net, x, y = prepared(case, rows=1000)
    got = net.evaluate(x, y)
    output = reference.forward(case.description, net.parameters, x)[-1]
    loss = reference.loss_value(case.loss, output, y, case.reduction)
    assert abs(got["loss"] - loss) <= tolerances.chain(case.widths, len(x), loss, np.float64)
    if case.loss in ("mse", "mae"):
        wanted = {"rmse": np.sqrt(np.mean((output - y) ** 2))}
    elif case.loss == "bce":
        wanted = {"accuracy": np.mean((output >= 0.5) == (y >= 0.5))}
    else:
        wanted = {"accuracy": np.mean(output.argmax(axis=1) == y.argmax(axis=1))}
    assert set(got) == {"loss", *wanted}
    assert all(type(value) is float for value in got.values())
    for name, value in wanted.items():
        assert abs(got[name] - value) <= tolerances.chain(case.widths, len(x), value, np.float64)


def test_an_evaluation_of_many_rows_is_the_sum_of_its_parts():
    """70,000 rows: more than are evaluated at a time."""
    net, x, y = prepared(CASES["linear"], rows=70_000, dtype="float32")
    got, output = net.evaluate(x, y), net.predict(x)
    assert same_bits(output[69_000:], net.predict(x[69_000:]))
    mean = np.mean((output.astype(np.float64) - y) ** 2)
    assert abs(got["loss"] - mean) <= tolerances.chain([1], 1, mean, np.float32)
    assert abs(got["rmse"] - np.sqrt(mean)) <= tolerances.chain([1], 1, np.sqrt(mean), np.float32)


def test_the_loss_is_accumulated_in_float64():
    """One term of 2^26, whose float32 neighbours are 8 apart, hides 1000 terms of 1 from a float32 sum."""
    net = bp.Network([bp.Dense(1, 1)], loss=bp.MeanSquaredError("sum"))
    net.parameters[:] = [1.0, 0.0]
    x = np.full((1001, 1), 1.0)
    x[0] = 2.0**13
    assert net.evaluate(x, np.zeros(1001))["loss"] == 2.0**26 + 1000.0
    assert net.loss_and_gradient(x, np.zeros(1001))[0] == 2.0**26 + 1000.0


@pytest.mark.parametrize("optimizer", ["adam", "sgd", bp.SGD(0.1, 0.9, nesterov=True)], ids=str)
def test_partial_fit_is_one_step_of_fit_on_all_rows(optimizer):
    net, x, y = prepared(CASES["tanh"], optimizer=optimizer)
    twin, *_ = prepared(CASES["tanh"], optimizer=optimizer)
    for _ in range(3):
        loss = net.partial_fit(x, y)
        history = twin.fit(x, y, epochs=1, batch_size=len(x), shuffle=False)
        assert loss == history.loss[0]
        assert same_bits(net.parameters, twin.parameters)


def test_partial_fit_skips_an_update_whose_loss_is_not_finite():
    net, x, y = prepared(CASES["linear"], dtype="float32")
    net.parameters[:] = np.finfo(np.float32).max
    with pytest.raises(FloatingPointError):
        net.partial_fit(x, y)
    assert (net.parameters == np.finfo(np.float32).max).all()
    net.parameters[:] = 0.0
    assert np.isfinite(net.partial_fit(x, y))


def test_the_history_of_the_last_fit_is_kept():
    net, x, y = prepared(CASES["relu"])
    assert net.history.loss == []
    history = net.fit(x, y, epochs=2)
    assert net.history is history
    assert net.fit(x, y, epochs=0) is net.history
    net.fit(x, y, epochs=3)
    net.partial_fit(x, y)
    assert len(net.history.loss) == 3
    net.reset()
    assert net.history.loss == []


# Building


def test_the_same_seed_draws_the_same_network():
    first, again, other = (CASES["digits"].network(seed=seed).parameters for seed in (3, 3, 4))
    assert same_bits(first, again)
    assert not same_bits(first, other)


def test_a_float32_network_starts_from_the_rounded_numbers_of_its_float64_twin():
    single, double = (CASES["digits"].network(dtype).parameters for dtype in ("float32", "float64"))
    assert same_bits(single, double.astype(np.float32))


def test_reset_leaves_no_sign_of_a_zero_behind():
    net = bp.Network(bp.mlp([3, 4, 2]))
    net._learner.state[:] = -0.0
    net.gradients[:] = -0.0
    net.reset()
    assert not np.signbit(net._learner.state).any()
    assert not np.signbit(net.gradients).any()


def test_a_reset_that_is_interrupted_at_any_call_happens_as_a_whole_or_not_at_all():
    trained = bp.Network(bp.mlp([3, 4, 2]), optimizer="adam")
    trained.fit(np.ones((8, 3)), np.ones((8, 2)), epochs=3)
    trained.loss_and_gradient(np.ones((8, 3)), np.ones((8, 2)))

    def numbers(net):
        arrays = net.parameters, net._learner.state, net.gradients
        return *(array.tobytes() for array in arrays), net.steps, net.epochs, net.history.loss

    def reset(net, strike_at):
        """The calls of a reset, and of what it calls, until Ctrl-C strikes."""
        calls = 0

        def strike(frame, event, argument):
            nonlocal calls
            calls += 1
            if calls == strike_at:
                sys.setprofile(None)
                raise KeyboardInterrupt

        before = sys.getprofile()
        with contextlib.suppress(KeyboardInterrupt):
            try:
                sys.setprofile(strike)
                net.reset()
            finally:
                sys.setprofile(before)
        return calls

    anew = trained.copy()
    calls = reset(anew, 0)
    assert calls > 50
    outcomes = []
    for strike_at in range(1, calls):
        net = trained.copy()
        net._learner.gradients[:] = trained.gradients
        net._learner.history = trained.history
        reset(net, strike_at)
        outcomes.append(numbers(net))
    assert set(map(repr, outcomes)) == {repr(numbers(trained)), repr(numbers(anew))}


def test_reset_starts_anew():
    net = CASES["digits"].network(seed=3)
    x, y = CASES["digits"].data(np.random.default_rng(0), 40)
    start = net.parameters.copy()
    net.fit(x, y, epochs=2)
    trained = net.parameters.copy()
    net.reset()
    assert same_bits(net.parameters, start)
    net.fit(x, y, epochs=2)
    assert same_bits(net.parameters, trained)
    net.reset(seed=4)
    assert same_bits(net.parameters, CASES["digits"].network(seed=4).parameters)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_of_every_kind_train_on_to_the_same_bits_on_their_own(copied):
    net = CASES["digits"].network("float32")
    x, y = CASES["digits"].data(np.random.default_rng(0), 40)
    net.fit(x, y, epochs=2)
    twin = copied(net)
    assert not np.shares_memory(twin.parameters, net.parameters)
    assert np.shares_memory(twin.layers[0].weight, twin.parameters)
    assert net.fit(x, y).loss == twin.fit(x, y).loss
    assert same_bits(net.parameters, twin.parameters)


def test_defaults_are_adam_mean_squared_error_and_float32():
    net = bp.Network([bp.Dense(2, 1)])
    assert net.parameters.dtype == np.float32
    assert net.optimizer == bp.Adam()
    assert isinstance(net.loss, bp.MeanSquaredError)


def test_strings_and_objects_build_the_same_network():
    by_string = bp.Network(bp.mlp([4, 5, 3], "tanh", "softmax"), loss="cross_entropy", optimizer="sgd")
    by_object = bp.Network(
        [bp.Dense(4, 5), bp.Tanh(), bp.Dense(5, 3), bp.Softmax()], loss=bp.CrossEntropy(), optimizer=bp.SGD()
    )
    x, y = np.random.default_rng(0).normal(size=(9, 4)), np.arange(9) % 3
    for net in (by_string, by_object):
        net.fit(x, y)
    assert same_bits(by_string.parameters, by_object.parameters)


def test_the_summary_has_columns_however_long_a_name_is():
    drawn = bp.Normal(0.123456)
    net = bp.Network([bp.Dense(1000, 50, weight=drawn, bias=drawn), bp.ReLU(), bp.Dense(50, 2)])
    lines = net.summary().splitlines()[:5]
    assert [line.split()[-1] for line in lines] == ["parameters", "50,050", "0", "102", "50,152"]
    assert len(set(map(len, lines))) == 1


def test_the_summary_names_every_layer_its_shape_and_the_number_of_parameters():
    summary = CASES["digits"].network().summary()
    for fact in ("Dense", "ReLU", "Softmax", "64", "128", "10", "8,320", "1,290", "9,610"):
        assert fact in summary, fact


@pytest.mark.parametrize(
    ("layers", "options", "message"),
    [
        ([], {}, "layers"),
        ([bp.ReLU()], {}, "layers.*Dense"),
        ([bp.Dense(2, 3), bp.ReLU(), bp.Dense(4, 1)], {}, r"layers\[2\].* 4 .*layers\[0\].* 3"),
        ([bp.Dense(2, 3)], {"loss": "cross_entropy"}, "cross_entropy.*[Ss]oftmax|CrossEntropy.*Softmax"),
        ([bp.Dense(2, 1), bp.Softmax()], {"loss": "cross_entropy"}, "[Ss]oftmax"),
        ([bp.Dense(2, 1), bp.ReLU()], {"loss": "bce"}, "(bce|BinaryCrossEntropy).*[Ss]igmoid"),
        ([bp.Dense(2, 1)], {"loss": "mze"}, "loss is 'mze'"),
        ([bp.Dense(2, 1)], {"optimizer": "adamm"}, "optimizer is 'adamm'"),
        ([bp.Dense(2, 1)], {"dtype": "float16"}, "dtype is 'float16'"),
        ([bp.Dense(2, 1)], {"seed": -1}, "seed is -1"),
    ],
)  # fmt: skip
def test_a_network_that_cannot_be_is_refused(layers, options, message):
    with pytest.raises(ValueError, match=message):
        bp.Network(layers, **options)


def test_a_network_that_has_made_every_call_goes_with_its_last_reference():
    """What is held open for later calls belongs to no cycle: nothing waits for the garbage collector."""
    net, x, y = prepared(CASES["digits"], optimizer="adam")
    for call in (net.fit, net.partial_fit, net.loss_and_gradient, net.evaluate):
        call(x, y)
    net.predict(x)
    gone = weakref.ref(net._learner), weakref.ref(net.parameters)
    gc.disable()
    try:
        del net, call
        assert [reference() for reference in gone] == [None, None]
    finally:
        gc.enable()


def test_parameters_that_are_made_read_only_are_not_written_to():
    net, x, y = prepared(CASES["digits"])
    net.partial_fit(x, y)
    before = net.parameters.copy()
    net.parameters.flags.writeable = False
    for call in (net.fit, net.partial_fit):
        for rows in (len(x), 5):  # as before, and as for the first time
            with pytest.raises(ValueError, match="read-only"):
                call(x[:rows], y[:rows])
    assert same_bits(net.parameters, before)
    for rows in (len(x), 6):
        net.loss_and_gradient(x[:rows], y[:rows])
        assert same_bits(net.predict(x[:rows]), net.copy().predict(x[:rows]))


def test_gradients_that_are_made_read_only_are_not_written_to():
    net, x, y = prepared(CASES["digits"])
    net.loss_and_gradient(x, y)
    before = net.gradients.copy()
    net.gradients.flags.writeable = False
    for rows in (len(x), 5):
        with pytest.raises(ValueError, match="read-only"):
            net.loss_and_gradient(x[:rows], y[:rows])
        net.partial_fit(x[:rows], y[:rows])
    assert same_bits(net.gradients, before)


def test_something_that_is_no_layer_is_refused():
    with pytest.raises(TypeError, match=r"layers\[1\]"):
        bp.Network([bp.Dense(2, 1), "relu"])


def test_a_layer_belongs_to_one_network():
    layer, activation = bp.Dense(2, 2), bp.ReLU()
    with pytest.raises(ValueError, match="layers"):
        bp.Network([layer, activation, layer])
    bp.Network([layer := bp.Dense(2, 2), activation := bp.ReLU()])
    with pytest.raises(ValueError, match=r"layers\[0\]"):
        bp.Network([layer])
    with pytest.raises(ValueError, match=r"layers\[1\]"):
        bp.Network([bp.Dense(2, 2), activation])
