"""Data sets with column after column: where a fit copies them, once, and where they stay as they are."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from axes import same_bits
from cases import CASES

import fastbp as bp
from fastbp import _check

ROWS = 45


def in_a_file(values, path):
    """The same numbers and strides in a memory map."""
    mapped = np.memmap(path, values.dtype, "w+", shape=values.T.shape)
    mapped[:] = values.T
    return mapped.T


ARRANGEMENTS = {
    "columns one after the other": (np.asfortranarray, True),
    "every second column": (lambda x: np.repeat(x, 2, axis=1)[:, ::2], False),
    "rows one after the other": (np.array, False),
    "every second row": (lambda x: np.repeat(x, 2, axis=0)[::2], False),
    "backwards": (lambda x: x[:, ::-1].copy()[:, ::-1], False),
    "columns backwards": (lambda x: np.asfortranarray(x)[:, ::-1], True),
    "columns of swapped bytes": (lambda x: np.asfortranarray(x.astype(">i4")), True),
    "lines apart, but row after row": (lambda x: np.repeat(x[:30_000], 64, axis=1)[:, ::64], False),
    "one row again and again": (lambda x: np.broadcast_to(x[0], x.shape), False),
    "one row of lines again and again": (lambda x: np.broadcast_to(x.ravel()[:4096:64], x.shape), False),
    "windows of one column": (
        lambda x: np.lib.stride_tricks.sliding_window_view(np.repeat(x[:, 0], 64)[::64], 64),
        False,
    ),
}


@pytest.mark.parametrize(("arrange", "copies"), ARRANGEMENTS.values(), ids=ARRANGEMENTS)
def test_a_data_set_is_copied_where_the_numbers_of_a_row_lie_far_apart_and_nowhere_else(arrange, copies):
    rng = np.random.default_rng(6)
    x = arrange(rng.integers(0, 256, (50_000, 64)).astype(np.uint8))
    y = rng.integers(0, 10, len(x))
    net, plain = (CASES["digits"].network("float32") for _ in range(2))
    tracemalloc.start()
    net.fit(x, y, batch_size=200)
    net.evaluate(x, y)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (x.nbytes < peak) == copies
    assert kept < x.nbytes
    plain.fit(x.tolist(), y, batch_size=200)
    assert same_bits(net.parameters, plain.parameters)


def test_what_is_small_or_mapped_or_a_single_column_stays_where_it_is(tmp_path):
    x = np.asfortranarray(np.random.default_rng(7).normal(size=(5000, 64)))
    mapped = in_a_file(x, tmp_path / "x")
    by_hand = np.frombuffer(mapped._mmap, x.dtype).reshape(64, 5000).T
    column = np.zeros((200_000, 2), order="F")[:, :1]
    for stays in (x[:2000], column, mapped, np.asarray(mapped)[::2], by_hand):
        assert _check.rows_together(stays) is stays
    for read in (x, mapped.copy("F"), np.asarray(mapped.astype(np.float64, order="F"))):
        assert _check.rows_together(read).flags.c_contiguous
        assert same_bits(_check.rows_together(read), np.ascontiguousarray(x))


def test_an_array_stays_where_it_is_if_its_copy_would_take_much_memory_or_cannot_be_had(monkeypatch):
    x = np.zeros((5000, 64), order="F")

    def refuse(array):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(_check, "_machine_memory", lambda: 8 * x.nbytes - 1)
        assert _check.rows_together(x) is x
    monkeypatch.setattr(np, "ascontiguousarray", refuse)
    assert _check.rows_together(x) is x


@pytest.mark.parametrize(
    ("epochs", "shuffle", "copied"), [(0, True, 0), (1, True, 2), (1, False, 0), (2, False, 2)]
)
def test_x_and_y_are_copied_where_their_rows_are_taken_at_random_or_again(
    monkeypatch, epochs, shuffle, copied
):
    seen = []
    monkeypatch.setattr(_check, "rows_together", lambda array: seen.append(array) or array)
    x, y = CASES["relu"].data(np.random.default_rng(5), ROWS)
    CASES["relu"].network("float32").fit(x, y, epochs=epochs, shuffle=shuffle)
    assert len(seen) == copied
    seen.clear()
    bp.Network(bp.mlp([x.shape[1], 3, x.shape[1]])).fit(x, x, epochs=epochs, shuffle=shuffle)
    assert len(seen) == copied // 2  # one array is copied once


@pytest.mark.parametrize(
    ("name", "text", "bytes_"),
    [
        ("memory.max", "4096\n", 4096),
        ("memory.max", "max\n", 2**63),
        ("memory.max", "", 2**63),
        ("memory/memory.limit_in_bytes", "8192\n", 8192),
    ],
)
def test_the_memory_of_a_container_is_read(tmp_path, name, text, bytes_):
    (tmp_path / "memory").mkdir()
    (tmp_path / name).write_text(text)
    assert _check.container_memory(str(tmp_path)) == bytes_
