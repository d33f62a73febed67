"""Levenberg-Marquardt with Nielsen's damping and geodesic acceleration."""

from collections.abc import Callable
from dataclasses import replace
from math import inf, nan

import pytest
import torch
from cases import CASES, theta
from reference import relative
from tables import EPS, LOSS, SPECTRUM, chosen, predicted, proposed
from torch import Tensor
from torch.func import jacrev, jvp

from fedsciml.federation.inprocess import InProcess
from fedsciml.linalg.ranks import Fixed as Rank
from fedsciml.linalg.sketch import from_jacobian
from fedsciml.linalg.solve import Spectrum, spectrum
from fedsciml.methods import conclude
from fedsciml.methods._fipa import Fipa
from fedsciml.policies import Policy, Probed, S
from fedsciml.policies.levenberg_marquardt import NEAR, STRAIGHT, LevenbergMarquardt
from fedsciml.residual import System

Residual = Callable[[Tensor], Tensor]


def rosenbrock(x: Tensor) -> Tensor:
    """Its valley bends."""
    return torch.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])


def exponentials(x: Tensor) -> Tensor:
    """a exp(b t) + c exp(d t) against data that no such sum fits, at 7 times."""
    t = torch.linspace(0, 2, 7, dtype=x.dtype)
    return x[0] * torch.exp(x[1] * t) + x[2] * torch.exp(x[3] * t) - torch.cos(2 * t)


PROBLEMS: list[tuple[Residual, list[float]]] = [
    (rosenbrock, [-1.2, 1.0]),
    (exponentials, [1.0, -1.0, -0.5, 0.5]),
]


def driven(
    policy: Policy[S], residual: Residual, start: Tensor, rounds: int
) -> tuple[list[Tensor], list[float], int]:
    """The points accepted, their dampings and the number of candidates refused."""
    x, state = start, policy.start(EPS)
    points, dampings, refused = [], [], 0
    for _ in range(rounds):
        r = residual(x)
        problem = spectrum(from_jacobian(jacrev(residual)(x), r))
        candidates = policy.propose(problem, state)
        full = torch.tensor(candidates.lengths, dtype=x.dtype).view(1, -1, 1)
        there = x + full * candidates.steps(problem.basis)[:, None]
        values = torch.stack([torch.stack([residual(z) for z in row]) for row in there])
        losses = values.square().sum(-1) / 2
        # U^T r = s^-1 V J^T r for J = U s V^T; the rows of V are ``basis``.
        jacobian = jacrev(residual)(x)
        left = (jacobian @ problem.basis.mT) / problem.s
        probed = Probed(losses, -values @ left)
        loss = float(r.square().sum() / 2)
        choice, state = policy.choose(problem, loss, candidates, probed, state)
        refused += len(losses) if choice is None else choice.step
        if choice is not None:
            x = there[choice.step, choice.length]
            if choice.correction is not None:
                x = x + choice.correction @ problem.basis
            points.append(x)
            dampings.append(candidates.dampings[choice.step])
    return points, dampings, refused


def nielsen(
    residual: Residual, x: Tensor, damping: float, accepted: int
) -> tuple[list[Tensor], list[float]]:
    """IMM-REP-1999-05 as it stands there: one trial after the other, dense matrices."""

    def at(x: Tensor) -> tuple[Tensor, Tensor, float]:
        r, j = residual(x), jacrev(residual)(x)
        return j.mT @ j, j.mT @ r, float(r @ r) / 2

    a, g, loss = at(x)
    mu, nu = damping * float(torch.linalg.eigvalsh(a)[-1]), 2.0
    points: list[Tensor] = []
    dampings = []
    while len(points) < accepted:
        h = torch.linalg.solve(a + mu * torch.eye(len(x)).to(x), -g)
        new = float(residual(x + h).square().sum()) / 2
        ratio = (loss - new) / (float(h @ (mu * h - g)) / 2)
        if ratio > 0:
            x = x + h
            points.append(x)
            dampings.append(mu)
            a, g, loss = at(x)
            mu, nu = mu * max(1 / 3, 1 - (2 * ratio - 1) ** 3), 2.0
        else:
            mu, nu = mu * nu, 2 * nu
    return points, dampings


@pytest.mark.parametrize("tries", [1, 2, 8])
@pytest.mark.parametrize("damping", [1e-8, 1e-3, 1.0])
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p[0].__name__)
def test_rounds_of_tries_are_the_sequential_method(
    problem: tuple[Residual, list[float]], damping: float, tries: int
) -> None:
    residual, start = problem[0], torch.tensor(problem[1]).double()
    policy = LevenbergMarquardt(damping=damping, tries=tries)
    found, dampings, refused = driven(policy, residual, start, 12)
    expected, wanted = nielsen(residual, start, damping, len(found))
    if tries > 1:
        assert len(found) > 8
    if damping == 1e-8:
        assert refused > 0
    # The reference squares the condition number. Measured at most 2e-10.
    for a, b in zip(found, expected, strict=True):
        assert relative(a, b) < 1e-7
    assert dampings == pytest.approx(wanted, rel=1e-6, abs=0)


def test_the_first_candidate_that_lowers_the_loss_is_taken() -> None:
    policy = LevenbergMarquardt(damping=1e-4, tries=4)
    candidates = proposed(policy)
    # mu, then mu nu, mu nu (2 nu), ...; mu is relative to s_1^2 = 100.
    assert candidates.dampings == pytest.approx(
        [1e-2, 2e-2, 8e-2, 64e-2], rel=1e-14, abs=0
    )
    assert candidates.lengths == [1.0]
    for i, mu in enumerate(candidates.dampings):
        assert torch.equal(candidates.coordinates[i], SPECTRUM.inverse(mu))
    for losses, taken in [
        ([9.0, 1.0, 1.0, 1.0], 0),
        ([10.0, 9.9, 1.0, 1.0], 1),
        ([inf, nan, 11.0, 9.9], 3),
    ]:
        choice, state = chosen(policy, [[x] for x in losses])
        assert choice is not None
        assert (choice.step, choice.length, choice.correction) == (taken, 0, None)
        assert state.nu == 2.0


@pytest.mark.parametrize("ratio", [1e-3, 0.25, 0.5, 0.9, 1.0, 1.3, 1e200])
def test_the_gain_ratio_sets_the_next_damping(ratio: float) -> None:
    policy = LevenbergMarquardt(damping=1e-4, tries=1)
    expected = float(predicted(proposed(policy)))
    loss = 10.0 if ratio < 100 else 2e200
    losses = [[loss - ratio * expected]]
    _, state = chosen(policy, losses, loss=loss)
    rho = min(ratio, 1.0)
    factor = max(1 / 3, 1 - (2 * rho - 1) ** 3)
    assert state.mu == pytest.approx(1e-2 * factor, rel=1e-9, abs=0)
    assert proposed(policy, state).dampings[0] == state.mu


def test_the_gain_of_a_step_to_another_target_is_held_to_the_model() -> None:
    # Local training aims elsewhere: here at half of the exact step.
    policy = LevenbergMarquardt(damping=1e-4, tries=1)
    state = policy.start(EPS)
    candidates = policy.propose(SPECTRUM._replace(c=SPECTRUM.c / 2), state)
    expected = float(predicted(candidates))
    probed = Probed(
        torch.tensor([[LOSS - 0.9 * expected]], dtype=torch.float64),
        torch.zeros(1, 1, 3).double(),
    )
    _, after = policy.choose(SPECTRUM, LOSS, candidates, probed, state)
    assert after.mu == pytest.approx(1e-2 * (1 - 0.8**3), rel=1e-9, abs=0)


def test_refused_rounds_raise_the_damping_as_refused_trials_do() -> None:
    policy = LevenbergMarquardt(damping=1e-4, tries=2)
    state, seen = policy.start(EPS), []
    for _ in range(3):
        seen += proposed(policy, state).dampings
        choice, state = chosen(policy, [[11.0], [nan]], state)
        assert choice is None
    mu, nu, expected = 1e-2, 2, []
    for _ in range(6):
        expected.append(mu)
        mu, nu = mu * nu, 2 * nu
    assert seen == pytest.approx(expected, rel=1e-14, abs=0)


def test_the_damping_stays_above_the_floor_and_sketches_reach_below_it() -> None:
    policy = LevenbergMarquardt(damping=1e-4, tries=1, floor=1e-3)
    state = policy.start(EPS)
    assert policy.reach(state) == pytest.approx(0.1 * 1e-2, rel=1e-14, abs=0)
    for _ in range(9):
        promise = float(predicted(proposed(policy, state)))
        _, state = chosen(policy, [[10 - promise]], state)
    assert state.mu == pytest.approx((1e-3 * 10) ** 2, rel=1e-14, abs=0)
    assert policy.reach(state) == pytest.approx(0.1 * 1e-3, rel=1e-14, abs=0)
    single = replace(policy, floor=1e-11).start(2.0**-23)
    assert single.floor == 50 * 2.0**-23


def dense_bend(residual: Residual, x: Tensor, d: Tensor, mu: float) -> Tensor:
    """a = -(J^T J + mu)^-1 J^T r''[D, D] by automatic differentiation."""

    def slope(z: Tensor) -> Tensor:
        return jvp(residual, (z,), (d,))[1]

    second = jvp(slope, (x,), (d,))[1]
    j = jacrev(residual)(x)
    ridge = mu * torch.eye(len(x)).to(x)
    return torch.linalg.solve(j.mT @ j + ridge, -j.mT @ second)


def one_choice(
    policy: LevenbergMarquardt, residual: Residual, x: Tensor
) -> tuple[Tensor | None, Tensor, Spectrum, float]:
    """The correction, the step, the problem and mu of one round with one try."""
    r, j = residual(x), jacrev(residual)(x)
    problem, state = spectrum(from_jacobian(j, r)), policy.start(EPS)
    candidates = policy.propose(problem, state)
    assert candidates.lengths == [1.0, NEAR]
    (step,) = candidates.steps(problem.basis)
    values = torch.stack([residual(x + t * step) for t in (1.0, NEAR)])
    losses = values.square().sum(-1) / 2
    left = (j @ problem.basis.mT) / problem.s
    probed = Probed(losses[None], -(values @ left)[None])
    loss = float(r @ r) / 2
    choice, _ = policy.choose(problem, loss, candidates, probed, state)
    correction = None if choice is None else choice.correction
    return correction, step, problem, candidates.dampings[0]


def quadratic(x: Tensor) -> Tensor:
    """A residual whose second derivative is constant."""
    q = torch.linspace(-1, 1, 45, dtype=x.dtype).sin().view(5, 3, 3)
    a = torch.linspace(1, 2, 15, dtype=x.dtype).cos().view(5, 3)
    return 3 + a @ x + 0.1 * torch.einsum("nij,i,j->n", q, x, x)


def test_the_geodesic_correction_of_a_quadratic_residual_is_exact() -> None:
    x = torch.tensor([0.5, -0.3, 0.2]).double()
    policy = LevenbergMarquardt(damping=1e-1, tries=1, acceleration=True)
    correction, step, problem, mu = one_choice(policy, quadratic, x)
    assert correction is not None
    expected = dense_bend(quadratic, x, step, mu) / 2
    assert relative(correction @ problem.basis, expected) < 1e-11  # measured 1e-13
    assert float(correction.norm()) > 1e-3 * float(step.norm())


def test_the_second_derivative_is_found_to_first_order_in_the_fraction() -> None:
    x = torch.tensor([1.0, -1.0, -0.5, 0.5]).double()
    policy = LevenbergMarquardt(damping=1e-1, tries=1, acceleration=True)
    correction, step, problem, mu = one_choice(policy, exponentials, x)
    assert correction is not None

    def bend(z: Tensor) -> Tensor:  # -J^T r'' with J and A of x, along D
        def slope(y: Tensor) -> Tensor:
            return jvp(exponentials, (y,), (step,))[1]

        return jvp(slope, (z,), (step,))[1]

    j = jacrev(exponentials)(x)
    third = jvp(bend, (x,), (step,))[1]
    ridge = mu * torch.eye(len(x)).to(x)
    next_order = torch.linalg.solve(j.mT @ j + ridge, -j.mT @ third) * NEAR / 3
    exact = dense_bend(exponentials, x, step, mu)
    error = 2 * correction @ problem.basis - exact
    assert relative(2 * correction @ problem.basis, exact) < 0.1
    assert float((error - next_order).norm()) < 0.1 * float(next_order.norm())


def test_a_step_that_bends_too_much_is_refused() -> None:
    policy = LevenbergMarquardt(damping=1e-4, tries=2, acceleration=True)
    candidates = proposed(policy)
    targets = torch.zeros(2, 2, 3).double()
    for factor, taken in [(0.99 * STRAIGHT, 0), (1.01 * STRAIGHT, 1)]:
        for i, (mu, step) in enumerate(
            zip(candidates.dampings, candidates.coordinates, strict=True)
        ):
            # A second derivative w with -A w = factor D for the first, 0 for the other.
            w = -(factor if i == 0 else 0.0) * step / SPECTRUM.inverse(mu)
            linear = SPECTRUM.c - NEAR * SPECTRUM.s * step
            targets[i, 1] = linear - NEAR**2 / 2 * w
        choice, state = chosen(policy, torch.full((2, 2), 9.0), targets=targets)
        assert choice is not None
        assert choice.step == taken
        bend = factor * candidates.coordinates[0] if taken == 0 else torch.zeros(3)
        assert choice.correction is not None
        torch.testing.assert_close(
            choice.correction, bend.double() / 2, rtol=1e-9, atol=1e-12
        )
        assert state.nu == 2.0


def test_targets_that_are_not_finite_refuse_a_step() -> None:
    policy = LevenbergMarquardt(tries=1, acceleration=True)
    targets = torch.full((1, 2, 3), nan).double()
    choice, _ = chosen(policy, [[9.0, 9.0]], targets=targets)
    assert choice is None


@pytest.mark.parametrize("name", ["scalar", "system"])
def test_fipa_takes_the_step_and_half_its_bend(name: str) -> None:
    problem = CASES[name]()
    start = theta(problem)
    policy = LevenbergMarquardt(damping=1e-2, acceleration=True)
    method = Fipa(policy, Rank(999), "svd")
    clients = InProcess().connect(problem, method)
    state, info = conclude(method.round(method.start(start, 0)), clients.exchange)
    assert info.step == 1.0
    assert torch.equal(state.theta, state.at)
    whole = System(problem, problem.pooled())
    linear = whole.linearise(start)
    j, r = linear.jacobian(), linear.residual
    ridge = info.damping * torch.eye(len(start)).double()
    step = torch.linalg.solve(j.mT @ j + ridge, -j.mT @ r)
    second = 2 / NEAR**2 * (whole.residual(start + NEAR * step) - r - NEAR * j @ step)
    bend = torch.linalg.solve(j.mT @ j + ridge, -j.mT @ second)
    assert float(bend.norm()) > 1e-3 * float(step.norm())
    assert relative(state.theta - start, step + bend / 2) < 1e-8
