"""Heat equation u_t = nu u_xx on x in (0, 1) m, t in (0, 1) s; nu = 0.1 m^2/s.

u = 0 K at both ends, softly; u = sin(pi x) K at t = 0, as a hard constraint. Exact
solution exp(-nu pi^2 t) sin(pi x) (separation of variables). Points by DeepXDE.
"""

from math import pi
from typing import Unpack

import torch
from torch import Tensor

from fedsciml.collocation import boundary, in_box, interior, on_faces, uniform
from fedsciml.deepxde import deepxde
from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Row, Term
from fedsciml.problems._suite import Options, given, setting

NU = 0.1


def heat(u: Jet, row: Row) -> Tensor:
    """u_t - nu u_xx, in K/s."""
    return u.t - NU * u.xx


def solution(points: Tensor) -> Tensor:
    """exp(-nu pi^2 t) sin(pi x), in K."""
    x, t = points.unbind(1)
    return torch.exp(-NU * pi**2 * t) * torch.sin(pi * x)


def make(clients: int = 2, **options: Unpack[Options]) -> Problem:
    """The problem in equal strips along x; see ``problems._suite.Options``."""
    made = setting(clients, options)
    geometry = deepxde().geometry
    rod = geometry.GeometryXTime(geometry.Interval(0, 1), geometry.TimeDomain(0, 1))
    lower, upper = [0.0, 0.0], [1.0, 1.0]
    inside = interior(rod, made.count(500), made.seed)
    ends = boundary(rod, made.count(100), made.seed)
    return Problem(
        "heat",
        made.network(
            2,
            2,
            20,
            lift=lambda points: torch.sin(pi * points[:, 0]),  # u at t = 0
            distance=lambda points: points[:, 1],  # vanishes at t = 0
        ),
        [
            Term("heat", heat, inside, sample=in_box(lower, upper)),
            Term(
                "ends",
                given,
                ends,
                target=0.0,
                weight=10.0,
                sample=on_faces(lower, upper, [(0, 0), (0, 1)]),
            ),
        ],
        made.divide(lower, upper),
        coordinates="xt",
        exact=solution,
        test_points=uniform(1000, lower, upper, made.generator()),
        domain=(lower, upper),
        parameters=made.parameters(),
    )
