"""One call from Python by every contender that is installed, a group for each call."""

from __future__ import annotations

import numpy as np
import pytest

from fastbp.bench.baseline import Baseline
from fastbp.bench.calls import ONLINE, PREDICTION_GOALS, PREDICTION_TOLERANCE, SERVED, single_rows
from fastbp.bench.judging import SEED, TOLERANCE, comparison, contenders
from fastbp.bench.rivals import RIVALS
from fastbp.bench.workloads import make_problem

THREADS = 1
CONTENDERS = contenders([key for key, rival in RIVALS.items() if rival.installed])


@pytest.mark.parametrize("name", CONTENDERS)
@pytest.mark.parametrize("rows", PREDICTION_GOALS)
def test_predict(benchmark, rows, name):
    problem = make_problem(SERVED, SEED)
    benchmark.group = f"predict, {rows:,} rows of {SERVED.network}"
    contender = CONTENDERS[name](problem, THREADS)
    x = problem.x[:rows]
    exact = Baseline(problem, np.float64).predict(x.astype(np.float64))
    assert np.abs(contender.predict(x) - exact).max() <= PREDICTION_TOLERANCE
    benchmark(contender.predict, x)


@pytest.mark.parametrize("name", CONTENDERS)
def test_partial_fit(benchmark, name):
    problem = make_problem(ONLINE, SEED)
    benchmark.group = f"partial_fit, a row of {ONLINE.network}"
    contender = CONTENDERS[name](problem, THREADS)
    rows = single_rows(problem)
    for x, y in rows:
        contender.update(x, y)
    assert comparison(problem)(contender.parameters()) <= TOLERANCE
    benchmark(contender.update, *rows[0])
