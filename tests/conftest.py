"""What the tests of saved networks start from, and Ctrl-C as a person at a terminal has it."""

from __future__ import annotations

import signal

import pytest
from archives import small, unpacked

# A shell's background jobs ignore it, and whatever they start: tests that send it would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.npz"


@pytest.fixture
def saved(path):
    """A file of `small`, and its entries."""
    small().save(path)
    return path, unpacked(path)
