"""Heat equation u_t = nu u_xx, x in (0, 1) m, t in (0, 1) s; nu is unknown.

u = 0 K at both ends, as a hard constraint; no initial state is known. Sensors measure u
in K, and the diffusivity nu in m^2/s is found with it. Data that are made are those
of problem ``heat``: u = exp(-nu pi^2 t) sin(pi x), nu = 0.1.
"""

from torch import Tensor

from fedsciml.network import MLP
from fedsciml.network.jet import Jet
from fedsciml.network.parallel import Parallel
from fedsciml.problem import Problem, Row
from fedsciml.problems._sensors import Data, Setting, inverse
from fedsciml.problems.heat import NU, solution

START = 1.0
"""Of nu in the training."""


def heat(u: Jet, row: Row) -> Tensor:
    """u_t - nu u_xx, in K/s."""
    return u.t - u.nu * u.xx


def make(
    clients: int | None = None,
    seed: int = 0,
    noise: float = 0.0,
    data: Data = None,
    measurements: int = 200,
    points: int = 400,
    weight: float = 1.0,
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
    """
    made = Setting(clients, seed, noise, data, measurements, points, weight)
    network = MLP((2, 20, 20, 1), distance=lambda p: p[:, 0] * (1 - p[:, 0]))
    return inverse(
        "heat_inverse",
        Parallel([network], unknowns={"nu": START}),
        heat,
        solution,
        {"nu": NU},
        ([0.0, 0.0], [1.0, 1.0]),
        made,
    )
