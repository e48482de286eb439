"""The benchmark as a whole: start the measuring processes, head the result, print it and write it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from statistics import median

from fastbp import __version__, _native
from fastbp.bench.rivals import RIVALS
from fastbp.bench.tables import SECTIONS, Table, duration, make_table, plural
from fastbp.bench.timing import Effort, Result, Row, process_environment
from fastbp.bench.workloads import WORKLOADS

NAMES = (*WORKLOADS, "kernels", "numerical")
BEGIN, END = "<!-- benchmark -->", "<!-- /benchmark -->"


@dataclass
class Report:
    """What was measured, where and how."""

    header: dict[str, str]
    rows: list[Row]

    def tables(self, *sections: str) -> list[Table]:
        """One table for each of the sections and each number of threads."""
        rows = [row for section in sections for row in self.rows if row.section == section]
        groups = groupby(rows, key=lambda row: (row.section, row.threads))
        return [make_table(list(group), self.peak(threads)) for (_, threads), group in groups]

    def peak(self, threads: int) -> float:
        """What the machine does at the most, in flops a second: the median over all rows of each row's best.

        Neither a burst at a high clock nor a row that was disturbed decides.
        """
        return median(row.peak for row in self.rows if row.threads == threads)

    def text(self) -> str:
        """For the terminal."""
        width = max(map(len, self.header))
        header = "\n".join(f"{name:<{width}}  {value}" for name, value in self.header.items())
        return "\n\n".join([header, *(table.text() for table in self.tables(*SECTIONS))])

    def markdown(self) -> str:
        """For a page: training in full view, the rest folded away."""
        shown = [table.markdown() for table in self.tables("training")]
        folded = [table.markdown() for table in self.tables("kernels", "numerical")]
        if folded:
            summary = "<summary>Single kernels; back propagation and numerical differentiation</summary>"
            shown += ["<details>\n" + summary, *folded, "</details>"]
        shown.append("; ".join(f"{name}: {value}" for name, value in self.header.items()))
        return "\n\n".join(shown)

    def json(self) -> str:
        """Everything, every turn."""
        return json.dumps({"header": self.header, "rows": [asdict(row) for row in self.rows]}, indent=1)


def run(
    names: Sequence[str], rivals: Sequence[str], threads: Sequence[int], effort: Effort, command: str
) -> Report:
    """Measure, one process for each number of threads, and say on standard error how far it is."""
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    rows: list[Row] = []
    for count in threads:
        for row in measured(names, rivals, count, effort):
            rows.append(row)
            times = ", ".join(f"{name} {duration(result)}" for name, result in row.results.items())
            print(f"{plural(count)}, {row.section} {row.name} {row.detail}: {times} us", file=sys.stderr)
    report = Report({}, rows)
    machine = _native.config()
    peaks = [f"{report.peak(count) / 1e9:.0f} GFLOP/s on {plural(count)}" for count in threads]
    report.header = {
        "processor": f"{machine['processor']}, {machine['cores available']} cores, level {machine['level']}",
        "peak": ", ".join(peaks),
        "versions": ", ".join(f"{name} {version}" for name, version in versions(rivals).items()),
        "load average before": load,
        "command": command,
    }
    return report


def measured(names: Sequence[str], rivals: Sequence[str], threads: int, effort: Effort) -> Iterator[Row]:
    """The rows of one measuring process, as they come."""
    task = {"names": list(names), "rivals": list(rivals), "threads": threads, "effort": asdict(effort)}
    command = [sys.executable, "-m", "fastbp.bench.worker", json.dumps(task)]
    home = Path(__file__).parents[
        2
    ]  # where this very package is found, whatever the folder the user is in holds
    with process_environment(threads) as environment:
        process = subprocess.Popen(command, env=environment, cwd=home, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            fields = json.loads(line)
            results = {name: Result(**result) for name, result in fields.pop("results").items()}
            yield Row(**fields, results=results)
    if process.returncode:
        raise RuntimeError(f"the measuring process ended with status {process.returncode}, see above")


def versions(rivals: Sequence[str]) -> dict[str, str]:
    """Name and version of everything that took part."""
    taking_part = ["numpy", *(key for key in rivals if key != "numpy")]
    others = {RIVALS[key].name: RIVALS[key].version for key in taking_part}
    return {"fastbp": __version__, "Python": platform.python_version(), **others}


def parse_names(text: str) -> list[str]:
    """Workloads and sections, ``all`` or with commas between them, in the order of the report."""
    asked = list(NAMES) if text == "all" else [name.strip() for name in text.split(",")]
    for name in asked:
        if name not in NAMES:
            raise ValueError(f"workloads has {name!r}, but takes 'all' or names out of {', '.join(NAMES)}")
    return [name for name in NAMES if name in asked]


def parse_rivals(text: str) -> list[str]:
    """Rivals, ``all`` that are installed or by name with commas between them."""
    if text == "all":
        return [key for key, rival in RIVALS.items() if rival.installed]
    asked = [name.strip() for name in text.split(",")]
    for name in asked:
        if name not in RIVALS:
            raise ValueError(f"rivals has {name!r}, but takes 'all' or names out of {', '.join(RIVALS)}")
        if not RIVALS[name].installed:
            raise ValueError(f"rivals has {name!r}, but {RIVALS[name].name} is not installed")
    return asked


def parse_threads(text: str) -> list[int]:
    """Numbers of threads with commas between them; ``all`` is the cores that this process may use."""
    cores = _native.available_cores()
    words = [str(cores) if word.strip() == "all" else word.strip() for word in text.split(",")]
    counts = sorted({int(word) if word.isdecimal() else 0 for word in words})
    if counts[0] < 1:
        raise ValueError(f"threads is {text!r}, expected whole numbers >= 1 or 'all', with commas between")
    if counts[-1] > cores:
        raise ValueError(f"threads has {counts[-1]}, but this process may use {cores} cores")
    return counts


def split_at_markers(path: Path) -> tuple[str, str]:
    """What stands before and after the benchmark in a file."""
    head, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{path} has no place for the benchmark: expected {BEGIN} and {END}, each on a line")
    return head, tail


def write_between_markers(path: Path, content: str) -> None:
    """Replace what stands between the markers in a file."""
    head, tail = split_at_markers(path)
    path.write_text(f"{head}{BEGIN}\n{content}\n{END}{tail}", encoding="utf-8")
