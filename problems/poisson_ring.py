"""Poisson equation -Lap u = f on a disk with a hole, 1/4 < r < 1; sectors by angle.

u is given on both circles. Exact solution u = log r + sin(pi x) sin(pi y), so
f = 2 pi^2 sin(pi x) sin(pi y): the logarithm has its source in the hole. Points by
DeepXDE's CSG geometry.
"""

from math import pi
from typing import Unpack

import torch
from torch import Generator, Tensor

from fedsciml.collocation import SLACK, boundary, in_box, interior, uniform
from fedsciml.deepxde import deepxde
from fedsciml.problem import Problem, Term
from fedsciml.problems._suite import Options, given, only, setting
from fedsciml.problems.poisson_square import poisson, source
from fedsciml.problems.poisson_square import solution as smooth


def solution(points: Tensor) -> Tensor:
    """log r + sin(pi x) sin(pi y), shape [n]."""
    return torch.log((points**2).sum(1)) / 2 + smooth(points)


def inside(points: Tensor) -> Tensor:
    """Which points are between the circles or on them, but for rounding."""
    r = points.norm(dim=1)
    return (r > 0.25 - SLACK) & (r < 1 + SLACK)


def on_circles(n: int, generator: Generator) -> Tensor:
    """n points evenly spread over the circles, every other on the inner one."""
    angle = uniform(n, [0.0], [2 * pi], generator)[:, 0]
    first = int(torch.randint(2, (), generator=generator))
    radius = torch.ones_like(angle)
    radius[first::2] = 0.25
    return radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)


def make(clients: int = 4, **options: Unpack[Options]) -> Problem:
    """The problem in equal sectors; see ``problems._suite.Options``."""
    made = setting(clients, options)
    geometry = deepxde().geometry
    ring = geometry.Disk([0, 0], 1) - geometry.Disk([0, 0], 0.25)
    lower, upper = [-1.0, -1.0], [1.0, 1.0]
    within = interior(ring, made.count(1500), made.seed)
    circles = boundary(ring, made.count(400), made.seed)
    return Problem(
        "poisson_ring",
        made.network(2, 2, 30),
        [
            Term(
                "poisson", poisson, within, source, sample=in_box(lower, upper, inside)
            ),
            Term(
                "boundary",
                given,
                circles,
                target=solution,
                weight=100.0,
                sample=on_circles,
            ),
        ],
        made.divide(lower, upper, "sectors", angles=(0.0, 2 * pi)),
        coordinates="xy",
        exact=only(inside, solution),
        test_points=interior(ring, 2000, made.seed + 1),
        domain=(lower, upper),
        parameters=made.parameters(),
    )
