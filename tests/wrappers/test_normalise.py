"""Weights against steep gradients: what they are, and that a round keeps them."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import draw, small, theta
from reference import relative
from torch import Tensor
from torch.autograd.functional import jacobian

from fedsciml import MLP, Problem, Term, likelihoods, methods, problems, run, wrappers
from fedsciml.collocation import in_box, strips
from fedsciml.methods._base import Budget, Method
from fedsciml.network import ModuleNetwork
from fedsciml.network.jet import Jet
from fedsciml.policies.natural import Natural
from fedsciml.problem import Row
from fedsciml.residual import System
from fedsciml.wrappers import Normalised, fitted
from fedsciml.wrappers.balance import Traces


def pde(u: Jet, row: Row) -> tuple[Tensor, Tensor]:
    return u.u.t + u.u.value * u.u.x - 0.1 * u.u.xx, u.v.x - u.u.value


def by_hand(u: Jet, row: Row) -> tuple[Tensor, Tensor]:
    """The same by torch.autograd."""
    (first,) = torch.autograd.grad(u.values[:, 1].sum(), row.points, create_graph=True)
    return u.u.t + u.u.value * u.u.x - 0.1 * u.u.xx, first[:, 0] - u.u.value


def ends(u: Jet, row: Row) -> Tensor:
    return u.u.value - u.partner.u.value


@cache
def problem(kind: str = "jets") -> Problem:
    """Two outputs; the rows of one term of two are weighted, in each kind of block."""
    autograd = kind != "jets"
    network = MLP((2, 5, 4, 2), distance=lambda x: 1 + x[:, 0] * x[:, 1])
    module = torch.nn.Sequential(
        torch.nn.Linear(2, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2)
    ).double()
    points = draw(13, 2)
    pair = points.flip(0)
    sample = in_box([0.0, 0.0], [1.0, 1.0])
    return Problem(
        "steep",
        ModuleNetwork(module) if kind == "module" else network,
        [
            Term(
                "pde",
                by_hand if autograd else pde,
                points,
                autograd=autograd,
                weight=3.0,
                sample=sample,
                normalise="gradient",
            ),
            Term("ends", ends, points[:4], partner=pair[:4]),
        ],
        strips([0.0, 0.4, 1.0]),
        coordinates="xt",
        outputs="uv",
    )


def test_rows_taken_out_of_a_weighted_shard_keep_their_weights() -> None:
    """As the batches of local training are."""
    made = problem()
    at = theta(made)
    weighted = System(made, made.shards()[0], chunk=3).normalised(at)
    chosen = [rows.part(torch.arange(len(rows.points))) for rows in weighted.shard.rows]
    found = weighted.on(chosen)
    assert found.loss(at) == pytest.approx(weighted.loss(at), rel=1e-13)
    assert found.loss(at) < 0.9 * System(made, made.shards()[0]).loss(at)


def factors(problem: Problem, at: Tensor, points: Tensor) -> Tensor:
    """1 / (1 + |grad u|), point by point."""

    def solution(x: Tensor) -> Tensor:
        return problem.network(at, x[None])[0]

    return torch.stack([1 / (1 + jacobian(solution, x).norm()) for x in points])


@pytest.mark.parametrize("kind", ["jets", "taylor", "module"])
def test_residual_and_jacobian_have_the_weights_of_another_theta(kind: str) -> None:
    made = problem(kind)
    at, begin = theta(made), theta(made, 1)
    plain = System(made, made.pooled())
    steep = plain.normalised(begin)
    n = len(made.terms[0].points)
    weights = factors(made, begin, plain.shard.rows[0].points)
    weights = torch.cat(
        [weights, weights, weights.new_ones(len(plain.residual(at)) - 2 * n)]
    )
    expected = plain.linearise(at)
    found = steep.linearise(at)
    assert relative(found.residual, weights * expected.residual) < 1e-14
    assert relative(found.jacobian(), weights[:, None] * expected.jacobian()) < 1e-13
    assert relative(steep.residual(at), found.residual) < 1e-14
    assert relative(steep.slope(at), found.gradient) < 1e-12
    v = theta(made, 2)
    assert relative(found.jvp(v), found.jacobian() @ v) < 1e-12
    assert steep.loss(at) == pytest.approx(float(found.residual.square().sum()) / 2)


@pytest.mark.parametrize(
    ("options", "close"),
    [({}, 5e-3), ({"basis": "shared", "upload": "sums"}, 1e-5)],
    ids=["own", "sums"],
)
def test_a_round_of_clients_is_that_of_all_rows_in_one_place(
    options: dict[str, object], close: float
) -> None:
    made = small("burgers", clients=2, points=0.03, width=5, normalise="gradient")
    straight: Any = Natural(curves=False)  # a bent step is not that of Gauss-Newton
    federated: Any = replace(methods.load("fipa", **options), policy=straight)
    central: Any = replace(methods.load("gauss_newton"), policy=straight)
    result = run(made, federated, 3, gn_gap=True)
    whole = run(made, central, 3)
    # Measured 8e-4 and 2e-6, as much as without weights.
    gaps = [line.gn_gap for line in result.history]
    assert all(gap is not None and gap < close for gap in gaps)
    second = whole.history[1].loss
    assert result.history[1].loss == pytest.approx(second, rel=10 * close)


def test_a_run_that_is_resumed_weighs_as_one_that_was_not(tmp_path: Path) -> None:
    made = small("burgers", clients=2, points=0.03, width=5, normalise="gradient")
    method = wrappers.load("fipa", resample="2", warmup="fedavg:1,tau=2")
    whole = run(made, method, 4)
    run(made, method, 2, out=tmp_path)
    halves = run(made, method, 4, out=tmp_path, resume=True)
    assert torch.equal(halves.theta, whole.theta)


def test_a_client_without_memory_is_asked_for_no_weights_of_its_own() -> None:
    """Weights of a round follow from its ask alone."""
    made = problem()
    method = fitted(methods.load("fipa"), made)
    state = method.start(theta(made), 0)
    systems = [System(made, shard) for shard in made.shards()]
    exchanges = method.round(state)
    ask = next(exchanges)
    part = method.part(ask)
    fresh, memory = part(systems[0], ask, None)
    moved = replace(ask, theta=theta(made, 1))
    _, elsewhere = part(systems[0], moved, None)
    again, _ = part(systems[0], ask, elsewhere)
    assert fresh.loss == again.loss
    assert memory is not None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"normalise": "slope"}, "write normalise='gradient'"),
        (
            {"normalise": "gradient", "likelihood": likelihoods.Huber()},
            "has its own weights",
        ),
    ],
)
def test_what_cannot_be_weighted_is_refused_in_words(
    change: dict[str, object], words: str
) -> None:
    term = replace(problem().terms[0], normalise=None)
    with pytest.raises(ValueError, match=words):
        replace(problem(), terms=[replace(term, **change)])


def test_parameters_of_each_client_s_own_and_privacy_are_refused() -> None:
    own = problems.load("oscillations", points=5, collocation=6, clients=3)
    steep = replace(own, terms=[replace(t, normalise="gradient") for t in own.terms])
    with pytest.raises(ValueError, match="leave out one of them"):
        fitted(methods.load("fipa"), steep)

    class Noisy(Method):
        budget = Budget(1, 1.0)

    with pytest.raises(ValueError, match="bounds of differential privacy"):
        fitted(Noisy(), problem())


def test_a_method_is_wrapped_where_a_term_asks_for_it_and_once() -> None:
    plain = replace(
        problem(), terms=[replace(t, normalise=None) for t in problem().terms]
    )
    method = wrappers.load("fipa", compress="bfloat16", resample="3")
    assert fitted(method, plain) is method
    inside = fitted(method, problem())
    assert fitted(inside, problem()) == inside
    while not isinstance(inside, Normalised):
        inside = inside.method
    assert inside.name == "fipa"


def test_rows_are_balanced_with_the_weights_that_they_have() -> None:
    made = problem()
    method = fitted(wrappers.load("fipa", balance="terms"), made).bound(made)
    system, at = System(made, made.pooled()), theta(made)
    answer, _ = method.client[Traces](system, Traces(at), None)
    rows = system.normalised(at).linearise(at).jacobian().square().sum(1)
    n = 2 * len(made.terms[0].points)
    expected = torch.stack([rows[:n].sum(), rows[n:].sum()])
    torch.testing.assert_close(answer.traces, expected, rtol=1e-12, atol=0)
