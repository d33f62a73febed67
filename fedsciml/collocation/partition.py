"""Which client owns a point: strips, boxes, sectors, pieces, or no rule."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsciml.collocation.sampling import corners

SLACK = 1e-6
"""How far a point may lie outside, relative to the width: float32 rounding."""


@dataclass(frozen=True)
class Partition:
    """Which client owns a point.

    Args:
        name: Name in records and messages.
        clients: Number of clients, at least 1.
        owner: Maps points [n, d] to client numbers, a long tensor [n].

    Raises:
        ValueError: If there is no client.
    """

    name: str
    clients: int
    owner: Callable[[Tensor], Tensor]

    def __post_init__(self) -> None:
        if not isinstance(self.clients, int) or self.clients < 1:
            raise ValueError(
                f"Partition '{self.name}' needs a number of clients, and at least 1 "
                f"client; got {self.clients!r}. Points belong to Term(points=...)."
            )


def strips(edges: Sequence[float] | Tensor, axis: int = 0) -> Partition:
    """Strips between consecutive edges along one axis, numbered upwards.

    A point on an inner edge belongs to the strip above it.

    Args:
        edges: Strictly increasing; M + 1 of them make M clients.
        axis: Number of the coordinate that is cut, from 0.

    Returns:
        Partition whose ``owner`` raises ValueError for a point outside the outermost
        edges.

    Raises:
        ValueError: If the edges are fewer than two or not strictly increasing.
    """
    checked = _edges(edges, axis)
    return Partition("strips", len(checked) - 1, lambda x: _interval(x, checked, axis))


def boxes(edges_per_axis: Sequence[Sequence[float] | Tensor]) -> Partition:
    """Boxes of a grid along the first axes, the last of them counted fastest.

    With three intervals along each of two axes, client 3 i + j owns interval i of the
    first and j of the second. A point on an inner edge belongs to the box above it.

    Args:
        edges_per_axis: Strictly increasing edges for axis 0, 1, ...; the axes that
            remain are not cut.

    Returns:
        Partition whose ``owner`` raises ValueError for a point outside the grid.

    Raises:
        ValueError: If there are no axes, or edges as in ``strips``.
    """
    if len(edges_per_axis) == 0:
        raise ValueError(
            "boxes needs edges for at least one axis, got none. "
            "Example: boxes([[0, 0.5, 1], [0, 0.5, 1]])."
        )
    grid = [_edges(edges, axis) for axis, edges in enumerate(edges_per_axis)]

    def owner(points: Tensor) -> Tensor:
        number = torch.zeros(len(points), dtype=torch.long, device="cpu")
        for axis, edges in enumerate(grid):
            number = number * (len(edges) - 1) + _interval(points, edges, axis)
        return number

    clients = 1
    for edges in grid:
        clients *= len(edges) - 1
    return Partition("boxes", clients, owner)


def sectors(
    edges: Sequence[float] | Tensor, centre: Sequence[float] = (0.0, 0.0)
) -> Partition:
    """Sectors of the plane between consecutive angles, numbered anticlockwise.

    Angles are those of polar coordinates over the first two axes, in radians from the
    first axis. A point on an inner edge belongs to the sector after it, the centre
    itself to the one that holds the angle 0.

    Args:
        edges: Strictly increasing angles that span at most 2 pi; M + 1 of them make M
            clients.
        centre: Where the sectors meet, (x, y).

    Returns:
        Partition whose ``owner`` raises ValueError for a point in no sector.

    Raises:
        ValueError: If the edges are as ``strips`` refuses them or span more than 2 pi.
    """
    checked = _edges(edges, 0)
    span = float(checked[-1] - checked[0])
    if span > 2 * math.pi * (1 + SLACK):
        raise ValueError(
            f"Sectors may span at most the full angle 2 pi, got edges from "
            f"{float(checked[0])} to {float(checked[-1])}, in radians."
        )
    # Angles are counted from the middle of the span: rounding then moves a point over
    # an outermost edge, never to the other end.
    middle = float(checked[0]) + span / 2
    x0, y0 = centre

    def owner(points: Tensor) -> Tensor:
        angle = torch.atan2(points[:, 1] - y0, points[:, 0] - x0)
        turned = torch.remainder(angle - middle + math.pi, 2 * math.pi) - math.pi
        return _interval((middle + turned).unsqueeze(1), checked, 0)

    return Partition("sectors", len(checked) - 1, owner)


def pieces(
    lower: Sequence[float],
    upper: Sequence[float],
    piece: int,
    clients: int,
    axis: int | None = None,
) -> Partition:
    """Interleaved pieces of a box, from one block each to nearly identical clients.

    The partition of Zhang, Liu, Weng, Lu, arXiv 2410.13141: along one axis,
    ``piece * clients`` equal intervals dealt round-robin; in two dimensions
    ``(piece + 1)^2`` equal blocks, block (i, j) going to client (i + j) mod M.

    Args:
        lower: Lower corner of the box.
        upper: Upper corner of the box.
        piece: Pieces per client, at least 1; the more, the more alike the clients.
        clients: Number of clients M.
        axis: The axis to cut; None cuts the only axis in 1-D, else the first two.

    Returns:
        Partition whose ``owner`` raises ValueError for a point outside the box.

    Raises:
        ValueError: If the box is empty, ``piece < 1``, ``clients < 1``, or there are
            fewer blocks than it takes to give each client one (``M > 2 piece + 1``).
    """
    low, high = corners(lower, upper)
    if piece < 1 or clients < 1:
        raise ValueError(
            f"pieces needs piece >= 1 and clients >= 1, got piece {piece} and "
            f"{clients} clients."
        )
    if axis is None and len(low) == 1:
        axis = 0
    if axis is not None:
        if not 0 <= axis < len(low):
            raise ValueError(
                f"Axis {axis} of a box with {len(low)} axes; they count from 0."
            )
        along = axis
        cuts = equal(float(low[axis]), float(high[axis]), piece * clients)
        return Partition(
            "pieces", clients, lambda x: _interval(x, cuts, along) % clients
        )
    if clients > 2 * piece + 1:
        raise ValueError(
            f"({piece} + 1)^2 blocks dealt by (i + j) mod {clients} leave nothing for "
            f"client {2 * piece + 1}. Use piece >= {clients // 2}, or an axis."
        )
    grid = [equal(float(low[k]), float(high[k]), piece + 1) for k in range(2)]

    def owner(points: Tensor) -> Tensor:
        i, j = (_interval(points, grid[k], k) for k in range(2))
        return (i + j) % clients

    return Partition("pieces", clients, owner)


def explicit(clients: int) -> Partition:
    """No rule: every Term brings its points as one tensor per client.

    Raises:
        ValueError: If ``clients < 1``; and, by its ``owner``, if a Term brings its
            points as a single tensor.
    """

    def owner(points: Tensor) -> Tensor:
        raise ValueError(
            f"An explicit partition has no rule for the owner of {len(points)} points "
            f"given as one tensor. Give Term(points=[...]) as a list of {clients} "
            "tensors, one per client, or use strips, boxes or pieces."
        )

    return Partition("explicit", clients, owner)


def equal(lower: float, upper: float, intervals: int) -> Tensor:
    """Edges of equal intervals, shape [intervals + 1]."""
    return torch.linspace(
        lower, upper, intervals + 1, dtype=torch.float64, device="cpu"
    )


def _edges(edges: Sequence[float] | Tensor, axis: int) -> Tensor:
    checked = torch.as_tensor(edges, dtype=torch.float64, device="cpu")
    if checked.ndim != 1 or len(checked) < 2 or not bool((checked.diff() > 0).all()):
        raise ValueError(
            f"Edges along axis {axis} must be two or more strictly increasing numbers, "
            f"got {checked.tolist()}. For m equal strips: torch.linspace(lower, upper, "
            "m + 1)."
        )
    if axis < 0 or not bool(checked.isfinite().all()):
        raise ValueError(
            f"Edges must be finite and axes count from 0; got edges {checked.tolist()} "
            f"along axis {axis}."
        )
    return checked


def _interval(points: Tensor, edges: Tensor, axis: int) -> Tensor:
    """Number of the interval in which each point lies, a long tensor [n]."""
    if axis >= points.shape[1]:
        raise ValueError(
            f"The partition cuts axis {axis}, but points have {points.shape[1]} "
            "coordinates; axes count from 0."
        )
    along = points[:, axis].to("cpu", torch.float64).contiguous()
    slack = SLACK * (edges[-1] - edges[0])
    inside = (along >= edges[0] - slack) & (along <= edges[-1] + slack)
    if not bool(inside.all()):
        first = int((~inside).nonzero()[0])
        raise ValueError(
            f"Point {first}, {points[first].tolist()}, lies outside the partition: "
            f"along axis {axis} its edges go from {float(edges[0])} to "
            f"{float(edges[-1])}. Move the outermost edges or drop the point."
        )
    return torch.bucketize(along, edges[1:-1], right=True)
