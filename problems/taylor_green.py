"""Decaying Taylor-Green vortex, Navier-Stokes in time with nu = 0.01; outputs u, v, p.

    u_t + u u_x + v u_y = -p_x + nu (u_xx + u_yy),    the same for v with -p_y,
    u_x + v_y = 0    on (x, y) in (0, 1)^2, t in (0, 1),

with u and v given on all sides, and at t = 0 as a hard constraint. They leave the
pressure free up to a function of time, which its values on the side x = 1 fix. Exact
solution, per unit of density:

    u = -cos(pi x) sin(pi y) F,  v = sin(pi x) cos(pi y) F,  F = exp(-2 pi^2 nu t),
    p = -(cos(2 pi x) + cos(2 pi y)) F^2 / 4.

Source: Taylor and Green, Mechanism of the production of small eddies from large ones,
Proc. R. Soc. London A 158 (1937) 499-521.
"""

from math import pi
from typing import Unpack

import torch
from torch import Tensor

from fedsciml.collocation import in_box, on_faces, uniform
from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Row, Term
from fedsciml.problems._suite import Options, faces, setting
from fedsciml.problems.kovasznay import OUTFLOW, SIDES, pressure, velocity

NU = 0.01


def navier_stokes(w: Jet, row: Row) -> tuple[Tensor, Tensor, Tensor]:
    """Both components of the balance of momentum, and the divergence."""
    u, v, p = w.u, w.v, w.p
    return (
        u.t + u.value * u.x + v.value * u.y + p.x - NU * (u.xx + u.yy),
        v.t + u.value * v.x + v.value * v.y + p.y - NU * (v.xx + v.yy),
        u.x + v.y,
    )


def solution(points: Tensor) -> Tensor:
    """u, v, p, shape [n, 3]."""
    x, y, t = points.unbind(1)
    decay = torch.exp(-2 * pi**2 * NU * t)
    u = -torch.cos(pi * x) * torch.sin(pi * y) * decay
    v = torch.sin(pi * x) * torch.cos(pi * y) * decay
    p = -(torch.cos(2 * pi * x) + torch.cos(2 * pi * y)) * decay**2 / 4
    return torch.stack([u, v, p], 1)


def start(points: Tensor) -> Tensor:
    """u, v at t = 0, and nothing for p, shape [n, 3]."""
    x, y, t = points.unbind(1)
    u, v, p = solution(torch.stack([x, y, 0 * t], 1)).unbind(1)
    return torch.stack([u, v, 0 * p], 1)


def since(points: Tensor) -> Tensor:
    """(t, t, 1): what is learned of u and v vanishes at t = 0, shape [n, 3]."""
    t = points[:, 2]
    return torch.stack([t, t, torch.ones_like(t)], 1)


def make(clients: int = 2, **options: Unpack[Options]) -> Problem:
    """The problem in equal strips along x; see ``problems._suite.Options``."""
    made = setting(clients, options)
    generator = made.generator()
    lower, upper = [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]
    box = (lower, upper, generator)
    inside = uniform(made.count(700), *box)
    walls = faces(made.count(80), *box, SIDES)
    side = faces(made.count(80), *box, OUTFLOW)
    return Problem(
        "taylor_green",
        made.network(3, 3, 25, outputs=3, lift=start, distance=since),
        [
            Term("navier_stokes", navier_stokes, inside, sample=in_box(lower, upper)),
            Term(
                "velocity",
                velocity,
                walls,
                target=solution,
                weight=10.0,
                sample=on_faces(lower, upper, SIDES),
            ),
            Term(
                "pressure",
                pressure,
                side,
                target=solution,
                weight=10.0,
                sample=on_faces(lower, upper, OUTFLOW),
            ),
        ],
        made.divide(lower, upper),
        coordinates="xyt",
        outputs="uvp",
        exact=solution,
        test_points=uniform(4000, *box),
        domain=(lower, upper),
        parameters=made.parameters(),
    )
