"""``fedsciml demo``: what it trains, tells and leaves, on a few points."""

import os
import re
import time
from functools import partial
from pathlib import Path

import pytest

from fedsciml import command, problems
from fedsciml.command import demo
from fedsciml.federation import Result


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In an empty folder, one problem with a twentieth of its points."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo.problems, "load", partial(problems.load, points=0.05))
    monkeypatch.setattr(demo, "tuned", lambda *_: {"tau": 5})
    (*_, last) = demo.PROBLEMS.items()
    monkeypatch.setattr(demo, "PROBLEMS", dict([last]))


@pytest.mark.reported
def test_the_demo_tells_of_all_by_one_error_and_leaves_pictures_and_reports(
    few: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["demo", "--rounds", "3", "--times", "2"]) == 0
    told = capsys.readouterr()
    lines = re.findall(r"^  (.+?) +error (\S+) +(\d+) rounds +(\S+) s", told.out, re.M)
    assert [title for title, *_ in lines] == [m.title for m in demo.METHODS]
    assert all(title in told.out for title in demo.PROBLEMS.values())
    assert "FedAvg had 2 times the seconds that FIPA took" in told.out
    out = Path("runs/demo-1")
    assert {p.name for p in out.glob("*.png")} == {
        f"{name}-{what}.png"
        for name in demo.PROBLEMS
        for what in ("convergence", "solution")
    }
    assert len(list(out.glob("*/report.html"))) == len(lines) == 3
    assert "fedsciml show runs/demo-1/" in told.out
    assert "_" not in re.sub(r"runs\S+", "", told.out)  # titles in words


def test_fedavg_ends_with_the_first_round_beyond_its_seconds(
    few: None, tmp_path: Path
) -> None:
    results: dict[str, Result] = demo.compared("allen_cahn", tmp_path, 2, 3.0)
    fipa, fedavg, central = results.values()
    limit = 3 * demo.seconds(fipa)
    before = [line.seconds for line in fedavg.history[:-1]]
    assert all(seconds < limit for seconds in before)
    assert demo.seconds(fedavg) >= limit
    assert len(fipa.history) == len(central.history) == 2


def test_the_demo_runs_with_the_options_that_the_search_found() -> None:
    (method,) = [m for m in demo.METHODS if m.tuned]
    assert all(demo.tuned(name, method.name) for name in demo.PROBLEMS)


@pytest.mark.slow
def test_the_demo_takes_a_minute_and_fipa_is_as_good_as_all_points_in_one_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    begun = time.process_time()
    assert command.main(["demo"]) == 0
    # Measured: 48 s of one core; a minute is what is promised where it is quiet.
    assert time.process_time() - begun < 60 * (1 + os.getloadavg()[0])
