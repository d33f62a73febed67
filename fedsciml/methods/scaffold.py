r"""SCAFFOLD: local steps on gradients corrected by control variates.

Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, ICML 2020, arXiv 1910.06378. With the
clients' control variates c_m and the server's c = sum of share_m c_m, client m steps
along

    grad L_m(x) / share_m - c_m + c,

and afterwards sets c_m to the mean of its own uncorrected gradients along the way. For
plain gradient descent with learning rate eta over tau epochs that is the paper's option
II, c_m - c + (theta - x) / (tau eta), exactly. With momentum or Adam, whose updates are
no multiples of the gradient, the mean itself is what option II estimates.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fedsciml.methods._base import Field, Fields, Info, Message, State
from fedsciml.methods._local import Local, minimise
from fedsciml.methods._uploads import shared, tensor
from fedsciml.methods.fedavg import FedAvg
from fedsciml.residual import System


@dataclass(frozen=True)
class Scaffold(FedAvg):
    """SCAFFOLD: FedAvg on corrected gradients.

    Args:
        local: How the clients train; ``sgd`` or ``adam``.
        server_step: Factor of the mean update, positive.

    Raises:
        ValueError: If the local solver takes no corrected gradients, or ``server_step``
            is not positive.
    """

    name: str = "scaffold"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.local.solver not in ("sgd", "adam"):
            raise ValueError(
                "SCAFFOLD corrects gradients; its local solver must be sgd or adam, "
                f"not {self.local.solver}."
            )

    def init(self, theta: Tensor, seed: int) -> tuple[State, Message]:
        """theta, and a control variate of zero."""
        del seed
        start: State = {"theta": theta, "variate": torch.zeros_like(theta)}
        return start, dict(start)

    def client(
        self, system: System, broadcast: Message, memory: State
    ) -> tuple[Message, State]:
        """Corrected local training, and the change of the control variate."""
        theta, variate = tensor(broadcast, "theta"), tensor(broadcast, "variate")
        first = "variate" not in memory
        own = torch.zeros_like(theta) if first else tensor(memory, "variate")
        trained = minimise(system, theta, self.local, memory, variate - own)
        upload: Message = {
            "delta": trained.theta - theta,
            "change": trained.gradient - own,
            "loss": trained.loss,
            "share": system.shard.share,
        }
        return upload, {**trained.memory, "variate": trained.gradient}

    def expects(self, broadcast: Message, size: int) -> Fields:
        """As FedAvg, and the change of the control variate."""
        expected = super().expects(broadcast, size)
        return {**expected, "change": Field((size,), scale=True)}

    def server(
        self, state: State, uploads: list[Message]
    ) -> tuple[State, Message, Info | None]:
        """theta as FedAvg's; the control variate moves by the mean change.

        The variates of clients that are missing stay, as in the paper's algorithm 1.
        """
        after, _, info = super().server(state, uploads)
        after["variate"] = tensor(state, "variate") + shared(uploads, "change")
        return after, dict(after), info


def make(
    tau: int = 100,
    learning_rate: float = 1e-3,
    local: Literal["adam", "sgd"] = "adam",
    keep_state: bool = False,
    momentum: float = 0.0,
    server_step: float = 1.0,
) -> Scaffold:
    """SCAFFOLD from plain options.

    Args:
        tau: Local epochs per round.
        learning_rate: Local step.
        local: Local solver.
        keep_state: Clients keep their optimiser's state over the rounds.
        momentum: Of the local solver sgd.
        server_step: Factor of the mean update.
    """
    solver = Local(
        solver=local,
        epochs=tau,
        learning_rate=learning_rate,
        keep_state=keep_state,
        momentum=momentum,
    )
    return Scaffold(solver, server_step)
