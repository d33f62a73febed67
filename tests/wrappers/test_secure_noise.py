"""Sums with noise against a server that lies: no more is released than is paid for."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from cases import sampled, scalar
from exchanges import begin, play

from fedsciml import run, wrappers
from fedsciml.collocation import strips
from fedsciml.federation.inprocess import LocalClients
from fedsciml.methods import Addressed, Method, Record, addressed
from fedsciml.problem import Problem
from fedsciml.secure.seat import ServerError
from fedsciml.wrappers._masked import At, Between, Part

PROBLEM: Problem = replace(
    sampled(scalar()), partition=strips([0, 0.3, 0.6, 1]), domain=([0], [1])
)
RELEASES = 3


def private() -> Method:
    return wrappers.load(
        "fipa", secure=True, dp=f"epsilon=9,delta=1e-3,releases={RELEASES}"
    )


def asked(lie: Callable[[Part], Record], rounds: int = 1) -> None:
    """Rounds of an honest server but for what all clients are asked for."""
    method = private().bound(PROBLEM)
    clients = LocalClients(PROBLEM, method)

    def answer(ask: Record) -> dict[int, Any]:
        parts: dict[str, Record] = {}
        for m in range(3):
            part = addressed(ask, m)
            parts[str(m)] = lie(part) if isinstance(part, Part) else part
        return clients.exchange(Addressed(parts))

    state = begin(PROBLEM, method)
    for _ in range(rounds):
        play(method, state, answer)  # from the same state again and again


def test_a_run_ends_when_its_budget_is_spent() -> None:
    result = run(PROBLEM, private(), RELEASES + 2)
    assert len(result.history) == RELEASES
    assert [line.epsilon for line in result.history][-1] == pytest.approx(9, rel=0.01)


@pytest.mark.parametrize("again", [0, 1])
def test_clients_count_themselves_what_they_release(again: int) -> None:
    """A server that turns the round back, or says that it asks again, does not."""
    with pytest.raises(ValueError, match="3 sums with (noise|this client's points)"):
        asked(lambda part: replace(part, again=again), RELEASES + 1)


@pytest.mark.parametrize("kind", [At, Between])
def test_no_loss_is_told_without_noise(kind: Callable[[torch.Tensor], Record]) -> None:
    with pytest.raises(ServerError, match="for losses without noise"):
        asked(lambda part: replace(part, ask=kind(part.ask.theta)))


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("row", math.inf),
        ("row", math.nan),
        ("residual", math.inf),
        ("residual", math.nan),
        ("residual", 1e200),
    ],
)
def test_bounds_that_no_noise_hides_are_refused(name: str, bound: float) -> None:
    with pytest.raises((ServerError, FloatingPointError), match="not finite"):
        asked(lambda part: replace(part, ask=replace(part.ask, **{name: bound})))
