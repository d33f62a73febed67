r"""Step policies: which candidate steps are probed, and which one is taken.

The server knows the merged least-squares problem B D ~ c in its own basis (``solve``).
A policy proposes some dampings and cut-offs of it and some lengths; the clients return
their losses at all of these candidates and, since that costs only a few numbers more,
the targets c(theta + t D) = -U^T r(theta + t D) of the *same* sketch. The policy then
chooses. Policies are pure functions over plain state; see ``Policy``.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from fedsciml.linalg.solve import Spectrum

Value = Any
"""A number or a tensor; which of them, the policy knows by the key."""

MOST = 64
"""Candidates that a policy may propose in a round."""

HALVINGS = tuple(2.0**-j for j in range(12))
"""Lengths 1, 1/2, ..., 1/2048."""

MARGIN = 0.1
"""Singular value, relative to sqrt(mu), down to which a sketch reaches. Such a
direction moves by 1 % of its undamped step; a weaker one, by less."""

PolicyState = dict[str, Value]
"""What a policy keeps from round to round."""


class Candidates(NamedTuple):
    """T steps, each to be probed at S lengths.

    Attributes:
        coordinates: The full steps in the spectrum's basis, shape [T, k].
        dampings: mu of each step, absolute.
        cutoffs: Relative cut-off of each step.
        lengths: Fractions of the full steps.
        beyond: What the steps have outside of the basis, shape [T, p]; None for
            nothing.
    """

    coordinates: Tensor
    dampings: list[float]
    cutoffs: list[float]
    lengths: list[float]
    beyond: Tensor | None = None

    def steps(self, basis: Tensor) -> Tensor:
        """The full steps D, shape [T, p]."""
        inside = self.coordinates @ basis
        return inside if self.beyond is None else inside + self.beyond


def proposal(
    spectrum: Spectrum,
    dampings: list[float],
    cutoffs: list[float],
    lengths: Sequence[float],
) -> Candidates:
    """The steps with these dampings, absolute, and relative cut-offs, pair by pair."""
    pairs = zip(dampings, cutoffs, strict=True)
    steps = [spectrum.inverse(*pair) * spectrum.c for pair in pairs]
    return Candidates(torch.stack(steps), dampings, cutoffs, list(lengths))


class Probed(NamedTuple):
    """What the clients found at the candidates, summed or stacked over them.

    Attributes:
        losses: Shape [T, S]; not finite where the residual is not.
        targets: c at the candidates in the spectrum's left basis, shape [T, S, k].
    """

    losses: Tensor
    targets: Tensor


class Choice(NamedTuple):
    """The candidate taken: numbers of the step and of the length.

    ``correction`` is added to it without being probed; coordinates in the spectrum's
    basis, shape [k], or None.
    """

    step: int
    length: int
    correction: Tensor | None = None


class Policy(Protocol):
    """How far to step."""

    @property
    def probes(self) -> bool:
        """Whether the candidates are probed; if not, there must be only one."""

    @property
    def remembers(self) -> tuple[str, ...]:
        """What of its state comes from losses, and means nothing for other clients."""

    def start(self, eps: float) -> PolicyState:
        """The state before the first round, in arithmetic of relative accuracy eps."""

    def reach(self, state: Mapping[str, Value]) -> float:
        """Relative singular value below which a sketch is of no use in this round.

        At most ``MARGIN`` times the least relative sqrt(mu), or the least cut-off, of
        the round's candidates.
        """

    def propose(self, spectrum: Spectrum, state: Mapping[str, Value]) -> Candidates:
        """The candidates of this round."""

    def choose(
        self,
        spectrum: Spectrum,
        loss: float,
        candidates: Candidates,
        probed: Probed | None,
        state: Mapping[str, Value],
    ) -> tuple[Choice | None, PolicyState]:
        """The candidate to take, None for no step, and the state of the next round.

        Args:
            spectrum: Sketch and target -U^T r at theta. The candidates may come from
                another target, that of local training.
            loss: Loss at theta, over all clients.
            candidates: What ``propose`` gave.
            probed: What the clients found there; None if the policy does not probe.
            state: From the round before.
        """


def lowest(losses: Tensor, loss: float) -> Choice | None:
    """Where the lowest of the losses [T, S] is; None if none is below ``loss``."""
    finite = torch.where(losses.isfinite(), losses, torch.inf)
    if not finite.numel() or float(finite.min()) >= loss:
        return None
    return Choice(*divmod(int(finite.argmin()), losses.shape[1]))


def resolved(relative: float, eps: float) -> float:
    """A relative singular value, or 50 rounding units where these are more."""
    return max(relative, 50 * eps)


def check_fractions(policy: object, *names: str) -> None:
    """Refuse a policy whose options of these names are not in (0, 1).

    Raises:
        ValueError: Names the first that is not.
    """
    for name in names:
        value = getattr(policy, name)
        if not 0 < value < 1:
            kind = type(policy).__name__
            raise ValueError(f"{kind}'s {name} must be in (0, 1), got {value}.")


def check_candidates(count: int) -> None:
    """Refuse options of a policy that would make it probe too much.

    Raises:
        ValueError: If there are more than ``MOST`` candidates.
    """
    if count > MOST:
        raise ValueError(
            f"At most {MOST} candidates can be probed in a round, these options make "
            f"it {count}; take fewer steps or lengths."
        )
