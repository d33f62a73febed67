"""Heat equation u_t = nu u_xx on x in (0, 1) m, t in (0, 1) s; nu = 0.1 m^2/s.

u = 0 K at both ends, softly; u = sin(pi x) K at t = 0, as a hard constraint. Exact
solution exp(-nu pi^2 t) sin(pi x) (separation of variables). Points by DeepXDE.
"""

from math import pi

import torch
from torch import Generator, Tensor

from fedsciml.collocation import boundary, interior, strips, uniform
from fedsciml.deepxde import deepxde
from fedsciml.jet import Jet
from fedsciml.network import MLP
from fedsciml.problem import Problem, Row, Term

NU = 0.1


def heat(u: Jet, row: Row) -> Tensor:
    """u_t - nu u_xx, in K/s."""
    return u.t - NU * u.xx


def ends(u: Jet, row: Row) -> Tensor:
    """u - target, in K."""
    return u.value - row.target


def solution(points: Tensor) -> Tensor:
    """exp(-nu pi^2 t) sin(pi x), in K."""
    x, t = points.unbind(1)
    return torch.exp(-NU * pi**2 * t) * torch.sin(pi * x)


def sample(n: int, generator: Generator) -> Tensor:
    """Points (x, t) [n, 2], evenly spread."""
    return uniform(n, [0, 0], [1, 1], generator)


def make(clients: int = 2, seed: int = 0) -> Problem:
    """The problem with ``clients`` equal strips along x."""
    geometry = deepxde().geometry
    rod = geometry.GeometryXTime(geometry.Interval(0, 1), geometry.TimeDomain(0, 1))
    network = MLP(
        (2, 20, 20, 1),
        lift=lambda points: torch.sin(pi * points[:, 0]),  # u at t = 0
        distance=lambda points: points[:, 1],  # vanishes at t = 0
    )
    return Problem(
        "heat",
        network,
        [
            Term("heat", heat, interior(rod, 500, seed), sample=sample),
            Term("ends", ends, boundary(rod, 100, seed), target=0.0, weight=10.0),
        ],
        strips([k / clients for k in range(clients + 1)]),
        coordinates="xt",
        exact=solution,
        test_points=sample(1000, Generator().manual_seed(seed)),
        domain=([0, 0], [1, 1]),
        parameters={"clients": clients, "seed": seed},
    )
