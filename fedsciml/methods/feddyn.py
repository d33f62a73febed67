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

from fedsciml.methods import _averaging
from fedsciml.methods._averaging import Averaging, Opening, Update
from fedsciml.methods._base import REMEMBERS, Exchanges, Parts
from fedsciml.methods._local import CARRIED, Carried, Draw, Local, train
from fedsciml.methods._records import Record
from fedsciml.methods._sums import shared
from fedsciml.residual import System


class State(_averaging.State):
    """theta and the mean gradient h, both [p]."""

    gradient: Tensor


class Memory(Record):
    """The client's gradient g_m [p], and what its solver carries on."""

    gradient: Tensor
    carried: Carried | None = None


@dataclass(frozen=True)
class FedDyn(Averaging):
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

    personal = None
    kinds = (State, Opening, Draw, Update, Memory, *CARRIED)
    apart = REMEMBERS

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

    def start(self, theta: Tensor, seed: int) -> State:
        """theta, and a mean gradient of zero."""
        return State(theta, torch.zeros_like(theta), draw=self.local.draw(seed))

    def round(self, state: State) -> Exchanges[State]:
        """The mean of the clients, less h / alpha.

        The gradients of clients that are missing stay, as in the paper's algorithm 1.
        """
        updates = yield Opening(state.theta, draw=state.draw)
        theta, info = self._averaged(state.theta, updates)
        alpha = self.local.proximal
        moved = shared(updates.values(), lambda answer: answer.delta)
        gradient = state.gradient - alpha * moved
        theta = theta - gradient / alpha
        return State(theta, gradient, draw=state.next_draw), info

    @property
    def client(self) -> Parts:
        """Regularised local training; the gradient kept is that at its minimum."""
        return {Opening: self._regularised}

    def _regularised(
        self, system: System, ask: Opening, memory: Memory | None
    ) -> tuple[Update, Memory]:
        before = memory or Memory(torch.zeros_like(ask.theta))
        delta, loss, carried = train(
            system, ask.theta, self.local, before.carried, -before.gradient, ask.draw
        )
        gradient = before.gradient - self.local.proximal * delta
        return Update(delta, loss, system.shard.share), Memory(gradient, carried)


def make(
    tau: int = 100,
    learning_rate: float = 1e-3,
    alpha: float = 0.1,
    local: Literal["adam", "sgd", "lbfgs"] = "adam",
    keep_state: bool = False,
    batch: int | None = None,
    decay: float = 1.0,
) -> FedDyn:
    """FedDyn from plain options.

    Args:
        tau: Local epochs per round.
        learning_rate: Local step of adam and sgd.
        alpha: Factor of the dynamic regulariser.
        local: Local solver.
        keep_state: Clients keep their optimiser's state over the rounds.
        batch: Points of a local step of adam and sgd, drawn anew in every epoch; all of
            a client's if not given.
        decay: Factor of the learning rate of adam and sgd from round to round.
    """
    solver = Local(
        local, tau, learning_rate, keep_state, proximal=alpha, batch=batch, decay=decay
    )
    return FedDyn(solver)
