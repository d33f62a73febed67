r"""FedAdam: the server takes Adam's step along the clients' mean update.

Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar, McMahan, ICLR 2021, arXiv
2003.00295, algorithm 2. With the mean update d = sum of share_m delta_m, element by
element

    m <- beta1 m + (1 - beta1) d,    v <- beta2 v + (1 - beta2) d^2,
    theta <- theta + server_rate m / (sqrt(v) + eps),

from m = 0 and v = eps^2. Neither is corrected for its start, as in the paper.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedsciml.methods import _averaging
from fedsciml.methods._averaging import Averaging, Opening, Update
from fedsciml.methods._base import Exchanges, Info
from fedsciml.methods._local import CARRIED, Draw, Local, Solver
from fedsciml.methods._sums import losses, mean, total


class State(_averaging.State):
    """theta and Adam's two moments, all [p]."""

    first: Tensor
    second: Tensor


@dataclass(frozen=True)
class FedAdam(Averaging):
    """FedAvg whose server steps by Adam.

    Args:
        local: How the clients train.
        server_step: Rate of the server's Adam, positive.
        beta1: Decay of the mean update, in [0, 1).
        beta2: Decay of its square, in [0, 1).
        eps: Adaptivity, positive: updates well below it are not scaled up.

    Raises:
        ValueError: If a number is out of range.
    """

    server_step: float = 1e-2
    name: str = "fedadam"
    beta1: float = 0.9
    beta2: float = 0.99
    eps: float = 1e-3

    kinds = (State, Opening, Draw, Update, *CARRIED)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("beta1", "beta2"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ValueError(f"{name} must be in [0, 1), got {value}; try 0.9.")
        if not self.eps > 0:
            raise ValueError(f"eps must be positive, got {self.eps}; try 1e-3.")

    def start(self, theta: Tensor, seed: int) -> State:
        """theta, and Adam's two moments."""
        first, second = torch.zeros_like(theta), torch.full_like(theta, self.eps**2)
        return State(theta, first, second, draw=self.local.draw(seed))

    def round(self, state: State) -> Exchanges[State]:
        """One step of Adam along the mean update."""
        updates = yield Opening(state.theta, draw=state.draw)
        update = mean(updates.values(), lambda answer: answer.delta)
        first = self.beta1 * state.first + (1 - self.beta1) * update
        second = self.beta2 * state.second + (1 - self.beta2) * update**2
        step = self.server_step * first / (second.sqrt() + self.eps)
        info = Info(
            total(updates.values()), epochs=self.local.epochs, losses=losses(updates)
        )
        theta = state.theta + step
        return State(theta, first, second, draw=state.next_draw), info


def make(
    tau: int = 100,
    learning_rate: float = 1e-3,
    local: Solver = "adam",
    keep_state: bool = False,
    server_rate: float = 1e-2,
    beta1: float = 0.9,
    beta2: float = 0.99,
    eps: float = 1e-3,
    batch: int | None = None,
    decay: float = 1.0,
) -> FedAdam:
    """FedAdam from plain options.

    Args:
        tau: Local epochs per round.
        learning_rate: Local step of adam and sgd.
        local: Local solver.
        keep_state: Clients keep their optimiser's state over the rounds.
        server_rate: Rate of the server's Adam.
        beta1: Decay of the mean update.
        beta2: Decay of the squared mean update.
        eps: Adaptivity: updates well below it are not scaled up.
        batch: Points of a local step of adam and sgd, drawn anew in every epoch; all of
            a client's if not given.
        decay: Factor of the learning rate of adam and sgd from round to round.
    """
    solver = Local(local, tau, learning_rate, keep_state, batch=batch, decay=decay)
    return FedAdam(solver, server_rate, beta1=beta1, beta2=beta2, eps=eps)
