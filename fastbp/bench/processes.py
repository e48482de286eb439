"""Processes: those that measure a section, and the whole programs that are measured themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from fastbp.bench import program
from fastbp.bench.rivals import RIVALS
from fastbp.bench.rows import OWN, Result, Row, Task
from fastbp.bench.timing import process_environment

HOME = Path(__file__).parents[2]  # where this very package is found, whatever the user's folder holds


def measured(task: Task) -> Iterator[Row]:
    """The rows of one measuring process, as they come."""
    command = [sys.executable, "-m", "fastbp.bench.worker", json.dumps(asdict(task))]
    with process_environment(task.threads, task.level) as environment:
        process = subprocess.Popen(command, env=environment, cwd=HOME, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                fields = json.loads(line)
                results = {name: Result(**result) for name, result in fields.pop("results").items()}
                yield Row(**fields, results=results)
        except BaseException:  # who asked wants no more of it
            process.terminate()
            raise
    if process.returncode:
        raise RuntimeError(f"the process that measures {task.section} ended with status {process.returncode}")


def libraries(rivals: Sequence[str]) -> dict[str, str]:
    """The project and those of the rivals that have a program: what tables call them, and their key."""
    return {OWN: "fastbp", **{RIVALS[key].name: key for key in rivals if key in program.LIBRARIES}}


def run_program(*arguments: str | int) -> list[float]:
    """Run the program in a new interpreter; gives the numbers that it prints."""
    source = Path(program.__file__).read_text(encoding="utf-8")
    command = [sys.executable, "-c", source, *map(str, arguments)]
    done = subprocess.run(command, cwd=HOME, stdout=subprocess.PIPE, text=True)
    if done.returncode:  # it has said why
        what = " ".join(map(str, arguments))
        raise RuntimeError(f"the program that does {what!r} ended with status {done.returncode}")
    return [float(word) for word in done.stdout.split()]
