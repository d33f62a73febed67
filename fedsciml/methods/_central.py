"""What the centralised methods share: one party holds all rows and keeps its state."""

from dataclasses import dataclass

from torch import Tensor

from fedsciml.methods._base import (
    LOSS,
    Exchanges,
    Expected,
    Field,
    Info,
    Method,
    Opening,
    Own,
    Parts,
    State,
)
from fedsciml.methods._local import CARRIED, Carried, Local, minimise
from fedsciml.methods._records import Record
from fedsciml.methods._sums import losses
from fedsciml.residual import System


class Reached(Record):
    """Where the steps of a round led, [p], and the loss before them."""

    theta: Tensor
    loss: float


@dataclass(frozen=True)
class Central(Method):
    """An optimiser on the pooled rows; a round is ``local.epochs`` of its steps.

    With ``local.keep_state``, K rounds of tau steps are K tau steps of the optimiser,
    bit for bit.
    """

    local: Local
    name: str = "central"
    pooled: bool = True

    kinds = (State, Opening, Reached, *CARRIED)

    @property
    def personal(self) -> Own:
        """Trained with theta."""
        return "trained"

    def round(self, state: State) -> Exchanges[State]:
        """Take theta as it comes."""
        answers = yield Opening(state.theta)
        (reached,) = answers.values()
        info = Info(reached.loss, epochs=self.local.epochs, losses=losses(answers))
        return State(reached.theta), info

    @property
    def client(self) -> Parts:
        """The steps of a round."""
        return {Opening: self._steps}

    def _steps(
        self, system: System, ask: Opening, memory: Carried | None
    ) -> tuple[Reached, Carried | None]:
        """Sends theta, not a difference, which would round."""
        trained = minimise(system, ask.theta, self.local, memory)
        return Reached(trained.theta, trained.loss), trained.carried

    def expects(self, ask: Record, size: int) -> Expected:
        """theta and the loss before the steps."""
        return Expected(Reached, {"theta": Field((size,)), "loss": LOSS})
