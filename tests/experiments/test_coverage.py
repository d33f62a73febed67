"""The studies of unknown numbers: what their records hold, and what they show."""

import json

import numpy as np
import pytest
from experiments import inverse
from scipy.stats import norm

from fedsciml import methods, problems, run
from fedsciml.analysis.laplace import laplace

INVERSE, COVERAGE = inverse.EXPERIMENTS


def entries(scale: float) -> list[dict[str, float]]:
    """Normal errors, at equal steps of probability, and a standard deviation."""
    errors = norm.ppf((np.arange(1000) + 0.5) / 1000)
    return [{"error": e, "deviation": scale, "freedom": 1e6} for e in errors]


@pytest.mark.parametrize(("scale", "share"), [(1.0, 0.95), (2.0, 0.9999), (0.5, 0.673)])
def test_coverage_of_normal_errors_is_that_of_the_normal_distribution(
    scale: float, share: float
) -> None:
    found = inverse.coverage(entries(scale), "deviation")
    assert found.share == pytest.approx(share, abs=1.1e-3)  # one of 1000
    assert found.low < found.share <= found.high <= 1
    # The steps of probability leave out 0.6 % of the variance, in the tails.
    assert found.ratio == pytest.approx(1 / scale, rel=4e-3)


def test_a_draw_is_a_run_from_the_clean_solution_and_tells_how_far_it_moved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = problems.load("heat_inverse", measurements=60, points=100, noise=0.01)
    straight = methods.load("fipa", policy="natural:curves=false")
    start = run(problem, straight, 2).theta
    monkeypatch.setattr(inverse, "clean", lambda name: start)
    monkeypatch.setattr(problems, "load", lambda name, **given: problem)
    monkeypatch.setattr(inverse, "DRAWN", 3)
    entry = inverse.drawn("heat_inverse", 0.01, 5)
    assert json.loads(json.dumps(entry)) == entry
    result = run(problem, inverse.Warm(begin=start), 3)
    known = laplace(problem, result.theta)
    assert entry["error"] == pytest.approx(result.unknowns()["nu"] / 0.1 - 1)
    assert entry["deviation"] == pytest.approx(known.deviation["nu"] / 0.1)
    assert entry["deviation"] <= entry["bound"]
    # The number goes from 0.165 to 0.074; in truth it is 0.1.
    before = run(problem, inverse.Warm(begin=start), 2).unknowns()["nu"]
    assert before > 0.1 > result.unknowns()["nu"]
    moved = abs(result.unknowns()["nu"] - before) / 0.1
    assert entry["moved"] == pytest.approx(moved, rel=1e-9)


def test_intervals_of_the_record_cover_as_often_as_they_say() -> None:
    draws = json.loads(COVERAGE.path.read_text())
    assert len(draws) == inverse.DRAWS
    found = inverse.coverage(draws, "deviation")
    assert found.low <= inverse.LEVEL <= found.high
    # What the last rounds moved would not take a number into its interval or out.
    for e in draws:
        half = inverse.quantile(e) * e["deviation"]
        assert abs(abs(e["error"]) - half) > e["moved"]


def test_an_entry_is_what_the_run_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inverse, "ROUNDS", 2)
    key = ("heat_inverse", 0.01, 1, 2.0, None, "fedavg", 20, 1e-3)
    (entry,) = INVERSE.entries(*key)
    assert json.loads(json.dumps(entry)) == entry
    assert tuple(entry[name] for name in INVERSE.key) == key
    problem = problems.load("heat_inverse", noise=0.01, seed=1, weight=2.0)
    options = {"tau": 20, "learning_rate": 1e-3, "keep_state": True}
    result = run(problem, methods.load("fedavg", **options), 2)
    assert entry["found"] == result.unknowns()["nu"]
    assert entry["error"] == pytest.approx(abs(entry["found"] - 0.1) / 0.1, rel=5e-4)
    assert entry["errors"][-1] == entry["error"]


@pytest.mark.parametrize(("noise", "most"), [(0.0, 1e-3), (0.01, 0.02)])
def test_unknowns_of_the_record_are_found_from_four_sites(
    noise: float, most: float
) -> None:
    every = json.loads(INVERSE.path.read_text())
    found = [e for e in every if (e["method"], e["noise"]) == ("fipa", noise)]
    assert {e["problem"] for e in found} == {"heat_inverse", "burgers_inverse"}
    assert max(e["error"] for e in found) < most
