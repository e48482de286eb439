"""Children of every kind train after their parent did, without hanging and to the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest
from interpreter import python, run
from threadpoolctl import threadpool_info

import fastbp  # noqa: F401  whose runtime is then there to be found

# Each program is a file, because a spawned process reads it again. A step is worth several threads.
TRAINING = """
import concurrent.futures, hashlib, multiprocessing, os, threading, time
import numpy as np
import fastbp as bp

x, y = bp.datasets.load_digits()

def network(seed=0):
    net = bp.Network(bp.mlp([64, 50, 10], "tanh", "softmax"), "cross_entropy", seed=seed)
    assert net._learner.plan.training_threads(300, 2) == 2
    return net

def digest(*arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()

def train_on(net, data=x):
    net.fit(data, y, epochs=2, batch_size=300, threads=2)
    return digest(net.parameters, net.predict(data, threads=2))

def in_fork(work):
    "Whether work gives True in a child of a fork."
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if work() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def check(tmp_path, program, **environment):
    """Run a program that must end well and print "same": a hang is ended by the time limit of `python`."""
    path = tmp_path / "program.py"
    path.write_text(f'{TRAINING}\nif __name__ == "__main__":\n{program}')
    done = python(str(path), **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "same\n"


POOL = """
    net = network()
    train_on(net)  # on two threads
    children = [net.copy(), net.copy(), net.copy()]
    expected = train_on(net)
    context = multiprocessing.get_context({method!r})
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        trained = list(pool.map(train_on, children))
    print("same" if trained == [expected] * 3 else "different")
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_network_sent_to_a_child_trains_on_to_the_bits_of_its_parent(tmp_path, method):
    check(tmp_path, POOL.format(method=method))


JOBLIB = """
    from joblib import Parallel, delayed
    net = network()
    train_on(net)
    children = [net.copy(), net.copy(), net.copy()]
    expected = train_on(net)
    # with max_nbytes so low the children get x as a read-only memory map, where they are processes
    run = Parallel(n_jobs=2, backend={backend!r}, max_nbytes=1000)
    trained = run(delayed(train_on)(child, x) for child in children)
    print("same" if trained == [expected] * 3 else "different")
"""


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_the_workers_of_joblib_train_to_the_bits_of_their_parent(tmp_path, backend):
    check(tmp_path, JOBLIB.format(backend=backend))


EVERY_CALL = """
    def every_call(net):
        "The bits of everything that a network or a layer computes."
        before = digest(net.forward(x, threads=2), net.backward(np.ones((len(x), 10)), threads=2))
        loss, gradient = net.loss_and_gradient(x, y, threads=2)
        layer = bp.Dense(64, 128, seed=0)
        alone = digest(layer.forward(x, threads=2), layer.backward(np.ones((len(x), 128)), threads=2))
        measured = net.evaluate(x, y, threads=2)
        stepped = net.partial_fit(x, y, threads=2)
        return before, loss, digest(gradient), alone, measured, stepped, train_on(net)

    net = network()
    train_on(net)
    expected = every_call(net.copy())
    print("same" if in_fork(lambda: every_call(net) == expected) else "different")
"""


def test_every_call_works_in_a_child_of_a_fork_on_what_it_inherited(tmp_path):
    check(tmp_path, EVERY_CALL)


FORK_DURING_A_CALL = """
    expected = train_on(network())
    busy = network(seed=1)
    many = np.tile(x, (100, 1)), np.tile(y, 100)  # an epoch is long enough for calls of 50 ms
    options = {"epochs": 10**9, "batch_size": 300, "threads": 2}
    threading.Thread(target=busy.fit, args=many, kwargs=options, daemon=True).start()
    while not busy.steps:
        time.sleep(0.001)
    children = [in_fork(lambda: train_on(network()) == expected) for _ in range(20)]
    print("same" if all(children) else "different", flush=True)
    os._exit(0)
"""


def test_a_fork_while_another_python_thread_is_inside_a_native_call_leaves_a_child_that_trains(tmp_path):
    check(tmp_path, FORK_DURING_A_CALL)


LATE_IMPORT = """
import ctypes, os

def use(openmp):
    openmp.GOMP_parallel(ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None), None, 2, 0)

def train():
    import fastbp as bp
    x, y = bp.datasets.load_digits()
    net = bp.Network(bp.mlp([64, 50, 10], "tanh", "softmax"), "cross_entropy")
    net.fit(x, y, batch_size=600, threads=2)
    print(bp.get_num_threads(), flush=True)

if {runtime!r}:
    use(ctypes.CDLL({runtime!r}, ctypes.{mode}))
if os.fork() == 0:
    train()
    os._exit(0)
os.wait()
"""


def the_runtime(tmp_path):
    [path] = (info["filepath"] for info in threadpool_info() if info["user_api"] == "openmp")
    return path


def another_runtime(tmp_path):
    """As wheels bring it: under a name, inside and out, that nothing else asks for."""
    path = tmp_path / "libgomp-a34b3233.so.1"
    path.write_bytes(Path(the_runtime(tmp_path)).read_bytes().replace(b"libgomp.so.1", b"libgomp-a3.1"))
    return str(path)


@pytest.mark.parametrize(
    ("runtime", "mode", "threads"),
    [
        (lambda tmp_path: "", "RTLD_LOCAL", 3),
        (the_runtime, "RTLD_LOCAL", 1),
        (another_runtime, "RTLD_GLOBAL", 1),  # PyTorch's takes the place of the system's
        (another_runtime, "RTLD_LOCAL", 3),  # scikit-learn's keeps to itself
    ],
    ids=["none", "the same", "another for all", "another of its own"],
)
def test_a_child_that_imports_it_first_has_one_thread_if_its_parent_used_the_runtime_and_all_if_not(
    tmp_path, runtime, mode, threads
):
    program = LATE_IMPORT.format(runtime=runtime(tmp_path), mode=mode)
    assert run(program, FASTBP_NUM_THREADS="3") == f"{threads}\n"


GENERATIONS = """
    expected = train_on(network())

    def spawn():
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            same = pool.submit(train_on, network()).result() == expected
            return same and pool.submit(bp.get_num_threads).result() == 3

    def child():
        own = train_on(network()) == expected and bp.get_num_threads() == 1
        return own and in_fork(lambda: train_on(network()) == expected) and spawn()

    print("same" if in_fork(child) else "different")
"""


def test_a_child_of_a_fork_may_fork_and_what_it_spawns_has_all_its_threads_again(tmp_path):
    check(tmp_path, GENERATIONS, FASTBP_NUM_THREADS="3")
