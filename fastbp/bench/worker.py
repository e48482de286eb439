"""The process that measures: ``python -m fastbp.bench.worker JSON`` prints one row as JSON a line.

One process for each section, number of threads and level, because NumPy and JAX fix their threads when they
start, and fastbp its level.
"""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict

from fastbp.bench.rows import Effort, Task
from fastbp.bench.sections import SECTIONS

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is the parent's to speak of
    fields = json.loads(sys.argv[1])
    task = Task(**{**fields, "effort": Effort(**fields["effort"])})
    for row in SECTIONS[task.section].measure(task):
        print(json.dumps(asdict(row)), flush=True)
