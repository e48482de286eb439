"""Lower a list of layers to the arrays the core runs from: stages, offsets, sizes, threads.

A stage is a dense layer with the activation after it, or an activation alone.  Every size is known here,
before the core is entered: the workspace of a training step or of an evaluation is one array, and each of its
parts an offset.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import _native
from fastbp.activations import Activation
from fastbp.architectures import widths
from fastbp.layers import Dense, Layer

LINE: int = _native.BUILD["line"]  # elements: padded rows are whole vectors at every level
ALIASING = 2048  # bytes: rows this far apart fall into the same few sets of the first-level cache
BLOCK_BYTES = 256 * 1024  # of A and dZ: what goes through phase 1 together stays in a second-level cache
BLOCK_ROWS = 32  # at least: fewer and each panel of W is fetched for too little work
RESIDENT_BYTES = 384 * 1024  # weights up to this size stay in a second-level cache from block to block
# A tall batch is cut into partial gradients, their number a power of two: enough for the threads of many
# processors, or few where a part is worth no more than one thread; together of at most MOST_ROOM times the
# bytes of X with every A and dZ.  A part has at least PART_ROWS rows where the parameters are of at most
# FEW_BYTES, which cost little to sum up, and else LARGE_PART_ROWS, in blocks of as many.
SMALL_PARTIALS, FEWEST_PARTIALS, MOST_PARTIALS, MOST_ROOM = 2, 8, 32, 2
FEW_BYTES, PART_ROWS, LARGE_PART_ROWS = 64 * 1024, 128, 256
# Rows of an evaluation that go through the layers together: more where they share the packing of a matrix.
EVALUATION_BLOCK, PACKED_EVALUATION_BLOCK = 64, 256
IN_PYTHON = -1  # the kind of a stage that the core does not know
STATE_FLOPS = 16  # that take as long as the update of a number of optimiser state, roughly; Adam keeps two
PYTHON_FLOPS = 100  # an element that such a stage gives: it decides on slices and threads, roughly


@dataclass(frozen=True)
class Space:
    """A workspace: one array, of which each part is at an offset."""

    count: int  # elements of the array
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Bytes of the array, there or not."""
        return self.count * self.dtype.itemsize

    @cached_property
    def array(self) -> NDArray[Any]:
        """Taken when it is first asked for."""
        return aligned_zeros(self.count, self.dtype)


@dataclass(frozen=True)
class TrainingSpace(Space):
    """What a step needs beside the network: stages with their places, and the layout of the rest."""

    table: NDArray[np.int64]
    layout: dict[str, int]


@dataclass(frozen=True)
class EvaluationSpace(Space):
    """What an evaluation needs: width and rows of a thread's blocks, and its scratch."""

    width: int
    block: int
    packed: int


@dataclass(frozen=True)
class Plan:
    """A network in the core's terms.

    Attributes
    ----------
    stages : list of dict
        The fields of each stage by name, but for its places in a workspace.
    slices : list of dict
        For each layer, by name, the place in the flat vector and the shape of each parameter.
    flops_per_row : int
        Of the forward and backward pass: the sum of 2 in x out x (3, first layer 2).
    """

    dtype: np.dtype[Any]
    stages: list[dict[str, int]]
    slices: list[dict[str, tuple[slice, tuple[int, ...]]]]
    in_features: int
    out_features: int
    parameter_count: int
    flops_per_row: int

    @cached_property
    def table(self) -> NDArray[np.int64]:
        """`stages` as the core takes them, with every place in a workspace 0."""
        return _table(self.stages)

    @cached_property
    def outputs(self) -> list[int]:
        """Columns that each stage gives."""
        return [stage["outputs"] for stage in self.stages]

    def step_flops(self, batch_size: int, updated: int = 0) -> int:
        """Flops of one training step, and as many as take as long as updating so much optimiser state."""
        return batch_size * self.flops_per_row + STATE_FLOPS * updated

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of x with every A and dZ."""
        return self.dtype.itemsize * (self.in_features + 2 * sum(self.outputs))

    def evaluation_flops(self, rows: int) -> int:
        """Flops of a forward pass, or somewhat less: a third of a step's, though the first layer has half."""
        return rows * self.flops_per_row // 3

    def training_threads(self, batch_size: int, cap: int, updated: int = 0) -> int:
        """How many threads a step is worth, at most cap: a function of shapes, never of the clock."""
        return _native.worthwhile_threads(cap, self.step_flops(batch_size, updated))

    def shared_rows(self, updated: int = 0) -> int:
        """The fewest rows that make a step worth a second thread."""
        return max(0, -(-(2 * _native.FLOPS_PER_THREAD - STATE_FLOPS * updated) // self.flops_per_row))

    def evaluation_threads(self, rows: int, cap: int) -> int:
        """How many threads an evaluation of so many rows is worth, at most cap."""
        return min(rows, _native.worthwhile_threads(cap, self.evaluation_flops(rows)))

    def training_space(
        self, batch_size: int, target_columns: int, threads: int, *, halved: bool = False
    ) -> TrainingSpace:
        """Lay out a step's workspace: X, targets, each A and dZ, losses, scratch, partials.

        halved: of a step in two halves, where all rows of a batch have their places at once and targets none.
        """
        offsets = _Offsets()
        input_row = self._padded(self.in_features)
        partials = self._partials(batch_size)
        block = self._block(batch_size, partials)
        rows = threads * block if partials and not halved else batch_size  # that have their place at a time
        buffers = 1 if halved else 2  # for X, that of the next batch is gathered meanwhile
        layout = {"input": offsets.take(buffers * rows * input_row), "input_row": input_row}
        layout["block"], layout["faults"] = block, offsets.take(rows)
        scored = 0 if halved else rows
        layout["target"] = offsets.take(scored * target_columns)
        stages = []
        for stage in self.stages:
            row = self._padded(stage["outputs"])
            output, delta = offsets.take(rows * row), offsets.take(rows * row)
            stages.append({**stage, "row": row, "output": output, "delta": delta})
        table = _table(stages)
        layout["values"] = offsets.take(0 if halved else self._float64(batch_size))
        layout["sums"] = offsets.take(scored)
        together = block if partials else batch_size  # rows that a product of phase 2 sums over
        layout["scratch_row"] = _native.BUILD["strip"] + self._packing(table, together)
        layout["scratch"] = offsets.take(threads * layout["scratch_row"])
        layout["partials"], layout["partial_row"] = partials, -(-self.parameter_count // LINE) * LINE
        layout["partial"] = offsets.take(partials * layout["partial_row"])
        return TrainingSpace(offsets.total, self.dtype, table, layout)

    def evaluation_space(self, rows: int, target_columns: int, threads: int) -> EvaluationSpace:
        """Lay out the workspace of an evaluation: for each thread two blocks of rows, targets, scratch."""
        width = self._padded(max(self.in_features, *self.outputs))
        block = min(-(-rows // threads), PACKED_EVALUATION_BLOCK if self._packs() else EVALUATION_BLOCK)
        packed = self._packing(self.table, block)
        blocks = -(-block * (2 * width + target_columns + 1) // LINE) * LINE
        size = threads * (blocks + packed) + self._float64(rows)
        return EvaluationSpace(size, self.dtype, width, block, packed)

    def _packs(self) -> bool:
        """Whether panels of any layer's weights are copied together before use, as the core says."""
        scratch, like = _native.kernels(self.dtype).layer_scratch, np.empty(1, self.dtype)
        return any(
            stage["kind"] == _native.STAGE_KINDS["dense"]
            and scratch(like, stage["inputs"], stage["outputs"], 1, False, 1) > 0
            for stage in self.stages
        )

    def _packing(self, table: NDArray[np.int64], rows: int) -> int:
        """Elements that each thread packs matrices into, as the core says."""
        size: int = _native.kernels(self.dtype).packing(table, np.empty(1, self.dtype), rows)
        return size

    def _float64(self, count: int) -> int:
        """Elements that so many float64 numbers take."""
        return count * 8 // self.dtype.itemsize

    def _padded(self, columns: int) -> int:
        """Elements from one row to the next: whole vectors, at no distance bad for the caches."""
        row = -(-columns // LINE) * LINE
        return row + LINE if row * self.dtype.itemsize % ALIASING == 0 else row

    def _partials(self, batch_size: int) -> int:
        """How many partial gradients a batch's is the sum of; 0 where it is formed whole."""
        size = self.parameter_count * self.dtype.itemsize
        rows = PART_ROWS if size <= FEW_BYTES else LARGE_PART_ROWS
        fewest = SMALL_PARTIALS if self.training_threads(rows, 2) == 1 else FEWEST_PARTIALS
        parts = min(batch_size // rows, MOST_PARTIALS, MOST_ROOM * batch_size * self.row_bytes // size)
        return 1 << parts.bit_length() - 1 if parts >= fewest else 0

    def _block(self, batch_size: int, partials: int) -> int:
        """Rows that go through phase 1 together: few, unless the weights would not stay in the cache."""
        part = -(-batch_size // max(partials, 1))
        if self.parameter_count * self.dtype.itemsize > RESIDENT_BYTES:
            return min(part, LARGE_PART_ROWS) if partials else part
        row = self._padded(self.in_features) + 2 * sum(map(self._padded, self.outputs))
        return min(part, max(BLOCK_ROWS, BLOCK_BYTES // (row * self.dtype.itemsize)))


class _Offsets:
    """Hands out one array part by part, each on a vector's boundary."""

    def __init__(self) -> None:
        self.total = 0

    def take(self, size: int) -> int:
        start = self.total
        self.total += -(-size // LINE) * LINE
        return start


def aligned_zeros(count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A zeroed array that starts on a cache line; NumPy promises 16 bytes only."""
    line = 64
    raw = np.zeros(count * dtype.itemsize + line, dtype=np.uint8)
    start = -raw.ctypes.data % line
    array: NDArray[Any] = raw[start : start + count * dtype.itemsize].view(dtype)
    return array


def lower(layers: Sequence[Layer], dtype: np.dtype[Any]) -> Plan:
    """Lower layers that fit each other to a plan.

    A layer that runs in Python is a stage of the kind `IN_PYTHON`, which has sizes and never meets the core.
    """
    stages: list[dict[str, int]] = []
    slices: list[dict[str, tuple[slice, tuple[int, ...]]]] = []
    count = 0
    columns = widths(layers)
    kinds = _native.STAGE_KINDS
    propagates = 0  # whether a layer before has parameters
    for layer, inputs, outputs in zip(layers, columns[:-1], columns[1:], strict=True):
        places = {}
        for name, shape in layer._shapes().items():
            end = count + math.prod(shape)
            places[name] = slice(count, end), shape
            count = end
        slices.append(places)
        stage = {"inputs": inputs, "outputs": outputs, "propagates": propagates, "kind": IN_PYTHON}
        if isinstance(layer, Dense):
            stage |= {name: place.start for name, (place, _) in places.items()}
            stage |= {"kind": kinds["dense"], "activation": _native.ACTIVATIONS["identity"]}
        elif isinstance(layer, Activation):
            code = _native.ACTIVATIONS[layer.name]
            if stages and _takes_activation(stages[-1]):
                stages[-1]["activation"] = code
                continue
            stage |= {"kind": kinds["elementwise"], "activation": code}
        stages.append(stage)
        propagates |= bool(places)
    products = [stage["inputs"] * stage["outputs"] for stage in stages if stage["kind"] == kinds["dense"]]
    flops = 2 * (3 * sum(products) - sum(products[:1]))
    flops += PYTHON_FLOPS * sum(stage["outputs"] for stage in stages if stage["kind"] == IN_PYTHON)
    return Plan(dtype, stages, slices, columns[0], columns[-1], count, flops)


def _takes_activation(stage: dict[str, int]) -> bool:
    """Whether the activation behind a stage can become part of it: a dense layer without one."""
    dense = stage["kind"] == _native.STAGE_KINDS["dense"]
    return dense and stage["activation"] == _native.ACTIVATIONS["identity"]


def _table(stages: list[dict[str, int]]) -> NDArray[np.int64]:
    """One row a stage, in the order of the core's ``STAGE_FIELDS``; what a stage does not have is 0."""
    fields = _native.STAGE_FIELDS
    table = np.array([[stage.get(name, 0) for name in fields] for stage in stages], dtype=np.int64)
    table.flags.writeable = False
    return table
