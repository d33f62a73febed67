"""What the centralised methods share: one party holds all rows and keeps its state."""

from dataclasses import dataclass

from torch import Tensor

from fedsciml.methods._base import Field, Fields, Info, Message, State
from fedsciml.methods._local import Local, minimise
from fedsciml.methods._uploads import tensor, total
from fedsciml.residual import System


@dataclass(frozen=True)
class Central:
    """An optimiser on the pooled rows; a round is ``local.epochs`` of its steps.

    With ``local.keep_state``, K rounds of tau steps are K tau steps of the optimiser,
    bit for bit.
    """

    local: Local
    name: str
    pooled: bool = True

    def init(self, theta: Tensor, seed: int) -> tuple[State, Message]:
        """Nothing but theta."""
        del seed
        return {"theta": theta}, {"theta": theta}

    def client(
        self, system: System, broadcast: Message, memory: State
    ) -> tuple[Message, State]:
        """The steps of a round. Sends theta, not a difference, which would round."""
        theta = tensor(broadcast, "theta")
        trained = minimise(system, theta, self.local, memory)
        return {"theta": trained.theta, "loss": trained.loss}, trained.memory

    def expects(self, broadcast: Message, size: int) -> Fields:
        """theta and the loss before the steps."""
        del broadcast
        return {"theta": Field((size,)), "loss": Field(least=0)}

    def server(
        self, state: State, uploads: list[Message]
    ) -> tuple[State, Message, Info | None]:
        """Take theta as it comes."""
        theta = tensor(uploads[0], "theta")
        info = Info(loss=total(uploads, "loss"), epochs=self.local.epochs)
        return {**state, "theta": theta}, {"theta": theta}, info
