"""Euler beam u'''' + 1 = 0 on (0, 1), clamped on the left, free on the right; 2 pieces.

u(0) = u'(0) = 0 as a hard constraint, u''(1) = u'''(1) = 0 softly. Exact solution
u = -x^4 / 24 + x^3 / 6 - x^2 / 4. 50 equispaced points, 1-20-20-20-1.
Source: Zhang, Liu, Weng, Lu (2025), arXiv 2410.13141.
"""

from typing import Unpack

from torch import Tensor

from fedsciml.collocation import in_box, on_faces
from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Row, Term
from fedsciml.problems._fedpinn import Options, setting
from fedsciml.problems._suite import grid


def beam(u: Jet, row: Row) -> Tensor:
    """u'''' + 1."""
    return u.xxxx + 1


def free(u: Jet, row: Row) -> tuple[Tensor, Tensor]:
    """Bending moment u'' and shear force u'''."""
    return u.xx, u.xxx


def solution(points: Tensor) -> Tensor:
    """-x^4 / 24 + x^3 / 6 - x^2 / 4, shape [n]."""
    x = points[:, 0]
    return -(x**4) / 24 + x**3 / 6 - x**2 / 4


def make(clients: int = 2, **options: Unpack[Options]) -> Problem:
    """The problem; see ``problems._fedpinn.Options``."""
    made = setting(clients, options)
    domain = [0.0], [1.0]
    points = grid(made.count(50), *domain)
    return Problem(
        "euler_beam",
        made.network(1, 3, 20, distance=lambda x: x**2),
        [
            Term("beam", beam, points, sample=in_box(*domain)),
            Term("free end", free, points[-1:], sample=on_faces(*domain, [(0, 1)])),
        ],
        made.deal(*domain),
        exact=solution,
        test_points=grid(100, *domain),
        domain=domain,
        parameters=made.parameters(),
    )
