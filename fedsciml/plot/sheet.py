"""Values at points of a plane as maps for a page."""

from functools import cached_property

import numpy as np
from matplotlib.tri import LinearTriInterpolator, Triangulation
from numpy.typing import NDArray
from torch import Tensor

from fedsciml.plot.owners import box, squarish
from fedsciml.plot.staged import GRID_2D
from fedsciml.plot.trained import owners
from fedsciml.plot.web import Map
from fedsciml.problem import Problem

Box = tuple[tuple[float, float], tuple[float, float]]
"""Ends of a rectangle along x and y."""


class Sheet:
    """Where maps of a problem lie, on the plane of the first two coordinates.

    Args:
        problem: In two or more coordinates.
        points: Where its values are known, [n, d]: as ``stage`` says.
    """

    def __init__(self, problem: Problem, points: Tensor) -> None:
        self.problem, self.points = problem, points[:, :2].double().numpy()
        (x0, y0), (x1, y1) = (corner.tolist()[:2] for corner in box(problem))
        self.box: Box = (x0, x1), (y0, y1)

    @cached_property
    def owners(self) -> NDArray[np.int64] | None:
        """Which client owns each place; None where only their points are owned."""
        found = owners(self.problem)
        return None if found is None or len(np.unique(found)) < 2 else found

    def spread(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values at the points, [n], on a grid [ny, nx]; NaN off the domain."""
        if self._mesh is None:
            return values.reshape(GRID_2D, GRID_2D).T
        mesh, off = self._mesh, ~np.isfinite(values)
        mesh.set_mask(np.any(off[mesh.triangles], axis=1) if off.any() else None)
        grids = np.meshgrid(*self._grids)
        found = LinearTriInterpolator(mesh, np.where(off, 0, values))(*grids)
        return np.ma.filled(found, np.nan)

    def map(
        self,
        values: NDArray[np.float64],
        limits: tuple[float, float] | None,
        log: bool = False,
    ) -> Map:
        """A map of values on the grid, see ``Map``."""
        x, y, *_ = self.problem.coordinates
        equal = squarish(self.problem)
        return Map(values, self.box, (x, y), limits, log, self.owners, equal)

    @property
    def _grids(self) -> list[NDArray[np.float64]]:
        return [np.linspace(low, high, GRID_2D) for low, high in self.box]

    @cached_property
    def _mesh(self) -> Triangulation | None:
        """Triangles between the points; None if these are a grid already."""
        diagonal = self.points[:: GRID_2D + 1]
        if len(self.points) == GRID_2D**2 and np.allclose(
            diagonal, np.stack(self._grids, 1)
        ):
            return None
        return Triangulation(*self.points.T)
