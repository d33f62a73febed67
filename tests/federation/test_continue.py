"""A run goes on from its own record alone, and as far as it is asked to."""

import json
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from cases import scalar

import fedsciml
from fedsciml import Result, methods, run, wrappers
from fedsciml.federation import Round, RunDirectory
from fedsciml.federation.checkpoint import pack, unpack

FIPA = methods.load("fipa")
CHECKPOINT = "checkpoint.safetensors"


def essence(result: Result) -> object:
    lines = [replace(line, seconds=0.0) for line in result.history]
    return result.theta_sha256(), result.loss, lines


def third(history: list[Round]) -> bool:
    return len(history) == 3


@pytest.mark.parametrize(
    "method",
    [
        FIPA,
        methods.load("scaffold", tau=2),
        methods.load("adam", tau=2),
        wrappers.load("fipa", warmup="fedavg:3,tau=2"),
    ],
    ids=lambda method: method.name,
)
def test_a_finished_run_goes_on_with_the_bytes_of_a_longer_one(
    tmp_path: Path, method: fedsciml.methods.Method
) -> None:
    whole = run(scalar(), method, 6)
    for rounds in (2, 4, 6):
        result = run(scalar(), method, rounds, out=tmp_path, resume=rounds > 2)
        assert result.history[-1].round == rounds
        assert json.loads((tmp_path / "run.json").read_text())["rounds"] == rounds
    assert essence(result) == essence(whole)


def test_a_run_that_goes_on_is_not_finished(tmp_path: Path) -> None:
    run(scalar(), FIPA, 2, out=tmp_path)
    assert (tmp_path / "model.safetensors").exists()

    def killed(line: Round) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(scalar(), FIPA, 4, out=tmp_path, resume=True, progress=killed)
    assert not (tmp_path / "model.safetensors").exists()
    assert json.loads((tmp_path / "run.json").read_text())["rounds"] == 4
    result = run(scalar(), FIPA, 4, out=tmp_path, resume=True)
    assert essence(result) == essence(run(scalar(), FIPA, 4))


def test_a_run_may_be_given_fewer_rounds_as_far_as_they_are_not_done(
    tmp_path: Path,
) -> None:
    run(scalar(), FIPA, 9, out=tmp_path, stop=third)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="has done 3 rounds, and 2 were asked for"):
        run(scalar(), FIPA, 2, out=tmp_path, resume=True)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    result = run(scalar(), FIPA, 5, out=tmp_path, resume=True)
    assert essence(result) == essence(run(scalar(), FIPA, 5))


def resumed(out: Path) -> Result:
    return run(scalar(), FIPA, 6, out=out, resume=True)


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A run of seed 0 that has done three of six rounds."""
    run(scalar(), FIPA, 6, out=tmp_path / "run", stop=third)
    return tmp_path / "run"


def test_the_checkpoint_of_another_seed_is_refused(tmp_path: Path, three: Path) -> None:
    run(scalar(), FIPA, 6, 1, out=tmp_path / "other", stop=third)
    shutil.copy(tmp_path / "other" / CHECKPOINT, three)
    with pytest.raises(ValueError, match=f"{CHECKPOINT} is of another run: .*remove"):
        resumed(three)


def test_the_checkpoint_of_another_problem_is_refused(
    tmp_path: Path, three: Path
) -> None:
    other = scalar()
    first = replace(other.terms[0], weight=2 * other.terms[0].weight)
    other = replace(other, terms=[first, *other.terms[1:]])
    run(other, FIPA, 6, out=tmp_path / "other", stop=third)
    shutil.copy(tmp_path / "other" / CHECKPOINT, three)
    with pytest.raises(ValueError, match=f"{CHECKPOINT} is of another run"):
        resumed(three)


def test_the_checkpoint_of_the_same_run_elsewhere_is_refused(
    tmp_path: Path, three: Path
) -> None:
    run(scalar(), FIPA, 6, out=tmp_path / "other", stop=third)  # took other seconds
    shutil.copy(tmp_path / "other" / CHECKPOINT, three)
    with pytest.raises(ValueError, match="is not that with which the checkpoint"):
        resumed(three)


def test_a_flipped_bit_anywhere_in_a_checkpoint_is_noticed(three: Path) -> None:
    path, draw = three / CHECKPOINT, random.Random(0)
    content = path.read_bytes()
    for at in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[at] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match="checksum"):
            unpack(path)
    with pytest.raises(ValueError, match=f"{CHECKPOINT} is damaged: its checksum"):
        resumed(three)
    path.write_bytes(content)
    assert essence(resumed(three)) == essence(run(scalar(), FIPA, 6))


@pytest.mark.parametrize("rounds", [0, 1, 2, 4])
def test_an_edited_round_of_a_checkpoint_is_refused(three: Path, rounds: int) -> None:
    content = unpack(three / CHECKPOINT)
    assert content["round"] == 3
    (three / CHECKPOINT).write_bytes(pack({**content, "round": rounds}))
    with pytest.raises(ValueError, match="the checkpoint"):
        resumed(three)


EDITS: Mapping[str, Callable[[list[str]], list[str]]] = {
    "a digit": lambda lines: [lines[0].replace('"loss": ', '"loss": 1'), *lines[1:]],
    "seconds": lambda lines: [lines[0].replace("}", " }"), *lines[1:]],
    "last": lambda lines: [*lines[:2], lines[2].replace('"step": ', '"step": -')],
    "missing": lambda lines: lines[1:],
    "doubled": lambda lines: [lines[0], *lines],
    "in another order": lambda lines: [lines[1], lines[0], lines[2]],
    "renamed": lambda lines: [lines[0], lines[2], lines[1]],
    "an empty line": lambda lines: [lines[0], "\n", *lines[1:]],
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_history_is_refused(three: Path, edit: str) -> None:
    path = three / "history.jsonl"
    edited = EDITS[edit](path.read_text().splitlines(keepends=True))
    path.write_text("".join(edited))
    before = {path.name: path.read_bytes() for path in three.iterdir()}
    with pytest.raises(ValueError, match=r"history\.jsonl"):
        resumed(three)
    assert before == {path.name: path.read_bytes() for path in three.iterdir()}


def test_line_k_of_a_history_is_round_k(tmp_path: Path) -> None:
    record = RunDirectory.create(tmp_path, {})
    for number in (1, 2, 4):
        record.append(Round(number, 0.5))
    assert [line.round for line in record.history(2)] == [1, 2]
    with pytest.raises(ValueError, match="line 3 is damaged: it is of round 4; lines"):
        record.history()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"round": 1, "loss": 0.5, "news": 3}', "'news', .* written by a newer one"),
        ('{"round": 1, "loss": "0.5"}', "'loss' is '0.5', not a number"),
        ('{"round": true, "loss": 0.5}', "'round' is True, not a number"),
        ('{"round": 1}', "missing 1 required .* 'loss'"),
    ],
)
def test_a_line_that_this_version_cannot_read_is_refused(line: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Round.read(line)


def full(*arguments: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("first", [RuntimeError("disk on fire"), KeyboardInterrupt()])
def test_the_first_error_is_told_where_saving_fails_too(
    tmp_path: Path, first: BaseException
) -> None:
    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:

        def trouble(line: Round) -> None:
            patch.setattr("os.fsync", full)
            raise first

        with pytest.raises(type(first)) as caught:
            run(scalar(), FIPA, 3, out=out, progress=trouble)
    assert caught.value is first
    notes = "\n".join(first.__notes__)
    assert f"Record kept in {out}." in notes
    assert f"Continue with run(..., out='{out}', resume=True)" in notes
    assert "could not be saved: OSError: [Errno 28] No space left" in notes
    assert essence(run(scalar(), FIPA, 3, out=out, resume=True)) == essence(
        run(scalar(), FIPA, 3)
    )


@pytest.mark.parametrize("place", ["append", "save", "finish"])
def test_a_disk_that_is_full_is_told_with_the_way_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, place, full)
        with pytest.raises(OSError, match="No space left on device") as caught:
            run(scalar(), FIPA, 3, out=out)
    assert f"Record kept in {out}." in caught.value.__notes__
    assert any("resume=True" in note for note in caught.value.__notes__)
    assert essence(run(scalar(), FIPA, 3, out=out, resume=True)) == essence(
        run(scalar(), FIPA, 3)
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"rules": fedsciml.Rules(min_clients=99)},
        {"notes": {"a": object()}},
        {"gn_gap": 1},
    ],
    ids=["rules", "notes", "start"],
)
def test_what_is_refused_leaves_no_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, object]
) -> None:
    def unable(*arguments: object) -> None:
        raise ValueError("no room")

    if "gn_gap" in wrong:
        monkeypatch.setattr("fedsciml.federation.loop.System", unable)
    with pytest.raises((ValueError, TypeError)):
        run(scalar(), FIPA, 3, out=tmp_path / "run", **wrong)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_result_is_printed_in_four_lines_without_data(tmp_path: Path) -> None:
    problem = scalar()
    for out in (None, tmp_path / "run"):
        result = run(problem, FIPA, 2, out=out)
        first, second, third, fourth = str(result).splitlines()
        assert first.startswith(f"{problem.name}: loss {result.loss:.2e} after 2 round")
        assert f"relative L2 error {result.errors()[0]:.2e}" in second
        assert third == result.outcome.sentence
        assert fourth == (f"recorded in {out}" if out else "not recorded: out=None")
