"""Federations over Flower's records, in one process."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

pytest.importorskip("flwr", reason="comes with fedsciml[flower]")

from cases import given, inverse, scalar, system, theta
from faults import STRANGERS, Faulty, advanced, raises, same
from flwr.app import Error, Message, RecordDict
from grids import GONE, NODE, FaultyGrid, instead
from nonsense import BROKEN, LIES, with_array
from torch import Tensor

from fedsciml import MLP, Problem, Term, flower, methods, run
from fedsciml.collocation import explicit
from fedsciml.federation.backend import Reply
from fedsciml.federation.exchange import Federation
from fedsciml.federation.participation import Rules
from fedsciml.flower.backend import Stamp
from fedsciml.flower.codec import packed, unpacked
from fedsciml.methods import ClientPart, Leaf, Method, Record, flatten, kind
from fedsciml.methods._fipa import Fipa
from fedsciml.network.jet import Jet
from fedsciml.problem import Row
from fedsciml.wrappers.balance import Balanced

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
        assert str(replace(theirs, seconds=0)) == str(replace(mine, seconds=0))


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


@pytest.mark.parametrize(
    ("name", "options"), [("fipa", {}), ("scaffold", {"tau": 3, "keep_state": True})]
)
def test_a_backend_serves_two_runs_alike(name: str, options: dict[str, object]) -> None:
    problem, method = scalar(), methods.load(name, **options)
    backend = FaultyGrid(problem, method).backend()
    first, second = (run(problem, method, 3, backend=backend) for _ in range(2))
    alone = run(problem, method, 3)
    assert first.theta_sha256() == second.theta_sha256() == alone.theta_sha256()
    assert first.history[-1].sent == second.history[-1].sent == alone.history[-1].sent


def test_a_run_without_record_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No run over Flower to resume"):
        flower.run(scalar(), fipa(), 2, out=tmp_path / "none", resume=True)


def test_a_centralised_method_is_refused() -> None:
    with pytest.raises(ValueError, match="gauss_newton is centralised"):
        flower.run(scalar(), methods.load("gauss_newton"), 2)


def test_a_round_costs_a_message_per_client_and_exchange() -> None:
    method = methods.load("fipa", policy="natural:curves=false")
    grid = FaultyGrid(scalar(), method)
    federation = Federation(scalar(), grid.method, grid.connected())
    advanced(federation, theta(scalar()), rounds=3)
    nodes = [1, 2, 3]
    assert grid.sent == [
        *(("query.hello", node) for node in nodes),
        *(("train", node) for _ in range(3 * 2) for node in nodes),
    ]


def told(content: Mapping[str, Leaf], reply: Message) -> Message:
    """Another record in the reply."""
    metrics = reply.content["metrics"]
    return instead(RecordDict({**packed(content), "metrics": metrics}))(reply)


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[..., Message]:
    """The site's answer with something else in it."""

    def fault(reply: Message) -> Message:
        content = unpacked(reply.content)
        change(content)
        return told(content, reply)

    return fault


def other(record: Record) -> Callable[[Message], Message]:
    """Another record than the site's answer."""
    return partial(told, flatten(record))


SPOILT = {
    **{f"lie: {key}": instead(with_array(array)) for key, array in LIES.items()},
    **{f"broken: {key}": instead(content) for key, content in BROKEN.items()},
    **{f"stranger: {key}": other(record) for key, record in STRANGERS.items()},
    "no metrics": lambda reply: instead(
        RecordDict({k: v for k, v in reply.content.items() if k != "metrics"})
    )(reply),
    "NaN": changed(lambda answer: answer["target"].fill_(torch.nan)),
    "key missing": changed(lambda answer: answer.pop("loss")),
    "key too many": changed(lambda answer: answer.update(extra=1)),
    "single": changed(lambda answer: answer.update(factor=answer["factor"].float())),
    "shape": changed(lambda answer: answer.update(factor=answer["factor"][:, :-1])),
    "word": changed(lambda answer: answer.update(loss="none")),
    "large": changed(lambda answer: answer["factor"].mul_(1e6)),
    "huge": changed(lambda answer: answer.update(loss=1e308)),
    "no kind": changed(lambda answer: answer.pop("kind")),
    "a number for kind": changed(lambda answer: answer.update(kind=1)),
    "a record for a number": changed(
        lambda answer: answer.update({"loss/kind": "fipa.Memory", "loss/rank": 3})
    ),
    "names for a tensor": changed(
        lambda answer: answer.update({"factor/a": answer.pop("factor")})
    ),
    "deep": changed(
        lambda answer: answer.update({f"{'factor/' * n}x": 1.0 for n in range(1, 99)})
    ),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_a_reply_that_cannot_be_merged_costs_its_client_the_round(fault: str) -> None:
    grid = FaultyGrid(scalar(), fipa())
    nodes = grid.connected()
    grid.faults.replies[NODE] = SPOILT[fault]
    federation = Federation(scalar(), grid.method, nodes, OTHERS)
    found = federation.advance(advanced(federation, theta(scalar())))
    assert list(found.dropped) == [f"{GONE}"]
    faulty = Faulty(scalar(), fipa(), {GONE: raises})
    others = Federation(scalar(), faulty.method, faulty, OTHERS)
    expected = advanced(others, theta(scalar()), rounds=2)
    assert same(found.checkpoint.state, expected.state)
    grid.faults.replies.clear()
    assert nodes.here(3) == [0, 1, 2]


EVERYONE: dict[int, Record | None] = dict.fromkeys(range(3))
"""All clients, who remember nothing."""


def opening() -> Record:
    """What FIPA asks first."""
    return next(fipa().round(fipa().start(theta(scalar()), 0)))


class Trap(Record):
    """What must not be made."""

    x: Tensor

    def __post_init__(self) -> None:
        raise AssertionError("A Trap was made.")


def reason(method: Method, fault: Callable[[Message], Message]) -> str:
    """Why client 1 is dropped in the second round, in which it has a fault."""
    grid = FaultyGrid(scalar(), method)
    federation = Federation(scalar(), method, grid.connected(), OTHERS)
    before = advanced(federation, theta(scalar()))
    grid.faults.replies[NODE] = fault
    dropped = federation.advance(before).dropped
    assert list(dropped) == [f"{GONE}"]
    return dropped[f"{GONE}"]


@pytest.mark.parametrize("what", STRANGERS)
def test_a_record_that_is_no_answer_to_the_ask_is_dropped(what: str) -> None:
    method, stranger = fipa(), STRANGERS[what]
    word, known = kind(type(stranger)), type(stranger) in method.kinds
    said = f"{word}, not a fipa.Sketched" if known else f"'{word}', not one of"
    assert f"it is a {said}" in reason(method, other(stranger))


WEIGHED = {"kind": "balance.Weighed", "own_loss": 0.5}
TRAP = {"kind": "test_flower.Trap", "x": torch.zeros(3)}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (TRAP, "it is a 'test_flower.Trap', not one of"),
        ({"kind": "builtins.exec", "x": "1"}, "it is a 'builtins.exec', not one of"),
        ({"x": torch.zeros(3)}, "it is a None, not one of"),
        ({"kind": "fipa.Sketched", "loss": 0.5}, "it has no 'factor'; it holds loss"),
        (flatten(STRANGERS["a state"]), "a fipa.State, not a balance.Weighed"),
        (WEIGHED, "it has no 'answer'; it holds own_loss"),
        ({**WEIGHED, "answer": 0.5}, "it is a float, not a fipa.Sketched"),
        ({**WEIGHED, "answer/x": 0.5}, "it is a dict, not a fipa.Sketched"),
        (
            {**WEIGHED, **{f"answer/{key}": part for key, part in TRAP.items()}},
            "it is a 'test_flower.Trap', not one of",
        ),
        (
            {**WEIGHED, "answer/kind": "fipa.Memory", "answer/rank": 3},
            "it is a fipa.Memory, not a fipa.Sketched",
        ),
    ],
)
def test_a_wrapper_s_answer_is_around_that_of_the_method(
    content: Mapping[str, Leaf], said: str
) -> None:
    assert said in reason(Balanced(fipa(), "terms"), partial(told, content))


def test_a_reply_that_flower_cannot_read_spoils_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grid = FaultyGrid(scalar(), fipa())
    nodes = grid.connected()
    pull = grid.pull_messages

    def poisoned(identities: list[str]) -> list[Message]:
        replies = list(pull(identities))
        if any(reply.metadata.src_node_id == NODE for reply in replies):
            raise KeyError("chunk")
        return replies

    monkeypatch.setattr(grid, "pull_messages", poisoned)
    replies = nodes.ask(opening(), EVERYONE, 1, 5.0)
    assert isinstance(replies[GONE], ValueError)
    assert isinstance(replies[0], Reply)
    assert isinstance(replies[2], Reply)


class Raising(Fipa):
    """A method whose clients fail."""

    @property
    def client(self) -> Mapping[type[Record], ClientPart]:
        return dict.fromkeys(super().client, self.fail)

    def fail(self, *_: object) -> NoReturn:
        raise ZeroDivisionError("the cell\nholds 0.5076")


def test_a_client_that_raises_is_named_with_code_and_kind_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    grid = FaultyGrid(scalar(), Raising())
    nodes = grid.connected()
    with pytest.raises(RuntimeError) as caught:
        advanced(Federation(scalar(), fipa(), nodes), theta(scalar()))
    for said in ("client 0 (node 1)", "error 2", "ZeroDivisionError in test_flower.py"):
        assert said in str(caught.value)
    assert "0.5076" not in str(caught.value)
    assert "holds 0.5076" in caplog.text  # of the site, which is in this process
    assert nodes.here(2) == [0, 1, 2]


def test_no_record_of_the_server_holds_what_a_residual_says_of_a_site_s_data(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret, training = 0.507638378326, False

    def chatty(u: Jet, row: Row) -> Tensor:
        if training and bool((row.points == secret).any()):
            raise ValueError(f"cannot take {row.points.tolist()}")
        return u.value - 1

    def problem(x: float) -> Problem:
        points = [torch.tensor([[own]], dtype=torch.float64) for own in (0.1, x, 0.9)]
        terms = [Term("data", chatty, points)]
        return Problem("data", MLP((1, 4, 1)), terms, explicit(3))

    method, site = fipa(), problem(secret)
    training = True  # where a problem is made, its residuals are tried
    grid = FaultyGrid(problem(0.5), method, {NODE: site})
    result = run(
        grid.problem, method, 2, backend=grid.backend(), rules=OTHERS, out=tmp_path
    )
    assert result.history[-1].dropped["1"].count("ValueError in test_flower.py") == 1
    grid = FaultyGrid(problem(0.5), method, {NODE: site})
    with pytest.raises(RuntimeError, match="read the site's own log"):
        run(grid.problem, method, 2, backend=grid.backend(), out=tmp_path / "failed")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"history.jsonl", "run.json", "failure.json"} <= {p.name for p in files}
    assert not any(b"0.50763" in path.read_bytes() for path in files)
    assert f"cannot take [[{secret}" in caplog.text  # of the site


@pytest.mark.parametrize("code", [3, 4, 5, 8])
def test_a_client_whose_node_or_process_is_gone_must_say_hello_again(code: int) -> None:
    grid = FaultyGrid(scalar(), fipa())
    nodes = grid.connected()
    grid.faults.replies[NODE] = lambda reply: Message(
        error=Error(code, "Traceback ...\nno such node"),
        metadata=reply.metadata,  # type: ignore[call-overload]
    )
    reply = nodes.ask(opening(), EVERYONE, 1, 60.0)[GONE]
    assert isinstance(reply, ConnectionError)
    assert str(reply) == f"client 1 (node 2): Flower's error {code}: no such node"
    grid.faults.replies.clear()
    assert nodes.here(2) == [0, 1, 2]
    assert grid.sent[-1] == ("query.hello", NODE)


def test_a_late_client_is_not_waited_for_and_comes_back() -> None:
    grid = FaultyGrid(scalar(), fipa())
    nodes = grid.connected()
    grid.faults.replies[NODE] = lambda reply: None
    begin = time.monotonic()
    replies = nodes.ask(opening(), EVERYONE, 1, 1.0)
    assert 1 <= time.monotonic() - begin < 5
    assert list(replies) == [0, 1, 2]
    assert isinstance(replies[GONE], TimeoutError)
    assert "client 1" in str(replies[GONE])
    assert isinstance(replies[0], Reply)
    assert same(replies[0].memory, Stamp("1.1"))
    grid.faults.replies.clear()
    assert nodes.here(2) == [0, 1, 2]
    assert grid.sent[-1] == ("query.hello", NODE)


@pytest.mark.parametrize("remembers", [True, False])
def test_a_client_that_comes_back_as_another_node_continues_where_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, remembers: bool
) -> None:
    problem, method = scalar(), methods.load("scaffold", tau=3)
    place = {NODE: {"memory": str(tmp_path)}} if remembers else {}
    grid = FaultyGrid(problem, method, configs=place)
    federation = Federation(problem, method, grid.connected(), OTHERS)
    away = Federation(
        problem, method, Faulty(problem, method, away={GONE: range(3, 6)}), OTHERS
    )
    expected = advanced(away, theta(problem), rounds=8).state
    reached = federation.start(theta(problem), 0)
    for number in range(1, 9):
        if number == 3:
            grid.faults.away.add(NODE)
        if number == 6:
            grid.faults.away.clear()
            grid.move(NODE, to=77)
        reached, _, dropped, *_ = federation.advance(reached)
        assert list(dropped) == (["1"] if number in range(3, 6) else [])
    assert same(reached.state, expected) == remembers
    assert ("client 1 goes on without" in caplog.text) != remembers


def test_a_server_that_crashed_in_a_round_does_it_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    problem, method = scalar(), methods.load("fipa", local="adam", keep_state=True)
    configs = {node: {"memory": str(tmp_path)} for node in (1, 2, 3)}
    nodes = FaultyGrid(problem, method, configs=configs).connected()
    before = advanced(Federation(problem, method, nodes), theta(problem), rounds=2)
    memories, exchanges = dict(enumerate(before.memories)), method.round(before.state)
    replies = nodes.ask(next(exchanges), memories, 3)
    came = {m: reply for m, reply in replies.items() if isinstance(reply, Reply)}
    probe = exchanges.send({m: reply.answer for m, reply in came.items()})
    nodes.ask(probe, {m: reply.memory for m, reply in came.items()}, 3)
    # Of the first server and the nodes' states nothing is left but a checkpoint.
    nodes = FaultyGrid(problem, method, configs=configs).connected()
    found = advanced(Federation(problem, method, nodes), before)
    whole = Federation(problem, method, Faulty(problem, method))
    assert same(found.state, advanced(whole, theta(problem), rounds=3).state)
    assert "goes on without" not in caplog.text


def test_shares_and_weights_are_those_of_the_whole() -> None:
    problem = scalar()
    nodes = FaultyGrid(problem, fipa()).connected()
    assert nodes.shares == [shard.share for shard in problem.shards()]
    losses = nodes.losses(theta(problem), [0, 1, 2])
    local = Faulty(problem, fipa())
    assert losses == local.losses(theta(problem), [0, 1, 2])
    told = nodes.breakdown(theta(problem), [0, 1, 2])
    assert told == local.breakdown(theta(problem), [0, 1, 2])


def test_a_loss_that_is_none_is_told(caplog: pytest.LogCaptureFixture) -> None:
    grid = FaultyGrid(scalar(), fipa())
    nodes = grid.connected()
    grid.faults.kind = "evaluate"
    grid.faults.replies = {1: instead(RecordDict()), 2: lambda reply: None}
    losses = nodes.losses(theta(scalar()), [0, 1, 2], 1.0)
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
    federation = Federation(grid.problem, method, grid.connected())
    assert "Client 1 has no rows" in caplog.text
    start = theta(grid.problem)
    found = federation.advance(advanced(federation, start))
    assert ("train", NODE) not in grid.sent
    assert not found.dropped
    nodes = FaultyGrid(data([9, 5]), method).connected()
    others = Federation(data([9, 5]), method, nodes)
    # A damping is divided by the number of clients, which is another.
    torch.testing.assert_close(
        found.checkpoint.state.theta,
        advanced(others, start, 2).state.theta,
        rtol=1e-9,
        atol=1e-12,
    )


def test_sites_without_any_rows_have_nothing_to_train_on() -> None:
    with pytest.raises(ValueError, match="No client has any rows"):
        FaultyGrid(data([0, 0]), fipa()).connected()


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
    first, second, _, last, ended = caplog.messages[-5:]  # and that it was left out
    assert first.startswith("Round 1 of 2: loss ")
    assert "without client 1: In round 2 of fipa on scalar the upload" in second
    assert last.startswith("Done: loss ")
    assert "the loss" in ended.lower()


def test_a_reply_after_the_deadline_is_thrown_away_as_in_process() -> None:
    rules = Rules(deadline=1e-6)
    with pytest.raises(TimeoutError, match="no reply within 1e-06 s"):
        flower.run(scalar(), methods.load("fipa"), 2, rules=rules)
