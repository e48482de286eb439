"""The benchmark behind ``fastbp bench`` and the files in ``benchmarks/``.

``workloads`` says what is trained, ``baseline`` and ``rivals`` by whom, ``timing`` how the clock is read.
``sections`` lists the sections of the report, a module each: all take a task and yield rows (``rows``),
measured in a process with the threads and the instruction-set level asked for (``processes``, ``worker``);
those about whole processes run ``program``.  ``tables``, ``charts`` and ``report`` put them on paper.
"""

from __future__ import annotations
