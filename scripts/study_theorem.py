r"""Theorem 1 of FIPA: with the published schedule the gap to Gauss-Newton is O(1 / K).

Chang, He, Hao (2026), arXiv 2601.13608. In round k client m keeps the eigenvalues of
its gramian above delta lambda_1 and takes tau steps of gradient descent,

    delta = min(C / (k (|g_m| + |sum_j g_j|)), 0.99),
    tau   = ceil(log(C' / (k |g_m|)) / log(1 - eta lambda_kept)),

lambda_kept the least eigenvalue kept; published C = 1, C' = 0.1 and tau at most 200.
The gap is |theta_K - theta_K^gn| between the trajectories from one start, both with
the step length 1/2. Why it should be so: let G(theta) = theta + D_gn(theta) / 2 be the
centralised map and theta_{k+1} = G(theta_k) + e_k FIPA's. If |e_k| <= a / k, and
|G(x) - G(y)| <= q |x - y| with q < 1 along both paths, then

    gap_{k+1} <= q gap_k + a / k,   so   gap_K = O(1 / K).

Each link is measured, along the second half of the rounds:

eigenvalue_low    least eigenvalue of any client's J_m^T J_m over the largest: the
                  schedule makes |e_k| = O(1 / k) if it is bounded away from zero,
range_missed      and if g_m is in the range of what is kept: largest
                  |(1 - P_kept) g_m| / |g_m|,
contraction       q: largest |G(x) - G(y)| / |x - y|, sampled about the path and
                  between the paths,
lipschitz         largest |J(x) - J(y)| / |x - y| at the same pairs, over |J|,
perturbation      of a: largest k |e_k|, over that of the first half. Near 2 where e_k
                  does not fall at all, at most about 1 where it falls like 1 / k,
clipped           share of the tau that the limit cut short.

`affine` (a linear model) and `logistic` (a single neuron) have more rows than
parameters and contradicting targets: everything holds, for suitable C and C'. `sine2`
is a network of the suite, with a tenth of its points and a damped step: its eigenvalues
fall to zero, what is dropped does not fall with k, and where the gradients fall delta
rises again. With the published limit of tau, too, e_k stops falling.

    python scripts/study_theorem.py               # about a minute: what is missing
"""

import argparse
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import _common  # before torch, see there
import torch
from _common import Entry
from scipy.stats import linregress, t
from study_trajectory import (
    KEY,
    LENGTH,
    RECORD,
    descended,
    policy,
    short,
    started,
    trajectory,
)
from torch import Tensor

import problems
from fedsciml.collocation import strips, uniform
from fedsciml.federation.inprocess import InProcess
from fedsciml.linalg.ranks import Published
from fedsciml.linalg.sketch import from_jacobian
from fedsciml.linalg.solve import spectrum
from fedsciml.methods import Parts, Record, conclude
from fedsciml.methods.fipa import Fipa, Memory, Opening, Sketched
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

POINTS = 0.1
UNLIMITED = 10**9
EXACT = 1e-12
"""What is lower is zero but for rounding."""


class Case(NamedTuple):
    """A problem and the constants of the schedule.

    Attributes:
        problem: Its name.
        c: C.
        c_prime: C'.
        limit: Largest tau.
    """

    problem: str
    c: float
    c_prime: float
    limit: int = UNLIMITED

    @property
    def kind(self) -> str:
        """For the record."""
        limit = f", tau <= {self.limit}" if self.limit < UNLIMITED else ""
        return f"C = {self.c:g}, C' = {self.c_prime:g}{limit}"


CASES = (
    Case("affine", 1e-2, 1e-4),
    Case("affine", 1e-2, 1e-4, 200),
    Case("affine", 1.0, 0.1, 200),
    Case("logistic", 1e-3, 1e-2),
    Case("sine2", 1e-4, 1e-2),
)
DAMPINGS = {"sine2": 1e-3}
"""Relative to the largest eigenvalue of J^T J at the start; the others' is zero."""


class Descended(Sketched):
    """The sketch, B delta, and tau."""

    epochs: int = 0


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
    ) -> tuple[Descended, Memory]:
        """The truncated sketch, and B delta after tau steps."""
        upload, memory = self._sketch(system, ask, memory)
        eigenvalues = upload.factor.square().sum(1)
        relative = RATE * eigenvalues / eigenvalues[0]
        gradient = float(system.linearise(ask.theta).gradient.norm())
        wanted = self.c_prime / (ask.round * gradient)
        steps = epochs(wanted, float(relative[-1]), self.limit)
        aim = upload.target * descended(relative, steps)
        sent = upload.factor, upload.target, upload.loss, aim
        return Descended(*sent, epochs=steps), memory


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


def problem_of(name: str) -> Problem:
    """A problem of the study."""
    if name == "sine2":
        return problems.load(name, points=POINTS)
    return contradicting(name)


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
    clients = InProcess().connect(problem, method)
    pooled = System(problem, problem.pooled())
    state = method.start(started(problem), 0)
    uploads: dict[int, Record] = {}

    def answered(ask: Record) -> dict[int, Record]:
        uploads.update(clients.exchange(ask))
        return uploads

    while True:
        theta = state.at
        state, _ = conclude(method.round(state), answered)
        exact = LENGTH * gauss_newton(pooled, theta, damping)
        low, missed = math.inf, 0.0
        sent = [u for u in uploads.values() if isinstance(u, Descended)]
        for system, upload in zip(clients.systems, sent, strict=True):
            linear = system.linearise(theta)
            s, gradient = torch.linalg.svdvals(linear.jacobian()), linear.gradient
            basis = torch.linalg.qr(upload.factor.mT).Q
            outside = gradient - basis @ (basis.mT @ gradient)
            low = min(low, float((s[-1] / s[0]) ** 2))
            missed = max(missed, float(outside.norm() / gradient.norm()))
        clipped = sum(u.epochs == method.limit for u in sent) / len(sent)
        error = float((state.at - theta - exact).norm())
        yield Round(theta, error, low, missed, clipped)


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


def holds(numbers: Mapping[str, float]) -> bool:
    """Whether the theorem speaks about these rounds."""
    kept = numbers["range_missed"] < EXACT and numbers["eigenvalue_low"] > EXACT
    return kept and numbers["contraction"] < 1 and numbers["clipped"] == 0


def measured(problem: str, sweep: str, value: float, kind: str) -> Entry:
    """Both trajectories, their gap at the horizons, and what the theorem assumes."""
    case = next(c for c in CASES if (c.problem, c.kind) == (problem, kind))
    made = problem_of(problem)
    steps = policy(made, LENGTH, DAMPINGS.get(problem, 0.0))
    central = Fipa(steps, sketch="svd", pooled=True)
    exact, _ = trajectory(made, central, ROUNDS)
    method = Scheduled(
        steps, Published(case.c), "svd", c_prime=case.c_prime, limit=case.limit
    )
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
    return {
        **dict(zip(KEY, (problem, sweep, value, kind), strict=True)),
        "K": HORIZONS,
        "gap": short(gaps),
        "fitted_from": FITTED,
        **fit._asdict(),
        "assumptions": dict(zip(numbers, short(numbers.values()), strict=True)),
        "holds": holds(numbers),
    }


def main() -> None:
    """Run what is missing and print the slopes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fresh", action="store_true", help="run again what is there")
    parser.add_argument("--out", type=Path, default=RECORD, help=f"default {RECORD}")
    todo = parser.parse_args()
    keys = [(case.problem, "theorem", case.c, case.kind) for case in CASES]
    entries = _common.completed(todo.out, KEY, keys, measured, 1, 1, todo.fresh)
    for entry in entries:
        if entry["sweep"] == "theorem":
            low, high = entry["slope_low"], entry["slope_high"]
            print(
                f"{entry['problem']}, {entry['kind']}: slope {entry['slope']:.2f} "
                f"({low:.2f} to {high:.2f}); {entry['assumptions']}"
            )


if __name__ == "__main__":
    main()
