"""Wave equation u_tt = c^2 u_xx on x in (0, 1), t in (0, 1), c = 2: standing waves.

u = 0 at both ends; u = sin(pi x) + sin(4 pi x) / 2 and u_t = 0 at t = 0. All of it is a
hard constraint: what is learned is multiplied by t^2 x (1 - x). Exact solution
sin(pi x) cos(c pi t) + sin(4 pi x) cos(4 c pi t) / 2 (separation of variables).
Source: Wang, Yu, Perdikaris, When and why PINNs fail to train: a neural tangent kernel
perspective, J. Comput. Phys. 449 (2022) 110768.
"""

from dataclasses import replace
from math import pi
from typing import Unpack

import torch
from torch import Tensor

from fedsciml.collocation import in_box
from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Row, Term
from fedsciml.problems._suite import Options, setting, sinpi

SPEED = 2.0
MODES = ((1, 1.0), (4, 0.5))
"""Number of half waves in x, and amplitude, of each standing wave."""

LOWER, UPPER = [0.0, 0.0], [1.0, 1.0]
"""Corners of the domain."""

sample = in_box(LOWER, UPPER)


def wave(u: Jet, row: Row) -> Tensor:
    """u_tt - c^2 u_xx."""
    return u.tt - SPEED**2 * u.xx


def solution(points: Tensor) -> Tensor:
    """Sum of a sin(k pi x) cos(k c pi t), shape [n]."""
    x, t = points.unbind(1)
    standing = [a * sinpi(k * x) * torch.cos(k * SPEED * pi * t) for k, a in MODES]
    return torch.stack(standing).sum(0)


def start(points: Tensor) -> Tensor:
    """u at t = 0, shape [n]; u_t is 0."""
    return sum((a * sinpi(k * points[:, 0]) for k, a in MODES), 0 * points[:, 0])


def distance(points: Tensor) -> Tensor:
    """t^2 x (1 - x), shape [n]: what is learned changes neither u nor u_t at t = 0."""
    x, t = points.unbind(1)
    return t**2 * x * (1 - x)


def make(clients: int = 2, **options: Unpack[Options]) -> Problem:
    """The problem in equal strips along x; see ``problems._suite.Options``."""
    made = setting(clients, options)
    generator = made.generator()
    network = made.network(2, 3, 30, lift=start, distance=distance)
    return Problem(
        "wave",
        replace(network, inputs=(LOWER, UPPER)),
        [Term("wave", wave, sample(made.count(2000), generator), sample=sample)],
        made.divide(LOWER, UPPER),
        coordinates="xt",
        exact=solution,
        test_points=sample(4000, generator),
        domain=(LOWER, UPPER),
        parameters=made.parameters(),
    )
