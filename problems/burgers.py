"""Burgers equation u_t + u u_x = nu u_xx on x in (-1, 1), t in (0, 1); nu = 0.01 / pi.

u = -sin(pi x) at t = 0 and u = 0 at both ends, as a hard constraint. A shock of width
1/150, about 2 nu, forms at x = 0 by t = 1/2, so the points crowd there: x is the cube
of a uniform number. Reference by the Cole-Hopf formula. Source of the problem and of
the quadrature: Basdevant et al., Spectral and finite difference solutions of the
Burgers equation, Computers & Fluids 14 (1986) 23-41.
"""

from functools import partial
from math import pi
from typing import Literal, Unpack

import numpy as np
import torch
from torch import Generator, Tensor

from fedsciml.collocation import in_box
from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Residual, Row, Term
from fedsciml.problems._suite import Options, setting

NU = 0.01 / pi
VISCOSITIES = (0.002, 0.3)
"""Smallest and largest nu; in between the reference errs by at most 1e-12."""

LOWER, UPPER = [-1.0, 0.0], [1.0, 1.0]
"""Corners of the domain."""

sample = in_box(LOWER, UPPER)


def burgers(nu: float) -> Residual:
    """The residual u_t + u u_x - nu u_xx."""

    def equation(u: Jet, row: Row) -> Tensor:
        return u.t + u.value * u.x - nu * u.xx

    return equation


def start(points: Tensor) -> Tensor:
    """u = -sin(pi x) at t = 0, shape [n]."""
    return -torch.sin(pi * points[:, 0])


def solution(points: Tensor, nu: float = NU, nodes: int = 100) -> Tensor:
    r"""u at points (x, t), shape [n], by the formula of Cole and Hopf.

    u is the mean of ``start`` over y = x - sqrt(4 nu t) z with the weights

        exp(-z^2 - cos(pi y) / (2 pi nu)),

    integrated over z by Gauss-Hermite quadrature; the weights are added up relative to
    the largest. At nu = 0.01 / pi, 100 nodes err by less than 1e-14.

    Args:
        points: Shape [n, 2], t >= 0.
        nu: Viscosity, positive; the smaller, the more nodes are needed.
        nodes: Of the quadrature, at most 180.
    """
    z, weights = map(torch.from_numpy, np.polynomial.hermite.hermgauss(nodes))
    x, t = points.unsqueeze(-1).unbind(1)
    y = x - torch.sqrt(4 * nu * t) * z
    mean = torch.softmax(torch.log(weights) - torch.cos(pi * y) / (2 * pi * nu), 1)
    return -(mean * torch.sin(pi * y)).sum(1)


def crowded(n: int, generator: Generator) -> Tensor:
    """Points with x = s^3 for a uniform s, shape [n, 2]; a fifth has |x| < 1/125."""
    points = sample(n, generator)
    points[:, 0] **= 3
    return points


def make(
    clients: int = 2,
    nu: float = NU,
    normalise: Literal["none", "gradient"] = "none",
    **options: Unpack[Options],
) -> Problem:
    """The problem in equal strips along x; see ``problems._suite.Options``.

    Args:
        clients: Number of clients M.
        nu: Viscosity, from 0.002 to 0.3; shocks are as wide as it is large.
        normalise: "gradient" for rows that weigh less in the shock, see ``Term``.
        options: See ``problems._suite.Options``.

    Raises:
        ValueError: If an option is out of range.
    """
    smallest, largest = VISCOSITIES
    if not smallest <= nu <= largest:
        raise ValueError(
            f"The viscosity nu must be between {smallest} and {largest}, where the "
            f"reference has its digits; got {nu}."
        )
    made = setting(clients, options)
    weighed: Literal["gradient"] | None = None if normalise == "none" else normalise
    generator = made.generator()
    nodes = 100 if nu <= 0.02 else 180
    return Problem(
        "burgers",
        made.network(
            2,
            4,
            20,
            lift=start,
            distance=lambda points: points[:, 1] * (1 - points[:, 0] ** 2),
        ),
        [
            Term(
                "burgers",
                burgers(nu),
                crowded(made.count(2000), generator),
                sample=sample,
                normalise=weighed,
            )
        ],
        made.divide(LOWER, UPPER),
        coordinates="xt",
        exact=partial(solution, nu=nu, nodes=nodes),
        test_points=sample(4000, generator),
        domain=(LOWER, UPPER),
        parameters={**made.parameters(), "nu": nu, "normalise": normalise},
    )
