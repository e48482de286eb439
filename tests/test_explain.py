"""The tour: complete in both languages, its numbers the text book's, its claims true of what it computed."""

from __future__ import annotations

import os
import string
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tolerances

import fastbp as bp
from fastbp import columns
from fastbp.__main__ import main
from fastbp.explain import descent, numerical, outlier, tour, vanishing
from fastbp.explain.page import LANGUAGES, TEXTS, Code, Graph, Page, Table, read, render, tabulated
from fastbp.graph import Variable

WIDEST = 100
COMPUTED: dict[str, Page] = {}

every_chapter = pytest.mark.parametrize("chapter", tour.CHAPTERS)
every_language = pytest.mark.parametrize("language", LANGUAGES)


def page(chapter):
    """What a chapter computes, once for all tests."""
    if chapter not in COMPUTED:
        COMPUTED[chapter] = tour.CHAPTERS[chapter]()
    return COMPUTED[chapter]


def text(chapter, language="en"):
    return render(page(chapter), read(chapter, language)[1])


def placeholders(chapter, language):
    """What a text names, and how: the format of a number, the counts of a table's words."""
    found = []
    for _, name, form, _ in string.Formatter().parse(read(chapter, language)[1]):
        if name is not None:
            name = name.partition("[")[0]
            head, _, labels = form.partition(";")
            worded = isinstance(page(chapter).values[name], Table)
            found.append((name, (head.count("|"), labels.count("|")) if worded else form))
    return found


@every_language
@every_chapter
def test_a_chapter_is_printed_whole_in_lines_that_fit_a_terminal(chapter, language):
    lines = text(chapter, language).splitlines()
    assert len(lines) > 10
    assert not [line for line in lines if columns.width(line) > WIDEST]


@every_chapter
def test_the_languages_show_the_same_values_in_the_same_form(chapter):
    english, korean = (placeholders(chapter, language) for language in ("en", "ko"))
    graphs = {name for name, value in page(chapter).values.items() if isinstance(value, Graph)}  # names apart
    assert {entry for entry in english if entry[0] not in graphs} == {
        entry for entry in korean if entry[0] not in graphs
    }
    assert sorted(name for name, _ in english) == sorted(name for name, _ in korean)


@every_chapter
def test_everything_computed_is_shown(chapter):
    assert {name for name, _ in placeholders(chapter, "en")} == set(page(chapter).values)


@every_chapter
def test_korean_texts_are_korean_and_english_ones_are_not(chapter):
    def letters(language):
        title, body = read(chapter, language)
        return [letter for letter in title + body if "가" <= letter <= "힣"]

    assert len(letters("ko")) > 100
    assert not letters("en")


def test_every_text_belongs_to_a_chapter():
    names = {f"{name.replace('-', '_')}.txt" for name in tour.CHAPTERS}
    for language in LANGUAGES:
        assert {path.name for path in (TEXTS / language).iterdir()} == names


# The text book's numbers


def values_of(chapter, *names):
    return [float(page(chapter).values[name]) for name in names]


def rows_of(chapter, name):
    return page(chapter).values[name].rows


def test_the_chain_rule_gives_49_and_14():
    assert values_of("chain-rule", "z", "dz_dt", "dt_dx", "dz_dx", "dz_dy") == [49, 14, 1, 14, 14]
    assert "dz/dx ≈ 14.000000" in text("chain-rule")


def test_the_apples_get_the_same_however_the_other_goods_came_about():
    assert rows_of("local-computation", "ways") == [["4200", "4620", "1.1"]] * 3
    assert rows_of("local-computation", "arriving") == [
        ["1", "6", "6"],
        ["10", "6", "60"],
        ["-2", "6", "-12"],
    ]


def test_the_shop_costs_715_and_has_all_its_derivatives():
    assert values_of("shop", "apples", "mandarins", "fruit") == [200, 450, 650]
    assert "with tax 715." in text("shop")
    assert [row[:2] for row in rows_of("shop", "derivatives")] == [
        ["2", "110"],
        ["100", "2.2"],
        ["3", "165"],
        ["150", "3.3"],
        ["1.1", "650"],
    ]


def test_the_nodes_pass_back_what_their_rules_say():
    passed = {(name, at): (value, back) for name, at, value, _, back, _ in rows_of("nodes", "nodes")}
    assert passed == {
        ("x + y", "3, 4"): ("7", "10; 10"),
        ("x * y", "3, 4"): ("12", "40; 30"),
        ("x * x", "3"): ("9", "60"),
        ("1 / x", "4"): ("0.25", "-0.625"),
        ("exp(x)", "1"): ("2.718", "27.18"),
        ("log(x)", "4"): ("1.386", "2.5"),
        ("max(x, y)", "3, 4"): ("4", "0; 10"),
        ("max(x, y)", "4, 4"): ("4", "10; 0"),
        ("x ** 3", "2"): ("8", "120"),
        ("sigmoid(x)", "0"): ("0.5", "2.5"),
        ("relu(x)", "2"): ("2", "10"),
        ("relu(x)", "-2"): ("0", "0"),
        ("step(x)", "2"): ("1", "0"),
    }


def test_sigmoid_at_0_is_a_half_with_a_quarter_as_its_derivative_by_four_nodes_and_by_one():
    assert values_of("sigmoid", "y", "dy_dx") == [0.5, 0.25]
    assert rows_of("sigmoid", "way")[0][1:] == ["0.5", "1", "-0.25", "-0.25"]
    for _, _, four, one, formula in rows_of("sigmoid", "beside"):
        assert four == one == formula


def test_a_layer_written_by_hand_is_the_library_s():
    (difference,) = values_of("layer", "difference")
    assert difference <= tolerances.chain([3, 3, 1], 2, 1.0, np.float64)
    _, by_jacobian, by_element = rows_of("layer", "jacobian")[0]
    assert by_jacobian == by_element
    for _, shape, _, _, slope_shape, _ in rows_of("layer", "shapes"):
        assert shape == slope_shape


def test_two_layers_come_out_as_with_a_pencil():
    rows = {name: (value, slope) for name, _, value, slope in rows_of("two-layers", "rows")}
    assert rows["A1"][0].split() == ["0.75000", "0.50000", "0.25000", "0.50000", "0.75000", "0.75000"]
    assert rows["A2"][0].split() == ["0.50000", "0.25000"]
    assert rows["Z2"][1].split() == ["-0.25000", "0.12500"]
    assert rows["W2"][1].split() == ["-0.12500", "-0.03125", "0.03125"]
    assert tuple(map(str.strip, rows["L"])) == ("0.49041", "1.00000")
    assert all(shape == slope_shape for _, shape, slope_shape in rows_of("two-layers", "shapes"))
    before, after = values_of("two-layers", "loss_before", "loss_after")
    assert after < before


def test_the_errors_of_both_outputs_add_up_in_three_layers_and_the_loss_falls():
    additions, difference = values_of("three-layers", "additions", "difference")
    assert max(additions, difference) <= tolerances.chain([2, 3, 3, 2], 4, 10.0, np.float64)
    losses = [float(loss) for _, loss in rows_of("three-layers", "losses")]
    assert losses == sorted(losses, reverse=True)


def test_numerical_differentiation_agrees_and_its_ratio_grows_with_the_network():
    (worst,) = values_of("numerical", "worst")
    assert worst <= bp.gradients.TOLERANCE
    parameters = [row[1] for row in rows_of("numerical", "rows")]
    assert parameters == ["88", "1,012", "10,084", "100,804"]
    assert len(numerical.WIDTHS) == len(parameters)


def test_the_outlier_draws_the_squared_error_to_26_5_and_leaves_the_absolute_one_between_2_and_3():
    mse, mae, median = values_of("outlier", "mse", "mae", "median")
    assert abs(mse - 26.5) <= tolerances.CONSTANT_BY_DESCENT
    assert 2 <= mae <= 3
    assert median == 2.5
    assert "26.5" in text("outlier")
    without = values_of("outlier", "mse_without", "mae_without")
    assert np.abs(np.subtract(without, 2)).max() <= outlier.LEARNING_RATE / 3  # a step of MAE's descent


# What the pictures show


def fall(name):
    norms = vanishing.gradient_norms(*(vanishing.FITTING | vanishing.OTHERS)[name], vanishing.DEPTH)
    return norms[-1] / norms[0]


def test_norms_fall_layer_by_layer_with_sigmoid_and_hold_with_relu_and_he_and_tanh_and_xavier():
    norms = vanishing.gradient_norms(*vanishing.FITTING["sigmoid, Xavier"], vanishing.DEPTH)
    assert norms == sorted(norms)
    assert fall("sigmoid, Xavier") > 4 ** (vanishing.DEPTH - 1)  # each layer passes at most a quarter
    for fitting in ("ReLU, He", "tanh, Xavier"):
        assert 0.1 < fall(fitting) < 10


def test_norms_are_small_with_small_weights_and_explode_with_large_ones():
    small, fitting, large = (
        min(vanishing.gradient_norms("relu", weight, vanishing.DEPTH))
        for weight in (vanishing.SMALL, vanishing.HE, vanishing.LARGE)
    )
    assert small < 1e-4 < 0.1 < fitting < 1e4 < large


def ways(name):
    surface = descent.SURFACES[name]
    return surface, {
        key: descent.descend(surface.height, surface.start, optimizer, surface.steps)
        for key, optimizer in descent.optimizers(surface.lr).items()
    }


def test_every_descent_on_a_convex_surface_ends_at_its_lowest_point():
    surface, found = ways("convex")
    for way in found.values():
        assert np.hypot(*way[-1]) < 1e-4 < np.hypot(*surface.start)


def test_plain_descent_stops_at_a_saddle_where_momentum_and_adam_go_on():
    surface, found = ways("saddle")
    plain, *others = found.values()
    assert (plain[:, 0] > 0).all()  # the saddle is at (0, 0), the lowest point at (-2, 0)
    assert descent.slope(surface.height, plain[-1]) < 1e-3
    for way in others:
        assert np.abs(way[-1] - [-2, 0]).max() < 1e-3


def test_plain_descent_stops_in_the_first_valley_where_momentum_and_adam_reach_the_deeper_one():
    surface, found = ways("two-valleys")
    plain, *others = found.values()
    assert plain[-1][0] > 0.8
    assert descent.slope(surface.height, plain[-1]) < 1e-8
    for way in others:
        assert way[-1][0] < -1
        assert surface.height(*way[-1]) < surface.height(*plain[-1]) - 0.3


def test_no_descent_leaves_the_ridge_on_which_it_starts_and_all_leave_it_from_beside():
    on, near, beside = rows_of("descent", "ridge")
    assert on[1:] == ["-"] * 3
    for row in (near, beside):
        plain, momentum, adam = map(int, row[1:])
        assert adam < momentum < plain


def test_a_path_is_drawn_from_its_start_to_its_ends():
    for name, ends in (("convex", "A"), ("saddle", "PA"), ("two_valleys", "PA")):  # A where ends are one
        letters = set(page("descent").values[f"{name}_picture"])
        assert {"S", "p", "m", "a", *ends} <= letters


def test_xor_is_learnt_to_the_tolerance_and_the_digits_are_read():
    for _, target, output in rows_of("training", "answers"):
        assert abs(float(target) - float(output)) < 0.1
    accuracy, guessing = values_of("training", "accuracy", "guessing")
    assert accuracy > 85 > guessing == 10


# The command line


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["fastbp", "explain", *map(str, arguments)])
    main()


def test_a_chapter_is_chosen_by_name_or_number(monkeypatch, capsys):
    run(monkeypatch, "shop")
    by_name = capsys.readouterr().out
    run(monkeypatch, 3)
    assert capsys.readouterr().out == by_name
    assert by_name.startswith("3. The shop\n═══════════\n")


@every_language
def test_the_list_names_every_chapter_with_its_title(monkeypatch, capsys, language):
    run(monkeypatch, "--list", "--language", language)
    lines = capsys.readouterr().out.splitlines()
    for line, (place, name) in zip(lines, enumerate(tour.CHAPTERS, 1), strict=True):
        assert line.split(maxsplit=2) == [str(place), name, read(name, language)[0]]


@pytest.mark.parametrize("chapter", ["shops", "0", "14", "-1", "²"])
def test_an_unknown_chapter_is_refused_with_those_there_are(monkeypatch, chapter):
    with pytest.raises(SystemExit) as refusal:
        run(monkeypatch, "--", chapter)
    assert f"chapter is {chapter!r}, expected 1 to 13 or one of chain-rule, " in str(refusal.value)


def test_a_folder_that_is_a_file_is_refused(monkeypatch, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(SystemExit, match=r"fastbp explain: .*file"):
        run(monkeypatch, "shop", "--save", file)


def test_every_picture_is_saved(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tour, "CHAPTERS", {name: lambda name=name: page(name) for name in tour.CHAPTERS})
    folder = tmp_path / "new" / "pictures"
    run(monkeypatch, "--save", folder)
    wanted = {picture for name in tour.CHAPTERS for picture in page(name).pictures}
    assert {path.name for path in folder.iterdir()} == wanted
    printed = capsys.readouterr().out
    for picture in wanted:
        assert b"<svg" in (folder / picture).read_bytes()[:1000]
        assert f"→ {folder / picture}" in printed


def test_the_tour_waits_for_enter_between_chapters_only_where_somebody_sits(monkeypatch, capsys):
    chapters = dict(list(tour.CHAPTERS.items())[:3])
    monkeypatch.setattr(tour, "CHAPTERS", chapters)
    asked = []
    monkeypatch.setattr("builtins.input", asked.append)
    for attended, options in ((False, ()), (True, ("--no-pause",))):
        monkeypatch.setattr("sys.stdin.isatty", lambda attended=attended: attended, raising=False)
        monkeypatch.setattr("sys.stdout.isatty", lambda attended=attended: attended, raising=False)
        run(monkeypatch, *options)
        assert not asked
    run(monkeypatch)
    assert len(asked) == len(chapters) - 1
    monkeypatch.setattr("builtins.input", lambda prompt: (_ for _ in ()).throw(EOFError))
    run(monkeypatch)
    assert capsys.readouterr().out.count("\n3. ") == 4


def test_ctrl_c_at_a_pause_leaves_without_a_traceback(monkeypatch):
    def interrupt(prompt):
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", interrupt)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    with pytest.raises(SystemExit) as end:
        run(monkeypatch)
    assert end.value.code == 130


def test_a_reader_who_closes_the_pipe_ends_the_tour_quietly(tmp_path):
    command = [sys.executable, "-m", "fastbp", "explain"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout.readline().startswith(b"1. ")
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


# A page


def test_columns_of_numbers_are_flush_right_and_korean_letters_count_twice():
    assert tabulated(["이름", "n"], [["사과", "7"], ["b", "1,000"]]).splitlines() == [
        "    이름       n",
        "    ────   ─────",
        "    사과       7",
        "    b      1,000",
    ]


def test_a_table_refuses_a_head_or_labels_that_do_not_fit():
    table = Table([["1", "2"], ["3", "4"]])
    assert f"{table:a|b|c;x|y}".count("\n") == 3
    with pytest.raises(ValueError, match="a row has 2 cells, the head 1"):
        f"{table:a}"
    with pytest.raises(ValueError, match="zip"):
        f"{table:a|b|c;x}"


def test_a_graph_is_shown_with_the_names_of_a_language_and_keeps_them_for_its_picture():
    x = Variable(2, "x")
    assert "사과" not in f"{Graph(x * 3, [x])}"
    assert "사과" in f"{Graph(x * 3, [x]):사과}"
    assert x.name == "사과"


def test_code_is_shown_as_it_stands_in_the_source():
    shown = f"{Code(run)}"
    assert shown.startswith("    def run(monkeypatch, *arguments):\n        monkeypatch.setattr")
    assert shown.splitlines()[-1].strip() in Path(os.path.realpath(__file__)).read_text(encoding="utf-8")


def test_saved_graphs_show_the_names_of_the_language(tmp_path):
    for language, name in (("en", "mandarins"), ("ko", "귤 개수")):
        tour.write_chapters(tour.choose("shop"), language, tmp_path / language, print)
        assert name in (tmp_path / language / "shop.svg").read_text(encoding="utf-8")
