"""How far a model is from the reference, and a step from Gauss-Newton's."""

import math

import torch
from torch import Tensor

from fedsciml.problem import Problem
from fedsciml.residual import System
from fedsciml.sketch import from_jacobian
from fedsciml.solve import spectrum


@torch.no_grad()
def errors(problem: Problem, theta: Tensor) -> tuple[float, float]:
    """Relative L2 error |u - v| / |v| and mean squared error on the test points.

    NaN for both if the problem has no reference.
    """
    if problem.test_points is None or problem.reference is None:
        return math.nan, math.nan
    points = problem.test_points.to(theta)
    reference = problem.reference.to(theta)
    difference = problem.network(theta, points) - reference
    relative = difference.norm() / reference.norm()
    return float(relative), float(difference.square().mean())


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
    both be Gauss-Newton's.

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
    if damping == 0 and cutoff == 0:
        cutoff = 1e-10
    ideal = linear.jvp((step or 1.0) * whole.step(damping, cutoff))
    return float((linear.jvp(taken) - ideal).norm() / ideal.norm())
