"""What tests of saved networks start from, Ctrl-C as at a terminal, and teams of threads from the start."""

from __future__ import annotations

import signal

import pytest
from archives import small, unpacked

from fastbp import _native

# A shell's background jobs ignore it, and whatever they start: tests that send it would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

# In every Python thread: where a test asks for two threads it shall have them, however little it computes.
_native._Alone.flops = _native.TEAM_FLOPS


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.npz"


@pytest.fixture
def saved(path):
    """A file of `small`, and its entries."""
    small().save(path)
    return path, unpacked(path)
