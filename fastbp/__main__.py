"""The command line: ``fastbp info``, ``fastbp demo``, ``fastbp explain``, ``fastbp bench``."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shlex
import sys
from pathlib import Path

import fastbp as bp
from fastbp.demo import demo


def explain(arguments: argparse.Namespace) -> None:
    """Print the tour or one of its chapters, with a pause between two where somebody sits at a terminal."""
    from fastbp.explain import tour

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without Hangul or box drawing shows what it has
    if arguments.list:
        print(tour.contents(arguments.language))
        return
    attended = sys.stdin.isatty() and sys.stdout.isatty() and not arguments.no_pause
    try:
        chapters = tour.choose(arguments.chapter)
        tour.write_chapters(chapters, arguments.language, arguments.save, pause if attended else print)
    except BrokenPipeError:  # an OSError, but no complaint of ours
        raise
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(f"fastbp explain: {error}") from None


def pause() -> None:
    """Wait for Enter, or Ctrl-C to leave; the end of the input goes on too."""
    with contextlib.suppress(EOFError):
        try:
            input("[Enter] ")
        except KeyboardInterrupt:
            raise SystemExit(130) from None


def bench(arguments: argparse.Namespace) -> None:
    """Measure, print the tables, and write them where asked."""
    from fastbp import atomic
    from fastbp.bench import charts, report
    from fastbp.bench.rows import Effort, Task

    try:
        sections = report.parse_sections(arguments.sections)
        workloads = report.parse_workloads(arguments.workloads)
        rivals, threads = report.parse_rivals(arguments.rivals), report.parse_threads(arguments.threads)
        if not 0 < arguments.seconds < float("inf"):
            raise ValueError(f"seconds is {arguments.seconds}, expected a number above 0")
        if arguments.json:
            atomic.check(arguments.json)
        if arguments.write:
            report.blocks_of(arguments.write, sections)
            atomic.check(arguments.write)
        if arguments.plot:
            charts.require_matplotlib()
            arguments.plot.mkdir(parents=True, exist_ok=True)
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(f"fastbp bench: {error}") from None
    effort = Effort(0.0 if arguments.quick else arguments.seconds, arguments.quick)
    task = Task("", 1, None, workloads, rivals, effort)
    result = report.run(sections, threads, task, command=shlex.join(["fastbp", *sys.argv[1:]]))
    failures = list(result.failures.values())
    for path, write in (
        (arguments.json, result.write_json),
        (arguments.write, result.write_blocks),
        (arguments.plot, result.write_charts),
    ):
        try:
            if path:
                write(path)
        except (OSError, ValueError) as error:  # the others are written all the same
            failures.append(str(error))
    print(result.text())
    if failures:
        print("fastbp bench:", "; ".join(failures), file=sys.stderr)
        raise SystemExit(130 if report.INTERRUPTED in failures else 1)


def make_parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    parser = argparse.ArgumentParser("fastbp", description="Neural networks by back propagation on the CPU.")
    parser.add_argument("--version", action="version", version=f"fastbp {bp.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="how this build is made and how many threads it takes")
    commands.add_parser("demo", help="handwritten digits: train, check the gradients, compare, test")
    command = commands.add_parser("explain", help="a guided tour of back propagation, computed as you read")
    command.add_argument("chapter", nargs="?", metavar="CHAPTER", help="one chapter, by name or number")
    command.add_argument("--list", action="store_true", help="what chapters there are")
    command.add_argument("--language", choices=("en", "ko"), default="en", help="default: en")
    command.add_argument("--save", type=Path, metavar="FOLDER", help="write the pictures there")
    command.add_argument("--no-pause", action="store_true", help="do not wait for Enter between chapters")
    command = commands.add_parser(
        "bench",
        help="speed beside NumPy, PyTorch, JAX and scikit-learn",
        description="Measure speed and memory: all of it, with all rivals, in twenty minutes on two cores.",
    )
    for option, default, text in (
        (
            "--sections",
            "all",
            "out of training, batches, kernels, numerical, calls, cold, memory, growth, levels, threads, "
            "phases, counters",
        ),
        ("--workloads", "all", "such as tiny,mnist, where a section goes through them"),
        ("--rivals", "numpy", "out of numpy, torch, jax, sklearn, or all that are installed"),
        ("--threads", "1,all", "such as 1,2; all is every core"),
    ):
        command.add_argument(option, default=default, metavar="A,B", help=f"{text} (default: {default})")
    command.add_argument(
        "--seconds", type=float, default=1.0, metavar="S", help="for everyone in each row (default: 1)"
    )
    command.add_argument("--quick", action="store_true", help="a smoke run: small problems, no real times")
    command.add_argument(
        "--write", type=Path, metavar="FILE", help="Markdown between the sections' markers in this file"
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="everything measured")
    command.add_argument("--plot", type=Path, metavar="FOLDER", help="charts as SVG files (matplotlib)")
    return parser


def main() -> None:
    """The console script."""
    arguments = make_parser().parse_args()
    try:
        if arguments.command == "info":
            bp.show_config()
        elif arguments.command == "demo":
            demo()
        elif arguments.command == "explain":
            explain(arguments)
        else:
            bench(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe has read enough; what is left goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # as shells have it for Ctrl-C


if __name__ == "__main__":
    main()
