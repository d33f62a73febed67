"""Sums with noise against a server that lies: no more is released than is paid for."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from cases import sampled, scalar
from exchanges import begin, play

from fedsciml import run, wrappers
from fedsciml.collocation import strips
from fedsciml.federation.inprocess import LocalClients
from fedsciml.methods import Addressed, Method, Record, addressed
from fedsciml.problem import Problem, SiteError
from fedsciml.secure import keys, ring
from fedsciml.secure.roster import Roster
from fedsciml.secure.seat import Seat, ServerError
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
    with pytest.raises(ValueError, match="more than the 3 sums with noise"):
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
        ("residual", 1e-190),
        ("residual", 0.0),
        ("row", -1.0),
    ],
)
def test_bounds_that_no_noise_hides_are_refused(name: str, bound: float) -> None:
    with pytest.raises(SiteError, match="no noise would hide it"):
        asked(lambda part: replace(part, ask=replace(part.ask, **{name: bound})))


def test_no_direction_of_the_server_s_own_is_summed() -> None:
    def along(part: Any) -> Any:  # noqa: ANN401
        span = replace(
            part.ask.span, beyond=torch.ones_like(part.ask.theta), scale=1e-60
        )
        return replace(part, ask=replace(part.ask, span=span))

    with pytest.raises(SiteError, match="along a direction of its own"):
        asked(along)


def test_what_a_site_spends_in_all_runs_is_bounded() -> None:
    made = [keys.identity() for _ in range(3)]
    public = {m: key for m, (_, key) in enumerate(made)}
    vaults: list[dict[str, str]] = [{}, {}, {}]

    def masked(name: bytes, sums: int) -> None:
        """In a run of this name; three are what its own budget pays for."""
        seats = [
            Seat(m, key, public, vaults[m], run=name, budget=4.5)
            for m, (key, _) in enumerate(made)
        ]
        roster = Roster.of(seat.advert() for seat in seats)
        seats[0].join(roster)
        zeros, point = ring.encode(np.zeros(2), 0), torch.ones(1, 4).double()
        for i in range(sums):
            seats[0].masked(bytes([i]), b"", zeros, point, 3, 1.0)

    masked(b"one", 3)
    with pytest.raises(ServerError, match="more than the 3 sums"):
        masked(b"one", 1)
    masked(b"two", 1)
    with pytest.raises(ServerError, match="the site's budget of privacy for all runs"):
        masked(b"two", 1)
