"""The problems of suite ``fedpinn``: partition, points, reference solutions."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import reference_solutions
import torch
from cases import small, theta
from experiments import _suites
from experiments._command import main
from experiments.partitions import PIECES
from scipy.integrate import solve_bvp, solve_ivp
from scipy.stats.qmc import Halton

from fedsciml import problems
from fedsciml.collocation import heterogeneity
from fedsciml.problems import allen_cahn_time, inverse_diffusion_reaction
from fedsciml.problems._fedpinn import hammersley

FEDPINN = tuple(_suites.FEDPINN)
BLOCKS = ("schaffer", "helmholtz")


def test_one_piece_cuts_a_line_into_strips_and_a_square_into_four_blocks() -> None:
    line = problems.load("poisson_multiscale")
    first, second = (shard.rows[0].points for shard in line.shards())
    assert float(first.max()) < np.pi / 2 < float(second.min())
    square = problems.load("helmholtz")
    for client, shard in enumerate(square.shards()):
        upper = (shard.rows[0].points >= 0.5).sum(1)
        assert bool((upper % 2 == client).all())


def test_time_is_not_cut() -> None:
    for clients in (2, 3, 5):
        problem = problems.load("allen_cahn_time", clients=clients)
        held = [shard.rows[0].points for shard in problem.shards()]
        for points in held:
            assert len(points[:, 1].unique()) == 80
        for left, right in pairwise(held):
            assert float(left[:, 0].max()) < float(right[:, 0].min())


@pytest.mark.parametrize("name", FEDPINN)
def test_more_pieces_make_the_clients_more_alike(name: str) -> None:
    distances = []
    for piece in (1, 2, 6):
        shards = problems.load(name, piece=piece).shards()
        distances.append(heterogeneity([s.rows[0].points for s in shards]))
    assert distances[0] > distances[1] > distances[2]


@pytest.mark.parametrize("name", FEDPINN)
def test_pieces_are_counted_by_either_option(name: str) -> None:
    by_word = small(name, partition="pieces:2").shards()
    by_number = small(name, piece=2).shards()
    for a, b in zip(by_word, by_number, strict=True):
        assert torch.equal(a.rows[0].points, b.rows[0].points)


@pytest.mark.parametrize("name", FEDPINN)
@pytest.mark.parametrize("partition", ["strips", "slabs", "boxes", "pieces"])
def test_other_partitions_cover_the_domain(name: str, partition: str) -> None:
    problem = small(name, clients=4, partition=partition)
    assert sum(s.points for s in problem.shards()) == problem.pooled().points


@pytest.mark.parametrize("name", BLOCKS)
def test_pieces_grow_with_the_clients_where_one_would_leave_some_without(
    name: str,
) -> None:
    assert small(name, clients=7).clients == 7
    with pytest.raises(ValueError, match="leave nothing for client 3"):
        small(name, clients=4, piece=1)


def test_piece_of_another_partition_is_refused() -> None:
    with pytest.raises(ValueError, match="piece=2 counts .* but the partition is 'st"):
        problems.load("helmholtz", partition="strips", piece=2)
    with pytest.raises(ValueError, match="no option 'peice'.*'piece'"):
        problems.load("helmholtz", peice=2)
    with pytest.raises(ValueError, match="'piece' .* must be a whole number or null"):
        problems.load("helmholtz", piece="two")


@pytest.mark.parametrize("name", FEDPINN)
def test_no_point_is_random(name: str) -> None:
    one, other = small(name), small(name, seed=1)
    for a, b in zip(one.pooled().rows, other.pooled().rows, strict=True):
        assert torch.equal(a.points, b.points)
    assert torch.equal(one.test_points, other.test_points)


def test_hammersley_points_are_those_of_scipy_s_halton_sequence() -> None:
    n = 75**2
    points = hammersley(n)
    mirrored = Halton(1, scramble=False).random(n)[:, 0]
    assert np.array_equal(points[:, 1].numpy(), mirrored)
    steps = points[:, 0].diff()
    torch.testing.assert_close(steps, torch.full_like(steps, 1 / n), rtol=1e-9, atol=0)
    assert float(points[0, 0]) == 0.5 / n


def test_finite_differences_tend_to_the_table_of_allen_cahn() -> None:
    with np.load(allen_cahn_time.TABLE) as table:
        t, expected = table["t"], table["u"]

    def differences(n: int) -> np.ndarray:
        """Of second order on n intervals of [-1, 1]; u at x = 0, 0.01, ..., 1."""
        x, h = np.linspace(-1, 1, n + 1), 2 / n

        def slope(_: float, u: np.ndarray) -> np.ndarray:
            around = np.pad(u, 1, constant_values=-1)
            second = (around[2:] - 2 * u + around[:-2]) / h**2
            return 0.001 * second - 5 * (u**3 - u)

        start = (x**2 * np.cos(np.pi * x))[1:-1]
        solved = solve_ivp(
            slope, (0, 1), start, "LSODA", t, lband=1, uband=1, rtol=1e-9, atol=1e-9
        )
        return np.pad(solved.y, ((1, 1), (0, 0)), constant_values=-1)[
            n // 2 :: n // 200
        ]

    coarse, fine = differences(800), differences(1600)
    # Of second order: errors 5.6e-4 and 1.4e-4. Without their h^2 part: 4.8e-7.
    assert np.abs(fine - expected).max() < 2e-4
    assert np.abs((4 * fine - coarse) / 3 - expected).max() < 1e-6


# Measured 1.4e-7 at a resolution of 0.5, and 4.1e-12 at 0.8.
@pytest.mark.parametrize(
    ("resolution", "error"),
    [(0.5, 5e-7), pytest.param(0.8, 5e-11, marks=pytest.mark.slow)],
)
def test_the_program_makes_the_table_again(resolution: float, error: float) -> None:
    with np.load(allen_cahn_time.TABLE) as table:
        made = reference_solutions.allen_cahn(resolution)
        assert sorted(made) == sorted(table)
        for name, values in made.items():
            assert np.abs(values - table[name]).max() < error


def test_the_table_has_the_initial_and_boundary_values() -> None:
    points, values = allen_cahn_time.reference()
    assert points.shape == (201 * 101, 2)
    given = (points[:, 1] == 0) | (points[:, 0].abs() == 1)
    assert int(given.sum()) == 201 + 2 * 100
    found, expected = values[given], allen_cahn_time.start(points[given])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_the_state_is_that_of_scipy_s_boundary_value_solver() -> None:
    def slope(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        k = 0.1 + np.exp(-0.5 * (x - 0.5) ** 2 / 0.15**2)
        return np.stack([y[1], (k * y[0] + np.sin(2 * np.pi * x)) / 0.01])

    x = np.linspace(0, 1, 101)
    solved = solve_bvp(
        slope, lambda a, b: np.array([a[0], b[0]]), x, np.zeros((2, 101)), tol=1e-9
    )
    u = inverse_diffusion_reaction.state(torch.from_numpy(x)[:, None]).numpy()
    # Measured 5.1e-12 where u is up to 1.3 in size.
    assert np.abs(solved.sol(x)[0] - u).max() < 1e-10


def test_observations_are_of_the_state_at_the_published_points() -> None:
    problem = problems.load("inverse_diffusion_reaction")
    observed = problem.pooled().rows[1]
    torch.testing.assert_close(
        observed.points[:, 0], torch.arange(24).double() / 23, rtol=0, atol=1e-15
    )
    assert torch.equal(
        observed.target, inverse_diffusion_reaction.state(observed.points)
    )


def test_both_networks_leave_the_ends_of_the_state_at_zero() -> None:
    problem = problems.load("inverse_diffusion_reaction")
    ends = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    values = problem.network(theta(problem), ends)
    assert values[:, 0].abs().max() == 0
    assert values[:, 1].abs().min() > 0


def test_the_program_prints_how_different_the_clients_are(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["partitions", "--out", str(tmp_path / "partitions.json")]
    words += ["--only", "problem=helmholtz", "clients=4"]
    with pytest.raises(SystemExit):
        main([*words, "partition=pieces:1"])
    assert "leave nothing for client 3" in capsys.readouterr().err
    pieces = [f"partition=pieces:{k}" for k in PIECES[1:]]
    assert main([*words, *pieces]) == 0
    rows = [x for x in capsys.readouterr().out.splitlines() if "| helmholtz |" in x]
    assert len(rows) == len(pieces)
    problem = problems.load("helmholtz", clients=4, piece=2)
    distance = heterogeneity([s.rows[0].points for s in problem.shards()])
    assert f"| helmholtz | 4 | pieces:2 | {distance:.4g} |" in rows
