"""Errors of a model, and distance of a step from the Gauss-Newton step."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedsciml.linalg.beside import beside
from fedsciml.linalg.sketch import from_jacobian
from fedsciml.linalg.solve import spectrum
from fedsciml.network import Network
from fedsciml.problem import Problem, Shard, Term
from fedsciml.problem.checks import joined
from fedsciml.residual import JetBlock, System, Together


@dataclass(frozen=True, eq=False)
class Errors:
    """Errors of a model u against the reference v.

    Attributes:
        relative_l2: |u - v| / |v| on the test points, all known outputs together; NaN
            if none is known.
        mse: Mean of (u - v)^2, likewise.
        each: Relative L2 error of each output, and relative error of each unknown
            number (the absolute error if the true value is zero); NaN where the truth
            is not known.
    """

    relative_l2: float
    mse: float
    each: dict[str, float]


Personal = Mapping[int, Tensor]
"""Parameters of each client's own, [p_f], by its number."""


@torch.no_grad()
def measure(
    problem: Problem, theta: Tensor, personal: Personal | None = None
) -> Errors:
    """The errors of theta [p] on the test points.

    Where clients have parameters of their own, each is measured with those: at its own
    test points, those of its part of the domain, or all, if they are no one's. Errors
    are means over the clients then; without the parameters those of shared unknown
    numbers alone are known.

    Args:
        problem: Gives the test points.
        theta: Shared parameters, shape [p].
        personal: Of the clients, where they have any.
    """
    names = (*problem.outputs, *problem.unknowns)
    each = dict.fromkeys(names, math.nan)
    if problem.personal is None:
        return _measured(problem, problem.network, theta, None, each)
    if not personal:
        return Errors(
            math.nan, math.nan, each | _missed(problem.numbers(theta), problem.true())
        )
    owners = _owners(problem)
    found = []
    for m, values in personal.items():
        mine = None if owners is None else owners == m
        if mine is None or mine.any():
            network = problem.personal.at(values)
            found.append(_measured(problem, network, theta, mine, each, m))
    if not found:  # nobody that is known has test points
        return Errors(math.nan, math.nan, each)
    several = [list(one.each.values()) for one in found]
    means = torch.tensor(several, dtype=torch.float64, device="cpu").mean(0).tolist()
    relative = [one.relative_l2 for one in found]
    squares = [one.mse for one in found]
    return Errors(
        sum(relative) / len(found),
        sum(squares) / len(found),
        dict(zip(each, means, strict=True)),
    )


def _missed(
    numbers: Mapping[str, float], truth: Mapping[str, float]
) -> dict[str, float]:
    """Relative errors of numbers by name, absolute of those that are truly 0."""
    return {
        name: abs(numbers[name] - true) / (abs(true) or 1.0)
        for name, true in truth.items()
        if name in numbers
    }


def _owners(problem: Problem) -> Tensor | None:
    """Whose each test point is, [n]; None where they are no one's."""
    if problem.test_owners is not None or problem.test_points is None:
        return problem.test_owners
    return _parted(problem, problem.test_points)


def _parted(problem: Problem, points: Tensor) -> Tensor | None:
    """In whose part of the domain points [n, d] are, [n]; None without parts."""
    try:
        return problem.partition.owner(points)
    except ValueError:
        return None


def _measured(
    problem: Problem,
    network: Network,
    theta: Tensor,
    mine: Tensor | None,
    each: Mapping[str, float],
    client: int = 0,
) -> Errors:
    """Errors of one network, at some of the test points."""
    each = dict(each)
    numbers = dict(zip(problem.unknowns, network.numbers(theta).tolist(), strict=True))
    each |= _missed(numbers, problem.true(client))
    if problem.test_points is None or problem.reference is None:
        return Errors(math.nan, math.nan, each)
    reference, points = problem.reference.to(theta), problem.test_points.to(theta)
    if mine is not None:
        reference, points = reference[mine], points[mine]
    values = network(theta, points)
    off, size = (values - reference).norm(dim=0), reference.norm(dim=0)
    each |= zip(problem.outputs, (off / size).tolist(), strict=True)
    known = ~reference.isnan().all(0)
    difference, reference = (values - reference)[:, known], reference[:, known]
    relative = float(difference.norm() / reference.norm())
    return Errors(relative, float(difference.square().mean()), each)


def errors(
    problem: Problem, theta: Tensor, personal: Personal | None = None
) -> tuple[float, float]:
    """Relative L2 error and mean squared error, see ``measure`` and ``Errors``."""
    found = measure(problem, theta, personal)
    return found.relative_l2, found.mse


@torch.no_grad()
def metrics(
    problem: Problem, theta: Tensor, personal: Personal | None = None
) -> dict[str, float]:
    """How good theta [p] is on ``problem.tests``, by the names of the likelihoods.

    Such as ``accuracy`` and the mean ``deviance``; means over the test points where
    several terms know one. Empty without tests, or where clients have parameters of
    their own that are not known. Arguments as of ``predicted``.
    """
    found: dict[str, list[tuple[float, int]]] = {}
    for number, (z, y) in enumerate(predicted(problem, theta, personal)):
        if not z.shape[1]:
            continue
        told = problem.tests[number].likelihood.metrics(z, y)
        for name, value in told.items():
            found.setdefault(name, []).append((value, z.shape[1]))
    return {
        name: sum(value * n for value, n in parts) / sum(n for _, n in parts)
        for name, parts in found.items()
    }


def predicted(
    problem: Problem, theta: Tensor, personal: Personal | None = None
) -> list[tuple[Tensor, Tensor | None]]:
    """Predictors [q, n] and observations of each term of ``problem.tests``.

    Where clients have parameters of their own, each predicts with those: at its own
    points of a test that lists them, those of its part of the domain, or all, if they
    are no one's. Nothing without the parameters; n = 0 if none of the clients that are
    known has points.

    Args:
        problem: Gives the tests.
        theta: Shared parameters, shape [p].
        personal: Of the clients, where they have any.
    """
    testing, view = problem.testing, problem.personal
    if testing is None or (view is not None and not personal):
        return []
    shard = testing.pooled()
    result = []
    for rows, term in zip(shard.rows, problem.tests, strict=True):
        pieces = [(rows, theta)]
        if view is not None and personal:
            owners = _tested(problem, term)
            pieces = [
                (
                    rows if owners is None else rows.part(owners == m),
                    view.joined(theta, f),
                )
                for m, f in sorted(personal.items())
            ]
        found, targets = [theta.new_zeros(1, 0)], []
        for part, at in pieces:
            if not len(part.points):
                continue
            those = replace(shard, rows=(part,), parts=())
            system = System(testing, those, theta.device, theta.dtype)
            one = system if view is None else system.sites[0]
            found += [block.predictors(at[None])[0] for block in one.blocks]
            if part.target is not None:
                targets.append(part.target.to(theta))
        z = torch.cat(found[1:] or found, dim=1)
        y = None if rows.target is None else rows.target[:0].to(theta)
        result.append((z, torch.cat(targets) if targets else y))
    return result


def _tested(problem: Problem, term: Term) -> Tensor | None:
    """Whose each point of a test is, [n]; None where they are no one's."""
    if isinstance(term.points, Tensor):
        return _parted(problem, term.points)
    counts = torch.tensor([len(part) for part in term.points], device="cpu")
    if len(counts) != problem.clients:
        return _parted(problem, joined(term.points))
    return torch.arange(len(counts), device="cpu").repeat_interleave(counts)


def gradient_norm(
    problem: Problem, theta: Tensor, personal: Personal | None = None
) -> float | None:
    """Norm of the gradient of the whole loss at theta [p], the prior's part with it.

    By the clients' own parameters too, where they have some. None where not all points
    or parameters are here.
    """
    if problem.partial:
        return None
    whole = System(problem, problem.pooled(), theta.device, theta.dtype)
    if problem.personal is not None:
        if not personal or len(personal) < problem.clients:
            return None
        every = Together(whole)
        values = torch.stack([personal[m] for m in range(problem.clients)])
        slope = every.slope(every.joined(theta, values))
        slope[: len(theta)] += problem.prior * theta
        return float(slope.norm())
    return float((whole.slope(theta) + problem.prior * theta).norm())


def quantity(problem: Problem) -> str:
    """The error that is usual: ``mse`` of a regression, else ``relative_l2``."""
    one = tuple(  # row of each term tells what its residual reads
        rows.part(slice(1)) for rows in problem.pooled().rows
    )
    blocks = System(problem, Shard(0, one, 1.0)).blocks
    data = all(isinstance(b, JetBlock) and b.layout.order == 0 for b in blocks)
    return "mse" if data else "relative_l2"


def gauss_newton_gap(
    pooled: System,
    theta: Tensor,
    taken: Tensor,
    step: float = 1.0,
    damping: float = 0.0,
    cutoff: float = 0.0,
) -> float:
    """|J (D - D_gn)| / |J D_gn|: how far a step is from the centralised one.

    D_gn is the step of the same length, damping and cut-off from the full singular
    value decomposition of the pooled Jacobian. Steps are compared by what they do to
    the residual, since J is rank deficient and steps that differ by 1e-3 in theta can
    both be Gauss-Newton's. With a prior D_gn minimises it, too.

    Args:
        pooled: All rows.
        theta: Where the step started, shape [p].
        taken: The step D, shape [p].
        step: Fraction of the full step; 0 for none: then the gap to the full one.
        damping: mu, absolute.
        cutoff: Relative cut-off of singular values; 1e-10 stands in where both it and
            the damping are zero, as for methods that solve nothing.
    """
    linear = pooled.linearise(theta)
    whole = spectrum(from_jacobian(linear.jacobian(), linear.residual))
    if prior := pooled.problem.prior:
        whole = beside(whole, theta, prior).whole
    if damping == 0 and cutoff == 0:
        cutoff = 1e-10
    ideal = linear.jvp((step or 1.0) * whole.step(damping, cutoff))
    return float((linear.jvp(taken) - ideal).norm() / ideal.norm())
