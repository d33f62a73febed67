"""Experiment ``ranks``: what it keeps and prints."""

import json
from math import inf
from pathlib import Path

import pytest
from experiments._command import main
from experiments.ranks import (
    EXPERIMENT,
    LARGER,
    SCHEDULES,
    floats,
    megabytes,
    method,
    table,
)

from fedsciml import problems, run
from fedsciml.linalg.ranks import parse

FIELDS = (
    *("problem", "schedule", "seed", "rounds", "quantity", "parameters", "clients"),
    *("error", "bytes", "ranks", "seconds"),
)


def entry(schedule: str, seed: int, error: list[float]) -> dict[str, object]:
    """A run of three rounds, two clients and p = 9."""
    key = {"problem": "poisson1d", "schedule": schedule, "seed": seed, "rounds": 3}
    ranks = [[2, 4], [1, 3], [1, 1]]
    rest = {"bytes": [10**6, 3 * 10**6, 4 * 10**6], "seconds": [1.0, 2.0, 3.0]}
    kept = {"quantity": "relative_l2", "parameters": 9, "clients": 2}
    return {**key, **kept, "error": error, "ranks": ranks, **rest}


def printed(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What the program prints."""
    assert main(["ranks", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_every_schedule_of_the_study_is_there() -> None:
    assert method("full", 901).rank == parse("901")
    assert method("full", 901).sketch == "svd"
    for schedule in {*SCHEDULES, *LARGER} - {"full"}:
        assert method(schedule, 901).rank == parse(schedule)


def test_an_entry_is_the_history_of_its_run_to_four_digits() -> None:
    (found,) = EXPERIMENT.entries("sine2", "bytes:100000", 1, 3)
    assert tuple(found) == FIELDS
    history = run(problems.load("sine2"), method("bytes:100000", 901), 3, 1).history
    assert found["ranks"] == [list(line.ranks) for line in history]
    for k, line in enumerate(history):
        assert found["error"][k] == pytest.approx(line.mse**0.5, rel=1e-3)
        both = line.bytes_up + line.bytes_down
        assert found["bytes"][k] == pytest.approx(both, rel=1e-3)
    assert (found["parameters"], found["clients"]) == (901, 2)
    assert 0 < found["seconds"][0] < found["seconds"][2]
    assert json.loads(json.dumps(found)) == found


def test_the_cost_of_an_error_is_that_of_the_first_round_which_has_it() -> None:
    run_ = entry("cutoff", 0, [1.0, 1e-7, 1e-5])
    assert megabytes(run_, 1e-6) == 3.0
    assert megabytes(run_, 1e-10) == inf
    assert floats(run_) == 2 * 10 + 1  # mean rank 2, p + 1 numbers a row, the loss


def test_a_row_is_the_median_over_the_starts() -> None:
    entries = [
        entry("full", 0, [1.0, 1e-7, 1e-12]),
        *(entry("cutoff", seed, [1.0, 1e-5, 10.0**-seed]) for seed in (5, 6, 13)),
    ]
    rows = table(entries, "poisson1d").markdown().splitlines()[2:]
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    assert cells[0][:6] == [
        "`cutoff`",
        "3",
        "1.0e-06",
        "1.0e-05",
        "4 (2 of 3)",
        "4 (1 of 3)",
    ]
    assert cells[1][:6] == ["`full`", "1", "1.0e-12", "1.0e-12", "3", "4"]
    assert [row[6:] for row in cells] == [["4", "2.0", "1 / 4", "3"]] * 2


def test_finished_runs_are_kept_and_printed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "ranks.json"
    path.write_text(json.dumps([entry("cutoff", 0, [1.0, 1e-7, 1e-12])]))
    before = path.read_bytes()
    case = ("problem=poisson1d", "schedule=cutoff", "seed=0", "rounds=3")
    wanted = ("--out", path, "--only", *case)
    output = printed(capsys, *wanted)
    assert "| `cutoff` | 1 | 1.0e-12 |" in output
    assert printed(capsys, *wanted, "--table") == output
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("schedule=all",), "'all' is no rank schedule; give"),
        (("problem=sine3",), "'sine3'"),
        (("seed=0", "--table"), "There is no record"),
    ],
)
def test_what_it_cannot_run_is_refused_in_a_line(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as caught:
        printed(capsys, "--only", *arguments, "--out", tmp_path / "ranks.json")
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
