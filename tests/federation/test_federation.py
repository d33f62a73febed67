"""Federations whose clients fail: who takes part, and what is merged."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cases import scalar, theta
from faults import Faulty, gone, opening, probing, raises
from torch import Tensor

from fedsciml import methods, run
from fedsciml.federation.inprocess import InProcess
from fedsciml.federation.loop import Result
from fedsciml.federation.participation import Federation, Rules, TooFewClients
from fedsciml.federation.record import Record
from fedsciml.methods import Message, State
from fedsciml.problem import Problem
from fedsciml.wrappers.compress import Compressed

OTHERS = Rules(min_clients=2)
GONE = 1
"""The client that fails, of three."""


def without(problem: Problem, client: int) -> InProcess:
    """A federation that never had the client; the others are the same."""
    door = InProcess(problem, methods.load("fipa"))
    for part in (door.systems, door.shares, door.memories):
        del part[client]
    return door


def same(a: State, b: State) -> bool:
    """Whether two states hold the same bits."""
    return a.keys() == b.keys() and all(
        torch.equal(torch.as_tensor(a[key]), torch.as_tensor(b[key])) for key in a
    )


def advanced(
    federation: Federation, rounds: int = 1, start: State | None = None
) -> tuple[State, Message]:
    """State and broadcast after some rounds, from theta."""
    method = federation.method
    state, broadcast = method.init(theta(scalar()) if start is None else start, 0)
    for number in range(1, rounds + 1):
        state, broadcast, _ = federation.advance(state, broadcast, number)
    return state, broadcast


@pytest.mark.parametrize("when", [opening, probing])
def test_the_round_without_a_client_is_that_of_the_others(when: object) -> None:
    problem, method = scalar(), methods.load("fipa")
    door = Faulty(problem, method, {GONE: raises}, when=when)
    state, _ = advanced(Federation(problem, method, door, OTHERS), rounds=4)
    others = Federation(problem, method, without(problem, GONE))
    assert same(state, advanced(others, rounds=4)[0])


@pytest.mark.parametrize("when", [opening, probing])
def test_a_client_whose_upload_is_not_merged_keeps_its_memory(when: object) -> None:
    problem, method = scalar(), methods.load("fipa")
    door = Faulty(problem, method, {GONE: raises}, range(3, 9), when)
    federation = Federation(problem, method, door, OTHERS)
    advanced(federation, rounds=2)
    before = dict(door.memories[GONE])
    advanced(federation, rounds=4)
    assert door.memories[GONE] == before


def test_a_client_that_left_and_came_is_merged_again() -> None:
    problem, method = scalar(), methods.load("fipa")
    door = Faulty(problem, method, away={GONE: range(3, 6)})
    federation = Federation(problem, method, door, OTHERS)
    state, broadcast = method.init(theta(problem), 0)
    for number in range(1, 8):
        state, broadcast, info = federation.advance(state, broadcast, number)
        assert len(info.ranks) == (2 if number in range(3, 6) else 3)
        assert list(federation.dropped) == ([GONE] if number in range(3, 6) else [])


def test_a_client_that_always_fails_costs_no_exchange_but_its_own() -> None:
    problem, method = scalar(), methods.load("fipa")
    door = Faulty(problem, method, {GONE: raises}, when=opening)
    federation = Federation(problem, method, door, OTHERS)
    advanced(federation, rounds=5)
    assert [clients for number, clients in door.asked if number > 1] == [
        (0, 1, 2),
        (0, 2),
    ] * 4


def test_losses_of_other_clients_are_not_compared() -> None:
    problem, method = scalar(), methods.load("fipa")
    federation = Federation(
        problem, method, Faulty(problem, method, away={GONE: range(3, 5)}), OTHERS
    )
    state, broadcast = method.init(theta(problem), 0)
    whole = InProcess(problem, method)
    for number in range(1, 6):
        state, broadcast, _ = federation.advance(state, broadcast, number)
        lowest = float(
            sum(whole.losses(state["theta"], federation.roll.members).values())
        )
        assert state["lowest"] == pytest.approx(lowest, rel=1e-12)


def test_by_default_a_client_s_error_ends_the_round_as_it_is() -> None:
    problem, method = scalar(), methods.load("fipa")
    federation = Federation(problem, method, Faulty(problem, method, {GONE: raises}))
    with pytest.raises(RuntimeError, match="disk on fire") as caught:
        advanced(federation)
    assert "client 1 in round 1 of fipa on scalar" in caught.value.__notes__[0]


def test_too_few_clients_are_named_with_their_reasons() -> None:
    problem, method = scalar(), methods.load("fipa")
    door = Faulty(problem, method, {0: raises, 2: gone})
    federation = Federation(problem, method, door, OTHERS)
    with pytest.raises(TooFewClients, match="needs 2 of 3 clients, 1 are") as caught:
        advanced(federation)
    for said in (
        "Round 1 of fipa on scalar",
        "Client 0: RuntimeError",
        "Client 2: Con",
    ):
        assert said in str(caught.value)


def test_a_round_waits_for_clients_as_long_as_its_patience() -> None:
    problem, method = scalar(), methods.load("fipa")
    door, seconds = Faulty(problem, method, {GONE: gone}), [0.0]

    def sleep(duration: float) -> None:
        seconds[0] += duration
        if seconds[0] >= 30:
            door.faults = {}

    def federation(patience: float) -> Federation:
        rules = Rules(patience=patience)
        clock = lambda: seconds[0]  # noqa: E731
        return Federation(problem, method, door, rules, clock, sleep)

    with pytest.raises(ConnectionError, match="the node is gone"):
        advanced(federation(patience=10))
    assert 10 <= seconds[0] <= 12
    state, _ = advanced(federation(patience=60))
    plain = Federation(problem, method, InProcess(problem, method))
    assert same(state, advanced(plain)[0])


def test_an_upload_after_the_deadline_is_not_merged() -> None:
    problem, method = scalar(), methods.load("fipa")
    ticks = iter(range(10**6))
    door = InProcess(problem, method, clock=lambda: float(next(ticks)))
    rules = Rules(min_clients=2, deadline=0.5)
    with pytest.raises(TooFewClients, match="answered after 1 s; the deadline is 0.5"):
        advanced(Federation(problem, method, door, rules))
    advanced(Federation(problem, method, door, replace(rules, deadline=1.5)))


def test_a_client_that_says_another_share_is_refused() -> None:
    problem, method = scalar(), methods.load("fedavg", tau=2)
    door = Faulty(problem, method, {GONE: lambda upload: {**upload, "share": 0.9}})
    federation = Federation(problem, method, door, OTHERS)
    advanced(federation)
    assert "says that it holds 0.9 of all rows" in str(federation.dropped[GONE])


def test_a_round_that_fails_leaves_memories_and_traffic_to_go_on_from() -> None:
    problem, method = scalar(), methods.load("fipa")
    door = Faulty(problem, method, {GONE: raises}, range(2, 3), probing)
    federation = Federation(problem, method, door)
    state, broadcast, _ = federation.advance(*method.init(theta(problem), 0), 1)
    before, roll = list(door.memories), federation.roll
    with pytest.raises(RuntimeError):
        federation.advance(state, broadcast, 2)
    assert all(map(same, door.memories, before))
    assert federation.roll == roll


def test_a_client_that_is_away_at_the_end_is_not_in_the_loss() -> None:
    problem, method = scalar(), methods.load("fipa")
    door = Faulty(problem, method, away={GONE: range(2, 9)})
    result = run(problem, method, 3, backend=door, rules=OTHERS)
    found = InProcess(problem, method).losses(result.theta, [0, 2])
    assert result.loss == sum(loss for loss in found.values())


class Telling(InProcess):
    """Client 1 tells another loss in the end."""

    told: float | Exception = math.nan

    def losses(
        self, theta: Tensor, clients: Sequence[int], deadline: float | None = None
    ) -> dict[int, float | Exception]:
        return {**super().losses(theta, clients, deadline), GONE: self.told}


@pytest.mark.parametrize("told", [math.nan, math.inf, -1.0])
def test_a_loss_that_cannot_be_does_not_spoil_a_finished_run(told: float) -> None:
    problem, method = scalar(), methods.load("fipa")
    door = Telling(problem, method)
    door.told = told
    result = run(problem, method, 2, backend=door, rules=OTHERS)
    honest = InProcess(problem, method).losses(result.theta, [0, 2])
    assert result.loss == sum(honest.values())
    assert f"its loss at the end is {told}" in result.absent["1"]


def test_a_client_that_is_gone_in_the_end_fails_a_run_that_needs_it(
    tmp_path: Path,
) -> None:
    problem, method, out = scalar(), methods.load("fipa"), tmp_path / "run"
    door = Telling(problem, method)
    door.told = ConnectionError("the node is gone")
    with pytest.raises(ConnectionError, match="the node is gone"):
        run(problem, method, 2, backend=door, out=out)
    assert len(Record.resume(out).history()) == 2
    assert run(problem, method, 2, out=out, resume=True).loss > 0


def test_a_stand_in_for_the_probe_alone_is_forgotten_too() -> None:
    problem, method = scalar(), methods.load("fipa")
    door = Faulty(problem, method, {GONE: raises}, range(3, 4), probing)
    federation = Federation(problem, method, door, Rules(min_clients=2, staleness=3))
    whole = InProcess(problem, method)
    state, broadcast = method.init(theta(problem), 0)
    for number in range(1, 6):
        state, broadcast, _ = federation.advance(state, broadcast, number)
        if number == 3:
            assert federation.stale == {GONE: 0}
        else:
            honest = sum(whole.losses(state["theta"], range(3)).values())
            assert state["lowest"] == pytest.approx(honest, rel=1e-12)


def test_a_client_known_to_be_gone_costs_no_exchange() -> None:
    problem, method = scalar(), methods.load("fipa")
    door = Faulty(problem, method, away={GONE: range(3, 99)})
    advanced(Federation(problem, method, door, OTHERS), rounds=4)
    assert [clients for number, clients in door.asked if number > 2] == [(0, 2)] * 4


@pytest.mark.parametrize("compressed", [False, True])
def test_methods_that_compare_nothing_do_not_begin_again(compressed: bool) -> None:
    problem, method = scalar(), methods.load("fedavg", tau=2)
    method = Compressed(method) if compressed else method
    door = Faulty(problem, method, {GONE: raises}, range(2, 3), opening)
    advanced(Federation(problem, method, door, OTHERS), rounds=2)
    assert [clients for number, clients in door.asked if number == 2] == [(0, 1, 2)]


def test_what_a_client_says_of_itself_is_cut() -> None:
    problem, method = scalar(), methods.load("fipa")
    door = Faulty(problem, method, {GONE: lambda upload: {**upload, "x\n" * 10**6: 1}})
    federation = Federation(problem, method, door, OTHERS)
    advanced(federation)
    (told,) = federation.reasons().values()
    assert len(told) == 500
    assert "\n" not in told


def test_a_share_that_is_no_number_is_refused() -> None:
    problem, method = scalar(), methods.load("fedavg", tau=2)
    wrong = torch.ones(3, dtype=torch.float64)
    door = Faulty(problem, method, {GONE: lambda upload: {**upload, "share": wrong}})
    federation = Federation(problem, method, door, OTHERS)
    advanced(federation)
    assert "its share is a Tensor, not a number" in federation.reasons()["1"]


def test_a_run_that_lost_too_many_clients_goes_on_with_fewer(tmp_path: Path) -> None:
    problem, method, out = scalar(), methods.load("fipa"), tmp_path / "run"

    def go(rules: Rules, resume: bool) -> Result:
        door = Faulty(problem, method, away={GONE: range(3, 9), 2: range(3, 9)})
        return run(
            problem, method, 5, out=out, resume=resume, backend=door, rules=rules
        )

    with pytest.raises(TooFewClients, match="or allow fewer clients"):
        go(OTHERS, resume=False)
    result = go(Rules(min_clients=1, outlier=math.inf), resume=True)
    assert list(result.absent) == ["1", "2"]
    assert json.loads((out / "run.json").read_text())["rules"]["min_clients"] == 2


def test_a_run_with_faults_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    problem, method = scalar(), methods.load("fipa")

    def go(out: Path, stop: int, resume: bool = False) -> str:
        door = Faulty(problem, method, away={GONE: range(4, 8), 2: range(6, 7)})
        return run(
            problem,
            method,
            10,
            out=out,
            resume=resume,
            backend=door,
            rules=Rules(min_clients=1, staleness=2),
            stop=lambda history: len(history) >= stop,
        ).theta_sha256()

    whole = go(tmp_path / "whole", 10)
    for part in (3, 5, 6, 7):
        out = tmp_path / str(part)
        go(out, part)
        assert go(out, 10, resume=True) == whole
    lines = (tmp_path / "whole" / "history.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert [line.stale for line in found[2:8]] == [
        None,
        {"1": 1},
        {"1": 2},
        {"2": 1},
        None,
        None,
    ]
    assert "Client 1 is not there in round 6" in found[5].dropped["1"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_clients": 0},
        {"deadline": 0.0},
        {"patience": -1.0},
        {"outlier": 1.0},
        {"staleness": -1},
    ],
)
def test_rules_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"need|must|outlier"):
        Rules(**wrong)


def test_rules_that_do_not_suit_are_refused() -> None:
    problem = scalar()
    for name, rules in (
        ("fedavg", replace(OTHERS, staleness=1)),
        ("fipa", Rules(staleness=1)),
        ("fipa", Rules(min_clients=4)),
    ):
        method = methods.load(name)
        with pytest.raises(ValueError, match=r"stand in|are needed|least clients"):
            Federation(problem, method, InProcess(problem, method), rules)
