"""What the tests of saved networks start from."""

from __future__ import annotations

import pytest
from archives import small, unpacked


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.npz"


@pytest.fixture
def saved(path):
    """A file of `small`, and its entries."""
    small().save(path)
    return path, unpacked(path)
