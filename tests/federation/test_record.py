"""Run directories: what is written is read back, whole, whatever happens between."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from fedsciml.federation.backend import Traffic
from fedsciml.federation.record import Checkpoint, Line, Record
from fedsciml.methods import Message, State

CONFIGURATION = {"problem": "a", "rounds": 3, "edges": (0.1, 1 / 3)}


def checkpoint(number: int = 1) -> Checkpoint:
    """One with every kind of value that a state may hold."""
    theta = torch.arange(6, dtype=torch.float64) / 7
    state: State = {"theta": theta, "stage": "probe", "k": 3, "mu": 0.1, "flag": True}
    broadcast: Message = {
        "theta": theta,
        "part": theta.view(2, 3).mT,
        "bound": math.inf,
    }
    memories: list[State] = [
        {},
        {"moment": theta.float(), "step": torch.tensor(4), "empty": torch.zeros(0, 6)},
    ]
    return Checkpoint(number, state, broadcast, memories, Traffic(5, 6, 7), 0.1)


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype
        if isinstance(a[k], torch.Tensor)
        else a[k] == b[k] and type(a[k]) is type(b[k])
        for k in a
    )


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    record = Record.create(tmp_path / "run", CONFIGURATION)
    assert record.load() is None
    record.save(checkpoint(1))
    record.save(checkpoint(2))
    found = Record.resume(tmp_path / "run").load()
    assert found is not None
    wanted = checkpoint(2)
    assert found[0] == 2
    assert same(found.state, wanted.state)
    assert same(found.broadcast, wanted.broadcast)
    assert list(map(same, found.memories, wanted.memories)) == [True, True]
    assert (found.traffic, found.seconds) == (wanted.traffic, wanted.seconds)


def test_a_run_starts_only_where_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    Record.create(tmp_path / "empty", CONFIGURATION)
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "run.json.tmp").write_text('{"probl')
    Record.create(tmp_path / "killed", CONFIGURATION)
    assert list(files(tmp_path / "killed")) == ["run.json"]
    Record.create(tmp_path / "some" / "new", CONFIGURATION)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("x")
    for name in ("full", "file", "empty"):
        with pytest.raises(FileExistsError, match=f"{name} is not empty"):
            Record.create(tmp_path / name, CONFIGURATION)
    assert files(tmp_path / "full") == {"letter.txt": b"dear"}


def test_the_configuration_is_written_with_the_versions(tmp_path: Path) -> None:
    Record.create(tmp_path / "run", CONFIGURATION)
    found = json.loads((tmp_path / "run" / "run.json").read_text())
    assert found["environment"]["torch"] == torch.__version__
    assert found["environment"]["threads"] == torch.get_num_threads()
    assert found["edges"] == [0.1, 1 / 3]


def test_another_configuration_is_refused_and_nothing_written(tmp_path: Path) -> None:
    record = Record.create(tmp_path, CONFIGURATION)
    record.save(checkpoint())
    before = files(tmp_path)
    with pytest.raises(ValueError, match=r"rounds = 3, not 4") as caught:
        Record.resume(tmp_path, {**CONFIGURATION, "rounds": 4})
    assert str(tmp_path) in str(caught.value)
    assert files(tmp_path) == before
    assert Record.resume(tmp_path, CONFIGURATION).configuration["rounds"] == 3


@pytest.mark.parametrize("content", [None, "", '{"problem": ', "[1, 2]"])
def test_a_directory_without_a_run_is_refused(
    tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match=r"No run to resume|is damaged"):
        Record.resume(tmp_path, CONFIGURATION)


def test_a_half_written_line_does_not_count(tmp_path: Path) -> None:
    record = Record.create(tmp_path, CONFIGURATION)
    for k in (1, 2, 3):
        record.append({"round": k})
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"round": 4, "lo')
    assert [line["round"] for line in record.history()] == [1, 2, 3]
    assert record.rewind(2) == [{"round": 1}, {"round": 2}]
    record.append({"round": 3})
    text = (tmp_path / "history.jsonl").read_text()
    assert text == '{"round": 1}\n{"round": 2}\n{"round": 3}\n'


def test_a_history_shorter_than_its_checkpoint_is_refused(tmp_path: Path) -> None:
    record = Record.create(tmp_path, CONFIGURATION)
    record.append({"round": 1})
    with pytest.raises(ValueError, match="has 1 rounds, but the checkpoint"):
        record.rewind(2)


@pytest.mark.parametrize("damage", [b"not json", b"[1]", b"\xff\xfe", b'{"round": 2'])
def test_a_damaged_line_is_named(tmp_path: Path, damage: bytes) -> None:
    record = Record.create(tmp_path, CONFIGURATION)
    record.append({"round": 1})
    with (tmp_path / "history.jsonl").open("ab") as file:
        file.write(damage + b"\n")
    record.append({"round": 3})
    with pytest.raises(ValueError, match=r"history\.jsonl, line 2 is damaged"):
        record.rewind(3)
    assert record.rewind(1) == [{"round": 1}]  # what is ahead is dropped anyway


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, kept: int) -> None:
    record = Record.create(tmp_path, CONFIGURATION)
    record.save(checkpoint())
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors is damaged.*Remove"):
        record.load()


def test_a_foreign_checkpoint_is_named(tmp_path: Path) -> None:
    record = Record.create(tmp_path, CONFIGURATION)
    path = tmp_path / "checkpoint.safetensors"
    for metadata in (None, {"plain": "{}"}, {"plain": "[1]"}):
        path.write_bytes(save({"a": torch.ones(1)}, metadata))
        with pytest.raises(ValueError, match="is damaged"):
            record.load()


def test_numbers_that_are_not_finite_are_null_on_disk(tmp_path: Path) -> None:
    record = Record.create(tmp_path, CONFIGURATION)
    line: Line = {"loss": math.nan, "mse": math.inf, "ranks": [3], "round": 1}
    line["errors"] = {"u": 0.1, "nu": math.nan}
    record.append(line)

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    text = (tmp_path / "history.jsonl").read_text()
    assert json.loads(text, parse_constant=refuse)["loss"] is None
    (found,) = record.history()
    assert math.isnan(found["loss"])
    assert math.isnan(found["mse"])
    assert found["errors"]["u"] == 0.1
    assert math.isnan(found["errors"]["nu"])
    assert (found["ranks"], found["round"]) == ([3], 1)


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Record.create(tmp_path, CONFIGURATION)
    record.save(checkpoint(1))

    def full(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        record.save(checkpoint(2))
    found = record.load()
    assert found is not None
    assert found.round == 1


def test_why_a_run_failed_is_written_and_forgotten_when_it_goes_on(
    tmp_path: Path,
) -> None:
    record = Record.create(tmp_path, CONFIGURATION)
    record.fail(FloatingPointError("theta is not finite"))
    found = json.loads((tmp_path / "failure.json").read_text())
    assert found == {"error": "FloatingPointError", "message": "theta is not finite"}
    Record.resume(tmp_path, CONFIGURATION).rewind(0)
    assert not (tmp_path / "failure.json").exists()
