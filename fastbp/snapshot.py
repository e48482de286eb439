"""The way back: a copy of the numbers that training moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fastbp.learner import Learner

# Steps and epochs before a call; the losses by which it is counted, if it still trains; batches in an epoch.
Progress = tuple[int, int, NDArray[np.float64] | None, int]


class Snapshot:
    """Room for a copy of a learner's numbers, but for a blank state, all zeros: its room takes no memory."""

    def __init__(self, learner: Learner) -> None:
        self.parameters = np.empty_like(learner.parameters)
        self.state = np.empty_like(learner.state)
        self.progress = learner.progress
        self.finite = self.blank = False

    def take(self, learner: Learner, progress: Progress, blank: bool, threads: int) -> None:
        """Copy, whether all of it is finite or not; Ctrl-C may leave half a copy, and ends the call."""
        self.finite = learner.examine(learner.parameters, threads, self.parameters)
        if not blank:
            self.finite &= learner.examine(learner.state, threads, self.state)
        self.progress, self.blank = progress, blank

    def restore(self, learner: Learner) -> None:
        """Copy back, by statements without a call: between them no Ctrl-C can strike."""
        learner.parameters[:] = self.parameters
        learner.state[:] = 0.0 if self.blank else self.state
        learner.progress = self.progress


def is_blank(array: NDArray[Any]) -> bool:
    """Whether every bit is 0, as in fresh memory; -0.0 has one that is not."""
    return not np.count_nonzero(array.view(f"u{array.itemsize}"))  # any() makes truth values of them first
