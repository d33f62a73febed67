r"""Rows that weigh less where the solution is steep, for terms that ask for it.

Every client multiplies the residuals of a term with ``normalise="gradient"`` by
1 / (1 + c |grad u|), see ``residual.gentle``, u as it is at the theta that the first
ask of a round tells. Candidates are judged by the same weights: to the method it is a
round of least squares as any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fedsciml.methods import ClientPart, Exchanges, Parts, Record
from fedsciml.residual import System
from fedsciml.wrappers._base import Around, Wrapped


class State(Around):
    """The method's."""


class Memory(Record):
    """The method's memory, and where the round began, shape [p]."""

    at: Tensor
    inner: Record | None = None


@dataclass(frozen=True)
class Normalised(Wrapped):
    """A method on rows that weigh less where the solution is steep.

    ``fitted`` puts it around a method where a term of the problem has ``normalise``,
    inside of all other wrappers. Weights follow from the theta that every party knows,
    and add no number to a message; a client that comes back knows those of the round.
    Anchors of a shared basis have them as well.

    Losses of a round are all by its weights. From round to round these change with the
    solution, and so does the loss, by as much as their squares: next to nothing once
    the solution stands. What compares with earlier rounds does so all the same. In the
    history a loss is by the round's weights; ``Result.loss``, held-out losses and those
    of terms are the problem's own, without.
    """

    @property
    def kinds(self) -> tuple[type, ...]:
        """Those of the method, and its own."""
        return (State, Memory, *self.method.kinds)

    def start(self, theta: Tensor, seed: int) -> State:
        """Around the method's."""
        return State(theta, self.method.start(theta, seed))

    def round(self, state: State) -> Exchanges[State]:
        """The method's."""
        inner, info = yield from self.method.round(state.inner)
        return State(inner.theta, inner), info

    @property
    def client(self) -> Parts:
        """The method's parts, on weighted rows."""
        return {kind: self._weighted(part) for kind, part in self.method.client.items()}

    def _weighted(self, part: ClientPart) -> ClientPart:
        def answered(
            system: System, ask: Record, memory: Memory | None
        ) -> tuple[Record, Memory]:
            at = getattr(ask, "theta", memory.at if memory else None)
            if at is None:
                raise ValueError("A client was asked before it was told of theta.")
            inner = memory.inner if memory else None
            answer, kept = part(system.normalised(at), ask, inner)
            return answer, Memory(at, kept)

        return answered

    def pooling(self, whole: System, state: State, memories: Sequence[Any]) -> System:
        """With the weights of the round."""
        return super().pooling(whole, state, memories).normalised(state.point)
