"""Where a term holds, as functions that draw any number of points there.

Each returns a function (n, generator) -> points [n, d], float64, as ``Term(sample=)``
takes it. It knows no party's points: who has the same generator draws the same.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from fedsciml.collocation.sampling import corners, uniform

Draw = Callable[[int, Generator], Tensor]

BATCH = 100
"""Points, at least, that are drawn at once where some are thrown away."""

TRIES = 1000
"""How many batches are drawn to find n points of a shape."""


def in_box(
    lower: Sequence[float],
    upper: Sequence[float],
    inside: Callable[[Tensor], Tensor] | None = None,
) -> Draw:
    """Draws n points evenly spread over a box, or over a shape within it.

    Args:
        lower: Lower corner.
        upper: Upper corner.
        inside: The shape: maps points [n, d] to booleans [n].

    Raises:
        ValueError: If the box is empty; when points are drawn, if too few of those in
            the box are in the shape.
    """
    corners(lower, upper)

    def sample(n: int, generator: Generator) -> Tensor:
        if inside is None:
            return uniform(n, lower, upper, generator)
        found: list[Tensor] = []
        for _ in range(TRIES):
            points = uniform(max(n, BATCH), lower, upper, generator)
            found.append(points[inside(points)])
            if sum(map(len, found)) >= n:
                return torch.cat(found)[:n]
        raise ValueError(
            f"Of {TRIES * max(n, BATCH)} points in the box from {list(lower)} to "
            f"{list(upper)} only {sum(map(len, found))} are inside; {n} are needed. "
            "Does inside() tell True from False, and is the box no larger than its "
            "shape?"
        )

    return sample


def on_faces(
    lower: Sequence[float],
    upper: Sequence[float],
    faces: Sequence[tuple[int, int]] | None = None,
) -> Draw:
    """Draws n points evenly spread over faces of a box; in 1-D over its ends.

    The faces have the same number of points, but for one where n is no multiple.

    Args:
        lower: Lower corner.
        upper: Upper corner.
        faces: (axis, side) of each, see ``face``; one that is there twice has twice as
            many points. None is all.

    Raises:
        ValueError: If the box is empty, or has no such face.
    """
    d = len(corners(lower, upper)[0])
    every = [(axis, side) for axis in range(d) for side in (0, 1)]
    chosen = every if faces is None else list(faces)
    if not chosen or not {*chosen} <= {*every}:
        raise ValueError(
            f"A box of {d} coordinates has faces (axis, side) with axis 0 to {d - 1} "
            f"and side 0 or 1; got {chosen}. Name at least one."
        )

    def sample(n: int, generator: Generator) -> Tensor:
        points = uniform(n, lower, upper, generator)
        order = torch.randperm(len(chosen), generator=generator, device="cpu")
        for first, number in enumerate(order.tolist()):
            axis, side = chosen[number]
            points[first :: len(chosen), axis] = (lower, upper)[side][axis]
        return points

    return sample


def on_polygon(vertices: Sequence[Sequence[float]]) -> Draw:
    """Draws n points evenly spread over the sides of a polygon.

    Args:
        vertices: (x, y) of at least three, one after the other; the last is joined to
            the first.

    Raises:
        ValueError: If these are no vertices of a polygon.
    """
    start = torch.as_tensor(vertices, dtype=torch.float64, device="cpu")
    if start.ndim != 2 or start.shape[1] != 2 or len(start) < 3:
        raise ValueError(
            f"A polygon needs at least three vertices (x, y), got shape "
            f"{list(start.shape)}."
        )
    side = start.roll(-1, 0) - start
    lengths = side.norm(dim=1)
    if not bool((lengths > 0).all()) or not bool(lengths.isfinite().all()):
        raise ValueError(
            "Neighbouring vertices of a polygon must differ and be finite; got sides "
            f"of lengths {lengths.tolist()}."
        )

    def sample(n: int, generator: Generator) -> Tensor:
        draws = uniform(n, [0.0, 0.0], [1.0, 1.0], generator)
        ends = lengths.cumsum(0) / lengths.sum()
        number = torch.searchsorted(ends[:-1], draws[:, 0].contiguous(), right=True)
        return start[number] + draws[:, 1:] * side[number]

    return sample
