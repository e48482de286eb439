"""Section of the report: instructions and cache misses of a step, counted by the processor or by a simulator.

A program that trains runs twice, for some epochs and for twice as many, and the difference leaves out how it
starts.  perf counts where the processor's counters can be had, which few virtual machines pass on; elsewhere
cachegrind simulates this processor's first and second caches, at the highest level that valgrind knows.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from fastbp import _native
from fastbp.bench.judging import SEED, comparison, judged
from fastbp.bench.processes import HOME
from fastbp.bench.rivals import Fastbp
from fastbp.bench.rows import Row, Task
from fastbp.bench.workloads import WORKLOADS, Problem, Workload, make_problem

INSTRUCTIONS, L1_MISSES, L2_MISSES = "instructions", "L1 misses", "L2 misses"
PER_MULTIPLY_ADD = "a multiply-add"

# perf's names: the first of each that the machine has.  There is no common one for the second-level cache.
HARDWARE_EVENTS = {
    INSTRUCTIONS: ("instructions:u",),
    L1_MISSES: ("L1-dcache-load-misses:u",),
    L2_MISSES: ("l2_cache_misses_from_dc_misses:u", "l2_rqsts.all_demand_miss:u", "l2d_cache_refill:u"),
}
# cachegrind's: of data, read and written.  It calls its caches first and last.
SIMULATED_EVENTS = {INSTRUCTIONS: ("Ir",), L1_MISSES: ("D1mr", "D1mw"), L2_MISSES: ("DLmr", "DLmw")}
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
MISSING = (
    "counters are left out: they need perf and a processor whose counters can be had, or valgrind "
    "(Debian: apt-get install valgrind)"
)

Counts = dict[str, int]


@dataclass(frozen=True)
class Tool:
    """What counts while a program runs."""

    table: str
    caches: str  # those that it simulates
    flops: float  # of the shorter run, to stand out from what two starts of Python differ by
    largest_step: float  # flops, for each second of effort
    command: list[str]  # what stands before the program's; {} is the file that the counts go to
    read: Callable[[str], Counts]  # from the text of that file


@dataclass(frozen=True)
class Cache:
    """Size in bytes, ways, and bytes a line."""

    size: int
    ways: int
    line: int


COMMON_CACHES = [Cache(32 << 10, 8, 64), Cache(1 << 20, 16, 64)]


def measure(task: Task) -> Iterator[Row]:
    """One row for each workload; what is left out is said on the standard error output."""
    tool = find_tool()
    if tool is None:
        print(MISSING, file=sys.stderr)
        return
    for name in task.workloads[: 1 if task.effort.quick else None]:
        seconds = math.ceil(WORKLOADS[name].step_flops / tool.largest_step)
        if seconds > max(1, task.effort.seconds):
            print(
                f"counters leave out {name}, a long simulation: --seconds {seconds} to have it",
                file=sys.stderr,
            )
        else:
            yield measure_workload(tool, WORKLOADS[name])


def measure_workload(tool: Tool, workload: Workload) -> Row:
    """Instructions, how many for each multiply-add that the products need at the least, and misses."""
    steps = int(max(1, min(workload.steps, tool.flops // workload.step_flops)))
    epochs = int(max(1, tool.flops // (steps * workload.step_flops)))
    problem = shortened(workload.name, steps)
    contender = Fastbp(problem, 1)
    contender.train(1)
    agreement = judged(comparison(problem)(contender.parameters()))
    counts, level, lanes = count_epochs(tool, workload.name, steps, epochs)
    found = {name: max(0.0, count / (steps * epochs)) for name, count in counts.items()}
    needed = workload.step_flops / 2 / lanes
    values = {INSTRUCTIONS: found[INSTRUCTIONS], PER_MULTIPLY_ADD: found[INSTRUCTIONS] / needed, **found}
    results = {name: replace(agreement, values=[value]) for name, value in values.items()}
    return Row(tool.table, workload.name, f"{level}{tool.caches}", 1, results)


def shortened(name: str, steps: int) -> Problem:
    """A workload with an epoch of so many steps."""
    return make_problem(replace(WORKLOADS[name], steps=steps), SEED)


def count_epochs(tool: Tool, name: str, steps: int, epochs: int) -> tuple[Counts, str, int]:
    """What so many epochs count, at which level, and the level's lanes; both programs run at once."""
    environment = os.environ | {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

    def run(number: int) -> tuple[Counts, str]:
        path = Path(folder) / str(number)
        program = [sys.executable, "-m", "fastbp.bench.counters", name, str(steps), str(number)]
        command = [*(word.format(path) for word in tool.command), *program]
        done = subprocess.run(command, env=environment, cwd=HOME, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stderr}")
        return tool.read(path.read_text()), done.stdout

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        (shorter, said), (longer, _) = pool.map(run, (epochs, 2 * epochs))
    level, lanes = said.split()
    return {event: longer[event] - count for event, count in shorter.items()}, level, int(lanes)


def find_tool() -> Tool | None:
    """perf with the processor's counters, else valgrind with its caches, else None."""
    if shutil.which("perf"):
        events = {
            name: event
            for name, known in HARDWARE_EVENTS.items()
            if (event := next(filter(is_counted, known), ""))
        }
        if INSTRUCTIONS in events:
            command = ["perf", "stat", "-x", ",", "-o", "{}", "-e", ",".join(events.values()), "--"]
            return Tool("counters", "", 2e10, 1e12, command, partial(read_perf, events=events))
    return cachegrind(read_caches(CACHES)) if shutil.which("valgrind") else None


def is_counted(event: str) -> bool:
    """Whether perf counts such an event here."""
    command = ["perf", "stat", "-x", ",", "-e", event, sys.executable, "-c", ""]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode == 0 and bool(read_perf(done.stderr, {event: event}))


def read_perf(text: str, events: dict[str, str]) -> Counts:
    """Counts out of perf's lines ``count,unit,event,...``; processors of two kinds have a line for each."""
    counts: Counts = {}
    for line in text.splitlines():
        value, _, event, *_ = [*line.split(","), "", ""]
        for name, wanted in events.items():
            if value.isdecimal() and wanted.partition(":")[0] in event:
                counts[name] = counts.get(name, 0) + int(value)
    return counts


def cachegrind(caches: list[Cache]) -> Tool:
    """valgrind with the first of these caches, and the second as the last.

    It calls a function for each lane of a multiply-add: 4e7 flops a second.
    """
    command = ["env", "-u", "FASTBP_ISA"]  # it may lack that level
    command += ["valgrind", "-q", "--tool=cachegrind", "--cache-sim=yes", "--cachegrind-out-file={}"]
    for option, cache in zip(("D1", "LL"), caches, strict=False):
        command.append(f"--{option}={cache.size},{cache.ways},{cache.line}")
    sizes = "".join(f", {cache.size >> 10:,} KB" for cache in caches)
    return Tool("simulated", sizes, 2e8, 1e9, command, read_cachegrind)


def read_cachegrind(text: str) -> Counts:
    """Counts out of cachegrind's lines ``events:`` and ``summary:``."""
    lines = dict(line.partition(": ")[::2] for line in text.splitlines())
    counts = dict(zip(lines["events"].split(), map(int, lines["summary"].split()), strict=True))
    return {name: sum(counts[part] for part in parts) for name, parts in SIMULATED_EVENTS.items()}


def read_caches(folder: Path) -> list[Cache]:
    """The first-level data cache and the second-level one, as Linux tells them, or common ones."""
    found = {}
    for index in folder.glob("index*"):
        try:
            level, kind, size, ways, line = (
                (index / name).read_text().strip()
                for name in ("level", "type", "size", "ways_of_associativity", "coherency_line_size")
            )
        except OSError:  # some machines leave one out
            continue
        if kind != "Instruction" and int(ways):  # 0 where nobody says
            found[int(level)] = Cache(int(size.removesuffix("K")) << 10, int(ways), int(line))
    return [found[level] for level in (1, 2)] if found.keys() >= {1, 2} else COMMON_CACHES


def standing_still() -> float:
    """A clock by which nothing takes time."""
    return 0.0


if __name__ == "__main__":
    # Training looks around every 50 ms, which a simulator makes every few steps.
    time.perf_counter = standing_still
    workload, numbers = sys.argv[1], [int(word) for word in sys.argv[2:]]
    Fastbp(shortened(workload, numbers[0]), 1).train(numbers[1])
    print(_native.level, _native.BUILD["lanes"]["float32"])
