"""Replies that are too large, and a server of Flower's that is busy with them."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest

pytest.importorskip("flwr", reason="comes with fedsciml[flower]")

from cases import scalar, theta
from faults import Faulty, advanced, same
from grids import GONE, NODE, FaultyGrid

from fedsciml import methods
from fedsciml.federation.exchange import Federation
from fedsciml.federation.participation import Rules
from fedsciml.methods import Method

OTHERS = Rules(min_clients=2)


def fipa() -> Method:
    return methods.load("fipa")


def test_a_site_sends_no_more_than_it_may_and_says_what_to_do() -> None:
    configs = {NODE: {"reply-megabytes": 1e-3}}
    grid = FaultyGrid(scalar(), fipa(), configs=configs)
    federation = Federation(scalar(), grid.method, grid.connected(), OTHERS)
    found = federation.advance(federation.start(theta(scalar()), 0))
    said = found.dropped[f"{GONE}"]
    assert re.search(
        "Client 1 would send 0.0[0-9]+ MB at once, more than the 0.001", said
    )
    assert "smaller rank" in said
    assert "reply-megabytes" in said


def test_a_larger_reply_than_the_server_reads_costs_its_client_the_round() -> None:
    grid = FaultyGrid(scalar(), fipa())
    nodes = grid.connected(reply_megabytes=1e-3)
    federation = Federation(scalar(), grid.method, nodes)
    with pytest.raises(ValueError, match="larger than reply-megabytes, 0.001"):
        federation.advance(federation.start(theta(scalar()), 0))


class LockedError(Exception):
    """What Flower's client raises when its server's database is locked."""


@pytest.mark.parametrize("what", ["get_node_ids", "push_messages", "pull_messages"])
def test_a_round_waits_until_flower_s_server_is_there_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    grid = FaultyGrid(scalar(), fipa())
    nodes = grid.connected()
    rules = Rules(patience=60.0)
    federation = Federation(scalar(), grid.method, nodes, rules, sleep=lambda s: None)
    before = advanced(federation, theta(scalar()))
    whole: Callable[..., Iterable[Any]] = getattr(grid, what)
    calls: list[str] = []

    def locked(*arguments: object) -> Iterable[Any]:
        calls.append(what)
        if len(calls) < 4:
            raise LockedError("database is locked")
        return whole(*arguments)

    monkeypatch.setattr(grid, what, locked)
    found = federation.advance(before)
    assert calls
    assert not found.dropped
    there = Faulty(scalar(), fipa())
    expected = advanced(Federation(scalar(), there.method, there), theta(scalar()), 2)
    assert same(found.checkpoint.state, expected.state)
    assert caplog.text.count("Flower's server") <= 2
