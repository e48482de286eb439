"""One epoch of every workload by every contender that is installed, a group for each workload."""

from __future__ import annotations

import pytest

from fastbp.bench.judging import SEED, TOLERANCE, comparison, contenders
from fastbp.bench.rivals import RIVALS
from fastbp.bench.workloads import WORKLOADS, make_problem

THREADS = 1
CONTENDERS = contenders([key for key, rival in RIVALS.items() if rival.installed])


@pytest.fixture(scope="module", params=WORKLOADS)
def workload(request):
    problem = make_problem(WORKLOADS[request.param], SEED)
    return problem, comparison(problem)


@pytest.mark.parametrize("name", CONTENDERS)
def test_epoch(benchmark, workload, name):
    problem, compare = workload
    benchmark.group = problem.workload.name
    contender = CONTENDERS[name](problem, THREADS)
    contender.train(1)
    assert compare(contender.parameters()) <= TOLERANCE
    contender.restart()
    benchmark(contender.train, 1)
