"""Nonlinear Schroedinger equation i h_t + h_xx / 2 + |h|^2 h = 0: a soliton on a ring.

With h = u + i v

    u_t + v_xx / 2 + (u^2 + v^2) v = 0,    v_t - u_xx / 2 - (u^2 + v^2) u = 0

on x in (-5, 5), t in (0, 1), with period P = 10 in x: the network takes the cosine and
the sine of 2 pi x / P, so that no term has to say it. h at t = 0 is given as a hard
constraint. Exact solution: a soliton and its images, one in each period,

    h = b sum_n sech(b (x - w t - n P)) exp(i (w x + (k - w^2) t / 2)),

with the speed w = 2 pi / P, for which the phase has the period, too. The sum is a
Jacobi elliptic function dn, and k = b^2 (theta_2^4 + theta_3^4) at the nome exp(-b P),
b^2 and a little for the overlap. Sources: Zakharov and Shabat, Exact theory of
two-dimensional self-focusing and one-dimensional self-modulation of waves in nonlinear
media, Sov. Phys. JETP 34 (1972) 62-69; NIST Digital Library of Mathematical Functions,
22.12.
"""

from dataclasses import replace
from math import exp, pi
from typing import Unpack

import torch
from torch import Tensor

from fedsciml.collocation import in_box
from fedsciml.network import beside, periodic, scaled
from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Row, Term
from fedsciml.problems._suite import Options, setting

STEEPNESS = 1.0
"""b, also the soliton's height."""

LOWER, UPPER = [-5.0, 0.0], [5.0, 1.0]
"""Corners of the domain."""

PERIOD = UPPER[0] - LOWER[0]
SPEED = 2 * pi / PERIOD

sample = in_box(LOWER, UPPER)


def schroedinger(w: Jet, row: Row) -> tuple[Tensor, Tensor]:
    """Imaginary and real part of h_t - i h_xx / 2 - i |h|^2 h."""
    u, v = w.u, w.v
    square = u.value**2 + v.value**2
    return (v.t - u.xx / 2 - square * u.value, u.t + v.xx / 2 + square * v.value)


def frequency() -> float:
    """k = b^2 (theta_2^4 + theta_3^4) at the nome q = exp(-b P)."""
    q = exp(-STEEPNESS * PERIOD)
    second = sum(2 * q ** ((n + 0.5) ** 2) for n in range(8))
    third = 1 + sum(2 * q ** (n**2) for n in range(1, 8))
    return STEEPNESS**2 * (second**4 + third**4)


def solution(points: Tensor) -> Tensor:
    """u and v, shape [n, 2]; images beyond the fourth are below 1e-17."""
    x, t = points.unbind(1)
    images = torch.arange(-4, 5).to(points) * PERIOD
    away = STEEPNESS * ((x - SPEED * t).unsqueeze(1) - images)
    height = STEEPNESS * (1 / torch.cosh(away)).sum(1)
    phase = SPEED * x + (frequency() - SPEED**2) / 2 * t
    return torch.stack([height * torch.cos(phase), height * torch.sin(phase)], 1)


def start(points: Tensor) -> Tensor:
    """u and v at t = 0, shape [n, 2]."""
    x, t = points.unbind(1)
    return solution(torch.stack([x, 0 * t], 1))


def make(clients: int = 2, **options: Unpack[Options]) -> Problem:
    """The problem in equal strips along x; see ``problems._suite.Options``."""
    made = setting(clients, options)
    generator = made.generator()
    network = made.network(
        3, 2, 30, outputs=2, lift=start, distance=lambda points: points[:, 1]
    )
    features = beside(periodic(0, LOWER[0], UPPER[0]), scaled(1, LOWER[1], UPPER[1]))
    return Problem(
        "schroedinger",
        replace(network, features=features),
        [
            Term(
                "schroedinger",
                schroedinger,
                sample(made.count(1500), generator),
                sample=sample,
            )
        ],
        made.divide(LOWER, UPPER),
        coordinates="xt",
        outputs="uv",
        exact=solution,
        test_points=sample(4000, generator),
        domain=(LOWER, UPPER),
        parameters=made.parameters(),
    )
