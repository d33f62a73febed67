"""The study of how unequal uploads are: its record, its page, what it measures."""

import json
from functools import partial

import pytest
import study_outliers
import torch
from study_outliers import CULPRIT, Case
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
    entries = json.loads(study_outliers.RECORD.read_text())
    found = [Case(*(e[key] for key in Case._fields)) for e in entries]
    assert sorted(found) == sorted(study_outliers.CASES)
    honest = [e for e in entries if e["scale"] == 1]
    assert not any(e["refused"] for e in honest)
    ratio, _, _ = study_outliers.largest(honest, "ratios")
    assert ratio < Rules.outlier / 4
    back = [e for e in honest if e["missing"] != "nobody"]
    assert study_outliers.largest(back, "alone")[0] > 1e3 * Rules.outlier
    page = study_outliers.DOCS.read_text()
    assert study_outliers.ratios(entries).markdown() in page
    assert study_outliers.scaled(entries).markdown() in page


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_the_ratio_measured_is_the_largest_norm_over_the_lower_median(
    narrow: None, scale: float
) -> None:
    entry = study_outliers.measured(*TINY._replace(scale=scale))
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
    entry = study_outliers.measured(*case)
    assert (entry["refused"], entry["rounds"]) == (0, 8)
