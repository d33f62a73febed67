"""A run that is killed, as the operating system kills, ends as if it were not."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import run

ROOT = Path(__file__).parents[2]
ROUNDS = 150
ARGUMENTS = (
    *("allen_cahn", "--method", "fedavg", "--tau", "2", "--keep-state", "true"),
    *("--rounds", str(ROUNDS), "--set", "points=0.1", "--set", "width=8"),
    *("--threads", "1"),
)
PROGRAM = """
import signal, sys, time
import run
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
from fedsciml.federation import loop as rounds
from fedsciml.federation.directory import RunDirectory
rounds.CHECKPOINT_SECONDS, slow = float(sys.argv[1]), int(sys.argv[2])
append = RunDirectory.append
def appended(record, line):
    append(record, line)
    if line.round > slow:
        time.sleep(0.05)
RunDirectory.append = appended
sys.exit(run.main(sys.argv[3:]))
"""


def start(seconds: float, *arguments: str, slow: int = ROUNDS) -> subprocess.Popen[str]:
    """The program, in a process of its own, with a checkpoint every so often.

    After ``slow`` rounds it takes its time: on a busy machine it must not be done
    before it is stopped.
    """
    paths = os.pathsep.join((str(ROOT), str(ROOT / "scripts")))
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(seconds), str(slow), *arguments, "--quiet"],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def rounds_done(out: Path) -> int:
    history = out / "history.jsonl"
    return history.read_bytes().count(b"\n") if history.exists() else 0


def stop(process: subprocess.Popen[str], out: Path, after: int, how: int) -> str:
    """Send a signal once a number of rounds is done; what it left on stderr."""
    while rounds_done(out) < after and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    assert not (out / "model.safetensors").exists(), "finished before it was stopped"
    return errors


def ending(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    """What a run prints that goes to its end in this process."""
    capsys.readouterr()
    assert run.main([*arguments, "--quiet", "--no-plots", "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return {key: found[key] for key in found.keys() - {"seconds", "out"}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "run"
    arguments = ["--out", str(out), "--quiet", "--no-plots"]
    assert run.main([*ARGUMENTS, *arguments]) == 0
    return out


@pytest.mark.parametrize(
    ("seconds", "after"),
    [
        # That a kill at any write does no harm is for test_rounds.py, in one process.
        pytest.param(1e9, 5, marks=pytest.mark.slow),
        pytest.param(0.0, 1, marks=pytest.mark.slow),
        (0.05, 60),
    ],
    ids=["before the first checkpoint", "early", "late"],
)
def test_a_killed_run_ends_as_an_uninterrupted_one(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    whole: Path,
    seconds: float,
    after: int,
) -> None:
    out = tmp_path / "run"
    process = start(seconds, *ARGUMENTS, "--out", str(out), slow=after + 50)
    stop(process, out, after, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    resumed = ending(capsys, "--resume", str(out))
    assert resumed == ending(capsys, "--resume", str(whole))
    assert rounds_done(out) == ROUNDS


def test_an_interrupted_run_tells_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], whole: Path
) -> None:
    out = tmp_path / "run"
    process = start(1e9, *ARGUMENTS, "--out", str(out), slow=70)
    message = stop(process, out, 20, signal.SIGINT)
    assert process.returncode == 130
    assert f"--resume {out}" in message
    assert (out / "checkpoint.safetensors").exists()
    assert ending(capsys, "--resume", str(out)) == ending(
        capsys, "--resume", str(whole)
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_run_killed_again_and_again_still_ends_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], whole: Path, seed: int
) -> None:
    out, generator = tmp_path / "run", random.Random(seed)
    process = start(0.0, *ARGUMENTS, "--out", str(out))
    for _ in range(6):
        after = rounds_done(out) + generator.randrange(1, ROUNDS // 10)
        stop(process, out, after, signal.SIGKILL)
        process = start(0.0, "--resume", str(out))
    process.communicate(timeout=60)
    assert ending(capsys, "--resume", str(out)) == ending(
        capsys, "--resume", str(whole)
    )


@pytest.mark.slow
def test_a_run_killed_at_any_of_60_moments_ends_the_same(tmp_path: Path) -> None:
    """Before, within and after the replacement of a file: see ``kills``."""
    program = [sys.executable, str(ROOT / "tests" / "kills.py"), "60", "0"]
    paths = os.pathsep.join((str(ROOT), str(ROOT / "scripts")))
    done = subprocess.run(
        [*program, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["other"] == []
    assert sum(found["killed"].values()) == 60
    assert found["killed"]["within a replacement"] > 0
