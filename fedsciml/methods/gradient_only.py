r"""Gradients alone cross: the whole's steepest descent or L-BFGS, by exact sums.

The clients' gradients add up to the gradient of the whole loss, so this is the
centralised iteration to rounding, whoever holds the rows. A round has two exchanges:
gradients up; a direction and some lengths down, losses there up. The lowest loss is
taken, so the loss never rises.

L-BFGS: Nocedal, Mathematics of Computation 35, 1980; the pairs s = theta' - theta and
y = g' - g scale and shape the direction -H g by the two-loop recursion. It starts again
from steepest descent where no length along its direction lowers the loss.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from fedsciml.methods._base import (
    LOSS,
    Exchanges,
    Expected,
    Field,
    Info,
    Opening,
    Parts,
)
from fedsciml.methods._base import State as _State
from fedsciml.methods._prior import WithPrior
from fedsciml.methods._records import Record
from fedsciml.methods._sums import added, losses, total
from fedsciml.policies import MOST, lowest
from fedsciml.residual import System

Direction = Literal["lbfgs", "steepest"]

SMALL = 1e3
"""Smallest numbers from which on a gradient has a direction."""

LONGEST = 4.0
"""The longest step tried, over the one expected; each next one is half as long."""


def two_loop(
    gradient: Tensor,
    s: Tensor,
    y: Tensor,
    first: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """H g by the pairs s, y [h, p], the oldest first (Nocedal 1980).

    H is the BFGS matrix after h updates of ``first``, or of (s . y / y . y) I with the
    last pair; without pairs, I.
    """
    q = gradient
    rho = 1 / (s * y).sum(1)
    passed = []
    for k in reversed(range(len(s))):
        a = rho[k] * (s[k] @ q)
        q = q - a * y[k]
        passed.append(a)
    if first is not None:
        q = first(q)
    elif len(s):
        q = q / (rho[-1] * (y[-1] @ y[-1]))
    for k, a in zip(range(len(s)), reversed(passed), strict=True):
        q = q + (a - rho[k] * (y[k] @ q)) * s[k]
    return q


class State(_State):
    """What L-BFGS goes on from.

    Attributes:
        s: Steps of the curvature pairs, the oldest first, shape [h, p].
        y: Changes of the gradient along them, shape [h, p].
        length: Last one taken, where no pairs give the direction its scale.
        step: The last step, shape [p].
        gradient: Where that started, shape [p].
    """

    s: Tensor
    y: Tensor
    length: float
    step: Tensor
    gradient: Tensor


class Gradient(Record):
    """Gradient [p] and loss of a client's rows at theta."""

    gradient: Tensor
    loss: float


class Search(Record):
    """Asks for the losses at theta + t D for lengths t [n] and a direction D [p]."""

    direction: Tensor
    lengths: Tensor


class Losses(Record):
    """A client's losses at the lengths, shape [n]."""

    losses: Tensor


class Memory(Record):
    """Where the client was asked for its gradient, shape [p]."""

    theta: Tensor


@dataclass(frozen=True)
class GradientOnly(WithPrior):
    """Distributed gradient descent or L-BFGS with a probed line search.

    Args:
        direction: ``lbfgs`` or ``steepest``.
        history: Curvature pairs of L-BFGS that the server keeps, at least 1.
        lengths: Step lengths probed in a round, 1 to ``steps.MOST``: 4, 2, 1, 1/2, ...
            times the expected one. That is 1 for L-BFGS with pairs; otherwise the last
            length taken, at first that of a step of norm 1.
        prior: lambda of lambda/2 |theta|^2; ``bound`` takes it from the problem.

    Raises:
        ValueError: If a number is out of range.
    """

    direction: Direction = "lbfgs"
    history: int = 50
    lengths: int = 14
    name: str = "gradient_only"
    pooled: bool = False

    kinds = (State, Opening, Gradient, Search, Losses, Memory)
    compares = True
    apart = None

    def __post_init__(self) -> None:
        if self.history < 1:
            raise ValueError(
                f"L-BFGS needs a history of 1 or more, got {self.history}."
            )
        if not 1 <= self.lengths <= MOST:
            raise ValueError(
                f"From 1 to {MOST} lengths can be probed in a round, got "
                f"{self.lengths}."
            )

    def start(self, theta: Tensor, seed: int) -> State:
        """theta, no pairs, and no step before."""
        none, zero = theta.new_zeros(0, len(theta)), torch.zeros_like(theta)
        return State(theta, none, none, 0.0, zero, zero)

    def round(self, state: State) -> Exchanges[State]:
        """Gradients up; a direction down; the step to the lowest loss along it.

        Where no loss is lower, the pairs go, or the lengths shrink.
        """
        answers = yield Opening(state.theta)
        gradient = added(answer.gradient for answer in answers.values())
        loss, told = total(answers.values()), losses(answers)
        whole = loss + self.penalty(state.theta)
        if self.prior:
            gradient = gradient + self.prior * state.theta
        norms = {m: float(answer.gradient.norm()) for m, answer in answers.items()}
        s, y = self._pairs(state, gradient)
        direction, lengths = (
            -two_loop(gradient, s, y),
            self._lengths(state, s, gradient),
        )
        answers = yield Search(direction, lengths)
        found, length = lengths[:0], float(lengths[-1])  # the shortest, if not known
        if answers:
            found = added(answer.losses for answer in answers.values())
            points = state.theta + lengths.unsqueeze(1) * direction
            found = self.penalised(found, points)
            choice = lowest(found.unsqueeze(0), whole)
            length = 0.0 if choice is None else float(lengths[choice.length])
        step = length * direction
        kept = len(s) if length else 0
        last = state.length if len(s) else length or float(lengths[-1])
        after = State(state.theta + step, s[:kept], y[:kept], last, step, gradient)
        info = Info(
            loss, length, epochs=1, probes=len(found), losses=told, gradients=norms
        )
        return after, info

    @property
    def client(self) -> Parts:
        """The gradient; then losses along the direction."""
        return {Opening: self._gradient, Search: self._search}

    def _gradient(
        self, system: System, ask: Opening, memory: Memory | None
    ) -> tuple[Gradient, Memory]:
        linear = system.linearise(ask.theta)
        return Gradient(linear.gradient, linear.loss), Memory(ask.theta)

    def _search(
        self, system: System, ask: Search, memory: Memory | None
    ) -> tuple[Losses, None]:
        return Losses(system.losses(self.points(ask, memory))), None

    def points(self, ask: Record, memory: Memory | None) -> Tensor:
        """theta, or where losses are asked for."""
        if not isinstance(ask, Search):
            return super().points(ask, memory)
        if memory is None:
            raise ValueError("A client was asked for losses before its gradient.")
        return memory.theta + ask.lengths.unsqueeze(1) * ask.direction

    def expects(self, ask: Record, size: int) -> Expected:
        """Gradient and loss; then the losses at the lengths, which may overflow."""
        if isinstance(ask, Search):
            losses = Field((len(ask.lengths),), finite=False, least=0)
            return Expected(Losses, {"losses": losses})
        gradient = Field((size,), scale=True)
        return Expected(Gradient, {"gradient": gradient, "loss": LOSS})

    def renewed(self, state: State) -> State:
        """No pairs, and no step before: they are of another sum of losses."""
        return replace(self.start(state.theta, 0), length=state.length)

    def _pairs(self, state: State, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """The curvature pairs with the last step's, if its curvature is positive."""
        s, y, step = state.s, state.y, state.step
        change = gradient - state.gradient
        rounding = torch.finfo(step.dtype).eps * float(step.norm() * change.norm())
        if self.direction == "steepest" or not float(step @ change) > rounding:
            return s, y
        s, y = torch.cat([s, step.unsqueeze(0)]), torch.cat([y, change.unsqueeze(0)])
        return s[-self.history :], y[-self.history :]

    def _lengths(self, state: State, s: Tensor, gradient: Tensor) -> Tensor:
        """The lengths probed, the longest first."""
        expected = 1.0 if len(s) else state.length
        if expected == 0:
            size = float(gradient.norm())
            # Of a gradient that is next to nothing no length makes a step of norm 1.
            expected = 1 / size if size > SMALL * torch.finfo(s.dtype).tiny else 1.0
        halvings = -torch.arange(self.lengths, device=s.device).to(gradient)
        return LONGEST * expected * 2**halvings


def make(
    direction: Direction = "lbfgs", history: int = 50, lengths: int = 14
) -> GradientOnly:
    """Gradient descent or L-BFGS from plain options.

    Args:
        direction: Of the steps: L-BFGS or steepest descent.
        history: Curvature pairs of L-BFGS.
        lengths: Step lengths probed in a round.
    """
    return GradientOnly(direction, history, lengths)
