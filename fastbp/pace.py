"""The pace of one network's steps: how many a native call takes, and on how many threads.

How many threads a step is worth follows from its shape, where processors are idle and their caches close.
Where other programs keep them busy, or what one writes is slow to reach the others, a team may take longer
than one thread, and no shape tells.  So a few steps are tried the other way now and then: results do not
depend on it.
"""

from __future__ import annotations

import math
import time

SLICE_SECONDS = 0.05  # what a native call lasts: Ctrl-C answers at once, the call itself costs nothing
GROWTH = 8  # times as many steps as in the call before, at the most: the first calls cannot know the pace
TRIAL_SECONDS = 0.002
FIRST_TRIAL, NEXT_TRIAL = 0.01, 0.2  # seconds until one
TRIAL_SHARE = 0.01  # of all time goes to trials, where one lasts longer than it was meant to
TRIED_SECONDS = (
    0.2  # by the guess: with longer steps a team is not left for a trial, unless it is kept waiting
)
GAIN = 0.9  # of the time that the present way takes is what the other must take at the most


class Pace:
    """How long steps of one shape take, on the threads they are worth and on one.

    Parameters
    ----------
    threads : int
        What a step is worth: the team.
    seconds : float
        A guess at what one takes, too high rather than too low.

    Attributes
    ----------
    team : int
        What a step is worth.
    threads : int
        Of the next call: as many, or 1.
    """

    def __init__(self, threads: int, seconds: float) -> None:
        self.team = self.threads = threads
        self._step, self._most = seconds, max(1, int(TRIAL_SECONDS / seconds))  # by the last call
        self._least = self._rival = math.inf  # seconds of a step, of this way and in a trial of the other
        self._tries = seconds < TRIED_SECONDS
        self._trying, self._tried = False, 0.0  # seconds that the present trial has lasted
        self._due = time.perf_counter() + FIRST_TRIAL if threads > 1 else math.inf

    @property
    def steps(self) -> int:
        """Of the next call, at the most."""
        return max(1, min(self._most, int((TRIAL_SECONDS if self._trying else SLICE_SECONDS) / self._step)))

    def took(self, threads: int, steps: int, start: float, hindered: bool = False) -> None:
        """Learn from a call that began at ``start``; ``hindered``: its threads were kept waiting."""
        now = time.perf_counter()
        self._step, self._most = max(now - start, 1e-9) / steps, GROWTH * steps
        if threads != self.threads:
            return
        if self._step < self._least:
            self._least = self._step
        if self._trying:
            self._tried += now - start
            if self._tried > TRIAL_SECONDS / 2:
                self._decide(now)
        elif hindered or (now > self._due and (self._tries or self.threads == 1)):
            self._turn()
            self._trying, self._tried = True, 0.0
            self._rival, self._least = self._step if hindered else self._least, math.inf

    def _decide(self, now: float) -> None:
        """End a trial."""
        if self._least > GAIN * self._rival:
            self._turn()
        self._trying, self._least = False, math.inf
        self._due = now + max(NEXT_TRIAL, self._tried / TRIAL_SHARE)

    def _turn(self) -> None:
        self.threads = 1 if self.threads > 1 else self.team
