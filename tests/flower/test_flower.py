"""Federations over Flower's records, in one process."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

pytest.importorskip("flwr", reason="comes with fedsciml[flower]")

from cases import given, inverse, scalar, system, theta
from faults import Faulty, raises
from flwr.app import Error, Message, RecordDict
from grids import GONE, NODE, FaultyGrid, instead
from test_federation import advanced, same
from test_flower_codec import BROKEN, LIES, with_array

from fedsciml import MLP, Problem, Term, flower, methods, run
from fedsciml.collocation import explicit
from fedsciml.federation.participation import Federation, Rules
from fedsciml.flower import decode, encode
from fedsciml.methods import Method

OTHERS = Rules(min_clients=2)


def fipa() -> Method:
    return methods.load("fipa")


@pytest.mark.parametrize("make", [scalar, system, inverse])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fipa", {}),
        ("fipa", {"local": "adam", "tau": 2}),
        ("fedavg", {"tau": 3}),
        ("fedavg", {"tau": 3, "keep_state": True}),
        ("scaffold", {"tau": 3, "keep_state": True}),
    ],
)
def test_theta_has_the_same_bytes_as_in_process(
    make: Callable[[], Problem], name: str, options: dict[str, object]
) -> None:
    method = methods.load(name, **options)
    here, there = run(make(), method, 5), flower.run(make(), method, 5)
    assert there.theta_sha256() == here.theta_sha256()
    assert there.loss == here.loss
    for mine, theirs in zip(here.history, there.history, strict=True):
        # As text, in which one NaN is like another.
        assert str({**theirs, "seconds": 0}) == str({**mine, "seconds": 0})


@pytest.mark.parametrize(
    ("name", "options"), [("fipa", {}), ("scaffold", {"tau": 3, "keep_state": True})]
)
def test_a_resumed_run_has_the_same_bytes_though_nodes_lost_their_state(
    tmp_path: Path, name: str, options: dict[str, object]
) -> None:
    problem, method = scalar(), methods.load(name, **options)
    flower.run(problem, method, 6, out=tmp_path, stop=lambda lines: len(lines) == 3)
    resumed = flower.run(problem, method, 6, out=tmp_path, resume=True)
    assert resumed.theta_sha256() == run(problem, method, 6).theta_sha256()


def test_a_run_without_record_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No run over Flower to resume"):
        flower.run(scalar(), fipa(), 2, out=tmp_path / "none", resume=True)


def test_a_centralised_method_is_refused() -> None:
    with pytest.raises(ValueError, match="gauss_newton is centralised"):
        flower.run(scalar(), methods.load("gauss_newton"), 2)


def test_a_round_costs_a_message_per_client_and_exchange() -> None:
    grid = FaultyGrid(scalar(), fipa())
    advanced(Federation(scalar(), fipa(), grid.door()), rounds=3)
    nodes = [1, 2, 3]
    assert grid.sent == [
        *(("query.hello", node) for node in nodes),
        *(("train", node) for _ in range(3 * 2) for node in nodes),
    ]


def changed(change: Callable[[dict[str, object]], object]) -> Callable[..., Message]:
    """The site's upload with something else in it."""

    def fault(reply: Message) -> Message:
        upload = decode(reply.content)
        change(upload)
        metrics = reply.content["metrics"]
        content = RecordDict({**encode(upload), "metrics": metrics})
        return instead(content)(reply)

    return fault


SPOILT = {
    **{f"lie: {key}": instead(with_array(array)) for key, array in LIES.items()},
    **{f"broken: {key}": instead(content) for key, content in BROKEN.items()},
    "no metrics": lambda reply: instead(
        RecordDict({k: v for k, v in reply.content.items() if k != "metrics"})
    )(reply),
    "NaN": changed(lambda upload: upload["target"].fill_(torch.nan)),
    "key missing": changed(lambda upload: upload.pop("loss")),
    "key too many": changed(lambda upload: upload.update(extra=1)),
    "single": changed(lambda upload: upload.update(factor=upload["factor"].float())),
    "shape": changed(lambda upload: upload.update(factor=upload["factor"][:, :-1])),
    "word": changed(lambda upload: upload.update(loss="none")),
    "large": changed(lambda upload: upload["factor"].mul_(1e6)),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_a_reply_that_cannot_be_merged_costs_its_client_the_round(fault: str) -> None:
    grid = FaultyGrid(scalar(), fipa())
    door = grid.door()
    grid.faults.replies[NODE] = SPOILT[fault]
    federation = Federation(scalar(), fipa(), door, OTHERS)
    state, _ = advanced(federation, rounds=2)
    assert list(federation.dropped) == [GONE]
    others = Federation(
        scalar(), fipa(), Faulty(scalar(), fipa(), {GONE: raises}), OTHERS
    )
    assert same(state, advanced(others, rounds=2)[0])
    grid.faults.replies.clear()
    assert door.here(3) == [0, 1, 2]


def test_a_reply_that_flower_cannot_read_spoils_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grid = FaultyGrid(scalar(), fipa())
    door = grid.door()
    pull = grid.pull_messages

    def poisoned(identities: list[str]) -> list[Message]:
        replies = list(pull(identities))
        if any(reply.metadata.src_node_id == NODE for reply in replies):
            raise KeyError("chunk")
        return replies

    monkeypatch.setattr(grid, "pull_messages", poisoned)
    _, broadcast = fipa().init(theta(scalar()), 0)
    answers = door.ask(broadcast, [0, 1, 2], 1, 5.0)
    assert isinstance(answers[GONE], ValueError)
    assert isinstance(answers[0], dict)
    assert isinstance(answers[2], dict)


class Raising:
    """A method whose clients fail."""

    def __init__(self, method: Method) -> None:
        self.method = method

    def __getattr__(self, name: str) -> object:
        return getattr(self.method, name)

    def client(self, *_: object) -> None:
        raise ZeroDivisionError("division\nby zero")


def test_a_client_that_raises_is_named_with_code_and_reason() -> None:
    grid = FaultyGrid(scalar(), Raising(fipa()))
    door = grid.door()
    with pytest.raises(RuntimeError) as caught:
        advanced(Federation(scalar(), fipa(), door))
    for said in ("client 0 (node 1)", "error 2", "by zero"):
        assert said in str(caught.value)
    assert door.here(2) == [0, 1, 2]


@pytest.mark.parametrize("code", [3, 4, 5, 8])
def test_a_client_whose_node_or_process_is_gone_must_say_hello_again(code: int) -> None:
    grid = FaultyGrid(scalar(), fipa())
    door = grid.door()
    grid.faults.replies[NODE] = lambda reply: Message(
        error=Error(code, "Traceback ...\nno such node"),
        metadata=reply.metadata,  # type: ignore[call-overload]
    )
    _, broadcast = fipa().init(theta(scalar()), 0)
    answer = door.ask(broadcast, [0, 1, 2], 1, 60.0)[GONE]
    assert isinstance(answer, ConnectionError)
    assert str(answer) == f"client 1 (node 2): Flower's error {code}: no such node"
    grid.faults.replies.clear()
    assert door.here(2) == [0, 1, 2]
    assert grid.sent[-1] == ("query.hello", NODE)


def test_a_late_client_is_not_waited_for_and_comes_back() -> None:
    grid = FaultyGrid(scalar(), fipa())
    door = grid.door()
    _, broadcast = fipa().init(theta(scalar()), 0)
    grid.faults.replies[NODE] = lambda reply: None
    begin = time.monotonic()
    answers = door.ask(broadcast, [0, 1, 2], 1, 0.1)
    assert 0.1 <= time.monotonic() - begin < 2
    assert list(answers) == [0, 1, 2]
    assert isinstance(answers[GONE], TimeoutError)
    assert "client 1" in str(answers[GONE])
    assert door.memories[GONE] == {}
    assert door.memories[0] == {"stamp": "1.1"}
    grid.faults.replies.clear()
    assert door.here(2) == [0, 1, 2]
    assert grid.sent[-1] == ("query.hello", NODE)


@pytest.mark.parametrize("remembers", [True, False])
def test_a_client_that_comes_back_as_another_node_continues_where_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, remembers: bool
) -> None:
    problem, method = scalar(), methods.load("scaffold", tau=3)
    place = {NODE: {"memory": str(tmp_path)}} if remembers else {}
    grid = FaultyGrid(problem, method, configs=place)
    door = grid.door()
    federation = Federation(problem, method, door, OTHERS)
    away = Faulty(problem, method, away={GONE: range(3, 6)})
    expected = advanced(Federation(problem, method, away, OTHERS), rounds=8)[0]
    state, broadcast = method.init(theta(problem), 0)
    for number in range(1, 9):
        if number == 3:
            grid.faults.away.add(NODE)
        if number == 6:
            grid.faults.away.clear()
            grid.move(NODE, to=77)
        state, broadcast, _ = federation.advance(state, broadcast, number)
        assert list(federation.dropped) == ([GONE] if number in range(3, 6) else [])
    assert same(state, expected) == remembers
    assert ("client 1 goes on without" in caplog.text) != remembers


def test_a_server_that_crashed_in_a_round_does_it_again(tmp_path: Path) -> None:
    problem, method = scalar(), fipa()
    configs = {node: {"memory": str(tmp_path)} for node in (1, 2, 3)}
    door = FaultyGrid(problem, method, configs=configs).door()
    federation = Federation(problem, method, door)
    state, broadcast = advanced(federation, rounds=2)
    memories = list(door.memories)
    door.ask(broadcast, [0, 1, 2], 3)
    # Of the first server and the nodes' states nothing is left but a checkpoint.
    door = FaultyGrid(problem, method, configs=configs).door()
    door.memories = memories
    federation = Federation(problem, method, door)
    found = federation.advance(state, broadcast, 3)[0]
    whole = Federation(problem, method, Faulty(problem, method))
    assert same(found, advanced(whole, rounds=3)[0])


def test_shares_and_weights_are_those_of_the_whole() -> None:
    problem = scalar()
    door = FaultyGrid(problem, fipa()).door()
    assert door.shares == [shard.share for shard in problem.shards()]
    losses = door.losses(theta(problem), [0, 1, 2])
    assert losses == Faulty(problem, fipa()).losses(theta(problem), [0, 1, 2])


def test_a_loss_that_is_none_is_told(caplog: pytest.LogCaptureFixture) -> None:
    grid = FaultyGrid(scalar(), fipa())
    door = grid.door()
    grid.faults.kind = "evaluate"
    grid.faults.replies = {1: instead(RecordDict()), 2: lambda reply: None}
    losses = door.losses(theta(scalar()), [0, 1, 2], 0.01)
    assert list(map(type, losses.values())) == [ValueError, TimeoutError, float]


def data(counts: list[int]) -> Problem:
    """A regression on data that the clients bring."""
    generator = torch.Generator().manual_seed(0)
    points = [torch.rand(n, 1, generator=generator) for n in counts]
    term = Term("data", given, points, [p[:, 0] ** 2 for p in points])
    return Problem("data", MLP((1, 4, 1)), [term], explicit(len(counts)), partial=True)


@pytest.mark.parametrize(("name", "options"), [("fedavg", {"tau": 3}), ("fipa", {})])
def test_a_site_without_rows_takes_no_part(
    caplog: pytest.LogCaptureFixture, name: str, options: dict[str, object]
) -> None:
    method = methods.load(name, **options)
    grid = FaultyGrid(data([9, 0, 5]), method)
    federation = Federation(grid.problem, method, grid.door())
    assert "Client 1 has no rows" in caplog.text
    start = theta(grid.problem)
    state, _ = advanced(federation, 2, start)
    assert ("train", NODE) not in grid.sent
    assert not federation.dropped
    others = Federation(data([9, 5]), method, FaultyGrid(data([9, 5]), method).door())
    # A damping is divided by the number of clients, which is another.
    torch.testing.assert_close(
        state["theta"], advanced(others, 2, start)[0]["theta"], rtol=1e-9, atol=1e-12
    )


def test_sites_without_any_rows_have_nothing_to_train_on() -> None:
    with pytest.raises(ValueError, match="No client has any rows"):
        FaultyGrid(data([0, 0]), fipa()).door()


def test_a_fraction_of_the_clients_is_refused() -> None:
    grid = FaultyGrid(scalar(), fipa())
    app = flower.server_app(lambda run, node: scalar(), lambda run: fipa())
    context = grid.contexts[1]
    context.run_config = {"fraction-train": 0.5}
    with pytest.raises(ValueError, match=r"fraction-train must be 1\.0, got 0\.5"):
        app(grid, context)


def test_the_log_has_a_line_for_a_round_with_who_was_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    grid = FaultyGrid(scalar(), fipa())
    grid.faults.replies[NODE] = SPOILT["NaN"]
    app = flower.server_app(lambda run, node: scalar(), lambda run: fipa())
    context = grid.contexts[1]
    context.run_config = {"num-server-rounds": 2, "min-available-nodes": 2}
    with caplog.at_level(logging.INFO):
        app(grid, context)
    first, second, last = caplog.messages[-3:]
    assert first.startswith("Round 1 of 2: loss ")
    assert "without client 1: In round 2 of fipa on scalar the upload" in second
    assert last.startswith("Done: loss ")


def test_a_reply_after_the_deadline_is_thrown_away_as_in_process() -> None:
    rules = Rules(deadline=1e-6)
    with pytest.raises(TimeoutError, match="no reply within 1e-06 s"):
        flower.run(scalar(), methods.load("fipa"), 2, rules=rules)
