"""A whole program that trains, once for each library: what a user of it would write, in a process of its own.

It is given to ``python -c`` as text and imports nothing but NumPy and the library that it is to use, so that
no library pays for another.  ``processes.py`` starts it and reads the numbers that it prints.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import signal
import sys
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Rows = slice | Array


class Fastbp:
    """fastbp."""

    def __init__(self, sizes: list[int]) -> None:
        import fastbp as bp

        layers = bp.mlp(sizes, activation="relu", output="softmax")
        self.net: Any = bp.Network(layers, loss="cross_entropy", optimizer=bp.Adam(lr=1e-3))

    def train(self, x: Array, y: Array, epochs: int, batch_size: int) -> None:
        self.net.fit(x, y, epochs=epochs, batch_size=batch_size, verbose=False)

    def predict(self, x: Array) -> Array:
        classes: Array = self.net.predict(x).argmax(axis=1)
        return classes


class Torch:
    """PyTorch: fused optimiser, rows gathered a batch at a time."""

    def __init__(self, sizes: list[int]) -> None:
        import torch

        self.torch = torch
        layers: list[Any] = []
        for inputs, outputs in pairwise(sizes):
            layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
        self.model: Any = torch.nn.Sequential(*layers[:-1])
        self.optimizer: Any = torch.optim.Adam(self.model.parameters(), lr=1e-3, fused=True)
        self.loss: Any = torch.nn.CrossEntropyLoss()

    def train(self, x: Array, y: Array, epochs: int, batch_size: int) -> None:
        inputs, labels = self.torch.from_numpy(x), self.torch.from_numpy(y)
        for _ in range(epochs):
            for rows in self.torch.randperm(len(x)).split(batch_size):
                self.optimizer.zero_grad()
                self.loss(self.model(inputs[rows]), labels[rows]).backward()
                self.optimizer.step()

    def predict(self, x: Array) -> Array:
        with self.torch.inference_mode():
            classes: Array = self.model(self.torch.from_numpy(x)).argmax(dim=1).numpy()
        return classes


class Jax:
    """JAX: an epoch of whole batches in one jit of a scan, rows gathered a batch at a time."""

    def __init__(self, sizes: list[int]) -> None:
        import jax

        self.jax: Any = jax
        rng = np.random.default_rng(0)
        layers = [
            (rng.standard_normal((i, o), dtype=np.float32) * (2 / i) ** 0.5, np.zeros(o, np.float32))
            for i, o in pairwise(sizes)
        ]
        zeros = jax.tree.map(np.zeros_like, layers)
        self.state: Any = (layers, zeros, zeros, np.float32(0))
        self.run_epoch = jax.jit(self._epoch)
        self.rng = rng

    def train(self, x: Array, y: Array, epochs: int, batch_size: int) -> None:
        steps = len(x) // batch_size
        inputs, labels = self.jax.numpy.asarray(x), self.jax.numpy.asarray(y)
        for _ in range(epochs):
            order = self.rng.permutation(len(x))[: steps * batch_size].reshape(steps, batch_size)
            self.state = self.run_epoch(self.state, inputs, labels, order)
        self.jax.block_until_ready(self.state)

    def predict(self, x: Array) -> Array:
        return np.asarray(self._logits(self.state[0], x).argmax(axis=1))

    def _logits(self, layers: Any, x: Any) -> Any:
        for weight, bias in layers[:-1]:
            x = self.jax.nn.relu(x @ weight + bias)
        return x @ layers[-1][0] + layers[-1][1]

    def _loss(self, layers: Any, x: Any, y: Any) -> Any:
        logarithms = self.jax.nn.log_softmax(self._logits(layers, x))
        return -self.jax.numpy.take_along_axis(logarithms, y[:, None], axis=1).mean()

    def _epoch(self, state: Any, x: Any, y: Any, order: Any) -> Any:
        def step(state: Any, rows: Any) -> Any:
            tree = self.jax.tree.map
            layers, m, v, count = state
            gradients = self.jax.grad(self._loss)(layers, x[rows], y[rows])
            count = count + 1
            m = tree(lambda m, g: 0.9 * m + 0.1 * g, m, gradients)
            v = tree(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradients)
            rate, root = 1e-3 / (1 - 0.9**count), 1 / (1 - 0.999**count) ** 0.5
            layers = tree(lambda p, m, v: p - rate * m / (v**0.5 * root + 1e-8), layers, m, v)
            return (layers, m, v, count), None

        return self.jax.lax.scan(step, state, order)[0]


class ScikitLearn:
    """scikit-learn."""

    def __init__(self, sizes: list[int]) -> None:
        from sklearn.neural_network import MLPClassifier

        warnings.simplefilter("ignore")  # that so few epochs have not converged
        self.model: Any = MLPClassifier(sizes[1:-1], alpha=0.0, tol=0.0, warm_start=True)

    def train(self, x: Array, y: Array, epochs: int, batch_size: int) -> None:
        options = {"max_iter": epochs, "n_iter_no_change": epochs, "batch_size": batch_size}
        self.model.set_params(**options).fit(x, y)

    def predict(self, x: Array) -> Array:
        classes: Array = self.model.predict(x)
        return classes


LIBRARIES: dict[str, Callable[[list[int]], Any]] = {
    "fastbp": Fastbp,
    "torch": Torch,
    "jax": Jax,
    "sklearn": ScikitLearn,
}


def make_data(samples: int, features: int, classes: int) -> tuple[Array, Array]:
    """Clusters, one a class, made without a second array of their size."""
    rng = np.random.default_rng(0)
    x = np.empty((samples, features), np.float32)
    rng.standard_normal(out=x, dtype=np.float32)
    y = rng.integers(classes, size=samples)
    centres = rng.standard_normal((classes, features), dtype=np.float32)
    part = max(1, 16_384 // features)
    for start in range(0, samples, part):
        x[start : start + part] += centres[y[start : start + part]]
    return x, y


def load_data(source: str, features: int, classes: int) -> tuple[Array, Array]:
    """Digits from an .npz, bytes from a file that is read or mapped, or as many samples as it says."""
    kind, _, rest = source.partition(":")
    if kind == "samples":
        return make_data(int(rest), features, classes)
    if kind == "arrays":
        with np.load(rest) as file:
            return file["x"], file["y"]
    x: Array = np.memmap(rest, np.uint8, "r") if kind == "mapped" else np.fromfile(rest, np.uint8)
    return x.reshape(-1, features), np.load(f"{rest}.npy")


def peak_memory() -> int:
    """Bytes: the most that this process has had in memory so far."""
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))
    except OSError:  # not Linux
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used if sys.platform == "darwin" else used << 10


def forget_peak() -> None:
    """Give back what is free and start the peak anew; where that cannot be had it stays what it was."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # glibc
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:  # Linux
        file.write("5")


def allow_memory(room: int) -> None:
    """Refuse this process more than so many bytes beyond what it holds; mapped files do not count (Linux)."""
    import resource

    with open("/proc/self/status") as file:
        held = next(int(line.split()[1]) << 10 for line in file if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (held + room, held + room))


def train(library: str, source: str, sizes: list[int], epochs: int, batch_size: int, room: int) -> None:
    """Prints the share of mistakes on the first rows, the seconds and the memory that training took.

    Before that a small network is trained, so that code is loaded and threads have their stacks; but not on
    arrays from a file, where it is the whole process that is timed.
    """
    x, y = load_data(source, sizes[0], sizes[-1])
    model = LIBRARIES[library]
    if not source.startswith("arrays"):
        model([sizes[0], 4, sizes[-1]]).train(x[:batch_size].copy(), y[:batch_size], 1, batch_size)
        gc.collect()
        forget_peak()
    if room:
        allow_memory(room)
    before, start = peak_memory(), time.perf_counter()
    trained = model(sizes)
    trained.train(x, y, epochs, batch_size)
    seconds, memory = time.perf_counter() - start, peak_memory() - before
    print(np.mean(trained.predict(x[:1000]) != y[:1000]), seconds, memory)


def first_step(library: str, source: str, sizes: list[int], batch_size: int) -> None:
    """Prints the share of mistakes, and the seconds of the first and of the thousandth call for one step."""
    x, y = load_data(source, sizes[0], sizes[-1])
    model, seconds = LIBRARIES[library](sizes), []
    for _ in range(1000):
        start = time.perf_counter()
        model.train(x[:batch_size], y[:batch_size], 1, batch_size)
        seconds.append(time.perf_counter() - start)
    mistakes = np.mean(model.predict(x[:batch_size]) != y[:batch_size])
    print(mistakes, seconds[0], float(np.median(seconds[-100:])))


def import_library(library: str) -> float:
    """Seconds that importing takes, NumPy being there."""
    start = time.perf_counter()
    if library == "fastbp":
        import fastbp  # noqa: F401
    elif library == "torch":
        import torch  # noqa: F401
    elif library == "jax":
        import jax  # noqa: F401
    else:
        import sklearn.neural_network  # noqa: F401
    return time.perf_counter() - start


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    command, library, *rest = sys.argv[1:]
    if command == "import":
        print(import_library(library))
    else:
        runs: dict[str, Callable[..., None]] = {"train": train, "first": first_step}
        source, sizes, *numbers = rest
        runs[command](library, source, [int(size) for size in sizes.split("-")], *map(int, numbers))
