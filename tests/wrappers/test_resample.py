"""Adaptive collocation: who gets which points, what stays, and that it helps."""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import FAMILIES, LABELLED, MIXED, draw, theta
from cases import MEASURED as DATA
from exchanges import connect
from torch import Generator, Tensor

from fedsciml import MLP, Problem, Term, methods, problems, run, wrappers
from fedsciml.collocation import explicit, strips, uniform
from fedsciml.federation.history import Round
from fedsciml.federation.inprocess import LocalClients
from fedsciml.methods import Method, Record, State, conclude
from fedsciml.network.jet import Jet
from fedsciml.problem import Row
from fedsciml.residual import System
from fedsciml.wrappers.resample import Memory, Redraw, Resampled, chosen, redrawn
from fedsciml.wrappers.warmup import Warmup

EDGES = (0, 0.3, 0.8, 1)

MEASURED = {
    "burgers_inverse": ["sensors"],
    "heat_inverse": ["sensors"],
    "inverse_diffusion_reaction": ["observed u"],
}
"""Terms of problems whose targets are known at their own points alone."""

FIXED = DATA | FAMILIES | {"terrain"}
"""Problems all of whose points are measured, or are for one site alone."""

LISTED = LABELLED | FAMILIES | MIXED | {"randhie"}
"""Problems of which no rule says who owns a new point."""


def sample(n: int, generator: Generator) -> Tensor:
    return uniform(n, [0], [1], generator)


@cache
def reaction() -> Problem:
    """-u'' + u^3 = sin(5 x), three clients; the middle one has no boundary."""

    def pde(u: Jet, row: Row) -> Tensor:
        return -u.xx + u.value**3 - row.target

    def ends(u: Jet, row: Row) -> Tensor:
        return u.value - row.target

    boundary = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    source = Term("pde", pde, draw(23, 1), lambda x: torch.sin(5 * x[:, 0]))
    return Problem(
        "reaction",
        MLP((1, 6, 5, 1)),
        [replace(source, sample=sample), Term("ends", ends, boundary, target=0.1)],
        strips(EDGES),
        domain=([0], [1]),
    )


def after(
    problem: Problem,
    method: Method,
    rounds: int,
    state: State | None = None,
    memories: Mapping[int, Record | None] | None = None,
) -> tuple[State, LocalClients]:
    """The server's state after so many rounds, and the clients."""
    clients = connect(problem, method)
    clients.memories.update(memories or {})
    state = method.start(theta(problem), 7) if state is None else state
    for _ in range(rounds):
        state, _ = conclude(method.round(state), clients.exchange)
    return state, clients


def points(clients: LocalClients) -> list[Tensor]:
    """What each client has drawn of the first term."""
    memories = [m for m in clients.memories.values() if isinstance(m, Memory)]
    assert len(memories) == len(clients.systems)
    return [memory.points["0"] for memory in memories]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fipa", {}),
        ("fipa", {"balance": "terms"}),
        ("fedavg", {"tau": 3, "keep_state": True}),
        ("gauss_newton", {}),
    ],
)
def test_on_its_new_points_a_method_goes_on_as_it_would_alone(
    name: str, options: dict[str, object]
) -> None:
    problem, method = reaction(), wrappers.load(name, **options)
    before, known = after(problem, method, 2)
    start = method.moved(before, before.theta)
    found, clients = after(problem, Resampled(method, every=2), 4)
    drawn = points(clients)
    pde, ends = problem.terms
    parties = problem.pooled().rows if method.pooled else None
    fixed = [ends.points[:1], ends.points[:0], ends.points[1:]]
    moved = replace(
        problem,
        terms=[
            replace(pde, points=drawn),
            replace(ends, points=[ends.points] if parties else fixed),
        ],
        partition=explicit(len(drawn)),
    )
    state, _ = after(moved, method, 2, start, known.memories)
    assert torch.equal(found.theta, state.theta)
    assert not torch.equal(after(problem, method, 4)[0].theta, state.theta)


def test_points_are_drawn_early_where_the_network_fits_its_points_alone() -> None:
    # 26 parameters and 4 points.
    few = replace(reaction().terms[0], points=draw(4, 1))
    problem = replace(reaction(), terms=[few], partition=strips([0, 1]))
    method = Resampled(methods.load("fipa"), every=6)
    clients, state, left = connect(problem, method), method.start(theta(problem), 7), []
    for _ in range(10):
        state, _ = conclude(method.round(state), clients.exchange)
        left.append(state.left)
    assert left[:6] == [5, 4, 3, 2, 1, 0]  # of the problem's own nothing is known
    assert 0 in left[7:9]
    never = replace(method, ratio=None)
    clients, state = connect(problem, never), never.start(theta(problem), 7)
    for _ in range(10):
        state, _ = conclude(never.round(state), clients.exchange)
    assert state.left == 2


def test_clients_own_their_new_points_and_keep_their_number_and_weight() -> None:
    problem = reaction()
    _, clients = after(problem, Resampled(methods.load("fipa"), every=1), 2)
    for system, new in zip(clients.systems, points(clients), strict=True):
        old, ends = system.shard.rows
        assert new.shape == old.points.shape
        assert not torch.isin(new, old.points).any()
        assert set(problem.partition.owner(new).tolist()) == {system.shard.client}
        moved = system.moved({0: new}).shard.rows
        assert moved[0].weight == old.weight
        assert torch.equal(moved[0].target, torch.sin(5 * new[:, 0]))
        assert moved[1] is ends


def test_a_centralised_method_draws_in_the_whole_domain() -> None:
    problem = reaction()
    _, clients = after(problem, Resampled(methods.load("gauss_newton"), every=1), 2)
    (drawn,) = points(clients)
    owners = problem.partition.owner(drawn)
    assert set(owners.tolist()) == {0, 1, 2}


@pytest.mark.parametrize(
    ("power", "offset", "lower"),
    [(1, 0, 1 / 4), (2, 0, 1 / 8), (1, 1, 3 / 8), (0, 0, 1 / 2)],
)
def test_points_are_drawn_in_proportion_to_the_residual(
    power: float, offset: float, lower: float
) -> None:
    # |(r, 2 r)| with r = x; ``lower`` is the integral of p over (0, 1/2).
    def growing(u: Jet, row: Row) -> tuple[Tensor, Tensor]:
        return row.x + 0 * u.value, -2 * row.x

    term = Term("growing", growing, draw(2500, 1), sample=sample)
    problem = Problem("growing", MLP((1, 3, 1)), [term], strips([0, 1]))
    system = System(problem, problem.pooled())
    found = redrawn(
        system, theta(problem), system.shard.rows[0], Generator(), power, offset
    )
    assert len(found.unique()) == 2500
    # One in a hundred is the standard deviation; without replacement the most likely
    # of the ten candidates for a point are drawn less often, by up to 0.013.
    assert float((found < 0.5).double().mean()) == pytest.approx(lower, abs=0.045)


def test_where_the_residual_vanishes_points_are_drawn_evenly() -> None:
    def zero(u: Jet, row: Row) -> Tensor:
        return 0 * u.value

    term = Term("zero", zero, draw(1000, 1), sample=sample)
    problem = Problem("zero", MLP((1, 3, 1)), [term], strips([0, 1]))
    system = System(problem, problem.pooled())
    rows = system.shard.rows[0]
    found = redrawn(system, theta(problem), rows, Generator(), offset=0)
    assert float((found < 0.5).double().mean()) == pytest.approx(0.5, abs=0.07)


def test_points_depend_on_seed_round_and_client() -> None:
    problem = reaction()
    method = Resampled(methods.load("fipa"), every=1)
    opening = next(method.round(method.start(theta(problem), 7)))

    def drawn(client: int, seed: int, round_: int) -> Tensor:
        system = System(problem, problem.shards()[client])
        ask = Redraw(opening, seed, round_)
        return method.client[Redraw](system, ask, None)[1].points["0"]

    first = drawn(0, 7, 1)
    assert torch.equal(first, drawn(0, 7, 1))
    for other in (drawn(0, 8, 1), drawn(0, 7, 2), drawn(1, 7, 1)):
        assert not torch.isin(first, other).any()


@pytest.mark.parametrize("name", ["fipa", "gauss_newton"])
def test_a_resumed_run_equals_an_uninterrupted_one(name: str, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(line: Round) -> None:
        if line.round == 3:
            raise Stopped

    method = Resampled(methods.load(name), every=2)
    whole = run(reaction(), method, 6)
    with pytest.raises(Stopped):
        run(reaction(), method, 6, out=tmp_path / "run", progress=stop)
    resumed = run(reaction(), method, 6, out=tmp_path / "run", resume=True)
    assert torch.equal(resumed.theta, whole.theta)
    assert [line.loss for line in resumed.history] == [
        line.loss for line in whole.history
    ]


def test_a_warm_up_is_not_made_again() -> None:
    fedavg = methods.load("fedavg", tau=2)
    both = Warmup(fedavg, 2, Resampled(methods.load("fipa"), every=1))
    history = run(reaction(), both, 5).history
    assert [bool(line.ranks) for line in history] == [False, False, True, True, True]


def test_a_system_is_built_once_for_the_same_points() -> None:
    system = System(reaction(), reaction().shards()[0])
    points = {0: system.shard.rows[0].points / 2}
    moved = system.moved(points)
    assert moved is system.moved({0: points[0].clone()})
    assert moved is not system.moved({0: points[0] / 2})
    assert system.moved({}) is system
    scaled = system.scaled([4.0, 1.0]).moved(points)
    at = theta(reaction())
    assert scaled.residual(at)[0] == pytest.approx(2 * float(moved.residual(at)[0]))


def test_a_term_that_is_not_moved_stays_where_it_was() -> None:
    system = System(reaction(), reaction().shards()[0])
    held = [rows.points for rows in system.shard.rows]
    system.moved({0: held[0] / 2, 1: held[1] / 2})
    again = system.moved({0: held[0] / 2})
    assert torch.equal(again.shard.rows[1].points, held[1])


def test_what_cannot_be_drawn_again_is_refused() -> None:
    problem, method = reaction(), methods.load("fipa")
    pde, ends = problem.terms
    for every, power, offset in (
        (0, 1, 1),
        (5, -1, 1),
        (5, 1, math.nan),
        (5, math.inf, 1),
        (5, 1, math.inf),
    ):
        with pytest.raises(ValueError, match="at least"):
            Resampled(method, every, power, offset)
    with pytest.raises(ValueError, match="None is for never"):
        Resampled(method, ratio=0.5)
    assert chosen(problem) == [0]
    with pytest.raises(ValueError, match="^ends of .* what can: pde"):
        run(problem, Resampled(method, terms=("ends",)), 1)
    with pytest.raises(ValueError, match="^No term of problem 'reaction' can be"):
        chosen(replace(problem, terms=[replace(pde, sample=None), ends]))
    for changed, message in (
        (replace(pde, sample=lambda n, g: sample(n, g) / 4), "only 0 lie in the part"),
        (replace(pde, sample=lambda n, g: sample(n, g)[:, 0]), r"must be \[n, 1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            run(
                replace(problem, terms=[changed, ends]),
                Resampled(method, every=1),
                rounds=2,
            )


def test_what_cannot_be_drawn_again_is_refused_before_the_first_round() -> None:
    problem = reaction()
    pde, ends = problem.terms
    pieces = [[rows.points for rows in shard.rows] for shard in problem.shards()]
    own = [
        replace(term, points=list(points))
        for term, points in zip(problem.terms, zip(*pieces, strict=True), strict=True)
    ]
    for changed, message in (
        ({"terms": [replace(pde, target=torch.ones(23)), ends]}, "values at its own"),
        ({"terms": [replace(pde, partner=pde.points), ends]}, "pairs its points"),
        (
            {"terms": own, "partition": explicit(3)},
            "'explicit' .* not say who owns a new point of term 'pde'",
        ),
    ):
        strange = replace(problem, **changed)
        with pytest.raises(ValueError, match=message):
            chosen(strange)
        with pytest.raises(ValueError, match=message):
            run(strange, Resampled(methods.load("fipa"), every=9), rounds=1)
    assert chosen(strange, everywhere=True) == [0]


@pytest.mark.parametrize("name", sorted({*problems.names()} - FIXED))
def test_every_term_of_a_problem_that_can_move_does_so_at_each_client(
    name: str,
) -> None:
    problem = problems.load(name)
    numbers = chosen(problem)
    data = [*MEASURED.get(name, ())]
    assert [t.name for k, t in enumerate(problem.terms) if k not in numbers] == data
    for rows in (problem.pooled().rows[k] for k in numbers):
        term = problem.terms[rows.term]
        same = problem.moved(rows, rows.points[:5])
        points = term.sample(400, Generator())
        owners = problem.partition.owner(points).unique()
        assert torch.equal(owners, problem.partition.owner(rows.points).unique())
        other = problem.moved(rows, points)
        assert same.weight == other.weight == rows.weight
        assert torch.equal(other.points, points)
        if rows.target is None:
            assert other.target is None
        else:
            assert torch.equal(same.target, rows.target[:5])
            known = term.target(points) if callable(term.target) else 0 * points[:, 0]
            assert torch.equal(other.target, known)


@pytest.mark.parametrize("name", sorted({*problems.names()} - LISTED))
def test_a_problem_s_samples_lie_in_its_domain(name: str) -> None:
    problem = problems.load(name)

    def value(u: Jet, row: Row) -> Tensor:
        return sum((getattr(u, name) for name in problem.unknowns), u.values[:, 0])

    samples = [
        Term(term.name, value, term.drawn(50, Generator()).points)
        for term in problem.terms
    ]  # a problem checks its points
    replace(problem, terms=samples, exact=None, reference=None, test_points=None)


@pytest.mark.slow
def test_new_points_resolve_a_steep_front_that_fixed_ones_miss() -> None:
    # u_t + u u_x = nu u_xx, u = -sin(pi x) at t = 0; against Cole and Hopf's solution.
    nu = 0.05 / math.pi

    def burgers(u: Jet, row: Row) -> Tensor:
        return u.t + u.value * u.x - nu * u.xx

    def cole_hopf(points: Tensor) -> Tensor:
        x, t = points.numpy().T
        z, weight = np.polynomial.hermite.hermgauss(120)
        y = x[:, None] - np.sqrt(4 * nu * t)[:, None] * z
        heat = weight * np.exp(-(np.cos(np.pi * y) + 1) / (2 * np.pi * nu))
        return torch.from_numpy(-(heat * np.sin(np.pi * y)).sum(1) / heat.sum(1))

    def everywhere(n: int, generator: Generator) -> Tensor:
        return uniform(n, [-1, 0], [1, 1], generator)

    generator = Generator().manual_seed(0)
    network = MLP(
        (2, 10, 10, 10, 1),
        lift=lambda x: -torch.sin(math.pi * x[:, 0]),
        distance=lambda x: x[:, 1] * (1 - x[:, 0] ** 2),
    )
    problem = Problem(
        "front",
        network,
        [Term("pde", burgers, everywhere(300, generator), sample=everywhere)],
        strips([-1, 0, 1]),
        coordinates="xt",
        exact=cole_hopf,
        test_points=everywhere(1000, generator),
    )
    method = methods.load("fipa")
    fixed, _ = run(problem, method, 45, seed=1).errors()
    adapted, _ = run(problem, Resampled(method, every=10), 45, seed=1).errors()
    # Measured: 4.5e-2 and 2.0e-3; from start 0, after 60 rounds, 1.6e-2 and 1.7e-3.
    assert adapted < fixed / 5
