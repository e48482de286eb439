"""The pace of a network's steps: on a clock that is told what every call takes."""

from itertools import pairwise
from types import SimpleNamespace

import pytest

from fastbp import pace
from fastbp.pace import GAIN, GROWTH, NEXT_TRIAL, SLICE_SECONDS, TRIAL_SECONDS, TRIED_SECONDS, Pace

TEAM = 4


@pytest.fixture
def clock(monkeypatch):
    """The clock of `pace`, which stands still until it is moved."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(pace, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
    return now


def run(clock, paced, seconds, step):
    """Call after call for so long, where ``step(threads)`` says what a step takes; the time that each got."""
    spent = dict.fromkeys((1, TEAM), 0.0)
    end = clock.seconds + seconds
    while clock.seconds < end:
        threads, steps = paced.threads, paced.steps
        spent[threads] += call(clock, paced, threads, steps, steps * step(threads))
    return spent


def call(clock, paced, threads, steps, seconds, **options):
    """A call that takes so many seconds."""
    start = clock.seconds
    clock.seconds += seconds
    paced.took(threads, steps, start, **options)
    return seconds


@pytest.mark.parametrize("step", [1e-6, 3e-5, 2e-3])
@pytest.mark.parametrize("gain", [1.05, 2.0, 4.0])
def test_a_team_that_is_faster_keeps_all_but_the_trials(clock, step, gain):
    spent = run(clock, Pace(TEAM, step), 20.0, lambda threads: step * (gain if threads == 1 else 1.0))
    assert 0.0 < spent[1] < 0.03 * spent[TEAM]


@pytest.mark.parametrize("loss", [1.2, 8.0, 100.0])
def test_one_thread_that_is_faster_soon_has_all_but_the_trials(clock, loss):
    step, paced = 3e-5, Pace(TEAM, 3e-5)
    run(clock, paced, 0.3, lambda threads: step * (loss if threads > 1 else 1.0))
    spent = run(clock, paced, 20.0, lambda threads: step * (loss if threads > 1 else 1.0))
    assert 0.0 < spent[TEAM] < 0.03 * spent[1]


def test_a_pace_follows_the_machine_when_that_changes(clock):
    paced = Pace(TEAM, 1e-5)
    for slow in (TEAM, 1, TEAM, 1):
        steps = {1: 1e-5, TEAM: 1e-5} | {slow: 2e-5}
        run(clock, paced, 3 * NEXT_TRIAL, steps.get)
        spent = run(clock, paced, 2.0, steps.get)
        assert spent[slow] < 0.03 * sum(spent.values())


def test_a_long_step_leaves_its_team_only_where_that_was_kept_waiting(clock):
    paced = Pace(TEAM, TRIED_SECONDS)
    assert run(clock, paced, 20.0, {1: 0.4, TEAM: 0.1}.get)[1] == 0.0
    call(clock, paced, TEAM, 1, 2.0, hindered=True)
    run(clock, paced, 20.0, {1: 0.4, TEAM: 2.0}.get)
    assert paced.threads == 1
    run(clock, paced, 400.0, {1: 0.4, TEAM: 0.1}.get)
    assert paced.threads == TEAM


def test_a_trial_that_gains_little_changes_nothing(clock):
    for first, other in ((1.0, 0.95), (0.95, 1.0)):
        paced, kept = Pace(TEAM, 1e-5), TEAM
        spent = run(clock, paced, 3.0, lambda threads, f=first, o=other: 1e-5 * (f if threads > 1 else o))
        assert spent[kept] > 0.9 * sum(spent.values())
        assert min(first, other) > GAIN


def test_a_team_that_was_kept_waiting_is_held_against_one_thread_at_once(clock):
    paced = Pace(TEAM, 1e-5)
    call(clock, paced, TEAM, 10, 1e-4)  # and had been fast
    call(clock, paced, TEAM, 10, 5e-3, hindered=True)
    assert paced.threads == 1
    call(clock, paced, 1, 100, TRIAL_SECONDS)  # faster than the team has become, not than it was
    assert paced.threads == 1


def test_calls_grow_to_a_slice_and_no_faster_than_was_seen(clock):
    paced, steps = Pace(1, 1e-3), []
    for _ in range(9):
        steps.append(paced.steps)
        call(clock, paced, 1, paced.steps, 1e-6 * paced.steps)
    assert steps[0] == TRIAL_SECONDS / 1e-3
    assert all(after <= GROWTH * before for before, after in pairwise(steps))
    assert steps[-1] == pytest.approx(SLICE_SECONDS / 1e-6, rel=1e-6)
    call(clock, paced, 1, 1, 1.0)
    assert paced.steps == 1


def test_a_step_worth_one_thread_is_never_tried_on_more(clock):
    paced = Pace(1, 1e-5)
    for _ in range(100):
        assert paced.threads == 1
        call(clock, paced, 1, paced.steps, NEXT_TRIAL)


def test_calls_on_fewer_threads_than_were_meant_say_nothing_of_the_team(clock):
    """A team is not started for the first calls of a Python thread."""
    paced = Pace(TEAM, 1e-5)
    for _ in range(100):
        call(clock, paced, 1, paced.steps, NEXT_TRIAL)
        assert paced.threads == TEAM
