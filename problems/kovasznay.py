"""Steady Navier-Stokes flow behind a grid (Kovasznay), Re = 40; outputs u, v, p.

    u u_x + v u_y = -p_x + (u_xx + u_yy) / Re,    u v_x + v v_y = -p_y + ... / Re,
    u_x + v_y = 0    on (-1/2, 1) x (-1/2, 3/2),

with u and v given on all sides. They leave the pressure free up to a constant, which
its values on the outflow side x = 1 fix. Exact solution by L. I. G. Kovasznay, Laminar
flow behind a two-dimensional grid, Proc. Cambridge Phil. Soc. 44 (1948) 58-62.
"""

from math import pi, sqrt
from typing import Unpack

import torch
from torch import Tensor

from fedsciml.collocation import in_box, on_faces, uniform
from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Row, Term
from fedsciml.problems._suite import Options, faces, setting

RE = 40.0
LAMBDA = RE / 2 - sqrt(RE**2 / 4 + 4 * pi**2)
"""Decay rate of the wake, negative."""

SIDES, OUTFLOW = ((0, 0), (0, 1), (1, 0), (1, 1)), ((0, 1),)
"""Faces, by (axis, side), where the velocity and the pressure are given."""


def navier_stokes(w: Jet, row: Row) -> tuple[Tensor, Tensor, Tensor]:
    """Both components of the balance of momentum, and the divergence."""
    u, v, p = w.u, w.v, w.p
    return (
        u.value * u.x + v.value * u.y + p.x - u.laplacian / RE,
        u.value * v.x + v.value * v.y + p.y - v.laplacian / RE,
        u.x + v.y,
    )


def velocity(w: Jet, row: Row) -> tuple[Tensor, Tensor]:
    """(u, v) - target."""
    u, v, _ = row.target.unbind(1)
    return w.u.value - u, w.v.value - v


def pressure(w: Jet, row: Row) -> Tensor:
    """p - target."""
    return w.p.value - row.target[:, 2]


def solution(points: Tensor) -> Tensor:
    """u, v, p, shape [n, 3]."""
    x, y = points.unbind(1)
    wake = torch.exp(LAMBDA * x)
    u = 1 - wake * torch.cos(2 * pi * y)
    v = LAMBDA / (2 * pi) * wake * torch.sin(2 * pi * y)
    return torch.stack([u, v, (1 - wake**2) / 2], 1)


def make(clients: int = 2, **options: Unpack[Options]) -> Problem:
    """The problem in equal strips along x; see ``problems._suite.Options``."""
    made = setting(clients, options)
    generator = made.generator()
    lower, upper = [-0.5, -0.5], [1.0, 1.5]
    box = (lower, upper, generator)
    inside = uniform(made.count(1000), *box)
    around = faces(made.count(80), *box, SIDES)
    outflow = faces(made.count(80), *box, OUTFLOW)
    return Problem(
        "kovasznay",
        made.network(2, 2, 40, outputs=3),
        [
            Term("navier_stokes", navier_stokes, inside, sample=in_box(lower, upper)),
            Term(
                "velocity",
                velocity,
                around,
                target=solution,
                weight=10.0,
                sample=on_faces(lower, upper, SIDES),
            ),
            Term(
                "pressure",
                pressure,
                outflow,
                target=solution,
                weight=10.0,
                sample=on_faces(lower, upper, OUTFLOW),
            ),
        ],
        made.divide(lower, upper),
        coordinates="xy",
        outputs="uvp",
        exact=solution,
        test_points=uniform(2000, *box),
        domain=(lower, upper),
        parameters=made.parameters(),
    )
