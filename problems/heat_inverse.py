"""Heat equation u_t = nu u_xx, x in (0, 1) m, t in (0, 1) s; nu is unknown.

u = 0 K at both ends, as a hard constraint; no initial state is known. Sensors measure u
in K, and the diffusivity nu in m^2/s is found with it. Data that are made are those
of problem ``heat``: u = exp(-nu pi^2 t) sin(pi x), nu = 0.1.
"""

from collections.abc import Sequence

from torch import Tensor

from fedsciml.network import MLP
from fedsciml.network.jet import Jet
from fedsciml.network.parallel import Parallel
from fedsciml.problem import DataFile, Problem, Row
from fedsciml.problems._sensors import Setting, inverse
from fedsciml.problems.heat import NU, solution

START = 1.0
"""Of nu in the training."""


def heat(u: Jet, row: Row) -> Tensor:
    """u_t - nu u_xx, in K/s."""
    return u.t - u.nu * u.xx


def make(
    clients: int = 4,
    seed: int = 0,
    noise: float = 0.0,
    data: str | Sequence[DataFile | str | None] | None = None,
    measurements: int = 200,
    points: int = 400,
    weight: float = 1.0,
) -> Problem:
    """The problem; see ``problems._sensors.Setting`` for the arguments."""
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
