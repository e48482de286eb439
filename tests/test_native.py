"""Choosing the core, counting threads, and what the package says about itself."""

from __future__ import annotations

import os

import numpy as np
import pytest
from axes import DTYPES, FUSED_LEVELS, LEVELS, Guarded, every_core, every_dtype, fenced
from interpreter import complaint, run
from natively import examine, find_nonfinite

import fastbp as bp
from fastbp import _native

# Levels

LEVEL = "from fastbp import _native; print(_native.config()['level'])"


@pytest.mark.parametrize("level", LEVELS)
def test_the_environment_forces_a_level(level):
    assert run(LEVEL, FASTBP_ISA=level) == f"{level}\n"


def test_the_best_level_is_taken_without_being_asked():
    assert run(LEVEL, FASTBP_ISA=None) == f"{LEVELS[-1]}\n"


@pytest.mark.parametrize("level", ["v9", "avx2", "V3"])
def test_a_level_that_does_not_exist_is_refused_with_a_sentence(level):
    last = complaint("import fastbp", FASTBP_ISA=level)
    assert all(word in last for word in ("FASTBP_ISA", repr(level), "base", "v3", "v4"))


OLD_PROCESSOR = """
import sys, types
sys.modules["fastbp._cpu"] = types.SimpleNamespace(levels=lambda: ["base"])
"""


def test_a_level_this_processor_lacks_is_refused_with_a_sentence():
    last = complaint(OLD_PROCESSOR + "import fastbp", FASTBP_ISA="v3")
    assert all(word in last for word in ("FASTBP_ISA", "'v3'", "processor", "base"))


def test_an_old_processor_gets_the_base_level():
    assert run(OLD_PROCESSOR + LEVEL, FASTBP_ISA=None) == "base\n"


DAMAGED = f"""
import sys
class Damage:
    def find_spec(self, name, path=None, target=None):
        if name == "fastbp._core_{LEVELS[-1]}":
            raise ImportError("damaged file")
sys.meta_path.insert(0, Damage())
import fastbp
"""


def test_a_level_that_should_be_there_and_fails_to_import_is_an_error_and_no_silent_fall_back():
    assert "damaged file" in complaint(DAMAGED, FASTBP_ISA=None)


FINGERPRINT = """
import hashlib, numpy, fastbp
x, y = fastbp.datasets.load_digits()
net = fastbp.Network(fastbp.mlp([64, 50, 10], "tanh", "softmax"), "cross_entropy")
loss = net.fit(x, y, epochs=3, batch_size=600).loss  # a step of 9 Mflop: work for six threads
arrays = net.parameters, net.predict(x), numpy.array(loss)
print(hashlib.sha256(b"".join(map(bytes, arrays))).hexdigest())
"""


def test_forced_levels_with_fused_multiply_add_train_to_the_same_bits():
    prints = {run(FINGERPRINT, FASTBP_ISA=level) for level in FUSED_LEVELS}
    assert len(prints) <= 1  # none on a processor that has the base level alone


@pytest.mark.parametrize(
    "limits",
    [
        {"OMP_THREAD_LIMIT": "1"},
        {"OMP_THREAD_LIMIT": "2"},
        {"OMP_DYNAMIC": "true"},
        {"OMP_WAIT_POLICY": "active"},
    ],
    ids=str,
)
def test_bits_do_not_depend_on_how_many_threads_openmp_delivers(limits):
    alone, limited = (
        run(FINGERPRINT, FASTBP_NUM_THREADS="1"),
        run(FINGERPRINT, FASTBP_NUM_THREADS="5", **limits),
    )
    assert limited == alone


# Threads

COUNT = "import fastbp; print(fastbp.get_num_threads())"
RESOLVED = """
import fastbp
from fastbp._native import resolve_threads
fastbp.set_num_threads(4)
print(fastbp.get_num_threads(), resolve_threads(2), resolve_threads(None))
"""


def test_threads_come_from_argument_then_setting_then_environment():
    assert run(RESOLVED, FASTBP_NUM_THREADS="3") == "4 2 4\n"
    assert run(COUNT, FASTBP_NUM_THREADS="3", OMP_NUM_THREADS="4") == "3\n"
    assert run(COUNT, FASTBP_NUM_THREADS=None, OMP_NUM_THREADS="4") == "4\n"


def test_without_any_setting_the_cores_of_this_process_are_used():
    unset = {"FASTBP_NUM_THREADS": None, "OMP_NUM_THREADS": None}
    cores = os.sched_getaffinity(0)
    assert 1 <= int(run(COUNT, **unset)) <= len(cores)
    assert run(f"import os; os.sched_setaffinity(0, {{{min(cores)}}})\n" + COUNT, **unset) == "1\n"


REFUSED = """
import fastbp
from fastbp._native import resolve_threads
layer = fastbp.Dense(2, 2)
calls = fastbp.get_num_threads, lambda: resolve_threads(None), lambda: layer.forward([[1.0, 2.0]])
for call in calls + calls:
    try:
        call()
    except ValueError as error:
        print(ascii(str(error)))
print(resolve_threads(2))
fastbp.set_num_threads(3)
print(fastbp.get_num_threads())
"""


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000"}, np.inf),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, np.inf),
        ({}, np.inf),
        ({"cpu.max": "much 100000"}, np.inf),
        ({"cpu.max": "100000 0"}, np.inf),
        ({"cpu.max": "100000"}, np.inf),
    ],
)
def test_a_quota_that_cannot_be_read_is_none(tmp_path, files, cores):
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text + "\n")
    assert _native._quota(str(tmp_path)) == cores


@pytest.mark.parametrize("name", ["FASTBP_NUM_THREADS", "OMP_NUM_THREADS"])
@pytest.mark.parametrize("value", ["many", "0", "-2", "1.5", "\N{SUPERSCRIPT TWO}"])
def test_an_environment_that_is_no_number_of_threads_is_refused_by_every_call_that_needs_it(name, value):
    environment = {"FASTBP_NUM_THREADS": None, "OMP_NUM_THREADS": None, name: value}
    sentence = ascii(f"{name} is {value!r}, expected a whole number of at least 1")
    assert run(REFUSED, **environment) == 6 * f"{sentence}\n" + "2\n3\n"


FORKED = """
import os
from fastbp._native import resolve_threads
if os.fork() == 0:
    print(resolve_threads(3), flush=True)
    os._exit(0)
os.wait()
print(resolve_threads(3))
"""


def test_a_child_of_a_fork_runs_on_one_thread_whatever_it_asks_for():
    assert run(FORKED) == "1\n3\n"


def test_there_are_never_more_than_four_threads_a_core():
    most = 4 * os.cpu_count()
    assert _native.resolve_threads(most) == most == _native.resolve_threads(10**9)
    assert run(COUNT, FASTBP_NUM_THREADS="1000000") == f"{most}\n"


@pytest.mark.parametrize("call", [bp.set_num_threads, _native.resolve_threads])
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0, ValueError, "threads is 0, expected at least 1"),
        (np.int8(-1), ValueError, "threads is -1, expected at least 1"),
        (1.5, TypeError, "threads is 1.5, expected a whole number"),
        ("2", TypeError, "threads is '2', expected a whole number"),
        (True, TypeError, "threads is True, expected a whole number"),
    ],
)
def test_a_number_of_threads_that_cannot_be_is_refused(call, value, error, message):
    with pytest.raises(error) as caught:
        call(value)
    assert str(caught.value) == message


# What it says about itself


def test_show_config_prints_level_compiler_flags_openmp_and_threads(capsys):
    bp.show_config()
    printed = capsys.readouterr().out
    config = _native.config()
    assert config["level"] in printed
    for word in ("level", "compiler", "flags", "OpenMP", "threads"):
        assert word.lower() in printed.lower(), word


@every_core
def test_a_core_knows_how_it_was_built(core):
    level = core.__name__.rpartition("_")[2]
    march = {"base": None, "v3": "-march=x86-64-v3", "v4": "-march=x86-64-v4"}[level]
    assert core.BUILD["compiler"]
    assert march is None or march in core.BUILD["flags"].split()


@every_core
def test_flags_keep_the_promise_on_bits(core):
    flags = core.BUILD["flags"].split()
    assert "-ffp-contract=off" in flags
    assert not {"-ffast-math", "-Ofast", "-funsafe-math-optimizations", "-fassociative-math"} & set(flags)


# Kernels of one dtype


@every_dtype
def test_kernels_are_the_functions_of_one_dtype(dtype):
    native = _native.kernels(np.dtype(dtype))
    a = np.empty((1, 1), dtype)
    native.activation_forward(_native.ACTIVATIONS["identity"], np.ones((1, 1), dtype), a, 1)
    assert a[0, 0] == 1.0
    other = DTYPES[1 - DTYPES.index(dtype)]
    with pytest.raises((ValueError, TypeError)):
        native.activation_forward(_native.ACTIVATIONS["identity"], np.ones((1, 1), other), a, 1)


@every_core
@every_dtype
def test_find_nonfinite_gives_the_first_bad_entry_in_reading_order(core, dtype):
    x = np.zeros((50, 33))
    assert find_nonfinite(core, fenced(x), dtype) == -1
    for row, column in ((49, 32), (49, 0), (17, 31), (17, 5), (0, 16), (0, 0)):
        for value in (np.nan, np.inf, -np.inf):
            x[row, column] = value
            for room in (33, 34, 100, 5000):
                assert find_nonfinite(core, x, dtype, room) == row * 33 + column
                assert find_nonfinite(core, x[:, ::-1].copy()[:, ::-1], dtype, room) == row * 33 + column
    assert find_nonfinite(core, np.array([[1.0, 1e39]]), dtype) == (1 if dtype == np.float32 else -1)
    assert find_nonfinite(core, np.array([[1.0], [np.inf]], np.float16), dtype) == 1
    assert find_nonfinite(core, np.array([1.0, 2.0, np.nan]), dtype) == 2


@every_core
@every_dtype
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_examine_copies_all_and_finds_what_is_not_finite_anywhere(core, dtype, threads):
    for size in (1, 2, 4096, 10_000):
        values = np.random.default_rng(size).normal(size=size).astype(dtype)
        assert examine(core, values, threads)
        assert examine(core, values, threads, copied=False)
        for place in {0, size // 2, size - 1}:
            for value in (np.nan, np.inf, -np.inf):
                bad = values.copy()
                bad[place] = value
                assert not examine(core, bad, threads)
                assert not examine(core, bad, threads, copied=False)
    assert examine(core, np.empty(0, dtype), threads)


@every_core
@every_dtype
def test_examine_refuses_a_copy_of_another_length_and_no_threads(core, dtype):
    for length in (3, 5):
        with pytest.raises(ValueError, match=f"copy has {length} entries, expected 4"):
            core.examine(np.zeros(4, dtype), 1, np.zeros(length, dtype))
    with pytest.raises(ValueError, match="threads is 0, expected at least 1"):
        core.examine(np.zeros(4, dtype), 0)


@every_core
@every_dtype
@pytest.mark.parametrize("threads", [1, 2])
def test_multiply_add_counts_its_operations(core, dtype, threads):
    out = Guarded(64 * threads, dtype)
    out.array[...] = 0.0
    small, large = (core.multiply_add(rounds, out.array, threads) for rounds in (1000, 2000))
    assert large == 2 * small > 0
    assert out.intact
    assert np.isfinite(out.array).all()
