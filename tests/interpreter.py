"""Fresh interpreters, for what can only be seen from a start: environment, imports, the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

Ended = subprocess.CompletedProcess[str]


def python(*arguments: str, cwd: Path | None = None, **environment: str | None) -> Ended:
    """Run Python with these arguments and variables; a variable given as None is unset.

    Isolated (-I): the folder where the tests run holds the source tree, which would shadow the package.
    """
    variables = {name: value for name, value in (os.environ | environment).items() if value is not None}
    return subprocess.run(
        [sys.executable, "-I", *arguments],
        cwd=cwd,
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
    )


def run(program: str, **environment: str | None) -> str:
    """What a program prints; it must end well."""
    done = python("-c", program, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def complaint(program: str, **environment: str | None) -> str:
    """The last line of what a program that must fail writes to the standard error output."""
    done = python("-c", program, **environment)
    assert done.returncode != 0, done.stdout
    return done.stderr.strip().splitlines()[-1]
