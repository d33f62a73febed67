r"""FedLoRA-Optimizer: low-rank factors in stages, the last one each client's own.

Zhao, Zhu, Zhang, Chen, Guo, arXiv 2510.11274. On a network with LoRA whose magnitudes
of B are personal, ``lora(network, rank, form="split", personal="magnitudes_B")``:

    averaged     FedAvg of all that is shared; the personal magnitudes stay at 1
    directions   the global optimiser: of the shared parameters A moves alone, in form
                 ``split`` its directions
    magnitudes   the local optimiser: each client trains its own magnitudes, for good

Before the last stage all clients have one model, and a client that never trained, or
is new, has it too. In ``directions`` an upload has the entries of A alone, in
``magnitudes`` none. In the paper a server with data runs the global optimiser; here
data stay where they are, and it is local training and the mean again.

Its kin need no method of their own: the same split trained together is ``fedavg`` on
the same network; FedAvg of LoRA is ``fedavg`` without personal groups; FedSA-LoRA (ICLR
2025) is ``fedavg`` with ``personal="B"``; local LoRA is ``problem.alone(client)``; and
``fipa`` eliminates the magnitudes.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedsciml.methods import _averaging
from fedsciml.methods._averaging import Averaging, Update
from fedsciml.methods._base import (
    LOSS,
    SHARE,
    Exchanges,
    Expected,
    Field,
    Method,
    Parts,
)
from fedsciml.methods._local import CARRIED, Draw, Local, Solver, train
from fedsciml.methods._records import Record
from fedsciml.network import groups
from fedsciml.problem import Problem
from fedsciml.residual import System

DIRECTIONS = "A"
"""The group that the global optimiser trains."""


class State(_averaging.State):
    """theta [p_s], and the number of the next round, from 0."""

    round: int = 0


class Opening(_averaging.Opening):
    """theta [p_s], and the stage, from 0."""

    stage: int = 0


@dataclass(frozen=True)
class FedLora(Averaging):
    """FedLoRA-Optimizer; its clients have parameters of their own.

    Args:
        local: How clients train, all that is shared.
        server_step: Factor of the mean update, positive.
        rounds: Of the stages ``averaged`` and ``directions``, at least 0 each; all
            rounds after them are of ``magnitudes``.
        rates: Learning rates of the stages ``directions`` and ``magnitudes``.
        moving: Numbers of the shared entries that the global optimiser trains;
            ``bound`` finds them.

    Raises:
        ValueError: If a number is out of range; when bound, if the network has no group
            A that is shared, or no personal one.
    """

    name: str = "fedlora"
    rounds: tuple[int, int] = (20, 20)
    rates: tuple[float, float] = (1e-3, 1e-3)
    moving: tuple[int, ...] | None = None

    kinds = (State, Opening, Draw, Update, *CARRIED)

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.rounds) < 0:
            raise ValueError(f"A stage has 0 or more rounds, got {self.rounds}.")
        for rate in self.rates:
            replace(self.local, learning_rate=rate)  # refuses what is no rate

    def bound(
        self,
        problem: Problem,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> Method:
        """With the numbers of what the global optimiser trains."""
        numbers = groups(problem.network).get(DIRECTIONS)
        if numbers is None or problem.personal is None:
            raise ValueError(
                f"Method {self.name} averages the low-rank factors of a network and "
                f"leaves magnitudes to each client; that of problem '{problem.name}' "
                "has no such parts. Write lora(network, rank, form='split', "
                "personal='magnitudes_B')."
            )
        return replace(self, moving=tuple(numbers.tolist()))

    def advice(self, problem: Problem) -> list[str]:
        """That factors cannot be averaged while magnitudes are zero, if so."""
        view = problem.personal
        if view is None:
            return []
        begin = view.joined(torch.ones(view.size, device="cpu"), view.values.float())
        still = [
            name
            for name, numbers in groups(view.network).items()
            if name.startswith("magnitudes") and not bool(begin[numbers].any())
        ]
        if not still:
            return []
        return [
            f"The personal {', '.join(still)} begin at 0, and until they are trained, "
            "in the last stage, no factor has a part in the model: the other stages do "
            "not train any. Write lora(..., zero='magnitudes_A') of form split, or 'B'."
        ]

    def start(self, theta: Tensor, seed: int) -> State:
        """theta, in the first stage."""
        return State(theta, draw=self.local.draw(seed))

    def round(self, state: State) -> Exchanges[State]:
        """The mean of what the stage trains."""
        first, second = self.rounds
        stage = (state.round >= first) + (state.round >= first + second)
        updates = yield Opening(state.theta, draw=state.draw, stage=stage)
        numbers = self._shared(stage, len(state.theta))
        moved, info = self._averaged(state.theta[numbers], updates)
        theta = state.theta.index_put((numbers,), moved)
        return State(theta, draw=state.next_draw, round=state.round + 1), info

    def _shared(self, stage: int, size: int) -> Tensor:
        """Numbers of the shared entries that a stage trains."""
        if stage == 0:
            return torch.arange(size, device="cpu")
        if self.moving is None:
            raise ValueError(
                "Which parameters are directions is known of a problem's network: run "
                "the method by fedsciml.run, or take method.bound(problem)."
            )
        return torch.tensor(
            self.moving[: None if stage == 1 else 0], device="cpu"
        ).long()

    @property
    def client(self) -> Parts:
        """Local training of what the stage trains."""
        return {Opening: self._staged}

    def _staged(
        self, system: System, ask: Opening, memory: None
    ) -> tuple[Update, None]:
        """On rows by shared and personal parameters, in this order."""
        shared = system.view.size
        if len(ask.theta) == shared:
            raise ValueError(
                f"Method {self.name} says itself when personal parameters are trained; "
                "leave out the order."
            )
        every = torch.arange(len(ask.theta), device="cpu")
        moving = self._shared(ask.stage, shared) if ask.stage < 2 else every[shared:]
        local = self.local
        if ask.stage:
            local = replace(local, learning_rate=self.rates[ask.stage - 1])
        delta, loss, _ = train(
            system, ask.theta, local, None, draw=ask.draw, moving=moving
        )
        return Update(delta, loss, system.shard.share), None

    def told(self, ask: Record, update: Update) -> Update:
        """The entries that the stage trains."""
        assert isinstance(ask, Opening)
        numbers = self._shared(ask.stage, len(update.delta))
        return replace(update, delta=update.delta[numbers])

    def expects(self, ask: Record, size: int) -> Expected:
        """What the stage moves of theta, the loss before it, and the client's share."""
        assert isinstance(ask, Opening)
        delta = Field((len(self._shared(ask.stage, size)),), scale=True, moves=True)
        return Expected(Update, {"delta": delta, "loss": LOSS, "share": SHARE})


def make(
    tau: int = 100,
    learning_rate: float = 1e-3,
    local: Solver = "adam",
    averaged: int = 20,
    directions: int = 20,
    global_rate: float = 1e-3,
    own_rate: float = 1e-3,
    momentum: float = 0.0,
    server_step: float = 1.0,
    batch: int | None = None,
    decay: float = 1.0,
) -> FedLora:
    """FedLoRA-Optimizer from plain options.

    Args:
        tau: Local epochs per round.
        learning_rate: Local step of adam and sgd, of the stage averaged.
        local: Local solver.
        averaged: Rounds in which all that is shared is averaged.
        directions: Rounds after them, in which the directions of A are.
        global_rate: Local step of the stage directions.
        own_rate: Local step of the stage after it, of each client's own magnitudes.
        momentum: Of the local solver sgd.
        server_step: Factor of the mean update.
        batch: Points of a local step of adam and sgd, drawn anew in every epoch; all of
            a client's if not given.
        decay: Factor of the learning rate of adam and sgd from round to round.
    """
    solver = Local(
        solver=local,
        epochs=tau,
        learning_rate=learning_rate,
        momentum=momentum,
        batch=batch,
        decay=decay,
    )
    return FedLora(
        solver,
        server_step,
        rounds=(averaged, directions),
        rates=(global_rate, own_rate),
    )
