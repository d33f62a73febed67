r"""Is FIPA's step the centralised Gauss-Newton step? What is compared, and how far.

At the start and after some rounds of a run on every problem, with exact local steps,
nothing truncated, and the same damping mu, relative to the largest eigenvalue s_1^2 of
J^T J. D_gn is an independent computation: the least-squares problem
[J; sqrt(mu) I] D ~ [-r; 0] of the pooled rows by Householder QR.

fipa        |D - D_gn| / |D_gn|, at most 1e-10 for mu >= 1e-6 s_1^2. Where r is nearly
            orthogonal to the range of J, as at convergence, and below that damping,
            D_gn itself is known only to ten times eps (k + k^2 |rho| / (s_1 |D_gn|)),
            k = s_1 / sqrt(mu), rho = [J; sqrt(mu) I] D_gn + [r; 0] (Bjorck, Numerical
            Methods for Least Squares Problems, SIAM 1996, section 1.4).
            Normal equations: |J^T (J D + r)| / |J^T r| for mu = 0, singular values at
            rounding level left out; the tolerance is ten times the rounding of the
            products and what is left out.
fipa_paper  The same for the published rule. It multiplies H_m by delta_m, which is long
            where singular values are small: its tolerance has their rounding too,
            eps sum_m |H_m| |delta_m| / mu.
fedavg      The same for the mean of the clients' exact damped steps, and of their Adam
            steps. Reported only.
run()       The first round of a run with a fixed damping, on fewer points.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedsciml import methods, problems
from fedsciml.federation import run
from fedsciml.federation.inprocess import InProcess
from fedsciml.linalg.solve import Spectrum
from fedsciml.methods import Local, conclude
from fedsciml.methods._fipa import Fipa, Sketched
from fedsciml.methods.fedavg import FedAvg
from fedsciml.methods.fipa_paper import Eigenpairs, FipaPaper
from fedsciml.policies import Candidates
from fedsciml.policies.fixed import Fixed
from fedsciml.policies.line_search import LineSearch
from fedsciml.problem import Problem
from fedsciml.residual import System

DAMPINGS = (1e-2, 1e-4, 1e-6, 1e-10)
"""mu, relative to the largest eigenvalue of J^T J."""

PROMISED = 1e-6
"""Relative damping down to which fipa's gap is at most ``TOLERANCE``."""

TOLERANCE = 1e-10
SAFETY = 10.0
"""Factor of the bounds by rounding, which count every product once."""

EPS = torch.finfo(torch.float64).eps

ROUNDS = (0, 5, 20)
FEWER = {"poisson3d": 0.05, "poisson5d": 0.02}
"""Where the rounds after the start take this factor of the points, for time."""

METHODS = ("fipa", "fipa_paper")
NORMAL = "normal equations"
RUN_POINTS = 0.05
ADAM = Local("adam", 20, 1e-3)


class Check(NamedTuple):
    """A number in the table; without a tolerance it is reported only.

    Attributes:
        place: Row: the problem and where on its trajectory.
        column: Method and damping.
        value: As measured.
        tolerance: Its largest value, or None.
    """

    place: str
    column: str
    value: float
    tolerance: float | None = None

    @property
    def ok(self) -> bool:
        """Whether the value keeps to its tolerance."""
        return self.tolerance is None or self.value <= self.tolerance


class Place:
    """The least-squares problem J D ~ -r of all rows at some theta.

    Args:
        problem: Gives rows and shards.
        rounds: Of FIPA from start 0, until theta.
    """

    def __init__(self, problem: Problem, rounds: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.problem = problem
        self.theta = problem.network.init(generator, torch.float64)
        if rounds:
            self.theta = run(
                problem, methods.load("fipa"), rounds, progress=False
            ).theta
        linear = System(problem, problem.pooled()).linearise(self.theta)
        self.jacobian, self.residual = linear.jacobian(), linear.residual
        self.gradient = self.jacobian.mT @ self.residual

    def central(self, dampings: Sequence[float]) -> list[Tensor]:
        """argmin |J D + r|^2 + mu |D|^2, for each absolute mu > 0; [p] each."""
        return damped(self.jacobian, self.residual, dampings)

    def normal(self, step: Tensor) -> float:
        """|J^T (J D + r)| / |J^T r|."""
        left = self.jacobian.mT @ (self.jacobian @ step + self.residual)
        return float(left.norm() / self.gradient.norm())

    def uncertainty(self, exact: Tensor, damping: float, top: float) -> float:
        """Relative error of the exact step where J and r are rounded."""
        condition = top / damping**0.5
        ends = self.jacobian @ exact + self.residual, damping**0.5 * exact
        angle = float(torch.cat(ends).norm() / exact.norm()) / top
        return EPS * (condition + condition**2 * angle)

    def rounding(self, step: Tensor, cutoff: float, top: float) -> float:
        """``normal`` of a step that is exact but for rounding and a cut-off."""
        products = EPS * top * float(step.norm())
        dropped = cutoff * float(self.residual.norm())
        return top * (products + dropped) / float(self.gradient.norm())


def damped(
    jacobian: Tensor, residual: Tensor, dampings: Sequence[float]
) -> list[Tensor]:
    """argmin |J D + r|^2 + mu |D|^2 by QR, for each absolute mu > 0; [p] each."""
    p = jacobian.shape[1]
    rows = torch.column_stack([jacobian, -residual])
    if len(rows) > p:
        rows = torch.linalg.qr(rows, mode="r").R
    steps = []
    for damping in dampings:
        below = damping**0.5 * torch.eye(p, p + 1, dtype=rows.dtype)
        r = torch.linalg.qr(torch.cat([rows, below]), mode="r").R
        step = torch.linalg.solve_triangular(r[:p, :p], r[:p, p:], upper=True)
        steps.append(step.squeeze(1))
    return steps


@dataclass(frozen=True)
class Shown(LineSearch):
    """A step policy that shows what the server solves."""

    seen: list[Spectrum] = field(default_factory=list)

    def propose(self, problem: Spectrum, state: Any) -> Candidates:  # noqa: ANN401
        """As usual."""
        self.seen.append(problem)
        return super().propose(problem, state)


def federated(at: Place) -> tuple[Spectrum, list[Sketched]]:
    """FIPA's own first exchange: the problem that the server solves, the answers."""
    policy = Shown(cutoff=0.0)
    method = Fipa(policy, sketch="svd")
    exchanges = method.round(method.start(at.theta, 0))
    answers = InProcess().connect(at.problem, method).exchange(next(exchanges))
    exchanges.send(answers)
    sketches = [answer for answer in answers.values() if isinstance(answer, Sketched)]
    return policy.seen[0], sketches


def published(sketches: Sequence[Sketched], cutoff: float) -> list[Eigenpairs]:
    """What the clients of ``fipa_paper`` send: H_m and delta_m = -H_m^+ g_m.

    The pseudo-inverse drops singular values of J_m below the relative cut-off.
    """
    sent = []
    for sketch in sketches:
        s = torch.linalg.vector_norm(sketch.factor, dim=1)
        vectors = sketch.factor / s.unsqueeze(-1)
        delta = torch.where(s > cutoff * s[:1], sketch.target / s, 0.0) @ vectors
        sent.append(Eigenpairs(vectors, s.square(), delta, 0.0))
    return sent


def paper_step(sent: list[Eigenpairs], ridge: float, cutoff: float) -> Tensor:
    """The update of ``fipa_paper``'s server, with step 1."""
    method = FipaPaper(step=1.0, ridge=ridge, cutoff=cutoff)
    state = method.start(torch.zeros_like(sent[0].delta), 0)
    moved, _ = conclude(method.round(state), lambda ask: dict(enumerate(sent)))
    return moved.theta


def averaged(at: Place, sketches: Sequence[Sketched], damping: float) -> Tensor:
    """FedAvg of exact steps: sum of share_m argmin L_m(D) / share_m + mu/2 |D|^2."""
    step = torch.zeros_like(at.theta)
    for shard, sketch in zip(at.problem.shards(), sketches, strict=True):
        eigenvalues = sketch.factor.square().sum(1) + shard.share * damping
        step += shard.share * ((sketch.target / eigenvalues) @ sketch.factor)
    return step


def adam_mean(at: Place) -> Tensor:
    """FedAvg's update with local Adam."""
    method = FedAvg(ADAM)
    clients = InProcess().connect(at.problem, method)
    state, _ = conclude(method.round(method.start(at.theta, 0)), clients.exchange)
    return state.theta - at.theta


def relative(step: Tensor, exact: Tensor) -> float:
    """|step - exact| / |exact|."""
    return float((step - exact).norm() / exact.norm())


def checked(name: str, at: Place) -> list[Check]:
    """Every comparison at one place."""
    whole, uploads = federated(at)
    top, cutoff = whole.top, EPS * max(at.jacobian.shape)
    sent = published(uploads, cutoff)
    multiplied = EPS * sum(float(u.eigenvalues[0] * u.delta.norm()) for u in sent)
    mus = [damping * top**2 for damping in DAMPINGS]
    found = []
    for damping, mu, exact in zip(DAMPINGS, mus, at.central(mus), strict=True):
        level = f"mu = {damping:g}"
        bound = SAFETY * at.uncertainty(exact, mu, top)
        tolerance = max(TOLERANCE, bound) if damping >= PROMISED else bound
        gap = relative(whole.step(mu), exact)
        found.append(Check(name, f"fipa, {level}", gap, tolerance))
        bound += SAFETY * (EPS / damping + multiplied / (mu * float(exact.norm())))
        gap = relative(paper_step(sent, mu, 0.0), exact)
        # A bound above 1 says nothing.
        limit = bound if bound < 1 else None
        found.append(Check(name, f"fipa_paper, {level}", gap, limit))
        if damping == PROMISED:
            gap = relative(averaged(at, uploads, mu), exact)
            found.append(Check(name, f"fedavg, {level}", gap))
            found.append(Check(name, "fedavg, adam", relative(adam_mean(at), exact)))
    step = whole.step(0.0, cutoff)
    bound = SAFETY * at.rounding(step, cutoff, top)
    found.append(Check(name, f"fipa, {NORMAL}", at.normal(step), bound))
    # Eigenvalues of a gramian are known to the cut-off: singular values to its root.
    step = paper_step(sent, 0.0, cutoff)
    bound = at.rounding(step, cutoff**0.5, top) + multiplied / float(at.gradient.norm())
    found.append(Check(name, f"fipa_paper, {NORMAL}", at.normal(step), SAFETY * bound))
    return found


def first_round(name: str) -> Check:
    """One round of ``run`` with a fixed damping, and its own gap to Gauss-Newton."""
    problem = problems.load(name, points=RUN_POINTS)
    at = Place(problem, 0)
    damping = PROMISED * float(torch.linalg.matrix_norm(at.jacobian, 2)) ** 2
    (exact,) = at.central([damping])
    method = Fipa(Fixed(1.0, damping, 0.0), sketch="svd")
    result = run(problem, method, 1, gn_gap=True, progress=False)
    own = result.history[0].gn_gap
    assert own is not None
    gap = max(relative(result.theta - at.theta, exact), own)
    label = f"{name}, {RUN_POINTS:g} of the points, run()"
    return Check(label, f"fipa, mu = {PROMISED:g}", gap, TOLERANCE)


def verified(name: str) -> list[Check]:
    """All checks of a problem."""
    found = []
    for rounds in ROUNDS:
        points = FEWER.get(name, 1.0) if rounds else 1.0
        share = f", {points:g} of the points" if points < 1 else ""
        at = Place(problems.load(name, points=points), rounds)
        found += checked(f"{name}{share}, round {rounds}", at)
    return [*found, first_round(name)]


def table(checks: Sequence[Check]) -> str:
    """Markdown: a row for each place; what is above 1e-10 has its tolerance behind."""
    levels = [*(f"mu = {damping:g}" for damping in DAMPINGS), NORMAL]
    columns = [f"{method}, {level}" for method in METHODS for level in levels]
    columns += [f"fedavg, mu = {PROMISED:g}", "fedavg, adam"]
    rows: dict[str, dict[str, str]] = {}
    for check in checks:
        limit = ""
        if check.tolerance is not None and not check.value <= TOLERANCE:
            limit = f" {'<' if check.ok else '>'} {check.tolerance:.0e}"
        cells = rows.setdefault(check.place, {})
        cells[check.column] = f"{check.value:.1e}{limit}"
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    lines += [[place, *(of.get(c, "") for c in columns)] for place, of in rows.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def entry(check: Check) -> dict[str, object]:
    """A check as JSON has it; what is not finite is null."""
    return {
        "check": f"{check.place}: {check.column}",
        "value": check.value if math.isfinite(check.value) else None,
        "tolerance": check.tolerance,
        "ok": check.ok,
    }


def brief(checks: Sequence[Check]) -> str:
    """For people: a line for each place, with FIPA's largest gap and an average's."""
    damped = [f"fipa, mu = {damping:g}" for damping in DAMPINGS if damping >= PROMISED]
    places: dict[str, list[Check]] = {}
    for check in checks:
        places.setdefault(check.place, []).append(check)
    form = f"{{:{max(map(len, places))}}}  {{:>8}}  {{:>8}}  {{:>7}}  {{}}"
    lines = [form.format("", "FIPA", "at most", "average", "checks").rstrip()]
    for place, of in places.items():
        worst = max((c for c in of if c.column in damped), key=_used)
        average = [c.value for c in of if c.column == f"fedavg, mu = {PROMISED:g}"]
        shown = f"{average[0]:.1e}" if average else ""
        missed = sum(not c.ok for c in of)
        kept = f"{missed} of {len(of)} missed" if missed else f"{len(of)} kept"
        numbers = f"{worst.value:.1e}", f"{worst.tolerance:.1e}"
        lines.append(form.format(place, *numbers, shown, kept))
    lines.append(
        "\nDistances from the step of centralised Gauss-Newton, relative to its "
        f"length, for all\ndampings of {PROMISED:g} or more of the largest eigenvalue; "
        "average: of the clients'\nown steps."
    )
    return "\n".join(lines)


def _used(check: Check) -> float:
    """The part of its tolerance that a check uses."""
    return check.value / (check.tolerance or math.inf)
