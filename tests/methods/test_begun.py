"""What FIPA does beside sketch and probe: a chosen start, and bent steps."""

import math
from dataclasses import replace
from itertools import pairwise
from math import pi

import pytest
import torch
from cases import given, sampled, scalar
from exchanges import first_round
from faults import Connected, Faulty, gone
from torch import Generator

from fedsciml import MLP, Problem, Term, methods, run, wrappers
from fedsciml.collocation import strips
from fedsciml.federation.participation import Rules
from fedsciml.methods import Addressed, Method, Record
from fedsciml.methods._anchored import CurveCoordinates
from fedsciml.methods._fipa import SEEN, CurveLosses, Curves
from fedsciml.network.frequency import FREQUENCIES
from fedsciml.network.starts import starts
from fedsciml.residual import System
from fedsciml.wrappers._masked import Part

WAYS = [{"basis": "own"}, {"basis": "shared"}, {"basis": "shared", "upload": "sums"}]


def automatic(clients: int = 2) -> Problem:
    x = torch.linspace(0, 1, 60, dtype=torch.float64)[:, None]
    term = Term("data", given, x, lambda q: torch.sin(6 * pi * q[:, 0]))
    edges = strips([m / clients for m in range(clients + 1)])
    network = MLP((1, 12, 12, 1), first="auto")
    return sampled(Problem("waves", network, [term], edges, domain=([0.0], [1.0])))


def fipa(**options: object) -> Method:
    return methods.load("fipa", **options)


@pytest.mark.parametrize("way", WAYS)
def test_the_first_start_that_sees_the_residual_is_taken_and_recorded(
    way: dict[str, object],
) -> None:
    problem = automatic()
    line = run(problem, fipa(**way), 1, seed=1).history[0]
    promised = dict(line.tried)
    assert list(promised) == list(FREQUENCIES[: len(promised)])
    enough = [f for f, part in promised.items() if part >= SEEN]
    assert enough == [line.first]
    theta = starts(problem.network, 1, torch.float64)[line.first]
    whole = System(problem, problem.pooled())
    assert line.loss == pytest.approx(whole.loss(theta), rel=1e-12)
    # What is promised is the damped model's, of all rows.
    linear = whole.linearise(theta)
    u, s, _ = torch.linalg.svd(linear.jacobian(), full_matrices=False)
    mu = (1e-3 * s[0]) ** 2
    c = u.mT @ linear.residual
    kept = c * mu / (s**2 + mu)
    left = float(
        linear.residual.square().sum() - c.square().sum() + kept.square().sum()
    )
    part = 1 - left / float(linear.residual.square().sum())
    assert promised[line.first] == pytest.approx(part, abs=1e-3)


def test_the_record_of_the_round_is_of_the_start_that_was_taken() -> None:
    problem = replace(automatic(), prior=0.1)
    chosen = run(problem, fipa(), 1, gn_gap=True).history[0]
    given = replace(problem, network=replace(problem.network, first=chosen.first))
    line = run(given, fipa(), 1, gn_gap=True).history[0]
    assert chosen.first != FREQUENCIES[0]
    assert chosen.loss == pytest.approx(line.loss, rel=1e-12)
    assert chosen.gn_gap == pytest.approx(line.gn_gap, rel=1e-3)


def test_sketches_at_several_starts_follow_each_other_in_feedback() -> None:
    method = wrappers.load("fipa", basis="own", compress="float32,feedback")
    result = run(automatic(), method, 1)
    plain = run(automatic(), fipa(basis="own"), 1)
    assert result.history[0].first == plain.history[0].first != FREQUENCIES[0]
    assert float((result.theta - plain.theta).norm()) < 1e-4


def test_a_client_that_leaves_secure_sums_between_two_starts_ends_the_choice() -> None:
    def second(ask: Record) -> bool:
        parts = ask.parts.values() if isinstance(ask, Addressed) else ()
        return any(isinstance(part, Part) and bool(part.later) for part in parts)

    problem, method = automatic(5), wrappers.load("fipa", secure=True)
    clients = Faulty(problem, method.bound(problem), {2: gone}, [1], second)
    rules = Rules(min_clients=4)
    result = run(problem, method, 2, backend=Connected(clients), rules=rules)
    first, after = result.history
    assert [f for f, _ in first.tried] == [first.first] == [FREQUENCIES[0]]
    assert after.loss < first.loss


def test_starts_move_with_the_model() -> None:
    problem = automatic()
    method = fipa().bound(problem)
    theta = problem.network.init(Generator().manual_seed(0))
    state = method.start(theta, 0)
    moved = method.moved(state, theta + 0.5)
    assert torch.equal(moved.starts, state.starts + 0.5)


def test_all_ways_and_the_pooled_rows_choose_the_same() -> None:
    found = {run(automatic(), fipa(**way), 1).history[0].first for way in WAYS}
    pooled = run(automatic(), methods.load("gauss_newton"), 1).history[0].first
    assert found == {pooled}


def test_a_method_that_cannot_choose_says_so() -> None:
    result = run(automatic(), methods.load("fedavg", tau=1), 1)
    assert any("chooses no frequency" in text for text in result.warnings)
    assert result.history[0].first is None


@pytest.mark.parametrize("by", ["terms", "clients"])
def test_rows_that_are_balanced_at_one_start_stay_there(by: str) -> None:
    problem = automatic()
    result = run(problem, wrappers.load("fipa", balance=by), 1)  # type: ignore[arg-type]
    start = problem.network.init(Generator().manual_seed(0))
    loss = System(problem, problem.pooled()).loss(start)
    assert result.history[0].loss == pytest.approx(loss, rel=1e-12)
    assert any("starts with 1. fipa" in text for text in result.warnings)


def test_a_first_method_that_chooses_is_not_said_to_be_none() -> None:
    method = wrappers.load("fedavg", warmup="fipa:1", tau=1)
    result = run(automatic(), method, 1)
    assert result.history[0].first is not None
    assert not any("first='auto'" in text for text in result.warnings)


def test_a_warm_up_ends_where_it_led_and_not_at_another_start() -> None:
    method = wrappers.load("fipa", warmup="fedavg:1,tau=1")
    assert [line.first for line in run(automatic(), method, 2).history] == [None] * 2


@pytest.mark.parametrize("way", WAYS)
def test_a_bent_step_leads_where_its_losses_were_told(way: dict[str, object]) -> None:
    problem = sampled(scalar())
    history = run(problem, fipa(**way), 8).history
    bent = [(a, b) for a, b in pairwise(history) if a.curve]
    assert bent
    for line, after in bent:
        assert line.curve is not None
        assert 0 < line.curve <= 0.5  # t |D_2| <= |D|
        assert line.probes > 20
        assert after.loss < line.loss


def test_clients_tell_their_losses_along_curves() -> None:
    problem, method = scalar(), fipa(basis="own")
    after, info, exchanges = first_round(problem, method)
    ask, answers = exchanges[-1]
    assert isinstance(ask, Curves)
    theta = problem.network.init(Generator().manual_seed(0), torch.float64)
    total = 0.0
    for m, answer in answers.items():
        assert isinstance(answer, CurveLosses)
        system = System(problem, problem.shards()[m])
        assert answer.losses.shape == (len(ask.curves) * len(ask.lengths),)
        total = total + answer.losses
        assert torch.isfinite(answer.losses).any()
        assert len(system.blocks)
    assert info.loss >= float(torch.as_tensor(total).min())
    assert after.theta.shape == theta.shape


@pytest.mark.parametrize("way", WAYS)
def test_curves_along_which_all_losses_overflow_are_not_taken(
    way: dict[str, object],
) -> None:
    def infinite(answer: CurveLosses) -> CurveLosses:
        return replace(answer, losses=answer.losses * math.inf)

    def curved(ask: Record) -> bool:
        return isinstance(ask, (Curves, CurveCoordinates))

    problem, method = sampled(scalar()), fipa(**way)
    faulty = Faulty(problem, method.bound(problem), {0: infinite}, when=curved)
    history = run(problem, method, 3, backend=Connected(faulty)).history
    assert max(line.probes for line in history) > 20
    assert all(line.curve is None for line in history)


@pytest.mark.parametrize(
    "options", [{"local": "adam", "tau": 1}, {"rank": "predictive:0.5"}]
)
def test_steps_that_sketches_do_not_suit_are_straight(
    options: dict[str, object],
) -> None:
    *_, exchanges = first_round(scalar(), fipa(basis="own", **options))
    assert len(exchanges) == 2
