"""Wave equation u_tt = c^2 u_xx on x in (0, 1), t in (0, 1): two standing waves.

u = 0 at both ends; u = sin(pi x) + sin(k pi x) / 2 and u_t = 0 at t = 0. All of it is a
hard constraint: what is learned is multiplied by t^2 x (1 - x). Exact solution
sin(pi x) cos(c pi t) + sin(k pi x) cos(k c pi t) / 2 (separation of variables). The
``speed`` c is 1 and ``mode`` k is 2, unless told otherwise; c = 2 and k = 4, four
times as many waves in time, are those of Wang, Yu, Perdikaris, When and why PINNs fail
to train: a neural tangent kernel perspective, J. Comput. Phys. 449 (2022) 110768.
"""

from dataclasses import replace
from math import pi
from typing import Unpack

import torch
from torch import Tensor

from fedsciml.collocation import in_box
from fedsciml.network import PointFunction
from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Residual, Row, Term
from fedsciml.problems._suite import Options, setting, sinpi

LOWER, UPPER = [0.0, 0.0], [1.0, 1.0]
"""Corners of the domain."""

sample = in_box(LOWER, UPPER)


def wave(speed: float) -> Residual:
    """The residual u_tt - c^2 u_xx."""

    def equation(u: Jet, row: Row) -> Tensor:
        return u.tt - speed**2 * u.xx

    return equation


def standing(speed: float, mode: int) -> PointFunction:
    """sin(pi x) cos(c pi t) + sin(k pi x) cos(k c pi t) / 2, shape [n]."""

    def solution(points: Tensor) -> Tensor:
        x, t = points.unbind(1)
        first = sinpi(x) * torch.cos(pi * speed * t)
        return first + sinpi(mode * x) * torch.cos(mode * pi * speed * t) / 2

    return solution


def distance(points: Tensor) -> Tensor:
    """t^2 x (1 - x), shape [n]: what is learned changes neither u nor u_t at t = 0."""
    x, t = points.unbind(1)
    return t**2 * x * (1 - x)


def make(
    clients: int = 2, speed: float = 1.0, mode: int = 2, **options: Unpack[Options]
) -> Problem:
    """The problem in equal strips along x; see ``problems._suite.Options``.

    Args:
        clients: Number of clients M.
        speed: c, positive.
        mode: k, the number of half waves in x of the second standing wave.
        options: See ``Setting``.

    Raises:
        ValueError: If an option is out of range.
    """
    if not (0 < speed <= 100 and 1 <= mode <= 100):
        raise ValueError(
            "Standing waves need a speed above 0 and a mode from 1 on, both at most "
            f"100; got speed={speed} and mode={mode}."
        )
    solution = standing(speed, mode)

    def start(points: Tensor) -> Tensor:
        x, t = points.unbind(1)
        return solution(torch.stack([x, 0 * t], 1))

    made = setting(clients, options)
    generator = made.generator()
    network = made.network(2, 2, 30, lift=start, distance=distance)
    return Problem(
        "wave",
        replace(network, inputs=(LOWER, UPPER)),
        [Term("wave", wave(speed), sample(made.count(1000), generator), sample=sample)],
        made.divide(LOWER, UPPER),
        coordinates="xt",
        exact=solution,
        test_points=sample(4000, generator),
        domain=(LOWER, UPPER),
        parameters={**made.parameters(), "speed": speed, "mode": mode},
    )
