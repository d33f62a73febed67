"""Clients that are missing, or unequal: records, pages, what is measured."""

import json
from functools import partial

import pytest
import torch
from experiments import _absent, outliers, stragglers
from experiments._record import ROOT
from experiments.outliers import CULPRIT, Case
from torch import Generator

import problems
from fedsciml import methods
from fedsciml.federation.inprocess import InProcess
from fedsciml.federation.participation import Rules

TINY = Case("allen_cahn", points=0.05, clients=10, rounds=1)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problems, "load", partial(problems.load, width=6))


def test_honest_clients_of_the_record_are_far_below_the_bound() -> None:
    entries = json.loads(outliers.EXPERIMENT.path.read_text())
    found = [Case(*(e[key] for key in Case._fields)) for e in entries]
    assert sorted(found) == sorted(outliers.CASES)
    honest = [e for e in entries if e["scale"] == 1]
    assert not any(e["refused"] for e in honest)
    ratio, _, _ = outliers.largest(honest, "ratios")
    assert ratio < Rules.outlier / 4
    back = [e for e in honest if e["missing"] != "nobody"]
    assert outliers.largest(back, "alone")[0] > 1e3 * Rules.outlier
    for table in outliers.tables(entries):
        assert table.markdown() in (ROOT / table.page).read_text()


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_the_ratio_measured_is_the_largest_norm_over_the_lower_median(
    narrow: None, scale: float
) -> None:
    entry = outliers.measure(*TINY._replace(scale=scale))
    problem, method = problems.load("allen_cahn", points=0.05, clients=10), "fipa"
    clients = InProcess().connect(problem, methods.load(method))
    theta = problem.network.init(Generator().manual_seed(0), torch.float64)
    opening = next(clients.method.round(clients.method.start(theta, 0)))
    answers = clients.exchange(opening).values()
    for key in ("factor", "target"):
        norms = [float(torch.linalg.vector_norm(getattr(a, key))) for a in answers]
        norms[CULPRIT] *= scale
        expected = max(norms) / sorted(norms)[4]
        assert entry["ratios"][key] == pytest.approx(expected, rel=5e-4)  # 4 digits
    assert entry["refused"] == (scale > 1)


def test_clients_that_are_missing_are_no_refusals(narrow: None) -> None:
    case = TINY._replace(clients=5, missing="two for ten rounds", rounds=8)
    (entry,) = outliers.EXPERIMENT.entries(*case)
    assert (entry["refused"], entry["rounds"]) == (0, 8)


def test_the_study_s_record_is_within_the_bounds_stated() -> None:
    entries = json.loads(stragglers.EXPERIMENT.path.read_text())
    key = stragglers.EXPERIMENT.key
    found = [tuple(e[name] for name in key) for e in entries]
    assert sorted(found) == sorted(stragglers.CASES)
    for e in entries:
        assert e["error"] <= stragglers.BOUNDS.get(e["scenario"], 2.0)
        if e["scenario"] == "at random" and not e["staleness"]:
            assert max(e["errors"][34:]) < 1e-5
    table = stragglers.table(entries)
    assert table.markdown() in (ROOT / table.page).read_text()


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
