"""The residual at points that are not trained on."""

import logging
from dataclasses import replace

import pytest
import torch
from cases import draw, given, scalar, theta
from torch import Generator, Tensor

from fedsciml import MLP, Problem, Term, methods, problems, run
from fedsciml.collocation import strips, uniform
from fedsciml.residual import System
from fedsciml.residual.held_out import Fresh, HeldOut, among


def straight(length: float, n: int, sampled: bool = False) -> Problem:
    """y'' = 0 with y(0) = 1, y(L) = 5, in raw coordinates."""

    def solution(x: Tensor) -> Tensor:
        return 1 + 4 * x[:, 0] / length

    def sample(n: int, generator: Generator) -> Tensor:
        return uniform(n, [0.0], [length], generator)

    ends = torch.tensor([[0.0], [length]], dtype=torch.float64)
    return Problem(
        "straight",
        MLP((1, 20, 20, 1)),
        [
            Term(
                "pde",
                lambda u, row: u.xx,
                length * draw(n, 1),
                sample=sample if sampled else None,
            ),
            Term("ends", given, ends, solution),
        ],
        strips([0, length / 2, length]),
        exact=solution,
        test_points=torch.linspace(0, length, 500, dtype=torch.float64)[:, None],
    )


@pytest.mark.parametrize("sampled", [False, True])
def test_a_network_that_fits_its_points_alone_is_told_of(
    sampled: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "fedsciml"):
        result = run(straight(30.0, 60, sampled), methods.load("fipa"), 30)
    assert result.loss < 1e-20  # measured 1e-26
    assert result.errors()[0] > 0.1  # measured 0.7
    assert result.history[-1].held_out == result.held_out > 1e-4
    (warning,) = result.warnings
    assert "fits its points, not the equation" in warning
    assert "--resample" in warning
    assert [record.message for record in caplog.records].count(warning) == 1


def test_a_network_that_solves_the_equation_is_not() -> None:
    result = run(straight(1.0, 60), methods.load("fipa"), 20)
    assert result.errors()[0] < 1e-9
    assert result.held_out is not None
    assert result.held_out < 1e3 * result.loss
    assert result.warnings == []
    asked = [line.round for line in result.history if line.held_out is not None]
    assert asked == [10, 20]


@pytest.mark.parametrize(
    ("told", "warned"),
    [
        (HeldOut(1e-28, 1e-20, 1.0), False),  # fitted too well, and solved
        (HeldOut(1e-2, 3e-2, 1.0), False),  # on its way
        (HeldOut(1e-28, 0.1, 1.0), True),
        (HeldOut(1e-28, 1e9, 1e10), True),  # in any unit
        (HeldOut(0.0, 0.0, 0.0), False),
    ],
)
def test_far_above_is_so_in_any_unit(told: HeldOut, warned: bool) -> None:
    assert (told.warning is not None) == warned


def total(problem: Problem, at: Tensor) -> HeldOut:
    """Summed over the clients."""
    parts = [Fresh(System(problem, shard))(at) for shard in problem.shards()]
    return HeldOut(*map(sum, zip(*parts, strict=True)))


def test_held_out_losses_add_up_to_the_mean_over_the_domain() -> None:
    problem = problems.load("poisson1d", clients=4)
    at = theta(problem)
    dense = torch.linspace(0, 1, 20001, dtype=torch.float64)[:, None]
    pde, ends = problem.pooled().rows
    rows = problem.moved(pde, dense)
    rows = replace(rows, weight=(problem.terms[0].weight / len(dense)) ** 0.5)
    # New points at the ends are the same ends.
    expected = System(problem, problem.pooled()).on([rows, ends]).loss(at)
    assert total(problem, at).fresh == pytest.approx(expected, rel=0.1)


def test_measured_targets_and_conditions_have_no_fresh_points() -> None:
    problem = scalar()  # a pde with one target, and ends
    own = Fresh(System(problem, problem.pooled()))
    at = theta(problem)
    pde = replace(problem, terms=problem.terms[:1])
    assert own(at).trained == pytest.approx(System(pde, pde.pooled()).loss(at))
    (first, second) = problem.terms
    measured = replace(first, target=torch.ones(len(first.points)))
    private = replace(problem, terms=[measured, second])
    assert total(private, at) == (0, 0, 0)


def test_a_residual_that_is_known_at_its_own_points_alone_is_left_out() -> None:
    (first, second) = scalar().terms
    table = torch.ones(len(first.points), dtype=torch.float64)
    own = replace(first, residual=lambda u, row: u.xx + table, target=None)
    problem = replace(scalar(), terms=[own, second], partition=strips([0, 1]))
    assert total(problem, theta(problem)) == (0, 0, 0)


def test_fresh_points_keep_to_the_region_of_the_points() -> None:
    x = 2 * draw(800, 2) - 1
    ring = x[(x.norm(dim=1) > 0.5) & (x.norm(dim=1) < 1)]
    corners = torch.tensor([[-1.0, -1.0], [1.0, 1.0]], dtype=torch.float64)
    found = among(ring, corners, 200, Generator().manual_seed(1))
    assert len(found) == 200
    assert float(found.norm(dim=1).min()) > 0.3  # ring points are 0.1 apart at most
    faces = torch.cat([draw(9, 2).round(decimals=0), draw(9, 2) * torch.tensor([0, 1])])
    assert len(among(faces, corners, 200, Generator())) == 0
