r"""Units of a network: coordinates and values of about 1, whatever the problem's.

A network N with weights of about 1 is made for points in [-1, 1]^d and values of about
1. With the corners of the box of the points, and (shift, scale) of the values,

    u(x) = shift + scale * N((x - middle) / half width)

is a function of the problem's own x with the problem's own values, and so are its
derivatives. Where all three of lower, upper and the points, or scale and the values,
are multiplied by a power of two, no digit of N changes.

The box is the domain, which all parties know. The values are often measured, and each
site has its own; what their units are follows from sums that the sites may tell:

    outputs = standard([sums(values) for each site])

of which each is three numbers per output: how many values, their sum, and their sum of
squares about a public reference.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fedsciml.network.base import PointFunction

Numbers = float | Sequence[float] | Tensor

Corners = tuple[Sequence[float], Sequence[float]]
"""Lower and upper corner of a box, d numbers each."""

Units = tuple[Numbers, Numbers]
"""Shift and scale, a number each or one per output."""


class Sums(NamedTuple):
    """What a site tells of its values: numbers that only need to be added.

    Attributes:
        rows: How many values of each output.
        total: Sum of values - reference, one number per output.
        squares: Sum of (values - reference)^2, one number per output.
    """

    rows: int
    total: tuple[float, ...]
    squares: tuple[float, ...]


def sums(values: Tensor, reference: float = 0.0) -> Sums:
    """The sums of a site's values, [n] or [n, c].

    Args:
        values: What the site has measured.
        reference: The same at all sites, such as 273.15 for temperatures: digits of
            the squares are lost where values differ by much less than they are away
            from it.
    """
    away = torch.as_tensor(values, dtype=torch.float64, device="cpu") - reference
    away = away.unsqueeze(-1) if away.ndim == 1 else away
    total, squares = away.sum(0).tolist(), away.square().sum(0).tolist()
    return Sums(len(away), tuple(total), tuple(squares))


def standard(
    sites: Sequence[Sums], reference: float = 0.0
) -> tuple[list[float], list[float]]:
    """Shift and scale of an ``MLP``'s outputs: mean and standard deviation.

    Values that do not differ are scaled by their size, or by 1 where they are 0.

    Args:
        sites: The sums of each.
        reference: That of the sums.

    Raises:
        ValueError: If there are no values, or the sites' have not as many columns.
    """
    n = sum(site.rows for site in sites)
    columns = {len(site.total) for site in sites if site.rows}
    if n < 1 or len(columns) != 1:
        raise ValueError(
            f"Units need values of as many outputs from every site; got {n} values of "
            f"{sorted(columns)} outputs."
        )
    told = [site for site in sites if site.rows]
    shift, scale = [], []
    for k in range(columns.pop()):
        mean = sum(site.total[k] for site in told) / n
        squares = sum(site.squares[k] for site in told) / n
        variance = squares - mean**2
        known = variance > 1e-12 * squares  # else rounding of the difference
        shift.append(reference + mean)
        scale.append(math.sqrt(variance) if known else abs(reference + mean) or 1.0)
    return shift, scale


def affine(box: Corners) -> PointFunction:
    """The map from a box to [-1, 1]^d."""

    def scaled(x: Tensor) -> Tensor:
        lower, upper = (x.new_tensor(corner) for corner in box)
        return (x - (lower + upper) / 2) / ((upper - lower) / 2)

    return scaled


def rescaled(
    lift: PointFunction | None, distance: PointFunction | None, units: Units
) -> tuple[PointFunction, PointFunction]:
    """Lift and distance of a network whose values are shift + scale * N."""

    def factor(x: Tensor) -> Tensor:
        scale = x.new_tensor(units[1]).expand(len(x), -1)
        return scale if distance is None else _columns(distance(x)) * scale

    def added(x: Tensor) -> Tensor:
        shift = x.new_tensor(units[0]).expand(len(x), -1)
        first = shift if distance is None else _columns(distance(x)) * shift
        return first if lift is None else first + _columns(lift(x))

    return added, factor


def checked_box(box: Corners, d: int) -> Corners:
    """The box as two tuples of d numbers.

    Raises:
        ValueError: If it is none.
    """
    corners = [torch.as_tensor(c, dtype=torch.float64).flatten().tolist() for c in box]
    lower, upper = corners if len(corners) == 2 else ([], [])
    fits = len(lower) == len(upper) == d
    if not fits or not all(
        0 < b - a < math.inf for a, b in zip(lower, upper, strict=True)
    ):
        raise ValueError(
            f"The inputs of an MLP of {d} coordinates are the corners of a box, "
            f"(lower, upper) of {d} finite numbers each with lower < upper; got {box}."
        )
    return tuple(lower), tuple(upper)


def checked_units(units: Units, c: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Shift and scale as two tuples of c numbers.

    Raises:
        ValueError: If they are not c finite numbers, or a scale is not positive.
    """
    parts = [torch.as_tensor(u, dtype=torch.float64).flatten().tolist() for u in units]
    parts = [part * c if len(part) == 1 else part for part in parts]
    if (
        [len(part) for part in parts] != [c, c]
        or not all(map(math.isfinite, parts[0]))
        or not all(0 < scale < math.inf for scale in parts[1])
    ):
        raise ValueError(
            f"The outputs of an MLP with {c} of them are (shift, scale), a finite "
            f"number each or {c}, every scale above 0; got {units}."
        )
    return tuple(parts[0]), tuple(parts[1])


def _columns(values: Tensor) -> Tensor:
    return values.unsqueeze(-1) if values.ndim == 1 else values
