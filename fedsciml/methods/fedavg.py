"""FedAvg: the mean of the clients' locally trained parameters, weighted by share.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas, AISTATS 2017, arXiv 1602.05629.
"""

from dataclasses import dataclass

from fedsciml.methods._averaging import Averaging, Opening, State
from fedsciml.methods._base import Exchanges
from fedsciml.methods._local import Local, Solver


@dataclass(frozen=True)
class FedAvg(Averaging):
    """FedAvg with any local solver; with ``local.proximal`` it is FedProx."""

    name: str = "fedavg"

    def round(self, state: State) -> Exchanges[State]:
        """The clients train from theta; their mean is the next one."""
        updates = yield Opening(state.theta, draw=state.draw)
        theta, info = self._averaged(state.theta, updates)
        return State(theta, draw=state.next_draw), info


def make(
    tau: int = 100,
    learning_rate: float = 1e-3,
    local: Solver = "adam",
    keep_state: bool = False,
    momentum: float = 0.0,
    damping: float = 1e-6,
    server_step: float = 1.0,
    batch: int | None = None,
    decay: float = 1.0,
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
        batch: Points of a local step of adam and sgd, drawn anew in every epoch; all of
            a client's if not given.
        decay: Factor of the learning rate of adam and sgd from round to round.
    """
    solver = Local(
        solver=local,
        epochs=tau,
        learning_rate=learning_rate,
        keep_state=keep_state,
        momentum=momentum,
        damping=damping,
        batch=batch,
        decay=decay,
    )
    return FedAvg(solver, server_step)
