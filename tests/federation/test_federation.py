"""Federations whose clients fail: who takes part, and what is merged."""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cases import scalar, theta
from faults import (
    FAULTS,
    Connected,
    Faulty,
    advanced,
    gone,
    opening,
    probing,
    raises,
    same,
)
from torch import Tensor

from fedsciml import methods, run
from fedsciml.federation.backend import Reply
from fedsciml.federation.directory import RunDirectory
from fedsciml.federation.exchange import Checkpoint, Federation
from fedsciml.federation.history import Round
from fedsciml.federation.inprocess import LocalClients
from fedsciml.federation.participation import Rules, TooFewClients
from fedsciml.federation.result import Result
from fedsciml.methods import Method
from fedsciml.methods import Record as Message
from fedsciml.methods import _fipa as fipa
from fedsciml.problem import Problem
from fedsciml.wrappers.compress import Compressed

OTHERS = Rules(min_clients=2)
GONE = 1
"""The client that fails, of three."""

CARRYING: dict[str, object] = {"local": "adam", "tau": 2, "keep_state": True}
"""Options of FIPA with which clients remember how they trained."""

When = Callable[[Message], bool]


def without(problem: Problem, method: Method, client: int) -> LocalClients:
    """A federation that never had the client; the others are the same."""
    clients = LocalClients(problem, method)
    for part in (clients.systems, clients.shares):
        del part[client]
    return clients


@pytest.mark.parametrize("options", [{}, CARRYING])
@pytest.mark.parametrize("when", [opening, probing])
def test_the_round_without_a_client_is_that_of_the_others(
    when: When, options: dict[str, object]
) -> None:
    problem, method = scalar(), methods.load("fipa", **options)
    clients = Faulty(problem, method, {GONE: raises}, when=when)
    start = theta(problem)
    found = advanced(Federation(problem, method, clients, OTHERS), start, rounds=4)
    others = Federation(problem, method, without(problem, method, GONE))
    expected = advanced(others, start, rounds=4)
    assert same(found.state, expected.state)
    assert all(map(same, (found.memories[0], found.memories[2]), expected.memories))


@pytest.mark.parametrize("when", [opening, probing])
def test_a_client_whose_upload_is_not_merged_keeps_its_memory(when: When) -> None:
    problem, method = scalar(), methods.load("fipa")
    clients = Faulty(problem, method, {GONE: raises}, range(3, 9), when)
    federation = Federation(problem, method, clients, OTHERS)
    before = advanced(federation, theta(problem), rounds=2)
    after = advanced(federation, before, rounds=4)
    assert before.memories[GONE] is not None
    assert same(after.memories[GONE], before.memories[GONE])


def test_a_client_that_left_and_came_is_merged_again() -> None:
    problem, method = scalar(), methods.load("fipa")
    clients = Faulty(problem, method, away={GONE: range(3, 6)})
    federation = Federation(problem, method, clients, OTHERS)
    reached = federation.start(theta(problem), 0)
    for number in range(1, 8):
        reached, info, dropped, *_ = federation.advance(reached)
        assert len(info.ranks) == (2 if number in range(3, 6) else 3)
        assert list(dropped) == (["1"] if number in range(3, 6) else [])


def test_a_client_that_always_fails_costs_no_exchange_but_its_own() -> None:
    problem, method = scalar(), methods.load("fipa", policy="natural:curves=false")
    clients = Faulty(problem, method, {GONE: raises}, when=opening)
    federation = Federation(problem, method, clients, OTHERS)
    advanced(federation, theta(problem), rounds=5)
    assert [asked for number, asked in clients.asked if number > 1] == [
        (0, 1, 2),
        (0, 2),
    ] * 4


def total(clients: LocalClients, reached: Checkpoint, members: Sequence[int]) -> float:
    """Loss at the model that was reached, summed over the members."""
    found = clients.losses(reached.state.theta, members)
    return sum(loss for loss in found.values() if not isinstance(loss, Exception))


class Counting(Faulty):
    """Faulty clients that count what crosses, in bytes and messages."""

    up = down = messages = 0

    def ask(
        self,
        ask: Message,
        memories: Mapping[int, Message | None],
        number: int,
        deadline: float | None = None,
    ) -> dict[int, Reply | Exception]:
        replies = super().ask(ask, memories, number, deadline)
        came = [r.answer for r in replies.values() if isinstance(r, Reply)]
        self.up += sum(map(size, came))
        self.down += len(memories) * size(ask)
        self.messages += len(memories) + len(came)
        return replies


def size(message: Message) -> int:
    """Bytes of its tensors and numbers, from their paths."""
    leaves = methods.flatten(message).values()
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    numbers = [leaf for leaf in leaves if isinstance(leaf, int | float)]
    return sum(t.numel() * t.element_size() for t in tensors) + 8 * len(numbers)


@pytest.mark.parametrize(
    ("fault", "when", "messages"),
    [
        ("raises", opening, (3 + 2) + 2 * (2 + 2)),  # which alone must be done again
        ("raises", probing, (3 + 3) + (3 + 2) + 2 * (2 + 2)),
        ("nan", opening, (3 + 3) + 2 * (2 + 2)),
        ("nan", probing, 2 * (3 + 3) + 2 * (2 + 2)),
    ],
)
def test_all_that_crosses_in_a_round_that_begins_again_is_counted(
    fault: str, when: When, messages: int
) -> None:
    problem, method = scalar(), methods.load("fipa", policy="natural:curves=false")
    clients = Counting(problem, method, {GONE: FAULTS[fault]}, range(2, 3), when)
    federation = Federation(problem, method, clients, OTHERS)
    before = advanced(federation, theta(problem))
    after = advanced(federation, before)
    assert before.traffic.messages == 2 * (3 + 3)
    assert after.traffic.messages - before.traffic.messages == messages
    assert after.traffic == (clients.up, clients.down, clients.messages)


def test_what_crosses_while_a_round_waits_is_counted() -> None:
    problem, method = scalar(), methods.load("fipa", policy="natural:curves=false")
    clients = Counting(problem, method, {GONE: raises}, when=probing)
    seconds = [0.0]

    def sleep(duration: float) -> None:
        seconds[0] += duration
        if seconds[0] >= 3:
            clients.faults = {}

    rules = Rules(patience=60)
    federation = Federation(problem, method, clients, rules, lambda: seconds[0], sleep)
    traffic = advanced(federation, theta(problem)).traffic
    assert traffic == (clients.up, clients.down, clients.messages)
    assert traffic.messages == 3 * (3 + 3 + 3 + 2) + 2 * (3 + 3)


def test_losses_of_other_clients_are_not_compared() -> None:
    problem, method = scalar(), methods.load("fipa")
    federation = Federation(
        problem, method, Faulty(problem, method, away={GONE: range(3, 5)}), OTHERS
    )
    reached = federation.start(theta(problem), 0)
    whole = LocalClients(problem, method)
    for _ in range(5):
        reached = federation.advance(reached).checkpoint
        assert reached.participation is not None
        lowest = total(whole, reached, reached.participation.members)
        assert reached.state.lowest == pytest.approx(lowest, rel=1e-12)


def test_by_default_a_client_s_error_ends_the_round_as_it_is() -> None:
    problem, method = scalar(), methods.load("fipa")
    federation = Federation(problem, method, Faulty(problem, method, {GONE: raises}))
    with pytest.raises(RuntimeError, match="disk on fire") as caught:
        advanced(federation, theta(problem))
    assert "client 1 in round 1 of fipa on scalar" in caught.value.__notes__[0]


def test_too_few_clients_are_named_with_their_reasons() -> None:
    problem, method = scalar(), methods.load("fipa")
    clients = Faulty(problem, method, {0: raises, 2: gone})
    federation = Federation(problem, method, clients, OTHERS)
    with pytest.raises(TooFewClients, match="needs 2 of 3 clients, 1 are") as caught:
        advanced(federation, theta(problem))
    for said in (
        "Round 1 of fipa on scalar",
        "Client 0: RuntimeError",
        "Client 2: Con",
    ):
        assert said in str(caught.value)


def test_a_round_waits_for_clients_as_long_as_its_patience() -> None:
    problem, method = scalar(), methods.load("fipa")
    clients, seconds = Faulty(problem, method, {GONE: gone}), [0.0]

    def sleep(duration: float) -> None:
        seconds[0] += duration
        if seconds[0] >= 30:
            clients.faults = {}

    def federation(patience: float) -> Federation:
        rules = Rules(patience=patience)
        clock = lambda: seconds[0]  # noqa: E731
        return Federation(problem, method, clients, rules, clock, sleep)

    with pytest.raises(ConnectionError, match="the node is gone"):
        advanced(federation(patience=10), theta(problem))
    assert 10 <= seconds[0] <= 12
    found = advanced(federation(patience=60), theta(problem))
    plain = Federation(problem, method, LocalClients(problem, method))
    assert same(found.state, advanced(plain, theta(problem)).state)


def test_a_round_that_waited_in_vain_says_why_it_first_failed() -> None:
    problem, method = scalar(), methods.load("fipa")
    clients, seconds = Faulty(problem, method, {GONE: raises}), [0.0]

    def sleep(duration: float) -> None:
        seconds[0] += duration
        clients.away = {GONE: range(9)}

    rules = Rules(patience=5)
    federation = Federation(problem, method, clients, rules, lambda: seconds[0], sleep)
    with pytest.raises(RuntimeError, match="disk on fire"):
        advanced(federation, theta(problem))


def test_an_upload_after_the_deadline_is_not_merged() -> None:
    problem, method = scalar(), methods.load("fipa")
    ticks = iter(range(10**6))
    clients = LocalClients(problem, method, clock=lambda: float(next(ticks)))
    rules = Rules(min_clients=2, deadline=0.5)
    with pytest.raises(TooFewClients, match="answered after 1 s; the deadline is 0.5"):
        advanced(Federation(problem, method, clients, rules), theta(problem))
    rules = replace(rules, deadline=1.5)
    advanced(Federation(problem, method, clients, rules), theta(problem))


def test_a_client_that_says_another_share_is_refused() -> None:
    problem, method = scalar(), methods.load("fedavg", tau=2)
    clients = Faulty(problem, method, {GONE: lambda a: replace(a, share=0.9)})
    federation = Federation(problem, method, clients, OTHERS)
    outcome = federation.advance(federation.start(theta(problem), 0))
    assert "says that it holds 0.9 of all rows" in outcome.dropped["1"]


def test_a_round_that_fails_leaves_memories_and_traffic_to_go_on_from() -> None:
    problem, method = scalar(), methods.load("fipa")
    clients = Faulty(problem, method, {GONE: raises}, range(2, 3), probing)
    federation = Federation(problem, method, clients)
    reached = advanced(federation, theta(problem))
    assert reached.participation is not None
    before, part = list(reached.memories), deepcopy(reached.participation)
    with pytest.raises(RuntimeError):
        federation.advance(reached)
    assert all(map(same, reached.memories, before))
    assert reached.participation == part
    clients.faults = {}
    plain = Federation(problem, method, LocalClients(problem, method))
    found, whole = advanced(federation, reached), advanced(plain, theta(problem), 2)
    assert same(found.state, whole.state)
    assert all(map(same, found.memories, whole.memories))
    assert found.traffic == whole.traffic


def test_a_client_that_is_away_at_the_end_is_not_in_the_loss() -> None:
    problem, method = scalar(), methods.load("fipa")
    clients = Faulty(problem, method, away={GONE: range(2, 9)})
    result = run(problem, method, 3, backend=Connected(clients), rules=OTHERS)
    found = LocalClients(problem, method).losses(result.theta, [0, 2])
    assert result.loss == sum(loss for loss in found.values())


class Telling(LocalClients):
    """Client 1 tells another loss in the end."""

    told: float | Exception = math.nan

    def losses(
        self, theta: Tensor, clients: Sequence[int], deadline: float | None = None
    ) -> dict[int, float | Exception]:
        return {**super().losses(theta, clients, deadline), GONE: self.told}


@pytest.mark.parametrize("told", [math.nan, math.inf, -1.0])
def test_a_loss_that_cannot_be_does_not_spoil_a_finished_run(told: float) -> None:
    problem, method = scalar(), methods.load("fipa")
    clients = Telling(problem, method)
    clients.told = told
    result = run(problem, method, 2, backend=Connected(clients), rules=OTHERS)
    honest = LocalClients(problem, method).losses(result.theta, [0, 2])
    assert result.loss == sum(honest.values())
    assert f"its loss at the end is {told}" in result.absent["1"]


def test_a_client_that_is_gone_in_the_end_fails_a_run_that_needs_it(
    tmp_path: Path,
) -> None:
    problem, method, out = scalar(), methods.load("fipa"), tmp_path / "run"
    clients = Telling(problem, method)
    clients.told = ConnectionError("the node is gone")
    with pytest.raises(ConnectionError, match="the node is gone"):
        run(problem, method, 2, backend=Connected(clients), out=out)
    assert len(RunDirectory.resume(out).history()) == 2
    assert run(problem, method, 2, out=out, resume=True).loss > 0


def test_a_stand_in_for_the_probe_alone_is_forgotten_too() -> None:
    problem, method = scalar(), methods.load("fipa", policy="natural:curves=false")
    clients = Faulty(problem, method, {GONE: raises}, range(3, 4), probing)
    rules = Rules(min_clients=2, staleness=3)
    federation = Federation(problem, method, clients, rules)
    whole = LocalClients(problem, method)
    reached = federation.start(theta(problem), 0)
    for number in range(1, 6):
        reached, _, _, stale, _ = federation.advance(reached)
        memory = reached.memories[GONE]
        assert isinstance(memory, fipa.Memory)
        assert (memory.basis is None) == (number != 3)  # of a sketch that was merged
        if number == 3:
            assert stale == {GONE: 0}
        else:
            honest = total(whole, reached, range(3))
            assert reached.state.lowest == pytest.approx(honest, rel=1e-12)
    # The fourth is begun again, as the losses of the third were not all told.
    assert Counter(number for number, _ in clients.asked) == {
        1: 2,
        2: 2,
        3: 2,
        4: 3,
        5: 2,
    }


def test_what_was_usual_once_stays_so() -> None:
    problem, method = scalar(), methods.load("fipa")
    rules = Rules(outlier=1e9)
    federation = Federation(problem, method, LocalClients(problem, method), rules)
    reached, targets = federation.start(theta(problem), 0), [0.0]
    for _ in range(30):
        reached = federation.advance(reached).checkpoint
        assert reached.participation is not None
        targets.append(reached.participation.norms["target"])
    assert targets == sorted(targets)
    # Though what is left to be solved has become small: measured 0.003 times that.
    ask = next(method.round(reached.state))
    last = LocalClients(problem, method).exchange(ask)[0]
    assert isinstance(last, fipa.Sketched)
    assert float(last.target.norm()) < 0.1 * targets[-1]


def test_a_client_known_to_be_gone_costs_no_exchange() -> None:
    problem, method = scalar(), methods.load("fipa", policy="natural:curves=false")
    clients = Faulty(problem, method, away={GONE: range(3, 99)})
    advanced(Federation(problem, method, clients, OTHERS), theta(problem), rounds=4)
    assert [asked for number, asked in clients.asked if number > 2] == [(0, 2)] * 4


@pytest.mark.parametrize("compressed", [False, True])
def test_methods_that_compare_nothing_do_not_begin_again(compressed: bool) -> None:
    problem, method = scalar(), methods.load("fedavg", tau=2)
    method = Compressed(method) if compressed else method
    clients = Faulty(problem, method, {GONE: raises}, range(2, 3), opening)
    advanced(Federation(problem, method, clients, OTHERS), theta(problem), rounds=2)
    assert [asked for number, asked in clients.asked if number == 2] == [(0, 1, 2)]


def test_what_a_client_says_of_itself_is_cut() -> None:
    problem, method = scalar(), methods.load("fipa")

    def shouts(answer: object) -> object:
        raise RuntimeError("x\n" * 10**6)

    clients = Faulty(problem, method, {GONE: shouts})
    federation = Federation(problem, method, clients, OTHERS)
    (told,) = federation.advance(federation.start(theta(problem), 0)).dropped.values()
    assert len(told) == 500
    assert "\n" not in told


def test_a_share_that_is_no_number_is_refused() -> None:
    problem, method = scalar(), methods.load("fedavg", tau=2)
    wrong = torch.ones(3, dtype=torch.float64)
    clients = Faulty(problem, method, {GONE: lambda a: replace(a, share=wrong)})
    federation = Federation(problem, method, clients, OTHERS)
    outcome = federation.advance(federation.start(theta(problem), 0))
    assert "its share is a Tensor, not a number" in outcome.dropped["1"]


def test_a_run_that_lost_too_many_clients_goes_on_with_fewer(tmp_path: Path) -> None:
    problem, method, out = scalar(), methods.load("fipa"), tmp_path / "run"

    def go(rules: Rules, resume: bool) -> Result:
        clients = Faulty(problem, method, away={GONE: range(3, 9), 2: range(3, 9)})
        backend = Connected(clients)
        return run(
            problem, method, 5, out=out, resume=resume, backend=backend, rules=rules
        )

    with pytest.raises(TooFewClients, match="or allow fewer clients"):
        go(OTHERS, resume=False)
    result = go(Rules(min_clients=1, outlier=math.inf), resume=True)
    assert list(result.absent) == ["1", "2"]
    assert json.loads((out / "run.json").read_text())["rules"]["min_clients"] == 2


def test_a_run_with_faults_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    problem, method = scalar(), methods.load("fipa")

    def go(out: Path, stop: int, resume: bool = False) -> str:
        clients = Faulty(problem, method, away={GONE: range(4, 8), 2: range(6, 7)})
        return run(
            problem,
            method,
            10,
            out=out,
            resume=resume,
            backend=Connected(clients),
            rules=Rules(min_clients=1, staleness=2),
            stop=lambda history: len(history) >= stop,
        ).theta_sha256()

    whole = go(tmp_path / "whole", 10)
    for part in (3, 5, 6, 7):
        out = tmp_path / str(part)
        go(out, part)
        assert go(out, 10, resume=True) == whole
    lines = (tmp_path / "whole" / "history.jsonl").read_text().splitlines()
    found = [Round.read(line) for line in lines]
    assert [line.stale for line in found[2:8]] == [
        {},
        {"1": 1},
        {"1": 2},
        {"2": 1},
        {},
        {},
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
            Federation(problem, method, LocalClients(problem, method), rules)
