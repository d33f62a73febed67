"""Federations over Flower's records, in one process."""

import io
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import given, inverse, scalar, system, theta
from faults import Faulty, raises
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from grids import FaultyGrid
from test_federation import advanced, same

from fedsciml import MLP, Problem, Term, methods, run
from fedsciml.backends import flower
from fedsciml.backends.flower import decode, encode
from fedsciml.collocation import explicit
from fedsciml.federation import Federation, Rules
from fedsciml.method import Method

GONE = 1
"""The client that fails, of three; its node has the number 2."""
NODE = GONE + 1
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


VALUES = {
    "matrix": torch.randn(3, 4, dtype=torch.float64),
    "turned": torch.randn(3, 4, dtype=torch.float64).mT,
    "part": torch.randn(3, 4, dtype=torch.float64)[:, :2],
    "number": torch.tensor(1e-300, dtype=torch.float64),
    "nothing": torch.zeros(0, 5),
    "extremes": torch.tensor([torch.inf, -torch.inf, torch.nan, -0.0, 5e-324]),
    "single": torch.randn(5),
    "rounded": torch.randn(2, 3).bfloat16(),
    "whole": torch.tensor([-(2**63), 2**63 - 1]),
    "mask": torch.tensor([True, False]),
}


@pytest.mark.parametrize("key", VALUES)
def test_a_tensor_arrives_bit_for_bit(key: str) -> None:
    sent = VALUES[key]
    (found,) = decode(encode({key: sent})).values()
    assert (found.dtype, found.shape) == (sent.dtype, sent.shape)
    bits = sent.contiguous().view(torch.uint8) if sent.ndim else sent.reshape(1)
    other = found.contiguous().view(torch.uint8) if sent.ndim else found.reshape(1)
    assert torch.equal(bits, other)
    assert found.data_ptr() % 64 == 0


def test_numbers_and_words_arrive_as_they_are() -> None:
    sent = {"a": 2**63 - 1, "b": -(2**63), "c": 0.1, "d": "word", "e": True, "f": -0.0}
    found = decode(encode(sent))
    assert found == sent
    assert list(map(type, found.values())) == list(map(type, sent.values()))


def saved(array: np.ndarray, *, pickled: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=pickled)
    return buffer.getvalue()


def archive() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, delta=np.zeros(3))
    return buffer.getvalue()


GOOD = saved(np.zeros((2, 3)))
HUGE = b"(1000000000000,)}"
KIND = "numpy.ndarray"
LIES = {
    "garbage": Array("float64", (2, 3), KIND, b"garbage" * 30),
    "nothing": Array("float64", (2, 3), KIND, b""),
    "half": Array("float64", (2, 3), KIND, GOOD[:-20]),
    "shape": Array("float64", (3, 2), KIND, GOOD),
    "dtype": Array("float32", (2, 3), KIND, GOOD),
    "bfloat16": Array("bfloat16", (2, 3), KIND, GOOD),
    "other order": Array("float64", (2, 3), KIND, saved(np.zeros((2, 3), ">f8"))),
    "complex": Array("complex128", (2, 3), KIND, saved(np.zeros((2, 3), complex))),
    "objects": Array(
        "object", (1,), KIND, saved(np.array([{}], dtype=object), pickled=True)
    ),
    "archive": Array("float64", (3,), KIND, archive()),
    "storage": Array("float64", (2, 3), "pickle", GOOD),
    "huge": Array("float64", (10**12,), KIND, GOOD.replace(b"(2, 3), }       ", HUGE)),
}


def with_array(array: Array) -> RecordDict:
    return RecordDict(
        {"arrays": ArrayRecord({"delta": array}), "config": ConfigRecord()}
    )


@pytest.mark.parametrize("lie", LIES)
def test_an_array_that_is_not_what_it_says_is_refused(lie: str) -> None:
    with pytest.raises(ValueError, match="array 'delta'"):
        decode(with_array(LIES[lie]))


BROKEN = {
    "empty": RecordDict(),
    "other records": RecordDict({"metrics": MetricRecord({"a": 1})}),
    "swapped": RecordDict({"arrays": ConfigRecord(), "config": ArrayRecord()}),
    "a list": RecordDict(
        {"arrays": ArrayRecord(), "config": ConfigRecord({"loss": [1.0]})}
    ),
    "bytes": RecordDict(
        {"arrays": ArrayRecord(), "config": ConfigRecord({"loss": b"1"})}
    ),
    "twice": RecordDict(
        {
            "arrays": ArrayRecord({"loss": Array(np.zeros(1))}),
            "config": ConfigRecord({"loss": 1.0}),
        }
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_records_that_are_no_message_are_refused(what: str) -> None:
    with pytest.raises(ValueError, match=r"a message needs|not a number|there twice"):
        decode(BROKEN[what])


def instead(content: RecordDict) -> Callable[[Message], Message]:
    """Another reply than the site's."""

    def fault(reply: Message) -> Message:
        return Message(content, metadata=reply.metadata)  # type: ignore[call-overload]

    return fault


def changed(change: Callable[[dict[str, object]], object]) -> Callable[..., Message]:
    """The site's upload with something else in it."""

    def fault(reply: Message) -> Message:
        upload = decode(reply.content)
        change(upload)
        metrics = reply.content["metrics"]
        content = RecordDict({**encode(upload), "metrics": metrics})
        return instead(content)(reply)

    return fault


def unreadable(reply: Message) -> Message:
    """What Flower itself cannot read raises when it is pulled."""
    raise AssertionError(reply)


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


def test_a_node_that_was_refused_is_asked_again_once_it_was_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    problems: dict[int, Problem | Exception] = {}
    grid = FaultyGrid(scalar(), fipa(), problems)
    door = grid.door(join=60)
    grid.faults.away.add(NODE)
    assert door.here(2) == [0, 2]
    problems[NODE] = OSError("disk full")
    grid.app = FaultyGrid(scalar(), fipa(), problems).app  # a new process
    grid.faults.away.clear()
    assert door.here(3) == door.here(4) == [0, 2]
    assert grid.sent.count(("query.hello", NODE)) == 2
    assert "disk full" in caplog.text
    problems.clear()
    grid.faults.away.add(NODE)
    assert door.here(5) == [0, 2]
    grid.faults.away.clear()
    assert door.here(6) == [0, 1, 2]


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


def test_a_lost_client_is_not_there_until_it_has_answered_a_hello() -> None:
    grid = FaultyGrid(scalar(), fipa())
    door = grid.door(join=60)
    grid.faults.away.add(NODE)
    assert door.here(2) == [0, 2]
    grid.faults.away.clear()
    grid.faults.kind = "query.hello"
    replies: list[Message] = []
    grid.faults.replies[NODE] = replies.append
    assert door.here(3) == [0, 2]
    assert door.here(4) == [0, 2]
    assert grid.sent.count(("query.hello", NODE)) == 2
    (reply,) = replies
    grid._replies[reply.metadata.reply_to_message_id] = reply
    assert door.here(5) == [0, 1, 2]


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


def test_a_run_that_began_goes_on_without_a_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    grid = FaultyGrid(scalar(), fipa())
    counts = grid.door().counts
    grid.faults.away.add(NODE)
    door = grid.door(counts=counts)
    assert door.here(1) == [0, 2]
    assert "without the clients [1]" in caplog.text
    assert door.shares == grid.door(counts=counts).shares


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


def test_a_site_that_cannot_make_its_problem_is_named_with_the_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = FileNotFoundError("There is no data file b.csv")
    grid = FaultyGrid(scalar(), fipa(), {NODE: error})
    with pytest.raises(ValueError, match=r"Client 1 \(node 2\).*no data file b\.csv"):
        grid.door()
    assert "This site cannot take part" in caplog.text


def test_a_site_with_another_problem_is_refused() -> None:
    equation, ends = scalar().terms
    problems = {NODE: replace(scalar(), terms=[equation, replace(ends, weight=11.0)])}
    with pytest.raises(ValueError, match=r"Client 1 \(node 2\) has another problem"):
        FaultyGrid(scalar(), fipa(), problems).door()


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
        FaultyGrid(scalar(), fipa(), configs={NODE: config}).door()


@pytest.mark.parametrize("content", [*BROKEN.values(), with_array(LIES["garbage"])])
def test_a_node_that_answers_nonsense_is_no_site(content: RecordDict) -> None:
    grid = FaultyGrid(scalar(), fipa())
    grid.faults.kind = "query.hello"
    grid.faults.replies[NODE] = instead(content)
    with pytest.raises(ValueError, match="Node 2 is no site of this federation"):
        grid.door()


def test_clients_that_do_not_come_are_named() -> None:
    grid = FaultyGrid(scalar(), fipa())
    grid.faults.away = {1, 3}
    with pytest.raises(TimeoutError, match=r"3 clients 1 answered .*\[0, 2\]"):
        grid.door()


def test_a_site_whose_data_changed_in_the_run_is_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    problems: dict[int, Problem | Exception] = {}
    grid = FaultyGrid(scalar(), fipa(), problems)
    door = grid.door()
    grid.faults.away.add(NODE)
    assert door.here(2) == [0, 2]
    equation, ends = scalar().terms
    assert isinstance(equation.points, torch.Tensor)
    fewer = replace(equation, points=equation.points[:-5])
    problems[NODE] = replace(scalar(), terms=[fewer, ends])
    grid.faults.away.clear()
    grid.move(NODE, to=77)
    grid.app = FaultyGrid(scalar(), fipa(), problems).app
    assert door.here(3) == [0, 2]
    assert "Put back its data" in caplog.text


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
    first, second, last = caplog.messages
    assert first.startswith("Round 1 of 2: loss ")
    assert "without client 1: In round 2 of fipa on scalar the upload" in second
    assert last.startswith("Done: loss ")
