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

from fedsciml.methods import _averaging, fedavg
from fedsciml.methods._averaging import Averaging
from fedsciml.methods._base import REMEMBERS, Exchanges, Expected, Field, Parts
from fedsciml.methods._local import CARRIED, Carried, Draw, minimise
from fedsciml.methods._records import Record
from fedsciml.methods._sums import shared
from fedsciml.residual import System


class State(_averaging.State):
    """theta and the control variate c of the whole, both [p]."""

    variate: Tensor


class Opening(_averaging.Opening):
    """theta and the control variate c of the whole, both [p]."""

    variate: Tensor


class Update(_averaging.Update):
    """The update, and the change of the client's control variate, [p]."""

    change: Tensor


class Memory(Record):
    """The client's control variate c_m [p], and what its solver carries on."""

    variate: Tensor
    carried: Carried | None = None


@dataclass(frozen=True)
class Scaffold(Averaging):
    """SCAFFOLD: FedAvg on corrected gradients.

    Args:
        local: How the clients train; ``sgd`` or ``adam``.
        server_step: Factor of the mean update, positive.

    Raises:
        ValueError: If the local solver takes no corrected gradients, or ``server_step``
            is not positive.
    """

    name: str = "scaffold"

    personal = None
    kinds = (State, Opening, Draw, Update, Memory, *CARRIED)
    apart = REMEMBERS

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.local.solver not in ("sgd", "adam"):
            raise ValueError(
                "SCAFFOLD corrects gradients; its local solver must be sgd or adam, "
                f"not {self.local.solver}."
            )

    def start(self, theta: Tensor, seed: int) -> State:
        """theta, and a control variate of zero."""
        return State(theta, torch.zeros_like(theta), draw=self.local.draw(seed))

    def round(self, state: State) -> Exchanges[State]:
        """theta as FedAvg's; the control variate moves by the mean change.

        The variates of clients that are missing stay, as in the paper's algorithm 1.
        """
        updates = yield Opening(state.theta, state.variate, draw=state.draw)
        theta, info = self._averaged(state.theta, updates)
        change = shared(updates.values(), lambda answer: answer.change)
        variate = state.variate + change
        return State(theta, variate, draw=state.next_draw), info

    @property
    def client(self) -> Parts:
        """Corrected local training, and the change of the control variate."""
        return {Opening: self._corrected}

    def _corrected(
        self, system: System, ask: Opening, memory: Memory | None
    ) -> tuple[Update, Memory]:
        before = memory or Memory(torch.zeros_like(ask.theta))
        correction = ask.variate - before.variate
        trained = minimise(
            system, ask.theta, self.local, before.carried, correction, ask.draw
        )
        update = Update(
            trained.theta - ask.theta,
            trained.loss,
            system.shard.share,
            trained.gradient - before.variate,
        )
        return update, Memory(trained.gradient, trained.carried)

    def expects(self, ask: Record, size: int) -> Expected:
        """As FedAvg, and the change of the control variate."""
        fields = super().expects(ask, size).fields
        return Expected(Update, {**fields, "change": Field((size,), scale=True)})


def make(
    tau: int = 100,
    learning_rate: float = 1e-3,
    local: Literal["adam", "sgd"] = "adam",
    keep_state: bool = False,
    momentum: float = 0.0,
    server_step: float = 1.0,
    batch: int | None = None,
    decay: float = 1.0,
) -> Scaffold:
    """SCAFFOLD from plain options.

    Args:
        tau: Local epochs per round.
        learning_rate: Local step.
        local: Local solver.
        keep_state: Clients keep their optimiser's state over the rounds.
        momentum: Of the local solver sgd.
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
        server_step=server_step,
        batch=batch,
        decay=decay,
    )
    return Scaffold(averaged.local, averaged.server_step)
