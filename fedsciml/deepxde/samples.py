"""Where the terms of a DeepXDE model hold: points drawn from its geometry.

DeepXDE draws points inside, on the boundary and at the initial time; a condition takes
those that it accepts. So it is here, in the model's own precision, from a seed that the
generator gives. Nothing is drawn, and no function of the script called, before points
are asked for.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from fedsciml.collocation import decimals, numpy_seeded
from fedsciml.deepxde.conditions import Condition, Known, known
from fedsciml.deepxde.package import deepxde, precision
from fedsciml.problem import Drawn, Sampler

Data = Any
"""A ``deepxde.data.Data``: DeepXDE is not typed."""

Geometry = Any
"""A ``deepxde.geometry.Geometry``, or a ``GeometryXTime``."""

TRIES = 50
"""How often points are drawn while a condition accepts too few."""

FEWEST = 32
"""Points of a kind that are drawn at least, to have both ends of an interval."""


def everywhere(data: Data, target: Callable[[Tensor], Tensor] | None = None) -> Sampler:
    """Draws points where the equation holds, or something can be measured.

    They lie inside, on the boundary and at the initial time in the shares that the
    script gives DeepXDE for its points.

    Args:
        data: The data, with points drawn.
        target: What the residual needs at points [n, d], shape [n, q], if anything.
    """
    shares = {
        "random_points": getattr(data, "num_domain", 0),
        "random_boundary_points": getattr(data, "num_boundary", 0),
        "random_initial_points": getattr(data, "num_initial", 0),
    }
    if not shares["random_points"]:
        shares["random_points"] = max(1, *shares.values())
    whole = sum(shares.values())

    def sample(n: int, generator: Generator) -> Drawn:
        with _drawing(data, generator) as geometry:
            parts = []
            for kind, share in shares.items():
                count = int(np.ceil(n * share / whole))
                if count:
                    found = _allowed(data, getattr(geometry, kind)(max(count, FEWEST)))
                    parts.append(_some(found, count))
        points = decimals(np.vstack(parts))
        return Drawn(points, target=None if target is None else target(points))

    return sample


def where_it_holds(
    name: str, condition: Condition, data: Data, asked: Known
) -> Sampler | None:
    """Draws points that a condition accepts, with what its residual needs there.

    Args:
        name: In messages.
        condition: Of DeepXDE, one of ``conditions.known``.
        data: Of the model: no point is outside of its geometry.
        asked: What the condition asks at its points.

    Returns:
        A sampler, which raises ValueError if the condition accepts no point; None for
        an ``Interface2DBC``, which pairs points by their order in an even grid and has
        no rule for others.
    """
    icbc = deepxde().icbc
    if isinstance(condition, icbc.Interface2DBC):
        return None
    if isinstance(condition, (icbc.PointSetBC, icbc.PointSetOperatorBC)):
        return everywhere(data)

    def sample(n: int, generator: Generator) -> Drawn:
        with _drawing(data, generator) as geometry:
            found = np.empty((0, geometry.dim), data.train_x.dtype)
            tried = max(n, FEWEST)
            for _ in range(TRIES):
                before = len(found)
                some = condition.filter(_candidates(data, geometry, condition, tried))
                found = np.unique(np.vstack([found, some]), axis=0)
                # An interval has two ends and no more.
                if len(found) >= n or (geometry.dim == 1 and len(found) == before > 0):
                    break
            if not len(found):
                raise ValueError(
                    f"The condition {name} accepts none of {TRIES * tried} random "
                    "points inside, on the boundary and at the initial time of the "
                    "geometry, and so has no anchors. Where it holds inside, give the "
                    "condition a geometry of its own with its points as boundary, as a "
                    "PointCloud."
                )
            points = decimals(condition.collocation_points(_some(found, n)))
        half = len(points) // 2 if asked.paired else len(points)
        partner = points[half:] if asked.paired else None
        target = known(name, condition, points).target if asked.directed else None
        return Drawn(points[:half], partner, target)

    return sample


def _candidates(
    data: Data, geometry: Geometry, condition: Condition, n: int
) -> np.ndarray:
    """Points of which a condition may accept some, n of each kind, shape [m, d]."""
    parts = [geometry.random_points(n)]
    timed = hasattr(geometry, "random_initial_points")
    if timed:
        parts.append(geometry.random_initial_points(n))
    if not timed or not isinstance(condition, deepxde().icbc.IC):
        parts.append(geometry.random_boundary_points(n))
        if condition.geom is not data.geom and condition.geom.dim == geometry.dim:
            own = _forgetful(condition.geom).random_boundary_points(n)
            space: Geometry = getattr(geometry, "geometry", geometry)
            at = own[:, : space.dim]
            parts.append(own[space.inside(at) | space.on_boundary(at)])
    return _allowed(data, np.vstack(parts))


@contextmanager
def _drawing(data: Data, generator: Generator) -> Iterator[Geometry]:
    """The geometry, while DeepXDE draws by the generator, in the data's precision."""
    seed = int(torch.randint(2**32, (1,), generator=generator, device="cpu"))
    bits = 32 if data.train_x.dtype == np.float32 else 64
    with precision(bits), numpy_seeded(seed):
        yield _forgetful(data.geom)


def _forgetful(geometry: Geometry) -> Geometry:
    """A geometry that does not remember which points it gave, as a cloud does."""
    kinds = deepxde().geometry
    if type(geometry) is kinds.GeometryXTime:
        return kinds.GeometryXTime(_forgetful(geometry.geometry), geometry.timedomain)
    if type(geometry) is not kinds.PointCloud:
        return geometry
    return kinds.PointCloud(
        geometry.points, geometry.boundary_points, geometry.boundary_normals
    )


def _allowed(data: Data, points: np.ndarray) -> np.ndarray:
    """The points that the data do not exclude."""
    excluded = getattr(data, "exclusions", None)
    if excluded is None:
        return points
    kept = [not any(np.allclose(x, y) for y in excluded) for x in points]
    return points[np.array(kept, dtype=bool)]


def _some(points: np.ndarray, n: int) -> np.ndarray:
    """At most n of the points, each once."""
    found = np.unique(points, axis=0)
    return found[np.random.permutation(len(found))[:n]]
