"""Chebyshev collocation on an interval: the independent solver of references.

L. N. Trefethen, Spectral Methods in MATLAB (2000), chapter 6.
"""

from typing import NamedTuple

import numpy as np
from numpy.polynomial import chebyshev

Array = np.ndarray


class Collocation(NamedTuple):
    """The n + 1 Chebyshev points of an interval, the upper end first.

    ``derivative @ u`` is the derivative at the points, shape [n + 1], of the polynomial
    with the values u there.
    """

    points: Array
    derivative: Array
    lower: float
    upper: float

    def interpolate(self, values: Array, at: Array) -> Array:
        """The polynomial with values [n + 1, ...] at other points, shape [m, ...]."""
        n = len(self.points) - 1

        def basis(x: Array) -> Array:
            unit = (2 * x - self.lower - self.upper) / (self.upper - self.lower)
            return chebyshev.chebvander(unit, n)

        return basis(at) @ np.linalg.solve(basis(self.points), values)


def collocation(n: int, lower: float, upper: float) -> Collocation:
    """The points of degree n, at least 1, and their differentiation matrix."""
    angle = np.pi * np.arange(n + 1) / n
    points = np.cos(angle)
    signs = (-1.0) ** np.arange(n + 1)
    signs[[0, n]] *= 2
    off = np.outer(signs, 1 / signs) / (points[:, None] - points + np.eye(n + 1))
    derivative = off - np.diag(off.sum(1))  # constants have no slope
    half = (upper - lower) / 2
    return Collocation(lower + half * (1 + points), derivative / half, lower, upper)
