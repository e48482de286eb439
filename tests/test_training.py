"""The loop around the native call: epochs, order, short batches, validation, interruption, failure."""

from __future__ import annotations

import concurrent.futures
import io
import itertools
import math
import signal
import sys
import types

import numpy as np
import pytest
import reference
import tolerances
from axes import every_dtype, same_bits
from cases import CASES
from interpreter import run

import fastbp as bp
from fastbp import _native

OPTIMIZERS = {
    "sgd": bp.SGD(lr=0.005),
    "nesterov": bp.SGD(lr=0.005, momentum=0.9, nesterov=True),
    "adam": bp.Adam(lr=0.005),
}
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)


def problem(case="digits", rows=101, dtype="float32", optimizer="adam"):
    """A network and data whose last batch of 16 is short."""
    return CASES[case].network(dtype, optimizer), *CASES[case].data(np.random.default_rng(0), rows)


# Epochs


@every_dtype
@every_optimizer
@pytest.mark.parametrize("name", ["digits", "relu", "one_neuron"])
def test_fitting_twice_gives_the_bits_of_fitting_once_for_as_many_epochs(dtype, optimizer, name):
    once, x, y = problem(name, dtype=dtype, optimizer=optimizer)
    twice, *_ = problem(name, dtype=dtype, optimizer=optimizer)
    whole = once.fit(x, y, epochs=5, batch_size=16)
    parts = twice.fit(x, y, epochs=2, batch_size=16), twice.fit(x, y, epochs=3, batch_size=16)
    assert same_bits(once.parameters, twice.parameters)
    assert whole.loss == parts[0].loss + parts[1].loss


@every_dtype
@every_optimizer
@pytest.mark.parametrize("name", CASES)
def test_ten_epochs_equal_the_reference(dtype, optimizer, name):
    """float32 is followed for one epoch only: its rounding would need a tolerance in which anything fits."""
    case, epochs = CASES[name], 10 if dtype == np.float64 else 1
    net, x, y = problem(name, rows=37, dtype=dtype, optimizer=optimizer)
    truth = net.parameters.astype(np.float64)
    kind = reference.Adam if isinstance(optimizer, bp.Adam) else reference.SGD
    follower = kind(**optimizer.settings(0))
    history = net.fit(x, y, epochs=epochs, batch_size=8, shuffle=False)
    losses = []
    for _ in range(epochs):
        batches = reference.train_epoch(
            case.description, case.loss, follower, truth, x, y, np.arange(37), 8, case.reduction
        )
        weights = None if case.reduction == "sum" else [8, 8, 8, 8, 5]
        losses.append(sum(batches) if weights is None else np.average(batches, weights=weights))
    steps = 5 * epochs
    largest = np.abs(truth).max()
    assert np.abs(net.parameters - truth).max() <= tolerances.training(case.widths, 8, steps, largest, dtype)
    bound = tolerances.training(case.widths, 8, steps, max(losses), dtype)
    assert np.abs(np.array(history.loss) - losses).max() <= bound


def test_the_history_holds_one_float_an_epoch():
    net, x, y = problem()
    history = net.fit(x, y, epochs=4, validation_data=(x, y))
    assert [len(history.loss), len(history.val_loss)] == [4, 4]
    assert {name: len(values) for name, values in history.val_metrics.items()} == {"accuracy": 4}
    assert all(type(value) is float for value in (*history.loss, *history.val_loss))
    assert net.fit(x, y).val_loss == [] == net.fit(x, y, epochs=0).loss


def test_validation_reports_what_evaluate_gives_and_changes_nothing():
    net, x, y = problem()
    silent, *_ = problem()
    history = net.fit(x[:80], y[:80], epochs=3, validation_data=(x[80:], y[80:]))
    silent.fit(x[:80], y[:80], epochs=3)
    assert same_bits(net.parameters, silent.parameters)
    assert net.evaluate(x[80:], y[80:]) == {
        "loss": history.val_loss[-1], "accuracy": history.val_metrics["accuracy"][-1],
    }  # fmt: skip


def test_no_epochs_change_nothing():
    net, x, y = problem()
    before = net.parameters.copy()
    net.fit(x, y, epochs=0)
    assert same_bits(net.parameters, before)


# Batches and their order


def test_the_last_short_batch_is_used():
    """17 rows in batches of 16: the last row alone decides the second step."""
    net, x, y = problem("linear", rows=17, optimizer=bp.SGD(0.1), dtype="float64")
    twin, *_ = problem("linear", rows=17, optimizer=bp.SGD(0.1), dtype="float64")
    net.fit(x, y, batch_size=16, shuffle=False)
    twin.partial_fit(x[:16], y[:16])
    without_it = twin.parameters.copy()
    twin.partial_fit(x[16:], y[16:])
    assert same_bits(net.parameters, twin.parameters)
    assert not same_bits(net.parameters, without_it)


def test_a_batch_larger_than_the_data_is_the_data():
    net, x, y = problem(rows=10)
    twin, *_ = problem(rows=10)
    net.fit(x, y, batch_size=1000, epochs=2)
    twin.fit(x, y, batch_size=10, epochs=2)
    assert same_bits(net.parameters, twin.parameters)


def test_shuffling_takes_every_row_once_an_epoch_in_a_new_order_each_time():
    """lr = 0, and the target of a row is 2^row: the sum of squares tells whether each came once."""
    rows = 20
    net = bp.Network(
        [bp.Dense(1, 1)], loss=bp.MeanSquaredError("sum"), optimizer=bp.SGD(lr=0.0), dtype="float64"
    )
    net.parameters[:] = 0.0
    history = net.fit(np.zeros((rows, 1)), 2.0 ** np.arange(rows), epochs=5, batch_size=1)
    assert history.loss == [float(sum(4**row for row in range(rows)))] * 5


def test_the_order_is_a_permutation_and_a_pure_function_of_rows_seed_and_epoch():
    def order(rows, seed, epoch):
        drawn = np.full(rows, -1, np.int64)
        _native.shuffle(drawn, seed, epoch)
        return drawn

    for rows in (1, 2, 3, 100, 1797):
        assert sorted(order(rows, 5, 7)) == list(range(rows))
        assert same_bits(order(rows, 5, 7), order(rows, 5, 7))
    distinct = {order(100, seed, epoch).tobytes() for seed in (0, 1, 2**62) for epoch in range(20)}
    assert len(distinct) == 60


@pytest.mark.parametrize("seed", [0, 12345])
def test_epochs_take_the_rows_in_the_order_of_their_seed_and_number(seed):
    net, x, y = problem()
    twin, *_ = problem()
    for network in (net, twin):
        network.reset(seed)
    net.fit(x, y, epochs=2, batch_size=16)
    net.fit(x, y, epochs=1, batch_size=16)
    order = np.empty(len(x), np.int64)
    for epoch in range(3):
        _native.shuffle(order, seed, epoch)
        for first in range(0, len(x), 16):
            rows = order[first : first + 16]
            twin.partial_fit(x[rows], y[rows])
    assert same_bits(net.parameters, twin.parameters)


def test_every_row_comes_equally_often_to_every_place():
    """Chi-square over 8 x 8 places of 4000 shuffles: 49 degrees of freedom, deviation sqrt(2 * 49)."""
    counts = np.zeros((8, 8))
    drawn = np.empty(8, np.int64)
    for epoch in range(4000):
        _native.shuffle(drawn, 0, epoch)
        counts[np.arange(8), drawn] += 1
    expected = 4000 / 8
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert abs(statistic - 49) <= tolerances.SIGMAS * math.sqrt(2 * 49)


def test_different_seeds_and_epochs_train_in_different_orders():
    def after(seed, epochs, shuffle=True):
        net, x, y = problem("linear", optimizer=bp.SGD(0.1), dtype="float64")
        net.reset(seed)
        net.parameters[:] = 0.0
        net.fit(x, y, epochs=epochs, batch_size=7, shuffle=shuffle)
        return net.parameters.copy()

    assert same_bits(after(0, 1, shuffle=False), after(1, 1, shuffle=False))
    assert not same_bits(after(0, 1), after(1, 1))
    assert not same_bits(after(0, 1), after(0, 1, shuffle=False))


def test_labels_and_one_hot_rows_train_alike():
    net, x, one_hot = problem()
    twin, *_ = problem()
    histories = net.fit(x, one_hot, epochs=3), twin.fit(x, one_hot.argmax(axis=1), epochs=3)
    assert same_bits(net.parameters, twin.parameters)
    assert histories[0].loss == histories[1].loss
    assert net.evaluate(x, one_hot) == net.evaluate(x, one_hot.argmax(axis=1))


# Threads


@pytest.mark.parametrize("name", ["digits", "relu"])
def test_bits_do_not_depend_on_threads(name):
    """A batch large enough that the plan gives it several threads."""
    results = []
    for threads in (1, 2, 3, 8):
        net, x, y = problem(name, rows=2100)
        history = net.fit(x, y, epochs=2, batch_size=1024, threads=threads)
        results.append((net.parameters, np.array(history.loss), net.predict(x, threads=threads)))
    for other in results[1:]:
        assert all(map(same_bits, other, results[0]))


def test_several_python_threads_may_train_several_networks_at_once():
    def train(seed):
        net, x, y = problem(rows=500)
        net.reset(seed)
        net.fit(x, y, epochs=5, batch_size=16, threads=2)
        return net.parameters

    alone = [train(seed) for seed in range(4)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(map(same_bits, pool.map(train, range(4)), alone))


FORKED = """
import multiprocessing
import numpy as np
import fastbp as bp

def train(queue=None):
    net = bp.Network(bp.mlp([64, 256, 10], output="softmax"), loss="cross_entropy")
    rng = np.random.default_rng(0)
    net.fit(rng.normal(size=(2048, 64)), rng.integers(0, 10, 2048), batch_size=1024, epochs=2, threads=2)
    return queue.put(net.parameters) if queue else net.parameters

parent = train()
context = multiprocessing.get_context("fork")
queue = context.Queue()
child = context.Process(target=train, args=(queue,))
child.start()
print("same" if np.array_equal(queue.get(timeout=30), parent) else "different")
child.join(30)
"""


def test_a_forked_child_trains_after_its_parent_trained_on_two_threads():
    assert run(FORKED) == "same\n"


# What goes wrong


def test_a_loss_that_is_no_number_brings_back_finite_parameters_and_says_what_to_try():
    net, x, y = problem("relu", optimizer=bp.SGD(lr=1e6), rows=5000)
    with pytest.raises(FloatingPointError, match=r"epoch.*(lr|learning rate)") as caught:
        net.fit(x, y, epochs=20, batch_size=1)
    assert "epoch 0" in str(caught.value) or "epoch 1" in str(caught.value)
    assert np.isfinite(net.parameters).all()
    assert np.isfinite(net.predict(x)).all()


def test_a_failed_fit_takes_the_whole_training_back_to_one_moment():
    """lr turns absurd in epoch 3: what comes back are the parameters of a step of this training."""
    net, x, y = problem("tanh", optimizer=bp.Adam(lr=lambda epoch: 0.01 if epoch < 3 else 1e30), rows=64)
    with pytest.raises(FloatingPointError, match="epoch 3"):
        net.fit(x, y, epochs=5, batch_size=16, shuffle=False)
    twin, *_ = problem("tanh", optimizer=bp.Adam(lr=0.01), rows=64)
    batches = itertools.cycle((x[i : i + 16], y[i : i + 16]) for i in range(0, 64, 16))
    for _ in range(12 + 1):
        if same_bits(net.parameters, twin.parameters):
            break
        twin.partial_fit(*next(batches))
    else:
        pytest.fail("the parameters are not those of any step of this training")


@pytest.mark.parametrize("optimizer", [bp.SGD(lr=1e-3, momentum=0.9), bp.Adam()], ids=str)
def test_an_interrupted_fit_leaves_a_network_at_one_step_ready_to_go_on(optimizer):
    net, x, y = problem("digits", rows=4096, optimizer=optimizer)
    twin, *_ = problem("digits", rows=4096, optimizer=optimizer)

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.15)
        with pytest.raises(KeyboardInterrupt):
            net.fit(x, y, epochs=10**6, batch_size=256, shuffle=False)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    batches = itertools.cycle((x[i : i + 256], y[i : i + 256]) for i in range(0, 4096, 256))
    for _ in range(20_000):
        if same_bits(net.parameters, twin.parameters):
            break
        twin.partial_fit(*next(batches))
    else:
        pytest.fail("the parameters are not those of any step of this training")
    batch = next(batches)
    assert net.partial_fit(*batch) == twin.partial_fit(*batch)
    assert same_bits(net.parameters, twin.parameters), (
        "the optimiser's state or step count is of another moment"
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": -1}, ValueError, "epochs is -1"),
        ({"epochs": 1.5}, TypeError, "epochs is 1.5"),
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
        ({"batch_size": "32"}, TypeError, "batch_size is '32'"),
        ({"threads": 0}, ValueError, "threads.*0"),
        ({"threads": 1.5}, TypeError, "threads"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(options, error, message):
    net, x, y = problem()
    with pytest.raises(error, match=message):
        net.fit(x, y, **options)


# Progress


def test_a_fit_is_silent_unless_a_person_looks(capfd):
    net, x, y = problem()
    net.fit(x, y, epochs=3)
    assert capfd.readouterr() == ("", "")


def test_a_fit_shows_its_progress_by_tqdm_when_asked(monkeypatch):
    calls = []

    class Bar:
        def __init__(self, *arguments, **options):
            calls.append("open")

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.close()

        def __getattr__(self, name):
            return lambda *arguments, **options: calls.append(name)

    monkeypatch.setitem(sys.modules, "tqdm", types.SimpleNamespace(tqdm=Bar))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    net, x, y = problem()
    net.fit(x, y, epochs=3, verbose=True)
    assert calls[0] == "open"
    assert "update" in calls
    assert calls[-1] == "close"


def test_a_learning_curve_falls():
    net, x, _ = problem("classes", rows=200, optimizer=bp.Adam(lr=0.01))
    labels = (x[:, 0] > 0).astype(np.int64) + 2 * (x[:, 1] > 0)
    losses = net.fit(x, labels, epochs=30).loss
    assert losses[-1] < losses[0] / 2
