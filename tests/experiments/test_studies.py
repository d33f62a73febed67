"""The scripts that study clients, costs and solutions: what their records hold."""

import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import solutions
import torch
from experiments import clients, cost
from experiments._rounds import Rounds
from experiments._runner import completed

import problems
from fedsciml import methods, run
from fedsciml.collocation import heterogeneity
from fedsciml.federation.loop import Result
from fedsciml.federation.record import Record
from fedsciml.methods import Method
from fedsciml.problem import Problem

CASE = ("problem", "method", "clients", "partition", "seed", "rounds")


def started(
    monkeypatch: pytest.MonkeyPatch, script: ModuleType, *arguments: object
) -> None:
    """Run a script's main in this process."""
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    monkeypatch.setattr(sys, "argv", [script.__name__, *map(str, arguments)])
    script.main()


# --- Clients --------------------------------------------------------------------------


def test_an_entry_is_what_the_run_reports() -> None:
    (entry,) = clients.EXPERIMENTS[0].entries("sine4", "fipa", 4, "pieces:2", 1, 3)
    assert set(entry) == {
        *CASE,
        *("heterogeneity", "options", "quantity", "error", "errors", "bytes"),
        *("mean_rank", "seconds", "threads"),
    }
    assert json.loads(json.dumps(entry)) == entry
    problem = problems.load("sine4", clients=4, partition="pieces:2")
    history = run(problem, methods.load("fipa"), 3, 1).history
    roots = [line.mse**0.5 for line in history]
    assert entry["errors"] == pytest.approx(roots, rel=5e-4)  # 4 digits are kept
    assert (entry["error"], entry["quantity"]) == (entry["errors"][-1], "mse")
    ranks = [rank for line in history for rank in line.ranks]
    assert entry["mean_rank"] == pytest.approx(sum(ranks) / len(ranks), rel=5e-4)
    assert entry["bytes"] == history[-1].bytes_up + history[-1].bytes_down


def test_strips_of_a_uniform_interval_are_a_third_apart_and_a_bit() -> None:
    # Strips i and j of M are |i - j| / M apart, on average (M + 1) / 3M. 400 points
    # in a strip: the mean of each is off by 1 / 4 / sqrt(12 * 400) = 0.004.
    entry = clients.measure("sine4", "fipa", 4, "strips", 0, 1)
    assert entry["heterogeneity"] == pytest.approx(5 / 12, abs=0.008)


def test_boundary_points_do_not_count_as_heterogeneity() -> None:
    entry = clients.measure("allen_cahn", "fipa", 4, "pieces:64", 0, 1)
    shards = problems.load("allen_cahn", clients=4, partition="pieces:64").shards()
    inside, ends = ([s.rows[t].points for s in shards] for t in (0, 1))
    assert entry["heterogeneity"] == pytest.approx(heterogeneity(inside), rel=5e-4)
    assert [len(x) for x in ends] == [20, 0, 0, 20]


def test_fedavg_has_its_tuned_options_as_far_as_the_epochs_reach(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    best = {"tau": 3, "learning_rate": 0.01, "keep_state": True}
    monkeypatch.setattr(clients, "options_of", lambda *names: dict(best))
    monkeypatch.setattr(clients, "EPOCHS", 12)
    taus = {}
    for m in (2, 4):
        entry = clients.measure("sine4", "fedavg", m, "strips", 0, 2)
        assert {**entry["options"], "tau": 3} == best
        assert entry["mean_rank"] is None
        taus[m] = entry["options"]["tau"]
    assert taus == {2: 3, 4: 1}  # 12 // (2 * 4)


def test_the_centralised_line_does_not_depend_on_the_clients() -> None:
    one, four = (
        clients.measure("sine4", "gauss_newton", m, kind, 0, 2)
        for m, kind in [(1, "strips"), (4, "pieces:8")]
    )
    assert one["errors"] == four["errors"]
    assert (one["bytes"], one["heterogeneity"]) == (0, 0.0)


def test_the_sweeps_are_problems_that_can_be_made() -> None:
    experiment = clients.EXPERIMENTS[0]
    assert experiment.key == CASE
    asked = experiment.wanted([])
    assert len(set(asked)) == len(asked)
    for name, number, partition in {(case[0], *case[2:4]) for case in asked}:
        made = problems.load(name, clients=number, partition=partition)
        assert made.clients == number
        assert all(len(shard.rows[0].points) for shard in made.shards())


# --- Cost -----------------------------------------------------------------------------


def test_the_parts_of_a_round_are_within_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "REPEATS", 1)  # medians do not add up
    entries = cost.EXPERIMENTS[0].entries("sine4", "p", 5)
    for entry in entries:
        assert set(entry) == {
            *("problem", "axis", "value", "p", "n", "M", "part", "seconds")
        }
        # 1-5-5-5-1: 10 + 30 + 30 + 6 parameters.
        assert (entry["p"], entry["n"], entry["M"]) == (76, 1600, 4)
    seconds = {entry["part"]: entry["seconds"] for entry in entries}
    assert set(seconds) == {*cost.PHASES, cost.CENTRAL}
    assert all(value > 0 for value in seconds.values())
    inside = [seconds[part] for part in cost.PHASES if part != "total"]
    assert sum(inside) <= 1.001 * seconds["total"]  # 4 digits are kept


@pytest.mark.parametrize(
    ("axis", "value", "largest", "there"),
    [("M", 1, 1e12, True), ("M", 2, 1e12, False), ("n", 0.1, 0.0, False)],
)
def test_the_centralised_step_is_there_once_and_where_it_is_feasible(
    monkeypatch: pytest.MonkeyPatch,
    axis: str,
    value: float,
    largest: float,
    there: bool,
) -> None:
    monkeypatch.setattr(cost, "WARM", 1)
    monkeypatch.setattr(cost, "REPEATS", 1)
    monkeypatch.setattr(cost, "LARGEST", largest)
    found = [e["part"] for e in cost.measure("sine2", axis, value)]
    assert (cost.CENTRAL in found) == there


def test_rounds_ask_no_clock_but_their_own() -> None:
    problem = problems.load("sine2", points=0.1)
    fipa, cpu = methods.load("fipa"), torch.device("cpu")
    seconds, info = Rounds(problem, fipa, cpu, clock=lambda: 0.0).one()
    assert set(seconds.values()) == {0.0}
    assert info.ranks


def test_only_costs_that_are_missing_are_measured(tmp_path: Path) -> None:
    asked: list[tuple[str, str, float]] = []

    def note(name: str, axis: str, value: float) -> list[dict[str, object]]:
        asked.append((name, axis, value))
        return [{"part": part} for part in ("probe", "total")]

    wanted = [("sine2", "M", 1), ("sine2", "M", 2), ("sine2", "n", 1)]
    experiment = replace(cost.EXPERIMENTS[0], measure=note, cases=wanted)
    path = tmp_path / "new" / "cost.json"
    completed(experiment, path)
    assert asked == wanted
    whole = path.read_text()
    kept = [entry for entry in json.loads(whole) if entry["value"] != 2]
    path.write_text(json.dumps(kept))
    asked.clear()
    completed(experiment, path)
    assert asked == [("sine2", "M", 2)]
    assert path.read_text() == whole
    completed(experiment, path, fresh=True)
    assert len(asked) == 4
    assert path.read_text() == whole


# --- Solutions ------------------------------------------------------------------------


@pytest.fixture
def drawn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., dict[str, np.ndarray[Any, Any]]]:
    """Runs solutions.py on few points and gives the content of its record."""
    few = partial(problems.load, points=0.02)
    monkeypatch.setattr(solutions.problems, "load", few)
    monkeypatch.setattr(solutions, "options_of", lambda problem, method: {})

    def draw(*arguments: object) -> dict[str, np.ndarray[Any, Any]]:
        path = tmp_path / "new" / "solutions.npz"
        places = ("--work", tmp_path / "runs", "--out", path)
        started(monkeypatch, solutions, *arguments, *places)
        return solutions.read(path)

    return draw


SMALL = ("--problems", "poisson2d", "--rounds", "2", "--methods")


def test_maps_are_the_exact_solution_and_what_the_model_is_off(
    drawn: Callable[..., dict[str, np.ndarray[Any, Any]]],
) -> None:
    content = drawn(*SMALL, "fipa")
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
        *("problem", "method", "seed", "rounds", "options", "quantity", "error")
    }
    assert (line["method"], line["seed"], line["rounds"]) == ("fipa", 0, 2)
    assert line["error"] == pytest.approx(result.errors()[0], rel=5e-4)


def test_small_differences_keep_their_digits(tmp_path: Path) -> None:
    path = tmp_path / "solutions.npz"
    values = torch.full((solutions.SIDE**2,), 1.23456789e-13, dtype=torch.float64)
    solutions.write(path, {"a/fipa": solutions._map(values)})
    found = solutions.read(path)["a/fipa"].astype(np.float64)
    assert np.all(np.abs(found / 1.23456789e-13 - 1) < 2.0**-24)
    first = path.read_bytes()
    solutions.write(path, solutions.read(path))
    assert path.read_bytes() == first


def test_a_plane_of_the_cube_goes_through_its_centre() -> None:
    points = solutions.plane(problems.load("poisson5d", points=0.01))
    assert points.shape == (61 * 61, 5)
    assert torch.all(points[:, 2:] == 0.5)
    assert points[61 * 20 + 45, :2].tolist() == pytest.approx([20 / 60, 45 / 60])


def test_a_problem_without_a_plane_is_refused() -> None:
    with pytest.raises(ValueError, match=r"2 coordinates .* 'sine2' has not"):
        solutions.plane(problems.load("sine2"))


def test_finished_models_survive_an_interruption_and_are_not_trained_again(
    drawn: Callable[..., dict[str, np.ndarray[Any, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    original = solutions.run

    def interrupted(
        problem: Problem, method: Method, rounds: int, seed: int, **options: object
    ) -> Result:
        asked.append(method.name)
        if method.name == "gauss_newton" and len(asked) == 2:
            raise KeyboardInterrupt
        return original(problem, method, rounds, seed, **options)

    monkeypatch.setattr(solutions, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        drawn(*SMALL, "fipa", "gauss_newton")
    content = drawn(*SMALL, "fipa", "gauss_newton")
    assert asked == ["fipa", "gauss_newton", "gauss_newton"]
    assert len(content["runs"]) == 2
    assert {"poisson2d/fipa", "poisson2d/gauss_newton"} <= set(content)


def test_a_model_of_a_run_directory_takes_the_place_of_an_older_one(
    drawn: Callable[..., dict[str, np.ndarray[Any, Any]]], tmp_path: Path
) -> None:
    older = drawn(*SMALL, "fipa")
    problem = problems.load("poisson2d", points=0.02)
    run(problem, methods.load("fipa"), 3, 5, out=tmp_path / "mine")
    content = drawn("--runs", tmp_path / "mine")
    (text,) = content["runs"]
    line = json.loads(text)
    assert (line["seed"], line["rounds"]) == (5, 3)
    assert not np.array_equal(content["poisson2d/fipa"], older["poisson2d/fipa"])
    assert np.array_equal(content["poisson2d/reference"], older["poisson2d/reference"])


def test_a_run_directory_without_a_round_is_refused(tmp_path: Path) -> None:
    Record.create(tmp_path / "new", {"problem": "poisson2d"})
    with pytest.raises(ValueError, match="has not made a round yet"):
        solutions.with_run({}, tmp_path / "new")
