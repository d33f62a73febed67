"""Burgers equation u_t + u u_x = nu u_xx, x in (-1, 1), t in (0, 1); nu is unknown.

u = 0 at both ends, as a hard constraint; no initial state is known. Sensors measure u,
and the viscosity nu is found with it. Data that are made start from -sin(pi x) at
t = 0, by the formula of Cole and Hopf, see problem ``burgers``.
"""

from functools import partial
from math import pi

from torch import Tensor

from fedsciml.network import MLP
from fedsciml.network.jet import Jet
from fedsciml.network.parallel import Parallel
from fedsciml.problem import Problem, Row
from fedsciml.problems._sensors import Data, Setting, inverse
from fedsciml.problems.burgers import solution

START = 0.1
"""Of nu in the training."""

VISCOSITIES = (0.0031, 0.3)
"""Of data that are made: above the first, up to the second.

In between ``burgers.solution`` errs by at most 2e-8; at 0.5 by 4e-7, at 1 by
6e-6. 0.01 / pi is the sharpest front that it is checked for.
"""


def burgers(u: Jet, row: Row) -> Tensor:
    """u_t + u u_x - nu u_xx."""
    return u.t + u.value * u.x - u.nu * u.xx


def make(
    clients: int | None = None,
    seed: int = 0,
    noise: float = 0.0,
    data: Data = None,
    measurements: int = 400,
    points: int = 1000,
    weight: float = 1.0,
    viscosity: float = 0.05 / pi,
) -> Problem:
    """The problem.

    Args:
        clients: Number of sites, equal strips along x; as many as there are data files,
            4 where data are made.
        seed: Of the points and of the errors of made measurements.
        noise: Standard deviation of made measurements over the root mean square of the
            exact ones.
        data: Folder with the sites' files, one .csv or .npz each, with the columns x, t
            and u; or a list of the files, with null for a file that is elsewhere. Data
            are made if it is not given.
        measurements: Number of made ones, of all sites together.
        points: Where the equation is asked for.
        weight: Of the measurements in the loss; that of the equation is 1.
        viscosity: Of data that are made.

    Raises:
        ValueError: If the viscosity is not in ``VISCOSITIES``.
    """
    least, most = VISCOSITIES
    if not least < viscosity <= most:
        raise ValueError(
            f"Data are made for a viscosity above {least} and up to {most}, where "
            f"their quadrature holds; got {viscosity}."
        )
    made = Setting(clients, seed, noise, data, measurements, points, weight)
    network = MLP((2, 20, 20, 20, 1), distance=lambda p: 1 - p[:, 0] ** 2)
    return inverse(
        "burgers_inverse",
        Parallel([network], unknowns={"nu": START}),
        burgers,
        partial(solution, nu=viscosity),
        {"nu": viscosity},
        ([-1.0, 0.0], [1.0, 1.0]),
        made,
        {"viscosity": viscosity},
    )
