r"""Uncertainty of trained parameters: the Laplace approximation, from sketches.

Near the trained theta the minimiser of 1/2 |r|^2 + mu/2 |theta - theta_0|^2 answers a
small change dr of the weighted rows by -A^-1 J^T dr, A = J^T J + mu I (generalised
Gauss-Newton). Measured rows w (u - y) change by -w e, e the error of y with standard
deviation sigma; the rows of equations and conditions are exact. With J_d the measured
rows of J and s = w sigma the covariance of theta is the sandwich

    Sigma = s^2 A^-1 J_d^T J_d A^-1

(Huber, 5th Berkeley Symposium, 1967; White, Econometrica 50, 1982). The Laplace
approximation of a posterior (MacKay, Neural Computation 4, 1992) is s^2 A^-1. The two
are the same where all rows are measured and mu = 0. Otherwise s^2 A^-1 counts a row of
an equation as one more measurement with an error of its own, and a direction that no
row sees as known to s / sqrt(mu). It is never less than Sigma, since

    A^-1 - A^-1 J_d^T J_d A^-1 = A^-1 (J_c^T J_c + mu I) A^-1,    J_c the exact rows.

sigma comes from the residual of the measurements, s^2 = |r_d|^2 / f, with the residual
degrees of freedom of the linear smoother H = J_d A^-1 J_d^T (Buja, Hastie, Tibshirani,
Annals of Statistics 17, 1989),

    f = tr (I - H)^T (I - H) = n - 2 tr H + tr H^2.

All of it from square roots: with B = W diag(S) V^T of the merged sketches and D of the
measured rows, J_d A^-1 = D V diag(1 / (S^2 + mu)) V^T and the eigenvalues of H are the
squared singular values of D V diag(1 / sqrt(S^2 + mu)).

The columns of unknown numbers are scaled before, and an unknown whose deviation would
be bounded by mu alone is not determined: its deviation is infinite, see ``determined``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

import torch
from torch import Tensor

from fedsciml.analysis.determined import DAMPING, Posterior, check_theta, posterior
from fedsciml.linalg.sketch import Sketch, from_jacobian, merge
from fedsciml.problem import Problem, Shard
from fedsciml.residual import System

SENSORS = "sensors"
"""Default name of the term that holds the measurements."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a client sends to the server, once.

    Attributes:
        rows: Sketch of all its rows, [k, p].
        measured: Sketch of its measured rows alone, [k_d, p].
        squares: |r_d|^2 of the measured rows.
        measurements: Their number n_d.
    """

    rows: Sketch
    measured: Sketch
    squares: float
    measurements: int


@dataclass(frozen=True, eq=False)
class Laplace:
    """Uncertainty of the trained theta.

    Attributes:
        mean: The unknown numbers found, by name.
        deviation: Their standard deviations, from the sandwich; infinite where a number
            is not determined.
        bound: Their standard deviations in s^2 A^-1: never smaller.
        mixed: Of those that are not determined, with what they are mixed: other
            unknowns, and ``determined.NETWORK``.
        sigma: Standard deviation of a measurement, as estimated, in its units.
        freedom: Residual degrees of freedom f of that estimate.
        root: R, shape [k, p], with Sigma = R^T R.
    """

    mean: dict[str, float]
    deviation: dict[str, float]
    bound: dict[str, float]
    mixed: dict[str, tuple[str, ...]]
    sigma: float
    freedom: float
    root: Tensor

    def of(self, functional: Tensor) -> Tensor:
        """Standard deviation of a @ theta for linear functionals a [..., p].

        For example of u at a point, with a = du/dtheta there.
        """
        return torch.linalg.vector_norm(functional @ self.root.mT, dim=-1)


def evidence(problem: Problem, shard: Shard, theta: Tensor, data: str) -> Evidence:
    """The client's part: sketches of its rows at theta [p], not truncated.

    Raises:
        ValueError: If the problem has no term ``data``, or that has no target; or its
            loss is no sum of squares, or has a prior.
    """
    number = _term(problem, data)
    if not problem.squares or problem.prior:
        raise ValueError(
            f"Problem '{problem.name}' has a likelihood other than squares, or a prior;"
            " the noise of measurements is told from a sum of squares alone. Of one "
            "term of counts, classes or the like, take analysis.standard_errors."
        )
    rows = tuple(rows for rows in shard.rows if rows.term == number)
    whole, part = (
        System(problem, held, theta.device).linearise(theta.double())
        for held in (shard, replace(shard, rows=rows))
    )
    return Evidence(
        from_jacobian(whole.jacobian(), whole.residual),
        from_jacobian(part.jacobian(), part.residual),
        float(part.residual @ part.residual),
        len(part.residual),
    )


def combine(
    problem: Problem,
    theta: Tensor,
    parts: Sequence[Evidence],
    data: str,
    damping: float = DAMPING,
) -> Laplace:
    """The server's part: uncertainty from all clients' sketches.

    Raises:
        ValueError: If the damping is not positive, or the measurements are so few that
            the network fits them all and nothing tells their noise.
    """
    rows = merge(part.rows for part in parts)
    known = posterior(rows, len(problem.shared_unknowns), damping)
    measured = merge(part.measured for part in parts).factor
    count = sum(part.measurements for part in parts)
    squares = sum(part.squares for part in parts)
    s, freedom, root = sandwich(known, measured, squares, count)
    mixed = known.mixed(problem.shared_unknowns)

    def numbers(values: Tensor) -> dict[str, float]:
        return problem.numbers(values) | dict.fromkeys(mixed, inf)

    number = _term(problem, data)
    weight = next(rows.weight for rows in problem.pooled().rows if rows.term == number)
    return Laplace(
        mean=problem.numbers(theta),
        deviation=numbers(torch.linalg.vector_norm(root, dim=0)),
        bound=numbers(s * known.variance.sqrt()),
        mixed=mixed,
        sigma=s / weight,
        freedom=freedom,
        root=root,
    )


def sandwich(
    known: Posterior, measured: Tensor, squares: float, count: int
) -> tuple[float, float, Tensor]:
    """s, the degrees of freedom f, and R [k, p] with Sigma = R^T R.

    Args:
        known: Of all rows.
        measured: J_d, or a sketch of it, shape [k, p].
        squares: |r_d|^2.
        count: Measurements n_d.

    Raises:
        ValueError: If they are so few that nothing tells their noise.
    """
    basis, filtered = known.whole.basis, known.filtered
    turned = (measured * known.scales) @ basis.mT  # D V
    hat = torch.linalg.svdvals(turned * filtered.sqrt()) ** 2  # eigenvalues of H
    freedom = float((1 - hat).square().sum()) + count - len(hat)
    if freedom < 1e-3:
        raise ValueError(
            f"{count} measurements leave {freedom:.1e} degrees of freedom to estimate "
            "their noise from; measure more, or damp more."
        )
    s = (squares / freedom) ** 0.5
    return s, freedom, s * (turned * filtered) @ basis * known.scales


def laplace(
    problem: Problem, theta: Tensor, data: str = SENSORS, damping: float = DAMPING
) -> Laplace:
    """Uncertainty of the trained theta, from each client's sketches.

    ``evidence`` is what a client computes and sends, ``combine`` what the server makes
    of it. Here both happen in one process that holds all shards, and no bytes are
    counted: for study, as ``gn_gap`` is; apart, the two functions are one exchange.

    Args:
        problem: What was trained.
        theta: The trained parameters, shape [p].
        data: The term with the measurements: a residual u - target whose targets carry
            independent errors of one standard deviation.
        damping: mu over the largest eigenvalue of J^T J, positive. Directions with
            smaller eigenvalues count as known.

    Raises:
        ValueError: If theta is not of the problem, or as ``evidence`` and ``combine``.
    """
    check_theta(problem, theta)
    parts = [evidence(problem, shard, theta, data) for shard in problem.shards()]
    return combine(problem, theta, parts, data, damping)


def _term(problem: Problem, name: str) -> int:
    names = [term.name for term in problem.terms]
    if name not in names:
        raise ValueError(
            f"Problem '{problem.name}' has no term '{name}' with measurements; its "
            f"terms are {', '.join(names)}."
        )
    number = names.index(name)
    if problem.terms[number].target is None:
        raise ValueError(
            f"Term '{name}' of problem '{problem.name}' has no target: it holds no "
            "measurements, whose errors could be told."
        )
    return number
