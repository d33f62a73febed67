"""Clients that leave and come: what still holds, and who stands in for them."""

from dataclasses import replace

import pytest
import torch
from cases import linear, optimum, sampled, scalar, theta
from faults import Faulty, advanced
from reference import relative
from torch import Generator, Tensor

from fedsciml import methods, policies
from fedsciml.federation.exchange import Checkpoint, Federation
from fedsciml.federation.inprocess import LocalClients
from fedsciml.federation.participation import Rules
from fedsciml.methods import Method, Record, flatten
from fedsciml.methods import _fipa as fipa
from fedsciml.methods._anchored import Anchored, Coordinates, CurveCoordinates
from fedsciml.problem import Problem
from fedsciml.residual import System
from fedsciml.wrappers.balance import Balanced

EXACT = methods.load("fipa", sketch="svd", rank="99")  # nothing is truncated
ANY = Rules(min_clients=1)


def reached(
    problem: Problem, method: Method, clients: LocalClients, rounds: int, rules: Rules
) -> Checkpoint:
    """What is reached after some rounds."""
    federation = Federation(problem, method, clients, rules)
    return advanced(federation, theta(problem), rounds)


def opened(
    problem: Problem, start: Tensor
) -> tuple[fipa.Opening, fipa.Sketched, fipa.Memory, System]:
    """The first ask at a point, the answer of client 1, and its memory."""
    system = System(problem, problem.shards()[1])
    ask = next(EXACT.round(EXACT.start(start, 0)))
    answer, memory = EXACT.client[fipa.Opening](system, ask, None)
    assert isinstance(ask, fipa.Opening)
    assert isinstance(answer, fipa.Sketched)
    assert isinstance(memory, fipa.Memory)
    return ask, answer, memory, system


def assert_close(found: Record, expected: Record) -> None:
    """All parts of two records agree to rounding."""
    mine, theirs = flatten(found), flatten(expected)
    assert mine.keys() == theirs.keys()
    assert mine.pop("kind") == theirs.pop("kind")
    for path in mine:
        torch.testing.assert_close(mine[path], theirs[path], rtol=1e-12, atol=1e-14)


def test_a_stand_in_answers_what_a_linear_client_would() -> None:
    problem = linear()
    start, there = theta(problem), theta(problem, 1)
    _, last, _, system = opened(problem, start)
    ask, expected, memory, _ = opened(problem, there)
    found, moved = EXACT.stand_in(ask, fipa.Last(last, start))
    assert_close(found, expected)
    steps = torch.stack([there, start, -3 * there])
    probe = fipa.Probe(steps, torch.tensor([1.0, 0.25]).double(), 0.125, 2)
    losses, _ = EXACT.client[fipa.Probe](system, probe, memory)
    found, again = EXACT.stand_in(probe, moved)
    assert again is moved
    assert_close(found, losses)


def test_a_stand_in_is_the_linear_model_of_the_last_sketch() -> None:
    problem = scalar()
    start, step = theta(problem), 0.1 * theta(problem, 1)
    _, last, _, system = opened(problem, start)
    linear = system.linearise(start)
    for h in (1.0, 0.1):  # errs by O(h^2)
        model = linear.residual + linear.jvp(h * step)
        ask, *_ = opened(problem, start + h * step)
        found, _ = EXACT.stand_in(ask, fipa.Last(last, start))
        assert isinstance(found, fipa.Sketched)
        assert found.loss == pytest.approx(float(model @ model) / 2, rel=1e-10)
        gradient = -(found.target @ found.factor)
        assert relative(gradient, linear.vjp(model)) < 1e-10


def test_a_stand_in_s_loss_is_never_negative() -> None:
    problem = scalar()
    start = theta(problem)
    _, answer, _, _ = opened(problem, start)
    # All of the residual in the sketch, and rounding beyond.
    square = float(answer.target @ answer.target)
    last = fipa.Last(replace(answer, loss=square / 2 * (1 - 1e-12)), start)
    step = torch.linalg.lstsq(answer.factor, answer.target).solution
    ask, *_ = opened(problem, start + step)
    found, _ = EXACT.stand_in(ask, last)
    assert isinstance(found, fipa.Sketched)
    assert 0 <= found.loss < 1e-20 * square
    probe = fipa.Probe(step[None], torch.ones(1).double(), 0.1, 0)
    found, _ = EXACT.stand_in(probe, last)
    assert isinstance(found, fipa.Found)
    assert (found.losses >= 0).all()


@pytest.mark.parametrize("basis", ["own", "shared"])
def test_a_stand_in_tells_on_curves_that_are_straight_what_it_told_of_steps(
    basis: str,
) -> None:
    problem = sampled(scalar())
    method = methods.load("fipa", basis=basis, rank="2").bound(problem)
    ask = next(method.round(method.start(theta(problem), 0)))
    system = System(problem, problem.shards()[1])
    answer, _ = method.part(ask)(system, ask, None)
    _, last = method.stand_in(ask, method.remembered(ask, answer))
    width = ask.span.size if isinstance(ask, Anchored) else problem.network.size
    steps = torch.randn(3, width, generator=Generator().manual_seed(0)).double()
    lengths = torch.tensor([1.0, 0.25]).double()
    asks = (
        (
            Coordinates(steps, lengths, 0.1, 0),
            CurveCoordinates(steps, 0 * steps, lengths),
        )
        if basis == "shared"
        else (
            fipa.Probe(steps, lengths, 0.1, 0),
            fipa.Curves(steps, 0 * steps, lengths),
        )
    )
    straight, along = (method.stand_in(ask, last)[0] for ask in asks)
    assert isinstance(straight, fipa.Found)
    assert isinstance(along, fipa.CurveLosses)
    torch.testing.assert_close(along.losses, straight.losses[:-1])


@pytest.mark.parametrize("local", ["exact", "gauss_newton"])
def test_a_linear_run_with_a_stand_in_is_the_run_with_all(local: str) -> None:
    problem = linear()
    options = {} if local == "exact" else {"local": local, "local_damping": 0.0}
    method = methods.load("fipa", sketch="svd", **options)
    rules, rounds = Rules(min_clients=1, staleness=20), 8
    away = {1: range(2, rounds + 1)}
    found = reached(problem, method, Faulty(problem, method, away=away), rounds, rules)
    whole = reached(problem, method, LocalClients(problem, method), rounds, rules)
    assert relative(found.state.theta, whole.state.theta) < 1e-10
    assert relative(found.state.theta, optimum(problem)) < 1e-10


def test_what_holds_stays_when_clients_leave() -> None:
    problem = scalar()
    state = reached(problem, EXACT, LocalClients(problem, EXACT), 5, ANY).state
    # Somewhere else than at the lowest loss, as in the midst of a hop.
    state = replace(state, at=theta(problem, 3))
    renewed = EXACT.renewed(state)
    fresh, after = (flatten(s) for s in (EXACT.start(state.theta, 0), renewed))
    before = {**flatten(state), "at": state.theta}
    lost = {f"policy/{key}" for key in ("ceiling", "best", "peak", "slow")}
    lost |= {"peak", "halved", "still"}
    assert lost & before.keys()
    for path, value in after.items():
        expected = (fresh if path in lost else before)[path]
        assert value is expected or value == expected
    assert before.keys() - after.keys() == {"lowest"}
    ask = next(EXACT.round(renewed))
    assert isinstance(ask, fipa.Opening)
    assert ask.theta is state.theta
    assert (ask.round, ask.top) == (state.round, state.top)


@pytest.mark.parametrize("name", [*policies.names(), "gradient_only"])
def test_the_loss_of_those_present_does_not_rise(name: str) -> None:
    problem = scalar()
    if name == "gradient_only":
        method = methods.load(name)
    else:
        policy = {"line_search": "line_search:memory=3"}.get(name, name)
        method = methods.load("fipa", sketch="svd", policy=policy)
    clients = Faulty(problem, method, away={1: range(3, 5), 0: range(6, 7)})
    federation = Federation(problem, method, clients, ANY)
    after = federation.start(theta(problem), 0)
    for _ in range(8):
        before, after = after, federation.advance(after).checkpoint
        assert after.participation is not None
        losses = [
            sum(clients.systems[m].loss(point) for m in after.participation.members)
            for point in (before.state.theta, after.state.theta)
        ]
        if name != "fixed":  # which takes its step without a look
            assert losses[1] <= losses[0] * (1 + 1e-12)


def test_with_a_client_gone_for_ever_the_others_problem_is_solved() -> None:
    problem = linear()
    clients = Faulty(problem, EXACT, away={1: range(4, 100)})
    found = reached(problem, EXACT, clients, 10, ANY).state.theta
    alone = clients.systems[0].linearise(torch.zeros(2).double())
    own = torch.linalg.lstsq(alone.jacobian(), -alone.residual).solution
    assert relative(found, own) < 1e-10
    assert relative(optimum(problem), own) > 0.1


@pytest.mark.parametrize("by", ["terms", "clients"])
def test_a_client_that_comes_later_is_balanced_too(by: str) -> None:
    problem = scalar()
    method = Balanced(EXACT, by)
    clients = Faulty(problem, method, away={2: range(1, 3)})
    federation = Federation(problem, method, clients, ANY)
    before = advanced(federation, theta(problem), 2)
    known = before.state.factors
    after = advanced(federation, before, 2)
    of_others, own = (after.memories[m].factors for m in (0, 2))
    own = own[-1]
    assert torch.equal(known, of_others)
    if by == "terms":
        assert torch.equal(own, of_others[0])
        assert not torch.equal(own, torch.ones(2).double())
    else:
        assert torch.equal(own, torch.ones(2).double())
