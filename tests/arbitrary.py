"""Whatever a caller may bring: random networks, and data of every dtype and layout."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from cases import ACTIVATIONS, LOSSES, Case
from numpy.typing import NDArray

import fastbp as bp
from fastbp import initializers

Array = NDArray[Any]
Rng = np.random.Generator

SIZES = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49)  # around the vectors and tiles of every level
WORK = 20_000_000  # rows times parameters: a case takes some milliseconds, rarely a tenth of a second
WHOLE = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
REAL = ("float16", "float32", "float64")


def pick(rng: Rng, values: Any) -> Any:
    """One of some things, as it is."""
    values = list(values)
    return values[int(rng.integers(len(values)))]


def chance(rng: Rng, probability: float) -> bool:
    return bool(rng.random() < probability)


def size(rng: Rng, largest: int = 300) -> int:
    return int(rng.integers(1, largest + 1)) if chance(rng, 0.15) else min(largest, pick(rng, SIZES))


def case(rng: Rng) -> Case:
    """A network with a loss that fits it: activations before, between, in a row, or none."""
    widths = [size(rng) for _ in range(int(rng.integers(2, 6)))]
    loss = pick(rng, LOSSES)
    if loss == "cross_entropy":
        widths[-1] = max(2, widths[-1])
    description: list[Any] = []
    for shape in itertools.pairwise(widths):
        description += [pick(rng, ACTIVATIONS) for _ in range(pick(rng, (0, 1, 1, 1, 1, 2)))]
        description.append(shape)
    last = {"bce": "sigmoid", "cross_entropy": "softmax"}.get(loss)
    description += [last] if last else [pick(rng, ACTIVATIONS)] * int(chance(rng, 0.7))
    return Case(tuple(description), loss, pick(rng, ("mean", "sum")))


@dataclass(frozen=True)
class Falling:
    """A learning rate that falls with the epoch; pickle finds it, as it would not a lambda."""

    start: float

    def __call__(self, epoch: int) -> float:
        return self.start / (1 + epoch)


def optimizer(rng: Rng) -> bp.Optimizer:
    lr: Any = pick(rng, (0.0, 1e-4, 0.01, 0.01, 0.1, 1, np.float32(0.5), 100.0))
    if chance(rng, 0.2):
        lr = Falling(float(lr))
    momentum = pick(rng, (0.0, 0.5, 0.9))
    if chance(rng, 0.5):
        return bp.SGD(lr, momentum, nesterov=momentum > 0 and chance(rng, 0.5))
    return bp.Adam(
        lr, pick(rng, (0.0, 0.8, 0.9)), pick(rng, (0.0, 0.99, 0.999)), pick(rng, (1e-8, 1e-4, 1e-37))
    )


def network(rng: Rng, case: Case) -> bp.Network:
    layers: list[bp.Layer] = []
    for entry in case.description:
        if isinstance(entry, str):
            layers.append(ACTIVATIONS[entry]())
        else:
            start = pick(rng, (None, None, *initializers.NAMES))
            layers.append(bp.Dense(*entry, weight=start, bias=pick(rng, initializers.NAMES)))
    loss, seed = LOSSES[case.loss](case.reduction), int(rng.integers(2**63))
    dtype = pick(rng, ("float32", "float64", np.float32, np.dtype("float64")))
    net = bp.Network(layers, loss, optimizer(rng), dtype=dtype, seed=seed)
    if chance(rng, 0.1):
        net.parameters[:] *= pick(rng, (1e4, 1e20, 1e-30))
    return net


# Data


@dataclass
class Data:
    """Numbers as a caller brings them, and the same in a plain array."""

    given: Any
    ordinary: bool  # of a size at which the float64 reference can be followed

    def __post_init__(self) -> None:
        array = np.asarray(self.given)
        self.plain: Array = np.array(array, array.dtype.newbyteorder("="), order="C")

    @property
    def untouched(self) -> bool:
        array = np.asarray(self.given)
        return array.astype(self.plain.dtype).tobytes() == self.plain.tobytes()


class Frame:
    """Something that is no array and can be made one, as a data frame can."""

    def __init__(self, values: Array) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self.values if dtype is None else self.values.astype(dtype)


def every_kth(rng: Rng, values: Array) -> Array:
    """A view into a larger array, some axes of it backwards."""
    steps = [pick(rng, (-3, -2, -1, 1, 2, 3)) for _ in values.shape]
    shape = [count * abs(step) + 2 for count, step in zip(values.shape, steps, strict=True)]
    wide = np.full(shape, 1, values.dtype)
    ends = [slice(1, 1 + count * abs(step)) for count, step in zip(values.shape, steps, strict=True)]
    view = wide[tuple(ends)][tuple(slice(None, None, step) for step in steps)]
    view[...] = values
    return view


def unaligned(rng: Rng, values: Array) -> Array:
    offset = int(rng.integers(1, 8))
    view = np.zeros(values.nbytes + offset, np.uint8)[offset:].view(values.dtype).reshape(values.shape)
    view[...] = values
    return view


def memory_map(rng: Rng, values: Array) -> Array:
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, values.dtype, "w+", offset=int(rng.integers(0, 20)), shape=values.shape)
    mapped[...] = values
    return mapped


def read_only(rng: Rng, values: Array) -> Array:
    values.flags.writeable = False
    return values


LAYOUTS: dict[str, Callable[[Rng, Array], Any]] = {
    "plain": lambda rng, values: values,
    "fortran": lambda rng, values: np.asfortranarray(values),
    "every_kth": every_kth,
    "swapped": lambda rng, values: values.astype(values.dtype.newbyteorder("S")),
    "swapped_every_kth": lambda rng, values: every_kth(rng, values.astype(values.dtype.newbyteorder("S"))),
    "unaligned": unaligned,
    "read_only": read_only,
    "memory_map": memory_map,
    "repeated_row": lambda rng, values: np.broadcast_to(values[:1], values.shape),
    "repeated_column": lambda rng, values: np.broadcast_to(values[..., :1], values.shape),
    "list": lambda rng, values: values.tolist() if values.size < 2000 else values,
    "rows": lambda rng, values: tuple(values) if values.size < 2000 else values,
    "subclass": lambda rng, values: values.view(np.recarray),
    "frame": lambda rng, values: Frame(values),
    "buffer": lambda rng, values: memoryview(values),
}


def arrange(rng: Rng, values: Array, *, ordinary: bool = True, fixed: bool = False) -> Data:
    """In a random layout; ``fixed`` leaves out those that repeat values."""
    layouts = [name for name in LAYOUTS if not (fixed and name.startswith("repeated"))]
    return Data(LAYOUTS[pick(rng, layouts)](rng, values), ordinary)


def numbers(rng: Rng, shape: tuple[int, ...]) -> Data:
    """Real numbers of a random dtype, mostly of ordinary size."""
    kind = pick(rng, WHOLE + REAL * 3)
    if kind in WHOLE:
        info = np.iinfo(kind if kind != "bool" else "u1")
        small = kind in ("bool", "int8", "uint8") or chance(rng, 0.7)
        low, high = (max(info.min, -3), 4) if small else (info.min, info.max)
        values = rng.integers(low, high, shape, info.dtype if kind != "bool" else np.uint8, endpoint=True)
        return arrange(rng, values.astype(kind), ordinary=small)
    scale = pick(rng, (1.0,) * 8 + (1e-6, 1e-42, 1e4, 1e30))
    scale = scale if kind != "float16" else min(scale, 1e4)
    return arrange(rng, np.clip(rng.normal(size=shape), -6, 6).astype(kind) * scale, ordinary=scale <= 1.0)


def targets(rng: Rng, case: Case, rows: int) -> Data:
    """What the loss of a network compares with, in every form that it takes."""
    outputs = case.widths[-1]
    shape = (rows,) if outputs == 1 and chance(rng, 0.5) else (rows, outputs)
    if case.loss in ("mse", "mae"):
        return numbers(rng, shape)
    if case.loss == "bce":
        kind = pick(rng, WHOLE + REAL)
        values = rng.integers(0, 2, shape) if kind in WHOLE else rng.random(shape)
        return arrange(rng, values.astype(kind))
    labels = rng.integers(0, min(outputs, 128), rows)
    if chance(rng, 0.6):
        return arrange(rng, labels.astype(pick(rng, WHOLE[outputs > 2 :] + REAL)))  # bool for two classes
    if chance(rng, 0.5):
        return arrange(rng, np.eye(outputs, dtype=pick(rng, WHOLE + REAL))[labels], fixed=True)
    return arrange(rng, rng.dirichlet(np.ones(outputs), rows).astype(pick(rng, REAL[1:])), fixed=True)
