"""Trajectories, the theorem's schedule and fit, spectra."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import theorem
import torch
from cases import draw, given
from experiments import spectra, trajectory
from experiments._command import main
from experiments._trajectories import KEY, LEAST, descended, started
from experiments._trajectories import trajectory as followed
from experiments.trajectory import FULL, Inexact, federated
from scipy.linalg import svdvals
from theorem import HORIZONS, Scheduled, fitted

from fedsciml import problems
from fedsciml.collocation import explicit
from fedsciml.federation.inprocess import InProcess
from fedsciml.linalg.ranks import Published
from fedsciml.linalg.sketch import Sketch
from fedsciml.methods import Local
from fedsciml.methods._fipa import Fipa, Sketched
from fedsciml.network import MLP
from fedsciml.policies.fixed import Fixed
from fedsciml.problem import Problem, Term
from fedsciml.residual import System

STEP = Fixed(0.5, 1e-3, 0.0)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Problem]:
    """Problems with a tenth of their points, for the programs too."""
    load = problems.load

    def loaded(name: str, **options: object) -> Problem:
        return load(name, **{**options, "points": 0.1})

    monkeypatch.setattr(problems, "load", loaded)
    return loaded


def sent(problem: Problem, method: Fipa) -> list[Sketched]:
    """The answers of the first exchange."""
    opening = next(method.round(method.start(started(problem), 0)))
    answers = InProcess().connect(problem, method).exchange(opening)
    return list(answers.values())


@pytest.mark.parametrize("epochs", [1, 2, 37])
def test_descended_is_gradient_descent_step_by_step(epochs: int) -> None:
    eigenvalues = torch.tensor([2.0, 0.3, 1e-3, 1e-9, 0.0], dtype=torch.float64)
    target = torch.linspace(1, 2, 5, dtype=torch.float64)
    root, step = eigenvalues.sqrt(), torch.zeros(5, dtype=torch.float64)
    for _ in range(epochs):
        step -= 0.5 * root * (root * step - target)
    found = target * descended(0.5 * eigenvalues, epochs)
    torch.testing.assert_close(found, root * step, rtol=1e-12, atol=1e-14)


def test_many_epochs_of_linearised_descent_are_the_exact_step(small: Callable) -> None:
    problem = small("sine2")
    exact = sent(problem, Fipa(STEP))
    local = Local("sgd", 10**17)
    for upload, plain in zip(
        sent(problem, Inexact(STEP, training=local)), exact, strict=True
    ):
        s = torch.linalg.vector_norm(plain.factor, dim=1)
        # (1 - lambda / lambda_1)^tau is nothing where lambda > 1e-14 lambda_1.
        kept = s > 1e-7 * s[0]
        torch.testing.assert_close(upload.desired[kept], plain.target[kept])


def test_linearised_adam_is_adam_on_the_sketch_s_loss() -> None:
    factor, target, share = draw(4, 9), draw(4, 1, 1).squeeze(1), 0.3
    step = torch.nn.Parameter(torch.zeros(9, dtype=torch.float64))
    optimiser = torch.optim.Adam([step], 1e-2)
    for _ in range(20):
        optimiser.zero_grad()
        (0.5 / share * (factor @ step - target).square().sum()).backward()
        optimiser.step()
    found = trajectory.adam(factor, target, share, Local("adam", 20, 1e-2))
    torch.testing.assert_close(found, step.detach())


def test_one_step_of_descent_is_the_same_on_the_true_and_the_linearised_loss(
    small: Callable,
) -> None:
    problem, local = small("allen_cahn"), Local("sgd", 1)
    pair = (
        sent(problem, Inexact(STEP, training=local, linearised=linearised))
        for linearised in (True, False)
    )
    for one, other in zip(*pair, strict=True):
        # The sketch leaves out singular values at rounding level.
        torch.testing.assert_close(one.desired, other.desired, rtol=1e-8, atol=1e-10)


def test_full_rank_stays_on_the_gauss_newton_trajectory_and_rank_two_does_not(
    small: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trajectory, "ROUNDS", 5)
    full, two = (
        trajectory.measure("sine4", "rank", rank, "exact steps") for rank in (FULL, 2)
    )
    for name in ("theta", "function"):
        assert max(full[name]) < 1e-11  # measured 5e-14
        assert max(two[name]) > 1e-4
    assert full["loss"] == full["loss_gn"] == two["loss_gn"] != two["loss"]
    assert {len(full[k]) for k in ("theta", "function", "loss", "loss_gn")} == {5}


def test_a_trajectory_ends_where_the_loss_is_not_finite(small: Callable) -> None:
    problem = small("sine2")
    wild = Local("adam", 2, 1e200)
    method = Inexact(STEP, training=wild, linearised=False)
    points, losses = followed(problem, method, 6)
    assert len(points) == len(losses) < 6
    assert all(map(math.isfinite, losses))


@pytest.mark.parametrize(
    ("sweep", "value", "kind"),
    [
        ("tau", 3, "adam, true"),
        ("tau", 3, "adam, linearised"),
        ("clients", 4, "rank 5"),
        ("heterogeneity", "pieces:2", FULL),
        ("heterogeneity", "pieces:2", "fedavg, exact steps"),
    ],
)
def test_every_sweep_gives_an_entry(
    sweep: str,
    value: float | str,
    kind: str,
    small: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trajectory, "ROUNDS", 2)
    assert ("sine4", sweep, value, kind) in trajectory.CASES
    (entry,) = trajectory.EXPERIMENT.entries("sine4", sweep, value, kind)
    assert tuple(entry[name] for name in KEY) == ("sine4", sweep, value, kind)
    assert entry["heterogeneity"] > 0
    assert (max(entry["theta"]) < 1e-11) == (kind == FULL)
    json.dumps(entry)


def test_fedavg_of_clients_with_the_same_rows_is_gauss_newton() -> None:
    x = draw(12, 1)
    y = torch.sin(3 * x[:, 0])
    term = Term("data", given, [x, x], [y, y])
    problem = Problem("twins", MLP((1, 6, 5, 1)), [term], explicit(2))
    fedavg = federated(STEP, "heterogeneity", "pieces:2", "fedavg, exact steps")
    found, loss = followed(problem, fedavg, 4)
    exact, expected = followed(problem, Fipa(STEP, sketch="svd", pooled=True), 4)
    assert max(trajectory.relative(found, exact)) < 1e-11
    assert loss == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("wanted", "relative", "limit", "tau"),
    [
        (1.0, 0.5, 200, 1),
        (0.25, 0.5, 200, 2),
        (0.24, 0.5, 200, 3),
        (1e-9, 1e-3, 200, 200),
    ],
)
def test_epochs_are_the_least_that_do(
    wanted: float, relative: float, limit: int, tau: int
) -> None:
    assert theorem.epochs(wanted, relative, limit) == tau


def test_the_schedule_s_local_error_is_what_it_promises() -> None:
    problem = theorem.contradicting("affine")
    method = Scheduled(STEP, Published(1e-9), "svd", c_prime=1e-3, limit=10**9)
    for upload, shard in zip(sent(problem, method), problem.shards(), strict=True):
        theta = started(problem)
        gradient = System(problem, shard).linearise(theta).gradient.norm()
        left = 1 - upload.desired / upload.target
        assert float(left.max()) <= 1e-3 / float(gradient) * (1 + 1e-9)
        assert len(left) == problem.network.size


def test_the_slope_of_one_over_k_is_minus_one() -> None:
    exact = fitted(HORIZONS, [3 / k for k in HORIZONS])
    assert tuple(exact) == (-1.0, -1.0, -1.0)
    noisy = fitted(HORIZONS, [3 / k * (1 + 0.1 * (-1) ** k) for k in HORIZONS])
    assert noisy.slope_low < -1 < noisy.slope_high
    assert noisy.slope_low > -1.1


def test_the_interval_of_the_slope_is_student_s() -> None:
    # Slope 1/2 and standard error sqrt(1/12), by hand; one degree of freedom: 12.706.
    found = fitted([1, math.e, math.e**2], [1, math.e, math.e])
    half = 12.7062 / 12**0.5
    assert found.slope == pytest.approx(0.5, rel=1e-3)
    assert found.slope_high == pytest.approx(0.5 + half, rel=1e-3)


def test_the_theorem_holds_where_its_assumptions_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(theorem, "ROUNDS", 64)
    monkeypatch.setattr(theorem, "HORIZONS", [16, 23, 32, 45, 64])
    monkeypatch.setattr(theorem, "FITTED", 16)
    free, clipped, *_ = theorem.SCHEDULES
    entry, stuck = (theorem.measured(*case) for case in (free, clipped))
    assert entry["holds"]
    assert not stuck["holds"]
    assert entry["slope"] < -0.9
    assert abs(stuck["slope"]) < 0.1
    # The centralised step halves every distance on a linear model.
    assert entry["assumptions"]["contraction"] == pytest.approx(0.5, abs=1e-3)
    assert entry["assumptions"]["lipschitz"] < 1e-12
    assert set(entry) >= {"K", "gap", "slope", "slope_low", "slope_high"}


def test_spectra_are_those_of_the_jacobians(
    small: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(spectra, "ROUNDS", (0, 2))
    out = tmp_path / "new" / "spectra.json"
    arguments = ["spectra", "--only", "problem=allen_cahn", "--out", str(out)]
    main(arguments)
    entries = json.loads(out.read_text())
    assert [(e["round"], e["client"]) for e in entries] == [
        (k, m) for k in (0, 2) for m in (-1, 0, 1)
    ]
    problem = small("allen_cahn")
    theta = started(problem)
    shards = [problem.pooled(), *problem.shards()]
    for entry, shard in zip(entries, shards, strict=False):
        jacobian = System(problem, shard).linearise(theta).jacobian()
        expected, found = svdvals(jacobian.numpy()), entry["singular_values"]
        assert found[:10] == pytest.approx(expected[:10], rel=1e-3)
        assert entry["above"] == sum(expected > entry["cutoff"])
    (own,) = (e["angles"] for e in entries if (e["round"], e["client"]) == (0, 0))
    assert [len(own[rank]) for rank in ("5", "10", "20")] == [5, 10, 20]
    assert 0 <= min(own["5"]) <= max(own["5"]) <= math.pi / 2
    assert all(not e["angles"] for e in entries if e["client"] != 0)
    before = out.stat().st_mtime_ns
    main(arguments)
    assert out.stat().st_mtime_ns == before


def test_the_angle_of_a_turned_direction_is_that_of_the_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spectra, "RANKS", (1, 2, 3))
    factor = torch.diag(torch.tensor([3.0, 2.0], dtype=torch.float64))
    factor = torch.cat([factor, torch.zeros_like(factor)], dim=1)
    turned = factor.clone()
    turned[0] = 3 * torch.tensor([math.cos(0.3), 0, math.sin(0.3), 0])
    pair = (Sketch(f, torch.zeros(2, dtype=torch.float64)) for f in (factor, turned))
    found = spectra.angles(*pair)
    assert list(found) == ["1", "2"]
    assert found["1"] == pytest.approx([0.3])
    assert found["2"] == pytest.approx([0.3, 0], abs=1e-7)


def test_rounding_is_left_out_of_a_spectrum() -> None:
    values = [10.0, 1e-4, 1e-8, 1e-14]
    shared = {"singular_values": values, "cutoff": 1e-7}
    runs = [{"client": client, **shared} for client in (spectra.POOLED, 0)]
    pooled, client, cutoff = spectra.spectrum(runs)
    assert list(pooled.y) == list(client.y) == values[:3]
    assert (cutoff.x, cutoff.y) == ([1, 3], [1e-7] * 2)


def test_the_gap_of_a_sweep_is_the_last_one_and_a_word_is_a_level() -> None:
    runs = [
        {"sweep": "rank", "value": value, "problem": "p", "function": [1.0, gap]}
        for value, gap in ((20, 1e-9), ("full", 0.0), (5, 1e-2))
    ]
    ranks, full = trajectory.against(runs, "problem", ["p"])
    assert (list(ranks.x), list(ranks.y)) == ([5, 20], [1e-2, 1e-9])
    assert (list(full.x), list(full.y)) == ([5, 20], [LEAST] * 2)
