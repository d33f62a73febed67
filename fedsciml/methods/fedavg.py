"""FedAvg: the weighted mean of the clients' locally trained parameters.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas, AISTATS 2017, arXiv 1602.05629.
"""

from dataclasses import dataclass, field

from torch import Tensor

from fedsciml.local import Local, train
from fedsciml.method import Info, Message, State
from fedsciml.residual import System


@dataclass(frozen=True)
class FedAvg:
    """FedAvg with any local solver.

    Client m minimises its own loss L_m, scaled by 1 / share_m so that the shares'
    weighted mean of the local objectives is the loss of the whole.

    Args:
        local: How the clients train.
        server_step: Factor of the mean update.
    """

    local: Local = field(default_factory=Local)
    server_step: float = 1.0
    name: str = "fedavg"
    pooled: bool = False

    def init(self, theta: Tensor, seed: int) -> tuple[State, Message]:
        """Nothing but theta."""
        del seed
        return {"theta": theta}, {"theta": theta}

    def client(
        self, system: System, broadcast: Message, memory: State
    ) -> tuple[Message, State]:
        """Local training from the broadcast theta."""
        theta = broadcast["theta"]
        delta, loss, memory = train(system, theta, self.local, memory)
        return {"delta": delta, "loss": loss, "share": system.shard.share}, memory

    def server(
        self, state: State, uploads: list[Message]
    ) -> tuple[State, Message, Info | None]:
        """theta + server_step * sum of share_m delta_m."""
        mean = sum(u["share"] * u["delta"] for u in uploads)
        theta = state["theta"] + self.server_step * mean
        info = Info(
            loss=sum(u["loss"] for u in uploads),
            step=self.server_step,
            epochs=self.local.epochs,
        )
        return {"theta": theta}, {"theta": theta}, info
