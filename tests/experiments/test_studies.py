"""Studies of clients and costs: what their records hold."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from experiments import clients, cost
from experiments._rounds import Rounds
from experiments._runner import completed

from fedsciml import methods, problems, run
from fedsciml.collocation import heterogeneity

CASE = ("problem", "method", "clients", "partition", "seed", "rounds")


# --- Clients --------------------------------------------------------------------------


def test_an_entry_is_what_the_run_reports() -> None:
    (entry,) = clients.EXPERIMENT.entries("sine4", "fipa", 4, "pieces:2", 1, 3)
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
    experiment = clients.EXPERIMENT
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
    entries = cost.EXPERIMENT.entries("sine4", "p", 5)
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
    experiment = replace(cost.EXPERIMENT, measure=note, cases=wanted)
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
