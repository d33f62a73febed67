"""Figures show the numbers they claim to show."""

import math
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from cases import CASES, classes, draw, theta
from matplotlib.figure import Figure

from fedsciml import MLP, Problem, Term, plot, problems
from fedsciml.analysis import metrics
from fedsciml.collocation import strips
from fedsciml.federation import Result
from fedsciml.federation.history import Round
from fedsciml.likelihoods import Huber
from fedsciml.likelihoods._classes import reliability
from fedsciml.plot import Curve, Panel
from fedsciml.plot.pictures import sought
from fedsciml.problem import numbered


def history(rounds: int, factor: float, sent: int = 800) -> list[Round]:
    """A history whose error shrinks by a factor a round."""
    return [
        Round(
            round=k,
            loss=factor ** (2 * k),
            relative_l2=factor**k,
            mse=factor ** (2 * k),
            bytes_up=k * sent,
            bytes_down=k * sent // 2,
            seconds=0.1 * k,
        )
        for k in range(1, rounds + 1)
    ]


def line(figure: Figure, panel: int, number: int) -> np.ndarray:
    """Points of a line, shape [n, 2]."""
    return np.asarray(figure.axes[panel].lines[number].get_xydata())


def test_convergence_is_drawn_over_rounds_megabytes_and_seconds() -> None:
    figure = plot.convergence({"a": history(5, 0.1), "b": history(3, 0.5)})
    k = np.arange(1, 6)
    np.testing.assert_allclose(line(figure, 0, 0), np.stack([k, 0.1**k], 1))
    np.testing.assert_allclose(line(figure, 1, 0)[:, 0], k * 1200 / 1e6)
    np.testing.assert_allclose(line(figure, 2, 1)[:, 0], [0.1, 0.2, 0.3])
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert labels == ["round", "megabytes sent, both ways", "seconds"]
    assert figure.axes[0].get_ylabel() == "relative $L_2$ error"
    assert all(axes.get_yscale() == "log" for axes in figure.axes)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]


def test_rounds_are_whole_numbers_on_their_axis() -> None:
    axes = plot.convergence({"a": history(12, 0.5)}).axes[0]
    assert all(float(tick).is_integer() for tick in axes.get_xticks())


def test_a_centralised_method_has_no_line_over_bytes() -> None:
    figure = plot.convergence({"a": history(5, 0.1), "central": history(5, 0.1, 0)})
    assert [len(axes.lines) for axes in figure.axes] == [2, 1, 2]
    assert "central" in figure.axes[1].get_title()


def test_an_exact_zero_and_a_missing_error_can_be_drawn() -> None:
    lines = history(4, 0.1)
    lines[1], lines[2] = replace(lines[1], mse=0.0), replace(lines[2], mse=math.nan)
    figure = plot.convergence({"a": lines}, "mse")
    drawn = np.isfinite(line(figure, 0, 0)[:, 1])
    assert drawn.tolist() == [True, False, False, True]
    assert figure.axes[0].get_ylabel().startswith("mean squared")


def test_a_solution_in_one_coordinate_is_drawn_with_its_error() -> None:
    problem = CASES["scalar"]()
    figure = plot.solution(problem, theta(problem))
    reference, trained = line(figure, 0, 0), line(figure, 0, 1)
    x = torch.from_numpy(trained[:, :1].copy())
    values = problem.network(theta(problem), x)[:, 0].numpy()
    np.testing.assert_allclose(trained[:, 1], values)
    np.testing.assert_allclose(reference[:, 1], np.sin(3 * x[:, 0].numpy()))
    error = line(figure, 1, 0)
    np.testing.assert_allclose(error[:, 1], abs(trained[:, 1] - reference[:, 1]))
    top = figure.axes[0].child_axes[0]
    names = [label.get_text() for label in top.get_xticklabels()]
    assert names == ["client 0", "client 1", "client 2"]


def test_a_table_in_two_coordinates_is_drawn_as_maps_at_its_points() -> None:
    problem = replace(
        CASES["hard"](),
        test_points=draw(40, 2, 5),
        reference=torch.arange(40, dtype=torch.float64),
    )
    figure = plot.solution(problem, theta(problem))
    titles = [axes.get_title() for axes in figure.axes[:3]]
    assert titles == ["trained", "reference", "abs. error"]
    shown = figure.axes[1].collections[0].get_array()
    np.testing.assert_allclose(shown, np.arange(40))


@pytest.mark.parametrize("name", CASES)
def test_every_case_can_be_drawn(name: str, tmp_path: Path) -> None:
    problem = CASES[name]()
    figures = {
        "solution": plot.solution(problem, theta(problem)),
        "partition": plot.partition(problem),
    }
    for kind, figure in figures.items():
        if name != "scalar":
            figure.draw_without_rendering()
            continue
        path = tmp_path / f"{kind}.png"
        plot.save(figure, path)
        assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["scalar", "mixed", "system"])
def test_a_partition_shows_every_point_once(name: str) -> None:
    problem = CASES[name]()
    (axes,) = plot.partition(problem).axes
    shown = sum(len(drawn.get_xdata()) for drawn in axes.lines)
    assert shown == problem.pooled().points


def test_a_curve_has_its_line_marks_and_band() -> None:
    curve = Curve("a", [1, 2], [3, 4], 1, None, 2, band=([2, 3], [5, 6]))
    figure = plot.panels([Panel("", "x", "y", [curve])], 1)
    (drawn,) = figure.axes[0].lines
    assert (drawn.get_color(), drawn.get_linestyle()) == (plot.COLOURS[1], "None")
    assert drawn.get_marker() == plot.MARKERS[2]
    (band,) = figure.axes[0].collections
    corners = {tuple(point) for point in band.get_paths()[0].vertices.tolist()}
    assert {(1, 2), (2, 3), (1, 5), (2, 6)} <= corners


def test_a_legend_below_names_every_label_once_and_the_empty_one_never() -> None:
    curves = [Curve(label, [1, 2], [1, 2]) for label in ("a", "b", "a", "")]
    figure = plot.panels([Panel("", "x", "y", curves)] * 2, legend="below")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]
    assert not any(axes.get_legend() for axes in figure.axes)


def test_a_performance_profile_counts_the_cases_within_a_factor() -> None:
    costs = {"rounds": {"a": [1, 2, 4, math.inf], "b": [2, 1, math.inf, math.inf]}}
    figure = plot.profile(costs, "")
    for number, ratios in enumerate(([1, 2, 1], [2, 1])):
        x, share = line(figure, 0, number).T
        for factor in (1.01, 1.5, 2.01):
            within = share[x <= factor][-1]
            assert within == sum(r <= factor for r in ratios) / 4


def test_errors_of_maps_share_one_colour_scale() -> None:
    u = np.arange(12.0).reshape(3, 4)
    errors = {"good": {"p": 1e-9 * (u + 1)}, "bad": {"p": -0.1 * (u + 1)}}
    figure = plot.maps({"p": u}, errors)
    solution, good, bad = [axes.images[0] for axes in figure.axes[:3]]
    np.testing.assert_array_equal(solution.get_array(), u)
    np.testing.assert_allclose(bad.get_array(), 0.1 * (u + 1))
    assert good.norm is bad.norm
    assert bad.norm.vmax == pytest.approx(1.2)
    assert good.norm.vmin < 2e-9


def test_drawing_leaves_the_user_s_settings_and_ignores_them(tmp_path: Path) -> None:
    parts = [Panel("t", "x", "y", [Curve("a", [1, 10], [1, 2])])]
    plot.save(plot.panels(parts), tmp_path / "first.pdf")
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9}):
        before = dict(matplotlib.rcParams)
        plot.save(plot.panels(parts), tmp_path / "second.pdf")
        assert dict(matplotlib.rcParams) == before
    first, second = ((tmp_path / f"{n}.pdf").read_bytes() for n in ("first", "second"))
    assert first == second


def test_a_panel_without_curves_and_title_leaves_its_place_empty() -> None:
    curve = Curve("a", [1, 2], [3, 4])
    full, empty = Panel("", "x", "y", [curve]), Panel("", "x", "y", [])
    figure = plot.panels([full, empty], sharey="row")
    assert [axes.axison for axes in figure.axes] == [True, False]


def test_a_map_stays_empty_off_the_domain() -> None:
    problem = problems.load("poisson_ring", points=0.05)
    figure = plot.solution(problem, theta(problem))
    for axes in figure.axes[:3]:
        (image,) = axes.collections[:1]
        mesh = image._triangulation
        radius = np.hypot(mesh.x, mesh.y)[mesh.get_masked_triangles()]
        assert 0.25 - 1e-5 < radius.min() < 0.28
        assert 0.98 < radius.max() < 1 + 1e-5
        assert np.isfinite(image.get_clim()).all()


def test_cells_have_the_counts_and_mistakes_their_place() -> None:
    counts = np.array([[5, 1], [0, 3]])
    (axes,) = plot.confusion(counts).axes
    told = {text.get_position(): text.get_text() for text in axes.texts}
    assert told == {(0, 0): "5", (1, 0): "1", (1, 1): "3"}  # column, row
    assert axes.get_ylabel() == "class"
    assert axes.get_xlabel() == "taken for class"
    many = plot.confusion(np.ones((200, 200), np.int64)).axes[0]
    assert not many.texts
    assert len(many.get_xticks()) == 20


def test_reliability_shows_each_bin_by_its_rows() -> None:
    told = torch.tensor([0.55, 0.58, 0.97])
    found = reliability(told, torch.tensor([True, False, True]))
    top, bottom = plot.reliability(found).axes
    (marks,) = top.collections
    shown = marks.get_offsets().data
    np.testing.assert_allclose(shown, [[0.565, 0.5], [0.97, 1.0]], atol=1e-6)
    np.testing.assert_allclose([b.get_height() for b in bottom.patches], [2 / 3, 1 / 3])


def test_points_in_many_coordinates_are_counted_by_class_or_by_client() -> None:
    digits = problems.load("digits", size=60, width=4, alpha=1.0)
    counts = plot.labelled(digits)
    assert counts is not None
    assert counts.sum(1).tolist() == [shard.points for shard in digits.shards()]
    (axes,) = plot.partition(digits).axes
    told = {
        (y, x): text.get_text() for text in axes.texts for x, y in [text.get_position()]
    }
    assert told == {k: str(n) for k, n in np.ndenumerate(counts) if n}
    randhie = problems.load("randhie")
    assert plot.labelled(randhie) is None
    (axes,) = plot.partition(randhie).axes
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == [shard.points for shard in randhie.shards()]


def test_pictures_of_classes_are_those_that_say_something(tmp_path: Path) -> None:
    problem = problems.load("digits", size=60, width=4, alpha=1.0)
    line = Round(1, 2.0, metrics=metrics(problem, theta(problem)), seconds=1.0)
    result = Result(problem, theta(problem), 2.0, [line])
    plot.pictures(result, tmp_path, {"fipa": [line]})
    names = {path.stem for path in tmp_path.iterdir()}
    assert names == {"confusion", "convergence", "partition", "reliability"}


def test_convergence_is_drawn_of_what_all_runs_know() -> None:
    problem, tested = CASES["scalar"](), classes()
    known = {"accuracy": 0.5, "deviance": 1.0}
    assert sought(problem, [history(2, 0.1)]) == "relative_l2"
    assert sought(tested, [[Round(1, 1.0, metrics=known)]]) == "accuracy"
    assert sought(tested, [[Round(1, 1.0, metrics={"deviance": 1.0})]]) == "deviance"
    assert sought(tested, [[Round(1, 1.0)]]) == "loss"
    figure = plot.convergence(
        {"a": [Round(1, 1.0, metrics=known, seconds=1.0)]}, "accuracy"
    )
    assert [axes.get_yscale() for axes in figure.axes] == ["linear"] * 3
    np.testing.assert_allclose(line(figure, 0, 0), [[1, 0.5]])


def test_of_many_outputs_the_first_are_drawn() -> None:
    for d, columns in (("x", 6), ("xy", 6)):
        x = draw(20, len(d))
        term = Term("data", lambda u, row: u.values - 1, x, likelihood=Huber())
        many = Problem(
            *("many", MLP((len(d), 3, 9)), [term]),
            strips([0, 1]),
            *(d, numbered("u", 9)),
        )
        figure = plot.solution(many, theta(many))
        drawn = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
        assert len(drawn) == columns
        assert "the first 6 of 9 outputs" in figure.get_suptitle()
