"""The fuzzer itself: some of its cases in every run, and that it sees what it is there to see."""

from __future__ import annotations

import time

import fuzz
import pytest

import fastbp as bp

CASES = 30


@pytest.fixture(autouse=True)
def _thresholds_come_back(monkeypatch):
    for (module, name), usual in fuzz.THRESHOLDS.items():
        monkeypatch.setattr(module, name, usual)


def test_every_promise_is_kept_in_some_cases():
    assert [found for found in map(fuzz.try_case, range(CASES)) if found] == []


DEFECTS = {
    "predict": lambda kept: lambda net, x, threads=None: kept(net, x, threads) + (threads == 3),
    "evaluate": lambda kept: lambda net, x, y, threads=None: {"loss": 0.0},
    "loss_and_gradient": lambda kept: (
        lambda net, x, y, threads=None: (net.parameters.fill(1), kept(net, x, y))[1]
    ),
    "copy": lambda kept: lambda net, dtype=None: net,
}


@pytest.mark.parametrize("method", DEFECTS)
def test_a_defect_is_found(method, monkeypatch):
    monkeypatch.setattr(bp.Network, method, DEFECTS[method](getattr(bp.Network, method)))
    assert any(map(fuzz.try_case, range(CASES)))


def test_a_crash_is_reported_with_the_case_that_repeats_it(monkeypatch, tmp_path, capsys):
    child = tmp_path / "child.py"
    child.write_text("import os, signal\nprint('case 7', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.setattr(fuzz, "__file__", str(child))
    assert fuzz.watch(7, time.time()) == (8, 1)
    assert "python tests/fuzz.py --case 7" in capsys.readouterr().out
