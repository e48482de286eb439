"""Charts: everything given is in them, as words, and the user's own matplotlib stays as it was."""

from __future__ import annotations

import sys
import threading
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
from interpreter import run

from fastbp import charts

NAMES = ["W1", "W2", "W3"]
NORMS = {"sigmoid": [1e-6, 1e-4, 1e-2], "step": [0.0, 0.0, 0.1]}
WAYS = {"descent": [[-2, 1], [-1, 0.5], [0, 0]], "momentum": np.array([[-2, 1], [0.5, 0], [0, 0]])}
LOSSES = {"training": [1.0, 0.5, 0.25], "validation": [[1, 3], [1.1, 0.6]]}


def bowl(x, y):
    return x * x + 2.0 * y * y


DRAWN = {
    "norms": (
        lambda path: charts.draw_norms(NAMES, NORMS, path, title="T"),
        {*NAMES, *NORMS, "norm of the gradient"},
    ),
    "curves": (
        lambda path: charts.draw_curves(LOSSES, path, title="T", log_x=True, log_y=True),
        {"training", "validation", "epoch", "loss"},
    ),
    "paths": (
        lambda path: charts.draw_paths(bowl, WAYS, path, title="T", marks={"lowest": (0, 0)}),
        {"descent", "momentum", "lowest", "start", "x", "y"},
    ),
    "points": (
        lambda path: charts.draw_points([1, 2, 3], [1, 2, 100], path, title="T", lines={"MSE": [34, 34, 34]}),
        {"data", "MSE", "x", "y"},
    ),
}  # fmt: skip
every_chart = pytest.mark.parametrize(("draw", "words"), DRAWN.values(), ids=DRAWN)


@every_chart
def test_a_chart_holds_every_name_and_label(draw, words, tmp_path):
    draw(tmp_path / "chart.svg")
    root = ElementTree.parse(tmp_path / "chart.svg")
    shown = {"".join(text.itertext()).strip() for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert words | {"T"} <= shown


@every_chart
@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_same_chart_gives_the_same_bytes_whatever_the_users_settings(draw, words, kind, tmp_path):
    draw(tmp_path / f"1.{kind}")
    with matplotlib.rc_context({"font.size": 30.0, "axes.facecolor": "black", "svg.hashsalt": None}):
        before = dict(matplotlib.rcParams)
        draw(tmp_path / f"2.{kind}")
        assert dict(matplotlib.rcParams) == before
    assert (tmp_path / f"1.{kind}").read_bytes() == (tmp_path / f"2.{kind}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


@every_chart
def test_another_ending_is_refused_and_nothing_is_left(draw, words, tmp_path):
    with pytest.raises(ValueError, match=r"chart\.pdf', expected a name that ends in \.svg or \.png"):
        draw(tmp_path / "chart.pdf")
    assert not list(tmp_path.iterdir())


@every_chart
def test_without_matplotlib_the_error_says_how_to_install_it(draw, words, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'needs matplotlib: python -m pip install "fastbp\[draw\]"'):
        draw(tmp_path / "chart.svg")
    assert not list(tmp_path.iterdir())


def test_a_chart_that_fails_leaves_the_old_file_and_the_settings(tmp_path, monkeypatch):
    path = tmp_path / "chart.svg"
    path.write_bytes(b"old")
    before = dict(matplotlib.rcParams)

    def fail(*_, **__):
        raise OSError("disk")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    with pytest.raises(OSError, match="disk"):
        charts.draw_curves(LOSSES, path)
    assert dict(matplotlib.rcParams) == before
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"old", [path])


def test_charts_drawn_at_once_by_threads_are_those_drawn_one_by_one(tmp_path):
    before = dict(matplotlib.rcParams)
    draw = DRAWN["norms"][0]
    threads = [threading.Thread(target=draw, args=(tmp_path / f"{number}.svg",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    assert dict(matplotlib.rcParams) == before


DRAW_IN_A_FRESH_PROCESS = """
import sys
from fastbp import charts
charts.draw_curves({"loss": [1.0, 0.5]}, sys.argv[1])
print("matplotlib.pyplot" in sys.modules)
"""


def test_no_window_is_opened_and_pyplot_never_loaded(tmp_path):
    program = DRAW_IN_A_FRESH_PROCESS.replace("sys.argv[1]", repr(str(tmp_path / "chart.png")))
    assert run(program) == "False\n"


MISFITS = {
    "norms 'a' has 2 values, expected .* 3 names": lambda path: charts.draw_norms(NAMES, {"a": [1, 2]}, path),
    r"norms has shape \(2, 1\), expected": lambda path: charts.draw_norms(NAMES, [[1], [2]], path),
    r"series 'a' has shape \(3, 2\)": lambda path: charts.draw_curves({"a": np.ones((3, 2))}, path),
    r"paths 'a' has shape \(2,\), expected": lambda path: charts.draw_paths(bowl, {"a": [1, 2]}, path),
    "paths is empty": lambda path: charts.draw_paths(bowl, {}, path),
    r"function gave shape \(\) for arrays": lambda path: charts.draw_paths(lambda x, y: 1.0, WAYS, path),
    "no finite value": lambda path: charts.draw_paths(lambda x, y: x * np.nan, WAYS, path),
    "y has 1 values, but x has 2": lambda path: charts.draw_points([1, 2], [1], path),
    r"lines 'a' has shape \(2,\)": lambda path: charts.draw_points([1], [1], path, lines={"a": [1, 2]}),
    "values has 2 numbers for 1 names": lambda path: charts.bars(["a"], [1, 2]),
    "values holds -1, expected none below 0": lambda path: charts.bars(["a"], [-1]),
}


@pytest.mark.parametrize("message", MISFITS)
def test_shapes_that_do_not_fit_are_refused_by_name(message, tmp_path):
    with pytest.raises(ValueError, match=message):
        MISFITS[message](tmp_path / "chart.svg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("norms", [[0, 0, 0], [np.inf, np.nan, 1], [5e-324, 0, 1e308], [1, 1, 1]])
def test_norms_that_vanish_or_explode_are_drawn_all_the_same(norms, tmp_path):
    charts.draw_norms(NAMES, norms, tmp_path / "chart.svg")
    assert "hollow" in (tmp_path / "chart.svg").read_text() or 0 not in norms


def test_long_names_of_many_layers_are_drawn_slanting(tmp_path):
    for name, layers in (("few", 3), ("many", 12)):
        names = [f"{number} Dense(100, 100)" for number in range(layers)]
        charts.draw_norms(names, np.ones(layers), tmp_path / f"{name}.svg")
    assert "rotate(-40" not in (tmp_path / "few.svg").read_text()
    assert (tmp_path / "many.svg").read_text().count("rotate(-40") == 12


def test_paths_that_leave_the_finite_world_are_drawn_as_far_as_they_go(tmp_path):
    way = [[-1.0, 1.0], [3.0, -2.0], [np.inf, np.nan]]
    charts.draw_paths(bowl, {"too large a step": way}, tmp_path / "chart.svg")
    assert (tmp_path / "chart.svg").stat().st_size > 0


def test_series_look_different_in_colour_marker_and_dashes():
    looks = [look for look, _ in zip(charts._looks(), range(36), strict=False)]
    assert len({(look["color"], look["marker"], look["linestyle"]) for look in looks}) == 36
    first = looks[: len(charts.PALETTE)]
    assert all(len({look[kind] for look in first}) == len(first) for kind in ("color", "marker", "linestyle"))


def test_bars_are_as_long_as_the_numbers_and_line_up():
    assert charts.bars(["relu", "사과", "none"], [4.0, 1.25, 0.0], width=4) == (
        "relu     4  ████\n"
        "사과  1.25  █▎\n"
        "none     0"
    )  # fmt: skip


def test_logarithmic_bars_add_the_same_for_every_factor_of_ten():
    lines = charts.bars(["a", "b", "c", "d"], [1e-3, 1e-2, 1e-1, 0.0], log=True, width=6).splitlines()
    assert [line.count("█") for line in lines] == [2, 4, 6, 0]


def test_bars_of_nothing_and_of_what_is_not_finite():
    assert charts.bars([], []) == ""
    assert charts.bars(["a", "b"], [np.inf, 1.0], width=2).splitlines() == ["a  inf", "b    1  ██"]
