"""How surely the parameters of a likelihood are known: its information, inverted."""

from typing import NamedTuple

import torch
from torch import Tensor

from fedsciml.analysis.determined import check_theta
from fedsciml.linalg.sketch import from_jacobian, merge
from fedsciml.network import MLP
from fedsciml.problem import Problem
from fedsciml.residual import System


def standard_errors(problem: Problem, theta: Tensor) -> Tensor:
    """Standard errors of all parameters, from the expected information.

    Of a likelihood whose spread is known (counts, classes, yes or no), or fitted as an
    unknown number, the maximum theta of independent rows has about the covariance

        (n J^T J)^-1,    J of the rows that weigh 1 / sqrt(n)

    (R. A. Fisher, 1925), with a prior (n J^T J + n prior I)^-1. The clients' sketches
    tell it, added up as in a round. Numbers that are fitted have the unit of theta.

    Args:
        problem: Of one term.
        theta: The maximum, shape [p].

    Returns:
        Square roots of the diagonal, shape [p], float64.

    Raises:
        ValueError: If theta is not of the problem, or clients have parameters of their
            own beside it, there are several terms, which weigh by their own numbers of
            points, the likelihood has weights in place of an information, as robust
            ones, or the rows do not determine all parameters.
    """
    check_theta(problem, theta)
    if len(problem.terms) != 1:
        raise ValueError(
            f"Standard errors are those of one term's likelihood; problem "
            f"'{problem.name}' has {len(problem.terms)} terms."
        )
    told = problem.terms[0].likelihood
    if not told.exact:
        raise ValueError(
            f"{type(told).__name__} weighs rows for iterated least squares; that is no "
            "information, and tells no standard errors. Take another likelihood, or "
            "draw the points again many times and look how far the fits differ."
        )
    shards = problem.shards()
    n = sum(shard.points for shard in shards)
    parts = []
    for shard in shards:
        linear = System(problem, shard).linearise(theta.double().cpu())
        parts.append(from_jacobian(linear.jacobian(), linear.residual))
    factor = merge(parts).factor
    own = problem.prior**0.5 * torch.eye(
        factor.shape[1], dtype=factor.dtype, device="cpu"
    )
    _, s, v = torch.linalg.svd(torch.cat([factor, own]), full_matrices=False)
    if float(s[-1]) <= len(s) * torch.finfo(s.dtype).eps * float(s[0]):
        raise ValueError(
            f"The rows of problem '{problem.name}' do not determine all of its "
            f"{len(s)} parameters: some of them change no row. Leave out covariates, "
            "or give the problem a prior."
        )
    weight = problem.terms[0].weight
    return (v / s[:, None]).norm(dim=0) / (n / weight) ** 0.5


INTERCEPT = "intercept"
"""Name of the coefficient that stands alone."""


class Coefficient(NamedTuple):
    """A coefficient of a linear predictor, and its standard error."""

    value: float
    error: float


def coefficients(problem: Problem, theta: Tensor) -> dict[str, Coefficient] | None:
    """The coefficients of a linear predictor, by the names of the coordinates.

    The last one is the ``intercept``.

    Args:
        problem: Of one term, whose likelihood is not that of squares.
        theta: The maximum, shape [p].

    Returns:
        None if the predictor is not linear in the coordinates themselves, as an
        ``MLP`` of widths (d, 1) without units is, or there are no standard errors.
    """
    network, names = problem.network, problem.coordinates
    bare = isinstance(network, MLP) and not any(
        (network.features, network.inputs, network.outputs, network.distance)
    )
    if not bare or network.size != len(names) + 1 or len(problem.terms) != 1:
        return None
    if problem.squares:
        return None
    try:
        errors = standard_errors(problem, theta).tolist()
    except ValueError:
        return None
    found = map(Coefficient, theta.tolist(), errors)
    return dict(zip((*names, INTERCEPT), found, strict=True))
