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
WINDOW_SECONDS = 0.001  # at least, of calls that are looked at together
# Windows of a trial of one thread, and of a team: its threads have slept, and may begin on one processor.
# Beside other programs a step of theirs may take 10 ms: after so many seconds a few windows tell as much.
ALONE_WINDOWS, TEAM_WINDOWS, TRIAL_SECONDS = 2, 8, 0.02
# Seconds of work until a trial: at first and when one has changed something; so many times more when one has
# not; at last, unless trials would be more than a share of the work.
FIRST_TRIAL, PATIENCE, LAST_TRIAL, TRIAL_SHARE = 0.01, 10, 0.2, 0.01
TRIED_SECONDS = 0.2  # guessed: a team is not left for a trial of longer steps unless it was kept waiting
GAIN = 0.95  # of the time that the present way takes is what the other must take at the most


class Pace:
    """How long steps of one shape take, on the threads they are worth and on one.

    Parameters
    ----------
    threads : int
        What a step is worth: the team.
    seconds : float
        A guess at what one takes.

    Attributes
    ----------
    team : int
        What a step is worth.
    threads : int
        Of the next call: as many, or 1.
    """

    def __init__(self, threads: int, seconds: float) -> None:
        self.team = self.threads = threads
        self._step, self._most = seconds, max(1, int(WINDOW_SECONDS / seconds))  # of the last call, the next
        self._tries = seconds < TRIED_SECONDS
        self._trying, self._rival = False, math.inf  # in a trial; seconds of a step the other way
        # seconds of work between trials, and until the next; in one, minus what it has lasted
        self._wait = self._left = FIRST_TRIAL
        self._least, self._windows = math.inf, 0  # seconds of a step in the best of so many windows
        self._seconds, self._steps = 0.0, 0  # what the present window has

    @property
    def steps(self) -> int:
        """Of the next call, at the most."""
        return max(1, min(self._most, int((WINDOW_SECONDS if self._trying else SLICE_SECONDS) / self._step)))

    def took(self, threads: int, steps: int, start: float, hindered: bool = False) -> None:
        """Learn from a call that began at ``start``; ``hindered``: its threads were kept waiting."""
        seconds = time.perf_counter() - start
        self._step, self._most = max(seconds, 1e-9) / steps, max(self._most, GROWTH * steps)
        if threads != self.threads or self.team == 1:
            return
        self._left -= seconds
        self._seconds += seconds
        self._steps += steps
        if self._seconds < WINDOW_SECONDS and not hindered:
            return
        self._windows += 1
        self._least = min(self._least, self._seconds / self._steps)
        self._seconds, self._steps = 0.0, 0
        if self._trying:
            few = self.threads == 1 or -self._left > TRIAL_SECONDS
            if hindered or self._windows >= (ALONE_WINDOWS if few else TEAM_WINDOWS):
                self._decide()
        elif hindered or (self._left < 0.0 and self._windows > 1 and (self._tries or self.threads == 1)):
            self._try(self._step if hindered else self._least)

    def _try(self, rival: float) -> None:
        """Begin a trial of the other way."""
        self._turn()
        self._trying, self._rival, self._left = True, rival, 0.0
        self._least, self._windows = math.inf, 0

    def _decide(self) -> None:
        """End a trial."""
        if self._least > GAIN * self._rival:
            self._turn()
            tried = -self._left
            self._wait = min(PATIENCE * max(self._wait, tried), max(LAST_TRIAL, tried / TRIAL_SHARE))
        else:
            self._wait = FIRST_TRIAL
        self._trying, self._left = False, self._wait
        self._least, self._windows = math.inf, 0

    def _turn(self) -> None:
        """To the other way."""
        self.threads = 1 if self.threads > 1 else self.team
