"""The benchmark behind ``fastbp bench`` and the files in ``benchmarks/``.

``workloads`` says what is trained, ``baseline`` and ``rivals`` by whom, ``timing`` how the clock is read.
``training``, ``kernels`` and ``numerical`` are the sections of the report: each yields rows, measured in a
process that has the number of threads asked for (``worker``); ``tables`` and ``report`` put them on paper.
"""

from __future__ import annotations
