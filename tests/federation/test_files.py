"""Files are whole whoever is stopped, and a directory has one run that writes."""

import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cases import scalar

from fedsciml import methods, run
from fedsciml.federation import Round, files
from fedsciml.federation.files import LOCK, append_to, locked, replace_file

HOLD = """
import runpy, sys, time
from pathlib import Path
locked = runpy.run_path(sys.argv[1])["locked"]  # imports no torch
with locked(Path(sys.argv[2])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("name", ["a.json", "a.json.tmp"])
def test_nothing_is_written_through_a_link(tmp_path: Path, name: str) -> None:
    victim, place = tmp_path / "victim", tmp_path / "a.json"
    victim.write_text("dear")
    (tmp_path / name).symlink_to(victim)
    with pytest.raises(OSError, match="is a symbolic link, to .*victim; .*Remove it"):
        replace_file(place, "mine")
    assert victim.read_text() == "dear"
    assert (tmp_path / name).is_symlink()


def test_nothing_is_added_through_a_link(tmp_path: Path) -> None:
    victim, place = tmp_path / "victim", tmp_path / "history.jsonl"
    victim.write_text("dear")
    place.symlink_to(victim)
    with pytest.raises(OSError, match="is a symbolic link"):
        append_to(place, "mine")
    assert victim.read_text() == "dear"


def test_a_link_that_is_laid_meanwhile_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, place = tmp_path / "victim", tmp_path / "a.json"
    victim.write_text("dear")
    unlink = Path.unlink

    def laid(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        path.symlink_to(victim)

    monkeypatch.setattr(Path, "unlink", laid)
    with pytest.raises(FileExistsError):
        replace_file(place, "mine")
    assert victim.read_text() == "dear"


def test_a_file_keeps_its_permissions(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("1")
    old.chmod(0o600)
    for path in (old, new):
        replace_file(path, "2")
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(old.stat().st_mode) == 0o600
    assert stat.S_IMODE(new.stat().st_mode) == 0o666 & ~mask


def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.json.tmp").write_text("half")
    replace_file(tmp_path / "a.json", "whole")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a.json": "whole"}


def test_a_full_disk_is_told_with_the_file_and_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.json'"):
        replace_file(path, "new")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a.json": "old"}


def test_two_runs_do_not_write_to_one_directory(tmp_path: Path) -> None:
    problem, method, out = scalar(), methods.load("fedavg", tau=2), tmp_path / "run"
    refused = []

    def again(line: Round) -> None:
        for resume in (False, True):
            with pytest.raises(BlockingIOError, match="Another run is writing") as e:
                run(problem, method, 2, out=out, resume=resume)
            refused.append(str(e.value))

    first = run(problem, method, 2, out=out, progress=again)
    assert len(refused) == 4
    assert f"to {out} (process {os.getpid()} on " in refused[0]
    assert "choose another directory" in refused[0]
    alone = run(problem, method, 2, out=out, resume=True)  # it is free again
    assert alone.theta_sha256() == first.theta_sha256()
    assert not (out / LOCK).exists()


def test_the_lock_of_a_killed_process_holds_nobody(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, files.__file__, str(tmp_path)],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    with process.stdout as held:
        assert held.readline() == b"held\n"
        with pytest.raises(BlockingIOError, match=f"process {process.pid} on"):
            locked(tmp_path).__enter__()
        process.kill()
        process.wait()
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path):
        pass
    assert not (tmp_path / LOCK).exists()


def test_a_file_system_without_locks_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(file: int, how: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", none)
    with caplog.at_level(logging.WARNING), locked(tmp_path):
        pass
    assert "cannot be locked" in caplog.text
