"""Real data: elevation of 30 km x 32 km of mountains, measured by four neighbours.

A grid of 344 x 403 elevations in whole metres, 3 arc seconds apart, at the Jacksboro
fault (Cumberland Mountains, Tennessee and Kentucky). It comes with matplotlib, which
does not name the survey. The coordinates are x to the east and y to the north of the
middle, in units of 10 km; u is the elevation in units of 150 m above 500 m, constants
that need no client's data. The clients own strips from west to east.

4000 grid points, drawn at random, are trained on; 4000 others, never trained on, are
the test points.
"""

from importlib.util import find_spec
from math import cos, radians
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fedsciml.collocation import in_box, strips
from fedsciml.network import MLP
from fedsciml.problem import Problem, Term
from fedsciml.problems._suite import given

BASE, SCALE = 500.0, 150.0
"""In metres: u = (elevation - BASE) / SCALE."""

TEST = 4000

DEGREE = 11.12
"""Length of a degree of latitude, in units of 10 km."""


class Grid(NamedTuple):
    """The data: positions [n, 2] in units of 10 km and elevations [n] in metres."""

    points: Tensor
    elevation: Tensor


def measured() -> Grid:
    """All of the grid, row by row from the north.

    Raises:
        FileNotFoundError: If this matplotlib came without its sample data.
    """
    package = find_spec("matplotlib")
    if package is None or package.origin is None:
        raise FileNotFoundError("The elevations come with matplotlib; install it.")
    data = Path(package.origin).parent / "mpl-data" / "sample_data"
    path = data / "jacksboro_fault_dem.npz"
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no {path}: this matplotlib came without its sample data. "
            "Install the one from PyPI."
        )
    with np.load(path) as file:
        elevation = torch.from_numpy(file["elevation"]).double()
        north, south = float(file["ymin"]), float(file["ymax"])  # named by the rows
        dx = float(file["dx"]) * DEGREE * cos(radians((north + south) / 2))
        dy = float(file["dy"]) * DEGREE
    rows, columns = elevation.shape
    y = dy * ((rows - 1) / 2 - torch.arange(rows).double())
    x = dx * (torch.arange(columns).double() - (columns - 1) / 2)
    points = torch.cartesian_prod(y, x).flip(1)
    return Grid(points, elevation.flatten())


def make(clients: int = 4, seed: int = 0, measurements: int = 4000) -> Problem:
    """The problem.

    Args:
        clients: Number of strips, equally wide.
        seed: Of the choice of points.
        measurements: Grid points that are trained on.

    Raises:
        ValueError: If that many grid points, and those to test with, are not there.
    """
    points, elevation = measured()
    if not 1 <= measurements <= len(points) - TEST:
        raise ValueError(
            f"There are {len(points)} elevations, {TEST} of them to test with; "
            f"measurements must be 1 to {len(points) - TEST}, got {measurements}."
        )
    u = (elevation - BASE) / SCALE
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(points), generator=generator)
    train, test = order[:measurements], order[measurements : measurements + TEST]
    corner = points.amax(0)
    domain = (-corner).tolist(), corner.tolist()
    edges = torch.linspace(-1, 1, clients + 1, dtype=points.dtype) * corner[0]
    return Problem(
        "terrain",
        MLP((2, 20, 20, 20, 1)),
        [
            Term(
                "elevation",
                given,
                points[train],
                target=u[train],
                sample=in_box(*domain),
            )
        ],
        strips(edges),
        coordinates="xy",
        test_points=points[test],
        reference=u[test],
        domain=domain,
        parameters={"clients": clients, "seed": seed, "measurements": measurements},
    )
