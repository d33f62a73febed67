"""Secure sums over Flower: the seats of sites, all in one process."""

from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("flwr", reason="comes with fedsciml[flower]")

from cases import draw, given, theta
from faults import Connected, Faulty, advanced
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from grids import GONE, NODE, FaultyGrid
from torch import Tensor

from fedsciml import MLP, Problem, Term, flower, run, wrappers
from fedsciml.collocation import equal, in_box, on_faces, strips
from fedsciml.federation.exchange import Federation
from fedsciml.federation.files import locked
from fedsciml.federation.history import Round
from fedsciml.federation.inprocess import InProcess
from fedsciml.federation.participation import Rules
from fedsciml.flower.codec import decode, encode
from fedsciml.methods import Method, Opening
from fedsciml.network.jet import Jet
from fedsciml.problem import Row
from fedsciml.secure.credentials import identity
from fedsciml.wrappers._masked import Open, Part

SITES = 5


@cache
def problem(sites: int = SITES) -> Problem:
    """-u'' + u^3 = 1."""

    def pde(u: Jet, row: Row) -> Tensor:
        return u.value**3 - u.xx - row.target

    ends = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    return Problem(
        "line",
        MLP((1, 4, 4, 1)),
        [
            Term("pde", pde, draw(40, 1), target=1.0, sample=in_box([0], [1])),
            Term("ends", given, ends, target=0.1, sample=on_faces([0], [1])),
        ],
        strips(equal(0.0, 1.0, sites)),
    )


def secure(name: str, **options: object) -> Method:
    return wrappers.load(name, secure=True, **options)


def nodes(directory: Path) -> dict[int, Any]:
    """Node configs of the sites, by node; each has its key in a file."""
    made = [identity(directory / "keys" / f"site{m}") for m in range(SITES)]
    listed = directory / "all"
    listed.write_text("# sites\n" + "\n".join(pub.read_text() for pub, _ in made))
    return {
        m + 1: {
            "identity": str(private),
            "identities": str(listed),
            "memory": str(directory / f"memory{m}"),
            "secure": True,
            "one-set": False,
        }
        for m, (_, private) in enumerate(made)
    }


METHODS = [("fipa", {}), ("fedavg", {"tau": 2}), ("gradient_only", {})]


@pytest.mark.parametrize(("name", "options"), METHODS)
def test_theta_has_the_same_bytes_as_in_process_also_after_a_resume(
    name: str, options: dict[str, object], tmp_path: Path
) -> None:
    method = secure(name, **options)
    here = run(problem(3), method, 2)
    flower.run(problem(3), method, 2, out=tmp_path, stop=lambda lines: len(lines) == 1)
    there = flower.run(problem(3), method, 2, out=tmp_path, resume=True)
    assert there.theta_sha256() == here.theta_sha256()
    assert (there.loss, there.held_out) == (here.loss, here.held_out)


def test_sites_with_keys_of_their_own_have_the_theta_of_one_process(
    tmp_path: Path,
) -> None:
    configs = nodes(tmp_path)
    method = secure("gradient_only")
    grid = FaultyGrid(problem(), method, configs=configs)
    found = run(problem(), method, 1, backend=grid.backend())
    assert found.theta_sha256() == run(problem(), method, 1).theta_sha256()
    vaults = sorted(tmp_path.glob("memory*/vault-*"))
    assert len(vaults) == SITES
    assert all(vault.stat().st_mode & 0o777 == 0o700 for vault in vaults)


def lost(config: dict[str, Any], key: str) -> None:
    del config[key]


def another(config: dict[str, Any], key: str) -> None:
    """The key of the next site."""
    config[key] = config[key].replace("site1", "site2")


def short(config: dict[str, Any], key: str) -> None:
    """The list without its last site."""
    path = Path(config[key])
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))


def damaged(config: dict[str, Any], key: str) -> None:
    Path(config[key]).write_text("ssh-rsa AAAA")


def doubled(config: dict[str, Any], key: str) -> None:
    path = Path(config[key])
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], lines[1]]))


@pytest.mark.parametrize(
    ("key", "change", "said"),
    [
        ("identity", lost, "node config has no identity: identity is the file"),
        ("identities", lost, "has no identities: identity is the file"),
        ("memory", lost, "For secure sums a site's node config needs memory"),
        ("identity", another, "identity of site 1 is not the one that the fed"),
        ("identity", damaged, "site1 holds no Ed25519 key without passphrase"),
        ("identities", damaged, "Line 1 of all is no Ed25519 key in OpenSSH's"),
        ("identities", short, "has 4 keys, but the run has 5 clients"),
        ("identities", doubled, "is the key of another line, too"),
    ],
)
def test_a_run_does_not_begin_with_a_site_that_is_not_prepared(
    key: str, change: Callable[[dict[str, Any], str], None], said: str, tmp_path: Path
) -> None:
    configs = nodes(tmp_path)
    change(configs[2], key)
    grid = FaultyGrid(problem(), secure("gradient_only"), configs=configs)
    with pytest.raises(ValueError, match=f"Client 1 .*{said}"):
        grid.connected()


def test_a_site_for_secure_sums_alone_refuses_another_run(tmp_path: Path) -> None:
    plain = wrappers.load("gradient_only")
    grid = FaultyGrid(problem(), plain, configs=nodes(tmp_path))
    with pytest.raises(ValueError, match="takes part in secure sums alone"):
        grid.connected()


def asked(grid: FaultyGrid, kind: str, letter: RecordDict) -> str:
    """Why node 2 does not answer."""
    (sent,) = grid.push_messages([Message(letter, 2, kind)])
    (reply,) = grid.pull_messages([sent])
    assert reply.has_error()
    return reply.error.reason


ORDER = {"stamp": "1.1", "base": "", "keep": "", "run": "test"}


@pytest.mark.parametrize(
    ("kind", "more", "said"),
    [
        ("evaluate", {}, "tells of its losses in secure sums alone"),
        ("evaluate", {"held-out": True}, "tells of its losses in secure sums alone"),
        ("train", ORDER, "ValueError"),
    ],
)
def test_a_site_in_secure_sums_answers_nothing_else(
    kind: str, more: dict[str, Any], said: str, tmp_path: Path
) -> None:
    grid = FaultyGrid(problem(), secure("gradient_only"), configs=nodes(tmp_path))
    order = ConfigRecord({"totals": grid.connected().totals, **more})
    letter = RecordDict({**encode(Opening(theta(problem()))), "order": order})
    assert said in asked(grid, kind, letter)


class Mortal(FaultyGrid):
    """Nodes that die when they are asked to open a sum, having masked their part.

    Attributes:
        doomed: Who dies.
        ask: At another ask, such as that for their part.
        when: At which sum from now on, counted from 1.
        letters: The last one of each kind to node 2.
    """

    doomed: frozenset[int] = frozenset()
    ask: type = Open
    when = 0

    def __init__(self, *given: Any, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*given, **options)
        self.letters: dict[type, RecordDict] = {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """What is sent to a dead node comes back with Flower's word for that."""
        sent = list[str]()
        for message in messages:
            node = message.metadata.dst_node_id
            if message.metadata.message_type == "train":
                ask = type(decode(message.content, self.method.kinds))
                self.when -= ask is self.ask and node == 1
                if ask is self.ask and self.when == 0:
                    self.faults.away |= {node} & self.doomed
                if node == 2:
                    self.letters[ask] = message.content
            if node not in self.faults.away:
                sent += super().push_messages([message])
                continue
            sent.append(f"dead {next(self._number)}")
            message.metadata.__dict__["_message_id"] = sent[-1]
            error = Error(ErrorCode.NODE_UNAVAILABLE, "it is dead")
            self._replies[sent[-1]] = Message(error, reply_to=message)
        return sent


@cache
def sound(name: str) -> tuple[Federation, Any, Any]:
    """In one process: after a round, and after another one."""
    bound = secure(name, **dict(METHODS)[name]).bound(problem())
    clients = InProcess().connect(problem(), bound)
    federation = Federation(problem(), bound, clients)
    before = advanced(federation, theta(problem()))
    return federation, before, federation.advance(before)


@pytest.mark.parametrize(
    ("name", "when", "doomed"),
    [
        ("fedavg", 1, {5}),
        ("fipa", 1, {3, 5}),
        ("fipa", 2, {1, 4}),
        pytest.param("fedavg", 1, {3, 5}, marks=pytest.mark.slow),
        pytest.param("fipa", 1, {1}, marks=pytest.mark.slow),
        pytest.param("fipa", 2, {5}, marks=pytest.mark.slow),
    ],
)
def test_a_sum_is_right_though_sites_are_gone_after_masking(
    name: str, when: int, doomed: set[int], tmp_path: Path
) -> None:
    local, before, expected = sound(name)
    method = secure(name, **dict(METHODS)[name])
    grid = Mortal(problem(), method, configs=nodes(tmp_path))
    rules = Rules(min_clients=3)
    federation = Federation(problem(), local.method, grid.connected(), rules)
    began = advanced(federation, theta(problem()))
    assert torch.equal(began.state.theta, before.state.theta)
    grid.doomed, grid.when = frozenset(doomed), when
    found = federation.advance(began)
    assert found.info.loss == expected.info.loss
    if (name, when) != ("fipa", 1):  # else the step goes without the second sum
        reached = found.checkpoint.state.theta
        assert torch.equal(reached, expected.checkpoint.state.theta)
    assert {int(m) + 1 for m in found.dropped} == doomed
    after = federation.advance(found.checkpoint)
    there = after.checkpoint.participation
    assert there is not None
    assert {m + 1 for m in there.members} == {*range(1, SITES + 1)} - doomed


def test_the_others_make_the_round_where_sites_are_gone_before_masking(
    tmp_path: Path,
) -> None:
    method = sound("fedavg")[0].method
    away = Faulty(problem(), method, away={2: [2], 4: [2]})
    local = Federation(problem(), method, away, Rules(min_clients=3))
    expected = local.advance(advanced(local, theta(problem()))).checkpoint
    own = secure("fedavg", tau=2)
    grid = Mortal(problem(), own, configs=nodes(tmp_path))
    federation = Federation(problem(), method, grid.connected(), local.rules)
    began = advanced(federation, theta(problem()))
    grid.doomed, grid.when, grid.ask = frozenset({3, 5}), 1, Part
    found = federation.advance(began).checkpoint
    assert found.participation is not None
    assert found.participation.members == [0, 1, 3]
    assert torch.equal(found.state.theta, expected.state.theta)


def test_a_late_site_takes_part_with_new_keys_where_all_allow_other_sets(
    tmp_path: Path,
) -> None:
    method, rules = secure("fedavg", tau=2), Rules(min_clients=3)
    away = Faulty(problem(), method.bound(problem()), away={GONE: [1]})
    expected = run(problem(), method, 2, backend=Connected(away), rules=rules)
    grid = FaultyGrid(problem(), method, configs=nodes(tmp_path))
    grid.faults.away.add(NODE)
    backend = grid.backend(need=4)

    def watch(line: Round) -> None:
        grid.faults.away.clear()

    given: dict[str, Any] = {"rules": rules, "progress": watch}
    found = run(problem(), method, 2, backend=backend, **given)
    assert found.theta_sha256() == expected.theta_sha256()
    assert [bool(line.dropped) for line in found.history] == [True, False]


def test_a_late_site_is_refused_where_a_site_is_for_sums_over_one_set(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    configs, method = nodes(tmp_path), secure("gradient_only")
    del configs[4]["one-set"]
    grid = FaultyGrid(problem(), method, configs=configs)
    grid.faults.away.add(NODE)
    backend = grid.backend(need=4)

    def watch(line: Round) -> None:
        grid.faults.away.clear()

    given: dict[str, Any] = {"rules": Rules(min_clients=4), "progress": watch}
    found = run(problem(), method, 2, backend=backend, **given)
    assert f"No answer within 60 s: Client {GONE} was not there" in caplog.text
    assert f"began without client {GONE} (node 2)" in caplog.text
    assert [[*line.dropped] for line in found.history] == 2 * [[str(GONE)]]
    assert "over one set of sites" in found.history[0].dropped[str(GONE)]
    assert any("left out of 2 of 2 rounds" in told for told in found.warnings)


def test_a_site_that_starts_again_remembers_what_it_masked(tmp_path: Path) -> None:
    method, configs = secure("fedavg", tau=2), nodes(tmp_path)
    grid = Mortal(problem(), method, configs=configs)
    federation = Federation(problem(), sound("fedavg")[0].method, grid.connected())
    advanced(federation, theta(problem()), rounds=2)
    other = FaultyGrid(problem(), method, configs=configs)
    assert "twice for its part of the same sum" in asked(
        other, "train", grid.letters[Part]
    )


def test_a_site_answers_one_message_at_a_time(tmp_path: Path) -> None:
    method, configs = secure("fedavg", tau=2), nodes(tmp_path)
    grid = Mortal(problem(), method, configs=configs)
    federation = Federation(problem(), sound("fedavg")[0].method, grid.connected())
    advanced(federation, theta(problem()))
    with locked(tmp_path / "memory1" / "vault-1"):
        assert "Client 1 is busy with another message" in asked(
            grid, "train", grid.letters[Open]
        )


def test_a_site_that_lost_its_state_is_back_with_the_next_attempt(
    tmp_path: Path,
) -> None:
    local, _, expected = sound("gradient_only")
    configs, waited = nodes(tmp_path), list[float]()
    grid = FaultyGrid(problem(), secure("gradient_only"), configs=configs)
    federation = Federation(
        problem(),
        local.method,
        grid.connected(),
        Rules(patience=60.0),
        sleep=waited.append,
    )
    began = advanced(federation, theta(problem()))
    for path in (tmp_path / "memory1" / "vault-1").iterdir():
        path.unlink()
    grid.move(2, 9)
    found = federation.advance(began).checkpoint
    assert torch.equal(found.state.theta, expected.checkpoint.state.theta)
    assert len(waited) == 1


class Partial(FaultyGrid):
    """A server that tells node 2 something else than the others."""

    what = "totals"

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Rows of node 2 count little, or its run has another option."""
        sent = list[str]()
        for message in messages:
            order = message.content.get("order")
            if message.metadata.dst_node_id == 2 and isinstance(order, ConfigRecord):
                if self.what == "totals":
                    order["totals"] = [10**9, 10**9]
                else:
                    self.contexts[2].run_config[self.what] = True
            sent += super().push_messages([message])
        return sent


@pytest.mark.parametrize("what", ["totals", "method-options"])
def test_no_sum_is_opened_where_a_site_was_told_something_else(
    what: str, tmp_path: Path
) -> None:
    method, configs = secure("gradient_only"), nodes(tmp_path)
    grid = Partial(problem(), method, configs=configs)
    grid.what = what
    federation = Federation(
        problem(), sound("gradient_only")[0].method, grid.connected()
    )
    with pytest.raises(RuntimeError, match="site [0-4] did not write"):
        federation.advance(federation.start(theta(problem()), 0))
    assert not list(tmp_path.glob("memory*/vault-*/ledger.points*"))


def test_a_resumed_run_is_the_same_run(tmp_path: Path) -> None:
    grid = Partial(problem(), secure("gradient_only"), configs=nodes(tmp_path))
    grid.what = "resume"
    local, before, _ = sound("gradient_only")
    federation = Federation(problem(), local.method, grid.connected())
    found = advanced(federation, theta(problem()))
    assert torch.equal(found.state.theta, before.state.theta)
