"""Experiment ``tuning``: what it runs next, and that its record is complete."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import pytest
from _common import TUNED
from experiments._command import main
from experiments._experiment import token
from experiments._record import Entry
from experiments._runner import completed
from experiments.tuning import (
    EXPERIMENT,
    FAR,
    KEY,
    LADDERS,
    LBFGS,
    NEAR,
    OWN,
    PLANS,
    WIDEN,
    Options,
    beyond,
    cases,
    expected,
    grids,
    locally,
    measure,
    ranked,
    unpack,
)

from fedsciml import methods
from fedsciml.command.tuning import BEST, tuned

LINES = [name for name, plan in PLANS.items() if plan.few < plan.rounds]
"""The problems in one dimension."""


@pytest.fixture(scope="module")
def record() -> list[Entry]:
    """The search in the repository."""
    return unpack(EXPERIMENT.path.read_bytes())


@pytest.mark.parametrize("problem", LINES)
def test_every_stage_of_the_search_was_run(record: list[Entry], problem: str) -> None:
    done = {token(tuple(entry[name] for name in KEY)) for entry in record}
    assert {token(case) for stage in grids(record, problem) for case in stage} <= done
    for method in TUNED:
        methods.load(method, **tuned(problem, method))


def test_what_was_tried_and_is_best_was_measured(record: list[Entry]) -> None:
    best = json.loads(EXPERIMENT.path.read_text())["best"]
    for problem in LINES:
        for method in TUNED:
            errors = ranked(record, problem, method, PLANS[problem].rounds)
            assert best[problem][method] == errors[0][1]
            assert errors[0][0] == min(error for error, _ in errors)


def test_the_package_holds_what_the_search_found_best() -> None:
    """Copied by ``make tune``."""
    best = json.loads(EXPERIMENT.path.read_text())["best"]
    assert json.loads(BEST.read_text()) == best


@pytest.mark.parametrize("method", OWN)
def test_what_is_tried_are_options_of_the_method(method: str) -> None:
    for own in OWN[method]:
        methods.load(method, **own)


def tried(problem: str, method: str, options: Options, rounds: int) -> Entry:
    """A run with an error of its own, so that no two of them tie."""
    error = crc32(json.dumps([problem, method, options, rounds]).encode())
    return {"diverged": False, "median_relative_l2": float(error)}


def test_a_search_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "new" / "tuning.json"
    asked = []

    def note(*case: object) -> Entry:
        if len(asked) == 30:
            raise KeyboardInterrupt
        asked.append(case)
        return tried(*case)

    experiment = replace(EXPERIMENT, measure=note)
    with pytest.raises(KeyboardInterrupt):
        completed(experiment, path, {"problem": ["sine2"]})
    assert len(unpack(path.read_bytes())) == 30
    experiment = replace(EXPERIMENT, measure=tried)
    entries = completed(experiment, path, {"problem": ["sine2"]})
    assert unpack(path.read_bytes()) == sorted(entries, key=json.dumps)
    wanted = {token(case) for case in cases(entries) if case[0] == "sine2"}
    done = {token(tuple(entry[name] for name in KEY)) for entry in entries}
    assert wanted == done
    assert len(done) == len(entries) > 30
    whole = {e["method"] for e in entries if e["rounds"] == PLANS["sine2"].rounds}
    assert whole == set(TUNED)


def test_sigterm_ends_a_search_that_then_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tuning.json"

    def ended(*case: object) -> Entry:
        if path.exists():
            os.kill(os.getpid(), signal.SIGTERM)
        return tried(*case)

    known = {"tuning": replace(EXPERIMENT, measure=ended)}
    monkeypatch.setattr("experiments._command.experiments", lambda: known)
    words = ["tuning", "--out", str(path), "--only", "problem=sine2", "--jobs", "1"]
    assert main(words) == 143
    assert "Interrupted; the same command goes on." in capsys.readouterr().err
    assert len(unpack(path.read_bytes())) == 1


GRID: list[Options] = [
    {"learning_rate": rate, "tau": tau} for rate in (1e-3, 3e-3) for tau in (20, 100)
]


def test_the_best_within_its_grid_is_not_widened() -> None:
    wide = [*GRID, {"learning_rate": 1e-2, "tau": 5}, {"learning_rate": 1, "tau": 300}]
    assert beyond(wide[1], wide, GRID, 1000) == [{"learning_rate": 3e-4, "tau": 100}]
    assert beyond({"learning_rate": 3e-3, "tau": 100}, wide, GRID, 1000) == []


def test_an_edge_is_widened_until_it_is_inside_or_at_a_most() -> None:
    best: Options = {"learning_rate": 3e-3, "tau": 100, "keep_state": True}
    found = beyond(best, GRID, GRID, 1000)
    assert found == [{**best, "learning_rate": 1e-2}, {**best, "tau": 300}]
    assert beyond(best, GRID, GRID, 100) == found[:1]
    tried, ladder = list(GRID), LADDERS["learning_rate"]
    for rate in ladder[ladder.index(3e-3) :]:
        best = {"learning_rate": rate, "tau": 100}
        tried.append(best)
        rates = [o["learning_rate"] for o in beyond(best, tried, GRID, 100)]
        if not rates:
            break
    assert rate == ladder[ladder.index(3e-3) + WIDEN]


def test_another_kind_of_option_has_edges_of_its_own() -> None:
    mixed = [*GRID, *LBFGS]
    assert beyond(LBFGS[-1], mixed, mixed, 1000) == [{"local": "lbfgs", "tau": 300}]
    assert beyond(LBFGS[1], mixed, mixed, 1000) == []


def test_grids_stand_on_ladders() -> None:
    for plan in PLANS.values():
        assert set(plan.rates) <= set(LADDERS["learning_rate"])
        assert set(plan.taus) <= set(LADDERS["tau"])
        assert set(plan.proximals) <= set(LADDERS["proximal"])
    for options in (o for own in OWN.values() for o in own):
        for key in options.keys() & LADDERS.keys() - {"tau"}:
            assert options[key] in LADDERS[key]


def test_what_is_found_beyond_a_grid_undoes_no_stage_before(
    record: list[Entry],
) -> None:
    before = list(grids(record, "bratu"))
    better = {"learning_rate": 3e-2, "tau": 300, "keep_state": True}
    case = ("bratu", "fedavg", better, PLANS["bratu"].rounds)
    entry = dict(zip(KEY, case, strict=True)) | tried(*case)
    found = [*record, entry | {"median_relative_l2": 0.0}]
    assert list(grids(found, "bratu")) == before


def test_the_cheapest_runs_come_first(record: list[Entry]) -> None:
    for entries in ([], record):
        seconds = list(map(expected(entries), cases(entries)))
        assert seconds == sorted(seconds)


def test_a_run_ends_at_its_limit_and_is_judged_by_what_is_sought(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = replace(PLANS["heat_inverse"], limit=1e-9)
    monkeypatch.setitem(PLANS, "heat_inverse", plan)
    found = measure("heat_inverse", "fedavg", {"tau": 1}, 3)
    assert (found["ran"], found["limit"], found["error"]) == (1, 1e-9, "nu")
    assert 0 < found["median_nu"] < float("inf")


def test_the_kin_start_from_fedavg_s_learning_rates() -> None:
    few = PLANS["sine2"].few
    entries = []
    for tau, rate, error in ((20, 1e-3, 0.2), (20, 1e-2, 0.1), (100, 3e-3, 0.3)):
        case = ("sine2", "fedavg", {"learning_rate": rate, "tau": tau}, few)
        found = tried(*case) | {"median_relative_l2": error}
        entries.append(dict(zip(KEY, case, strict=True)) | found)
    assert locally(entries, "sine2", NEAR) == {"learning_rate": 1e-2, "tau": 20}
    assert locally(entries, "sine2", FAR) == {"learning_rate": 3e-3, "tau": 100}
