"""The demo: real handwritten digits, from the choice of the number of epochs to images never seen."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
from numpy.typing import NDArray

import fastbp as bp
from fastbp import _native
from fastbp.datasets import load_digits

TRAINING, VALIDATION = 1_500, 300  # the first images, and the last part of them to choose by
# Width and number of distorted copies were chosen by cross-validation, five blocks of 300 of the first 1,500.
SIZES, COPIES, BATCH_SIZE = (64, 256, 10), 20, 64
EPOCHS_A_LINE, LINES = 4, 5
SEEDS = (1, 2, 3)

Images = NDArray[np.float32]
Labels = NDArray[np.int64]


def demo() -> None:
    """Train on handwritten digits, check the gradients, compare the speed, test on images never seen."""
    x, y = load_digits()
    print(f"{len(x):,} images of 8x8 pixels: UCI Optical Recognition of Handwritten Digits, CC BY 4.0")
    print(f"the first {TRAINING:,} to learn from, each with {COPIES} distorted copies; the rest held out\n")
    net = make_network(seed=0)
    print(f"{net.summary()}\n")
    x_train, y_train = x[:TRAINING], y[:TRAINING]
    epochs = choose_epochs(net, x_train, y_train)

    x_more, y_more = with_distortions(x_train, y_train)
    networks = [make_network(seed) for seed in SEEDS]
    start = time.perf_counter()
    for network in networks:
        network.fit(x_more, y_more, epochs=epochs, batch_size=BATCH_SIZE, verbose=False)
    seconds = time.perf_counter() - start
    rate = len(SEEDS) * epochs * len(x_more) / seconds
    print(f"{len(SEEDS)} networks on all {TRAINING:,}: {seconds:.2f} s, {rate:,.0f} images a second\n")

    print(bp.check_gradients(networks[0], x[:16], y[:16], subset=2_000))
    print(speed_beside_numpy())
    probabilities = np.mean([network.predict(x[TRAINING:]) for network in networks], axis=0)
    accuracy = np.mean(probabilities.argmax(axis=1) == y[TRAINING:])
    print(f"\nheld-out accuracy: {100 * accuracy:.1f} %")


def make_network(seed: int) -> bp.Network:
    """The network of the demo."""
    layers = bp.mlp(SIZES, activation="relu", output="softmax")
    return bp.Network(layers, loss="cross_entropy", optimizer=bp.Adam(lr=1e-3), seed=seed)


def choose_epochs(net: bp.Network, x: Images, y: Labels) -> int:
    """Train on all but the last images, validate on those, and return the number of epochs that did best."""
    x_train, y_train = with_distortions(x[:-VALIDATION], y[:-VALIDATION])
    print(f"learning from the first {len(x) - VALIDATION:,}, validated on the next {VALIDATION}")
    print("epoch    loss  validation loss  accuracy")
    losses = []
    for _ in range(LINES):
        history = net.fit(x_train, y_train, epochs=EPOCHS_A_LINE, batch_size=BATCH_SIZE, verbose=False)
        result = net.evaluate(x[-VALIDATION:], y[-VALIDATION:])
        losses.append(result["loss"])
        accuracy = 100 * result["accuracy"]
        print(f"{net.epochs:5}  {history.loss[-1]:6.4f}  {result['loss']:15.4f}  {accuracy:6.1f} %")
    best = EPOCHS_A_LINE * (1 + int(np.argmin(losses)))
    print(f"the validation loss is lowest after {best} epochs\n")
    return best


def with_distortions(x: Images, y: Labels) -> tuple[Images, Labels]:
    """The images, followed by copies that are a little rotated, scaled, slanted and shifted."""
    rng = np.random.default_rng(0)
    images = np.repeat(x, COPIES, axis=0).reshape(-1, 8, 8)
    count = len(images)
    pixels = np.stack(np.meshgrid(np.arange(8), np.arange(8), indexing="ij"), axis=-1).reshape(64, 2) - 3.5
    matrices = np.eye(2) + rng.uniform(-0.15, 0.15, (count, 2, 2))
    shifts = rng.uniform(-0.7, 0.7, (count, 1, 2))
    # Pixels come from at most 1.3 * 3.5 + 0.7 < 5.5 from the centre: two of paper around the image suffice.
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    source = pixels @ matrices + shifts + 5.5
    corner = source.astype(int)
    offset = source - corner
    copies = np.zeros((count, 64), np.float32)
    for down, right in np.ndindex(2, 2):  # the four pixels around, weighted by how near they are
        weight = np.abs(1 - down - offset[..., 0]) * np.abs(1 - right - offset[..., 1])
        copies += weight * padded[np.arange(count)[:, None], corner[..., 0] + down, corner[..., 1] + right]
    return np.concatenate([x, copies]), np.concatenate([y, np.repeat(y, COPIES)])


def speed_beside_numpy() -> str:
    """What `compare_speed` says in a process where NumPy has as many threads as fastbp."""
    from fastbp.bench.processes import HOME
    from fastbp.bench.timing import process_environment

    threads = _native.resolve_threads(None)
    command = [sys.executable, "-m", "fastbp.demo", str(threads)]
    with process_environment(threads) as environment:
        done = subprocess.run(
            command, env=environment, cwd=HOME, stdout=subprocess.PIPE, text=True, check=True
        )
    return done.stdout.rstrip()


def compare_speed(threads: int) -> str:
    """Time the same training, from the same start and in the same order, beside the NumPy baseline."""
    from fastbp.bench.judging import contenders, measure_problem, new_row
    from fastbp.bench.rows import Effort
    from fastbp.bench.tables import LAYOUTS, plural, quantity, ratio
    from fastbp.bench.workloads import Workload, assemble

    workload = Workload("demo", SIZES, "relu", "cross_entropy", "adam", 1e-3, BATCH_SIZE, steps=64)
    x, y = load_digits()
    x, y = with_distortions(x[: workload.samples // COPIES], y[: workload.samples // COPIES])
    problem = assemble(workload, x[: workload.samples], y[: workload.samples])
    row = new_row("training", problem, threads)
    measure_problem(row, problem, contenders(["numpy"]), Effort(seconds=0.3))
    scale = LAYOUTS["training"].scale
    own, numpy = row.results.values()
    own_time, numpy_time = quantity(own, scale), quantity(numpy, scale)
    return (
        f"on {plural(threads)} a step of {BATCH_SIZE} images takes {own_time} us (minimum / median), "
        f"the same in NumPy {numpy_time} us, {ratio(numpy, own)} times as long"
    )


if __name__ == "__main__":
    print(compare_speed(int(sys.argv[1])))
