"""The axes along which the core is tested: level x dtype x threads, and sizes around the register tile."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import DTypeLike, NDArray

from fastbp import _cpu

LEVELS = tuple(_cpu.levels())  # what this processor offers, the lowest first
CORES = {level: importlib.import_module(f"fastbp._core_{level}") for level in LEVELS}
FUSED_LEVELS = tuple(
    level for level in LEVELS if level != "base"
)  # with fused multiply-add: bits agree among them
DTYPES = (np.float32, np.float64)
THREADS = (1, 2, 3, 8)  # more than the machine's cores, and a number that divides nothing

every_core = pytest.mark.parametrize("core", CORES.values(), ids=CORES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=("float32", "float64"))
every_thread_count = pytest.mark.parametrize("threads", THREADS)

# Rows: the tile is up to 8 rows high.  Sums: short, around one tile of 8, and longer than one block.
ROWS = (1, 2, 7, 8, 9, 17)
TERMS = (1, 2, 7, 8, 9, 300)


def columns(dtype: DTypeLike) -> tuple[int, ...]:
    """1, W - 1, W, W + 1 for vectors of 16, 32 and 64 bytes, and around the widest tile of three vectors."""
    lanes = [width // np.dtype(dtype).itemsize for width in (16, 32, 64, 3 * 32, 3 * 64)]
    return tuple(sorted({1} | {lane + step for lane in lanes for step in (-1, 0, 1)}))


class Guarded:
    """An array between two guard bands: `intact` tells whether a kernel wrote outside of it."""

    BAND = 66  # entries: more than four of the widest vectors; aligned to 8 bytes and to no vector
    SENTINEL = 12345.0

    def __init__(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> None:
        size = int(np.prod(shape))
        self.buffer = np.full(size + 2 * self.BAND, self.SENTINEL, dtype)
        if self.buffer.dtype.kind == "f":
            self.buffer[self.BAND : self.BAND + size] = np.nan  # what is left unwritten shows
        self.array: NDArray[Any] = self.buffer[self.BAND : self.BAND + size].reshape(shape)

    @property
    def intact(self) -> bool:
        bands = self.buffer[: self.BAND], self.buffer[-self.BAND :]
        return all(bool((band == self.SENTINEL).all()) for band in bands)


def fenced(values: NDArray[Any]) -> NDArray[Any]:
    """A copy between numbers of no use: a kernel that reads outside of it gives NaN.

    Whole numbers lie between the least of their dtype: no label and, as an index, far from anything.
    """
    useless = np.nan if values.dtype.kind == "f" else np.iinfo(values.dtype).min
    buffer = np.full(values.size + 2 * Guarded.BAND, useless, values.dtype)
    inside = buffer[Guarded.BAND : Guarded.BAND + values.size].reshape(values.shape)
    inside[...] = values
    return inside


def same_bits(first: NDArray[Any], second: NDArray[Any]) -> bool:
    return first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()
