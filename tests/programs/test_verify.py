"""``fedsciml verify`` and ``scripts/verify_gn.py``: what they compare and answer."""

import json
import sys
from pathlib import Path

import pytest
import torch
import verify_gn
from cases import CASES
from reference import from_gramian, relative, stacked

from fedsciml import command, run
from fedsciml.command import verification
from fedsciml.command.verification import DAMPINGS, METHODS, Check, Place
from fedsciml.linalg.sketch import Sketch, merge
from fedsciml.methods import _fipa as fipa
from fedsciml.methods.fedavg import FedAvg
from fedsciml.residual import System


@pytest.fixture(scope="module")
def at() -> Place:
    """A small problem at its start."""
    return Place(CASES["scalar"](), 0)


def ended(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The program's exit status, in this process and at the start alone."""
    monkeypatch.setattr(verification, "ROUNDS", (0,))
    monkeypatch.setattr(sys, "argv", ["verify_gn.py", "--jobs", "1", *arguments])
    return verify_gn.main()


def top(at: Place) -> float:
    """s_1 of J."""
    return float(torch.linalg.matrix_norm(at.jacobian, 2))


def test_the_central_step_is_that_of_numpy_s_least_squares(at: Place) -> None:
    mus = [damping * top(at) ** 2 for damping in DAMPINGS[:3]]
    for mu, step in zip(mus, at.central(mus), strict=True):
        assert relative(step, stacked(at.jacobian, at.residual, mu)) < 1e-11


def test_the_central_step_of_more_rows_than_parameters_is_the_same() -> None:
    tall = Place(CASES["scalar"](), 0)
    tall.jacobian = tall.jacobian.repeat(4, 1)
    tall.residual = tall.residual.repeat(4)
    assert len(tall.jacobian) > tall.jacobian.shape[1]
    mu = 1e-4 * top(tall) ** 2
    (step,) = tall.central([mu])
    assert relative(step, stacked(tall.jacobian, tall.residual, mu)) < 1e-11


@pytest.mark.parametrize("damping", [1e-2, 1e-6])
def test_the_step_is_no_better_known_than_the_bound_says(
    at: Place, damping: float
) -> None:
    mu, size = damping * top(at) ** 2, 1e-9
    (step,) = at.central([mu])
    bound = at.uncertainty(step, mu, top(at)) * size / verification.EPS
    generator = torch.Generator().manual_seed(0)
    changes = []
    for _ in range(20):
        noise = torch.randn(at.jacobian.shape, generator=generator, dtype=torch.float64)
        near = Place(at.problem, 0)
        near.jacobian += size * top(at) * noise / torch.linalg.matrix_norm(noise, 2)
        changes.append(relative(near.central([mu])[0], step))
    assert 1e-3 * bound < max(changes) < bound


def test_the_published_step_is_that_of_dense_gramians(at: Place) -> None:
    _, uploads = verification.federated(at)
    sent = verification.published(uploads, 1e-6)
    mu = 1e-2 * top(at) ** 2
    gramian, right = mu * torch.eye(len(at.theta)).double(), 0.0
    for shard in at.problem.shards():
        linear = System(at.problem, shard).linearise(at.theta)
        j = linear.jacobian()
        gramian += j.mT @ j
        local = torch.linalg.pinv(j, rtol=1e-6) @ -linear.residual
        right = right + j.mT @ (j @ local)
    expected = torch.linalg.solve(gramian, right)
    assert relative(verification.paper_step(sent, mu, 0.0), expected) < 1e-10


def test_the_mean_step_is_fedavg_s(at: Place) -> None:
    _, uploads = verification.federated(at)
    mu, expected = 0.1, torch.zeros_like(at.theta)
    for shard in at.problem.shards():
        linear = System(at.problem, shard).linearise(at.theta)
        local = from_gramian(linear.jacobian(), linear.residual, shard.share * mu)
        expected += shard.share * local
    assert relative(verification.averaged(at, uploads, mu), expected) < 1e-10
    end = run(at.problem, FedAvg(verification.ADAM), 1).theta
    assert torch.equal(at.theta + verification.adam_mean(at), end)


def test_every_gap_of_a_problem_keeps_to_its_tolerance(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "checks.json"
    assert ended(monkeypatch, "--problems", "sine2", "--json", str(file)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len({line.count("|") for line in lines if "|" in line}) == 1
    assert sum(line.startswith("| sine2, ") for line in lines) == 2
    checks = json.loads(file.read_text())
    assert lines[-1] == f"{len(checks)} checks, 0 missed."
    assert all(set(c) == {"check", "value", "tolerance", "ok"} for c in checks)
    bounded = [c["check"] for c in checks if c["tolerance"]]
    for method in METHODS:
        for damping in DAMPINGS:
            assert f"sine2, round 0: {method}, mu = {damping:g}" in bounded
        assert f"sine2, round 0: {method}, normal equations" in bounded
    for check in checks:
        assert check["ok"] == (check["value"] <= (check["tolerance"] or torch.inf))
    fedavg = next(c for c in checks if "fedavg, mu" in c["check"])
    assert fedavg["value"] > 0.1


def test_a_broken_merge_is_found_and_told_by_the_exit_status(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def slightly_off(sketches: list[Sketch]) -> Sketch:
        first, *others = sketches
        return merge([first._replace(factor=first.factor * (1 + 1e-8)), *others])

    monkeypatch.setattr(fipa, "gather", slightly_off)
    assert ended(monkeypatch, "--problems", "sine2", "--json", "-") == 1
    checks = json.loads(capsys.readouterr().out)
    missed = [c["check"] for c in checks if not c["ok"]]
    assert "sine2, round 0: fipa, mu = 1e-06" in missed
    assert any("run()" in check for check in missed)


def test_what_is_not_a_number_keeps_to_no_tolerance() -> None:
    check = Check("somewhere", "fipa", float("nan"), 1.0)
    assert not check.ok
    assert verification.entry(check)["value"] is None
    assert "| nan > 1e+00 |" in verification.table(
        [check._replace(column="fipa, normal equations")]
    )


def test_the_command_tells_the_largest_gap_of_each_place_and_what_is_allowed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "ROUNDS", (0,))
    assert command.main(["verify", "sine2", "--jobs", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["FIPA", "at", "most", "average", "checks"]
    assert lines[1].startswith("sine2, round 0 ")
    gap, most, average = map(float, lines[1].split()[3:6])
    assert gap <= most
    assert average > 0.1
    assert lines[-1].endswith("checks, 0 missed.")


def test_the_command_says_of_which_problems_it_knows_the_step(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command.main(["verify", "nothing"]) == 2
    assert "'nothing' by; choose one of sine2" in capsys.readouterr().err


def test_what_is_missed_is_marked() -> None:
    check = Check("here", "fipa, mu = 0.01", 2e-10, 1e-10)
    assert "1 of 2 missed" in verification.brief([check, check._replace(value=0.0)])


@pytest.mark.slow
def test_steps_with_personal_parameters_are_compared_with_the_joint_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command.main(["verify", "gauges", "grunfeld", "--jobs", "1"]) == 0
    printed = capsys.readouterr().out
    assert "gauges, round 20" in printed
    assert "0 missed" in printed
