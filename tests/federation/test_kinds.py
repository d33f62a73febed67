"""Answers of another type than was asked for, and backends that serve many runs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from cases import CASES, linear, scalar, theta
from faults import (
    STRANGERS,
    Connected,
    Fault,
    Faulty,
    advanced,
    opening,
    probing,
    raises,
    same,
)

from fedsciml import methods, run
from fedsciml.federation.exchange import Done, Federation
from fedsciml.federation.inprocess import InProcess, LocalClients
from fedsciml.federation.participation import Rules
from fedsciml.methods import Method, Record, flatten, kind
from fedsciml.methods import _fipa as fipa
from fedsciml.wrappers.balance import Balanced, Scaled, Weighed
from fedsciml.wrappers.compress import Compressed

OTHERS = Rules(min_clients=2)
FIPA = methods.load("fipa")
BALANCED = Balanced(FIPA, "terms")


def second(method: Method, fault: Fault, when: Callable[[Record], bool]) -> Done:
    """The second round, in which client 1 has a fault; as if it were not there."""
    problem = scalar()
    federation, others = (
        Federation(problem, method, Faulty(problem, method, {1: of}, [2], when), OTHERS)
        for of in (fault, raises)
    )
    found = federation.advance(advanced(federation, theta(problem)))
    expected = advanced(others, theta(problem), 2)
    assert same(found.checkpoint.state, expected.state)
    assert all(map(same, found.checkpoint.memories, expected.memories))
    return found


@pytest.mark.parametrize("when", [opening, probing])
@pytest.mark.parametrize("what", STRANGERS)
def test_a_record_that_is_no_answer_to_the_ask_is_dropped(
    what: str, when: Callable[[Record], bool]
) -> None:
    stranger = STRANGERS[what]
    wanted = "fipa.Sketched" if when is opening else "fipa.Found"
    dropped = second(FIPA, lambda answer: stranger, when).dropped
    assert list(dropped) == ["1"]
    assert (
        f"In round 2 of fipa on scalar the upload of client 1 cannot be merged: it is "
        f"a {kind(type(stranger))}, not a {wanted}."
    ) in dropped["1"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda answer: None, "it is a NoneType, not a fipa.Sketched"),
        (flatten, "it is a dict, not a fipa.Sketched"),
        (type, "it is a type, not a fipa.Sketched"),
        (lambda answer: answer.factor, "not a fipa.Sketched"),
        (lambda answer: answer.loss, "it is a float, not a fipa.Sketched"),
    ],
)
def test_what_is_no_record_is_dropped(fault: Fault, said: str) -> None:
    assert said in second(FIPA, fault, opening).dropped["1"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda answer: answer.answer, "a fipa.Sketched, not a balance.Weighed"),
        (lambda answer: Weighed(None, 0.5), "it has no 'answer'"),  # type: ignore[arg-type]
        (lambda answer: Weighed(answer, 0.5), "a balance.Weighed, not a fipa.Sketched"),
        (
            lambda answer: Weighed(STRANGERS["a state"], 0.5),  # type: ignore[arg-type]
            "a fipa.State, not a fipa.Sketched",
        ),
    ],
    ids=["bare", "around nothing", "around itself", "around a state"],
)
def test_a_wrapper_s_answer_is_around_that_of_the_method(
    fault: Fault, said: str
) -> None:
    found = second(BALANCED, fault, lambda ask: isinstance(ask, Scaled))
    assert said in found.dropped["1"]


def test_an_answer_to_the_other_exchange_is_dropped() -> None:
    kept: list[Any] = []

    def last(answer: object) -> object:
        """The answer to the ask before."""
        kept.append(answer)
        return kept[-2] if len(kept) > 1 else answer

    problem = scalar()
    clients = Faulty(problem, FIPA, {1: last}, [1])
    federation = Federation(problem, FIPA, clients, OTHERS)
    outcome = federation.advance(federation.start(theta(problem), 0))
    assert "it is a fipa.Sketched, not a fipa.Found" in outcome.dropped["1"]
    assert isinstance(kept[0], fipa.Sketched)


def test_targets_of_another_rank_than_the_sketch_are_dropped() -> None:
    found = second(FIPA, lambda a: replace(a, targets=a.targets[..., :-1]), probing)
    assert "its targets has shape" in found.dropped["1"]


METHODS: dict[str, Method] = {
    "fipa": FIPA,
    "scaffold": methods.load("scaffold", tau=2, keep_state=True),
    "balanced": BALANCED,
    "feedback": Compressed(methods.load("fedavg", tau=2), "bfloat16", feedback=True),
    "adam": methods.load("adam", tau=2),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_backend_serves_two_runs_alike(name: str) -> None:
    backend, method = InProcess(), METHODS[name]
    first, second = (run(scalar(), method, 3, backend=backend) for _ in range(2))
    alone = run(scalar(), method, 3)
    assert first.theta_sha256() == second.theta_sha256() == alone.theta_sha256()
    assert first.loss == second.loss == alone.loss
    assert first.history[-1].sent == second.history[-1].sent == alone.history[-1].sent


@pytest.mark.parametrize("name", METHODS)
def test_clients_that_took_part_in_a_run_take_part_in_another_alike(name: str) -> None:
    method = METHODS[name]
    clients = LocalClients(scalar(), method)
    first, second = (
        run(scalar(), method, 3, backend=Connected(clients)) for _ in range(2)
    )
    assert first.theta_sha256() == second.theta_sha256()
    assert first.history[-1].sent == second.history[-1].sent


@pytest.mark.parametrize("name", METHODS)
def test_what_a_backend_served_before_changes_nothing(name: str) -> None:
    method, backend = METHODS[name], InProcess()
    for other in METHODS.values():
        run(linear(), other, 2, backend=backend)
    run(CASES["system"](), method, 2, backend=backend)
    run(scalar(), method, 2, 5, backend=backend, dtype=torch.float32)
    for dtype in (torch.float64, torch.float32):
        found = run(scalar(), method, 3, backend=backend, dtype=dtype)
        alone = run(scalar(), method, 3, dtype=dtype)
        assert found.theta.dtype == dtype
        assert found.theta_sha256() == alone.theta_sha256()
        assert found.history[-1].sent == alone.history[-1].sent
