"""Points drawn in a box or in a geometry of DeepXDE.

All points are float64 tensors [n, d]. A box is given by its corners, ``lower`` and
``upper``, of d numbers each.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import Generator, Tensor

from fedsciml.alone import alone


def uniform(
    n: int, lower: Sequence[float], upper: Sequence[float], generator: Generator
) -> Tensor:
    """Points drawn uniformly in a box, shape [n, d].

    Raises:
        ValueError: If ``n < 0`` or the box is empty.
    """
    low, high = corners(lower, upper)
    if n < 0:
        raise ValueError(f"Cannot draw {n} points; n must be at least 0.")
    draws = torch.rand(
        n, len(low), generator=generator, dtype=torch.float64, device="cpu"
    )
    return low + (high - low) * draws


def face(
    n: int,
    lower: Sequence[float],
    upper: Sequence[float],
    axis: int,
    side: int,
    generator: Generator,
) -> Tensor:
    """Points drawn uniformly on a face of a box, shape [n, d].

    In 1-D a face is one point, repeated n times.

    Args:
        n: Number of points.
        lower: Lower corner of the box.
        upper: Upper corner of the box.
        axis: The coordinate that is constant on the face, from 0.
        side: 0 for the face at ``lower[axis]``, 1 for the one at ``upper[axis]``.
        generator: Source of the randomness.

    Raises:
        ValueError: If there is no such face, ``n < 0`` or the box is empty.
    """
    if not 0 <= axis < len(lower) or side not in (0, 1):
        raise ValueError(
            f"A box of {len(lower)} coordinates has faces axis 0 to {len(lower) - 1}, "
            f"side 0 or 1; got axis {axis}, side {side}."
        )
    points = uniform(n, lower, upper, generator)
    points[:, axis] = (lower, upper)[side][axis]
    return points


class Geometry(Protocol):
    """What is used of a ``deepxde.geometry`` object, with or without time."""

    def random_points(self, n: int) -> np.ndarray:
        """Points [n, d] inside."""

    def random_boundary_points(self, n: int) -> np.ndarray:
        """Points [n, d] on the boundary, at any time."""

    def random_initial_points(self, n: int) -> np.ndarray:
        """Points [n, d] at the initial time, if there is a time."""


def interior(geometry: Geometry, n: int, seed: int) -> Tensor:
    """Random points in a ``deepxde.geometry`` object, shape [n, d].

    DeepXDE draws from numpy's global generator; its state is set for the call and
    restored. Coordinates are converted by ``decimals``, so that points on straight
    boundaries stay on them.

    Raises:
        ValueError: If the geometry does not return n points.
    """
    return _drawn(geometry.random_points, n, seed)


def boundary(geometry: Geometry, n: int, seed: int) -> Tensor:
    """Random points on the boundary; otherwise as ``interior``.

    DeepXDE gives each end of an interval once when asked for n = 2.
    """
    return _drawn(geometry.random_boundary_points, n, seed)


def initial(geometry: Geometry, n: int, seed: int) -> Tensor:
    """Random points at the initial time; otherwise as ``interior``."""
    return _drawn(geometry.random_initial_points, n, seed)


def decimals(values: np.ndarray) -> Tensor:
    """An array as float64, float32 values by the shortest decimals that name them.

    So 0.1 in float32 becomes 0.1, not 0.10000000149.
    """
    if values.dtype == np.float32:
        values = values.astype(str)
    return torch.from_numpy(values.astype(np.float64))


def corners(lower: Sequence[float], upper: Sequence[float]) -> tuple[Tensor, Tensor]:
    """The corners of a box as tensors [d].

    Raises:
        ValueError: If the box is empty or their lengths differ.
    """
    low = torch.as_tensor(lower, dtype=torch.float64, device="cpu")
    high = torch.as_tensor(upper, dtype=torch.float64, device="cpu")
    if low.ndim != 1 or low.shape != high.shape or not bool((low < high).all()):
        raise ValueError(
            f"A box needs corners with lower < upper in each coordinate, got lower "
            f"{low.tolist()} and upper {high.tolist()}."
        )
    return low, high


@contextmanager
def numpy_seeded(seed: int) -> Iterator[None]:
    """Numpy's global generator starts from a seed; its state is restored at the end."""
    with alone:
        state = np.random.get_state()
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(state)


def _drawn(draw: Callable[[int], np.ndarray], n: int, seed: int) -> Tensor:
    with numpy_seeded(seed):
        points = np.asarray(draw(n))
    if points.ndim != 2 or len(points) != n:
        raise ValueError(
            f"The geometry returned an array of shape {points.shape} when asked for "
            f"{n} points; it must be ({n}, d)."
        )
    return decimals(points)
