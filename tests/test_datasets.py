"""The handwritten digits that come with the package."""

from __future__ import annotations

import numpy as np

from fastbp import datasets

# Images of each digit in the test part of the UCI data set, and all grey values added up, 0 to 16 each.
COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
INK = 561_718


def test_the_digits_have_the_documented_shape_range_and_type():
    x, y = datasets.load_digits()
    assert x.shape == (1797, 64)
    assert x.dtype == np.float32
    assert y.shape == (1797,)
    assert y.dtype == np.int64
    assert x.min() == 0.0
    assert x.max() == 1.0
    assert np.array_equal(x * 16, np.round(x * 16))


def test_the_digits_are_those_of_the_source():
    x, y = datasets.load_digits()
    assert np.bincount(y).tolist() == COUNTS
    assert int((x.astype(np.float64) * 16).sum()) == INK
    assert y[:10].tolist() == list(range(10))
    assert (x[0, :8] * 16).tolist() == [0, 0, 5, 13, 9, 1, 0, 0]


def test_every_call_gives_arrays_of_its_own():
    x, _ = datasets.load_digits()
    x[...] = 0.0
    assert datasets.load_digits()[0].any()
