"""FedAvg: the mean of the clients' locally trained parameters, weighted by share.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas, AISTATS 2017, arXiv 1602.05629.
"""

from dataclasses import dataclass, field

from torch import Tensor

from fedsciml.methods._base import Field, Fields, Info, Message, State
from fedsciml.methods._local import Local, Solver, train
from fedsciml.methods._uploads import mean, tensor, total
from fedsciml.residual import System


@dataclass(frozen=True)
class FedAvg:
    """FedAvg with any local solver; with ``local.proximal`` it is FedProx.

    Client m minimises its own loss L_m, scaled by 1 / share_m so that the shares'
    weighted mean of the local objectives is the loss of the whole.

    Args:
        local: How the clients train.
        server_step: Factor of the mean update, positive.

    Raises:
        ValueError: If ``server_step`` is not positive.
    """

    local: Local = field(default_factory=Local)
    server_step: float = 1.0
    name: str = "fedavg"
    pooled: bool = False

    def __post_init__(self) -> None:
        if not self.server_step > 0:
            raise ValueError(
                f"The server step must be positive, got {self.server_step}; try 1.0."
            )

    def init(self, theta: Tensor, seed: int) -> tuple[State, Message]:
        """Nothing but theta."""
        del seed
        return {"theta": theta}, {"theta": theta}

    def client(
        self, system: System, broadcast: Message, memory: State
    ) -> tuple[Message, State]:
        """Local training from the broadcast theta."""
        theta = tensor(broadcast, "theta")
        delta, loss, memory = train(system, theta, self.local, memory)
        return {"delta": delta, "loss": loss, "share": system.shard.share}, memory

    def expects(self, broadcast: Message, size: int) -> Fields:
        """The update, the loss before it, and the client's part of all rows."""
        del broadcast
        return {
            "delta": Field((size,), scale=True),
            "loss": Field(least=0),
            "share": Field(),
        }

    def server(
        self, state: State, uploads: list[Message]
    ) -> tuple[State, Message, Info | None]:
        """theta + server_step * sum of share_m delta_m."""
        theta = tensor(state, "theta") + self.server_step * mean(uploads, "delta")
        info = Info(
            loss=total(uploads, "loss"),
            step=self.server_step,
            epochs=self.local.epochs,
        )
        return {"theta": theta}, {"theta": theta}, info


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
