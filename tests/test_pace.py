"""The pace of a network's steps: on a clock that is told what calls take, and in calls that are slow."""

import threading
import time
from itertools import cycle, pairwise
from types import SimpleNamespace

import numpy as np
import pytest

import fastbp as bp
from fastbp import _native, interpreted, pace
from fastbp.pace import (
    ALONE_WINDOWS,
    GAIN,
    GROWTH,
    LAST_TRIAL,
    SLICE_SECONDS,
    TEAM_WINDOWS,
    TRIAL_SHARE,
    TRIED_SECONDS,
    WINDOW_SECONDS,
    Pace,
)

TEAM = 4
NOISE = 1.3, 1.0, 1.1, 2.5, 1.05, 1.2, 1.0  # times what a call would take undisturbed, in turn
every_pause = pytest.mark.parametrize("pause", [0.0, 0.1])  # seconds between two calls


@pytest.fixture
def clock(monkeypatch):
    """The clock of `pace`, which stands still until it is moved, and what disturbs the calls."""
    now = SimpleNamespace(seconds=100.0, noise=cycle(NOISE))
    monkeypatch.setattr(pace, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
    return now


def run(clock, paced, seconds, step, pause=0.0, most=10**9):
    """So many seconds of calls, where ``step(threads)`` says what a step takes; what each way got of them."""
    spent = dict.fromkeys((1, TEAM), 0.0)
    while sum(spent.values()) < seconds:
        threads, steps = paced.threads, min(paced.steps, most)
        spent[threads] += call(clock, paced, threads, steps, steps * step(threads) * next(clock.noise))
        clock.seconds += pause
    return spent


def call(clock, paced, threads, steps, seconds, **options):
    """A call that takes so many seconds."""
    start = clock.seconds
    clock.seconds += seconds
    paced.took(threads, steps, start, **options)
    return seconds


@every_pause
@pytest.mark.parametrize("most", [1, 10**9])
@pytest.mark.parametrize("step", [3e-5, 2e-4])
@pytest.mark.parametrize("gain", [1.05, 2.0, 4.0])
def test_a_team_that_is_faster_keeps_all_but_the_trials(clock, step, gain, most, pause):
    steps = {1: step * gain, TEAM: step}
    spent = run(clock, Pace(TEAM, step), 20.0, steps.get, pause, most)
    assert 0.0 < spent[1] < 2.5 * ALONE_WINDOWS * WINDOW_SECONDS / LAST_TRIAL * spent[TEAM]


@every_pause
@pytest.mark.parametrize("loss", [1.2, 8.0, 100.0])
def test_one_thread_that_is_faster_soon_has_all_but_the_trials(clock, loss, pause):
    steps, paced = {1: 3e-5, TEAM: loss * 3e-5}, Pace(TEAM, 3e-5)
    run(clock, paced, 1.0, steps.get, pause)
    spent = run(clock, paced, 40.0, steps.get, pause)
    share = max(TRIAL_SHARE, TEAM_WINDOWS * WINDOW_SECONDS / LAST_TRIAL)
    assert 0.0 < spent[TEAM] < 2.5 * share * spent[1]


def test_a_pace_follows_the_machine_when_that_changes(clock):
    paced = Pace(TEAM, 1e-5)
    for slow in (TEAM, 1, TEAM, 1):
        steps = {1: 1e-5, TEAM: 1e-5} | {slow: 2e-5}
        run(clock, paced, 3.0, steps.get)
        spent = run(clock, paced, 2.0, steps.get)
        assert spent[slow] < 0.15 * sum(spent.values())


def test_a_long_step_leaves_its_team_only_where_that_was_kept_waiting(clock):
    paced = Pace(TEAM, TRIED_SECONDS)
    assert run(clock, paced, 20.0, {1: 0.4, TEAM: 0.1}.get)[1] == 0.0
    call(clock, paced, TEAM, 1, 2.0, hindered=True)
    spent = run(clock, paced, 2000.0, {1: 0.4, TEAM: 2.0}.get)
    assert spent[TEAM] < 0.1 * spent[1]
    spent = run(clock, paced, 3000.0, {1: 0.4, TEAM: 0.1}.get)
    assert spent[1] < 0.5 * spent[TEAM]


def test_a_team_that_is_slow_to_wake_is_judged_by_its_fastest_window(clock):
    paced = Pace(TEAM, 1e-5)
    run(clock, paced, 1.0, {1: 3e-5, TEAM: 1e-4}.get)
    calls = []

    def waking(threads):
        calls.append(threads)
        return 3e-5 if threads == 1 else 1e-4 if calls.count(TEAM) < TEAM_WINDOWS / 2 else 2e-5

    run(clock, paced, 3.0, waking)
    spent = run(clock, paced, 2.0, waking)
    assert spent[1] < 0.05 * spent[TEAM]


def test_a_trial_of_a_team_whose_steps_are_slow_takes_few_of_them(clock):
    paced, steps = Pace(TEAM, 1e-4), {1: 1e-4, TEAM: 0.012}
    run(clock, paced, 1.0, steps.get)
    spent = run(clock, paced, 20.0, steps.get)
    assert 0.0 < spent[TEAM] < 0.05 * spent[1]
    trial = []
    while len(trial) < 2 or trial[-1] == TEAM or trial[-2] != TEAM:
        trial.append(paced.threads)
        call(clock, paced, paced.threads, paced.steps, paced.steps * steps[paced.threads])
    assert trial.count(TEAM) == ALONE_WINDOWS


def test_a_first_call_that_starts_the_team_is_no_reason_to_leave_it(clock):
    paced = Pace(TEAM, 1e-5)
    call(clock, paced, TEAM, 1, 0.015)
    assert paced.threads == TEAM
    spent = run(clock, paced, 0.1, {1: 3e-5, TEAM: 2e-5}.get)
    assert spent[1] < 0.02


def test_a_team_that_was_left_because_it_began_slowly_is_soon_tried_again(clock):
    paced = Pace(TEAM, 1e-5)
    run(clock, paced, 0.01, {1: 3e-5, TEAM: 1e-4}.get)
    assert run(clock, paced, 0.2, {1: 3e-5, TEAM: 2e-5}.get)[TEAM] > 0.12


def test_a_trial_that_gains_too_little_changes_nothing(clock):
    paced = Pace(TEAM, 1e-5)
    clock.noise = cycle([1.0])
    spent = run(clock, paced, 10.0, {1: 1.02 * GAIN * 1e-5, TEAM: 1e-5}.get)
    assert spent[TEAM] > 0.95 * sum(spent.values())


def test_a_trial_that_gains_a_little_more_than_5_percent_changes_the_way(clock):
    clock.noise = cycle([1.0])
    spent = run(clock, Pace(TEAM, 1e-5), 10.0, {1: 0.94e-5, TEAM: 1e-5}.get)
    assert spent[1] > 0.9 * sum(spent.values())


def test_a_team_that_was_kept_waiting_is_held_against_one_thread_at_once(clock):
    paced = Pace(TEAM, 1e-5)
    call(clock, paced, TEAM, 100, 1e-3)  # and had been fast
    call(clock, paced, TEAM, 10, 5e-3, hindered=True)
    assert paced.threads == 1
    for _ in range(ALONE_WINDOWS):
        call(clock, paced, 1, 50, WINDOW_SECONDS)  # faster than the team has become, not than it was
    assert paced.threads == 1


def test_calls_grow_to_a_slice_and_no_faster_than_was_seen(clock):
    paced, steps = Pace(1, 1e-4), []
    for _ in range(9):
        steps.append(paced.steps)
        call(clock, paced, 1, paced.steps, 1e-6 * paced.steps)
    assert steps[0] == WINDOW_SECONDS / 1e-4
    assert all(after <= GROWTH * before for before, after in pairwise(steps))
    assert steps[-1] == pytest.approx(SLICE_SECONDS / 1e-6, rel=1e-6)
    call(clock, paced, 1, 1, 1e-6)  # a short one says nothing against long ones
    assert paced.steps == pytest.approx(SLICE_SECONDS / 1e-6, rel=1e-6)
    call(clock, paced, 1, 1, 1.0)
    assert paced.steps == 1


def test_a_step_worth_one_thread_is_never_tried_on_more(clock):
    paced = Pace(1, 1e-5)
    for _ in range(100):
        assert paced.threads == 1
        call(clock, paced, 1, paced.steps, LAST_TRIAL)


def test_calls_on_fewer_threads_than_were_meant_say_nothing_of_the_team(clock):
    """A team is not started for the first calls of a Python thread."""
    paced = Pace(TEAM, 1e-5)
    for _ in range(100):
        call(clock, paced, 1, paced.steps, LAST_TRIAL)
        assert paced.threads == TEAM


@pytest.mark.parametrize("loss", ["mse", lambda output, target: bp.graph.square(output - target).mean()])
def test_steps_before_a_team_is_started_are_not_booked_as_its(loss, monkeypatch):
    monkeypatch.setattr(_native._Alone, "flops", 0)
    net = bp.Network(bp.mlp([256, 256, 1]), loss)
    x = np.ones((16, 256), np.float32)

    def step():
        net.partial_fit(x, x[:, 0], threads=2)

    thread = threading.Thread(target=step)  # which has no team yet
    thread.start()
    thread.join()
    paced = net._learner.pace(16, 2)
    assert (paced._windows, paced._seconds, paced._steps) == (0, 0.0, 0)


SLOW = 0.02  # seconds that a call takes which is not alone


@pytest.fixture
def slow_team(monkeypatch):
    """Calls wait if they are made on several threads; the threads of each."""
    monkeypatch.setattr(_native, "TEAM_FLOPS", 0)
    calls = []

    def slow(function, argument):
        def wrapped(*arguments):
            calls.append(arguments[argument])
            time.sleep(SLOW if calls[-1] > 1 else 0.0)
            return function(*arguments)

        return wrapped

    return calls, slow


@pytest.mark.parametrize("name", ["predict", "evaluate"])
def test_an_evaluation_leaves_a_team_that_is_slower(slow_team, monkeypatch, name):
    calls, slow = slow_team
    net = bp.Network(bp.mlp([256, 256, 1]))
    monkeypatch.setattr(net._learner, "native", SimpleNamespace(**vars(net._learner.native)))
    monkeypatch.setattr(net._learner.native, "evaluate", slow(net._learner.native.evaluate, -1))
    x = np.ones((64, 256), np.float32)
    for _ in range(300):
        net.predict(x, threads=2) if name == "predict" else net.evaluate(x, x[:, :1], threads=2)
    assert 2 in calls[:4]
    assert calls.count(1) > 200


@pytest.mark.parametrize("own", ["loss", "layer"])
def test_steps_in_python_leave_a_team_that_is_slower(slow_team, monkeypatch, own):
    calls, slow = slow_team
    kind = interpreted.InterpretedLearner
    monkeypatch.setattr(kind, "_step", slow(kind._step, -1))

    class Same(bp.Layer):
        def forward(self, x):
            return x

        def backward(self, dy):
            return dy

    layers = bp.mlp([256, 256, 1])
    loss = (lambda output, target: bp.graph.square(output - target).mean()) if own == "loss" else "mse"
    net = bp.Network([*layers[:-1], Same(), layers[-1]] if own == "layer" else layers, loss)
    x = np.ones((64 * 300, 256), np.float32)
    net.fit(x, x[:, 0], batch_size=64, threads=2)
    assert 2 in calls[:4]
    assert calls.count(1) > 200
