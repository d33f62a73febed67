r"""Gradients alone cross: the whole's steepest descent or L-BFGS, by exact sums.

The clients' gradients add up to the gradient of the whole loss, so this is the
centralised iteration to rounding, whoever holds the rows. A round has two exchanges:
gradients up; a direction and some lengths down, losses there up. The lowest loss is
taken, so the loss never rises.

L-BFGS: Nocedal, Mathematics of Computation 35, 1980; the pairs s = theta' - theta and
y = g' - g scale and shape the direction -H g by the two-loop recursion. It starts again
from steepest descent where no length along its direction lowers the loss.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fedsciml.methods._base import Field, Fields, Info, Message, State
from fedsciml.methods._uploads import added, number, tensor, total
from fedsciml.policies import MOST, lowest
from fedsciml.residual import System

Direction = Literal["lbfgs", "steepest"]

LONGEST = 4.0
"""The longest step tried, over the one expected; each next one is half as long."""


def two_loop(gradient: Tensor, s: Tensor, y: Tensor) -> Tensor:
    """H g by the pairs s, y [h, p], the oldest first (Nocedal 1980).

    H is the BFGS matrix after h updates of (s . y / y . y) I with the last pair;
    without pairs, I.
    """
    q = gradient
    rho = 1 / (s * y).sum(1)
    passed = []
    for k in reversed(range(len(s))):
        a = rho[k] * (s[k] @ q)
        q = q - a * y[k]
        passed.append(a)
    if len(s):
        q = q / (rho[-1] * (y[-1] @ y[-1]))
    for k, a in zip(range(len(s)), reversed(passed), strict=True):
        q = q + (a - rho[k] * (y[k] @ q)) * s[k]
    return q


@dataclass(frozen=True)
class GradientOnly:
    """Distributed gradient descent or L-BFGS with a probed line search.

    Args:
        direction: ``lbfgs`` or ``steepest``.
        history: Curvature pairs of L-BFGS that the server keeps, at least 1.
        lengths: Step lengths probed in a round, 1 to ``steps.MOST``: 4, 2, 1, 1/2, ...
            times the expected one. That is 1 for L-BFGS with pairs; otherwise the last
            length taken, at first that of a step of norm 1.

    Raises:
        ValueError: If a number is out of range.
    """

    direction: Direction = "lbfgs"
    history: int = 50
    lengths: int = 14
    name: str = "gradient_only"
    pooled: bool = False

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

    def init(self, theta: Tensor, seed: int) -> tuple[State, Message]:
        """theta, no pairs, and no step before."""
        del seed
        none, zero = theta.new_zeros(0, len(theta)), torch.zeros_like(theta)
        state: State = {"theta": theta, "s": none, "y": none, "length": 0.0}
        return {**state, "step": zero, "gradient": zero}, {"theta": theta}

    def client(
        self, system: System, broadcast: Message, memory: State
    ) -> tuple[Message, State]:
        """First exchange: the gradient. Second: losses along the direction."""
        if "direction" not in broadcast:
            theta = tensor(broadcast, "theta")
            linear = system.linearise(theta)
            return {"gradient": linear.gradient, "loss": linear.loss}, {"theta": theta}
        lengths, direction = (tensor(broadcast, k) for k in ("lengths", "direction"))
        steps = lengths.unsqueeze(1) * direction
        return {"losses": system.losses(tensor(memory, "theta") + steps)}, {}

    def expects(self, broadcast: Message, size: int) -> Fields:
        """Gradient and loss; then the losses at the lengths, which may overflow."""
        if "direction" not in broadcast:
            return {"gradient": Field((size,), scale=True), "loss": Field(least=0)}
        lengths = len(tensor(broadcast, "lengths"))
        return {"losses": Field((lengths,), finite=False, least=0)}

    def server(
        self, state: State, uploads: list[Message]
    ) -> tuple[State, Message, Info | None]:
        """The direction; then the step to the lowest loss along it."""
        if "losses" in uploads[0]:
            return self._step(state, uploads)
        gradient = added(uploads, "gradient")
        s, y = self._pairs(state, gradient)
        expected = 1.0 if len(s) else number(state, "length")
        if expected == 0:
            expected = 1 / max(float(gradient.norm()), torch.finfo(s.dtype).tiny)
        halvings = -torch.arange(self.lengths).to(gradient)
        probe: Message = {
            "direction": -two_loop(gradient, s, y),
            "lengths": LONGEST * expected * 2**halvings,
        }
        state = {**state, **probe, "s": s, "y": y, "gradient": gradient}
        return {**state, "loss": total(uploads, "loss")}, probe, None

    def _pairs(self, state: State, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """The curvature pairs with the last step's, if its curvature is positive."""
        s, y, step = (tensor(state, key) for key in ("s", "y", "step"))
        change = gradient - tensor(state, "gradient")
        rounding = torch.finfo(step.dtype).eps * float(step.norm() * change.norm())
        if self.direction == "steepest" or not float(step @ change) > rounding:
            return s, y
        s, y = torch.cat([s, step.unsqueeze(0)]), torch.cat([y, change.unsqueeze(0)])
        return s[-self.history :], y[-self.history :]

    def _step(
        self, state: State, uploads: list[Message]
    ) -> tuple[State, Message, Info | None]:
        """The lowest loss; where none is lower, the pairs go, or the lengths shrink."""
        s, y, lengths = (tensor(state, key) for key in ("s", "y", "lengths"))
        loss, losses = number(state, "loss"), added(uploads, "losses")
        choice = lowest(losses.unsqueeze(0), loss)
        length = 0.0 if choice is None else float(lengths[choice.length])
        step = length * tensor(state, "direction")
        theta = tensor(state, "theta") + step
        after = {"theta": theta, "step": step, "gradient": state["gradient"]}
        kept = len(s) if length else 0
        after |= {"s": s[:kept], "y": y[:kept], "length": state["length"]}
        if not len(s):
            after["length"] = length or float(lengths[-1])
        info = Info(loss, length, epochs=1, probes=len(losses))
        return after, {"theta": theta}, info

    def renewed(self, state: State, broadcast: Message) -> tuple[State, Message]:
        """No pairs, and no step before: they are of another sum of losses."""
        fresh, _ = self.init(tensor(state, "theta"), 0)
        return {**fresh, "length": state["length"]}, broadcast


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
