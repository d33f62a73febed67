"""Clients that leave and come: what still holds, and who stands in for them."""

import json
from functools import partial

import pytest
import study_stragglers
import torch
from cases import linear, optimum, scalar, theta
from faults import Faulty
from reference import relative
from torch import Tensor

import problems
from fedsciml import methods, policies
from fedsciml.federation.inprocess import InProcess
from fedsciml.federation.participation import Federation, Rules
from fedsciml.methods import Message, Method, State
from fedsciml.problem import Problem
from fedsciml.residual import System
from fedsciml.wrappers.balance import Balanced

EXACT = methods.load("fipa", sketch="svd", rank="99")  # nothing is truncated
ANY = Rules(min_clients=1)


def reached(
    problem: Problem, method: Method, door: InProcess, rounds: int, rules: Rules
) -> State:
    """The state after some rounds."""
    federation = Federation(problem, method, door, rules)
    state, broadcast = method.init(theta(problem), 0)
    for number in range(1, rounds + 1):
        state, broadcast, _ = federation.advance(state, broadcast, number)
    return state


def opened(problem: Problem, start: Tensor) -> tuple[Message, Message, State, System]:
    """A broadcast at a point, the upload of client 1, and its memory."""
    system = System(problem, problem.shards()[1])
    _, broadcast = EXACT.init(start, 0)
    upload, memory = EXACT.client(system, broadcast, {})
    return broadcast, upload, memory, system


def test_a_stand_in_answers_what_a_linear_client_would() -> None:
    problem = linear()
    start, there = theta(problem), theta(problem, 1)
    _, last, _, system = opened(problem, start)
    broadcast, expected, memory, _ = opened(problem, there)
    found, moved = EXACT.stand_in(broadcast, {**last, "theta": start})
    assert found.keys() == expected.keys()
    for key in found:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-12, atol=1e-14)
    steps = torch.stack([there, start, -3 * there])
    probe = {"steps": steps, "lengths": torch.tensor([1.0, 0.25]).double()}
    expected, _ = EXACT.client(system, probe, memory)
    found, again = EXACT.stand_in(probe, moved)
    assert again == moved
    assert found.keys() == expected.keys()
    for key in found:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-12, atol=1e-14)


def test_a_stand_in_is_the_linear_model_of_the_last_sketch() -> None:
    problem = scalar()
    start, step = theta(problem), 0.1 * theta(problem, 1)
    _, last, _, system = opened(problem, start)
    linear = system.linearise(start)
    for h in (1.0, 0.1):  # errs by O(h^2)
        model = linear.residual + linear.jvp(h * step)
        found, _ = EXACT.stand_in({"theta": start + h * step}, {**last, "theta": start})
        assert found["loss"] == pytest.approx(float(model @ model) / 2, rel=1e-10)
        gradient = -(found["target"] @ found["factor"])
        assert relative(gradient, linear.vjp(model)) < 1e-10


def test_a_stand_in_s_loss_is_never_negative() -> None:
    problem = scalar()
    start = theta(problem)
    _, last, _, _ = opened(problem, start)
    # All of the residual in the sketch, and rounding beyond.
    square = float(last["target"] @ last["target"])
    last |= {"theta": start, "loss": square / 2 * (1 - 1e-12)}
    step = torch.linalg.lstsq(last["factor"], last["target"]).solution
    found, _ = EXACT.stand_in({"theta": start + step}, last)
    assert 0 <= found["loss"] < 1e-20 * square
    probe = {"steps": step[None], "lengths": torch.ones(1).double()}
    assert (EXACT.stand_in(probe, last)[0]["losses"] >= 0).all()


@pytest.mark.parametrize("local", ["exact", "gauss_newton"])
def test_a_linear_run_with_a_stand_in_is_the_run_with_all(local: str) -> None:
    problem = linear()
    options = {} if local == "exact" else {"local": local, "local_damping": 0.0}
    method = methods.load("fipa", sketch="svd", **options)
    rules, rounds = Rules(min_clients=1, staleness=20), 8
    away = {1: range(2, rounds + 1)}
    found = reached(problem, method, Faulty(problem, method, away=away), rounds, rules)
    whole = reached(problem, method, InProcess(problem, method), rounds, rules)
    assert relative(found["theta"], whole["theta"]) < 1e-10
    assert relative(found["theta"], optimum(problem)) < 1e-10


def test_what_holds_stays_when_clients_leave() -> None:
    problem = scalar()
    state = reached(problem, EXACT, InProcess(problem, EXACT), 5, ANY)
    # Somewhere else than at the lowest loss, as in the midst of a hop.
    state |= {"at": theta(problem, 3)}
    after, broadcast = EXACT.renewed(state, {})
    fresh, _ = EXACT.init(state["theta"], 0)
    lost = {"ceiling", "best", "peak", "slow"}
    for key, value in after.items():
        forgotten = key.removeprefix("policy.") in lost
        expected = {**state, "at": state["theta"]}[key]
        assert value is (fresh[key] if forgotten else expected) or value == expected
    assert state.keys() - after.keys() == {"lowest"}
    assert broadcast["theta"] is state["theta"]
    assert (broadcast["round"], broadcast["top"]) == (state["round"], state["top"])


@pytest.mark.parametrize("name", [*policies.names(), "gradient_only"])
def test_the_loss_of_those_present_does_not_rise(name: str) -> None:
    problem = scalar()
    if name == "gradient_only":
        method = methods.load(name)
    else:
        policy = {"line_search": "line_search:memory=3"}.get(name, name)
        method = methods.load("fipa", sketch="svd", policy=policy)
    door = Faulty(problem, method, away={1: range(3, 5), 0: range(6, 7)})
    federation = Federation(problem, method, door, ANY)
    state, broadcast = method.init(theta(problem), 0)
    for number in range(1, 9):
        before = state["theta"]
        state, broadcast, _ = federation.advance(state, broadcast, number)
        assert federation.roll is not None
        losses = [
            sum(door.systems[m].loss(point) for m in federation.roll.members)
            for point in (before, state["theta"])
        ]
        if name != "fixed":  # which takes its step without a look
            assert losses[1] <= losses[0] * (1 + 1e-12)


def test_with_a_client_gone_for_ever_the_others_problem_is_solved() -> None:
    problem = linear()
    door = Faulty(problem, EXACT, away={1: range(4, 100)})
    state = reached(problem, EXACT, door, 10, ANY)
    alone = door.systems[0].linearise(torch.zeros(2).double())
    own = torch.linalg.lstsq(alone.jacobian(), -alone.residual).solution
    assert relative(state["theta"], own) < 1e-10
    assert relative(optimum(problem), own) > 0.1


@pytest.mark.parametrize("by", ["terms", "clients"])
def test_a_client_that_comes_later_is_balanced_too(by: str) -> None:
    problem = scalar()
    method = Balanced(EXACT, by)
    door = Faulty(problem, method, away={2: range(1, 3)})
    state = reached(problem, method, door, 2, ANY)
    known = state["balance.factors"]
    reached(problem, method, door, 4, ANY)
    of_others = door.memories[0]["balance.factors"]
    own = door.memories[2]["balance.factors"][-1]
    assert torch.equal(known, of_others)
    if by == "terms":
        assert torch.equal(own, of_others[0])
        assert not torch.equal(own, torch.ones(2).double())
    else:
        assert torch.equal(own, torch.ones(2).double())


def test_the_study_s_record_is_within_the_bounds_stated() -> None:
    entries = json.loads(study_stragglers.RECORD.read_text())
    keys = [tuple(e[key] for key in study_stragglers.KEY) for e in entries]
    assert sorted(keys) == sorted(study_stragglers.keys())
    for e in entries:
        assert e["error"] <= study_stragglers.BOUNDS.get(e["scenario"], 2.0)
        if e["scenario"] == "at random" and not e["staleness"]:
            assert max(e["errors"][34:]) < 1e-5
    page = study_stragglers.DOCS.read_text()
    assert study_stragglers.table(entries).markdown() in page


def test_the_study_leaves_out_who_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = partial(problems.load, points=0.05, width=6)
    monkeypatch.setattr(study_stragglers, "ROUNDS", 8)
    monkeypatch.setattr(problems, "load", tiny)
    drawn = study_stragglers.away("at random", 1)
    at_random = sum(number in of for of in drawn.values() for number in range(1, 9))
    for scenario, missing in {
        "nobody": 0,
        "two for ten rounds": 6,
        "an end for ever": 3,
        "at random": at_random,
    }.items():
        entry = study_stragglers.measured("allen_cahn", scenario, 0, 1)
        assert entry["missing"] == missing
        assert entry["error"] == entry["errors"][-1]
    assert at_random > 0
