"""What methods share whose clients train locally and send how far they came."""

from dataclasses import dataclass, field, replace

from torch import Tensor

from fedsciml.methods import _base
from fedsciml.methods._base import (
    LOSS,
    REMEMBERS,
    SHARE,
    Answers,
    Expected,
    Field,
    Info,
    Method,
    Own,
    Parts,
)
from fedsciml.methods._local import CARRIED, Carried, Draw, Local, train
from fedsciml.methods._records import Record, mapped
from fedsciml.methods._sums import losses, mean, total
from fedsciml.residual import System


class State(_base.State):
    """theta [p], and which round is next where the clients' training depends on it."""

    draw: Draw | None = field(default=None, kw_only=True)

    @property
    def next_draw(self) -> Draw | None:
        """Of the round after."""
        return self.draw and replace(self.draw, round=self.draw.round + 1)


class Opening(_base.Opening):
    """theta [p], and which round it is where training depends on it."""

    draw: Draw | None = field(default=None, kw_only=True)


class Update(Record):
    """What a client sends after its training.

    Attributes:
        delta: Its theta less the one it started from, shape [p].
        loss: Before the training.
        share: Its part of all rows.
    """

    delta: Tensor
    loss: float
    share: float


@dataclass(frozen=True)
class Averaging(Method):
    """Local training by any solver, and the mean of what comes of it.

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
    name: str = "averaging"
    pooled: bool = False

    kinds = (State, Opening, Draw, Update, *CARRIED)

    def __post_init__(self) -> None:
        if not self.server_step > 0:
            raise ValueError(
                f"The server step must be positive, got {self.server_step}; try 1.0."
            )

    @property
    def personal(self) -> Own:
        """Trained with theta."""
        return "trained"

    @property
    def apart(self) -> str | None:
        """That clients go on from their own states, if they do."""
        return REMEMBERS if self.local.keep_state else None

    def start(self, theta: Tensor, seed: int) -> State:
        """theta, and the first round's number where training depends on it."""
        return State(theta, draw=self.local.draw(seed))

    @property
    def client(self) -> Parts:
        """Local training from the broadcast theta."""
        return {Opening: self._train}

    def _train(
        self, system: System, ask: Opening, memory: Carried | None
    ) -> tuple[Update, Carried | None]:
        delta, loss, memory = train(
            system, ask.theta, self.local, memory, draw=ask.draw
        )
        return Update(delta, loss, system.shard.share), memory

    def told(self, ask: Record, update: Update) -> Update:
        """What a client sends of an update of all that is shared."""
        return update

    def summand(self, ask: Record, answer: Update) -> Update:
        """Times its share."""
        return mapped(answer, lambda moved: answer.share * moved)

    def summed(self, ask: Record, total: Update, clients: int) -> Update:
        """The mean."""
        return mapped(total, lambda moved: moved / total.share)

    def expects(self, ask: Record, size: int) -> Expected:
        """The update, the loss before it, and the client's part of all rows."""
        delta = Field((size,), scale=True, moves=True)
        return Expected(Update, {"delta": delta, "loss": LOSS, "share": SHARE})

    def _averaged(self, theta: Tensor, updates: Answers) -> tuple[Tensor, Info]:
        """theta + server_step * sum of share_m delta_m, and what the round was."""
        update = mean(updates.values(), lambda answer: answer.delta)
        info = Info(
            total(updates.values()),
            self.server_step,
            epochs=self.local.epochs,
            losses=losses(updates),
        )
        return theta + self.server_step * update, info
