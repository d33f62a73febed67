"""The problems in time, of several unknowns, and on domains that are no boxes."""

import math

import numpy as np
import pytest
import torch
from cases import draw, small, theta
from scipy.integrate import solve_ivp
from torch import Generator, Tensor

from fedsciml import problems
from fedsciml.network.jet import Nested
from fedsciml.problems import burgers, poisson_lshape, taylor_green

BOXES = ("burgers", "heat", "kovasznay", "lame", "taylor_green")
SHAPES = ("poisson_lshape", "poisson_ring")


@pytest.mark.parametrize("name", [*BOXES, *SHAPES])
@pytest.mark.parametrize("partition", ["strips", "slabs", "boxes", "pieces:2"])
def test_every_kind_of_partition_fits_the_domain(name: str, partition: str) -> None:
    problem = small(name, clients=4, partition=partition)
    assert [s.points > 0 for s in problem.shards()] == [True] * 4


@pytest.mark.parametrize("name", ["burgers", "heat", "taylor_green"])
def test_slabs_are_intervals_of_time(name: str) -> None:
    problem = problems.load(name, clients=3, partition="slabs", edges=[0, 0.2, 0.6, 1])
    ends = []
    for shard in problem.shards():
        t = shard.rows[0].points[:, -1]
        ends += [float(t.min()), float(t.max())]
    assert ends == sorted(ends)
    assert ends[1] <= 0.2 <= ends[2]
    assert ends[3] <= 0.6 <= ends[4]


@pytest.mark.parametrize("name", BOXES)
def test_sectors_of_a_box_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="Unknown partition 'sectors'; choose strips,"):
        problems.load(name, partition="sectors")


def test_clients_of_the_l_shape_own_its_squares_and_of_the_ring_its_quarters() -> None:
    for name, signs in (
        ("poisson_lshape", [(1, 1), (-1, 1), (-1, -1)]),
        ("poisson_ring", [(1, 1), (-1, 1), (-1, -1), (1, -1)]),
    ):
        shards = problems.load(name).shards()
        assert len(shards) == len(signs)
        for shard, sign in zip(shards, signs, strict=True):
            for rows in shard.rows:
                assert bool((rows.points * torch.tensor(sign) > -1e-6).all())


def test_boundary_points_of_the_l_shape_are_on_its_six_sides() -> None:
    x, y = problems.load("poisson_lshape").pooled().rows[1].points.unbind(1)
    sides = [x == -1, y == 1, (x == 1) & (y >= 0), (y == 0) & (x >= 0)]
    sides += [(x == 0) & (y <= 0), (y == -1) & (x <= 0)]
    assert bool(torch.stack(sides).any(0).all())
    assert all(bool(side.any()) for side in sides)


def test_points_of_the_ring_are_between_its_circles() -> None:
    inside, around = (r.points for r in problems.load("poisson_ring").pooled().rows)
    # DeepXDE's points are float32.
    radius = around.norm(dim=1)
    off = torch.minimum((radius - 1).abs(), (radius - 0.25).abs())
    assert float(off.max()) < 1e-6
    assert bool((radius < 0.5).any())
    assert bool((radius > 0.5).any())
    assert (
        0.25 <= float(inside.norm(dim=1).min()) < float(inside.norm(dim=1).max()) <= 1
    )


def test_the_singular_solution_is_harmonic_and_vanishes_beside_the_corner() -> None:
    x = problems.load("poisson_lshape", singular=True).terms[0].points
    assert isinstance(x, Tensor)
    x = x[x.norm(dim=1) > 0.1].requires_grad_()
    nested = Nested(poisson_lshape.corner(x).unsqueeze(1), x)
    # Measured 4e-14; second derivatives are at most 2/9 0.1^(-4/3) = 5.
    assert float(nested(((0, 0), (1, 1))).detach().abs().max()) < 1e-12
    beside = torch.tensor([[0.3, 0.0], [0.0, -0.7]], dtype=torch.float64)
    assert float(poisson_lshape.corner(beside).abs().max()) < 1e-15
    polar = torch.tensor([[-0.5, 0.5]], dtype=torch.float64)  # phi = 3 pi / 4
    assert float(poisson_lshape.corner(polar)) == pytest.approx(0.5 ** (1 / 3))


def test_more_nodes_do_not_move_the_cole_hopf_solution() -> None:
    points = torch.cat([draw(300, 2), draw(300, 2, 1) * torch.tensor([0.02, 1])])
    points[:, 0] *= torch.where(points[:, 1] > 0.5, 1, -1)
    reference = burgers.solution(points, nodes=160)
    assert float((burgers.solution(points) - reference).abs().max()) < 1e-13
    assert float((burgers.solution(points, nodes=60) - reference).abs().max()) > 1e-13


def test_the_cole_hopf_solution_is_that_of_a_spectral_method() -> None:
    # Fourier on 256 points in space, an explicit method of order 8 in time. The
    # viscosity is ten times that of the problem, whose shock needs 2000 points.
    nu, n = 0.1 / math.pi, 256
    x = -1 + 2 * np.arange(n) / n
    wave = 1j * np.pi * np.fft.rfftfreq(n, 1 / n)
    keep = np.arange(n // 2 + 1) < n // 3  # of a product the rest is aliased

    def slope(t: float, u: np.ndarray) -> np.ndarray:
        hat = np.fft.rfft(u)
        square = np.fft.rfft(u**2 / 2) * keep
        return np.fft.irfft(wave**2 * nu * hat - wave * square, n)

    times = [0.1, 0.4, 1.0]
    solved = solve_ivp(
        slope, (0, 1), -np.sin(np.pi * x), "DOP853", times, rtol=1e-11, atol=1e-12
    )
    for t, u in zip(times, solved.y.T, strict=True):
        points = torch.from_numpy(np.stack([x, np.full(n, t)], 1))
        error = burgers.solution(points, nu).numpy() - u
        assert np.abs(error).max() < 1e-9  # measured 5e-11


def test_a_fifth_of_the_points_of_burgers_is_at_the_shock() -> None:
    x = burgers.crowded(20000, Generator().manual_seed(0))[:, 0].abs()
    # s < 1/5 of a uniform s: standard deviation sqrt(0.16 / 20000) = 0.0028.
    assert float((x < 1 / 125).double().mean()) == pytest.approx(0.2, abs=0.01)


def test_hard_constraints_hold_for_every_theta() -> None:
    problem = small("burgers")
    points = 2 * draw(20, 2) - 1
    points[:10, 1] = 0  # the start; the others are on the sides
    points[10:, 0] = points[10:, 0].sign()
    points[10:, 1] = points[10:, 1].abs()
    u = problem.network(theta(problem), points)[:, 0]
    assert float((u - burgers.start(points) * (points[:, 1] == 0)).abs().max()) < 1e-15

    problem = small("taylor_green")
    points = draw(20, 3)
    points[:, 2] = 0
    w = problem.network(theta(problem), points)[:, :2]
    assert torch.equal(w, taylor_green.solution(points)[:, :2])
