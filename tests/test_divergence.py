"""Numbers that are no use: met in the data, made by the training itself, or at the edge of the dtype."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
from axes import every_dtype, same_bits
from cases import ACTIVATIONS, CASES, Case

import fastbp as bp
from fastbp import _native, training

BAD = {"nan": math.nan, "inf": math.inf, "minus_inf": -math.inf, "too_large": 1e39}


def problem(name="tanh", rows=2000, dtype="float32", optimizer="adam"):
    """A network with a past, so that memory of an earlier fit is there, and data."""
    net = CASES[name].network(dtype, optimizer)
    x, y = CASES[name].data(np.random.default_rng(0), rows)
    net.fit(x[:40], y[:40], epochs=2, batch_size=8)
    net.parameters[:] *= 0.5
    return net, x, y


def numbers(net):
    state = net.__getstate__()
    return (
        state["parameters"].tobytes(), state["state"].tobytes(), state["counts"], state["seed"],
        net.gradients.tobytes(), net.history,
    )  # fmt: skip


def assert_untouched(net, twin, before, x, y):
    """The network is what it was, and trains on as if the refused call had never been made."""
    assert numbers(net) == before
    options = {"epochs": 2, "batch_size": 16}
    assert net.fit(x, y, **options).loss == twin.fit(x, y, **options).loss
    assert same_bits(net.parameters, twin.parameters)


@pytest.fixture
def frequent_snapshots(monkeypatch):
    """One every 16 steps of whatever size."""
    monkeypatch.setattr(training, "SNAPSHOT_STEPS", 16)
    monkeypatch.setattr(training, "SNAPSHOT_ROWS", 1)


@pytest.fixture
def shared_copies(monkeypatch):
    """Two threads for whatever is copied and looked through."""
    monkeypatch.setattr(_native, "FLOPS_PER_THREAD", 1)
    monkeypatch.setattr(_native, "TEAM_FLOPS", 0)


# In the data: training meets it in the middle


@pytest.mark.usefixtures("frequent_snapshots")
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("row", [0, 700, 1999])
@pytest.mark.parametrize("name", ["x", "y"])
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_number_that_is_no_use_is_named_and_the_call_undone(bad, name, row, shuffle):
    net, x, y = problem()
    twin, before = net.copy(), numbers(net)
    spoilt = {"x": x.copy(), "y": y.copy()}
    spoilt[name][row, 2] = bad
    spoilt[name][1999, 3] = math.nan  # not the first
    with pytest.raises(ValueError, match=rf"^{name}\[{row}, 2\] is "):
        net.fit(**spoilt, epochs=3, batch_size=8, shuffle=shuffle)
    assert_untouched(net, twin, before, x, y)


@pytest.mark.usefixtures("frequent_snapshots", "shared_copies")
def test_a_call_is_undone_from_copies_that_threads_made_together():
    net, x, y = problem()
    twin, before = net.copy(), numbers(net)
    spoilt = x.copy()
    spoilt[700, 2] = math.nan
    with pytest.raises(ValueError, match=r"^x\[700, 2\] is "):
        net.fit(spoilt, y, epochs=3, batch_size=8, threads=2)
    assert_untouched(net, twin, before, x, y)


def test_a_copy_that_ctrl_c_left_half_made_is_no_way_back(monkeypatch):
    net, x, y = problem()
    examine, copies = net._learner.examine, []

    def struck(values, threads, copy=None):
        if copy is not None:
            copies.append(copy)
        if len(copies) == 2:
            raise KeyboardInterrupt
        return examine(values, threads, copy)

    monkeypatch.setattr(net._learner, "examine", struck)
    with pytest.raises(KeyboardInterrupt):
        net.fit(x, y)
    monkeypatch.undo()
    net.fit(x, y, batch_size=16)
    twin, before = net.copy(), numbers(net)
    spoilt = x.copy()
    spoilt[700, 2] = math.nan
    with pytest.raises(ValueError, match=r"^x\[700, 2\] is "):
        net.fit(spoilt, y, batch_size=8)
    assert_untouched(net, twin, before, x, y)


def test_a_bad_row_behind_real_snapshots_of_a_long_first_epoch_undoes_all_of_it():
    """20,000 rows in batches of 32: snapshots after 256 and 512 steps."""
    net, x, y = problem(rows=20_000)
    twin, before = net.copy(), numbers(net)
    spoilt = x.copy()
    spoilt[-1, 0] = math.inf
    with pytest.raises(ValueError, match=r"^x\[19999, 0\] is inf"):
        net.fit(spoilt, y, shuffle=False)
    assert_untouched(net, twin, before, x[:100], y[:100])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["digits", "relu"])
def test_batches_shared_by_threads_are_looked_at_by_each(name, threads):
    net, x, y = problem(name, rows=2100)
    twin, before = net.copy(), numbers(net)
    for row in (0, 511, 1023, 2099):  # the first and last rows of both threads' shares
        spoilt = x.copy()
        spoilt[row, 1] = math.nan
        with pytest.raises(ValueError, match=rf"^x\[{row}, 1\] is nan"):
            net.fit(spoilt, y, batch_size=1024, shuffle=False, threads=threads)
    assert_untouched(net, twin, before, x, y)


ARRANGED = {
    "float16": lambda values: values.astype(np.float16),
    "float32": lambda values: values.astype(np.float32),
    "strided": lambda values: np.repeat(values, 2, axis=1)[:, ::2],
    "big_endian": lambda values: values.astype(">f8"),
    "fortran": np.asfortranarray,
    "backwards": lambda values: values[::-1].copy()[::-1],
}


@every_dtype
@pytest.mark.parametrize("arrange", ARRANGED.values(), ids=ARRANGED)
def test_infinity_is_found_in_every_dtype_and_layout_before_tanh_makes_it_one(arrange, dtype):
    net, x, y = problem(rows=100, dtype=dtype)
    twin, before = net.copy(), numbers(net)
    spoilt = x.copy()
    spoilt[57, 1] = math.inf
    for data, target, name in (
        (arrange(spoilt), y, "x"),
        (x, arrange(np.where(np.isinf(spoilt), np.inf, y)), "y"),
    ):
        with pytest.raises(ValueError, match=rf"^{name}\[57, 1\] is inf"):
            net.fit(data, target, epochs=2, batch_size=16)
        for call in (net.partial_fit, net.loss_and_gradient, net.evaluate):
            with pytest.raises(ValueError, match=rf"^{name}\[57, 1\] is inf"):
                call(data, target)
    for call in (net.predict, net.forward):
        with pytest.raises(ValueError, match=r"^x\[57, 1\] is inf"):
            call(arrange(spoilt))
    assert_untouched(net, twin, before, x, y)


def test_a_bad_row_that_the_training_never_reached_is_named_before_the_divergence():
    net = bp.Network([bp.Dense(1, 1)], optimizer=bp.SGD(lr=1e30))
    before = numbers(net)
    x = np.ones((50, 1))
    x[49] = math.nan
    with pytest.raises(ValueError, match=r"^x\[49, 0\] is nan"):
        net.fit(x, np.full(50, 3.0), batch_size=1, shuffle=False)
    assert numbers(net) == before


def test_a_slice_cut_short_by_a_bad_row_says_nothing_about_the_pace():
    net = bp.Network(bp.mlp([3, 4, 1]), "mse")
    x, y = np.ones((64, 3)), np.zeros((64, 1))
    net.fit(x, y, batch_size=1)
    pace = net._learner.pace(1, bp.get_num_threads())
    steps = pace.steps
    x[0, 0] = np.nan
    with pytest.raises(ValueError, match="x"):
        net.fit(x, y, batch_size=1, shuffle=False)
    assert pace.steps == steps > 1


def test_a_network_that_was_not_finite_gets_its_own_bits_back():
    """A unit behind ReLU whose weights are -inf gives 0 and a finite loss."""
    net, x, y = problem("relu", rows=200)
    x = np.abs(x) + 1.0
    net.layers[0].weight[:, 3] = -math.inf
    before = numbers(net)
    x[-1, 0] = math.nan
    with pytest.raises(ValueError, match=r"^x\[199, 0\]"):
        net.fit(x, y, batch_size=8, shuffle=False)
    assert numbers(net) == before


@pytest.mark.parametrize("remembered", [0.0, 0.5])
def test_a_network_without_a_past_gets_back_the_state_it_had(remembered):
    """Zeros as a rule; counts of 0 alone do not tell."""
    net = CASES["tanh"].network("float32")
    x, y = CASES["tanh"].data(np.random.default_rng(0), 100)
    net._learner.state[:] = remembered
    twin, before = net.copy(), numbers(net)
    spoilt = x.copy()
    spoilt[99, 0] = math.inf
    with pytest.raises(ValueError, match=r"^x\[99, 0\] is inf"):
        net.fit(spoilt, y, batch_size=8, shuffle=False)
    assert_untouched(net, twin, before, x, y)


# Made by the training


@pytest.mark.usefixtures("frequent_snapshots")
def test_an_overflow_just_before_a_snapshot_leads_back_to_the_last_finite_one(capfd):
    """Row 15's update overflows, its loss does not; the snapshot due then must not be taken."""
    for first_row in (15, 31):
        net = bp.Network([bp.Dense(1, 1)], optimizer=bp.SGD(lr=1e38))
        net.parameters[:] = 0.0
        y = np.zeros(64)
        y[first_row] = 100.0
        with pytest.raises(FloatingPointError, match=rf"back at step {first_row - 15};.*smaller lr"):
            net.fit(np.ones((64, 1)), y, batch_size=1, shuffle=False)
        assert net.parameters.tolist() == [0.0, 0.0]
        assert (net.steps, net.epochs) == (first_row - 15, 0)
    assert capfd.readouterr() == ("", "")


def test_an_overflow_of_the_very_last_update_is_noticed():
    net = bp.Network([bp.Dense(1, 1)], optimizer=bp.SGD(lr=1e38))
    start = net.parameters.copy()
    with pytest.raises(FloatingPointError, match=r"an update after step 0 overflowed, .* in epoch 0"):
        net.fit([[1.0]], [100.0])
    assert same_bits(net.parameters, start)


def test_an_overflow_that_an_activation_hides_ends_fit_at_the_next_look():
    """Of the target's square Adam's mean is infinite; no loss ever shows it."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32 * 600, 3))
    y = x.sum(axis=1)
    y[32 * 300] = 9.96921e36
    net, twin = (bp.Network(bp.mlp([3, 8, 1], "tanh")) for _ in range(2))
    with pytest.raises(FloatingPointError, match=r"after step 256 overflowed, .* epoch 0 .*at step 256;"):
        net.fit(x, y, epochs=3, shuffle=False)
    assert (net.steps, net.epochs, net.history.loss) == (256, 0, [])
    twin.fit(x[: 32 * 256], y[: 32 * 256], shuffle=False)
    assert same_bits(net.parameters, twin.parameters)


def test_an_overflow_that_an_activation_hides_from_single_updates_is_noticed():
    x = np.random.default_rng(0).uniform(1, 2, (32, 1))
    net = bp.Network(bp.mlp([1, 4, 1], "tanh"), optimizer=bp.SGD(lr=0.1))
    net.layers[0].weight[:] = 0.0
    net.layers[2].weight[:] = [[1.0], [2.0], [-1.0], [0.5]]
    outlier = x.copy()
    outlier[3] = 3e38
    net.partial_fit(outlier, 100 * x)
    assert not np.isfinite(net.parameters).all()
    for _ in range(254):
        net.partial_fit(x, 100 * x)
    with pytest.raises(FloatingPointError, match=r"an earlier update overflowed: reset\(\)"):
        net.partial_fit(x, 100 * x)
    assert net.steps == 256


@pytest.mark.usefixtures("shared_copies")
@pytest.mark.parametrize("threads", [1, 2])
def test_an_overflow_of_what_the_optimizer_remembers_is_noticed(threads):
    """Adam's mean of squared gradients: infinite, it would stop its parameter for ever."""
    net = bp.Network([bp.Dense(1, 1)])
    with pytest.raises(FloatingPointError, match="lr"):
        net.fit([[1e15]], [1e15], threads=threads)
    assert np.isfinite(net.parameters).all()
    assert math.isfinite(net.fit([[1.0]], [1.0]).loss[0])


def test_the_history_keeps_the_epochs_before_the_divergence_and_names_its_epoch_and_lr():
    net, x, y = problem(optimizer=bp.SGD(lr=lambda epoch: 1e-4 if epoch < 5 else 1e30))
    with pytest.raises(FloatingPointError, match=r"epoch 5 .*lr 1e\+30"):
        net.fit(x, y, epochs=10, validation_data=(x, y))
    assert len(net.history.loss) == len(net.history.val_loss) == 3  # epochs 2, 3 and 4
    assert np.isfinite(net.parameters).all()


@pytest.mark.parametrize("column", range(10))
@pytest.mark.parametrize("threads", [1, 2])
def test_a_nan_beside_the_label_is_in_the_loss(column, threads):
    """Of the sum of exponentials, NaN then, a logarithm is taken that knows finite numbers alone."""
    for dtype in ("float32", "float64"):
        net = bp.Network([bp.Dense(3, 10), bp.Softmax()], "cross_entropy", bp.SGD(0.1), dtype=dtype)
        net.layers[0].parameters["bias"][column] = math.nan
        x, before = np.ones((40, 3)), net.parameters.tobytes()
        for label in range(10):
            y = np.full(40, label)
            assert math.isnan(net.evaluate(x, y, threads=threads)["loss"])
            with pytest.raises(FloatingPointError, match="nothing was updated"):
                net.partial_fit(x, y, threads=threads)
            with pytest.raises(FloatingPointError):
                net.loss_and_gradient(x, y, threads=threads)
        assert net.parameters.tobytes() == before


def test_a_partial_fit_with_an_absurd_lr_shows_in_the_next_loss_and_reset_helps():
    net = CASES["tanh"].network("float32", bp.SGD(lr=1e38))
    x, y = CASES["tanh"].data(np.random.default_rng(0), 20)
    assert math.isfinite(net.partial_fit(x, y))
    steps, overflowed = net.steps, net.parameters.tobytes()
    for _ in range(2):
        with pytest.raises(
            FloatingPointError, match=r"nothing was updated.*earlier update overflowed.*reset\(\)"
        ):
            net.partial_fit(x, y)
    assert (net.steps, net.parameters.tobytes()) == (steps, overflowed)
    net.reset()
    assert math.isfinite(net.evaluate(x, y)["loss"])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e38])
@pytest.mark.parametrize("name", CASES)
def test_a_network_that_diverged_is_asked_without_a_word_from_numpy(name, value):
    """Warnings are errors in these tests."""
    net, x, y = problem(name, rows=30)
    net.parameters[:] = value
    assert set(net.evaluate(x, y)) >= {"loss"}
    net.predict(x)
    output = net.forward(x)
    net.backward(np.ones_like(output))
    for call in (net.fit, net.partial_fit, net.loss_and_gradient):
        with contextlib.suppress(FloatingPointError):  # some networks give finite losses all the same
            call(x, y)


# At the edge

ENDS = [(loss, name) for loss in ("mse", "mae") for name in ACTIVATIONS if name != "exp"] + [
    ("bce", "sigmoid"),
    ("cross_entropy", "softmax"),
]
EXTREME = {
    f"{inner}-{last}-{loss}-{reduction}": Case(((5, 7), inner, (7, 3), last), loss, reduction)
    for inner in ACTIVATIONS
    for loss, last in ENDS
    for reduction in ("mean", "sum")
}


@every_dtype
@pytest.mark.parametrize("case", EXTREME.values(), ids=EXTREME)
def test_parameters_of_1e4_and_inputs_of_1e5_give_finite_losses_and_gradients(case, dtype):
    """Fused, and layer by layer.  Before Exp the numbers are negative: e^(10^9) is beyond any dtype."""
    rng = np.random.default_rng(0)
    net = case.network(dtype)
    net.parameters[:] = rng.choice([-1e4, 1e4], net.parameters.size)
    x, y = case.data(rng, 20)
    x = rng.choice([-1e5, 1e5], x.shape)
    if "exp" in case.description:
        net.layers[0].weight[...] = -1e4
        x = np.abs(x)
    loss, gradient = net.loss_and_gradient(x, y)
    assert math.isfinite(loss)
    assert np.isfinite(gradient).all()
    assert all(map(math.isfinite, net.evaluate(x, y).values()))
    output = net.forward(x)
    assert np.isfinite(output).all()
    assert math.isfinite(net.loss.value(output, y))
    slope = net.loss.gradient(output, y)
    assert np.isfinite(slope).all()
    assert np.isfinite(net.backward(slope)).all()
    assert np.isfinite(net.gradients).all()


@every_dtype
@pytest.mark.parametrize("name", ["binary", "digits"])
def test_probabilities_of_exactly_zero_and_one_give_finite_losses_and_gradients(name, dtype):
    case = CASES[name]
    net = case.network(dtype)
    net.parameters[:] = 0.0
    net.layers[-2].bias[0] = 1e5  # the last Dense
    x, y = case.data(np.random.default_rng(0), 20)
    output = net.predict(x)
    assert (output[:, 0] == 1.0).all()
    assert (output[:, 1:] == 0.0).all()
    for target in (y, np.roll(output, 1, axis=1), 1.0 - output if name == "binary" else output):
        assert math.isfinite(net.loss.value(output, target))
        assert np.isfinite(net.loss.gradient(output, target)).all()
        loss, gradient = net.loss_and_gradient(x, target)
        assert math.isfinite(loss)
        assert np.isfinite(gradient).all()
