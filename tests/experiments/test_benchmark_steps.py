"""Experiment ``steps``: what it measures, keeps and prints; and the command."""

import io
import json
import math
import os
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest
from experiments import steps
from experiments._command import main
from experiments._runner import completed
from experiments.steps import (
    ERRORS,
    EXPERIMENT,
    KEY,
    POLICIES,
    STANDSTILL,
    finished,
    measure,
)

from fedsciml import methods, policies, problems, run
from fedsciml.federation.history import Round

ROOT = Path(__file__).parents[2]
MINE = "line_search:damping=1e-6,cutoff=0,memory=2"
WANTED = {
    "problem": ["sine2"],
    "policy": ["natural", MINE],
    "setting": ["2"],
    "seed": ["0"],
    "rounds": ["3"],
}
SMALL = ("--only", *(f"{k}={v}" for k, values in WANTED.items() for v in values))


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The record of a small benchmark, and what it printed."""
    path = tmp_path_factory.mktemp("benchmark") / "new" / "steps.json"
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert main(["steps", *SMALL, "--jobs", "1", "--out", str(path)]) == 0
    return path, printed.getvalue()


def printed(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What the program prints in this process."""
    assert main(["steps", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The line with which it refuses its arguments."""
    with pytest.raises(SystemExit) as caught:
        printed(capsys, *arguments)
    assert caught.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = (x for x in output.err.splitlines() if "error: " in x)
    assert output.err.endswith(f"{line}\n")
    return line


def test_a_run_is_an_entry_with_its_key(record: tuple[Path, str]) -> None:
    text = record[0].read_text()
    entries = json.loads(text)
    lines = [line.rstrip(",") for line in text.splitlines()[1:-1]]
    assert lines == sorted(lines)
    assert [json.loads(line) for line in lines] == entries
    assert sorted(tuple(entry[name] for name in KEY) for entry in entries) == [
        ("sine2", MINE, "2", 0, 3),
        ("sine2", "natural", "2", 0, 3),
    ]


def test_an_entry_is_what_the_run_reports(record: tuple[Path, str]) -> None:
    entries = {e["policy"]: e for e in json.loads(record[0].read_text())}
    for policy in ("natural", MINE):
        entry = entries[policy]
        method = methods.load("fipa", policy=policy, basis="own")
        history = run(problems.load("sine2", clients=2), method, 3, 0).history
        assert entry["ran"] == 3
        # Another process may round otherwise.
        root = history[-1].mse ** 0.5
        assert entry["error_at"] == {"3": pytest.approx(root, rel=1e-3)}
        sent = history[-1].bytes_up + history[-1].bytes_down
        assert entry["bytes"] == pytest.approx(sent, rel=0.1)
        assert entry["largest_probe"] == max(line.probes for line in history)
        assert entry["threads"] == 1
        assert entry["seconds_per_round"] > 0
        assert set(entry["reached"]) == {str(target) for target in ERRORS}


@pytest.mark.slow
def test_the_program_says_the_same_of_runs_side_by_side(
    record: tuple[Path, str], tmp_path: Path
) -> None:
    path = tmp_path / "steps.json"
    program = [sys.executable, "-m", "scripts.experiments", "steps", *SMALL]
    done = subprocess.run(
        [*program, "--jobs", "2", "--out", str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    heads, expected = (
        [line.split("|")[1] for line in text.splitlines() if line.startswith("| ")]
        for text in (done.stdout, record[1])
    )
    assert heads == expected
    assert len(json.loads(path.read_text())) == 2


def test_the_tables_have_a_row_for_each_policy(record: tuple[Path, str]) -> None:
    rows = [line for line in record[1].splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == ["natural", MINE]
    widths = {line.count("|") for line in record[1].splitlines() if "`" in line}
    head = next(x for x in record[1].splitlines() if x.startswith("| policy"))
    assert widths == {head.count("|")}
    assert "\n| sine2 | 2 | 1 |  | never |" in record[1]


def test_finished_runs_are_not_run_again(
    record: tuple[Path, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, output = record
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    monkeypatch.setattr(problems, "load", None)
    assert printed(capsys, *SMALL, "--out", path) == output
    table = ("--table", "--only", "problem=sine2", "setting=2", "--out", path)
    assert printed(capsys, *table) == output
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_only_what_is_missing_is_run(record: tuple[Path, str], tmp_path: Path) -> None:
    path = tmp_path / "steps.json"
    kept, other = json.loads(record[0].read_text())
    path.write_text(json.dumps([kept]))
    asked = []

    def note(*case: object) -> dict[str, object]:
        asked.append(case)
        return {name: value for name, value in other.items() if name not in KEY}

    found = completed(replace(EXPERIMENT, measure=note), path, WANTED)
    assert asked == [tuple(other[name] for name in KEY)]
    assert json.loads(path.read_text()) == found
    assert all(entry.pop("made") for entry in (kept, other, *found))
    assert found == [kept, other]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("policy=natral",), "There is no policy 'natral'; choose one of"),
        (("policy=gain", "policy=gain:frction=1"), "Did you mean 'fraction'?"),
        (("policy=spring:damping=x",), "damping must be a number, got 'x'"),
        (("policy=gain balance=rows",), "balance is terms or clients, got 'rows'"),
        (("problem=sine3",), "'sine3'"),
        (("setting=3",), "invalid choice: '3'"),
        (("step=3",), "has no field 'step'; choose one of problem, policy"),
        (("sine2",), "--only takes FIELD=VALUE, got 'sine2'"),
        (("seed=0", "--table"), "There is no record"),
    ],
)
def test_what_it_cannot_run_is_refused_in_a_line_before_anything_runs(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    path = tmp_path / "steps.json"
    line = refused(capsys, "--only", *arguments, "--out", path)
    assert message in line
    assert not path.exists()


def test_every_policy_of_the_scoreboard_is_there() -> None:
    assert len({*POLICIES}) == len(POLICIES)
    for name in POLICIES:
        assert policies.parse(name).probes


def test_a_row_of_the_scoreboard_may_scale_rows() -> None:
    policy = policies.parse("gain:fraction=0.25")
    for word, balance in [("", "none"), (" balance=terms", "terms")]:
        found = steps.parsed(f"gain:fraction=0.25{word}")
        assert found == (policy, balance)


def lines(losses: list[float], error: float, step: float = 1.0) -> list[Round]:
    return [Round(k, x, relative_l2=error, step=step) for k, x in enumerate(losses, 1)]


def test_a_run_is_over_after_thirty_rounds_without_a_step() -> None:
    still = lines([1.0] * STANDSTILL, 0.5, step=0.0)
    assert finished(still, "relative_l2")
    assert not finished(still[1:], "relative_l2")
    assert not finished([*still, *lines([1.0], 0.5)], "relative_l2")
    assert finished(lines([2.0], 0.5) + still, "relative_l2")


def test_a_run_is_over_when_it_has_converged_and_falls_no_more() -> None:
    flat, falling = [1.0] * STANDSTILL, [0.97**k for k in range(STANDSTILL)]
    assert finished(lines(flat, 1e-10), "relative_l2")
    assert not finished(lines(flat, 2e-10), "relative_l2")
    assert not finished(lines(falling, 1e-12), "relative_l2")
    assert not finished(lines(flat[1:], 1e-12), "relative_l2")
    # Of a regression the root counts: an MSE of 1e-18 is an error of 1e-9.
    regression = [Round(1, 1.0, mse=1e-18)] * STANDSTILL
    assert not finished(regression, "mse")
    assert finished([Round(1, 1.0, mse=1e-20)] * STANDSTILL, "mse")


def test_a_run_that_can_only_repeat_itself_ends_early(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(steps, "STANDSTILL", 3)
    # Undamped from a cold start: no length of the step lowers the loss.
    entry = measure("sine2", "line_search:cutoff=0", "central", 0, 40)
    whole = run(
        problems.load("sine2"),
        methods.load("gauss_newton", sketch="range", policy="line_search:cutoff=0"),
        entry["ran"],
    ).history
    assert entry["ran"] < 40
    assert [line.step for line in whole[-3:]] == [0.0] * 3
    assert set(entry["error_at"]) == {
        "20",
        "40",
    }  # the last error stands for later ones
    assert entry["error_at"]["40"] == pytest.approx(whole[-1].mse ** 0.5, rel=1e-6)


@pytest.mark.slow
def test_the_first_round_at_an_error_and_its_costs_are_kept() -> None:
    entry = measure("sine2", "natural", "2", 0, 25)
    method = methods.load("fipa", policy="natural", basis="own")
    made = problems.load("sine2", clients=2)
    history = run(made, method, 25, 0).history
    assert len(history) == entry["ran"]
    for target, cost in entry["reached"].items():
        errors = [line.mse**0.5 for line in history]  # of a regression
        first = next((k for k, e in enumerate(errors) if e <= float(target)), None)
        if first is None:
            assert cost is None
            continue
        assert cost["rounds"] == first + 1
        assert cost["probes"] == sum(line.probes for line in history[: first + 1])
        there = history[first]
        assert cost["bytes"] == there.bytes_up + there.bytes_down
    assert entry["reached"]["0.01"] is not None
    assert math.isfinite(entry["mean_rank"])
