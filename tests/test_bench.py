"""The benchmark's own logic: what is asked for, when the clock runs, what a table shows and hides.

Nothing here looks at a time: clocks are made up, and results are right or wrong on purpose.
"""

from __future__ import annotations

import ast
import gc
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from subprocess import Popen
from threading import Thread

import numpy as np
import pytest
from interpreter import python

from fastbp import _native
from fastbp.__main__ import bench, main, make_parser
from fastbp.bench import (
    growth,
    judging,
    kernels,
    memory,
    phases,
    processes,
    program,
    report,
    tables,
    threads,
    timing,
)
from fastbp.bench.rivals import RIVALS, Fastbp
from fastbp.bench.rows import Effort, Result, Row, Task
from fastbp.bench.sections import SECTIONS, tasks
from fastbp.bench.workloads import GOALS, WORKLOADS, Workload, make_problem

ROOT = Path(__file__).parents[1]
QUICK = Effort(seconds=0.0, quick=True)
TASK = Task("training", 1, None, ("tiny",), (), QUICK)
SMALL = Workload("small", (3, 5, 2), "relu", "mse", "sgd", 1e-1, 4, 3)


def right(*values):
    return Result(0.0, True, list(values))


WRONG = Result(0.3, False)

# What is asked for


def test_names_come_in_the_order_of_the_report_whatever_the_order_asked_for():
    assert report.parse_workloads("mnist, tiny") == ("tiny", "mnist")
    assert report.parse_sections("all") == tuple(SECTIONS)


@pytest.mark.parametrize("parse", [report.parse_sections, report.parse_workloads, report.parse_rivals])
def test_an_unknown_name_is_refused_with_those_that_are_known(parse):
    with pytest.raises(ValueError, match=r"has 'tinny', but takes 'all' or names out of \w+, \w+"):
        parse("tinny")


def test_a_rival_that_is_not_installed_is_left_out_of_all_and_refused_by_name(monkeypatch):
    missing = replace(RIVALS["torch"], module="no_such_module")
    monkeypatch.setitem(RIVALS, "torch", missing)
    assert "torch" not in report.parse_rivals("all")
    assert "numpy" in report.parse_rivals("all")
    with pytest.raises(ValueError, match="PyTorch is not installed"):
        report.parse_rivals("numpy,torch")


@pytest.mark.parametrize("text", ["0", "-1", "two", "1,,2", ""])
def test_threads_have_to_be_whole_numbers(text):
    with pytest.raises(ValueError, match="threads is"):
        report.parse_threads(text)


def test_all_threads_are_the_cores_and_no_more_are_taken():
    cores = _native.available_cores()
    assert report.parse_threads("all,1") == sorted({1, cores})
    with pytest.raises(ValueError, match=f"may use {cores} cores"):
        report.parse_threads(str(cores + 1))


def test_a_section_is_measured_where_it_belongs():
    places = [(task.section, task.threads, task.level) for task in tasks(["training", "calls"], [1, 2], TASK)]
    assert places == [("training", 1, None), ("training", 2, None), ("calls", 1, None)]
    levels = [task.level for task in tasks(["levels"], [1, 2], TASK)]
    assert levels[0] == "base"
    assert _native.level in levels


def test_the_help_names_every_section(capsys):
    with pytest.raises(SystemExit):
        make_parser().parse_args(["bench", "--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in SECTIONS)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--sections", "trainings"], "sections has 'trainings'"),
        (["--seconds", "0"], "seconds is 0.0, expected a number above 0"),
        (["--seconds", "nan"], "seconds is nan"),
        (["--write", "no/such/file"], "No such file"),
        (["--json", "no/such/file"], "No such file .*no/such/file"),
        (["--json", str(ROOT / "tests")], "Is a directory"),
        (["--plot", __file__], "File exists"),
    ],
)
def test_a_mistake_is_told_before_anything_is_measured(options, complaint):
    with pytest.raises(SystemExit, match=f"fastbp bench: .*{complaint}"):
        bench(make_parser().parse_args(["bench", *options]))


def test_ctrl_c_ends_a_command_without_a_traceback(monkeypatch):
    def struck():
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.argv", ["fastbp", "demo"])
    monkeypatch.setattr("fastbp.__main__.demo", struck)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 130
    assert stopped.value.__suppress_context__


def test_every_workload_has_goals_for_one_thread_and_two():
    assert list(GOALS) == list(WORKLOADS)
    assert all(set(goals) == {1, 2} for goals in GOALS.values())


# The clock


def test_cores_are_whole_and_fast_ones_first(tmp_path):
    # Two fast cores of two threads each, and two slow ones; of the last nothing is told.
    siblings = {0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3", 4: "4", 5: None}
    frequencies = {0: 5_000_000, 1: 5_000_000, 2: 5_100_000, 3: 5_100_000, 4: 4_000_000, 5: None}
    for core in siblings:
        for name, value in (
            ("topology/thread_siblings_list", siblings),
            ("cpufreq/cpuinfo_max_freq", frequencies),
        ):
            path = tmp_path / f"cpu{core}" / name
            path.parent.mkdir(parents=True)
            if value[core] is not None:
                path.write_text(f"{value[core]}\n")
    assert timing.chosen_cores(6, range(6), tmp_path) == [3, 1, 4, 5, 2, 0]
    assert timing.chosen_cores(2, {1, 3, 4}, tmp_path) == [3, 1]
    assert timing.chosen_cores(2, range(4), tmp_path / "nothing") == [3, 2]


def test_turns_are_taken_forwards_then_backwards_with_the_collector_off():
    calls = []

    def job(name):
        calls.append((name, gc.isenabled()))
        return float(len(calls))

    values = timing.take_turns({name: lambda name=name: job(name) for name in "abc"}, QUICK)
    assert calls == [(name, False) for name in "abccba"]
    assert values == {"a": [1.0, 6.0], "b": [2.0, 5.0], "c": [3.0, 4.0]}
    assert gc.isenabled()


def test_on_several_threads_each_turn_is_led_in_by_one_that_does_not_count():
    numbers = iter(range(1, 100))
    values = timing.take_turns({"a": lambda: float(next(numbers))}, QUICK, threads=2)
    assert values == {"a": [2.0, 4.0]}


def test_a_rest_outlasts_a_thread_that_is_still_at_work(monkeypatch):
    monkeypatch.setattr(timing, "REST_SECONDS", 60.0)
    work = "sha256", b"password", b"salt", 1_000_000  # 0.3 s, without the interpreter's lock
    thread = Thread(target=hashlib.pbkdf2_hmac, args=work)
    thread.start()
    timing.rest()
    assert not thread.is_alive()


def test_repetitions_fill_the_time_asked_for(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def run(count):
        now[0] += 1e-6 * count

    assert timing.repetitions(run, 0.03) == round(0.03 / 1e-6)
    assert timing.repetitions(lambda count: run(10**6 * count), 0.03) == 1


def test_a_wrong_result_is_never_timed():
    row = Row("training", "tiny", "", 1, {"fastbp": right(), "rival": WRONG})
    calls = []

    def job():
        calls.append("fastbp")
        return 1.0

    timing.fill(row, {"fastbp": job, "rival": lambda: calls.append("rival")}, QUICK, peak=lambda: 0.5)
    assert calls == ["fastbp", "fastbp"]
    assert row.results["fastbp"].values == [1.0, 1.0]
    assert row.results["rival"].values == []
    assert row.peak == 2.0


def test_epochs_are_whole_unless_they_are_to_be_quick_or_have_too_many_flops():
    task = replace(TASK, effort=Effort(), workloads=("tiny",))
    steps = WORKLOADS["tiny"].steps
    flops = WORKLOADS["tiny"].step_flops
    assert [problem.workload.steps for problem in judging.problems(task)] == [steps]
    assert [problem.workload.steps for problem in judging.problems(TASK)] == [3]
    short = judging.problems(task, ["tiny"], epoch_flops=7.5 * flops)
    assert [problem.workload.steps for problem in short] == [7]


class Sloppy(Fastbp):
    """Trains with another learning rate than it was told."""

    def __init__(self, problem, threads):
        workload = replace(problem.workload, learning_rate=1.1 * problem.workload.learning_rate)
        super().__init__(replace(problem, workload=workload), threads)


def test_another_training_than_the_workload_s_is_found_out():
    problem = make_problem(SMALL)
    row = judging.new_row("training", problem, 1)
    judging.measure_problem(row, problem, {"fastbp": Fastbp, "sloppy": Sloppy}, QUICK)
    assert row.results["fastbp"].agrees
    assert len(row.results["fastbp"].values) == 2
    assert not row.results["sloppy"].agrees
    assert row.results["sloppy"].values == []


def test_every_rival_that_is_installed_trains_updates_and_predicts_as_the_reference_does():
    problem = make_problem(replace(SMALL, loss="cross_entropy", sizes=(3, 5, 4), batch_size=1, steps=64))
    compare = judging.comparison(problem)
    for make in judging.contenders(report.parse_rivals("all")).values():
        contender = make(problem, 1)
        for _ in range(2):
            contender.restart()
            contender.train(1)
            assert judging.judged(compare(contender.parameters())).agrees
        contender.restart()
        for i in problem.orders[0]:
            contender.update(problem.x[i : i + 1], problem.y[i : i + 1])
        assert judging.judged(compare(contender.parameters())).agrees
        probabilities = contender.predict(problem.x)
        assert probabilities.shape == (64, 4)
        assert np.abs(probabilities.sum(axis=1) - 1).max() < judging.TOLERANCE


def broken(problem, threads):
    raise OSError("no such library")


def test_a_rival_that_fails_costs_a_row_this_rival_and_the_project_s_own_failure_the_row():
    problem = make_problem(SMALL)
    row = judging.new_row("training", problem, 1)
    judging.measure_problem(row, problem, {"fastbp": Fastbp, "rival": broken}, QUICK, peak=lambda: 1e-9)
    assert len(row.results["fastbp"].values) == 2
    assert not row.results["rival"].agrees
    assert table_of(row).cells[0][4:6] == ["failed", ""]
    assert report.progress(row).endswith("\nrival failed: OSError: no such library")
    with pytest.raises(OSError, match="no such library"):
        judging.measure_problem(row, problem, {"fastbp": broken}, QUICK)


def test_ctrl_c_ends_the_measuring_process_and_keeps_what_was_measured(monkeypatch):
    started = []

    def start(*arguments, **options):
        started.append(Popen(*arguments, **options))
        return started[0]

    def strike(row):
        raise KeyboardInterrupt

    monkeypatch.setattr(processes.subprocess, "Popen", start)
    monkeypatch.setattr(report, "progress", strike)
    asked = replace(TASK, workloads=tuple(WORKLOADS))
    measured = report.run(["training", "calls"], [1], asked, "fastbp bench")
    assert started[0].returncode < 0
    assert len(measured.rows["training"]) == 1
    assert measured.failures == {"training": report.INTERRUPTED}
    assert measured.complete == []
    assert "tiny" in measured.text()


def test_networks_of_a_crowd_train_as_one_alone_does():
    problem = make_problem(SMALL)
    alone = Fastbp(problem, 1)
    alone.train(2)
    with threads.ThreadCrowd(problem, None, 3) as crowd:
        crowd.train(1)
        crowd.restart()
        crowd.train(2)
        for parameters in crowd.tell("parameters"):
            assert np.array_equal(parameters, alone.parameters())


@pytest.mark.parametrize("count", [1, 2])
def test_every_kernel_in_the_report_computes_what_numpy_does(count):
    for kernel in kernels.make_kernels(count, quick=True):
        assert kernels.largest_error(kernel, kernel.native) <= kernels.TOLERANCE, kernel.name


def test_variants_of_a_step_replace_one_thing_each():
    names = {
        name: [variant for variant, _ in phases.variants(make_problem(WORKLOADS[name]), 2).items()]
        for name in ("tiny", "digits", "matexp")
    }
    assert names["tiny"] == ["step", "rows in order", "ReLU", "1 thread"]
    assert names["digits"] == ["step", "rows in order", "SGD", "1 thread"]
    assert names["matexp"] == ["step", "SGD", "ReLU", "1 thread"]


# Tables


def test_numbers_have_three_digits_or_are_whole():
    shown = [
        tables.significant(number) for number in (0.0123456, 0.5, 5.314, 9.996, 53.14, 531.4, 53140.0, 0.0)
    ]
    assert shown == ["0.0123", "0.500", "5.31", "10.0", "53.1", "531", "53,140", "0"]


def test_a_result_shows_its_minimum_and_median_and_a_single_value_alone():
    assert tables.quantity(right(3e-6, 1e-6, 2e-6), 1e6) == "1.00 / 2.00"
    assert tables.quantity(right(1.5e6), 1e-6) == "1.50"
    assert tables.quantity(WRONG, 1e6) == "differs by 3e-01"
    assert tables.quantity(None, 1e6) == ""


def test_a_ratio_is_that_of_the_minima_and_needs_both_to_be_right():
    assert tables.ratio(right(9.0, 3.0), right(2.0, 7.0)) == "1.50"
    assert tables.ratio(WRONG, right(1.0)) == ""
    assert tables.ratio(right(1.0), WRONG) == ""
    assert tables.ratio(right(1.0), right(0.0)) == ""


def table_of(*rows):
    return tables.make_table(rows)


def test_a_training_table_has_shares_times_the_best_rival_and_the_goals():
    results = {"fastbp": right(1e-6), "slow": right(4e-6), "fast": right(2e-6), "wrong": WRONG}
    row = Row("training", "tiny", "4-1", 2, results, 500, 1e9, goal_share=0.48, goal_times=2.4)
    table = table_of(row)
    assert table.title == "Training, 2 threads"
    expected = {
        "workload": "tiny", "network, loss, optimiser, batch": "4-1", "fastbp": "1.00",
        "of peak": "50 %", "slow": "4.00", "fast": "2.00", "wrong": "differs by 3e-01", "best rival": "2.00",
    }  # fmt: skip
    cells = dict(zip(table.columns, table.cells[0], strict=True))
    assert expected.items() <= cells.items()
    assert table.cells[0][4] == "48 %"
    assert table.cells[0][-1] == "2.4"


def test_a_table_without_goals_or_flops_has_no_columns_for_them():
    table = table_of(Row("numerical", "88", "2-2", 1, {"one": right(1.0), "two": right(2.0)}))
    assert table.columns == ["parameters", "network", "one", "two", "times"]


def test_what_a_row_lacks_is_an_empty_cell():
    rows = [
        Row("phases", "a", "", 1, {"step": right(4.0), "SGD": right(3.0)}),
        Row("phases", "b", "", 1, {"step": right(4.0), "ReLU": right(2.0)}),
    ]
    table = table_of(*rows)
    assert table.columns[2:] == ["step", "SGD", "ReLU"]
    assert [line[3:] for line in table.cells] == [["75 %", ""], ["", "50 %"]]


def test_a_table_of_wrong_results_alone_can_be_printed():
    row = Row("training", "tiny", "4-1", 1, {"fastbp": WRONG, "rival": WRONG}, 500, goal_times=2.0)
    assert "differs by 3e-01" in table_of(row).text()


def test_text_is_aligned_and_markdown_has_a_cell_for_every_column():
    table = table_of(Row("kernels", "relu", "(64, 128)", 1, {"fastbp": right(1e-6)}, 10, 1e9))
    head, line = table.text().splitlines()[1:]
    assert head.index("fastbp") + len("fastbp") == line.index("1.00") + len("1.00")
    rows = table.markdown().splitlines()[2:]
    assert {row.count("|") for row in rows} == {len(table.columns) + 1}


# The report


def a_report():
    row = Row("calls", "predict", "4-1", 1, {"fastbp": right(1e-6)}, goal=2.5e-6)
    return report.Report({"command": "fastbp bench"}, {"calls": [row]})


def test_only_what_was_measured_is_replaced_in_a_file(tmp_path):
    path = tmp_path / "page.md"
    block = "<!-- benchmark {0} -->\nold {0}\n<!-- /benchmark {0} -->\n"
    path.write_text("head\n" + block.format("calls") + "between\n" + block.format("cold") + "tail\n")
    measured = a_report()
    measured.rows["memory"] = []
    measured.write_blocks(path)
    text = path.read_text()
    assert text.startswith("head\n<!-- benchmark calls -->\n**Calls from Python, 1 thread**")
    assert "command: fastbp bench\n<!-- /benchmark calls -->\nbetween\n" in text
    assert text.endswith("between\n" + block.format("cold") + "tail\n")
    measured.write_blocks(path)
    assert path.read_text() == text
    measured.failures["calls"] = "no memory"
    measured.rows["calls"][0].results["fastbp"].values = [2e-6]
    measured.write_blocks(path)
    assert path.read_text() == text


def test_a_file_keeps_how_its_lines_end(tmp_path):
    path = tmp_path / "page.md"
    path.write_bytes(b"head\r\n<!-- benchmark calls -->\r\n<!-- /benchmark calls -->\r\ntail\n")
    a_report().write_blocks(path)
    head, *lines, last, nothing = path.read_bytes().split(b"\n")
    assert head == b"head\r"
    assert all(line.endswith(b"\r") for line in lines)
    assert (last, nothing) == (b"tail", b"")


def test_a_report_as_json_has_what_failed_and_no_number_that_is_none(tmp_path):
    measured = a_report()
    measured.rows["calls"][0].results["rival"] = Result(float("nan"), False, failure="OSError: gone")
    measured.failures["cold"] = "gone, too"
    measured.write_json(path := tmp_path / "numbers.json")
    content = json.loads(path.read_text(), parse_constant=pytest.fail)
    results = content["sections"]["calls"][0]["results"]
    assert results["rival"] == {"error": None, "agrees": False, "values": [], "failure": "OSError: gone"}
    assert content["failures"] == {"cold": "gone, too"}


def test_a_file_without_a_place_is_refused(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("<!-- benchmark cold -->\n<!-- /benchmark calls -->\n")
    with pytest.raises(ValueError, match=r"page\.md has no place for any of calls: expected <!-- benchmark"):
        report.blocks_of(path, ["calls"])


def test_the_readme_has_a_place_for_every_section():
    assert set(report.blocks_of(ROOT / "README.md", list(SECTIONS))) == set(SECTIONS)


def test_the_peak_is_the_median_of_the_rows_and_not_the_levels():
    rows = [Row("training", "", "", 1, {}, peak=peak) for peak in (1e9, 9e9, 3e9)]
    rows += [Row("levels", "", "", 1, {}, peak=50e9), Row("training", "", "", 2, {}, peak=6e9)]
    assert report.peaks(rows) == "3 GFLOP/s on 1 thread, 6 GFLOP/s on 2 threads"


def test_the_command_measures_prints_and_writes(tmp_path):
    page, numbers = tmp_path / "page.md", tmp_path / "numbers.json"
    page.write_text("<!-- benchmark calls -->\n<!-- /benchmark calls -->\n")
    options = (
        "--quick",
        "--sections",
        "calls",
        "--rivals",
        "numpy",
        "--write",
        str(page),
        "--json",
        str(numbers),
    )
    done = python("-m", "fastbp", "bench", *options)
    assert done.returncode == 0, done.stderr
    assert "predict(32 rows)" in done.stdout
    assert "| predict(32 rows) |" in page.read_text()
    rows = json.loads(numbers.read_text())["sections"]["calls"]
    assert all(result["agrees"] for row in rows for result in row["results"].values())


# Whole programs, memory, growth


def test_the_program_loads_no_library_but_the_one_it_is_to_measure():
    tree = ast.parse(Path(program.__file__).read_text())
    imported = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imported if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in imported if isinstance(node, ast.ImportFrom)}
    assert not any(name.partition(".")[0] in {"fastbp", "torch", "jax", "sklearn"} for name in names)


def test_a_program_learns_and_tells_its_mistakes_seconds_and_memory():
    # Linux counts memory on each processor by itself, up to some 0.1 MB: the network has to take more.
    mistakes, seconds, room = processes.run_program("train", "fastbp", "samples:4000", "16-2048-4", 4, 32, 0)
    assert mistakes < memory.MISTAKES
    assert seconds > 0
    assert room > 0


def test_bytes_from_a_file_are_learnt_the_same_mapped_and_read(tmp_path):
    path = tmp_path / "bytes"
    memory.write_bytes(path, 5_000, 20)
    assert path.stat().st_size == 5_000 * 20
    runs = [
        processes.run_program("train", "fastbp", f"{kind}:{path}", "20-32-10", 4, 32, 0)
        for kind in ("mapped", "read")
    ]
    assert runs[0][0] == runs[1][0] < memory.MISTAKES


def test_the_memory_that_training_needs_is_counted_by_hand():
    parameters = (2 * 3 + 3) + (3 * 1 + 1)
    assert memory.needed_bytes("2-3-1", 5) == 4 * (4 * parameters + 5 * (2 + 3 + 1))


def test_growth_leaves_out_what_the_memory_does_not_hold_and_says_so(monkeypatch, capsys):
    monkeypatch.setattr(growth, "free_memory", lambda: 1e6)
    monkeypatch.setattr(growth, "measure_samples", lambda task, counts, samples: samples)
    monkeypatch.setattr(growth, "measure_parameters", lambda task, counts, width: -width)
    sizes = list(growth.measure(replace(TASK, effort=Effort())))
    assert sizes == [1_000, -7, -22]
    said = capsys.readouterr().err
    assert "growth leaves out 10,000 samples" in said
    assert "growth leaves out 9,940 parameters" in said
