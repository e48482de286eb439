"""The compiled core: which build of it this processor runs, and on how many threads.

The core is built once for each instruction-set level.  The highest that the processor offers is taken at
import; ``FASTBP_ISA=base|v3|v4`` forces one.
"""

from __future__ import annotations

import importlib
import math
import operator
import os
import platform
from functools import cache
from threading import local
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from fastbp._version import __version__

LEVELS = ("base", "v3", "v4")
GENERIC = (
    "evaluate",
    "open_training",
    "open_evaluation",
    "dense_forward",
    "dense_backward",
    "layer_scratch",
    "activation_forward",
    "activation_backward",
    "loss_gradient",
    "update",
    "examine",
    "find_nonfinite",
    "multiply_add",
    "packing",
)
OPENED = ("train", "propagate", "backpropagate")  # these know the dtype by what was opened for it
FLOPS_PER_THREAD = 400_000  # with fewer, waking a second thread and meeting it costs more than it saves
TEAM_FLOPS = 20_000_000  # 0.2 to 0.4 ms on one thread: a team is started once it could have paid for it
CONTAINER = "/sys/fs/cgroup"  # where a container's limits stand: of version 2, or else of version 1
SPECIALISATIONS = {"float32": "float", "float64": "double"}  # NumPy's name of a dtype, and C's

_UNBUILT = (
    "fastbp's compiled core is missing here: this looks like its source tree, not an installed package. "
    "Install it with `python -m pip install .` from the tree, and start Python in another folder."
)


def _load() -> tuple[ModuleType, str]:
    """Import the core of the wanted level; a level that should be there and is not is an error."""
    try:
        cpu = importlib.import_module("fastbp._cpu")
    except ModuleNotFoundError as error:
        raise ImportError(_UNBUILT) from error
    offered: list[str] = cpu.levels()
    wanted = os.environ.get("FASTBP_ISA") or offered[-1]
    if wanted not in LEVELS:
        raise ImportError(f"FASTBP_ISA is {wanted!r}, expected one of {', '.join(LEVELS)}")
    if wanted not in offered:
        raise ImportError(f"FASTBP_ISA is {wanted!r}, but this processor offers only {', '.join(offered)}")
    return importlib.import_module(f"fastbp._core_{wanted}"), wanted


def _inherited_memory() -> list[range]:
    """The addresses mapped in a process that a fork made; none in others, and where no system says."""
    try:
        with open("/proc/self/stat", "rb") as file:
            flags = int(file.read().rpartition(b")")[2].split()[6])
        if not flags & 0x40:  # PF_FORKNOEXEC: no program was started since
            return []
        with open("/proc/self/maps", "rb") as file:
            spans = [line.split(maxsplit=1)[0].split(b"-") for line in file]
        return [range(int(start, 16), int(end, 16)) for start, end in spans]
    except (OSError, ValueError, IndexError):
        return []


_INHERITED = _inherited_memory()
core, level = _load()
# Linux may give the core an OpenMP runtime that was there before, PyTorch's say, instead of one of its own;
# if that came with a fork, its threads may have stayed behind.
_LOST_THREADS = any(core.openmp_place() in span for span in _INHERITED)
ACTIVATIONS: dict[str, int] = core.ACTIVATIONS
LOSSES: dict[str, int] = core.LOSSES
STAGE_KINDS: dict[str, int] = core.STAGE_KINDS
STAGE_FIELDS: tuple[str, ...] = core.STAGE_FIELDS
CLOCK_FIELDS: tuple[str, ...] = core.CLOCK_FIELDS
BUILD: dict[str, Any] = core.BUILD
Rule, fits, shuffle, openmp_limit = core.Rule, core.fits, core.shuffle, core.openmp_limit


@cache
def kernels(dtype: np.dtype[Any]) -> SimpleNamespace:
    """The core's functions for float32 or float64: chosen once, so that no call pays for it."""
    name = SPECIALISATIONS[dtype.name]
    chosen = {function: getattr(core, function)[name] for function in GENERIC}
    opened = {function: getattr(core, function) for function in OPENED}
    return SimpleNamespace(**chosen, **opened)


# --- threads -----------------------------------------------------------------------------------------------


class _Threads:
    """The cap on threads that `set_num_threads` set, and whether this process is the child of a fork."""

    cap: int | None = None
    forked = _LOST_THREADS


def _after_fork_in_child() -> None:
    _Threads.forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _check_threads(threads: Any) -> int:
    try:
        number = operator.index(threads)
    except TypeError:
        number = None
    if number is None or isinstance(threads, bool):
        raise TypeError(f"threads is {threads!r}, expected a whole number")
    if number < 1:
        raise ValueError(f"threads is {number}, expected at least 1")
    return number


def container_words(folder: str, *versions: tuple[str, ...]) -> list[str]:
    """The words in files of a container, those of the first version that can be read; none where none can."""
    for names in versions:
        try:
            words = []
            for name in names:
                with open(f"{folder}/{name}") as file:
                    words += file.read().split()
            return words
        except OSError:
            continue
    return []


def _quota(folder: str = CONTAINER) -> float:
    """Cores that the container's quota allows; infinite where none can be read."""
    words = container_words(folder, ("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))
    try:
        quota, period = map(float, words)  # of version 2 without a quota the first is "max", no number
        return quota / period if quota > 0 else math.inf
    except (ValueError, ZeroDivisionError):
        return math.inf


def _cores() -> int:
    """Cores in this process's affinity."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_QUOTA = _quota()  # asked for here: reading files would be a third of a network's first step


@cache
def available_cores() -> int:
    """Cores this process may use: its affinity and its container's quota."""
    return max(1, round(min(_cores(), _QUOTA)))


def _variable_threads(name: str) -> int | None:
    """A number of threads from the environment; None where there is none."""
    text = os.environ.get(name, "").split(",")[0].strip()  # OMP_NUM_THREADS may list one a nesting level
    if not text:
        return None
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ValueError(f"{name} is {text!r}, expected a whole number of at least 1")
    return number


@cache
def _environment_threads() -> int | None:
    return _variable_threads("FASTBP_NUM_THREADS") or _variable_threads("OMP_NUM_THREADS")


def _default_threads() -> int:
    """What the OpenMP runtime starts with; another library may share it, and have lowered it by now."""
    try:
        return _variable_threads("OMP_NUM_THREADS") or _cores()
    except ValueError:  # said when it is needed; the runtime passes over it
        return _cores()


_DEFAULT_THREADS = _default_threads()
_HAS_OPENMP = bool(BUILD["openmp"])
# Four a core: no network gains by more, and libgomp ends the process when it is refused a thread.
_MOST_THREADS = 4 * (os.cpu_count() or 1)


def resolve_threads(threads: int | None) -> int:
    """The cap on threads for one call: the argument, else what `get_num_threads` says.

    After a fork it is 1 whatever is asked for: the runtime's threads did not come along, and libgomp would
    wait for them for ever.  Who lowers the OpenMP runtime's number for this Python thread, as threadpoolctl
    does, lowers this one too.
    """
    if threads is not None:
        threads = _check_threads(threads)
    if _Threads.forked or not _HAS_OPENMP:
        return 1
    wanted = min(threads or _Threads.cap or _environment_threads() or available_cores(), _MOST_THREADS)
    limit: int = openmp_limit()
    return min(wanted, limit) if limit < _DEFAULT_THREADS else wanted


def worthwhile_threads(cap: int, flops: int) -> int:
    """How many of at most ``cap`` threads so much work is worth: a function of shapes, never of the clock."""
    return 1 if flops < 2 * FLOPS_PER_THREAD else min(cap, flops // FLOPS_PER_THREAD)


class _Alone(local):
    """What the present Python thread, each of which has a team of its own, has computed before it had one."""

    flops = 0


_alone = _Alone()


def started_threads(threads: int, flops: int) -> int:
    """``threads`` for a call of so many flops; 1 while such calls so far would not pay for starting a team.

    That takes 0.2 ms, and milliseconds where others keep the processors busy, as NumPy's BLAS does for 0.1 s
    after it was loaded: a first step, or a few predictions, are done long before.
    """
    if threads > 1 and _alone.flops < TEAM_FLOPS:
        _alone.flops += flops
        if _alone.flops < TEAM_FLOPS:
            return 1
    return threads


def set_num_threads(threads: int | None) -> None:
    """Cap the threads of every later call.

    Parameters
    ----------
    threads : int or None
        At least 1; None goes back to ``FASTBP_NUM_THREADS``, ``OMP_NUM_THREADS`` or the cores this process
        may use.  Small networks use fewer: where threads stop paying is decided from their shapes, and
        training goes on with one while that proves to be faster.  The first calls of a Python thread use one,
        too, until they have computed enough to pay for starting the others.

    Raises
    ------
    TypeError, ValueError
        When threads is not a whole number, or below 1.

    Examples
    --------
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(None)
    """
    _Threads.cap = None if threads is None else _check_threads(threads)


def get_num_threads() -> int:
    """The cap on threads for calls that name none.

    Returns
    -------
    int
        What `set_num_threads` set; else ``FASTBP_NUM_THREADS``; else ``OMP_NUM_THREADS``; else the cores this
        process may use.  At most what ``threadpoolctl.threadpool_limits`` set in this Python thread.  1 in a
        process that came from a fork, and in a build without OpenMP.
    """
    return resolve_threads(None)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def config() -> dict[str, str | int]:
    """What `show_config` prints, by name."""
    lanes = BUILD["lanes"]
    return {
        "fastbp": __version__,
        "processor": _processor(),
        "level": level,
        "levels offered": ", ".join(importlib.import_module("fastbp._cpu").levels()),
        "vectors": f"{BUILD['simd']}, {lanes['float32']} float32 or {lanes['float64']} float64 lanes",
        "compiler": BUILD["compiler"],
        "flags": BUILD["flags"],
        "OpenMP": BUILD["openmp"] or "none: built for one thread",
        "cores available": available_cores(),
        "threads": get_num_threads(),
        "NumPy": np.__version__,
        "Python": platform.python_version(),
    }


def show_config() -> None:
    """Print the build and the machine: instruction-set level, compiler, flags, OpenMP, threads, versions."""
    for name, value in config().items():
        print(f"{name:>16}  {value}")
