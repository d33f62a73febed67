"""Maps of solutions and errors: what their record holds."""

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from experiments import solutions
from experiments._command import main

import problems
from fedsciml import methods, run
from fedsciml.federation.loop import Result
from fedsciml.methods import Method
from fedsciml.problem import Problem

EXPERIMENT = solutions.EXPERIMENT


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where a record of models of few points and rounds is kept."""
    few = partial(problems.load, points=0.02)
    monkeypatch.setattr(solutions.problems, "load", few)
    monkeypatch.setattr(solutions, "options_of", lambda problem, method: {})
    monkeypatch.setattr(solutions, "ROUNDS", 2)
    return tmp_path / "new" / "solutions.npz"


def drawn(record: Path, *methods: str) -> dict[str, np.ndarray[Any, Any]]:
    """The content of the record, when it has these models."""
    only = ["problem=poisson2d", *(f"method={name}" for name in methods)]
    if main(["solutions", "--only", *only, "--out", str(record)]):
        raise KeyboardInterrupt
    with np.load(record) as content:
        return dict(content)


def test_maps_are_the_exact_solution_and_what_the_model_is_off(record: Path) -> None:
    content = drawn(record, "fipa")
    assert set(content) == {"poisson2d/fipa", "poisson2d/reference", "runs"}
    problem = problems.load("poisson2d", points=0.02)
    result = run(problem, methods.load("fipa"), 2, 0)
    for i, j in [(0, 0), (60, 0), (7, 41)]:
        x, y = i / 60, j / 60
        exact = math.sin(math.pi * x) + math.sin(math.pi * y)
        model = result.solution(torch.tensor([[x, y]], dtype=torch.float64)).value
        found = {key: content[f"poisson2d/{key}"] for key in ("reference", "fipa")}
        assert {a.dtype for a in found.values()} == {np.dtype(np.float32)}
        assert {a.shape for a in found.values()} == {(61, 61)}
        assert found["reference"][i, j] == pytest.approx(exact, rel=1e-7, abs=1e-15)
        # float32 of a difference that is taken in float64.
        assert found["fipa"][i, j] == pytest.approx(float(model) - exact, rel=1e-7)
    (text,) = content["runs"]
    line = json.loads(text)
    assert set(line) == {
        *("problem", "method", "seed", "rounds", "options", "quantity", "error", "made")
    }
    assert (line["method"], line["seed"], line["rounds"]) == ("fipa", 0, 2)
    assert line["error"] == pytest.approx(result.errors()[0], rel=5e-4)


def test_small_differences_keep_their_digits(tmp_path: Path) -> None:
    values = np.full((solutions.SIDE, solutions.SIDE), 1.23456789e-13, np.float32)
    entry = {"problem": "a", "method": "fipa", "reference": values, "off": values}
    first = solutions.pack([entry])
    (again,) = solutions.unpack(first)
    found = again["off"].astype(np.float64)
    assert np.all(np.abs(found / 1.23456789e-13 - 1) < 2.0**-24)
    assert solutions.pack([again]) == first


def test_the_committed_record_is_packed_as_it_is() -> None:
    content = EXPERIMENT.path.read_bytes()
    entries = solutions.unpack(content)
    assert {(e["problem"], e["method"]) for e in entries} == set(EXPERIMENT.cases)
    again = solutions.unpack(solutions.pack(entries))
    for one, other in zip(entries, again, strict=True):
        for key, value in one.items():
            assert np.array_equal(other[key], value)


def test_a_plane_of_the_cube_goes_through_its_centre() -> None:
    points = solutions.plane(problems.load("poisson5d", points=0.01))
    assert points.shape == (61 * 61, 5)
    assert torch.all(points[:, 2:] == 0.5)
    assert points[61 * 20 + 45, :2].tolist() == pytest.approx([20 / 60, 45 / 60])


def test_a_problem_without_a_plane_is_refused() -> None:
    with pytest.raises(ValueError, match=r"2 coordinates .* 'sine2' has not"):
        EXPERIMENT.refuse(("sine2", "fipa"))


def test_finished_models_survive_an_interruption_and_are_not_trained_again(
    record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    original = solutions.run

    def interrupted(problem: Problem, method: Method, rounds: int) -> Result:
        asked.append(method.name)
        if method.name == "gauss_newton" and len(asked) == 2:
            raise KeyboardInterrupt
        return original(problem, method, rounds)

    monkeypatch.setattr(solutions, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        drawn(record, "fipa", "gauss_newton")
    content = drawn(record, "fipa", "gauss_newton")
    assert asked == ["fipa", "gauss_newton", "gauss_newton"]
    assert len(content["runs"]) == 2
    assert {"poisson2d/fipa", "poisson2d/gauss_newton"} <= set(content)
