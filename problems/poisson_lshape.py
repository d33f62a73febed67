"""Poisson equation -Lap u = f on the L-shape (-1, 1)^2 without (0, 1) x (-1, 0).

u is given on the boundary; a client owns one of the three squares. Exact solution
u = sin(pi x) sin(pi y), so f = 2 pi^2 u; or, with ``singular``, the harmonic function
r^(2/3) sin(2 phi / 3) in polar coordinates about the corner, whose gradient is infinite
there: no smooth network has many digits of it. Points by DeepXDE's CSG geometry.
"""

from math import pi
from typing import Unpack

import torch
from torch import Tensor

from fedsciml.collocation import SLACK, boundary, in_box, interior, on_polygon
from fedsciml.deepxde import deepxde
from fedsciml.problem import Problem, Term
from fedsciml.problems._suite import Options, given, only, setting
from fedsciml.problems.poisson_square import poisson, source
from fedsciml.problems.poisson_square import solution as smooth

VERTICES = ((0, 0), (1, 0), (1, 1), (-1, 1), (-1, -1), (0, -1))
"""Of the L-shape, from the corner on."""


def corner(points: Tensor) -> Tensor:
    """r^(2/3) sin(2 phi / 3), shape [n]; phi in (0, 3 pi / 2) within the L-shape."""
    x, y = points.unbind(1)
    # Counted from the bisector of the domain, where atan2 has no jump.
    phi = 3 * pi / 4 + torch.atan2(-x - y, y - x)
    return (x**2 + y**2) ** (1 / 3) * torch.sin(2 * phi / 3)


def strictly(points: Tensor) -> Tensor:
    """Which points are in the L-shape: in a sector, without any slack."""
    x, y = points.unbind(1)
    return (x < 0) | (y > 0)


def inside(points: Tensor) -> Tensor:
    """Which points are in the L-shape or on its boundary, but for rounding."""
    x, y = points.unbind(1)
    return (x < SLACK) | (y > -SLACK)


def make(
    clients: int = 3, singular: bool = False, **options: Unpack[Options]
) -> Problem:
    """The problem; see ``problems._suite.Options``. Three sectors are the squares.

    Args:
        clients: Number of clients M.
        singular: Whether u is the function with a singular corner, not a smooth one.
        options: See there.
    """
    made = setting(clients, options)
    geometry = deepxde().geometry
    # The part that is cut away sticks out: DeepXDE would keep its sides on the square's
    # as boundary.
    shape = geometry.Rectangle([-1, -1], [1, 1]) - geometry.Rectangle([0, -2], [2, 0])
    lower, upper = [-1.0, -1.0], [1.0, 1.0]
    solution = corner if singular else smooth
    within = interior(shape, made.count(1500), made.seed)
    around = boundary(shape, made.count(400), made.seed)
    return Problem(
        "poisson_lshape",
        made.network(2, 2, 30),
        [
            Term(
                "poisson",
                poisson,
                within,
                target=0.0 if singular else source,
                sample=in_box(lower, upper, strictly),
            ),
            Term(
                "boundary",
                given,
                around,
                target=solution,
                weight=100.0,
                sample=on_polygon(VERTICES),
            ),
        ],
        made.divide(lower, upper, "sectors", angles=(0.0, 3 * pi / 2)),
        coordinates="xy",
        exact=only(inside, solution),
        test_points=interior(shape, 2000, made.seed + 1),
        domain=(lower, upper),
        parameters={**made.parameters(), "singular": singular},
    )
