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
About a minute.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import Any, NamedTuple

import torch
from scipy.stats import linregress, t
from torch import Tensor

import problems
from experiments._drawing import Drawing, chosen
from experiments._experiment import Experiment
from experiments._record import Entry, select
from experiments._table import Table
from experiments._trajectories import (
    KEY,
    LEAST,
    LENGTH,
    RECORD,
    descended,
    openings,
    policy,
    short,
    trajectory,
)
from fedsciml import plot
from fedsciml.collocation import strips, uniform
from fedsciml.linalg.ranks import Published
from fedsciml.linalg.sketch import from_jacobian
from fedsciml.linalg.solve import spectrum
from fedsciml.methods import Parts
from fedsciml.methods.fipa import Fipa, Memory, Opening, Sketched
from fedsciml.network import ModuleNetwork
from fedsciml.network.jet import Jet
from fedsciml.plot import Curve, Panel
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

CASES = [
    (problem, "theorem", c, kind) for (problem, kind), (c, _, _) in SCHEDULES.items()
]
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


def measure(problem: str, sweep: str, value: float, kind: str) -> Entry:
    """Both trajectories, their gap at the horizons, and what the theorem assumes."""
    del sweep, value  # part of the key
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


def table(entries: Sequence[Entry]) -> Table:
    """The slopes, and what the theorem assumes."""
    heads = ["problem", "constants", "slope [95 %]", "least eigenvalue"]
    heads += ["gradient missed", "contraction q", "perturbation", "steps cut short"]
    rows = []
    for e in select(entries, sweep="theorem"):
        slope, low, high = (f"{e[k]:z.2f}" for k in Fit._fields)
        of = e["assumptions"]
        row = [f"`{e['problem']}`", e["kind"], f"{slope} [{low}, {high}]"]
        row += [f"{of[k]:.1e}" for k in ("eigenvalue_low", "range_missed")]
        row += [f"{of['contraction']:.3g}", f"{of['perturbation']:.2g}"]
        rows.append([*row, f"{of['clipped']:.0%}".replace("%", " %")])
    caption = "What the theorem assumes, and the slope of the gap."
    return Table("theorem", caption, heads, rows, "docs/consistency.md")


def theorem(entries: Sequence[Entry]) -> plot.Figure:
    """The gap at the horizon K under the published schedule, beside 1 / K."""
    runs = chosen(entries, sweep="theorem")
    curves = []
    for number, e in enumerate(runs):
        slope = f"{e['slope']:.2f} [{e['slope_low']:.2f}, {e['slope_high']:.2f}]"
        kind = e["kind"].replace("tau <=", r"$\tau \leq$")
        label = f"{e['problem']}, {kind}: slope {slope}"
        gap = [max(g, LEAST) for g in e["gap"]]
        curves.append(Curve(label, e["K"], gap, number, number, number + 1))
    horizons = runs[0]["K"]
    line = [runs[0]["gap"][-1] * horizons[-1] / k for k in horizons]
    curves.append(Curve("1 / K", horizons, line, 6, 3))
    panel = Panel("", "horizon K", "gap to centralised Gauss-Newton", curves)
    return plot.panels([panel], 1, width=plot.COLUMN, height=3.0, legend="below")


EXPERIMENT = Experiment(
    "theorem",
    __doc__,
    KEY,
    CASES,
    measure,
    lambda entries: [table(entries)],
    {
        "trajectory-theorem": Drawing(
            theorem,
            "The gap to centralised Gauss-Newton at the horizon K under the "
            "published schedule, its fitted slope, and the line 1/K.",
        )
    },
    record=RECORD,
)
