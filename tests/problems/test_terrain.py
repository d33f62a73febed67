"""Measured elevations: where they are, whose, and what nobody trains on."""

import json
from importlib.util import find_spec

import pytest
import torch
from experiments._record import DATA
from matplotlib.cbook import get_sample_data

from fedsciml import problems
from fedsciml.problems import terrain


def test_elevations_are_those_of_matplotlib_in_their_places() -> None:
    points, elevation = terrain.measured()
    data = get_sample_data("jacksboro_fault_dem.npz")
    assert torch.equal(elevation, torch.from_numpy(data["elevation"]).double().ravel())
    # 0.0008333 degrees of 111.2 km; to the east, times the cosine of 36.59 degrees.
    first, second, below = points[0], points[1], points[403]
    assert float(second[0] - first[0]) == pytest.approx(0.00744, rel=1e-3)
    assert float(second[1] - first[1]) == 0
    assert float(first[1] - below[1]) == pytest.approx(0.00927, rel=1e-3)
    assert points.mean(0).abs().max() < 1e-12
    assert points.amax(0).tolist() == pytest.approx([1.496, 1.589], abs=1e-3)


def test_nobody_trains_on_a_test_point() -> None:
    problem = problems.load("terrain", measurements=5000)
    trained = problem.pooled().rows[0].points
    assert problem.test_points is not None
    every = torch.cat([trained, problem.test_points])
    assert len(trained) == 5000
    assert len(every.unique(dim=0)) == 9000


def test_targets_are_metres_above_500_in_units_of_150() -> None:
    rows = problems.load("terrain").pooled().rows[0]
    assert rows.target is not None
    metres = rows.target * 150 + 500
    assert float((metres - metres.round()).abs().max()) < 1e-10
    assert 236 <= float(metres.min()) < float(metres.max()) <= 1076


def test_measurements_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match=r"138632 elevations.*1 to 134632, got 134633"):
        problems.load("terrain", measurements=134633)


def test_missing_sample_data_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terrain, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="come with matplotlib; install"):
        terrain.measured()
    monkeypatch.setattr(terrain, "find_spec", lambda name: find_spec("json"))
    with pytest.raises(FileNotFoundError, match="came without its sample data"):
        terrain.measured()


def test_the_record_has_all_methods() -> None:
    entries = json.loads((DATA / "terrain.json").read_text())
    assert {e["method"] for e in entries} == {"fipa", "fedavg", "gauss_newton", "alone"}
    assert max(e["rounds"] for e in entries) == 300
