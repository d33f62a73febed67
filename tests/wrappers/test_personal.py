"""Federations whose clients have parameters of their own."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import owned, scalar
from faults import Faulty, advanced
from torch import Tensor

from fedsciml import MLP, Parallel, Problem, Term, methods, run, wrappers
from fedsciml.analysis import deviations, gradient_norm, measure, personalise
from fedsciml.collocation import explicit
from fedsciml.federation.exchange import Federation
from fedsciml.federation.inprocess import LocalClients
from fedsciml.federation.participation import Rules
from fedsciml.methods import Record, flatten
from fedsciml.methods._base import conclude
from fedsciml.network.jet import Jet
from fedsciml.problem import Row
from fedsciml.residual import System, Together
from fedsciml.wrappers import fitted
from fedsciml.wrappers.personal import Evaluate, Personal


def same(a: Mapping[int, Tensor], b: Mapping[int, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[m], b[m]) for m in a)


@pytest.mark.parametrize("damping", [1e-2, 1e-4])
@pytest.mark.parametrize("prior", [0.0, 0.1])
def test_a_round_is_the_joint_step_of_all_parameters(
    damping: float, prior: float
) -> None:
    problem = owned(prior)
    how = {"sketch": "svd", "rank": "1000", "policy": f"fixed:damping={damping}"}
    made = methods.load("fipa", **how)
    method = fitted(made, problem).bound(problem)
    clients = LocalClients(problem, method)
    begin = problem.network.init(_seed(), torch.float64)
    state, info = conclude(method.round(method.start(begin, 0)), clients.exchange)
    before = {m: method.own(s, state, clients.memories[m]) for m, s in _here(clients)}
    mu_f = info.damping  # of the next round
    after, info = conclude(method.round(state), clients.exchange)
    found = {m: method.own(s, after, clients.memories[m]) for m, s in _here(clients)}
    whole = Together(System(problem, problem.pooled()))
    f = torch.cat(list(before.values()))
    linear = whole.linearise(whole.joined(state.point, f))
    mu = torch.full((whole.size,), mu_f, dtype=f.dtype)
    mu[: len(begin)] = info.damping
    rows = torch.cat([linear.jacobian(), mu.sqrt().diag()])
    right = torch.cat([-linear.residual, torch.zeros_like(mu)])
    step = torch.linalg.lstsq(rows, right, driver="gelsd").solution * info.step
    moved = whole.joined(after.point - state.point, torch.cat(list(found.values())) - f)
    assert (moved - step).norm() < 1e-10 * step.norm()  # 1e-12 measured


def _seed() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _here(clients: LocalClients) -> list[tuple[int, System]]:
    return list(enumerate(clients.systems))


def test_steps_that_nobody_judged_are_damped_alike() -> None:
    problem = owned()
    made = methods.load("fipa", policy="hindsight")
    method = fitted(made, problem).bound(problem)
    clients = LocalClients(problem, method)
    state = method.start(problem.network.init(_seed(), torch.float64), 0)
    losses = list[float]()
    for _ in range(12):
        state, info = conclude(method.round(state), clients.exchange)
        assert state.damping == info.damping
        losses.append(info.loss)
    # With mu_f a tenth as large after every full step the last loss was 1.2e2.
    assert losses[-1] < losses[0] / 10


def test_the_first_round_holds_what_is_each_clients_own() -> None:
    problem = owned()
    assert problem.personal is not None
    result = run(problem, methods.load("fipa"), 1)
    assert all(
        torch.equal(f, problem.personal.values) for f in result.personal.values()
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fipa", {}),
        ("fedavg", {"tau": 3}),
        ("gauss_newton", {}),
        pytest.param("lbfgs", {}, marks=pytest.mark.slow),
    ],
)
def test_what_is_each_clients_own_is_trained_and_told_of(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    problem = owned()
    result = run(problem, methods.load(name, **options), 6, out=tmp_path / "run")
    assert sorted(result.personal) == [0, 1, 2, 3]
    whole = Together(System(problem, problem.pooled()))
    f = torch.stack([result.personal[m] for m in range(4)])
    x = whole.joined(result.theta, f)
    assert result.loss == pytest.approx(whole.loss(x), rel=1e-12)
    assert result.loss < result.history[0].loss
    assert sum(result.terms.values()) == pytest.approx(result.loss, rel=1e-12)
    norm = gradient_norm(problem, result.theta, result.personal)
    assert norm == pytest.approx(float(whole.slope(x).norm()), rel=1e-10)
    found = measure(problem, result.theta, result.personal)
    shifts = [result.unknowns(m)["shift"] for m in range(4)]
    truth = problem.truth["shift"]
    off = [abs(a - b) / (abs(b) or 1) for a, b in zip(shifts, truth, strict=True)]
    assert found.each["shift"] == pytest.approx(sum(off) / 4)
    assert "shift" not in result.unknowns()
    points = torch.rand(5, 1, dtype=torch.float64)
    u = result.solution(points, client=2).u.value
    assert torch.equal(u, result.module(client=2)(points)[:, 0])
    with pytest.raises(ValueError, match="say whose"):
        result.solution(points)
    with pytest.raises(ValueError, match="Of client 9 no parameters"):
        result.solution(points, client=9)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fipa", {}),
        pytest.param("fipa", {"policy": "hindsight"}, marks=pytest.mark.slow),
        pytest.param("gauss_newton", {}, marks=pytest.mark.slow),
        ("fedavg", {"tau": 3, "keep_state": True}),
        pytest.param(
            "fedavg",
            {"tau": 3, "personal": "alternate,epochs=2"},
            marks=pytest.mark.slow,
        ),
        pytest.param("lbfgs", {}, marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_has_the_same_bytes(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    problem, method = owned(n=5), wrappers.load(name, **options)
    through = run(problem, method, 6)
    run(problem, method, 3, out=tmp_path / "run")
    resumed = run(problem, method, 6, out=tmp_path / "run", resume=True)
    assert resumed.theta_sha256() == through.theta_sha256()
    assert same(resumed.personal, through.personal)
    assert resumed.loss == through.loss


def test_messages_are_those_of_the_shared_part_alone() -> None:
    problem = owned()
    assert problem.personal is not None
    seen: list[Record] = []

    class Watched(LocalClients):
        def exchange(self, ask: Record) -> dict[int, Record]:
            answers = super().exchange(ask)
            seen.extend([ask, *answers.values()])
            return answers

    method = fitted(methods.load("fipa"), problem).bound(problem)
    clients = Watched(problem, method)
    begin = problem.network.init(_seed(), torch.float64)
    state = method.start(begin, 0)
    for _ in range(4):
        state, _ = conclude(method.round(state), clients.exchange)
    every = problem.network.joint.size
    own = len(problem.personal.mine)
    for record in seen:
        for value in flatten(record).values():
            if isinstance(value, Tensor):
                assert not {every, own} & set(value.shape)
    plain = replace(problem, network=problem.personal.joint, truth={})
    shorter = run(problem, methods.load("fedavg", tau=1), 2).history[-1]
    longer = run(plain, methods.load("fedavg", tau=1), 2).history[-1]
    # Each of two rounds, clients and ways has so many numbers less; a round's ask has
    # beside them what the server did since.
    saved = 2 * 4 * 8 * own
    assert longer.bytes_up - shorter.bytes_up == saved
    assert longer.bytes_down - shorter.bytes_down >= saved - 2 * 4 * 64


def test_a_client_that_was_away_goes_on_with_what_it_has() -> None:
    problem = owned()
    method = fitted(methods.load("fipa"), problem).bound(problem)
    clients = Faulty(problem, method, away={1: (3, 4)})
    federation = Federation(problem, method, clients, Rules(min_clients=2))
    reached = advanced(federation, problem.network.init(_seed(), torch.float64), 2)
    kept = federation.personal(reached)[1]
    reached = advanced(federation, reached)
    reached = advanced(federation, reached, 3)
    back = federation.personal(reached)
    assert not torch.equal(back[1], kept)
    loss, _ = federation.loss(reached)
    whole = Together(System(problem, problem.pooled()))
    f = torch.stack([back[m] for m in range(4)])
    assert loss == pytest.approx(whole.loss(whole.joined(reached.state.theta, f)))


def test_a_client_that_fails_at_the_end_is_left_out_of_the_loss_alone() -> None:
    problem = owned()
    method = fitted(methods.load("fipa"), problem).bound(problem)

    def gone(answer: object) -> object:
        raise RuntimeError("gone")

    def ending(ask: Record) -> bool:
        return isinstance(ask, Evaluate)

    clients = Faulty(problem, method, {1: gone}, when=ending)
    federation = Federation(problem, method, clients, Rules(min_clients=2))
    reached = advanced(federation, problem.network.init(_seed(), torch.float64), 3)
    loss, absent = federation.loss(reached)
    own, expected = federation.personal(reached), 0.0
    for m, system in _here(clients):
        f = own[m][None]
        whole = Together(system)
        expected += (m != 1) * whole.loss(whole.joined(reached.state.theta, f))
    assert absent == {"1": "gone"}
    assert loss == pytest.approx(expected, rel=1e-12)
    parts, _ = federation.breakdown(reached)
    assert parts is not None
    assert parts.terms == ()
    needed = Federation(problem, method, clients, Rules())
    with pytest.raises(RuntimeError, match="gone"):
        needed.loss(reached)


def test_rounding_uploads_goes_with_it() -> None:
    problem = owned()
    exact = run(problem, methods.load("fipa"), 4)
    rounded = run(problem, wrappers.load("fipa", compress="float32"), 4)
    assert rounded.loss == pytest.approx(exact.loss, rel=1e-2)
    assert sorted(rounded.personal) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "scaffold"}, "cannot train parameters of each client's own"),
        ({"name": "fipa", "every": 4}, "cannot train parameters of each client's own"),
        ({"name": "fipa", "local": "adam"}, "cannot train parameters"),
        ({"name": "fipa", "balance": "clients"}, "Balanced does not go with"),
        ({"name": "fipa", "warmup": "fedavg:2"}, "cannot train parameters"),
        ({"name": "fipa", "train": "classifier"}, "LastLayers does not go with"),
    ],
)
def test_what_does_not_go_with_it_is_refused(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        run(owned(), wrappers.load(**options), 2)


def test_a_problem_needs_parameters_of_the_clients_own() -> None:
    with pytest.raises(ValueError, match="has no personal parameters"):
        run(scalar(), Personal(methods.load("fedavg")), 1)


def test_a_new_client_fits_its_own_parameters_alone() -> None:
    problem = owned(prior=1e-8, n=6)
    result = run(problem, methods.load("fipa"), 8)
    x = torch.linspace(0, 1, 6, dtype=torch.float64)[:, None]
    target = torch.sin(3 * x[:, 0]) + 0.45
    mine = personalise(problem, result, {"data": (x, target)})
    u = mine.solution(x)
    fitted_values = u.u.value + u.v.value + mine.unknowns()["shift"]
    assert (fitted_values - target).abs().max() < 0.1 * target.abs().max()
    assert torch.equal(mine.theta, result.theta)
    with pytest.raises(ValueError, match="has no term 'datum'"):
        personalise(problem, result, {"datum": (x, target)})
    with pytest.raises(ValueError, match=r"got a tuple"):
        personalise(problem, result, (x, target))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has targets"):
        personalise(problem, result, {"data": x})
    with pytest.raises(ValueError, match="give the problem of the run"):
        personalise(linear(), result, {"data": (x, target)})
    with pytest.raises(ValueError, match="no personal parameters to fit"):
        personalise(scalar(), result, {})


def test_a_number_that_a_new_client_s_points_do_not_tell_is_named() -> None:
    points = [torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]] * 2
    problem = Problem(
        "slopes",
        Parallel([MLP((1, 3, 1))], personal={"k": 0.5}),
        [
            Term("data", lambda u, row: u.value - row.target, points, 0.0),
            Term("equation", lambda u, row: u.x - u.k, points),
        ],
        explicit(2),
    )
    result = run(problem, methods.load("fipa"), 1)
    with pytest.warns(UserWarning, match="depends on 'k'.* too: equation"):
        personalise(problem, result, {"data": (points[0], points[0][:, 0])})


def test_deviations_are_those_of_ordinary_least_squares() -> None:
    problem = linear()
    result = run(problem, methods.load("fipa", policy="levenberg_marquardt"), 20)
    found = deviations(problem, result.theta, result.personal, "data")
    # y = a x + b_m + e: the covariance of (a, b) is s^2 (X^T X)^-1.
    points = [rows.points[:, 0] for s in problem.shards() for rows in s.rows]
    design = torch.zeros(sum(map(len, points)), 4, dtype=torch.float64)
    start = 0
    for m, x in enumerate(points):
        design[start : start + len(x), 0] = x
        design[start : start + len(x), 1 + m] = 1
        start += len(x)
    y = torch.cat([r.target for s in problem.shards() for r in s.rows])  # type: ignore[misc]
    solution = torch.linalg.lstsq(design, y[:, None]).solution[:, 0]
    s2 = float((design @ solution - y).square().sum()) / (len(y) - 4)
    expected = (s2 * torch.linalg.inv(design.mT @ design).diagonal()).sqrt()[1:]
    told = [found.numbers[m]["offset"] for m in range(3)]
    assert told == pytest.approx(expected.tolist(), rel=1e-4)


def test_rows_of_several_residuals_do_not_mix_up_the_measurements() -> None:
    problem = linear()

    def two(u: Jet, row: Row) -> tuple[Tensor, Tensor]:
        return u.slope - 2 + 0 * u.value, 0 * u.value

    points = [torch.zeros(1, 1).double()] * 3
    more = replace(
        problem, terms=[Term("two", two, points, weight=1e-9), *problem.terms]
    )
    f = {m: torch.tensor([float(m)]).double() for m in range(3)}
    at = torch.tensor([0.0, 0.0, 2.0]).double()
    alone, beside = (deviations(p, at, f, "data").values for p in (problem, more))
    assert torch.allclose(alone, beside, rtol=1e-4)


def linear() -> Problem:
    """A slope that three clients share, and an offset of each."""
    generator = torch.Generator().manual_seed(3)
    points = [
        torch.rand(7 + m, 1, generator=generator, dtype=torch.float64) for m in range(3)
    ]
    targets = [
        2 * x[:, 0] + m + 0.1 * torch.randn(len(x), generator=generator).double()
        for m, x in enumerate(points)
    ]

    def data(u: Jet, row: Row) -> Tensor:
        return u.slope * row.x + 0 * u.value + u.offset - row.target

    network = Parallel([MLP((1, 1))], {"slope": 1.0}, personal={"offset": 0.0})
    return Problem(
        "linear", network, [Term("data", data, points, target=targets)], explicit(3)
    )
