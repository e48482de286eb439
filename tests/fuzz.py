"""Random calls of everything public, against what is promised of all of them.

``python tests/fuzz.py --minutes 1`` tries one random case after the other.  It ends with 1 when one of them
found something, and prints for each finding the command that repeats it, ``python tests/fuzz.py --case N``.
The cases run in a child process, so that a crash or a hang is a finding as well.  What is held:

- A valid call gives the same bits for data in any layout as for their plain copy, and on 1, 2 and 3 threads;
  it changes no input, warns of nothing, leaves finite parameters, and agrees with the float64 reference.
- An invalid call raises ValueError or TypeError with a message that names the argument; it changes no bit of
  the network, which then trains on as if it had not been called.
- A network comes back from its file as it was, and from a damaged one as it was or as a ValueError.
"""

from __future__ import annotations

import argparse
import ast
import copy
import faulthandler
import importlib
import os
import pickle
import re
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import arbitrary
import mistakes
import numpy as np
import reference
import tolerances
from arbitrary import Data, Rng, chance, pick
from cases import ACTIVATIONS, LOSSES, Case

import fastbp as bp
from fastbp import _native, evaluator, initializers, training

HANG_SECONDS = 30.0  # a case takes some milliseconds, rarely half a second; a loaded machine ten times that
MEMORY = 4 << 30  # bytes a case may have: what asks for more meets MemoryError, not the system's patience
MOST_CRASHES = 10

Call = Callable[..., Any]


class Finding(Exception):
    """A promise that was not kept."""


def hold(condition: Any, promise: str) -> None:
    if not condition:
        raise Finding(promise)


def bits(value: Any) -> Any:
    """Everything that a call gave, in a form that compares bit by bit."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "f":
            value = np.where(
                np.isnan(value), value.dtype.type(np.nan), value
            )  # nobody promises the sign of NaN
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, float):
        return (repr(value),)
    if isinstance(value, (tuple, list)):
        return [bits(entry) for entry in value]
    if isinstance(value, dict):
        return {name: bits(entry) for name, entry in value.items()}
    return bits(vars(value)) if isinstance(value, bp.History) else value


def fingerprint(net: bp.Network) -> Any:
    """What a refused call must not change: parameters, the optimiser's state, counts, seed."""
    state = net.__getstate__()
    return bits([state[name] for name in ("parameters", "state", "counts", "seed")])


def outcome(call: Call, *arguments: Any) -> Any:
    """What a valid call gave: its result in bits, or the FloatingPointError that it may end with."""
    try:
        return bits(call(*arguments))
    except FloatingPointError as error:
        return str(error)


def twin(rng: Rng, net: bp.Network) -> bp.Network:
    return pick(rng, (bp.Network.copy, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))))(net)


# Valid calls

CALLS = ("fit", "fit", "partial_fit", "loss_and_gradient", "evaluate", "predict", "backward", "reset")


def valid_call(rng: Rng, rows: int) -> tuple[str, Call]:
    """A call with random options, as a function of network, x, y and threads."""
    name, validated = pick(rng, CALLS), chance(rng, 0.3)
    options = {"epochs": int(rng.integers(4)), "batch_size": pick(rng, (rows, 2**70, arbitrary.size(rng)))}
    options |= {"shuffle": chance(rng, 0.7), "verbose": False}
    seed = pick(rng, (None, 0, 2**63 - 1))

    def call(net: bp.Network, x: Any, y: Any, threads: int) -> Any:
        if name == "fit":
            return net.fit(x, y, validation_data=(x, y) if validated else None, threads=threads, **options)
        if name == "backward":
            output = net.forward(x, threads)
            between = net.predict(x, threads)
            dy = np.clip(np.nan_to_num(output), -1.0, 1.0)
            return output, between, net.backward(dy, threads), net.gradients
        if name == "reset":
            return net.reset(seed), net.parameters
        return getattr(net, name)(x, *(() if name == "predict" else (y,)), threads=threads)

    return name, call


def try_valid_calls(rng: Rng) -> None:
    """The same calls on three networks: plain data on one thread, data in their layout on two and three."""
    case = arbitrary.case(rng)
    nets = [arbitrary.network(rng, case)]
    nets += [twin(rng, nets[0]) for _ in range(2)]
    rows = arbitrary.size(rng, max(1, min(2000, arbitrary.WORK // nets[0].parameters.size)))
    x, y = arbitrary.numbers(rng, (rows, case.widths[0])), arbitrary.targets(rng, case, rows)
    for _ in range(int(rng.integers(1, 5))):
        name, call = valid_call(rng, rows)
        was_finite = np.isfinite(nets[0].parameters).all()
        if name in ("loss_and_gradient", "evaluate") and x.ordinary and y.ordinary:
            compare_with_reference(case, nets[0].copy(), x.plain, y.plain)
        first = outcome(call, nets[0], x.plain, y.plain, 1)
        for net, threads in zip(nets[1:], (2, 3), strict=True):
            alike = outcome(call, net, x.given, y.given, threads) == first
            hold(alike, f"{name}: other bits in another layout or on {threads} threads")
            hold(fingerprint(net) == fingerprint(nets[0]), f"{name}: another network, on {threads} threads")
        hold(x.untouched and y.untouched, f"{name} wrote to its input")
        if was_finite and name != "partial_fit":  # which keeps no copy: the next loss shows what overflowed
            hold(np.isfinite(nets[0].parameters).all(), f"{name} left parameters that are not finite")
        if type(first) is str:
            hold(re.search("loss|update", first) and "try" in first, f"{name}: {first}")


def compare_with_reference(case: Case, net: bp.Network, x: Any, y: Any) -> None:
    """Loss and gradient of the reference, where its numbers stay in a range that the bounds are made for."""
    if case.loss == "cross_entropy" and y.ndim == 1:
        target = reference.one_hot(y.astype(int), case.widths[-1])
    else:
        target = y.astype(net.dtype).astype(np.float64).reshape(len(x), -1)
    x = x.astype(net.dtype).astype(np.float64)
    parameters = net.parameters.astype(np.float64)
    with np.errstate(all="ignore"):
        values = reference.forward(case.description, parameters, x)
        wanted, slopes = reference.loss_and_gradient(
            case.description, case.loss, parameters, x, target, case.reduction
        )
        logarithms = {"bce": [values[-1], 1.0 - values[-1]], "cross_entropy": [values[-1]]}.get(case.loss, [])
        edge = max((np.abs(np.log(part)).max() for part in logarithms), default=0.0)
        largest = np.max([np.abs(value).max() for value in (*values, parameters)])  # NaN when there is one
    if not largest <= 30.0 or not edge <= 10.0:
        return
    entering = [value for value, step in zip(values, case.description, strict=False) if step == "relu"]
    if any(((value != 0.0) & (np.abs(value) < np.finfo(net.dtype).tiny)).any() for value in entering):
        return  # at the kink: what the reference has above 0 is 0 in the network's dtype
    terms = reference.loss_divisor(case.loss, values[-1], "mean") if case.reduction == "sum" else 1
    bound = tolerances.fuzzed(case.widths, len(x), largest, net.dtype) * terms
    if (
        case.loss == "cross_entropy"
    ):  # which takes it that the rows sum to 1: as well as their dtype lets them
        bound += np.abs(target.sum(axis=1) - 1.0).max() * max(edge, largest**2) * terms
    if case.loss == "mae" and np.abs(values[-1] - target).min() <= bound:
        return  # at the kink: rounding decides the sign
    loss, gradient = net.loss_and_gradient(x, y)
    hold(abs(loss - wanted) <= bound, f"the loss is {loss}, the reference's {wanted}, bound {bound:.1e}")
    worst = np.abs(gradient - slopes).max()
    hold(worst <= bound, f"the gradient is {worst:.1e} from the reference's, bound {bound:.1e}")
    total, metric = net.evaluate(x, y).values()
    hold(abs(total - wanted) <= bound, f"evaluate gives the loss {total}, the reference {wanted}")
    output = net.predict(x).astype(np.float64)
    expected = {
        "mse": np.sqrt(((output - target) ** 2).mean()),
        "mae": np.sqrt(((output - target) ** 2).mean()),
        "bce": ((output >= 0.5) == (target >= 0.5)).mean(),
        "cross_entropy": (output.argmax(axis=1) == target.argmax(axis=1)).mean(),
    }[case.loss]
    near = abs(metric - expected) <= tolerances.metric(net.dtype) * max(1.0, expected)
    hold(near, f"evaluate gives the metric {metric}, not {expected}")


def same(call: Call, *data: Data) -> Any:
    """What a call gives, which must have the same bits for data in their layout and for plain ones."""
    result = call(*(one.given for one in data))
    hold(bits(result) == bits(call(*(one.plain for one in data))), f"{call}: other bits in another layout")
    hold(all(one.untouched for one in data), f"{call} wrote to its input")
    return result


def try_parts_alone(rng: Rng) -> None:
    """A layer, a loss, an initializer on their own."""
    rows, inputs, outputs = (arbitrary.size(rng, 70) for _ in range(3))
    dtype, threads = pick(rng, ("float32", "float64")), pick(rng, (1, 2, 3, None))
    kinds = *ACTIVATIONS.values(), lambda: bp.Dense(inputs, outputs, dtype=dtype, seed=3)
    layer = pick(rng, kinds)()
    y = same(lambda x: layer.forward(x, threads), x := arbitrary.numbers(rng, (rows, inputs)))
    dy = arbitrary.numbers(rng, y.shape)
    dx = same(lambda dy: [layer.backward(dy, threads), dict(layer.gradients)], dy)[0]
    hold(bits(dx) == bits(layer.backward(dy.plain, 1)) and dx.shape == x.plain.shape, f"{layer}.backward")

    case = Case(((1, outputs + 1),), pick(rng, LOSSES), pick(rng, ("mean", "sum")))
    loss, target = LOSSES[case.loss](case.reduction), arbitrary.targets(rng, case, rows)
    probabilities = rng.dirichlet(np.ones(outputs + 1), rows).astype(pick(rng, arbitrary.REAL))
    output = arbitrary.arrange(rng, probabilities)
    same(loss.value, output, target)
    same(loss.gradient, output, target)

    start = initializers.NAMES[pick(rng, initializers.NAMES)]()
    drawn = start.draw(np.random.default_rng(0), inputs, outputs, (inputs, outputs))
    hold(drawn.shape == (inputs, outputs) and np.isfinite(drawn).all(), f"{start} drew something odd")
    net = arbitrary.network(rng, arbitrary.case(rng))
    hold(f"{net.parameters.size:,}" in net.summary() and "Network(" in repr(net), "summary or repr")


def try_gradient_check(rng: Rng) -> None:
    """Back propagation agrees with numerical differentiation for smooth networks of ordinary numbers."""
    smooth = pick(rng, ("tanh", "sigmoid", "identity", "softmax"))
    widths = [arbitrary.size(rng, 12) for _ in range(3)]
    description = (widths[0], widths[1]), smooth, (widths[1], widths[2]), "tanh"
    case = Case(description, "mse", pick(rng, ("mean", "sum")))
    net, rows = case.network(pick(rng, ("float32", "float64"))), int(rng.integers(1, 9))
    x, y = rng.normal(size=(rows, widths[0])), rng.normal(size=(rows, widths[2]))
    before = fingerprint(net)
    found = bp.check_gradients(net, x, y, subset=pick(rng, (None, 1, 10**9)), seed=int(rng.integers(99)))
    hold(found.passed, f"{found}")
    hold(fingerprint(net) == before and str(found), "check_gradients changed the network")


# Refused calls


def try_refused_calls(rng: Rng) -> None:
    case = arbitrary.case(rng)
    net, rows = arbitrary.network(rng, case), int(rng.integers(1, 40))
    x, y = rng.normal(size=(rows, case.widths[0])), arbitrary.targets(rng, case, rows).plain
    outcome(net.fit, x, y)
    if any(type(outcome(net.copy().fit, x, y, 1, size)) is str for size in mistakes.BATCH_SIZES):
        return  # it diverges, which may come before a bad row does
    other, before = net.copy(), fingerprint(net)
    for _ in range(6):
        data, descriptions = mistakes.about_data(rng, case, net, x, y), mistakes.about_descriptions(rng, net)
        named, call = pick(rng, pick(rng, (data[:3], data, descriptions)))
        try:
            call()
        except (ValueError, TypeError) as error:
            hold(re.search(named, str(error)), f"{type(error).__name__} does not name {named}: {error}")
        except MemoryError:
            hold(named == "parameters", f"a MemoryError where {named} is wrong")
        else:
            raise Finding(f"a mistake that should name {named} was taken without a word")
        hold(fingerprint(net) == before, f"a refused call, to name {named}, changed the network")
    hold(outcome(net.fit, x, y) == outcome(other.fit, x, y), "another history after refused calls")
    hold(fingerprint(net) == fingerprint(other), "another network after refused calls")


def damage(rng: Rng, whole: bytes) -> bytes:
    """Some bytes lost, repeated or replaced, or all from some place on."""
    first = int(rng.integers(len(whole)))
    last = pick(rng, (len(whole), first + int(rng.integers(1, 9))))
    between = pick(rng, (b"", whole[first:last] * 2, rng.bytes(last - first)))
    return whole[:first] + between + whole[last:]


def try_files(rng: Rng) -> None:
    case = arbitrary.case(rng)
    net = arbitrary.network(rng, case)
    x, y = rng.normal(size=(5, case.widths[0])), arbitrary.targets(rng, case, 5).plain
    outcome(net.fit, x, y)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.npz"
        if callable(net.optimizer.lr):  # a function: it cannot be saved
            try:
                net.save(path)
            except (ValueError, TypeError) as error:
                hold("lr" in str(error), f"save does not name lr: {error}")
                return
        net.save(path)
        back = bp.Network.load(path)
        hold(fingerprint(back) == fingerprint(net), "load gave another network than was saved")
        whole = path.read_bytes()
        for _ in range(10):
            path.write_bytes(damage(rng, whole))
            try:
                damaged = bp.Network.load(path)
            except ValueError:
                continue
            hold(fingerprint(damaged) == fingerprint(net), "a damaged file was loaded as another network")
        hold(outcome(back.fit, x, y) == outcome(net.fit, x, y), "a loaded network trains on to other bits")


TRIALS = [try_valid_calls] * 8 + [try_refused_calls] * 4 + [try_parts_alone] * 2
TRIALS += [try_gradient_check, try_files]


# What decides that a network is small enough for one thread, one part of an evaluation, one snapshot: with 8
# in its place the fuzzer's small networks go the way of large ones.
THRESHOLDS = {
    (module, name): getattr(module, name)
    for module, name in (
        (_native, "FLOPS_PER_THREAD"),
        (evaluator, "EVALUATED_ROWS"),
        (training, "SNAPSHOT_STEPS"),
        (training, "SNAPSHOT_ROWS"),
    )
}


def try_case(number: int) -> str | None:
    """What case ``number`` found, with its place in the code; None when every promise was kept."""
    rng = np.random.default_rng(number)
    for (module, name), usual in THRESHOLDS.items():
        setattr(module, name, pick(rng, (8, usual)))
    trial = pick(rng, TRIALS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            trial(rng)
    except Finding as finding:
        return f"{trial.__name__}: {finding}"
    except Exception:
        return f"{trial.__name__}: an exception that nothing announces\n{traceback.format_exc()}"
    return None


# The child that runs the cases, and the parent that watches it


def serve(first: int, deadline: float) -> None:
    """Case after case, each announced before it starts."""
    if sys.platform == "linux" and "asan" not in os.environ.get("LD_PRELOAD", ""):  # which takes terabytes
        resource = importlib.import_module("resource")
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    number = first
    while time.time() < deadline:
        print(f"case {number}", flush=True)
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        found = try_case(number)
        if found is not None:
            print(f"finding {found!r}", flush=True)
        number += 1
    faulthandler.cancel_dump_traceback_later()
    print("done", flush=True)


def watch(first: int, deadline: float) -> tuple[int, int]:
    """Run a child from case ``first`` on; gives the case after its last, and how many found something."""
    options = ["--case", str(first), "--until", str(deadline)]
    command = [sys.executable, "-X", "faulthandler", __file__, *options]
    findings, number, done = 0, first, False
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout or ():
            word, _, rest = line.rstrip("\n").partition(" ")
            if word == "case":
                number = int(rest)
            elif word == "finding":
                findings += 1
                tell(number, ast.literal_eval(rest))
            done = word == "done"
    if not done:
        findings += 1
        tell(number, f"the process ended with {child.returncode}: a crash, or a hang of {HANG_SECONDS:g} s")
    return number + 1, findings


def tell(number: int, found: str) -> None:
    print(f"FOUND {found}\n  again: python tests/fuzz.py --case {number}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=1.0, help="how long to look; default 1")
    parser.add_argument("--seed", type=int, help="number of the first case; default: from the clock")
    parser.add_argument("--case", type=int, help="try this case alone")
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.until is not None:
        serve(options.case, options.until)
        return 0
    if options.case is not None:
        found = try_case(options.case)
        print(found or f"case {options.case}: every promise kept")
        return int(found is not None)
    start, deadline = time.time(), time.time() + 60.0 * options.minutes
    number = first = time.time_ns() % 10**9 * 1000 if options.seed is None else options.seed
    findings = crashes = 0
    while time.time() < deadline and crashes < MOST_CRASHES:
        number, found = watch(number, deadline)
        findings, crashes = findings + found, crashes + 1
    print(f"{number - first} cases from {first} in {time.time() - start:.0f} s: {findings} findings")
    return int(findings > 0)


if __name__ == "__main__":
    sys.exit(main())
