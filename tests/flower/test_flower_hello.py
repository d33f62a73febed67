"""Nodes that say hello: who takes part in a federation over Flower, and who not."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

pytest.importorskip("flwr", reason="comes with fedsciml[flower]")

from cases import scalar
from flwr.app import ConfigRecord, Message, RecordDict
from grids import NODE, FaultyGrid, instead
from nonsense import BROKEN, LIES, with_array

from fedsciml import methods
from fedsciml.methods import Method
from fedsciml.problem import Problem, SiteError


def fipa() -> Method:
    return methods.load("fipa")


def test_the_reply_to_a_hello_tells_flower_s_users_the_number_of_examples() -> None:
    grid = FaultyGrid(scalar(), fipa())
    grid.faults.kind = "query.hello"
    told: list[object] = []

    def listen(reply: Message) -> Message:
        told.append(reply.content.metric_records["metrics"]["num-examples"])
        return reply

    grid.faults.replies = dict.fromkeys((1, 2, 3), listen)
    grid.connected()
    assert told == [shard.points for shard in scalar().shards()]


def test_a_site_that_cannot_make_its_problem_is_named_with_the_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = SiteError("There is no data file b.csv")
    grid = FaultyGrid(scalar(), fipa(), {NODE: error})
    with pytest.raises(ValueError, match=r"Client 1 \(node 2\).*no data file b\.csv"):
        grid.connected()
    assert "This site cannot take part" in caplog.text


def test_what_leaves_a_site_of_another_error_is_its_kind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = OverflowError("u = 0.5076383783267356 is too large")
    error.add_note("x = 0.25")
    grid = FaultyGrid(scalar(), fipa(), {NODE: error})
    grid.faults.kind = "query.hello"
    sent: list[str] = []
    grid.faults.replies[NODE] = lambda reply: sent.append(str(reply)) or reply  # type: ignore[func-returns-value]
    with pytest.raises(ValueError, match=r"Client 1 \(node 2\).*OverflowError") as told:
        grid.connected()
    assert "read the site's own log" in str(told.value)
    for secret in ("0.5076", "0.25"):
        assert secret not in str(told.value) + "".join(sent)
        assert secret in caplog.text


def test_a_site_with_another_problem_is_refused() -> None:
    equation, ends = scalar().terms
    problems = {NODE: replace(scalar(), terms=[equation, replace(ends, weight=11.0)])}
    with pytest.raises(ValueError, match=r"Client 1 \(node 2\) has another problem"):
        FaultyGrid(scalar(), fipa(), problems).connected()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"partition-id": 0}, "Client 0 is there twice, as node 1 and as node 2"),
        ({"partition-id": 5}, "clients 0 to 2"),
        ({"partition-id": "one"}, "needs a partition-id"),
        ({"num-partitions": 4}, "num-partitions 4, but the problem has 3"),
    ],
)
def test_a_node_with_a_wrong_number_is_refused(
    caplog: pytest.LogCaptureFixture, config: dict[str, int | str], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        FaultyGrid(scalar(), fipa(), configs={NODE: config}).connected()


@pytest.mark.parametrize("content", [*BROKEN.values(), with_array(LIES["garbage"])])
def test_a_node_that_answers_nonsense_is_no_site(content: RecordDict) -> None:
    grid = FaultyGrid(scalar(), fipa())
    grid.faults.kind = "query.hello"
    grid.faults.replies[NODE] = instead(content)
    with pytest.raises(ValueError, match="Node 2 is no site of this federation"):
        grid.connected()


def saying(counts: list[int]) -> Callable[[Message], Message]:
    """A hello with other counts."""

    def fault(reply: Message) -> Message:
        told = {**reply.content.config_records["config"], "counts": counts}
        return instead(RecordDict({"config": ConfigRecord(told)}))(reply)

    return fault


@pytest.mark.parametrize("counts", [[], [1], [1, 2, 3], [-1, 2], [2**62, 2**62]])
def test_a_site_that_cannot_have_so_many_points_is_named(
    caplog: pytest.LogCaptureFixture, counts: list[int]
) -> None:
    grid = FaultyGrid(scalar(), fipa())
    grid.faults.kind = "query.hello"
    grid.faults.replies[NODE] = saying(counts)
    said = r"Client 1 \(node 2\) must say .* the 2 terms"
    with pytest.raises(ValueError, match=said):
        grid.connected(need=2)
    nodes = grid.connected(counts=FaultyGrid(scalar(), fipa()).connected().counts)
    assert nodes.here(1) == [0, 2]
    assert len(re.findall(said, caplog.text)) == 1


def test_what_each_site_says_that_it_holds_is_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    grid = FaultyGrid(scalar(), fipa())
    grid.faults.kind = "query.hello"
    grid.faults.replies[NODE] = saying([10**9, 10**9])
    with caplog.at_level("INFO", "flwr"):
        grid.connected()
    for m, share in enumerate(("0.0", "100.0", "0.0")):
        own = [10**9, 10**9] if m == 1 else scalar().counts(m)
        assert f"Client {m} has {own} points of the terms, {share} %" in caplog.text


@pytest.mark.parametrize(
    "told",
    [
        {"error": "disk full\nINFO: Round 9\x1b[2J" + "x" * 10**6},
        {"x" * 10**6: 1, "line\nfeed": "\r"},
        {"partition-id": 1, "counts": [7] * 10**6},
    ],
)
def test_what_a_node_says_is_one_line_of_the_log(told: dict[str, Any]) -> None:
    grid = FaultyGrid(scalar(), fipa())
    grid.faults.kind = "query.hello"
    grid.faults.replies[NODE] = instead(RecordDict({"config": ConfigRecord(told)}))
    with pytest.raises(ValueError, match="ode 2") as refusal:
        grid.connected()
    said = str(refusal.value)
    assert said.isprintable()
    assert len(said) < 520


def test_clients_that_do_not_come_are_named() -> None:
    grid = FaultyGrid(scalar(), fipa())
    grid.faults.away = {1, 3}
    with pytest.raises(TimeoutError, match=r"3 clients 1 answered .*\[0, 2\]"):
        grid.connected()


def test_a_site_whose_data_changed_in_the_run_is_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    problems: dict[int, Problem | Exception] = {}
    grid = FaultyGrid(scalar(), fipa(), problems)
    nodes = grid.connected()
    grid.faults.away.add(NODE)
    assert nodes.here(2) == [0, 2]
    equation, ends = scalar().terms
    assert isinstance(equation.points, torch.Tensor)
    fewer = replace(equation, points=equation.points[:-5])
    problems[NODE] = replace(scalar(), terms=[fewer, ends])
    grid.faults.away.clear()
    grid.move(NODE, to=77)
    grid.app = FaultyGrid(scalar(), fipa(), problems).app
    assert nodes.here(3) == [0, 2]
    assert "Put back its data" in caplog.text


def test_a_run_that_began_goes_on_without_a_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    grid = FaultyGrid(scalar(), fipa())
    counts = grid.connected().counts
    grid.faults.away.add(NODE)
    nodes = grid.connected(counts=counts)
    assert nodes.here(1) == [0, 2]
    assert "without the clients [1]" in caplog.text
    assert nodes.shares == grid.connected(counts=counts).shares


def test_a_site_that_cannot_take_part_is_mended_and_not_left_out() -> None:
    grid = FaultyGrid(scalar(), fipa(), {NODE: SiteError("disk full")})
    with pytest.raises(ValueError, match=r"Client 1 \(node 2\).*disk full"):
        grid.connected(need=1)


def test_a_run_begins_without_an_absent_site_if_fewer_may(
    caplog: pytest.LogCaptureFixture,
) -> None:
    grid = FaultyGrid(scalar(), fipa())
    grid.faults.away.add(NODE)
    nodes = grid.connected(need=2)
    assert nodes.here(1) == [0, 2]
    assert "without the clients [1]" in caplog.text
    # The server can make its points, and weighs all rows as when it is there.
    assert nodes.shares == FaultyGrid(scalar(), fipa()).connected().shares
    grid.faults.away.add(3)
    with pytest.raises(TimeoutError, match="Of 3 clients 1 answered"):
        grid.connected(need=2)


def test_a_node_that_was_refused_is_asked_again_once_it_was_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    problems: dict[int, Problem | Exception] = {}
    grid = FaultyGrid(scalar(), fipa(), problems)
    nodes = grid.connected()
    grid.faults.away.add(NODE)
    assert nodes.here(2) == [0, 2]
    problems[NODE] = OSError("disk full")
    grid.app = FaultyGrid(scalar(), fipa(), problems).app  # a new process
    grid.faults.away.clear()
    assert nodes.here(3) == nodes.here(4) == [0, 2]
    assert grid.sent.count(("query.hello", NODE)) == 2
    assert "disk full" in caplog.text
    problems.clear()
    grid.faults.away.add(NODE)
    assert nodes.here(5) == [0, 2]
    grid.faults.away.clear()
    assert nodes.here(6) == [0, 1, 2]


def test_a_lost_client_is_not_there_until_it_has_answered_a_hello() -> None:
    grid = FaultyGrid(scalar(), fipa())
    nodes = grid.connected()
    grid.faults.away.add(NODE)
    assert nodes.here(2) == [0, 2]
    grid.faults.away.clear()
    grid.faults.kind = "query.hello"
    replies: list[Message] = []
    grid.faults.replies[NODE] = replies.append
    assert nodes.here(3) == [0, 2]
    assert nodes.here(4) == [0, 2]
    assert grid.sent.count(("query.hello", NODE)) == 2
    (reply,) = replies
    grid._replies[reply.metadata.reply_to_message_id] = reply
    assert nodes.here(5) == [0, 1, 2]
