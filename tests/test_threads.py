"""Several Python threads at once, more threads than cores, and other users of OpenMP in the same process."""

from __future__ import annotations

import concurrent.futures
import sys
import sysconfig
import time

import numpy as np
import pytest
from axes import every_dtype, same_bits
from cases import CASES
from interpreter import run
from threadpoolctl import threadpool_info

import fastbp as bp
from fastbp import _native

TASKS = 8  # at once, on however few cores


@pytest.fixture
def frequent_switches():
    """Let Python threads take turns far more often than by themselves, so that they meet everywhere."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def at_once(work, count=TASKS):
    """What work gives for 0, 1, ... in as many Python threads."""
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))


# Several Python threads


@every_dtype
@pytest.mark.parametrize("threads", [1, 2])
def test_networks_used_by_several_python_threads_at_once_get_the_bits_they_get_alone(
    dtype, threads, frequent_switches
):
    names = ("digits", "classes", "relu", "multilabel")

    def work(task):
        case = CASES[names[task % len(names)]]
        x, y = case.data(np.random.default_rng(task), 500)
        net = case.network(dtype, seed=task)
        history = net.fit(x, y, epochs=2, batch_size=100, threads=threads)
        loss, gradient = net.loss_and_gradient(x, y, threads)
        output = net.forward(x, threads)
        dx = net.backward(np.ones_like(output), threads)
        measured = list(net.evaluate(x, y, threads).values())
        return net.parameters, np.array([*history.loss, loss, *measured]), gradient, output, dx

    alone = [work(task) for task in range(TASKS)]
    for arrays, expected in zip(at_once(work), alone, strict=True):
        assert all(map(same_bits, arrays, expected))


def test_many_python_threads_predict_with_one_network_whatever_the_numbers_of_rows(frequent_switches):
    """Ever other shapes: more than a network keeps workspaces for."""
    case = CASES["classes"]
    x, _ = case.data(np.random.default_rng(0), 300)
    net = case.network("float32")
    alone = net.predict(x)

    def work(task):
        rng = np.random.default_rng(task)
        return all(same_bits(net.predict(x[:rows]), alone[:rows]) for rows in rng.integers(1, 300, 6000))

    assert all(at_once(work))


SHORT_LIVED = """
import os, threading
import fastbp as bp

def tasks():
    return len(os.listdir("/proc/self/task"))

def train(net):
    net.fit(x, y, batch_size=300, threads=2)
    seen.append(tasks())

x, y = bp.datasets.load_digits()
seen, before = [], tasks()
for seed in range(100):
    net = bp.Network(bp.mlp([64, 50, 10], "tanh", "softmax"), "cross_entropy", seed=seed)
    thread = threading.Thread(target=train, args=(net,))
    thread.start()
    thread.join()
print(max(seen) - before)
"""


def test_python_threads_that_end_take_the_threads_of_their_teams_along():
    """While one trains there are two more, and at most a few of the last ones are still about to end."""
    assert 2 <= int(run(SHORT_LIVED)) < 10


# The start of a team

FIRST_STEPS = """
import hashlib, os
import fastbp as bp
from fastbp import _native

def network():
    return bp.Network(bp.mlp([64, 128, 10], output="softmax"), "cross_entropy")

def tasks():
    return len(os.listdir("/proc/self/task"))

x, y = bp.datasets.load_digits()
nets = network(), network()
learner = nets[0]._learner
step = learner.plan.step_flops(64, learner.updated(True))
alone = -(-_native.TEAM_FLOPS // step) - 1
assert learner.plan.training_threads(64, 2) == 2 and alone > 1
before, seen = tasks(), []
for number in range(alone + 2):
    rows = slice(64 * number, 64 * number + 64)
    for net, threads in zip(nets, (1, 2)):
        net.fit(x[rows], y[rows], batch_size=64, threads=threads)
    seen.append(tasks() - before)
assert seen == [0] * alone + [1, 1], seen
bits = {hashlib.sha256(net.parameters.tobytes()).hexdigest() for net in nets}
print("same" if len(bits) == 1 else "different")
"""

STARTS = """
import os
import numpy as np
import fastbp as bp
from fastbp import _native

def tasks():
    return len(os.listdir("/proc/self/task"))

x, y = bp.datasets.load_digits()
net = bp.Network(bp.mlp([64, 128, 10], output="softmax"), "cross_entropy")
before = tasks()
{call}
print(tasks() - before)
"""

SHORT_CALLS = {
    "predict": "net.predict(x[:64], threads=2)",
    "evaluate": "net.evaluate(x[:64], y[:64], threads=2)",
    "forward": "net.forward(x[:64], threads=2)",
    "loss_and_gradient": "net.loss_and_gradient(x[:64], y[:64], threads=2)",
}
LONG_CALLS = {
    "fit": "net.fit(x, y, batch_size=64, threads=2)",
    "predict": "net.predict(np.tile(x, (2, 1)), threads=2)",
    "forward": "net.forward(np.tile(x, (2, 1)), threads=2)",
}


def test_short_first_steps_run_on_one_thread_to_the_same_bits_until_a_team_has_paid_for_its_start():
    assert run(FIRST_STEPS) == "same\n"


@pytest.mark.parametrize("call", SHORT_CALLS.values(), ids=SHORT_CALLS)
def test_a_short_first_call_starts_no_thread(call):
    assert run(STARTS.format(call=call)) == "0\n"


@pytest.mark.parametrize("call", LONG_CALLS.values(), ids=LONG_CALLS)
def test_a_long_first_call_starts_the_team(call):
    assert run(STARTS.format(call=call)) == "1\n"


# More threads than cores

CROWDED = """
import concurrent.futures, hashlib, os, subprocess, sys
import numpy as np
import fastbp as bp

x, y = bp.datasets.load_digits()
x, y = np.tile(x, (5, 1)), np.tile(y, 5)

def train(task, threads):
    net = bp.Network(bp.mlp([64, 80, 80, 10], "relu", "softmax"), "cross_entropy", seed=task)
    net.fit(x, y, epochs=1, batch_size=1024, threads=threads)
    return hashlib.sha256(net.parameters.tobytes()).hexdigest()

alone = [train(task, 1) for task in range(8)]
burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count())]
try:
    together = [train(0, 64)]
    for threads in (2, 64):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            together += pool.map(train, range(8), [threads] * 8)
finally:
    for burner in burners:
        burner.kill()
        burner.wait()
print("same" if together == [alone[0], *alone, *alone] else "different")
"""


def test_far_more_threads_than_cores_on_a_busy_machine_end_with_the_same_bits():
    """The limit of time is that of `run`: a team that crawled, or hung, would exceed it."""
    assert run(CROWDED) == "same\n"


# Other users of OpenMP

NEIGHBOUR = """
import ctypes, hashlib, os, shutil, tempfile
import threadpoolctl
import fastbp as bp

x, y = bp.datasets.load_digits()

def train(threads):
    net = bp.Network(bp.mlp([64, 50, 10], "tanh", "softmax"), "cross_entropy")
    net.fit(x, y, epochs=2, batch_size=300, threads=threads)
    return hashlib.sha256(net.parameters.tobytes()).hexdigest()

alone = train(1)
[own] = {info["filepath"] for info in threadpoolctl.threadpool_info() if info["user_api"] == "openmp"}
with tempfile.TemporaryDirectory() as folder:
    openmp = ctypes.CDLL(own if OWN else shutil.copy(own, os.path.join(folder, "libgomp-other.so")))
entries = [ctypes.cast(library.GOMP_parallel, ctypes.c_void_p) for library in (openmp, ctypes.CDLL(own))]
assert (entries[0].value == entries[1].value) == OWN
trained = []

@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def member(_):
    "What each of three threads of a parallel region does, whose pragma calls GOMP_parallel."
    trained.append(train(2))

for _ in range(3):
    openmp.GOMP_parallel(member, None, 3, 0)
    trained.append(train(2))
print("same" if trained == [alone] * 12 else "different")
"""


@pytest.mark.parametrize("levels", ["1", "2"])
@pytest.mark.parametrize("own", [True, False], ids=["own", "another"])
def test_bits_are_the_same_inside_and_beside_parallel_regions_of_this_or_another_runtime(own, levels):
    """Inside a region of its own runtime a team is one thread, unless levels are nested."""
    assert run(NEIGHBOUR.replace("OWN", str(own)), OMP_MAX_ACTIVE_LEVELS=levels) == "same\n"


LIMITED = """
import os
import threadpoolctl
import fastbp as bp
from fastbp import _native

def tasks():
    return len(os.listdir("/proc/self/task"))

x, y = bp.datasets.load_digits()
net = bp.Network(bp.mlp([64, 50, 10], "tanh", "softmax"), "cross_entropy")
before, free = tasks(), bp.get_num_threads()
for user_api in (None, "openmp"):
    with threadpoolctl.threadpool_limits(1, user_api=user_api):
        bp.set_num_threads(3)
        assert bp.get_num_threads() == 1
        assert _native.resolve_threads(3) == 1
        bp.set_num_threads(None)
        assert bp.get_num_threads() == 1
        net.fit(x, y, batch_size=600, threads=3)
        net.forward(x, threads=3)
        assert tasks() == before
    assert bp.get_num_threads() == free
with threadpoolctl.threadpool_limits(2, user_api="openmp"):
    assert (bp.get_num_threads(), _native.resolve_threads(4)) == (2, 2)
net.fit(x, y, batch_size=600, threads=3)
print(free, tasks() - before)
"""


def test_threadpoolctl_limits_the_threads_however_many_are_asked_for():
    """And the two threads more that come afterwards show that any would have been seen before."""
    assert run(LIMITED, OMP_NUM_THREADS="3", FASTBP_NUM_THREADS=None) == "3 2\n"
    assert run(LIMITED, OMP_NUM_THREADS="3", FASTBP_NUM_THREADS="4") == "4 2\n"


LOWERED = """
import ctypes
ctypes.CDLL({runtime!r}).omp_set_num_threads(1)
import fastbp, threading
print(fastbp.get_num_threads())
thread = threading.Thread(target=lambda: print(fastbp.get_num_threads()))
thread.start()
thread.join()
"""


def test_a_limit_set_by_whoever_shares_the_runtime_counts_before_the_import_too_and_in_its_python_thread():
    [runtime] = (info["filepath"] for info in threadpool_info() if info["user_api"] == "openmp")
    program = LOWERED.format(runtime=runtime)
    assert run(program, OMP_NUM_THREADS="3", FASTBP_NUM_THREADS="2") == "1\n2\n"


RUNTIMES = """
import numpy, threadpoolctl
before = threadpoolctl.threadpool_info()
import fastbp
new = [info for info in threadpoolctl.threadpool_info() if info not in before]
print(*((info["user_api"], info["num_threads"]) for info in new))
"""


def test_threadpoolctl_sees_the_openmp_runtime_of_the_core():
    assert run(RUNTIMES, OMP_NUM_THREADS="3") == "('openmp', 3)\n"


def test_the_clock_adds_up_what_each_thread_took_and_changes_no_bit():
    x, y = bp.datasets.load_digits()
    nets = [bp.Network(bp.mlp([64, 128, 10], output="softmax"), loss="cross_entropy") for _ in range(2)]
    clock = nets[1]._learner.clock = np.zeros((2, _native.BUILD["clock"]))
    nets[0].fit(x, y, epochs=2, batch_size=64, threads=2)
    start = time.perf_counter()
    nets[1].fit(x, y, epochs=2, batch_size=64, threads=2)
    took = time.perf_counter() - start
    laps = clock[: 2 if _native.BUILD["openmp"] else 1, : len(_native.CLOCK_FIELDS)]
    assert (laps > 0.0).all()
    assert (laps.sum(axis=1) < took).all()
    assert same_bits(nets[0].parameters, nets[1].parameters)


def test_a_clock_without_a_row_for_each_thread_is_refused():
    net = bp.Network(bp.mlp([64, 128, 10], output="softmax"), loss="cross_entropy")
    x, y = bp.datasets.load_digits()
    net.fit(x, y, batch_size=64, threads=2)
    for shape in ((0, _native.BUILD["clock"]), (2, _native.BUILD["clock"] - 1)):
        net._learner.clock = np.zeros(shape)
        with pytest.raises(ValueError, match=rf"clock is {shape[0]} x {shape[1]}, expected"):
            net.fit(x, y, epochs=2, batch_size=64, threads=2)


class CrowdedCore:
    """A core whose teams break up after three batches, as they do where others keep the processors busy."""

    def __init__(self, core, batch_size):
        self.core, self.batch_size, self.threads = core, batch_size, []

    def __getattr__(self, name):
        return getattr(self.core, name)

    def train(self, *arguments):
        *before, order, step, losses, threads, clock = arguments
        self.threads.append(threads)
        if threads == 1:
            return self.core.train(*arguments)
        done, _ = self.core.train(*before, order[: 3 * self.batch_size], step, losses, threads, clock)
        return done, done == 3


def test_what_a_team_left_when_it_broke_up_is_trained_on_one_thread_to_the_same_bits():
    x = np.random.default_rng(0).normal(size=(1000, 64)).astype(np.float32)
    y = x[:, :10].argmax(axis=1)
    nets = [bp.Network(bp.mlp([64, 128, 10], output="softmax"), loss="cross_entropy") for _ in range(2)]
    crowded = nets[1]._learner.native = CrowdedCore(nets[1]._learner.native, 96)
    histories = [net.fit(x, y, epochs=3, batch_size=96, threads=2) for net in nets]
    assert histories[0].loss == histories[1].loss
    assert same_bits(nets[0].parameters, nets[1].parameters)
    assert nets[0].steps == nets[1].steps == 33
    assert crowded.threads[:3] == [2, 2, 1]  # the first call is short


@pytest.mark.parametrize("late", [0, 2])
def test_a_loss_that_is_not_finite_ends_the_training_of_a_team_that_is_kept_waiting(late):
    """The row is found in the first batch, or in what a team left when it broke up."""
    x = np.random.default_rng(0).normal(size=(1000, 64)).astype(np.float32)
    y = x[:, :10].argmax(axis=1)
    x[96 * (3 * late) + 5, 7] = np.nan
    net = bp.Network(bp.mlp([64, 128, 10], output="softmax"), loss="cross_entropy")
    net._learner.native = CrowdedCore(net._learner.native, 96)
    before = net.parameters.copy()
    with pytest.raises(ValueError, match=rf"^x\[{96 * (3 * late) + 5}, 7\] is nan"):
        net.fit(x, y, epochs=3, batch_size=96, threads=2, shuffle=False)
    assert same_bits(net.parameters, before)
    assert net.steps == 0


# Python without the global interpreter lock

if sysconfig.get_config_var("Py_GIL_DISABLED"):

    def test_importing_leaves_the_global_interpreter_lock_off():
        assert run("import fastbp, sys; print(sys._is_gil_enabled())", PYTHON_GIL=None) == "False\n"
