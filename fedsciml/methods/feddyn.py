r"""FedDyn: clients held by a regulariser that learns where the others pull.

Acar, Zhao, Matas Navarro, Mattina, Whatmough, Saligrama, ICLR 2021, arXiv 2111.04263.
Client m keeps a gradient g_m, at first 0, and minimises

    L_m(x) / share_m - g_m . x + alpha/2 |x - theta|^2,

which at the minimum x_m makes g_m - alpha (x_m - theta) the gradient of the first term:
that is its next g_m. The server keeps h = sum of share_m g_m and sets

    theta <- sum of share_m x_m - h / alpha.

Where the clients' minima agree with theta, h vanishes, and with it the gradient of the
whole loss: unlike FedAvg and FedProx it cannot rest anywhere else.

FedNova (Wang, Liu, Liang, Joshi, Poor, NeurIPS 2020, arXiv 2007.07481) answers another
question: it divides each update by the number of local steps, which it lets differ
from client to client. Here all clients do the same number, and it is FedAvg.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from fedsciml.methods._base import Info, Message, State
from fedsciml.methods._local import Local, train
from fedsciml.methods._uploads import shared, tensor
from fedsciml.methods.fedavg import FedAvg
from fedsciml.residual import System


@dataclass(frozen=True)
class FedDyn(FedAvg):
    """FedDyn.

    Args:
        local: How the clients train; ``local.proximal`` is alpha, positive. Not by
            ``gauss_newton``, which takes no linear term.
        server_step: Factor of the mean update; 1 is the paper's.

    Raises:
        ValueError: If alpha is zero or the solver does not suit.
    """

    local: Local = field(default_factory=lambda: Local(proximal=0.1))
    name: str = "feddyn"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.local.proximal > 0:
            raise ValueError(
                f"FedDyn's alpha must be positive, got {self.local.proximal}; try 0.1."
            )
        if self.local.solver == "gauss_newton":
            raise ValueError(
                "FedDyn corrects gradients; its local solver must be adam, sgd or "
                "lbfgs, not gauss_newton."
            )

    def init(self, theta: Tensor, seed: int) -> tuple[State, Message]:
        """theta, and a mean gradient of zero."""
        state, broadcast = super().init(theta, seed)
        return {**state, "gradient": torch.zeros_like(theta)}, broadcast

    def client(
        self, system: System, broadcast: Message, memory: State
    ) -> tuple[Message, State]:
        """Regularised local training; the gradient kept is that at its minimum."""
        theta = tensor(broadcast, "theta")
        first = "gradient" not in memory
        own = torch.zeros_like(theta) if first else tensor(memory, "gradient")
        delta, loss, memory = train(system, theta, self.local, memory, -own)
        upload: Message = {"delta": delta, "loss": loss, "share": system.shard.share}
        return upload, {**memory, "gradient": own - self.local.proximal * delta}

    def server(
        self, state: State, uploads: list[Message]
    ) -> tuple[State, Message, Info | None]:
        """The mean of the clients, less h / alpha.

        The gradients of clients that are missing stay, as in the paper's algorithm 1.
        """
        after, _, info = super().server(state, uploads)
        alpha = self.local.proximal
        gradient = tensor(state, "gradient") - alpha * shared(uploads, "delta")
        theta = tensor(after, "theta") - gradient / alpha
        return {"theta": theta, "gradient": gradient}, {"theta": theta}, info


def make(
    tau: int = 100,
    learning_rate: float = 1e-3,
    alpha: float = 0.1,
    local: Literal["adam", "sgd", "lbfgs"] = "adam",
    keep_state: bool = False,
) -> FedDyn:
    """FedDyn from plain options.

    Args:
        tau: Local epochs per round.
        learning_rate: Local step of adam and sgd.
        alpha: Factor of the dynamic regulariser.
        local: Local solver.
        keep_state: Clients keep their optimiser's state over the rounds.
    """
    solver = Local(local, tau, learning_rate, keep_state, proximal=alpha)
    return FedDyn(solver)
