"""Where the terms of the problems are drawn anew, and what such anchors tell."""

from pathlib import Path

import pytest
import torch
from cases import FAMILIES, LABELLED, MEASURED, small
from torch import Generator, Tensor

from fedsciml import problems
from fedsciml.problem import Problem, Rows, Shard
from fedsciml.problems._sensors import write
from fedsciml.problems.poisson_lshape import strictly
from fedsciml.residual import System

SENSORS = {"burgers_inverse", "heat_inverse"}
SAMPLED = sorted({*problems.names()} - LABELLED)
"""Problems that have anchors: images do not lie anywhere in particular."""

NARROW = {*SAMPLED} - SENSORS - MEASURED - FAMILIES - {"terrain"}
"""Problems that can be made with another width."""


def faces(problem: Problem, points: Tensor) -> list[frozenset[tuple[int, int]]]:
    """The faces (axis, side) of the problem's domain that each point lies on."""
    corners = torch.tensor(problem.domain, dtype=torch.float64)
    on = (points[:, None] - corners).abs() < 1e-12  # [n, side, axis]
    return [frozenset((a, s) for s, a in at.nonzero().tolist()) for at in on]


@pytest.mark.parametrize("name", SAMPLED)
def test_every_term_of_a_problem_has_as_many_anchors_as_asked(name: str) -> None:
    problem = small(name)
    for n in (1, 2, 3, 50):
        anchors = problem.anchors(n)
        assert [rows.term for rows in anchors] == [*range(len(problem.terms))]
        assert {len(rows.points) for rows in anchors} == {n}
    system = System(problem, Shard(0, anchors, 1.0))
    start = problem.network.init(Generator().manual_seed(0), torch.float64)
    assert bool(system.linearise(start).jacobian().isfinite().all())


@pytest.mark.parametrize("name", sorted({*SAMPLED} - {"randhie"}))  # yes or no
def test_anchors_lie_where_the_points_of_their_term_do(name: str) -> None:
    problem = problems.load(name)
    lower, upper = torch.tensor(problem.domain, dtype=torch.float64)
    for rows, own in zip(problem.anchors(400), problem.pooled().rows, strict=True):
        drawn, held = faces(problem, rows.points), faces(problem, own.points)
        assert {*drawn} <= {*held}
        if all(held):  # a condition: on no face fewer than its share
            for kind in {*held}:
                share = held.count(kind) / len(held)
                # Measured 0.06, in heat, whose 100 points are dealt to the ends by lot.
                assert drawn.count(kind) / len(drawn) == pytest.approx(share, abs=0.1)
        for end in (torch.amin, torch.amax):
            apart = (end(rows.points, 0) - end(own.points, 0)).abs() / (upper - lower)
            assert float(apart.max()) < 0.05  # measured 0.022


def test_anchors_of_the_l_shape_lie_on_its_six_sides() -> None:
    problem = problems.load("poisson_lshape")
    inside, around = (rows.points for rows in problem.anchors(400))
    assert bool(strictly(inside).all())
    x, y = around.T
    at = {
        "left": x == -1,
        "top": y == 1,
        "lower right": (x == 1) & (y >= 0),
        "lower bottom": (y == -1) & (x <= 0),
        "inner side": (x == 0) & (y <= 0),
        "inner bottom": (y == 0) & (x >= 0),
    }
    counts = {side: int(on.sum()) for side, on in at.items()}
    assert sum(counts.values()) == 400
    for side, count in counts.items():  # standard deviations are 8.7 and 6.6
        assert count == pytest.approx(100 if side in ("left", "top") else 50, abs=26)


def test_anchors_of_the_ring_lie_on_both_circles() -> None:
    inside, around = (rows.points for rows in problems.load("poisson_ring").anchors(40))
    assert 0.25 < float(inside.norm(dim=1).min()) < float(inside.norm(dim=1).max()) < 1
    radius = around.norm(dim=1)
    for r in (0.25, 1.0):
        assert int(((radius - r).abs() < 1e-15).sum()) == 20


@pytest.mark.parametrize("name", SAMPLED)
def test_anchors_follow_their_own_seed_alone(name: str, tmp_path: Path) -> None:
    problem = small(name)
    seed = {"seed": 5} if "seed" in problems.options(name) else {}
    same = small(name, clients=3, **seed, **({"noise": 0.1} if name in SENSORS else {}))
    others = [same]
    if name in SENSORS:
        write(same, tmp_path)
        others.append(small(name, clients=3, data=str(tmp_path)))
    first = problem.anchors(50, seed=2)
    for other in (problem, *others):
        for a, b in zip(first, other.anchors(50, seed=2), strict=True):
            assert torch.equal(a.points, b.points)
            assert a.weight == b.weight
            assert (a.target is None) == (b.target is None)
            assert a.target is None or torch.equal(a.target, b.target)
    for a, b in zip(first, problem.anchors(50, seed=3), strict=True):
        ends = len(problem.pooled().rows[a.term].points.unique(dim=0)) <= 2
        assert ends or not torch.isin(a.points, b.points).all()


def few(shard: Shard, n: int) -> Shard:
    """About n rows of each term, or fewer, spread over all of them."""
    rows = [
        r.part(torch.arange(0, len(r.points), -(-len(r.points) // n) or 1))
        for r in shard.rows
    ]
    return Shard(shard.client, tuple(rows), shard.share)


def jacobian(problem: Problem, rows: tuple[Rows, ...], theta: Tensor) -> Tensor:
    """Of rows that nobody owns, shape [n, p]."""
    return System(problem, Shard(0, rows, 1.0)).linearise(theta).jacobian()


def outside(problem: Problem, n: int) -> float:
    """Worst |J_m (I - Q Q^T)| / |J_m| of the clients at the start, of 300 rows a term.

    Q is the row space of the Jacobian of n anchors of each term, to 1e-8 of its norm.
    """
    start = problem.network.init(Generator().manual_seed(0), torch.float64)
    _, s, v = torch.linalg.svd(
        jacobian(problem, problem.anchors(n), start), full_matrices=False
    )
    q = v[s > 1e-8 * s[0]].T
    assert q.shape[1] < len(start)  # or every row were in it
    worst = 0.0
    for shard in problem.shards():
        own = jacobian(problem, few(shard, 300).rows, start)
        missed = torch.linalg.matrix_norm(own - own @ q @ q.T, 2)
        worst = max(worst, float(missed / torch.linalg.matrix_norm(own, 2)))
    return worst


WIDTHS = {
    "kdv": 16,
    "kovasznay": 20,
    "lame": 20,
    "poisson_square": 64,
    "schroedinger": 16,
}
"""Of the problems whose rows fill all directions of a network of width 8."""

LINEAR = {"ammonium", "grunfeld", "outliers", "randhie"}
"""Whose rows fill all directions of so few parameters."""

MANY = {"poisson10d", "poisson5d", "schaffer", "taylor_green"} | LINEAR
"""Where 400 anchors tell little of the rows, or rows fill all directions."""


@pytest.mark.parametrize("name", sorted({*SAMPLED} - MANY))
def test_anchors_span_the_rows_of_every_client(name: str) -> None:
    width = {"width": WIDTHS.get(name, 8)} if name in NARROW else {}
    assert outside(small(name, **width), 400) < 1e-6  # measured at most 1.8e-7


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", sorted({*problems.names()} - {"poisson10d", "schaffer"} - MEASURED)
)
def test_anchors_span_the_rows_of_every_client_of_the_published_size(name: str) -> None:
    # Of schaffer, whose network has kinks, 400 anchors miss 7e-3, 1600 anchors 2e-3;
    # the rows of poisson10d fill all directions. Measured at most 2.9e-6, of poisson3d;
    # with 400 anchors of poisson5d 3e-4, and of kdv 2e-4.
    many = {"kdv": 1600, "poisson5d": 3200}
    assert outside(problems.load(name), many.get(name, 400)) < 1e-5
