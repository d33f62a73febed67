"""Theorem 1 of FIPA, link by link; see ``experiments.theorem`` for what it says."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import Any, NamedTuple

import torch
from experiments._record import Entry
from experiments._trajectories import (
    LENGTH,
    descended,
    openings,
    policy,
    short,
    trajectory,
)
from scipy.stats import linregress, t
from torch import Tensor

from fedsciml import problems
from fedsciml.collocation import strips, uniform
from fedsciml.linalg.ranks import Published
from fedsciml.linalg.sketch import from_jacobian
from fedsciml.linalg.solve import spectrum
from fedsciml.methods import Parts
from fedsciml.methods._fipa import Fipa, Memory, Opening, Sketched
from fedsciml.network import ModuleNetwork
from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Row, Term
from fedsciml.residual import System

ROUNDS = 512
HORIZONS = sorted({round(2 ** (j / 2)) for j in range(4, 19)})
"""K = 4, 6, 8, 11, ..., 512."""

FITTED = 32
"""First horizon of the fit: before it rank and paths still settle."""

RATE = 0.5
"""eta, relative to 1 / lambda_1."""

UNLIMITED = 10**9
EXACT = 1e-12
"""What is lower is zero but for rounding."""


SCHEDULES = {
    ("affine", "C = 0.01, C' = 0.0001"): (1e-2, 1e-4, UNLIMITED),
    ("affine", "C = 0.01, C' = 0.0001, tau <= 200"): (1e-2, 1e-4, 200),
    ("affine", "C = 1, C' = 0.1, tau <= 200"): (1.0, 0.1, 200),
    ("logistic", "C = 0.001, C' = 0.01"): (1e-3, 1e-2, UNLIMITED),
    ("sine2", "C = 0.0001, C' = 0.01"): (1e-4, 1e-2, UNLIMITED),
}
"""C, C' and the largest tau, by problem and kind."""

DAMPING = 1e-3
"""Of sine2, relative to the largest eigenvalue of J^T J at the start."""


@dataclass(frozen=True)
class Scheduled(Fipa):
    """FIPA with the published schedule: gradient descent on 1/2 |B D - c|^2.

    Args:
        c_prime: C'.
        limit: Largest tau.
    """

    c_prime: float = 0.1
    limit: int = 200

    @property
    def client(self) -> Parts:
        """As FIPA's, but for the sketch."""
        return {**super().client, Opening: self._aimed}

    def _aimed(
        self, system: System, ask: Opening, memory: Memory | None
    ) -> tuple[Sketched, Memory]:
        """The truncated sketch, and B delta after tau steps."""
        answer, memory = self._sketch(system, ask, memory)
        relative, tau = self.steps(system, ask, answer)
        return replace(answer, desired=answer.target * descended(relative, tau)), memory

    def steps(
        self, system: System, ask: Opening, answer: Sketched
    ) -> tuple[Tensor, int]:
        """eta lambda of the eigenvalues kept, and tau."""
        eigenvalues = answer.factor.square().sum(1)
        relative = RATE * eigenvalues / eigenvalues[0]
        gradient = float(system.linearise(ask.theta).gradient.norm())
        wanted = self.c_prime / (ask.round * gradient)
        return relative, epochs(wanted, float(relative[-1]), self.limit)


def epochs(wanted: float, relative: float, limit: int) -> int:
    """The published tau: (1 - eta lambda)^tau <= wanted, in 1 ... limit."""
    if wanted >= 1:
        return 1
    return max(1, min(math.ceil(math.log(wanted) / math.log1p(-relative)), limit))


def contradicting(name: str) -> Problem:
    """Two clients, 200 points in [-1, 1]^4, 5 parameters, targets that fit no model."""
    generator = torch.Generator().manual_seed(0)
    x = uniform(200, [-1.0] * 4, [1.0] * 4, generator)
    slope = 2 * x @ torch.tensor([1.0, -1.0, 0.5, 0.25], dtype=x.dtype)
    noise = 0.1 * torch.randn(200, generator=generator, dtype=x.dtype)
    module: torch.nn.Module = torch.nn.Linear(4, 1)
    if name == "affine":
        target = torch.sin(slope) + x[:, 0] ** 2 + noise
    else:
        module = torch.nn.Sequential(module, torch.nn.Sigmoid())
        target = torch.sigmoid(slope + x[:, 0] ** 2) + noise
    for parameter in module.parameters():  # torch draws them from its global generator
        torch.nn.init.zeros_(parameter)

    def given(u: Jet, row: Row) -> Tensor:
        return u.value - row.target

    return Problem(
        name,
        ModuleNetwork(module),
        [Term("data", given, x, target=target)],
        strips([-1.0, 0.0, 1.0]),
        coordinates="abcd",
    )


def gauss_newton(pooled: System, theta: Tensor, damping: float) -> Tensor:
    """D_gn, shape [p]."""
    linear = pooled.linearise(theta)
    return spectrum(from_jacobian(linear.jacobian(), linear.residual)).step(damping)


class Round(NamedTuple):
    """What the theorem asks of a round.

    Attributes:
        theta: Where it starts, shape [p].
        error: |e_k|.
        low: Least eigenvalue of a client's J_m^T J_m over the largest.
        missed: Largest |(1 - P_kept) g_m| / |g_m|.
        clipped: Share of the clients whose tau the limit cut short.
    """

    theta: Tensor
    error: float
    low: float
    missed: float
    clipped: float


def rounds(problem: Problem, method: Scheduled, damping: float) -> Iterator[Round]:
    """Round after round from start 0, without end."""
    pooled = System(problem, problem.pooled())
    for (opening, clients), (after, _) in pairwise(openings(problem, method)):
        # Whole singular value decompositions are the same when asked for again.
        theta, answers = opening.theta, clients.exchange(opening)
        exact = LENGTH * gauss_newton(pooled, theta, damping)
        low, missed, clipped = math.inf, 0.0, 0
        for system, m in zip(clients.systems, answers, strict=True):
            answer: Any = answers[m]
            linear = system.linearise(theta)
            s, gradient = torch.linalg.svdvals(linear.jacobian()), linear.gradient
            basis = torch.linalg.qr(answer.factor.mT).Q
            outside = gradient - basis @ (basis.mT @ gradient)
            low = min(low, float((s[-1] / s[0]) ** 2))
            missed = max(missed, float(outside.norm() / gradient.norm()))
            clipped += method.steps(system, opening, answer)[1] == method.limit
        error = float((after.theta - theta - exact).norm())
        yield Round(theta, error, low, missed, clipped / len(answers))


def quotients(
    pooled: System, pairs: Iterable[tuple[Tensor, Tensor]], damping: float
) -> tuple[float, float]:
    """Largest |G(x) - G(y)| and |J(x) - J(y)| / |J(x)|, both over |x - y|."""
    step, slope = 0.0, 0.0
    for pair in pairs:
        ends = [x + LENGTH * gauss_newton(pooled, x, damping) for x in pair]
        j, there = (pooled.linearise(x).jacobian() for x in pair)
        change = torch.linalg.matrix_norm(there - j, 2) / torch.linalg.matrix_norm(j, 2)
        moved = (pair[1] - pair[0]).norm()
        step = max(step, float((ends[1] - ends[0]).norm() / moved))
        slope = max(slope, float(change / moved))
    return step, slope


def sampled(paths: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Points of both paths in the same round, and each with one near it."""
    generator = torch.Generator().manual_seed(1)
    for x, y in paths:
        yield x, y
        for point in (x, y):
            away = torch.randn(len(x), generator=generator, dtype=x.dtype)
            yield point, point + 1e-3 * point.norm() * away / away.norm()


class Fit(NamedTuple):
    """A power law gap ~ K^slope and the 95 % confidence interval of the slope."""

    slope: float
    slope_low: float
    slope_high: float


def fitted(horizons: Sequence[int], gaps: Sequence[float]) -> Fit:
    """Least squares of log gap against log K."""
    line = linregress([math.log(k) for k in horizons], [math.log(g) for g in gaps])
    half = float(t.ppf(0.975, len(gaps) - 2) * line.stderr)
    return Fit(*short([line.slope, line.slope - half, line.slope + half]))


def measured(problem: str, kind: str) -> Entry:
    """Both trajectories, their gap at the horizons, and what the theorem assumes."""
    c, c_prime, limit = SCHEDULES[problem, kind]
    network = problem == "sine2"
    made = problems.load(problem, points=0.1) if network else contradicting(problem)
    steps = policy(made, DAMPING if network else 0.0)
    central = Fipa(steps, sketch="svd", pooled=True)
    exact, _ = trajectory(made, central, ROUNDS)
    method = Scheduled(steps, Published(c), "svd", c_prime=c_prime, limit=limit)
    path = list(islice(rounds(made, method, steps.damping), ROUNDS + 1))
    gaps = [float((path[k].theta - exact[k - 1]).norm()) for k in HORIZONS]
    late = [k for k, horizon in enumerate(HORIZONS) if horizon >= FITTED]
    fit = fitted([HORIZONS[k] for k in late], [gaps[k] for k in late])
    half = ROUNDS // 2
    errors = [k * there.error for k, there in enumerate(path[:ROUNDS], 1)]
    pairs = [(path[k].theta, exact[k - 1]) for k in HORIZONS if k > half // 2]
    pooled = System(made, made.pooled())
    contraction, slope = quotients(pooled, sampled(pairs), steps.damping)
    second = path[half:ROUNDS]
    numbers = {
        "eigenvalue_low": min(there.low for there in second),
        "range_missed": max(there.missed for there in second),
        "contraction": contraction,
        "lipschitz": slope,
        "perturbation": max(errors[half:]) / max(errors[:half]),
        "clipped": sum(there.clipped for there in second) / len(second),
    }
    kept = numbers["range_missed"] < EXACT < numbers["eigenvalue_low"]
    return {
        "K": HORIZONS,
        "gap": short(gaps),
        "fitted_from": FITTED,
        **fit._asdict(),
        "assumptions": dict(zip(numbers, short(numbers.values()), strict=True)),
        "holds": kept and contraction < 1 and numbers["clipped"] == 0,
    }
