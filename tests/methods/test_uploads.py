"""What clients send is what methods expect, and any of them may be missing."""

from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from cases import small, theta
from exchanges import Answering, Exchange, answering, begin, connect, play
from faults import Faulty
from torch import Tensor

from fedsciml import methods
from fedsciml.federation import Federation, Rules
from fedsciml.federation.admission import outliers, refusal, usual
from fedsciml.linalg.ranks import share
from fedsciml.methods import Method, Record, flatten, payload, rebuild
from fedsciml.methods._sketching import context, limits
from fedsciml.problem import Problem
from fedsciml.residual import System
from fedsciml.wrappers.balance import Balanced
from fedsciml.wrappers.compress import Compressed
from fedsciml.wrappers.resample import Resampled
from fedsciml.wrappers.warmup import Warmup

EXACT = methods.load("fipa", sketch="svd")  # nothing in it depends on a client's number
BUDGET = "bytes:16000"

OTHERS: dict[str, Method] = {
    "fipa with local training": methods.load("fipa", sketch="svd", local="sgd", tau=2),
    "fipa without probes": methods.load(
        "fipa", sketch="svd", policy="fixed:damping=1e-3"
    ),
    "fipa of a budget": methods.load("fipa", rank=BUDGET),
    "balanced terms": Balanced(EXACT, "terms"),
    "balanced clients": Balanced(EXACT, "clients"),
    "warm-up": Warmup(methods.load("fedavg", tau=2), 1, EXACT),
    "resampled": Resampled(EXACT, every=1),
    "compressed": Compressed(EXACT),
    "compressed with feedback": Compressed(EXACT, "bfloat16", feedback=True),
    "compressed updates": Compressed(
        methods.load("fedavg", tau=2), "bfloat16", feedback=True
    ),
    "fedfisher of diagonals": methods.load("fedfisher", tau=2, fisher="diagonal"),
    "fedpm of gramians": methods.load("fedpm", tau=2, preconditioner="gramian"),
    "fipa_paper of a budget": methods.load("fipa_paper", tau=2, rank=BUDGET),
    "fipa_paper, adaptive": methods.load(
        "fipa_paper", tau=2, rank="published", sketch="svd"
    ),
}


def quick(name: str) -> Method:
    """A method by name with little local training, and the least work for sketches."""
    known = methods.options(name)
    given: dict[str, object] = (
        {"tau": 2} if "tau" in known and known["tau"].default else {}
    )
    if name == "fipa_paper":  # the one of a budget sketches by products
        given["sketch"] = "svd"
    return methods.load(name, **given)


CLASSIFIERS = {"fedrcl", "fedlora"}
"""Train on classes, or low-rank factors, alone; their clients send what FedAvg's do."""

METHODS = {n: quick(n) for n in methods.names() if n not in CLASSIFIERS} | OTHERS


@cache
def problem() -> Problem:
    return small("allen_cahn", clients=3, points=0.05, width=8)


def systems(method: Method) -> list[System]:
    """Of all parties."""
    made = problem()
    shards = [made.pooled()] if method.pooled else made.shards()
    return [System(made, shard) for shard in shards]


def played(
    method: Method, answer: Answering, rounds: int
) -> list[tuple[Any, list[Exchange]]]:
    """The state before each round and its exchanges; in the end the state alone."""
    found, state = [], begin(problem(), method)
    for _ in range(rounds):
        after, _, exchanges = play(method, state, answer)
        found.append((state, exchanges))
        state = after
    return [*found, (state, [])]


@pytest.mark.parametrize("name", METHODS)
def test_clients_send_what_the_method_expects(name: str) -> None:
    method = METHODS[name]
    parties = dict(enumerate(systems(method)))
    for state, exchanges in played(method, answering(method, parties), 2):
        words: dict[int, dict[str, int]] = {m: {} for m in parties}
        for ask, answers in exchanges:
            expected = method.expects(ask, problem().network.size)
            for m, answer in answers.items():
                part = parties[m].shard.share
                wrong = refusal(answer, expected, words[m], state.theta, part)
                assert wrong is None


@pytest.mark.parametrize(
    "name", [name for name, method in METHODS.items() if not method.pooled]
)
def test_a_client_that_scales_one_part_of_its_upload_is_an_outlier(name: str) -> None:
    # A spectrum shares out bytes alone, traces differ by squares, and what a client
    # says of candidates can only keep the others from a step.
    free = {"spectrum", "traces", "losses", "targets"}
    method, measured = METHODS[name], set()
    answer = answering(method, dict(enumerate(systems(method))))
    for _, exchanges in played(method, answer, 2):
        for ask, good in exchanges:
            expected = method.expects(ask, problem().network.size)
            content = flatten(good[1])
            for key, value in content.items():
                if not (isinstance(value, Tensor) and value.is_floating_point()):
                    continue
                if value.any():
                    large = rebuild({**content, key: 1e6 * value}, method.kinds)
                    norms = usual(good, expected)
                    found = outliers({**good, 1: large}, expected, norms, 500)
                    assert list(found) == ([] if key in free else [1]), key
                    measured.add(key)
    assert measured - free


def alone(method: Method, answer: Answering) -> Answering:
    """The answers of clients who are the whole federation: their shares add up to 1."""

    def answered(ask: Record) -> dict[int, Any]:
        contents = {m: flatten(each) for m, each in answer(ask).items()}
        for path in ("share", "answer/share"):
            whole = sum(content.get(path, 0.0) for content in contents.values())
            for content in contents.values():
                if path in content:
                    content[path] /= whole
        return {m: rebuild(each, method.kinds) for m, each in contents.items()}

    return answered


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, method in METHODS.items()
        # A client's number draws its points and its sketch; a budget, and the control
        # variates of who is missing, have their own tests.
        if not (
            method.pooled
            or name in ("fipa", "fipa_paper", "resampled", "scaffold", "feddyn")
        )
        and "budget" not in name
    ],
)
def test_with_a_client_missing_the_step_is_that_of_the_others(name: str) -> None:
    method, (first, _, last) = METHODS[name], systems(METHODS[name])
    moved = System(problem(), replace(last.shard, client=1))
    missing = answering(method, {0: first, 2: last})
    whole = alone(method, answering(method, {0: first, 1: moved}))
    (*_, (found, _)), (*_, (expected, _)) = (
        played(method, answer, 2) for answer in (missing, whole)
    )
    # Sums of shares round, which the second round makes larger: measured 2e-14.
    torch.testing.assert_close(found.theta, expected.theta, rtol=0, atol=1e-11)


def test_control_variates_of_missing_clients_stay() -> None:
    scaffold, feddyn = METHODS["scaffold"], METHODS["feddyn"]
    first, _, last = systems(scaffold)
    shares = torch.tensor([s.shard.share for s in (first, last)], dtype=torch.float64)
    for method, change, kept in (
        (scaffold, "change", "variate"),
        (feddyn, "delta", "gradient"),
    ):
        answer = answering(method, {0: first, 2: last})
        (before, ((_, answers),)), (after, _) = played(method, answer, 1)
        deltas, changes = (
            torch.stack([getattr(a, key) for a in answers.values()])
            for key in ("delta", change)
        )
        moved = before.theta + shares @ deltas / shares.sum()
        variate = shares @ changes
        if method is feddyn:  # h = -alpha sum of share_m delta_m, theta less h / alpha
            moved, variate = moved + variate, -0.1 * variate
        torch.testing.assert_close(after.theta, moved, rtol=1e-13, atol=1e-15)
        found = getattr(after, kept)
        torch.testing.assert_close(found, variate, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    ("name", "kept"), [("scaffold", "variate"), ("feddyn", "gradient")]
)
def test_a_forgotten_control_variate_is_missed_in_every_later_round(
    name: str, kept: str
) -> None:
    method = methods.load(name, tau=3)
    clients = connect(problem(), method)
    shares = torch.tensor(clients.shares, dtype=torch.float64)
    federation = Federation(problem(), method, clients)
    reached = federation.start(theta(problem()), 0)
    lost = torch.zeros_like(theta(problem()))
    for number in range(1, 9):
        if number == 4:
            first, forgetful, last = reached.memories
            lost = shares[1] * getattr(forgetful, kept)
            assert lost.norm() > 1e-3 * getattr(reached.state, kept).norm() > 0
            reached = reached._replace(memories=[first, None, last])
        reached = federation.advance(reached).checkpoint
        server = getattr(reached.state, kept)
        own = torch.stack([getattr(memory, kept) for memory in reached.memories])
        gap, atol = server - shares @ own, 1e-13 * server.norm()
        torch.testing.assert_close(gap, lost, rtol=0, atol=atol)


def test_a_budget_is_shared_among_those_that_report() -> None:
    spectra = {0: torch.tensor([9.0, 4.0]), 2: torch.tensor([8.0, 7.0, 1.0])}
    parties, found = systems(EXACT), limits(spectra, 4)
    assert share([*spectra.values()], 4) == [2, 2]

    def limit(system: System, limits: Tensor | None, rows: int) -> int:
        ask = SimpleNamespace(round=1, gradient=0.0, limits=limits)
        who = system.shard.client, system.problem.clients
        return context(*who, ask, 0.0, torch.zeros(1), 0.0, rows).limit

    assert [limit(system, found, 99) for system in parties] == [2, 0, 2]
    assert [limit(s, limits({0: spectra[0]}, 4), 99) for s in parties] == [4, 0, 0]


@pytest.mark.parametrize("name", ["fipa of a budget", "fipa_paper of a budget"])
def test_a_budget_holds_whoever_is_missing(name: str) -> None:
    method, (first, _, last) = METHODS[name], systems(METHODS[name])
    spent = []
    for state, exchanges in played(method, answering(method, {0: first, 2: last}), 3):
        for opening in exchanges[:1]:
            spent.append(sum(map(payload, opening.answers.values())))
        renewed = method.renewed(state)
        assert renewed.limits is None
        assert next(method.round(renewed)).limits is None
    assert max(spent) <= 16000
    assert spent[2] > 14400


@pytest.mark.parametrize(
    "name", [name for name, method in METHODS.items() if not method.pooled]
)
def test_a_method_goes_on_when_clients_leave_and_come(name: str) -> None:
    method = METHODS[name]
    clients = Faulty(problem(), method, away={1: range(2, 4), 0: range(3, 5)})
    federation = Federation(problem(), method, clients, Rules(min_clients=1))
    reached = federation.start(theta(problem()), 0)
    for number in range(1, 7):
        reached = federation.advance(reached).checkpoint
        assert reached.participation is not None
        present = [m for m in range(3) if number not in clients.away.get(m, ())]
        assert reached.participation.members == present
        assert reached.state.theta.isfinite().all()
