"""FedAvg: the mean of the clients' locally trained parameters, weighted by share.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas, AISTATS 2017, arXiv 1602.05629.
"""

from dataclasses import dataclass

from fedsciml.methods._averaging import Averaging
from fedsciml.methods._base import Exchanges, Opening, State
from fedsciml.methods._local import Local, Solver


@dataclass(frozen=True)
class FedAvg(Averaging):
    """FedAvg with any local solver; with ``local.proximal`` it is FedProx."""

    name: str = "fedavg"

    def round(self, state: State) -> Exchanges[State]:
        """The clients train from theta; their mean is the next one."""
        updates = yield Opening(state.theta)
        theta, info = self._averaged(state.theta, updates)
        return State(theta), info


def make(
    tau: int = 100,
    learning_rate: float = 1e-3,
    local: Solver = "adam",
    keep_state: bool = False,
    momentum: float = 0.0,
    damping: float = 1e-6,
    server_step: float = 1.0,
) -> FedAvg:
    """FedAvg from plain options.

    Args:
        tau: Local epochs per round.
        learning_rate: Local step of adam and sgd.
        local: Local solver.
        keep_state: Clients keep their optimiser's state over the rounds.
        momentum: Of the local solver sgd.
        damping: Of the local solver gauss_newton, absolute.
        server_step: Factor of the mean update.
    """
    solver = Local(
        solver=local,
        epochs=tau,
        learning_rate=learning_rate,
        keep_state=keep_state,
        momentum=momentum,
        damping=damping,
    )
    return FedAvg(solver, server_step)
