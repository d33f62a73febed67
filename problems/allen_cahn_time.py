"""Allen-Cahn equation u_t = D u_xx - 5 (u^3 - u), D = 0.001; 2 pieces along x.

x in (-1, 1), t in (0, 1), u = x^2 cos(pi x) at t = 0 and u = -1 at both ends, as a hard
constraint. 80^2 points of a grid, 2-64-64-64-1. The reference is a table, 201 x 101
values, by Chebyshev collocation (``scripts/reference_solutions.py``).
Source: Zhang, Liu, Weng, Lu (2025), arXiv 2410.13141.
"""

from dataclasses import replace
from math import pi
from pathlib import Path
from typing import Unpack

import numpy as np
import torch
from torch import Tensor

from fedsciml.collocation import in_box
from fedsciml.network import beside, even, scaled
from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Row, Term
from fedsciml.problems._fedpinn import Options, setting
from fedsciml.problems._suite import grid

DIFFUSIVITY = 0.001
TABLE = Path(__file__).with_name("data") / "allen_cahn_time.npz"
"""x [101] in [0, 1], t [101] and u [101, 101]; u is even in x."""


def allen_cahn(u: Jet, row: Row) -> Tensor:
    """u_t - D u_xx + 5 (u^3 - u)."""
    return u.t - DIFFUSIVITY * u.xx + 5 * (u.value**3 - u.value)


def start(points: Tensor) -> Tensor:
    """x^2 cos(pi x), shape [n]; -1 at both ends."""
    x = points[:, 0]
    return x**2 * torch.cos(pi * x)


def distance(points: Tensor) -> Tensor:
    """t (1 - x^2), shape [n]: vanishes at t = 0 and at both ends."""
    x, t = points.unbind(1)
    return t * (1 - x**2)


def reference() -> tuple[Tensor, Tensor]:
    """Points [20301, 2] and the values of u there."""
    with np.load(TABLE) as table:
        x, t, u = (torch.from_numpy(table[name]) for name in ("x", "t", "u"))
    x, u = torch.cat([-x[1:].flip(0), x]), torch.cat([u[1:].flip(0), u])
    return torch.cartesian_prod(x, t), u.flatten()


def make(
    clients: int = 2, symmetric: bool = False, **options: Unpack[Options]
) -> Problem:
    """The problem; see ``problems._fedpinn.Options``.

    Args:
        clients: Number of clients M.
        symmetric: Whether the network takes (x^2, t) in place of (x, t), so that u is
            even in x whatever its parameters.
        options: See ``Setting``.

    Raises:
        ValueError: If an option is out of range.
    """
    made = setting(clients, options)
    domain = [-1.0, 0.0], [1.0, 1.0]
    points, values = reference()
    network = made.network(2, 3, 64, lift=start, distance=distance)
    if symmetric:
        features = beside(even(0, -1.0, 1.0), scaled(1, -1.0, 1.0))
        network = replace(network, features=features)
    return Problem(
        "allen_cahn_time",
        network,
        [
            Term(
                "pde",
                allen_cahn,
                grid(made.count(80**2), *domain),
                sample=in_box(*domain),
            )
        ],
        made.deal(*domain, axis=0),
        coordinates="xt",
        test_points=points,
        reference=values,
        domain=domain,
        parameters={**made.parameters(), "symmetric": symmetric},
    )
