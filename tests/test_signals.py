"""Ctrl-C at any moment, two threads at one network, and a fork in the middle of a training."""

from __future__ import annotations

import concurrent.futures
import threading

import numpy as np
import pytest
from axes import same_bits
from cases import CASES
from interpreter import run

import fastbp as bp

# A network that tells from its one bias what was done to it.  The loss is binary cross entropy deep in its
# saturation: the gradient is exactly -1, the lr of epoch e is e + 1, so a step of it adds e + 1 to the bias.
COUNTING = """
import os, random, signal, sys, threading, time
import numpy as np
import fastbp as bp

ROWS, BATCH = 64, 4
STEPS = ROWS // BATCH
START = -1e15
sys.setswitchinterval(1e-4)
random.seed({seed})
x, y = np.zeros((ROWS, 1)), np.ones(ROWS)
optimizer = bp.SGD(lr=lambda epoch: epoch + 1.0)
net = bp.Network([bp.Dense(1, 1), bp.Sigmoid()], loss="bce", optimizer=optimizer, dtype="float64")
net.parameters[:] = [0.0, START]

def interrupted(call):
    def strike():
        time.sleep(random.uniform(0.001, 0.003))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=strike)
    try:
        thread.start()
        call()
    except KeyboardInterrupt:
        pass
    thread.join()
"""

INTERRUPTED_FIT = (
    COUNTING
    + """
inside = 0
for _ in range(150):
    steps, epochs, bias, history = net.steps, net.epochs, net.parameters[1], net.history
    interrupted(lambda: net.fit(x, y, epochs=10**9, batch_size=BATCH, verbose=False))
    whole = net.epochs - epochs
    rest = net.steps - steps - whole * STEPS
    assert 0 <= rest < STEPS, (rest, whole)
    gained = sum(epoch + 1.0 for epoch in range(epochs, net.epochs)) * STEPS + rest * (net.epochs + 1.0)
    assert net.parameters[1] == bias + gained, "steps and epochs are not those of the parameters"
    if net.history is not history:
        inside += 1
        assert len(net.history.loss) == whole
    else:
        assert whole == 0
    assert len(net.fit(x, y, epochs=2, batch_size=BATCH).loss) == 2
print("interrupted", inside > 75)
"""
)

INTERRUPTED_STEPS = (
    COUNTING
    + """
def train():
    while True:
        net.partial_fit(x, y)

for _ in range(150):
    interrupted(train)
    assert net.parameters[1] == START + net.steps, "steps are not those of the parameters"
    net.partial_fit(x, y)
print("interrupted", net.steps > 1000, net.epochs)
"""
)

INTERRUPTED_VALIDATION = (
    COUNTING
    + """
for _ in range(50):
    epochs, history = net.epochs, net.history
    interrupted(lambda: net.fit(x, y, epochs=10**9, batch_size=BATCH, validation_data=(x, y)))
    if net.history is not history:
        assert len(net.history.loss) == net.epochs - epochs
        assert 0 <= len(net.history.loss) - len(net.history.val_loss) <= 1
    net.reset()
    net.parameters[:] = [0.0, START]
print("interrupted")
"""
)


@pytest.mark.parametrize("seed", [1, 2])
def test_ctrl_c_at_any_moment_leaves_parameters_steps_epochs_and_history_of_one_moment(seed):
    assert run(INTERRUPTED_FIT.replace("{seed}", str(seed))) == "interrupted True\n"


def test_ctrl_c_between_single_updates_counts_each_exactly_once():
    assert run(INTERRUPTED_STEPS.replace("{seed}", "3")) == "interrupted True 0\n"


def test_ctrl_c_with_validation_leaves_the_history_so_far():
    assert run(INTERRUPTED_VALIDATION.replace("{seed}", "4")) == "interrupted\n"


LARGE_STEPS = """
import _thread, threading
import numpy as np
import fastbp as bp

rng = np.random.default_rng(0)
x, y = rng.normal(size=(20_000, 64)).astype("float32"), rng.integers(0, 10, 20_000)
net = bp.Network(bp.mlp([64, 512, 512, 10], output="softmax"), loss="cross_entropy")
threading.Timer(0.3, _thread.interrupt_main).start()
try:
    net.fit(x, y, epochs=10**9, batch_size=256, verbose=False)
except KeyboardInterrupt:
    assert np.isfinite(net.parameters).all()
    assert np.isfinite(net.fit(x[:512], y[:512]).loss).all()
    print("stopped")
"""


def test_ctrl_c_stops_a_fit_of_large_steps_without_waiting_for_the_epochs():
    assert run(LARGE_STEPS) == "stopped\n"


# Two threads at one network


class Paused:
    """A network in another thread, in the middle of a fit: its lr function waits in the second epoch."""

    def __init__(self):
        self.inside, self.go_on = threading.Event(), threading.Event()
        self.meanwhile = lambda net: None
        self.net = CASES["digits"].network("float32", bp.SGD(lr=self.rate))
        self.x, self.y = CASES["digits"].data(np.random.default_rng(0), 100)

    def rate(self, epoch):
        if epoch == 1 and not self.inside.is_set():
            self.meanwhile(self.net)
            self.inside.set()
            assert self.go_on.wait(60)
        return 0.1

    def __enter__(self):
        self.pool = concurrent.futures.ThreadPoolExecutor(1)
        self.trained = self.pool.submit(self.net.fit, self.x, self.y, 3)
        assert self.inside.wait(60)
        return self

    def __exit__(self, *_):
        self.go_on.set()
        self.trained.result(60)
        self.pool.shutdown()


def undisturbed():
    net = CASES["digits"].network("float32", bp.SGD(lr=0.1))
    x, y = CASES["digits"].data(np.random.default_rng(0), 100)
    net.fit(x, y, 3)
    return net


CHANGING = {
    "fit": lambda net, x, y: net.fit(x, y),
    "partial_fit": lambda net, x, y: net.partial_fit(x, y),
    "loss_and_gradient": lambda net, x, y: net.loss_and_gradient(x, y),
    "forward": lambda net, x, y: net.forward(x),
    "backward": lambda net, x, y: net.backward(y),
    "reset": lambda net, x, y: net.reset(),
}
READING = {
    "copy": lambda net: net.copy(),
    "state": lambda net: net.__getstate__(),
    "save": lambda net: net.save("never written"),
}


def test_a_second_call_that_changes_or_copies_is_refused_and_the_first_goes_on_undisturbed():
    with Paused() as paused:
        for call in CHANGING.values():
            with pytest.raises(RuntimeError, match=r"another call.*one at a time"):
                call(paused.net, paused.x, paused.y)
        for call in READING.values():
            with pytest.raises(RuntimeError, match=r"another call.*one at a time"):
                call(paused.net)
        other = CASES["digits"].network("float32")
        other.fit(paused.x, paused.y)
    assert same_bits(paused.net.parameters, undisturbed().parameters)
    for call in CHANGING.values():  # afterwards every call is free again
        call(paused.net, paused.x, paused.y)


def test_predict_and_evaluate_answer_while_another_thread_trains():
    with Paused() as paused:
        assert paused.net.predict(paused.x).shape == (100, 10)
        assert set(paused.net.evaluate(paused.x, paused.y)) == {"loss", "accuracy"}
        assert len(paused.net.history.loss) == paused.net.epochs == 1
    assert same_bits(paused.net.parameters, undisturbed().parameters)


def test_the_thread_that_trains_may_copy_but_not_train_between_two_epochs():
    paused, copies = Paused(), []

    def meanwhile(net):
        copies.append(net.copy())
        for call in CHANGING.values():
            with pytest.raises(RuntimeError, match="one at a time"):
                call(net, paused.x, paused.y)

    paused.meanwhile = meanwhile
    with paused:
        pass
    assert same_bits(paused.net.parameters, undisturbed().parameters)
    assert copies[0].epochs == 1


def test_copies_by_many_threads_at_once_are_all_the_same():
    net = undisturbed()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        copies = list(pool.map(lambda _: net.copy(), range(40)))
    assert all(same_bits(twin.parameters, net.parameters) for twin in copies)


def test_evaluations_by_many_threads_of_ever_other_sizes_are_those_of_one():
    net = undisturbed()
    x, y = CASES["digits"].data(np.random.default_rng(1), 600)
    sizes = [1, 2, 5, 9, 17, 40, 70, 150, 300, 600] * 6
    alone = {size: (net.predict(x[:size]), net.evaluate(x[:size], y[:size])) for size in set(sizes)}
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(
            pool.map(lambda size: (net.predict(x[:size]), net.evaluate(x[:size], y[:size])), sizes)
        )
    for size, (prediction, measured) in zip(sizes, together, strict=True):
        assert same_bits(prediction, alone[size][0])
        assert measured == alone[size][1]


FORKED_IN_THE_MIDDLE = """
import os, threading, warnings
import numpy as np
import fastbp as bp

warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of threads at a fork
inside, go_on = threading.Event(), threading.Event()

def rate(epoch):
    inside.set()
    go_on.wait(60)
    return 0.1

net = bp.Network([bp.Dense(2, 1)], optimizer=bp.SGD(lr=rate))
x, y = np.ones((8, 2)), np.ones(8)
thread = threading.Thread(target=net.fit, args=(x, y))
thread.start()
inside.wait(60)
child = os.fork()
if child == 0:
    go_on.set()
    net.copy()
    net.partial_fit(x, y)
    os._exit(7)
_, status = os.waitpid(child, 0)
go_on.set()
thread.join()
print(os.waitstatus_to_exitcode(status), net.epochs)
"""


def test_a_fork_in_the_middle_of_a_fit_leaves_the_child_a_network_it_can_train():
    assert run(FORKED_IN_THE_MIDDLE) == "7 1\n"
