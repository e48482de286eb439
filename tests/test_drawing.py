"""Graphs as text, DOT, SVG and PNG: everything is in the picture, and nothing half is left in a folder."""

from __future__ import annotations

import html
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter

import nodes
import pytest
from interpreter import run
from nodes import GRAPHS, leaf, made, nodes_of, shop

from fastbp import drawing, graphviz

RENDERERS = [name for name in drawing.RENDERERS if name != "graphviz" or graphviz.program()]
every_graph = pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
every_renderer = pytest.mark.parametrize("renderer", RENDERERS)
every_kind = pytest.mark.parametrize("kind", ["svg", "png"])

NASTY = [
    '<b>&"x"</b>',
    r"\N \l \"",
    "two\nlines",
    "nul\0",
    "$x^2$ _y",
    "]]> --> }",
    "a\ud800b",
    "사과 값",
    "'",
    "{a|b}",
]


def numbers(array):
    """What a picture writes of an array, a line each."""
    return [line.replace(graphviz.SPACE, " ") for line in drawing._block(array)]


def texts(svg):
    """All lines of text in an SVG, which must be well-formed."""
    root = ElementTree.fromstring(svg)
    found = ("".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text"))
    return [text.replace(graphviz.SPACE, " ").strip() for text in found]


def edges_of(graph):
    return Counter((id(before), id(node)) for node in nodes_of(graph) for before in node.inputs)


# Text


def test_the_shop_as_text_reads_as_the_book_draws_it():
    assert drawing.to_text(shop()) == (
        "                              value  derivative\n"
        "total = *                       715           1\n"
        "├─ +                            650         1.1\n"
        "│  ├─ *                         200         1.1\n"
        "│  │  ├─ number of apples         2         110\n"
        "│  │  └─ price of an apple      100         2.2\n"
        "│  └─ *                         450         1.1\n"
        "│     ├─ number of mandarins      3         165\n"
        "│     └─ price of a mandarin    150         3.3\n"
        "└─ tax                          1.1         650"
    )


def test_a_node_used_twice_is_drawn_once_and_then_referred_to():
    lines = drawing.to_text(nodes.square()).splitlines()
    assert [line.split() for line in lines[2:]] == [["├─", "x", "[1]", "3", "6"], ["└─", "x", "[1]"]]


@every_graph
def test_text_has_a_line_for_every_edge_and_numbers_once_for_every_node(graph):
    result = graph()
    lines = drawing.to_text(result).splitlines()[1:]
    assert len(lines) == 1 + sum(edges_of(result).values())
    for node in nodes_of(result):
        ending = re.compile(
            rf"\s{re.escape(drawing._inline(node.value))}\s+{re.escape(drawing._inline(node.grad))}$"
        )
        assert any(ending.search(line) and drawing._label(node) in line for line in lines)
    assert sum(bool(re.search(r" \[\d+\]$", line)) for line in lines) == len(lines) - len(nodes_of(result))


def test_columns_line_up_where_letters_take_two_places():
    result = made("+", 3, 1, [leaf(1, 1, "사과"), leaf(2, 1, "pear")])
    apple, pear = drawing.to_text(result).splitlines()[2:]
    assert apple.index("1") + len("사과") == pear.index("2")


def test_a_deep_tree_goes_on_in_trees_of_its_own():
    text = drawing.to_text(nodes.chain(60))
    assert max(map(len, text.splitlines())) < 3 * drawing.DEPTH + 60
    assert len(re.findall(r"\s1\s+1$", text, re.M)) == 61
    references = re.findall(r"tanh \[(\d+)\]$", text, re.M)
    assert references
    assert all(f"\ntanh [{number}] " in text for number in references)


def test_numbers_are_short_and_large_arrays_are_their_shape():
    assert drawing._inline(leaf(-0.0).value) == "0"
    assert drawing._inline(leaf(1 / 3).value) == "0.333333"
    assert drawing._inline(leaf([[1 / 3, 2], [3, float("nan")]]).value) == "[[0.3333 2] [3 nan]]"
    assert drawing._inline(leaf([0.0] * 5).value) == "(5,)"
    assert numbers(leaf([[1 / 3, -20], [3, 4]]).value) == ["(2, 2)", "0.3333  -20", "     3    4"]
    assert numbers(leaf([[[1.0]]]).value) == ["(1, 1, 1)"]
    assert numbers(leaf([]).value) == ["(0,)"]


# DOT


def edges_in(dot):
    """(from, to) of every edge, and the attributes of every node, read from DOT line by line."""
    edges = re.findall(r"^(\w+)(?::e)? -> (\w+)(?::w)?(?: \[.*\])?$", dot, re.M)
    labels = dict(re.findall(r"^((?:n|v|b|result)\d*) \[(.*)\]$", dot, re.M))
    return edges, labels


@every_graph
def test_dot_has_every_edge_and_every_node_with_value_and_derivative(graph):
    result = graph()
    edges, labels = edges_in(drawing.to_dot(result))
    follows = {}
    for before, after in edges:
        follows.setdefault(before, []).append(after)
    symbols = [name for name in labels if name.startswith("n")]
    assert len(symbols) == len(nodes_of(result))
    drawn = Counter()
    for symbol in symbols:
        (line,) = follows[symbol]
        branches = follows[line]
        if branches[0].startswith("b"):
            (branch,) = branches
            branches = follows[branch]
            assert len(branches) > 1
        table = labels[line].removeprefix("shape=plain label=<").removesuffix(">")
        words = re.sub(r"<[^>]*>", "", re.sub(r"<br/>|<hr/>", " ", table))
        shown = html.unescape(words).replace(graphviz.SPACE, " ").split()
        drawn.update((tuple(shown), target == "result") for target in branches)
    wanted = Counter()
    for node in nodes_of(result):
        above = " ".join(numbers(node.value))
        if node.name and node.inputs:
            above = f"{node.name}{' = ' if node.value.ndim == 0 else ' '}{above}"
        words = tuple(f"{above} {' '.join(numbers(node.grad))}".split())
        wanted[words, node is result] += (
            1
            if node is result
            else sum(count for (before, _), count in edges_of(result).items() if before == id(node))
        )
    assert drawn == wanted


@pytest.mark.skipif(graphviz.program() is None, reason="the program dot is not installed")
@pytest.mark.parametrize("name", NASTY)
def test_graphviz_reads_every_name_and_value_as_it_is(name):
    result = made(name, float("inf"), float("nan"), [leaf([1, 2], None, name)], name)
    dot = drawing.to_dot(result)
    done = subprocess.run(["dot", "-Tplain"], input=dot.encode(), capture_output=True, check=True)
    assert done.stderr == b""
    assert len(re.findall(rb"^edge", done.stdout, re.M)) == len(edges_in(dot)[0])


# Pictures


@every_graph
@every_renderer
def test_the_picture_has_every_name_value_and_derivative(graph, renderer):
    result = graph()
    shown = Counter(texts(drawing.to_svg(result, renderer=renderer)))
    wanted = Counter(["above the line: value", "below the line: derivative of the result"])
    for node in nodes_of(result):
        name = node.name or ""
        symbol = drawing.IN_PRINT.get(node.operation, node.operation) if node.inputs else name
        first, *rest = numbers(node.value)
        if node.inputs and name:
            first = f"{name}{' = ' if node.value.ndim == 0 else ' '}{first}"
        lines = [symbol, first, *rest, *numbers(node.grad)]
        wanted.update(line.strip() for line in lines if line)
    assert shown - Counter({"": 1000}) == wanted


@every_renderer
@pytest.mark.parametrize("name", NASTY)
def test_a_name_is_shown_letter_for_letter(name, renderer):
    result = made("+", 1, 1, [leaf(1, 1, name)], name)
    shown = " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())
    text = [" ".join(line.split()) for line in texts(drawing.to_svg(result, renderer=renderer))]
    assert shown in text
    assert f"{shown} = 1" in text


@every_renderer
@every_kind
def test_the_same_graph_gives_the_same_bytes(renderer, kind, tmp_path):
    first, second = tmp_path / f"1.{kind}", tmp_path / f"2.{kind.upper()}"
    drawing.draw(shop(), first, renderer=renderer)
    drawing.draw(shop(), second, renderer=renderer)
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes().startswith(b"<?xml" if kind == "svg" else b"\x89PNG\r\n\x1a\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1." + kind, "2." + kind.upper()]


def test_large_graphs_are_drawn_near_the_result_and_the_picture_says_so():
    result = nodes.chain(50_000)
    note = "… the 200 of 50,001 nodes that are nearest to the result"
    assert drawing.to_text(result).splitlines()[-1] == note
    assert note in html.unescape(drawing.to_dot(result))
    assert len(edges_in(drawing.to_dot(result))[1]) == 2 * (drawing.LIMIT + 1) + 1
    assert note.replace("200", "3") in texts(drawing.to_svg(result, limit=3, renderer="matplotlib"))


def test_before_backward_the_pictures_say_that_there_are_no_derivatives():
    result = made("neg", -2, None, [leaf(2, None, "x")])
    assert [line.split()[-1] for line in drawing.to_text(result).splitlines()[1:]] == ["-", "-"]
    assert "no derivatives: backward has not run" in drawing.to_dot(result)


@pytest.mark.parametrize("name", ["graph.jpg", "graph", "graph.svg.gz", ".svg"])
def test_another_ending_is_refused_by_name(name, tmp_path):
    with pytest.raises(ValueError, match=rf"path is '.*{re.escape(name)}', expected .* \.svg or \.png"):
        drawing.draw(shop(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_another_renderer_and_a_limit_of_nothing_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match="renderer is 'cairo', expected one of graphviz, matplotlib, or None"
    ):
        drawing.draw(shop(), tmp_path / "graph.svg", renderer="cairo")
    with pytest.raises(ValueError, match="limit is 0, expected a whole number >= 1"):
        drawing.to_text(shop(), limit=0)


# What is not there, and what fails


@pytest.fixture
def nothing_installed(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "matplotlib", None)


@pytest.mark.parametrize("renderer", [None, *drawing.RENDERERS])
@pytest.mark.usefixtures("nothing_installed")
def test_without_graphviz_and_matplotlib_the_error_says_what_to_install(renderer, tmp_path):
    path = tmp_path / "graph.png"
    path.write_bytes(b"old")
    with pytest.raises(ImportError, match="Graphviz") as caught:
        drawing.draw(shop(), path, renderer=renderer)
    assert renderer == "graphviz" or 'python -m pip install "fastbp[draw]"' in str(caught.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("nothing_installed")
def test_without_both_a_notebook_shows_the_text():
    assert drawing.to_svg(shop()) is None
    shown = drawing.mimebundle(shop())
    assert set(shown) == {"text/plain", "text/html"}
    assert html.unescape(re.sub("<[^>]*>", "", shown["text/html"])) == shown["text/plain"]


def test_a_notebook_gets_text_and_svg_or_what_it_asks_for():
    assert set(drawing.mimebundle(shop())) == {"text/plain", "image/svg+xml"}
    assert set(drawing.mimebundle(shop(), include={"text/plain"})) == {"text/plain"}
    assert set(drawing.mimebundle(shop(), exclude={"text/plain"})) == {"image/svg+xml"}


def test_when_graphviz_fails_its_words_are_passed_on_and_no_file_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(graphviz, "program", lambda: sys.executable)  # which knows no option -T
    with pytest.raises(RuntimeError, match=r"Graphviz failed: .*-T"):
        drawing.draw(shop(), tmp_path / "graph.svg")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "no" / "graph.svg"
    with pytest.raises(FileNotFoundError) as caught:
        drawing.draw(shop(), path)
    assert caught.value.filename == str(path)


LOADED = """
import sys, fastbp
before = set(sys.modules)
import fastbp.drawing
print(*(set(sys.modules) - before))
"""


def test_drawing_loads_neither_networks_nor_matplotlib_until_asked():
    loaded = set(run(LOADED).split())
    assert {name for name in loaded if name.startswith("fastbp.")} <= {
        f"fastbp.{name}" for name in ("drawing", "atomic", "columns", "figures", "graphviz", "layered")
    }
    assert not {name for name in loaded if name.startswith("matplotlib")}
