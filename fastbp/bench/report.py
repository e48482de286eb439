"""The benchmark as a whole: measure section by section, head the result, print it and write it."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from fastbp import __version__, _native, atomic
from fastbp.bench import charts
from fastbp.bench.processes import measured
from fastbp.bench.rivals import RIVALS
from fastbp.bench.rows import Row, Task
from fastbp.bench.sections import SECTIONS, tasks
from fastbp.bench.tables import LAYOUTS, Table, make_table, plural, quantity
from fastbp.bench.workloads import WORKLOADS

BLOCK = re.compile(r"(<!-- benchmark (\w+) -->(\r?\n)).*?(<!-- /benchmark \2 -->)", re.DOTALL)
INTERRUPTED = "interrupted"


@dataclass
class Report:
    """What was measured, by section, where and how."""

    header: dict[str, str]
    rows: dict[str, list[Row]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)  # by section

    @property
    def complete(self) -> list[str]:
        """The sections that were measured to their end."""
        return [name for name, rows in self.rows.items() if rows and name not in self.failures]

    def tables(self, section: str) -> list[Table]:
        """One table for each kind of row and each number of threads in a section."""
        groups: dict[tuple[str, int], list[Row]] = {}
        for row in self.rows.get(section, []):
            groups.setdefault((row.table, row.threads), []).append(row)
        return [make_table(group) for group in groups.values()]

    def text(self) -> str:
        """For the terminal."""
        width = max(map(len, self.header))
        header = "\n".join(f"{name:<{width}}  {value}" for name, value in self.header.items())
        return "\n\n".join([header, *(table.text() for name in self.rows for table in self.tables(name))])

    def markdown(self, section: str) -> str:
        """For a page: the tables of one section, and where and how they came to be."""
        header = "; ".join(f"{name}: {value}" for name, value in self.header.items())
        return "\n\n".join([*(table.markdown() for table in self.tables(section)), header])

    def write_blocks(self, path: Path) -> None:
        """Put the sections between their markers in a file; the rest stays, and so does how lines end."""

        def block(match: re.Match[str]) -> str:
            before, section, newline, after = match.groups()
            if section not in self.complete:
                return match[0]
            return before + f"{self.markdown(section)}\n".replace("\n", newline) + after

        atomic.replace(path, BLOCK.sub(block, read(path)).encode())

    def write_json(self, path: Path) -> None:
        """Everything, every turn; null for an error that is no number."""
        rows = {section: [asdict(row) for row in rows] for section, rows in self.rows.items()}
        text = json.dumps({"header": self.header, "sections": rows, "failures": self.failures})
        content = json.loads(text, parse_constant=lambda _: None)
        atomic.replace(path, f"{json.dumps(content, indent=1)}\n".encode())

    def write_charts(self, folder: Path) -> None:
        """The charts of the sections that have some."""
        charts.write({section: self.rows[section] for section in self.complete}, folder)


def run(sections: Sequence[str], threads: Sequence[int], task: Task, command: str) -> Report:
    """Measure, and say on standard error how far it is; Ctrl-C ends it with what there is by then."""
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    report = Report({})
    for part in tasks(sections, threads, task):
        rows = report.rows.setdefault(part.section, [])
        try:
            for row in measured(part):
                rows.append(row)
                print(progress(row), file=sys.stderr)
        except RuntimeError as error:  # said above by the process itself; the other sections go on
            report.failures[part.section] = str(error)
        except KeyboardInterrupt:
            report.failures[part.section] = INTERRUPTED
            break
    for section in report.rows:
        if section not in [*report.complete, *report.failures]:
            print(f"{section} has no rows for these workloads on this machine", file=sys.stderr)
    machine = _native.config()
    header = {
        "processor": f"{machine['processor']}, {machine['cores available']} cores, level {machine['level']}",
        "peak": peaks([row for rows in report.rows.values() for row in rows]),
        "versions": ", ".join(f"{name} {version}" for name, version in versions(task.rivals).items()),
        "load average before": load,
        "command": command,
    }
    report.header = {name: value for name, value in header.items() if value}  # some sections have no peak
    return report


def progress(row: Row) -> str:
    """One row on one line, and a line for each rival that failed."""
    layout = LAYOUTS[row.table]
    values = ", ".join(f"{name} {quantity(result, layout.scale)}" for name, result in row.results.items())
    what = f"{plural(row.threads)}, {row.table} {row.name} {row.detail}"
    reasons = [f"{name} failed: {result.failure}" for name, result in row.results.items() if result.failure]
    return "\n".join([f"{what}: {values} {layout.unit.split()[0]}", *reasons])


def peaks(rows: Sequence[Row]) -> str:
    """The machine's peak by number of threads: the median of what was measured beside the rows.

    The levels have peaks of their own.
    """
    found: dict[int, list[float]] = {}
    for row in rows:
        if row.peak and row.table != "levels":
            found.setdefault(row.threads, []).append(row.peak)
    return ", ".join(
        f"{median(values) / 1e9:.0f} GFLOP/s on {plural(count)}" for count, values in sorted(found.items())
    )


def versions(rivals: Sequence[str]) -> dict[str, str]:
    """Name and version of everything that took part."""
    taking_part = ["numpy", *(key for key in rivals if key != "numpy")]
    others = {RIVALS[key].name: RIVALS[key].version for key in taking_part}
    return {"fastbp": __version__, "Python": platform.python_version(), **others}


def parse_choice(text: str, option: str, known: Sequence[str]) -> tuple[str, ...]:
    """Names with commas between them, or ``all``; in the order of those that are known."""
    asked = list(known) if text == "all" else [name.strip() for name in text.split(",")]
    for name in asked:
        if name not in known:
            raise ValueError(f"{option} has {name!r}, but takes 'all' or names out of {', '.join(known)}")
    return tuple(name for name in known if name in asked)


def parse_sections(text: str) -> tuple[str, ...]:
    """The sections asked for."""
    return parse_choice(text, "sections", list(SECTIONS))


def parse_workloads(text: str) -> tuple[str, ...]:
    """The workloads asked for."""
    return parse_choice(text, "workloads", list(WORKLOADS))


def parse_rivals(text: str) -> tuple[str, ...]:
    """The rivals asked for, which have to be installed; ``all`` is those that are."""
    if text == "all":
        return tuple(key for key, rival in RIVALS.items() if rival.installed)
    asked = parse_choice(text, "rivals", list(RIVALS))
    for name in asked:
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


def blocks_of(path: Path, sections: Sequence[str]) -> list[str]:
    """The sections among those given that a file has a place for, at least one."""
    places = [match[2] for match in BLOCK.finditer(read(path)) if match[2] in sections]
    if not places:
        example = f"<!-- benchmark {sections[0]} --> and <!-- /benchmark {sections[0]} -->, each on a line"
        raise ValueError(f"{path} has no place for any of {', '.join(sections)}: expected {example}")
    return places


def read(path: Path) -> str:
    """A file's text with the ends of lines that it has."""
    return path.read_bytes().decode("utf-8")
