"""Solitons, standing waves, and other viscosities."""

import math

import numpy as np
import pytest
import torch
from cases import draw, small, theta
from scipy.special import ellipj, ellipk

from fedsciml import problems
from fedsciml.network.jet import Nested
from fedsciml.problems import burgers, kdv, schroedinger, wave


def test_the_soliton_on_a_ring_is_the_elliptic_function_of_scipy() -> None:
    # The ring has the length 2 K / a; m is found from it: K a / a has 1e-13.
    b, period = schroedinger.STEEPNESS, schroedinger.PERIOD
    low, high = 0.5, 1 - 1e-9
    for _ in range(200):  # pi K / K' = b P
        m = (low + high) / 2
        less = math.pi * ellipk(m) / ellipk(1 - m) < b * period
        low, high = (m, high) if less else (low, m)
    a = 2 * ellipk(m) / period
    points = draw(50, 2) * torch.tensor([10.0, 1.0]) - torch.tensor([5.0, 0.0])
    x, t = points.unbind(1)
    away = (x - schroedinger.SPEED * t).numpy()
    _, _, expected, _ = ellipj(a * away, m)
    height = schroedinger.solution(points).norm(dim=1).numpy()
    assert np.abs(height - a * expected).max() < 1e-11
    assert schroedinger.frequency() == pytest.approx(a**2 * (2 - m), abs=1e-11)


def test_the_ring_closes_for_every_theta() -> None:
    problem = small("schroedinger")
    left = draw(9, 2) * torch.tensor([0.0, 1.0]) - torch.tensor([5.0, 0.0])
    right = left + torch.tensor([10.0, 0.0])
    ends = [problem.network(theta(problem), x) for x in (left, right)]
    assert float((ends[0] - ends[1]).abs().max()) < 1e-14
    assert callable(problem.exact)
    assert float((problem.exact(left) - problem.exact(right)).abs().max()) < 1e-14


def test_two_solitons_are_the_second_derivative_of_a_logarithm() -> None:
    points = draw(50, 2) * torch.tensor([12.0, 3.0]) - torch.tensor([6.0, 1.5])
    x = points.clone().requires_grad_()
    one, two = kdv.RATES
    a = ((one - two) / (one + two)) ** 2
    s = [k * x[:, 0] - k**3 * x[:, 1] - math.log(a) / 2 for k in (one, two)]
    f = 1 + s[0].exp() + s[1].exp() + a * (s[0] + s[1]).exp()
    log = Nested(f.log().unsqueeze(1), x)
    u, slope = 2 * log(((0, 0),))[:, 0], 2 * log(((0, 0, 0),))[:, 0]
    assert float((kdv.solution(points) - u).detach().abs().max()) < 1e-13
    assert float((kdv.steepness(points) - slope).detach().abs().max()) < 1e-12


def test_the_taller_soliton_overtakes_the_other() -> None:
    x = torch.linspace(-30, 30, 6001, dtype=torch.float64)
    for t, tall in ((-8.0, -1), (8.0, 1)):
        u = kdv.solution(torch.stack([x, 0 * x + t], 1))
        peaks = (u[1:-1] > u[:-2]) & (u[1:-1] > u[2:])
        heights, where = u[1:-1][peaks], x[1:-1][peaks]
        assert len(heights) == 2
        expected = [k**2 / 2 for k in kdv.RATES]
        assert sorted(heights.tolist()) == pytest.approx(expected, abs=1e-4)
        apart = float(where[heights.argmax()] - where[heights.argmin()])
        assert math.copysign(1, apart) == tall


def test_solitons_and_waves_start_as_given_for_every_theta() -> None:
    points = draw(9, 2)
    for module, lower, upper in (
        (kdv, kdv.LOWER, kdv.UPPER),
        (schroedinger, schroedinger.LOWER, schroedinger.UPPER),
        (wave, wave.LOWER, wave.UPPER),
    ):
        problem = small(module.__name__.rpartition(".")[2])
        x = torch.tensor(lower) + points * (torch.tensor(upper) - torch.tensor(lower))
        x[:, 1] = lower[1]
        assert callable(problem.exact)
        expected = problem.exact(x).reshape(len(x), -1)
        found = problem.network(theta(problem), x)
        assert float((found - expected).abs().max()) < 1e-15
    x.requires_grad_()  # the wave's
    slope = Nested(problem.network(theta(problem), x), x)(((1,),))
    assert float(slope.detach().abs().max()) == 0
    x = x.detach()
    x[:, 1], x[:, 0] = points[:, 0], (points[:, 1] > 0.5).double()
    assert float(problem.network(theta(problem), x).abs().max()) < 1e-15


@pytest.mark.parametrize("nu", [0.002, 0.01, 0.02, 0.021, 0.3])
def test_the_reference_of_burgers_is_that_of_another_quadrature(nu: float) -> None:
    # The trapezoidal rule, which errs exponentially little where both ends are flat.
    points = draw(200, 2) * torch.tensor([2.0, 1.0]) - torch.tensor([1.0, 0.0])
    points[:100, 0] **= 5
    z = torch.linspace(-1, 1, 600, dtype=torch.float64)
    z *= math.sqrt(36 + 1 / (math.pi * nu))
    x, t = points.unsqueeze(-1).unbind(1)
    y = x - torch.sqrt(4 * nu * t) * z
    weights = torch.softmax(-(z**2) - torch.cos(math.pi * y) / (2 * math.pi * nu), 1)
    expected = -(weights * torch.sin(math.pi * y)).sum(1)
    exact = problems.load("burgers", nu=nu, points=0.02).exact
    assert callable(exact)
    # Measured at most 4e-15 up to 0.1 and 8e-13 at 0.3.
    assert float((exact(points) - expected).abs().max()) < 1e-12


@pytest.mark.parametrize("nu", [0.0, -1.0, 0.0019, 0.31, float("nan")])
def test_a_viscosity_beyond_the_reference_is_refused(nu: float) -> None:
    with pytest.raises(ValueError, match=r"nu must be between 0.002 and 0.3, .*; got"):
        problems.load("burgers", nu=nu)
    assert burgers.VISCOSITIES == (0.002, 0.3)


def test_waves_without_speed_or_mode_are_refused() -> None:
    for options in ({"speed": 0.0}, {"speed": float("nan")}, {"mode": 0}):
        with pytest.raises(ValueError, match="speed above 0 and a mode from 1 on"):
            problems.load("wave", **options)


def test_a_symmetric_network_of_allen_cahn_is_even_for_every_theta() -> None:
    points = torch.tensor([2.0, 1.0]) * draw(9, 2) - torch.tensor([1.0, 0.0])
    mirrored = points * torch.tensor([-1.0, 1.0])
    for symmetric in (False, True):
        problem = small("allen_cahn_time", symmetric=symmetric)
        values = [problem.network(theta(problem), x) for x in (points, mirrored)]
        apart = float((values[0] - values[1]).abs().max())
        assert apart < 1e-15 if symmetric else apart > 1e-3
