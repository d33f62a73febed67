r"""What a step policy is: it proposes candidate steps, and chooses one of them.

The server merges the clients' sketches into a small least-squares problem B D ~ c for
the step D (``fedsciml.linalg.solve.Spectrum``). A policy solves it with some dampings
and cut-offs, and proposes to try these steps at some lengths t. The clients return
their losses at all candidates theta + t D and, since that costs only a few numbers
more, the targets c(theta + t D) = -U^T r(theta + t D) of the *same* sketch. The policy
then chooses. Policies are pure functions: their state is passed in and returned.
"""

from collections.abc import Sequence
from typing import ClassVar, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from fedsciml.linalg.solve import Spectrum

S = TypeVar("S")
"""A policy's state: its record of numbers and tensors, or None."""

MOST = 64
"""Most candidates, steps times lengths, that a policy may propose in a round."""

HALVINGS = tuple(2.0**-j for j in range(12))
"""Lengths 1, 1/2, ..., 1/2048, as fractions of the full step."""

MARGIN = 0.1
"""Least singular value that a sketch keeps, as a fraction of sqrt(mu). At a damping mu
such a direction moves by 1 % of its undamped step; a weaker one, by less."""


class Candidates(NamedTuple):
    """T steps, each to be probed at S lengths.

    Attributes:
        coordinates: The full steps in the spectrum's basis, shape [T, k].
        dampings: mu of each step, absolute, T numbers.
        cutoffs: Relative cut-off of singular values of each step, T numbers.
        lengths: Fractions of the full steps, S numbers.
        beyond: Part of the steps that is orthogonal to the basis, shape [T, p]; None
            if there is none.
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
    """The steps with the i-th damping, absolute, and the i-th relative cut-off."""
    pairs = zip(dampings, cutoffs, strict=True)
    steps = [spectrum.inverse(*pair) * spectrum.c for pair in pairs]
    return Candidates(torch.stack(steps), dampings, cutoffs, list(lengths))


class Probed(NamedTuple):
    """What the clients found at the T steps and S lengths proposed.

    Attributes:
        losses: Losses, summed over the clients, shape [T, S]; not finite where the
            residual is not.
        targets: Targets c of all clients at the candidates, in the spectrum's left
            basis, shape [T, S, k].
    """

    losses: Tensor
    targets: Tensor


class Choice(NamedTuple):
    """The candidate taken.

    Attributes:
        step: Index of the step.
        length: Index of the length.
        correction: Added to the candidate without being probed; coordinates in the
            spectrum's basis, shape [k], or None.
        curve: C of the candidate theta + t D + t^2 C, likewise; None on a straight way.
        loss: At the candidate; None where it is among those probed.
    """

    step: int
    length: int
    correction: Tensor | None = None
    curve: Tensor | None = None
    loss: float | None = None


class Bent(NamedTuple):
    """Curves theta + t D + t^2 C that some of the steps are bent to.

    Attributes:
        which: Indices of the steps D, T' numbers.
        curves: C in the spectrum's basis, shape [T', k].
    """

    which: list[int]
    curves: Tensor


class Policy(Protocol[S]):
    """Which steps are tried in a round, and which one is taken.

    Generic in its state: a frozen dataclass of numbers and tensors, or None for a
    policy that keeps nothing from round to round.

    Attributes:
        kinds: Types of record that the state may be, ``()`` if it is None; a
            checkpoint rebuilds the record by them.
    """

    kinds: ClassVar[tuple[type, ...]]

    @property
    def probes(self) -> bool:
        """Whether candidates are probed; if not, the loss at theta alone chooses."""

    def start(self, eps: float) -> S:
        """The state before the first round.

        Args:
            eps: Rounding unit of the arithmetic, as ``torch.finfo(dtype).eps``.
        """

    def renewed(self, state: S, eps: float) -> S:
        """The state for another set of clients, whose losses are not comparable.

        What was concluded from losses is as in ``start``; the rest is kept.
        """

    def reach(self, state: S) -> float:
        """Relative singular value below which a sketch is of no use in this round.

        At most ``MARGIN`` times the least sqrt(mu) / s_1, or the least cut-off, of the
        round's candidates.
        """

    def propose(self, spectrum: Spectrum, state: S) -> Candidates:
        """The candidates of this round."""

    def choose(
        self,
        spectrum: Spectrum,
        loss: float,
        candidates: Candidates,
        probed: Probed | None,
        state: S,
    ) -> tuple[Choice | None, S]:
        """The candidate to take, None for no step, and the state of the next round.

        Args:
            spectrum: Merged sketch and target -U^T r at theta. The candidates may have
                been computed from another target, that of local training.
            loss: Loss at theta, over all clients.
            candidates: What ``propose`` returned.
            probed: What the clients found there; None if the policy does not probe.
            state: State of this round, as passed to ``propose``.
        """


@runtime_checkable
class Bending(Policy[S], Protocol[S]):
    """A policy that may try curves beside the steps that were probed."""

    @property
    def curves(self) -> bool:
        """Whether it does."""

    def bend(
        self,
        spectrum: Spectrum,
        candidates: Candidates,
        probed: Probed,
        choice: Choice | None,
        state: S,
    ) -> Bent | None:
        """The curves that are worth another exchange; None for none.

        Args:
            spectrum: As in ``choose``.
            candidates: What ``propose`` returned.
            probed: What the clients found there.
            choice: What ``choose`` took.
            state: State of this round, as passed to ``choose``.
        """

    def choose_bent(
        self,
        spectrum: Spectrum,
        loss: float,
        candidates: Candidates,
        probed: Probed,
        bent: Bent,
        losses: Tensor,
        chosen: tuple[Choice | None, S],
    ) -> tuple[Choice | None, S]:
        """The candidate to take of all, and the state of the next round.

        Args:
            spectrum: As in ``choose``.
            loss: Likewise.
            candidates: What ``propose`` returned.
            probed: What the clients found there.
            bent: What ``bend`` returned.
            losses: Of all clients along it, shape [T', S].
            chosen: What ``choose`` returned.
        """


class LossFree(Generic[S]):
    """Base of policies whose state holds no losses: it is valid for other clients."""

    def renewed(self, state: S, eps: float) -> S:
        """The same state."""
        return state


def lowest(losses: Tensor, loss: float) -> Choice | None:
    """The candidate of the lowest of losses [T, S]; None if none is below ``loss``."""
    finite = torch.where(losses.isfinite(), losses, torch.inf)
    if not finite.numel() or float(finite.min()) >= loss:
        return None
    return Choice(*divmod(int(finite.argmin()), losses.shape[1]))


def resolved(relative: float, eps: float) -> float:
    """The greater of a relative singular value and 50 rounding units ``eps``."""
    return max(relative, 50 * eps)


def check_fractions(policy: object, *names: str) -> None:
    """Check that a policy's options of these names are in (0, 1).

    Raises:
        ValueError: If one is not; names it.
    """
    for name in names:
        value = getattr(policy, name)
        if not 0 < value < 1:
            kind = type(policy).__name__
            raise ValueError(f"{kind}'s {name} must be in (0, 1), got {value}.")


def check_candidates(count: int) -> None:
    """Check the number of candidates that a policy's options would make it probe.

    Raises:
        ValueError: If there are more than ``MOST`` candidates.
    """
    if count > MOST:
        raise ValueError(
            f"At most {MOST} candidates can be probed in a round, these options make "
            f"it {count}; take fewer steps or lengths."
        )
