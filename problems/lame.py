"""Plane linear elasticity (Lame), displacement u, v in mm on the unit square, in m.

    (lambda + 2 mu) u_xx + mu u_yy + (lambda + mu) v_xy + f = 0,
    (lambda + 2 mu) v_yy + mu v_xx + (lambda + mu) u_xy + g = 0,

with lambda = 1 GPa and mu = 0.5 GPa, so stresses are in MPa and body forces (f, g) in
MPa/m. Displacement is given on three sides, the traction on y = 1. Solution (of
manufactured forces) u = cos(2 pi x) sin(pi y), v = sin(pi x) y^4. Source: Haghighat,
Raissi, Moure, Gomez, Juanes (2021), arXiv 2003.02751, with other boundary values.
"""

from math import pi
from typing import Unpack

import torch
from torch import Tensor

from fedsciml.collocation import in_box, on_faces, uniform
from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Row, Term
from fedsciml.problems._suite import Options, all_given, faces, setting

LAMBDA, MU = 1.0, 0.5

HELD, TOP = ((0, 0), (0, 1), (1, 0)), ((1, 1),)
"""Faces, by (axis, side), where displacement or traction is given."""


def equilibrium(w: Jet, row: Row) -> tuple[Tensor, Tensor]:
    """Divergence of the stress and the body force, in MPa/m."""
    u, v = w.u, w.v
    f, g = row.target.unbind(1)
    return (
        (LAMBDA + 2 * MU) * u.xx + MU * u.yy + (LAMBDA + MU) * v.xy + f,
        (LAMBDA + 2 * MU) * v.yy + MU * v.xx + (LAMBDA + MU) * u.xy + g,
    )


def traction(w: Jet, row: Row) -> tuple[Tensor, Tensor]:
    """Shear and normal stress on a face of constant y minus the target, in MPa."""
    shear, normal = row.target.unbind(1)
    return (
        MU * (w.u.y + w.v.x) - shear,
        LAMBDA * w.u.x + (LAMBDA + 2 * MU) * w.v.y - normal,
    )


def solution(points: Tensor) -> Tensor:
    """u and v in mm, shape [n, 2]."""
    x, y = points.unbind(1)
    u = torch.cos(2 * pi * x) * torch.sin(pi * y)
    return torch.stack([u, torch.sin(pi * x) * y**4], 1)


def force(points: Tensor) -> Tensor:
    """(f, g) in MPa/m, shape [n, 2], from the second derivatives of the solution."""
    x, y = points.unbind(1)
    u, v = solution(points).unbind(1)
    u_xx, u_yy = -4 * pi**2 * u, -(pi**2) * u
    u_xy = -2 * pi**2 * torch.sin(2 * pi * x) * torch.cos(pi * y)
    v_xx, v_yy = -(pi**2) * v, 12 * torch.sin(pi * x) * y**2
    v_xy = 4 * pi * torch.cos(pi * x) * y**3
    f = -(LAMBDA + 2 * MU) * u_xx - MU * u_yy - (LAMBDA + MU) * v_xy
    g = -(LAMBDA + 2 * MU) * v_yy - MU * v_xx - (LAMBDA + MU) * u_xy
    return torch.stack([f, g], 1)


def load(points: Tensor) -> Tensor:
    """Traction (shear, normal) in MPa on y = 1, shape [n, 2]."""
    x = points[:, 0]
    shear = MU * (pi * torch.cos(pi * x) - pi * torch.cos(2 * pi * x))
    normal = (LAMBDA + 2 * MU) * 4 * torch.sin(pi * x)
    return torch.stack([shear, normal], 1)


def make(clients: int = 2, **options: Unpack[Options]) -> Problem:
    """The problem in equal strips along x; see ``problems._suite.Options``."""
    made = setting(clients, options)
    generator = made.generator()
    lower, upper = [0.0, 0.0], [1.0, 1.0]
    n = made.count(80)
    inside = uniform(made.count(1000), lower, upper, generator)
    held = faces(n, lower, upper, generator, HELD)
    top = faces(n, lower, upper, generator, TOP)
    return Problem(
        "lame",
        made.network(2, 2, 30, outputs=2),
        [
            Term(
                "equilibrium", equilibrium, inside, force, sample=in_box(lower, upper)
            ),
            Term(
                "displacement",
                all_given,
                held,
                target=solution,
                weight=100.0,
                sample=on_faces(lower, upper, HELD),
            ),
            Term(
                "traction",
                traction,
                top,
                target=load,
                weight=10.0,
                sample=on_faces(lower, upper, TOP),
            ),
        ],
        made.divide(lower, upper),
        coordinates="xy",
        outputs="uv",
        exact=solution,
        test_points=uniform(2000, lower, upper, generator),
        domain=(lower, upper),
        parameters=made.parameters(),
    )
