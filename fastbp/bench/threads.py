"""Section of the report: what ``threads=None`` comes to, for a network alone and for many at once."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from fastbp.bench.judging import comparison, judged, measure_problem, new_row, problems, training_job
from fastbp.bench.rivals import Fastbp
from fastbp.bench.rows import Row, Task
from fastbp.bench.timing import fill
from fastbp.bench.workloads import Problem

GOAL = 0.95  # of the time that None takes is what the better of one thread and all may take at the least
CROWDED = ("digits", "grid160", "mnist")
NETWORKS_A_CORE = 2
CROWD_SECONDS = 0.3  # of a turn: its beginning and its end, when not all are at work, are no crowd


def measure(task: Task) -> Iterator[Row]:
    """One row for each workload, then some with twice as many networks as cores at work at once."""
    caps = {None, 1, task.threads}
    counts = {f"threads={cap}": cap for cap in sorted(caps, key=lambda cap: cap or 0)}
    for problem in problems(task):
        row = new_row("threads", problem, task.threads)
        row.flops, row.goal_times = 0, GOAL
        makers = {name: partial(make_capped, cap) for name, cap in counts.items()}
        yield measure_problem(row, problem, makers, task.effort)
    chosen = [name for name in CROWDED if name in task.workloads]
    for problem in problems(task, chosen[: 1 if task.effort.quick else None]):
        for kind, crowd in (("Python threads", ThreadCrowd), ("processes", ProcessCrowd)):
            yield measure_crowds(task, problem, kind, crowd, counts)


def make_capped(cap: int | None, problem: Problem, _: int) -> Fastbp:
    """The project with a cap of its own, whatever the row's number of threads."""
    return Fastbp(problem, cap)


def measure_crowds(
    task: Task, problem: Problem, kind: str, make: type[Crowd], counts: dict[str, int | None]
) -> Row:
    """Time a step of any of the networks that train at once, each from the same start to the same end."""
    size = NETWORKS_A_CORE * task.threads
    detail = f"{size} networks in {kind}"
    row = Row("crowds", problem.workload.name, detail, task.threads, {}, goal_times=GOAL)
    compare = comparison(problem)
    jobs = {}
    with ExitStack() as stack:
        for name, count in counts.items():
            crowd = stack.enter_context(make(problem, count, size))
            crowd.train(1)
            row.results[name] = judged(max(map(compare, crowd.tell("parameters"))))
            if row.results[name].agrees:
                jobs[name] = training_job(crowd, size * problem.workload.steps, CROWD_SECONDS)
        return fill(row, jobs, task.effort)


class Crowd:
    """Networks of one problem that are told the same at once."""

    def __init__(self, problem: Problem, threads: int | None, size: int) -> None:
        raise NotImplementedError

    def tell(self, method: str, *arguments: int) -> list[Any]:
        """Let every network do the same at the same time, wait for all, and give their answers."""
        raise NotImplementedError

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        raise NotImplementedError

    def restart(self) -> None:
        self.tell("restart")

    def train(self, epochs: int) -> None:
        self.tell("train", epochs)


class ThreadCrowd(Crowd):
    """Each network in a Python thread of one process."""

    def __init__(self, problem: Problem, threads: int | None, size: int) -> None:
        self.networks = [Fastbp(problem, threads) for _ in range(size)]
        self.pool = ThreadPoolExecutor(size)

    def tell(self, method: str, *arguments: int) -> list[Any]:
        return list(self.pool.map(lambda network: getattr(network, method)(*arguments), self.networks))

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()


class ProcessCrowd(Crowd):
    """Each network in a process of its own."""

    def __init__(self, problem: Problem, threads: int | None, size: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connections: list[Connection] = []
        for _ in range(size):
            here, there = context.Pipe()
            context.Process(target=serve, args=(there, problem, threads), daemon=True).start()
            there.close()
            self.connections.append(here)

    def tell(self, method: str, *arguments: int) -> list[Any]:
        for connection in self.connections:
            connection.send((method, arguments))
        return [connection.recv() for connection in self.connections]

    def __exit__(self, *_: object) -> None:
        for connection in self.connections:
            connection.close()


def serve(connection: Connection, problem: Problem, threads: int | None) -> None:
    """Do what comes through the connection until it is closed, or Ctrl-C ends it without a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    network = Fastbp(problem, threads)
    while True:
        try:
            method, arguments = connection.recv()
        except EOFError:
            return
        connection.send(getattr(network, method)(*arguments))
