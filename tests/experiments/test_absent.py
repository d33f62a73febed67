"""Clients that are missing: records, pages, what is measured."""

import json
from functools import partial

import pytest
from experiments import _absent, stragglers

from fedsciml import problems


def test_the_study_s_record_is_within_the_bounds_stated() -> None:
    entries = json.loads(stragglers.EXPERIMENT.path.read_text())
    key = stragglers.EXPERIMENT.key
    found = [tuple(e[name] for name in key) for e in entries]
    assert sorted(found) == sorted(stragglers.CASES)
    for e in entries:
        assert e["error"] <= stragglers.BOUNDS.get(e["scenario"], 2.0)
        if e["scenario"] == "at random" and not e["staleness"]:
            assert max(e["errors"][34:]) < 1e-5


def test_the_study_leaves_out_who_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = partial(problems.load, points=0.05, width=6)
    for module in (_absent, stragglers):
        monkeypatch.setattr(module, "ROUNDS", 8)
    monkeypatch.setattr(problems, "load", tiny)
    drawn = stragglers.away("at random", 1)
    at_random = sum(number in of for of in drawn.values() for number in range(1, 9))
    for scenario, missing in {
        "nobody": 0,
        "two for ten rounds": 6,
        "an end for ever": 3,
        "at random": at_random,
    }.items():
        entry = stragglers.measure("allen_cahn", scenario, 0, 1)
        assert entry["missing"] == missing
        assert entry["error"] == entry["errors"][-1]
    assert at_random > 0
