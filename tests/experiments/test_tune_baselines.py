"""``scripts/tune_baselines.py``: what it runs next, and that its record is complete."""

import json
from pathlib import Path
from zlib import crc32

import pytest
import tune_baselines
from _common import TUNED, TUNING, tuned
from tune_baselines import OWN, PLANS, Job, Search

from fedsciml import methods

KIN = [name for name, plan in PLANS.items() if plan.kin]
"""The problems in one dimension."""


@pytest.fixture(scope="module")
def record() -> Search:
    """The search in the repository."""
    return Search(TUNING)


@pytest.mark.parametrize("problem", KIN)
def test_every_stage_of_the_search_was_run(record: Search, problem: str) -> None:
    assert not [
        job for stage in record.stages(problem) for job in record.missing(stage)
    ]
    for method in TUNED:
        methods.load(method, **tuned(problem, method))


def test_what_was_tried_and_is_best_was_measured(record: Search) -> None:
    best = json.loads(TUNING.read_text())["best"]
    for problem in KIN:
        for method in TUNED:
            errors = record.errors(problem, method, PLANS[problem].rounds)
            assert best[problem][method] == errors[0][1]
            assert errors[0][0] == min(error for error, _ in errors)


@pytest.mark.parametrize("method", OWN)
def test_what_is_tried_are_options_of_the_method(method: str) -> None:
    for own in OWN[method]:
        methods.load(method, **own)


def tried(job: Job) -> dict[str, object]:
    """A run with an error of its own, so that no two of them tie."""
    error = crc32(json.dumps(vars(job)).encode())
    return {**vars(job), "diverged": False, "median_relative_l2": float(error)}


def test_a_search_goes_on_where_it_stopped(tmp_path: Path) -> None:
    search = Search(tmp_path / "new" / "tuning.json")
    jobs = []
    for stage in search.stages("sine2"):
        missing = search.missing(stage)
        jobs += missing
        search.lines += [tried(job) for job in missing]
    search.save()
    again = Search(search.path)
    assert len(again.lines) == len(jobs) > 0
    assert not [job for stage in again.stages("sine2") for job in again.missing(stage)]
    ran_whole = {job.method for job in jobs if job.rounds == PLANS["sine2"].rounds}
    assert ran_whole == set(TUNED)


def test_the_kin_start_from_fedavg_s_learning_rates(tmp_path: Path) -> None:
    search = Search(tmp_path / "tuning.json")
    plan = PLANS["sine2"]
    for tau, rate, error in ((20, 1e-3, 0.2), (20, 1e-2, 0.1), (100, 3e-3, 0.3)):
        options = {"learning_rate": rate, "tau": tau}
        line = tried(Job("sine2", "fedavg", options, plan.few))
        search.lines.append({**line, "median_relative_l2": error})
    near = search.locally("sine2", tune_baselines.NEAR)
    assert near == {"learning_rate": 1e-2, "tau": 20}
    far = search.locally("sine2", tune_baselines.FAR)
    assert far == {"learning_rate": 3e-3, "tau": 100}
