"""Errors and the distance to Gauss-Newton, against dense formulas."""

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from cases import CASES, owned, theta
from torch import Generator, Tensor

from fedsciml.analysis.metrics import errors, gauss_newton_gap, measure, metrics
from fedsciml.collocation import explicit, strips
from fedsciml.network import MLP, Jet, Parallel
from fedsciml.problem import Problem, Row, Term
from fedsciml.residual import System

DAMPING = 1e-3


@cache
def problem() -> Problem:
    return CASES["scalar"]()


def damped_step(system: System, at: Tensor) -> Tensor:
    """-(J^T J + mu)^-1 J^T r, as in a textbook."""
    linear = system.linearise(at)
    j = linear.jacobian()
    gramian = j.T @ j + DAMPING * torch.eye(len(at), dtype=at.dtype)
    return -torch.linalg.solve(gramian, j.T @ linear.residual)


def test_errors_are_those_of_numpy_on_the_test_points() -> None:
    at = theta(problem())
    points, reference = problem().test_points, problem().reference
    assert points is not None
    assert reference is not None
    u, v = problem().network(at, points).numpy(), reference.numpy()
    relative, mse = errors(problem(), at)
    assert relative == pytest.approx(((u - v) ** 2).sum() ** 0.5 / (v**2).sum() ** 0.5)
    assert mse == pytest.approx(((u - v) ** 2).mean())


def test_errors_are_measured_in_the_precision_of_theta() -> None:
    exact = errors(problem(), theta(problem()))
    rough = errors(problem(), theta(problem()).float())
    assert exact != rough
    assert rough == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize(
    ("factor", "step", "gap"), [(1, 1, 0), (0.5, 0.5, 0), (2, 1, 1), (0, 1, 1)]
)
def test_the_gap_is_zero_for_gauss_newton_and_counts_what_is_off(
    factor: float, step: float, gap: float
) -> None:
    system, at = System(problem(), problem().pooled()), theta(problem())
    taken = factor * damped_step(system, at)
    found = gauss_newton_gap(system, at, taken, step, DAMPING)
    # The textbook's gramian loses digits: cond(J^T J + mu) is about 1e6 here.
    assert found == pytest.approx(gap, abs=1e-8)


def test_the_gap_is_zero_for_gauss_newton_with_a_prior() -> None:
    """D = -(J^T J + (lambda + mu) I)^-1 (J^T r + lambda theta)."""
    held = replace(problem(), prior=1e-2)
    system, at = System(held, held.pooled()), theta(held)
    linear = system.linearise(at)
    j = linear.jacobian()
    gramian = j.T @ j + (1e-2 + DAMPING) * torch.eye(len(at), dtype=at.dtype)
    taken = -torch.linalg.solve(gramian, j.T @ linear.residual + 1e-2 * at)
    # As above, cond(J^T J + mu) is about 1e5 here.
    assert gauss_newton_gap(system, at, taken, damping=DAMPING) < 1e-8


def test_the_gap_does_not_see_what_the_residual_does_not_see() -> None:
    system, at = System(problem(), problem().pooled()), theta(problem())
    j = system.linearise(at).jacobian()
    _, _, vh = torch.linalg.svd(j)
    unseen = vh[-1]
    assert float((j @ unseen).norm()) < 1e-10
    taken = damped_step(system, at) + 5 * unseen
    assert gauss_newton_gap(system, at, taken, damping=DAMPING) < 1e-8


def test_errors_are_told_of_each_output_and_each_number_that_is_known() -> None:
    inverse = CASES["inverse"]()
    at = theta(inverse)
    points, reference = inverse.test_points, inverse.reference
    assert points is not None
    assert reference is not None
    u = inverse.network(at, points)[:, 0]
    found = measure(inverse, at)
    expected = float((u - reference[:, 0]).norm() / reference[:, 0].norm())
    assert found.each["u"] == found.relative_l2 == pytest.approx(expected)
    assert found.each["nu"] == pytest.approx(abs(0.3 * float(at[-2]) - 0.1) / 0.1)
    assert math.isnan(found.each["k"])  # its column of the reference is
    assert math.isnan(found.each["rate"])  # the problem's truth does not tell it


def test_a_test_of_each_client_is_told_by_its_own_parameters() -> None:
    sizes = (3, 5)
    generator = Generator().manual_seed(0)
    x, y = (torch.rand(8, 1, generator=generator).double() for _ in range(2))

    def off(u: Jet, row: Row) -> Tensor:
        return u.value + u.shift - row.target

    network = Parallel([MLP((1, 4, 1))], personal={"shift": 1.0})
    term = Term("values", off, x.split(sizes), y.split(sizes))
    family = Problem("two", network, [term], explicit(2), tests=[term])
    at = theta(family)
    own = {0: at.new_tensor([2.0]), 1: at.new_tensor([-1.0])}
    shifts = torch.tensor([2.0] * 3 + [-1.0] * 5)
    u = MLP((1, 4, 1))(at, x)[:, 0]
    expected = float((u + shifts - y[:, 0]).square().mean())
    assert metrics(family, at, own)["deviance"] == pytest.approx(expected)
    assert metrics(family, at) == {}  # of no client, and not of where all begin
    first = float((u + shifts - y[:, 0])[:3].square().mean())
    assert metrics(family, at, {0: own[0]})["deviance"] == pytest.approx(first)


def test_a_test_of_everyone_is_the_mean_of_what_clients_tell() -> None:
    generator = Generator().manual_seed(0)
    x, y = (torch.rand(8, 1, generator=generator).double() for _ in range(2))

    def off(u: Jet, row: Row) -> Tensor:
        return u.value + u.shift - row.target

    network = Parallel([MLP((1, 4, 1))], personal={"shift": 1.0})
    term = Term("values", off, x.split((3, 5)), y.split((3, 5)))
    test = replace(term, points=x, target=y)
    family = Problem("two", network, [term], explicit(2), tests=[test])
    at = theta(family)
    own = {0: at.new_tensor([2.0]), 1: at.new_tensor([-1.0])}
    u = MLP((1, 4, 1))(at, x)[:, 0]
    several = [float((u + s - y[:, 0]).square().mean()) for s in (2.0, -1.0)]
    assert metrics(family, at, own)["deviance"] == pytest.approx(sum(several) / 2)
    cut = replace(family, partition=strips([0, 0.5, 1]), terms=[test])
    shifts = torch.where(x[:, 0] < 0.5, 2.0, -1.0)
    expected = float((u + shifts - y[:, 0]).square().mean())
    assert metrics(cut, at, own)["deviance"] == pytest.approx(expected)


def test_without_clients_own_parameters_errors_of_shared_numbers_are_known() -> None:
    family = replace(owned(), truth={"k": 0.25, "shift": [0.1, 0.2, 0.3, 0.4]})
    at = theta(family)
    found = measure(family, at).each
    assert found["k"] == pytest.approx(abs(family.numbers(at)["k"] - 0.25) / 0.25)
    assert math.isnan(found["shift"])
