"""What a first layer takes of a point in place of its coordinates.

Each function here makes one or a few columns of one coordinate, and ``beside`` puts
them next to each other, with functions of your own among them if need be:

    features = beside(periodic(0, -5.0, 5.0), scaled(1, 0.0, 2.0))
    MLP((3, 20, 20, 1), features=features)

is a network of (cos, sin)(2 pi (x + 5) / 10) and t - 1, and therefore of period 10 in x
whatever its parameters. Jets pass through by ``network.jet.derivatives``.
"""

import math

import torch
from torch import Tensor

from fedsciml.network.base import PointFunction


def periodic(
    axis: int, lower: float, upper: float, harmonics: int = 1
) -> PointFunction:
    """cos(k s) and sin(k s), s = 2 pi (x - lower) / (upper - lower), k = 1, 2, ...

    A network of them has the period upper - lower in this coordinate, and so have all
    its derivatives: no term has to say so.

    Args:
        axis: Number of the coordinate.
        lower: Where a period begins.
        upper: Where it ends.
        harmonics: Largest k; more where u has many waves in a period.

    Returns:
        Function of points [n, d] that gives [n, 2 harmonics].

    Raises:
        ValueError: If there is no such interval, or no harmonic.
    """
    _check(axis, lower, upper)
    if harmonics < 1:
        raise ValueError(f"harmonics must be a number from 1 on, got {harmonics}.")

    def waves(x: Tensor) -> Tensor:
        s = 2 * math.pi * (x[:, axis] - lower) / (upper - lower)
        s = s.unsqueeze(1) * torch.arange(1, harmonics + 1).to(x)
        return torch.cat([torch.cos(s), torch.sin(s)], 1)

    return waves


def even(axis: int, lower: float, upper: float) -> PointFunction:
    """y^2 of the coordinate y that is -1 at ``lower`` and 1 at ``upper``.

    A network of it is symmetric about the middle of the interval.

    Args:
        axis: Number of the coordinate.
        lower: Lower end of an interval that is symmetric, too.
        upper: Its upper end.

    Returns:
        Function of points [n, d] that gives [n, 1], numbers from 0 to 1.

    Raises:
        ValueError: If there is no such interval.
    """
    y = scaled(axis, lower, upper)
    return lambda x: y(x) ** 2


def scaled(axis: int, lower: float, upper: float) -> PointFunction:
    """The coordinate, scaled to be -1 at ``lower`` and 1 at ``upper``.

    Args:
        axis: Number of the coordinate.
        lower: Its smallest value in the domain.
        upper: Its largest one.

    Returns:
        Function of points [n, d] that gives [n, 1].

    Raises:
        ValueError: If there is no such interval.
    """
    _check(axis, lower, upper)
    middle, half = (lower + upper) / 2, (upper - lower) / 2
    return lambda x: (x[:, axis : axis + 1] - middle) / half


def beside(*parts: PointFunction) -> PointFunction:
    """The columns of several functions next to each other.

    Args:
        parts: Functions of points [n, d] that give [n, w_i], or [n] for one column.

    Returns:
        Function of points [n, d] that gives [n, w_1 + w_2 + ...].

    Raises:
        ValueError: If there are none.
    """
    if not parts:
        raise ValueError(
            "Features need a function of the points at least; write for example "
            "beside(periodic(0, 0.0, 1.0), scaled(1, 0.0, 1.0))."
        )

    def columns(x: Tensor) -> Tensor:
        found = [part(x) for part in parts]
        return torch.cat([f.unsqueeze(1) if f.ndim == 1 else f for f in found], 1)

    return columns


def _check(axis: int, lower: float, upper: float) -> None:
    if axis < 0:
        raise ValueError(f"axis is the number of a coordinate from 0 on, got {axis}.")
    if not 0 < upper - lower < math.inf:
        raise ValueError(
            f"Coordinate {axis} needs an interval of finite length, lower < upper; "
            f"got {lower} and {upper}."
        )
