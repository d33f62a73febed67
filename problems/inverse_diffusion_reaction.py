"""Find the function k in 0.01 u'' - k(x) u = sin(2 pi x) on (0, 1); 2 pieces.

u(0) = u(1) = 0, as a hard constraint. u is observed at 24 equispaced points; the
equation is asked for at 10, 8 of them inside. The true k is
0.1 + exp(-(x - 1/2)^2 / (2 * 0.15^2)), its u by Chebyshev collocation. Two networks
1-20-20-20-1. Source: Zhang, Liu, Weng, Lu (2025), arXiv 2410.13141.
"""

from math import pi
from typing import Unpack

import numpy as np
import torch
from torch import Tensor

from fedsciml.collocation import in_box
from fedsciml.network.jet import Jet
from fedsciml.network.parallel import Parallel
from fedsciml.problem import Problem, Row, Term
from fedsciml.problems._chebyshev import collocation
from fedsciml.problems._fedpinn import Options, setting
from fedsciml.problems._suite import grid

DIFFUSIVITY = 0.01


def diffusion_reaction(w: Jet, row: Row) -> Tensor:
    """0.01 u'' - k u - sin(2 pi x)."""
    return DIFFUSIVITY * w.u.xx - w.k.value * w.u.value - row.target


def observed(w: Jet, row: Row) -> Tensor:
    """u - target."""
    return w.u.value - row.target


def source(points: Tensor) -> Tensor:
    """sin(2 pi x), shape [n]."""
    return torch.sin(2 * pi * points[:, 0])


def rate(points: Tensor) -> Tensor:
    """k = 0.1 + exp(-(x - 1/2)^2 / (2 * 0.15^2)), shape [n]."""
    return 0.1 + torch.exp(-0.5 * ((points[:, 0] - 0.5) / 0.15) ** 2)


def state(points: Tensor, degree: int = 64) -> Tensor:
    """u for the true k by Chebyshev collocation, shape [n]; to 1e-12 from degree 40."""
    space = collocation(degree, 0.0, 1.0)
    x = torch.from_numpy(space.points)[:, None]
    operator = DIFFUSIVITY * space.derivative @ space.derivative
    operator -= np.diag(rate(x).numpy())
    inner = slice(1, degree)
    u = np.zeros(degree + 1)
    u[inner] = np.linalg.solve(operator[inner, inner], source(x).numpy()[inner])
    return torch.from_numpy(space.interpolate(u, points[:, 0].numpy()))


def make(clients: int = 2, **options: Unpack[Options]) -> Problem:
    """The problem; see ``problems._fedpinn.Options``. k has the width of u."""
    made = setting(clients, options)
    domain = [0.0], [1.0]
    u = made.network(1, 3, 20, distance=lambda x: torch.tanh(x) * torch.tanh(1 - x))
    seen, test = grid(made.count(24), *domain), grid(1001, *domain)
    return Problem(
        "inverse_diffusion_reaction",
        Parallel([u, made.network(1, 3, 20)]),
        [
            Term(
                "pde",
                diffusion_reaction,
                grid(made.count(10), *domain),
                target=source,
                sample=in_box(*domain),
            ),
            Term(
                "observed u", observed, seen, target=state(seen), sample=in_box(*domain)
            ),
        ],
        made.deal(*domain),
        outputs=("u", "k"),
        test_points=test,
        reference=torch.stack([state(test), rate(test)], dim=1),
        domain=domain,
        parameters=made.parameters(),
    )
