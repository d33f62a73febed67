"""Faults of clients: the run goes on with the others, and says what happened."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from cases import scalar
from faults import FAULTS, Connected, Faulty, opening, probing

from fedsciml import methods, problems, run
from fedsciml.collocation import strips
from fedsciml.federation.history import Round
from fedsciml.federation.inprocess import LocalClients
from fedsciml.federation.participation import Rules
from fedsciml.federation.result import Result
from fedsciml.methods import Method, Record
from fedsciml.problem import Problem

RULES = Rules(min_clients=2)
ROUNDS = 6
LOCAL = ("fedavg", "scaffold", "fedpm")
"""Methods that train locally."""
SOME = range(3, 5)
"""Rounds with a fault; there are good ones before and after."""

REASONS = {
    "raises": "disk on fire",
    "gone": "the node is gone",
    "nan": "not finite",
    "inf": "not finite",
    "shape": "has shape",
    "dtype": "is of torch.float32, not torch.float64",
    "another network": "has shape",
    "empty": "it has no '",
    "garbage": "is a bytes, not a",
    "foreign": "it is a faults.Foreign, not a ",
    "negative": "is below 0",
    "scaled": "more than twice its loss",
}


@cache
def problem() -> Problem:
    return scalar()


def trained(
    clients: LocalClients, rules: Rules = RULES, out: Path | None = None
) -> Result:
    backend = Connected(clients)
    return run(problem(), clients.method, ROUNDS, out=out, backend=backend, rules=rules)


def quick(name: str) -> Method:
    """A method with little local training."""
    return methods.load(name, **({"tau": 2} if name in LOCAL else {}))


@cache
def without(name: str, rounds: range) -> Result:
    """The run of a method in which client 1 is known to be gone."""
    return trained(Faulty(problem(), quick(name), away={1: rounds}))


def told(out: Path) -> list[Round]:
    """The record's history; the record must be whole."""
    assert (out / "model.safetensors").exists()
    assert not (out / "failure.json").exists()
    lines = (out / "history.jsonl").read_text().splitlines()
    history = [Round.read(line) for line in lines]
    assert [line.round for line in history] == list(range(1, ROUNDS + 1))
    return history


FOR_EVER = range(3, 99)
LASTING = ("raises", "nan", "scaled")
"""Faults that are tried for ever too; of the others that is no different, and slow."""


def slow(name: str) -> tuple[pytest.MarkDecorator, ...]:
    return () if name in LASTING else (pytest.mark.slow,)


@pytest.mark.parametrize(
    ("name", "when", "rounds"),
    [
        pytest.param(
            *(name, when, rounds),
            marks=slow(name) if rounds is FOR_EVER else (),
            id=f"{name}-{when.__name__}-{'some' if rounds is SOME else 'for ever'}",
        )
        for name in FAULTS
        for when in (opening, probing)
        for rounds in (SOME, FOR_EVER)
    ],
)
def test_a_run_with_a_fault_is_that_of_the_others(
    name: str, rounds: range, when: Callable[[Record], bool], tmp_path: Path
) -> None:
    method = methods.load("fipa")
    clients = Faulty(problem(), method, {1: FAULTS[name]}, rounds, when)
    result = trained(clients, out=tmp_path / "run")
    if name == "scaled":  # what contradicts itself in two rounds is asked no more
        rounds = range(3, 99)
    for line in told(tmp_path / "run"):
        assert list(line.dropped) == ["1"] * (line.round in rounds)
        if line.round in rounds:
            said = line.dropped["1"]
            if name == "scaled" and line.round > 4:
                assert "in rounds 3 and 4" in said
                continue
            assert REASONS[name] in said
            if name not in ("raises", "gone"):
                assert f"round {line.round} of fipa on scalar" in said
                assert "client 1 cannot be merged" in said
    assert result.theta_sha256() == without("fipa", rounds).theta_sha256()


@pytest.mark.parametrize(
    ("method", "name"),
    [
        pytest.param(
            *(method, name),
            marks=() if method in ("fedavg", "gradient_only") else slow(name),
        )
        for method in (*LOCAL, "gradient_only")
        for name in FAULTS
        # No law bounds a gradient; the losses along it still only fall.
        if (method, name) != ("gradient_only", "scaled")
    ],
)
def test_other_methods_go_on_with_the_others_too(method: str, name: str) -> None:
    clients = Faulty(problem(), quick(method), {1: FAULTS[name]}, SOME, opening)
    result = trained(clients)
    assert result.theta_sha256() == without(method, SOME).theta_sha256()


def test_a_client_slower_than_the_deadline_is_left_out() -> None:
    seconds = [0.0]
    clients = LocalClients(problem(), methods.load("fipa"), clock=lambda: seconds[0])
    slow, rows = clients.systems[1], clients.systems[1].parts
    asked = [0]

    def parts(*arguments: object) -> object:
        asked[0] += 1
        if asked[0] in SOME:
            seconds[0] += 30
        return rows(*arguments)

    slow.parts = parts
    result = trained(clients, replace(RULES, deadline=10))
    assert result.theta_sha256() == without("fipa", SOME).theta_sha256()
    said = [line.dropped["1"] for line in result.history if line.dropped]
    assert said == ["Client 1 answered after 30 s; the deadline is 10 s"] * 2


def test_a_client_without_rows_changes_nothing() -> None:
    edges = [0, 0.3, 0.8, 1]
    some = replace(problem(), partition=strips(edges))
    extra = replace(some, partition=strips([0, 0.3, 0.3 + 1e-9, 0.8, 1]), partial=True)
    assert extra.counts(1) == [0, 0]
    method = methods.load("fipa", sketch="svd")
    found, expected = (run(made, method, ROUNDS) for made in (extra, some))
    assert found.theta_sha256() == expected.theta_sha256()
    assert [len(line.ranks) for line in found.history] == [3] * ROUNDS
    assert not any(line.dropped for line in found.history)


@pytest.mark.parametrize("staleness", [pytest.param(0, marks=pytest.mark.slow), 10])
def test_two_of_five_clients_may_be_gone_for_ten_rounds(staleness: int) -> None:
    five = problems.load("allen_cahn", clients=5, points=0.05, width=10)
    method = methods.load("fipa")
    clients = Faulty(five, method, away={1: range(6, 16), 3: range(6, 16)})
    result = run(
        five,
        method,
        30,
        backend=Connected(clients),
        rules=Rules(min_clients=3, staleness=staleness),
    )
    # Measured 3e-11 without stand-ins, 9e-11 with them, 2e-11 with all clients.
    assert result.errors()[0] < 1e-9
    told = {m for line in result.history for m in line.dropped}
    assert told == {"1", "3"}
    stood_in = [line.round for line in result.history if line.stale]
    assert stood_in == (list(range(6, 16)) if staleness else [])
