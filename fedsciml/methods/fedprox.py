"""FedProx: FedAvg whose clients are held near the broadcast by a proximal term.

Client m minimises L_m / share_m + proximal/2 |x - theta|^2. Li, Sahu, Zaheer, Sanjabi,
Talwalkar, Smith, MLSys 2020, arXiv 1812.06127.
"""

from dataclasses import replace

from fedsciml.methods import fedavg
from fedsciml.methods._local import Solver
from fedsciml.methods.fedavg import FedAvg


def make(
    tau: int = 100,
    learning_rate: float = 1e-3,
    proximal: float = 1e-2,
    local: Solver = "adam",
    keep_state: bool = False,
    momentum: float = 0.0,
    damping: float = 1e-6,
    server_step: float = 1.0,
    batch: int | None = None,
    decay: float = 1.0,
) -> FedAvg:
    """FedProx from plain options.

    Args:
        tau: Local epochs per round.
        learning_rate: Local step of adam and sgd.
        proximal: Factor mu of the proximal term; 0 is FedAvg.
        local: Local solver.
        keep_state: Clients keep their optimiser's state over the rounds.
        momentum: Of the local solver sgd.
        damping: Of the local solver gauss_newton, absolute.
        server_step: Factor of the mean update.
        batch: Points of a local step of adam and sgd, drawn anew in every epoch; all of
            a client's if not given.
        decay: Factor of the learning rate of adam and sgd from round to round.
    """
    averaged = fedavg.make(
        tau,
        learning_rate,
        local,
        keep_state,
        momentum,
        damping,
        server_step,
        batch,
        decay,
    )
    return replace(
        averaged, name="fedprox", local=replace(averaged.local, proximal=proximal)
    )
