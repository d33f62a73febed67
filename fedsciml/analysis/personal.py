r"""What clients have of their own: for a new one, and how surely it is known.

With the shared theta_s held, a client's own f is a small least-squares problem of its
rows alone: ``personalise`` solves it for a client that was not there in training.

How surely f is known is told as in ``laplace``, by the sandwich of the rows of all
parameters (theta_s, f_1, ..., f_S). By a block inverse that of client m is

    Cov(f_m) = s^2 (R^T R)^-1 + K Cov(theta_s) K^T,       J_f = Q R,  K = R^-1 Q^T J_s:

what its own rows tell where theta_s is known, which it can compute by itself, and what
of the uncertainty of theta_s comes in, for which it needs that of the server.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Protocol

import numpy as np
import torch
from torch import Generator, Tensor

from fedsciml.analysis.determined import DAMPING, posterior, stacked
from fedsciml.analysis.laplace import sandwich
from fedsciml.collocation import explicit
from fedsciml.linalg.sketch import Sketch
from fedsciml.network.jet import Jet
from fedsciml.problem import Problem
from fedsciml.residual import Linearisation, System, Together

Data = Mapping[str, Tensor | tuple[Tensor, Tensor]]
"""By the names of terms, points [n, d], or points and targets [n] or [n, q]."""

EVALUATIONS = 500
"""Of a fit of one client's own parameters, at most."""


class Trained(Protocol):
    """A result of a run."""

    @property
    def theta(self) -> Tensor:
        """Shared parameters, shape [p_s]."""


@dataclass(frozen=True, eq=False, repr=False)
class Personalised:
    """A client's own parameters, fitted to its points; the shared ones are held.

    Attributes:
        problem: Of this client alone.
        theta: Shared parameters, shape [p_s].
        values: Its own, f [p_f].
        loss: Of its points, with the prior's part.
    """

    problem: Problem
    theta: Tensor
    values: Tensor
    loss: float

    def __repr__(self) -> str:
        found = ", ".join(f"{k} = {v:.6g}" for k, v in self.unknowns().items())
        return (
            f"{self.problem.name}: loss {self.loss:.2e} of one client with "
            f"{len(self.values)} parameters of its own{f'; {found}' if found else ''}"
        )

    def solution(self, points: Tensor) -> Jet:
        """The client's u at points [n, d]: ``.value``, ``.x``, ``.xx``, ..."""
        return self.problem.solution(self.theta, points, self.values)

    def unknowns(self) -> dict[str, float]:
        """Unknown numbers, shared ones and its own, by name."""
        return unknowns(self.problem, self.theta, self.values)

    def deviations(self, data: str) -> Tensor:
        """Standard deviations of its own parameters, where the shared ones are known.

        In the units of f, shape [p_f].

        Args:
            data: The term with the measurements.

        Raises:
            ValueError: As ``deviations``.
        """
        system = System(self.problem, self.problem.pooled())
        return _deviations(
            Together(system, self.theta), self.values, data, len(self.values)
        )


def personalise(
    problem: Problem,
    result: Trained,
    data: Data,
    *,
    starts: int = 1,
    spread: float = 1.0,
    seed: int = 0,
) -> Personalised:
    """Fit a new client's own parameters to a few points; the shared ones stay.

        result = run(problem, methods.load("fipa"))
        mine = personalise(problem, result, {"data": (points, values)})
        mine.solution(points).value

    Rows weigh as those of a client of the problem with as many points. Least squares by
    scipy's trust region method, other likelihoods by its BFGS.

    Args:
        problem: What was trained.
        result: Of a run of it.
        data: The client's points, by the names of the terms; terms without are left
            out.
        starts: From how many values of f to begin, at least 1: that of all clients, and
            others drawn around it; the lowest loss is taken.
        spread: Standard deviation of those.
        seed: Draws them.

    Raises:
        ValueError: If nothing is personal in the problem, it has no such term, or there
            are no points.
    """
    if problem.personal is None:
        raise ValueError(
            f"Problem '{problem.name}' has no personal parameters to fit; its theta is "
            "for every client."
        )
    if len(result.theta) != problem.network.size:
        raise ValueError(
            f"The result has {len(result.theta)} shared parameters, but the network of "
            f"problem '{problem.name}' has {problem.network.size}; give the problem of "
            "the run."
        )
    alone = _alone(problem, data)
    theta, begin = result.theta.double().cpu(), problem.personal.values
    rows = Together(System(alone, alone.pooled()), theta)
    draw = torch.randn(
        max(starts, 1) - 1,
        len(begin),
        generator=Generator().manual_seed(seed),
        dtype=torch.float64,
        device="cpu",
    )
    found = [_fit(rows, x) for x in (begin, *(begin + spread * draw))]
    loss, values = min(found, key=lambda known: known[0])
    _told(problem, data, rows, values)
    return Personalised(alone, theta, values, loss)


def unknowns(problem: Problem, theta: Tensor, values: Tensor) -> dict[str, float]:
    """All unknown numbers by name, with a client's own at f [p_f], in their units."""
    if problem.personal is None:
        return problem.numbers(theta)
    network = problem.personal.at(values)
    numbers = network.numbers(theta.to(values)).tolist()
    return dict(zip(problem.unknowns, numbers, strict=True))


def numbers(
    problem: Problem, theta: Tensor, personal: Mapping[int, Tensor]
) -> dict[int, dict[str, float]]:
    """Unknown numbers of the clients' own, by client and name, in their units."""
    names = problem.personal.names if problem.personal else ()
    every = {m: unknowns(problem, theta, values) for m, values in personal.items()}
    return {m: {name: of[name] for name in names} for m, of in every.items()}


@dataclass(frozen=True, eq=False)
class Deviations:
    """Standard deviations of what clients have of their own.

    Attributes:
        numbers: Of the unknown numbers, by client and name, in their units; infinite
            where one is not determined.
        values: Of all personal parameters, in the units of f, shape [S, p_f].
    """

    numbers: dict[int, dict[str, float]]
    values: Tensor


def deviations(
    problem: Problem,
    theta: Tensor,
    personal: Mapping[int, Tensor],
    data: str,
    damping: float = DAMPING,
) -> Deviations:
    """Standard deviations of the clients' own parameters, from all rows together.

    In one process that holds all rows, for study; see ``Personalised.deviations`` for
    what a client computes by itself.

    Args:
        problem: What was trained.
        theta: Shared parameters, shape [p_s].
        personal: Of all clients, as in a result.
        data: The term with the measurements: a residual u - target whose targets carry
            independent errors of one standard deviation.
        damping: mu over the largest eigenvalue of J^T J, positive.

    Raises:
        ValueError: If not all clients are there, there is no such term with targets,
            the loss is no sum of squares, or too few measurements tell their noise.
    """
    values = stacked(problem, personal).cpu()
    whole = Together(System(problem, problem.pooled()))
    at = whole.joined(theta.double().cpu(), values)
    own = values.numel()
    found = _deviations(whole, at, data, own, damping)[-own:].view_as(values)
    # Numbers are linear in f.
    moved = numbers(problem, theta, dict(enumerate(found)))
    begun = numbers(problem, theta, dict(enumerate(torch.zeros_like(found))))
    changes = {
        m: {name: value - begun[m][name] for name, value in of.items()}
        for m, of in moved.items()
    }
    return Deviations(changes, found)


def _alone(problem: Problem, data: Data) -> Problem:
    """The problem of one client with these points."""
    known = {term.name: term for term in problem.terms}
    if not isinstance(data, Mapping):
        raise ValueError(
            "Give points by the names of terms, and targets where they have some, "
            f"{{'{next(iter(known))}': (points, values)}}; got a {type(data).__name__}."
        )
    if strange := [name for name in data if name not in known]:
        raise ValueError(
            f"Problem '{problem.name}' has no term '{strange[0]}'; give points of its "
            f"terms {', '.join(known)}."
        )
    terms = []
    for name, given in data.items():
        points, target = given if isinstance(given, tuple) else (given, None)
        term = known[name]
        if target is None and (term.computed or isinstance(term.target, float)):
            target = term.target_at(points)
        elif target is None and term.target is not None:
            raise ValueError(
                f"Term '{name}' has targets, so that its points need some; give "
                f"{{'{name}': (points, values)}}."
            )
        # A client of the problem shares a term's weight with the others.
        terms.append(
            replace(
                term,
                points=[points],
                target=target,
                partner=None,
                sample=None,
                weight=term.weight / problem.clients,
            )
        )
    if not terms:
        raise ValueError(f"Give the points of a term: {', '.join(known)}.")
    parameters = {**problem.parameters, "alone": "new"}
    return replace(
        problem,
        terms=terms,
        partition=explicit(1),
        parameters=parameters,
        exact=None,
        test_points=None,
        reference=None,
        test_owners=None,
        truth=problem.true(),
    )


def _told(problem: Problem, data: Data, rows: Together, values: Tensor) -> None:
    """Warn of numbers of the client's own that its points do not tell."""
    names = problem.personal.names if problem.personal else ()
    jacobian = rows.linearise(values).jacobian()[:, len(values) - len(names) :]
    still = [n for n, s in zip(names, jacobian.abs().sum(0), strict=True) if not s]
    if still:
        more = ", ".join(t.name for t in problem.terms if t.name not in data)
        warnings.warn(
            f"No residual of these points depends on '{still[0]}', which keeps its "
            f"start; give points of other terms too: {more or '(there are no more)'}.",
            stacklevel=3,
        )


def _fit(rows: Together, begin: Tensor) -> tuple[float, Tensor]:
    """The loss and f where it is least, from a start."""
    from scipy import optimize  # takes a while

    def tensor(x: np.ndarray) -> Tensor:
        return torch.tensor(x, dtype=torch.float64, device="cpu")

    if rows.squares:
        found = optimize.least_squares(
            lambda x: rows.residual(tensor(x)).numpy(),
            begin.numpy(),
            jac=lambda x: rows.linearise(tensor(x)).jacobian().numpy(),
            x_scale="jac",
            xtol=1e-15,
            ftol=1e-15,
            gtol=1e-15,
            max_nfev=EVALUATIONS,
        )
    else:
        found = optimize.minimize(
            lambda x: rows.loss(tensor(x)),
            begin.numpy(),
            jac=lambda x: rows.slope(tensor(x)).numpy(),
            options={"gtol": 1e-12, "maxiter": EVALUATIONS},
        )
    values = tensor(found.x)
    return rows.loss(values), values


def _deviations(
    whole: Together, at: Tensor, data: str, own: int, damping: float = DAMPING
) -> Tensor:
    """Standard deviations of all parameters [q]; the last ``own`` are personal."""
    problem = whole.problem
    numbers = [
        k
        for k, term in enumerate(problem.terms)
        if term.name == data and problem.target_of(k) is not None
    ]
    if not numbers or not problem.squares:
        raise ValueError(
            f"Problem '{problem.name}' needs a term '{data}' with targets, and a loss "
            "of squares, to tell the noise of measurements; its terms are "
            f"{', '.join(term.name for term in problem.terms)}."
        )
    linear = whole.linearise(at)
    j, r = linear.jacobian(), linear.residual
    measured = _rows(whole, linear, numbers[0]).to(r.device)
    known = posterior(Sketch(j, -r), own, damping)
    squares, count = float(r[measured].square().sum()), int(measured.sum())
    _, _, root = sandwich(known, j[measured], squares, count)
    found = torch.linalg.vector_norm(root, dim=0)
    names: Sequence[str] = [str(k) for k in range(own)]
    mixed = [len(found) - own + int(name) for name in known.mixed(names)]
    found[mixed] = inf
    return found


def _rows(whole: Together, linear: Linearisation, number: int) -> Tensor:
    """Which rows are of a term, as they are linearised, [n]."""
    terms = []
    for site in whole.sites:
        terms += [block.rows.term for block in site.blocks]
        terms += [-1] * bool(whole.problem.personal_prior)
    found = [
        torch.full((len(rows.residual),), term == number, device="cpu")
        for term, rows in zip(terms, linear.blocks, strict=True)
    ]
    return torch.cat(found)
