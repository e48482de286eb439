"""The benchmark's counters: what is read from perf and cachegrind, and what a row makes of it.

The tools themselves are not called: a program in their place writes counts that are made up.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from interpreter import python

from fastbp import _native
from fastbp.bench import counters, phases, tables
from fastbp.bench.rows import Effort, Result, Row, Task
from fastbp.bench.workloads import WORKLOADS

TASK = Task("counters", 1, None, ("tiny", "wide"), (), Effort())
CACHEGRIND = """\
desc: D1 cache: 49152 B, 64 B, 12-way associative
cmd: python
events: Ir I1mr ILmr Dr D1mr DLmr Dw D1mw DLmw
fl=step.c
fn=train
12 900 1 1 300 40 4 200 2 1
summary: 1000 2 2 400 50 5 300 6 3
"""
PERF = """\
# started on Sat Nov 21 11:20:04 2026

900,,cpu_atom/instructions:u/,5000,100.00,,
100,,cpu_core/instructions:u/,5000,100.00,,
56,,L1-dcache-load-misses:u,5000,100.00,,
<not supported>,,l2_rqsts.miss:u,0,100.00,,
"""


def test_cachegrind_s_misses_are_those_of_data_read_and_written():
    counts = counters.read_cachegrind(CACHEGRIND)
    assert counts == {"instructions": 1000, "L1 misses": 56, "L2 misses": 8}


def test_perf_s_counts_are_summed_over_kinds_of_processors_and_may_be_missing():
    events = {"instructions": "instructions:u", "L1 misses": "L1-dcache-load-misses:u"}
    events["L2 misses"] = "l2_rqsts.miss:u"
    assert counters.read_perf(PERF, events) == {"instructions": 1000, "L1 misses": 56}


def describe(folder, *words):
    """A cache as Linux tells it."""
    folder.mkdir()
    names = ("level", "type", "size", "ways_of_associativity", "coherency_line_size")
    for key, word in zip(names, words, strict=True):
        (folder / key).write_text(f"{word}\n")


def test_the_simulated_caches_are_the_processor_s_for_data(tmp_path):
    for name, words in {
        "index0": ("1", "Data", "48K", "12", "64"),
        "index1": ("1", "Instruction", "32K", "8", "64"),
        "index2": ("2", "Unified", "1024K", "16", "64"),
        "index3": ("3", "Unified", "32768K", "16", "64"),
    }.items():
        describe(tmp_path / name, *words)
    tool = counters.cachegrind(counters.read_caches(tmp_path))
    assert {"--D1=49152,12,64", "--LL=1048576,16,64"} <= set(tool.command)
    assert tool.caches == ", 48 KB, 1,024 KB"


def test_caches_that_the_system_does_not_tell_are_common_ones(tmp_path):
    assert counters.read_caches(tmp_path) == counters.COMMON_CACHES
    describe(tmp_path / "index0", "1", "Data", "48K", "12", "64")
    describe(tmp_path / "index2", "2", "Unified", "1024K", "0", "64")  # ways that nobody knows
    assert counters.read_caches(tmp_path) == counters.COMMON_CACHES
    (tmp_path / "index2" / "ways_of_associativity").unlink()
    assert counters.read_caches(tmp_path) == counters.COMMON_CACHES


def made_up(tmp_path, program):
    """A tool that runs a program with the path of the counts and the command behind it."""
    script = tmp_path / "tool.py"
    script.write_text(program)
    command = [sys.executable, str(script), "{}"]
    return counters.Tool("simulated", ", none", 1.0, 1e9, command, counters.read_cachegrind)


def test_a_row_holds_the_difference_of_two_runs_for_each_step_and_multiply_add(tmp_path):
    tool = made_up(
        tmp_path,
        "import pathlib, subprocess, sys\n"
        "epochs = int(sys.argv[-1])\n"
        "counts = (70_000 + 40_000 * epochs, 2, 2, 4, 5 + 3 * epochs, 9, 3, 6, 3)\n"
        "text = 'events: Ir I1mr ILmr Dr D1mr DLmr Dw D1mw DLmw\\nsummary: ' + ' '.join(map(str, counts))\n"
        "pathlib.Path(sys.argv[1]).write_text(text)\n"
        "sys.exit(subprocess.run(sys.argv[2:]).returncode)\n",
    )
    row = counters.measure_workload(tool, WORKLOADS["tiny"])
    assert row.detail == f"{_native.level}, none"
    assert all(result.agrees for result in row.results.values())
    values = {name: result.values for name, result in row.results.items()}
    needed = 32 * (2 * 4 * 32 + 3 * 32 * 32 + 3 * 32) / _native.BUILD["lanes"]["float32"]
    assert values == {
        "instructions": [40_000.0],
        "a multiply-add": [40_000 / needed],
        "L1 misses": [3.0],
        "L2 misses": [0.0],
    }


def test_a_tool_that_fails_is_an_error_with_its_own_words(tmp_path):
    with pytest.raises(RuntimeError, match="no such cache"):
        counters.measure_workload(made_up(tmp_path, "raise SystemExit('no such cache')"), WORKLOADS["tiny"])


def test_what_takes_long_to_simulate_is_left_out_until_there_is_time(monkeypatch, capsys):
    monkeypatch.setattr(counters, "find_tool", lambda: counters.cachegrind(counters.COMMON_CACHES))
    monkeypatch.setattr(counters, "measure_workload", lambda tool, workload: workload.name)
    assert list(counters.measure(TASK)) == ["tiny"]
    assert "counters leave out wide, a long simulation: --seconds 9 to have it" in capsys.readouterr().err
    assert list(counters.measure(replace(TASK, effort=Effort(seconds=9.0)))) == ["tiny", "wide"]


def test_counts_stand_alone_in_their_table():
    results = {"instructions": Result(0.0, True, [40_000.0]), "L1 misses": Result(0.0, True, [0.5])}
    table = tables.make_table([Row("simulated", "tiny", "v3", 1, results)])
    assert table.columns == ["workload", "level, caches", "instructions", "L1 misses"]
    assert table.cells == [["tiny", "v3", "40,000", "0.500"]]


def test_without_a_tool_the_report_says_which_to_install_and_leaves_the_page_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- benchmark counters -->\nold\n<!-- /benchmark counters -->\n")
    options = ("--quick", "--sections", "counters", "--write", str(page))
    done = python("-m", "fastbp", "bench", *options, PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "apt-get install valgrind" in done.stderr
    assert "\nold\n" in page.read_text()


def test_what_two_threads_lose_is_their_time_beyond_that_of_one():
    row = Row("phases", "tiny", "", 2, {"step": Result(0.0, True, [6.0, 5.0])})
    row.results["1 thread"] = Result(0.0, True, [8.0, 9.0])
    table = tables.make_table([phases.with_loss(row)])
    assert table.columns[2:] == ["step", "lost"]
    assert table.cells[0][3] == "20 %"
