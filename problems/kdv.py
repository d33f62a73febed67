r"""Korteweg-de Vries equation u_t + 6 u u_x + u_xxx = 0: one soliton overtakes another.

x in (-6, 6), t in (-3/2, 3/2), with u given at the start as a hard constraint, u at
both ends, and u_x at the right one. Exact solution, of solitons of heights k^2 / 2 and
speeds k^2 for k = 1 and 3/2:

    u = 2 (log f)_xx,    f = 1 + exp(s_1) + exp(s_2) + a exp(s_1 + s_2),
    s_i = k_i x - k_i^3 t - log(a) / 2,    a = ((k_1 - k_2) / (k_1 + k_2))^2,

symmetric about x = t = 0, where they meet. As the second derivative of a logarithm of
a sum of exponentials it is twice a variance of their rates 0, k_1, k_2 and k_1 + k_2.
Source: R. Hirota, Exact solution of the Korteweg-de Vries equation for multiple
collisions of solitons, Phys. Rev. Lett. 27 (1971) 1192-1194.
"""

from dataclasses import replace
from math import log
from typing import Unpack

import torch
from torch import Tensor

from fedsciml.collocation import in_box, on_faces
from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Row, Term
from fedsciml.problems._suite import Options, faces, given, setting

RATES = (1.0, 1.5)
LOWER, UPPER = [-6.0, -1.5], [6.0, 1.5]
"""Corners of the domain."""

ENDS, RIGHT = ((0, 0), (0, 1)), ((0, 1),)
"""Faces, by (axis, side), where u and where u_x is given."""

sample = in_box(LOWER, UPPER)


def kdv(u: Jet, row: Row) -> Tensor:
    """u_t + 6 u u_x + u_xxx."""
    return u.t + 6 * u.value * u.x + u.xxx


def slope(u: Jet, row: Row) -> Tensor:
    """u_x - target."""
    return u.x - row.target


def _moments(points: Tensor) -> tuple[Tensor, Tensor]:
    """Second and third central moments of the rates, shape [n] each."""
    x, t = points.unsqueeze(-1).unbind(1)
    one, two = RATES
    shift = log(abs(one - two) / (one + two))
    rates = x.new_tensor([0.0, one, two, one + two])
    cubes = x.new_tensor([0.0, one**3, two**3, one**3 + two**3])
    logs = x.new_tensor([0.0, -shift, -shift, 0.0])
    weights = torch.softmax(rates * x - cubes * t + logs, 1)
    away = rates - (weights * rates).sum(1, keepdim=True)
    return (weights * away**2).sum(1), (weights * away**3).sum(1)


def solution(points: Tensor) -> Tensor:
    """u, shape [n]."""
    return 2 * _moments(points)[0]


def steepness(points: Tensor) -> Tensor:
    """u_x, shape [n]."""
    return 2 * _moments(points)[1]


def start(points: Tensor) -> Tensor:
    """u at t = -3/2, shape [n]."""
    x, t = points.unbind(1)
    return solution(torch.stack([x, 0 * t + LOWER[1]], 1))


def since(points: Tensor) -> Tensor:
    """Part of the time that has passed, shape [n]."""
    return (points[:, 1] - LOWER[1]) / (UPPER[1] - LOWER[1])


def make(clients: int = 2, **options: Unpack[Options]) -> Problem:
    """The problem in equal strips along x; see ``problems._suite.Options``.

    The first layer starts with the frequency ``first`` 3 unless told otherwise.
    """
    chosen: Options = {"first": 3.0}
    chosen.update(options)
    made = setting(clients, chosen)
    generator = made.generator()
    box = (LOWER, UPPER, generator)
    network = made.network(2, 2, 40, lift=start, distance=since)
    inside = sample(made.count(1500), generator)
    ends = faces(made.count(100), *box, ENDS)
    right = faces(made.count(100), *box, RIGHT)
    return Problem(
        "kdv",
        replace(network, inputs=(LOWER, UPPER)),
        [
            Term("kdv", kdv, inside, sample=sample),
            Term(
                "ends",
                given,
                ends,
                target=solution,
                weight=10.0,
                sample=on_faces(LOWER, UPPER, ENDS),
            ),
            Term(
                "slope",
                slope,
                right,
                target=steepness,
                weight=10.0,
                sample=on_faces(LOWER, UPPER, RIGHT),
            ),
        ],
        made.divide(LOWER, UPPER),
        coordinates="xt",
        exact=solution,
        test_points=sample(4000, generator),
        domain=(LOWER, UPPER),
        parameters=made.parameters(),
    )
