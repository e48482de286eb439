"""What a measuring process is told, and what it gives back: rows of results, whatever their section."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

OWN = "fastbp"  # among the contenders' names


@dataclass(frozen=True)
class Effort:
    """How long to measure: seconds a contender in each row; ``quick`` makes the problems small as well."""

    seconds: float = 1.0
    quick: bool = False

    @property
    def light(self) -> Effort:
        """A third of it: for sections with many rows, where no percent counts."""
        return replace(self, seconds=self.seconds / 3)


@dataclass(frozen=True)
class Task:
    """What a measuring process is to do: one section, on so many threads, at one instruction-set level."""

    section: str
    threads: int
    level: str | None  # None: the highest
    workloads: tuple[str, ...]
    rivals: tuple[str, ...]
    effort: Effort


@dataclass
class Result:
    """One contender in one row: how far its result is from the right one, and what was measured if it agrees.

    The values are seconds, bytes or counts, as the row's table says; the fewer the better.  A rival that
    fails leaves its reason in their place.
    """

    error: float
    agrees: bool
    values: list[float] = field(default_factory=list)
    failure: str = ""


@dataclass
class Row:
    """One line of a table; the first of the results is the project's."""

    table: str
    name: str
    detail: str
    threads: int
    results: dict[str, Result]
    flops: int = 0  # of what the first result measures
    peak: float = 0.0  # flops a second that the machine does at most, measured in turn with the results
    goal: float = 0.0  # of the first result, at most; 0 where there is none, here and below
    goal_share: float = 0.0  # of the peak
    goal_times: float = 0.0  # how many times the first result the best of the others is to be

    @property
    def first(self) -> Result:
        """The project's result."""
        return next(iter(self.results.values()))

    @property
    def best_rival(self) -> Result | None:
        """The best of the others whose results agree."""
        others = [result for result in list(self.results.values())[1:] if result.agrees]
        return min(others, key=lambda result: min(result.values), default=None)

    def attempt(self, contenders: Iterable[str], judge: Callable[[str], Result]) -> None:
        """Have the contenders judged in turn; a rival that fails costs a row this rival and nothing else."""
        for name in contenders:
            try:
                self.results[name] = judge(name)
            except Exception as error:
                if name == OWN:
                    raise
                self.results[name] = Result(math.nan, False, failure=f"{type(error).__name__}: {error}")
