"""What methods share whose server counts the problem's prior."""

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

from fedsciml.methods._base import Answers, Expected, Field, Method
from fedsciml.methods._records import Record
from fedsciml.methods._sums import added
from fedsciml.policies import lowest
from fedsciml.problem import Problem
from fedsciml.residual import System

M = TypeVar("M", bound=Record | None)


@dataclass(frozen=True)
class WithPrior(Method):
    """A method whose server counts the problem's prior, lambda/2 |theta|^2.

    Args:
        prior: lambda; ``bound`` takes it from the problem.
    """

    prior: float = field(default=0.0, kw_only=True)

    def bound(
        self,
        problem: Problem,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> Method:
        """With the problem's prior."""
        return replace(self, prior=problem.prior) if problem.prior else self

    def penalty(self, theta: Tensor) -> float:
        """lambda/2 |theta|^2 of theta [p]."""
        return self.prior / 2 * float(theta @ theta)

    def penalised(self, losses: Tensor, thetas: Tensor) -> Tensor:
        """Losses [C] at thetas [C, p], with the prior's part."""
        if not self.prior:
            return losses
        return losses + self.prior / 2 * thetas.square().sum(1)


class Path(Record):
    """Asks for the losses at the points [n, p]."""

    points: Tensor


class Losses(Record):
    """A client's losses there, shape [n]."""

    losses: Tensor


@dataclass(frozen=True)
class Judged(WithPrior):
    """A method whose server has the clients judge some points, and takes the best."""

    def _best(self, points: Tensor) -> Generator[Record, Answers, int]:
        """The exchange: which of the points [n, p] has the lowest loss.

        The first one where no loss is finite.
        """
        answers = yield Path(points)
        found = added(answer.losses for answer in answers.values())
        choice = lowest(self.penalised(found, points).unsqueeze(0), torch.inf)
        return choice.length if choice else 0

    def _losses(self, system: System, ask: Path, memory: M) -> tuple[Losses, M]:
        """A client's losses at the points."""
        return Losses(system.losses(ask.points)), memory

    def _judgement(self, ask: Path) -> Expected:
        """What an answer to it must be: losses, which may overflow."""
        losses = Field((len(ask.points),), finite=False, least=0)
        return Expected(Losses, {"losses": losses})
