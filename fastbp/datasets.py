"""The data sets that come with the package."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

_DIGITS = os.path.join(os.path.dirname(__file__), "data", "digits.npz")


def load_digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Handwritten digits: 1,797 grey images of 8x8 pixels and what they show.

    The order is that of the source.  Images of one writer stand together there, so the last rows show hands
    that hardly occur before, which makes them an honest test.

    Returns
    -------
    x : ndarray of float32, shape (1797, 64)
        One image a row, row by row from the top left; 0 is paper, 1 is ink, in steps of 1/16.
    y : ndarray of int64, shape (1797,)
        The digits, 0 to 9.

    References
    ----------
    E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository,
    1998, https://doi.org/10.24432/C50P49, licensed CC BY 4.0; the test part.

    Examples
    --------
    >>> x, y = load_digits()
    >>> x.shape, y[:5]
    ((1797, 64), array([0, 1, 2, 3, 4]))
    """
    with np.load(_DIGITS, allow_pickle=False) as file:
        x = file["images"].astype(np.float32) / np.float32(16)
        y = file["labels"].astype(np.int64)
    return x, y
