"""Whose solution is drawn where clients have parameters of their own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import draw, owned, theta
from matplotlib.figure import Figure
from torch import Tensor

from fedsciml import MLP, Personal, Problem, Term, methods, plot, problems, run
from fedsciml.collocation import explicit
from fedsciml.network.jet import Jet
from fedsciml.problem import Row


def values(problem: Problem) -> dict[int, Tensor]:
    """Parameters of each client's own, no two alike."""
    assert problem.personal is not None
    begin = problem.personal.values
    return {m: begin + 0.3 * (m + 1) for m in range(problem.clients)}


def reading(u: Jet, row: Row) -> Tensor:
    return 3 * (row.target - u.value) / 3


def slope(u: Jet, row: Row) -> Tensor:
    return u.x - row.target


def family(clients: int = 3) -> Problem:
    """Clients with a last layer of their own, which measure u and its slope."""
    points = [draw(4, 1, m) for m in range(clients)]
    targets = [x[:, 0] * (m + 1) for m, x in enumerate(points)]
    return Problem(
        "family",
        Personal(MLP((1, 4, 1)), "classifier"),
        [Term("u", reading, points, targets), Term("slope", slope, points, targets)],
        explicit(clients),
        coordinates="x",
        exact=[lambda x, m=m: x[:, 0] * (m + 1) for m in range(clients)],
        test_points=torch.linspace(0, 1, 5).double()[:, None],
    )


def test_each_client_is_drawn_by_its_own_parameters_and_measurements() -> None:
    problem = family()
    at, personal = theta(problem), values(problem)
    figure = plot.solution(problem, at, personal)
    assert len(figure.axes) == 3
    for m, axes in enumerate(figure.axes):
        lines = {str(line.get_label()): line for line in axes.lines}
        x = torch.from_numpy(np.asarray(lines["trained"].get_xdata()))[:, None]
        expected = problem.solution(at, x, personal[m]).value
        assert np.array_equal(lines["trained"].get_ydata(), expected.numpy())
        reference = np.asarray(lines["reference"].get_ydata())
        assert np.allclose(reference, (m + 1) * x[:, 0])
        (measured, _) = problem.shard(m).rows
        assert measured.target is not None
        assert np.array_equal(lines["measured"].get_ydata(), measured.target.numpy())


def test_of_many_clients_some_are_drawn_and_it_is_said() -> None:
    problem = family(13)
    found = plot.views(problem, theta(problem), values(problem))
    assert [view.client for view in found] == [0, 3, 6, 9, 12]
    figure = plot.solution(problem, theta(problem), values(problem))
    assert figure.get_suptitle() == "family, 5 of 13 clients"


def test_an_output_that_all_share_is_drawn_once() -> None:
    problem = owned()
    found = plot.views(problem, theta(problem), values(problem))
    names = [name for name, *_ in plot.pieces(problem, found)]
    assert names == ["u of all clients", *(f"v of client {m}" for m in range(4))]


def test_a_solution_at_the_start_of_the_clients_own_is_not_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, drawn = family(), list[str]()
    with pytest.raises(ValueError, match=r"has a solution of its own: give .*personal"):
        plot.solution(problem, theta(problem))

    def saved(figure: Figure, path: Path, **_: object) -> None:
        drawn.append(Path(path).name)

    monkeypatch.setattr(Figure, "savefig", saved)
    result = run(problem, methods.load("fipa"), 1)
    plot.pictures(result, tmp_path, {})
    assert "solution.png" in drawn
    drawn.clear()
    plot.pictures(replace(result, personal={}), tmp_path, {})
    assert drawn == ["convergence.png", "partition.png"]


def test_numbers_of_the_clients_own_leave_the_solution_to_all() -> None:
    problem = problems.load("gauges", clients=2, points=6)
    assert plot.common(problem)
    (view,) = plot.views(problem, theta(problem))
    assert view.client is None
