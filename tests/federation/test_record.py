"""Run directories: what is written is read back, whole, whatever happens between."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import pytest
import torch
from cases import scalar
from faults import same
from safetensors.torch import save
from torch import Tensor

from fedsciml import methods, run
from fedsciml.federation.checkpoint import Checkpoint, pack, unpack
from fedsciml.federation.directory import RunDirectory
from fedsciml.federation.history import Round
from fedsciml.federation.participation import Heard, Participation
from fedsciml.federation.traffic import Traffic, size
from fedsciml.methods import Record as Message
from fedsciml.methods import State

CONFIGURATION = {"problem": "a", "rounds": 3, "edges": (0.1, 1 / 3)}

HISTORY = Path(__file__).parent / "rounds.jsonl"
"""First rounds of three methods on allen_cahn, as older code recorded them."""


@dataclass(frozen=True)
class Policy:
    """A part of a state that is no record of its own."""

    slow: bool
    bound: float


class Server(State):
    """Every kind of value that a state may hold."""

    part: Tensor
    stage: str
    k: int
    mu: float
    policy: Policy
    inner: Message
    copies: Mapping[str, Tensor] = field(default_factory=dict)
    limits: Tensor | None = None
    lowest: float | None = None


class Memory(Message):
    """What a client remembers."""

    moment: Tensor
    step: Tensor
    empty: Tensor


class Foreign(Message):
    """What no method knows."""

    x: Tensor


@dataclass(frozen=True)
class Lamp:
    """Nor this."""

    on: bool


KINDS = (State, Server, Policy, Memory)
FOREIGN, LAMP = Foreign(torch.ones(2)), Lamp(on=True)


def checkpoint(number: int = 1) -> Checkpoint:
    """One with every kind of value that a state may hold."""
    theta = torch.arange(6, dtype=torch.float64) / 7
    state = Server(
        theta,
        part=theta.view(2, 3).mT,
        stage="probe",
        k=3,
        mu=0.1,
        policy=Policy(slow=True, bound=math.inf),
        inner=State(theta.bfloat16()),
        copies={"factor.2": theta.view(1, 6), "factor.10": torch.zeros(0, 6)},
        lowest=-0.0,
    )
    memory = Memory(theta.float(), torch.tensor(4), torch.zeros(0, 6))
    part = Participation(
        [0, 1], [1], {1: Heard(memory, 3)}, {"factor": 1 / 3}, {2: [1, 3]}
    )
    return Checkpoint(number, state, [None, memory], Traffic(5, 6, 7), 0.1, part)


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_sizes_have_three_digits_up_to_the_next_unit() -> None:
    assert [size(n) for n in (999, 999_499, 999_600)] == ["999 B", "999 kB", "1 MB"]


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    record = RunDirectory.create(tmp_path / "run", CONFIGURATION)
    assert record.load(KINDS) is None
    record.save(checkpoint(1))
    record.save(checkpoint(2))
    found = RunDirectory.resume(tmp_path / "run").load(KINDS)
    assert found is not None
    wanted = checkpoint(2)
    assert found.round == 2
    assert same(found.state, wanted.state)
    assert list(map(same, found.memories, wanted.memories)) == [True, True]
    assert (found.traffic, found.seconds) == (wanted.traffic, wanted.seconds)
    mine, theirs = found.participation, wanted.participation
    assert mine is not None
    assert theirs is not None
    assert mine._replace(heard={}) == theirs._replace(heard={})
    assert mine.heard.keys() == theirs.heard.keys()
    assert mine.heard[1].round == 3
    assert same(mine.heard[1].last, theirs.heard[1].last)


def test_a_checkpoint_before_the_first_round_comes_back(tmp_path: Path) -> None:
    record = RunDirectory.create(tmp_path, CONFIGURATION)
    start = Checkpoint(0, State(torch.ones(3)), [None, None])
    record.save(start)
    found = record.load(KINDS)
    assert found is not None
    assert same(found.state, start.state)
    assert found._replace(state=start.state) == start


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"state": State(torch.ones(2))}, "base.State"),
        ({"memories": [Memory(*[torch.ones(1)] * 3), None]}, "test_record.Memory"),
        (
            {"participation": Participation([0], [0], {0: Heard(FOREIGN, 1)}, {}, {})},
            "test_record.Foreign",
        ),
        ({"state": replace(checkpoint().state, inner=FOREIGN)}, "test_record.Foreign"),
        ({"state": replace(checkpoint().state, policy=LAMP)}, "test_record.Lamp"),
    ],
    ids=["state", "memory", "heard", "part of a record", "part that is no record"],
)
def test_a_checkpoint_with_a_kind_that_the_method_does_not_know_is_damaged(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    record = RunDirectory.create(tmp_path, CONFIGURATION)
    record.save(checkpoint()._replace(**change))
    unknown = said.rpartition(".")[2]
    kinds = [kind for kind in KINDS if kind.__name__ != unknown]
    with pytest.raises(
        ValueError, match=rf"it is a '{said}', not one of .*Remove"
    ) as e:
        record.load(kinds)
    assert f"{tmp_path / 'checkpoint.safetensors'} is damaged" in str(e.value)


def test_the_checkpoint_of_another_method_is_damaged(tmp_path: Path) -> None:
    problem, out = scalar(), tmp_path / "run"
    run(problem, methods.load("scaffold", tau=2), 2, out=out)
    record = RunDirectory.resume(out)
    for name, options in (("fedavg", {"tau": 2}), ("fipa", {})):
        kinds = methods.load(name, **options).kinds
        said = r"checkpoint\.safetensors is damaged: it is a 'scaffold\.State', not one"
        with pytest.raises(ValueError, match=said):
            record.load(kinds)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"state/theta": None}, "it has no 'theta'"),
        ({"state/extra": 1.0}, "it holds 'extra', which nobody asked for"),
        ({"state/kind": None}, "it is a None, not one of"),
        ({"state/kind": 3}, "it is a 3, not one of"),
        ({"memory1/moment": None}, "it has no 'moment'"),
        ({"last1/kind": None}, "it is a None, not one of"),
        ({"heard": {"0": 1}}, "last0"),
        ({"round": None}, "round"),
    ],
)
def test_a_checkpoint_whose_records_are_not_whole_is_damaged(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    record, path = (
        RunDirectory.create(tmp_path, CONFIGURATION),
        "checkpoint.safetensors",
    )
    record.save(checkpoint())
    content = {**unpack(tmp_path / path), **change}
    kept = {key: value for key, value in content.items() if value is not None}
    (tmp_path / path).write_bytes(pack(kept))
    with pytest.raises(ValueError, match=rf"{path} is damaged: .*{said}"):
        record.load(KINDS)


def test_a_run_starts_only_where_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    RunDirectory.create(tmp_path / "empty", CONFIGURATION)
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "run.json.tmp").write_text('{"probl')
    RunDirectory.create(tmp_path / "killed", CONFIGURATION)
    assert list(files(tmp_path / "killed")) == ["run.json"]
    RunDirectory.create(tmp_path / "some" / "new", CONFIGURATION)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("x")
    for name in ("full", "file", "empty"):
        with pytest.raises(FileExistsError, match=f"{name} is not empty"):
            RunDirectory.create(tmp_path / name, CONFIGURATION)
    assert files(tmp_path / "full") == {"letter.txt": b"dear"}


def test_the_configuration_is_written_with_the_versions(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "run", CONFIGURATION)
    found = json.loads((tmp_path / "run" / "run.json").read_text())
    assert found["environment"]["torch"] == torch.__version__
    assert found["environment"]["threads"] == torch.get_num_threads()
    assert found["edges"] == [0.1, 1 / 3]


def test_another_configuration_is_refused_and_nothing_written(tmp_path: Path) -> None:
    record = RunDirectory.create(tmp_path, CONFIGURATION)
    record.save(checkpoint())
    before = files(tmp_path)
    with pytest.raises(ValueError, match=r"problem = 'a', not 'b'") as caught:
        RunDirectory.resume(tmp_path, {**CONFIGURATION, "problem": "b"})
    assert str(tmp_path) in str(caught.value)
    assert files(tmp_path) == before
    more = {**CONFIGURATION, "rounds": 4, "rules": {}}  # these need not be the same
    assert RunDirectory.resume(tmp_path, more).configuration["rounds"] == 3


@pytest.mark.parametrize("content", [None, "", '{"problem": ', "[1, 2]"])
def test_a_directory_without_a_run_is_refused(
    tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match=r"There is no run|is damaged"):
        RunDirectory.resume(tmp_path, CONFIGURATION)


def test_a_half_written_line_does_not_count(tmp_path: Path) -> None:
    record = RunDirectory.create(tmp_path, CONFIGURATION)
    lines = [Round(k, 0.5 / k, relative_l2=0.1, mse=0.2) for k in (1, 2, 3)]
    for line in lines:
        record.append(line)
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"round": 4, "lo')
    assert [line.round for line in record.history()] == [1, 2, 3]
    assert record.rewind(2) == lines[:2]
    record.append(lines[2])
    text = (tmp_path / "history.jsonl").read_text()
    assert text == "".join(line.line() for line in lines)


def test_a_history_shorter_than_its_checkpoint_is_refused(tmp_path: Path) -> None:
    record = RunDirectory.create(tmp_path, CONFIGURATION)
    record.append(Round(1, 0.5))
    with pytest.raises(ValueError, match="has 1 rounds, but the checkpoint"):
        record.rewind(2)


@pytest.mark.parametrize(
    "damage",
    [
        b"not json",
        b"[1]",
        b"\xff\xfe",
        b'{"round": 2',
        b'{"round": 2}',
        b'{"round": 2, "loss": 1.0, "lass": 1.0}',
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, damage: bytes) -> None:
    record = RunDirectory.create(tmp_path, CONFIGURATION)
    record.append(Round(1, 0.5))
    with (tmp_path / "history.jsonl").open("ab") as file:
        file.write(damage + b"\n")
    record.append(Round(3, 0.5))
    with pytest.raises(ValueError, match=r"history\.jsonl, line 2 is damaged"):
        record.rewind(3)
    assert record.rewind(1) == [Round(1, 0.5)]  # what is ahead is dropped anyway


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, kept: int) -> None:
    record = RunDirectory.create(tmp_path, CONFIGURATION)
    record.save(checkpoint())
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors is damaged.*Remove"):
        record.load(KINDS)


def test_a_foreign_checkpoint_is_named(tmp_path: Path) -> None:
    record = RunDirectory.create(tmp_path, CONFIGURATION)
    path = tmp_path / "checkpoint.safetensors"
    for metadata in (None, {"plain": "{}"}, {"plain": "[1]"}):
        path.write_bytes(save({"a": torch.ones(1)}, metadata))
        with pytest.raises(ValueError, match="is damaged"):
            record.load(KINDS)


def test_numbers_that_are_not_finite_are_null_on_disk(tmp_path: Path) -> None:
    record = RunDirectory.create(tmp_path, CONFIGURATION)
    errors = {"u": 0.1, "nu": math.nan}
    record.append(Round(1, math.nan, mse=math.inf, ranks=(3,), errors=errors))

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    text = (tmp_path / "history.jsonl").read_text()
    assert json.loads(text, parse_constant=refuse)["loss"] is None
    (found,) = record.history()
    assert math.isnan(found.loss)
    assert math.isnan(found.mse)
    assert found.errors["u"] == 0.1
    assert math.isnan(found.errors["nu"])
    assert (found.ranks, found.round) == ((3,), 1)


ALWAYS = (
    *("round", "loss", "step", "damping", "cutoff", "ranks", "epochs", "probes"),
    *("relative_l2", "mse", "bytes_up", "bytes_down", "messages", "seconds"),
)
"""Keys of every line of a history, in their order."""

FULL = Round(
    7,
    1 / 3,
    step=0.125,
    damping=1e-300,
    cutoff=5e-324,
    ranks=(3, 0, 12),
    epochs=20,
    probes=64,
    basis=28,
    outside=1e-6,
    condition=40.0,
    promised=0.5,
    curve=0.25,
    first=2.0,
    tried=((1.0, 0.5), (2.0, 0.995)),
    epsilon=1.5,
    delta=1e-6,
    relative_l2=math.nan,
    mse=1e308,
    errors={"u": 0.1, "nu": math.nan},
    bytes_up=2**53 + 1,
    bytes_down=1,
    messages=2,
    seconds=0.1 + 0.2,
    dropped={"10": 'a "word"\x00 and é', "2": ""},
    stale={"1": 3},
    joined={"4": [0, 12]},
    held_out=1e-9,
    terms={"pde": 1e-30, "a b": 0.25},
    losses={"0": 0.25, "10": 1e-300},
    gradients={"0": 1e-7},
    suspects={"2": 1e5},
    against=(2, 10),
    metrics={"accuracy": 0.9},
    gn_gap=0.0,
)
"""A round with all that a line can hold."""


def lines() -> list[str]:
    """Of rounds that were recorded before, with their line breaks."""
    return HISTORY.read_text().splitlines(True)


def test_a_round_comes_back_from_its_line() -> None:
    assert {f.name for f in fields(Round)} == set(json.loads(FULL.line()))
    for line in (FULL, Round(1, 0.5), replace(FULL, stale={}, gn_gap=math.nan)):
        assert Round.read(line.line()) == line
        assert Round.read(line.line()).line() == line.line()


def test_a_line_comes_back_from_its_round() -> None:
    assert len(lines()) == 15
    for text in lines():
        line = text if text.endswith("\n") else f"{text}\n"
        assert Round.read(text).line() == line


def test_the_keys_of_a_line_are_in_their_order() -> None:
    assert tuple(json.loads(Round(1, 0.5).line())) == ALWAYS
    rare = ("losses", "gradients", "suspects", "against")
    rare += ("dropped", "stale", "joined", "basis", "outside", "condition", "promised")
    rare += ("curve", "first", "tried")
    rare += ("epsilon", "delta", "held_out", "terms", "metrics", "gn_gap")
    with_errors = (*ALWAYS[:10], "errors", *ALWAYS[10:])
    assert tuple(json.loads(FULL.line())) == (*with_errors, *rare)
    for text in lines():
        found = tuple(json.loads(text))
        assert found == tuple(key for key in (*with_errors, *rare) if key in found)
        assert set(ALWAYS) <= set(found)


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = RunDirectory.create(tmp_path, CONFIGURATION)
    record.save(checkpoint(1))

    def full(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        record.save(checkpoint(2))
    found = record.load(KINDS)
    assert found is not None
    assert found.round == 1


def test_why_a_run_failed_is_written_and_forgotten_when_it_goes_on(
    tmp_path: Path,
) -> None:
    record = RunDirectory.create(tmp_path, CONFIGURATION)
    record.fail(FloatingPointError("theta is not finite"))
    found = json.loads((tmp_path / "failure.json").read_text())
    assert found == {"error": "FloatingPointError", "message": "theta is not finite"}
    RunDirectory.resume(tmp_path, CONFIGURATION).rewind(0)
    assert not (tmp_path / "failure.json").exists()
