r"""Step policies: which candidate steps are probed, and which one is taken.

The server knows the merged least-squares problem B D ~ c in its own basis (``solve``).
A policy proposes some dampings and cut-offs of it and some lengths; the clients return
their losses at all of these candidates and, since that costs only a few numbers more,
the targets c(theta + t D) = -U^T r(theta + t D) of the *same* sketch. The policy then
chooses. Policies are pure functions over plain state; see ``Policy``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor, log10
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from fedsciml.solve import Spectrum

FEW = 64
"""Directions whose linear algebra costs nothing worth saving."""

PolicyState = dict[str, float]
"""What a policy keeps from round to round."""


class Candidates(NamedTuple):
    """T steps, each to be probed at S lengths.

    Attributes:
        coordinates: The full steps in the spectrum's basis, shape [T, k].
        dampings: mu of each step, absolute.
        cutoffs: Relative cut-off of each step.
        lengths: Fractions of the full steps.
    """

    coordinates: Tensor
    dampings: list[float]
    cutoffs: list[float]
    lengths: list[float]


class Probed(NamedTuple):
    """What the clients found at the candidates, summed or stacked over them.

    Attributes:
        losses: Shape [T, S]; not finite where the residual is not.
        targets: c at the candidates in the spectrum's left basis, shape [T, S, k].
    """

    losses: Tensor
    targets: Tensor


class Choice(NamedTuple):
    """The candidate taken: numbers of the step and of the length."""

    step: int
    length: int


class Policy(Protocol):
    """How far to step."""

    @property
    def probes(self) -> bool:
        """Whether the candidates are probed; if not, there must be only one."""

    def start(self, eps: float) -> PolicyState:
        """The state before the first round, in arithmetic of relative accuracy eps."""

    def reach(self, state: Mapping[str, float]) -> float:
        """Relative singular value below which a sketch is of no use in this round."""

    def propose(self, spectrum: Spectrum, state: Mapping[str, float]) -> Candidates:
        """The candidates of this round."""

    def choose(
        self,
        spectrum: Spectrum,
        loss: float,
        candidates: Candidates,
        probed: Probed | None,
        state: Mapping[str, float],
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


@dataclass(frozen=True)
class Natural:
    r"""The least damping whose step still contracts: the default.

    Candidates are damped steps D(mu) with sqrt(mu) = s_1 10^(-i/2) for a few levels i
    around that of the last round, each at the lengths t. With A(mu) = V diag(s / (s^2 +
    mu)) W^T, the pseudo-inverse that gave D = A c, and the simplified correction, the
    next step as this round's sketch sees it, |A c(theta + t D)| = Theta |A c(theta)|, a
    candidate is

    * *natural* if it lowers the loss and Theta <= 1 - slack t. This is Deuflhard's
      natural monotonicity test (Newton Methods for Nonlinear Problems, 2004, sections
      3.3 and 4.3). It measures a residual by the step that it still asks for. The loss
      alone cannot tell a long step in the weak directions, which leaves behind what the
      next step removes at once, from a short one that leads nowhere.
    * natural also if it is a full step with Theta <= ``newton``, the ordinary
      monotonicity of a converging Newton method, even where the loss rises, up to a
      ceiling: the loss of earlier rounds, halved each round.
    * *sufficient* if it lowers the loss by at least the fraction ``sufficient`` of what
      the linear model predicts (Armijo; as a rule for the damping: DSGNAR, arXiv
      2607.02194).

    Candidates that lower the loss but have more than ``greed`` times the lowest loss
    are out. Of the natural ones, else of the sufficient ones, that with the least
    damping is taken, at the greatest of its lengths; without one, the candidate of the
    lowest loss. If none lowers the loss there is no step, and the next round damps
    more.

    Args:
        slack: How much of the ideal contraction 1 - t is asked for, in (0, 1). Smaller
            is bolder; 1/4 is Deuflhard's.
        newton: Theta of a full step that may raise the loss; below 1/2 the theory sees
            quadratic convergence.
        sufficient: Fraction of the predicted decrease, in (0, 1).
        greed: Keeps the last rounds from creeping along weak directions while the
            strong ones wait for one full step; 30 to 1000 do about the same, 10 is
            short-sighted.
        up: Levels of more damping that are probed beside the last one.
        down: Levels of less damping; with 2, mu can fall by 100 a round.
        lengths: Fractions of the full steps; 5 x 4 candidates in all.
        floor: Relative sqrt(mu) of the least damping; 50 rounding units if that is
            more, as in float32.
        share: Fraction of the p directions that the sketches together should cover;
            where more than that (and than ``FEW``) are above the cut-off, the least
            damping is raised. In three dimensions digits 9 to 11 of the error take
            twice the directions and four times the seconds.
    """

    slack: float = 0.25
    newton: float = 0.5
    sufficient: float = 0.25
    greed: float = 100.0
    up: int = 2
    down: int = 2
    lengths: tuple[float, ...] = (1.0, 0.5, 0.25, 0.125)
    floor: float = 1e-11
    share: float = 0.3

    def __post_init__(self) -> None:
        for name in ("slack", "newton", "sufficient", "floor", "share"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(
                    f"Natural's {name} must be in (0, 1), got {getattr(self, name)}."
                )
        if self.greed < 1 or self.up < 1 or self.down < 1 or not self.lengths:
            raise ValueError(
                "Natural needs greed, up and down of at least 1 and some lengths; got "
                f"{self.greed}, {self.up}, {self.down} and {self.lengths}."
            )

    @property
    def probes(self) -> bool:
        """Always."""
        return True

    def start(self, eps: float) -> PolicyState:
        """Level 4: sqrt(mu) = 1e-2 s_1."""
        least = max(self.floor, 50 * eps)
        return {"level": 4.0, "ceiling": 0.0, "least": least, "floor": least}

    def _levels(self, state: Mapping[str, float]) -> range:
        last = max(1, floor(-2 * log10(state["floor"]) + 1e-6))
        level = min(int(state["level"]), last)
        return range(max(1, level - self.up), min(last, level + self.down) + 1)

    def reach(self, state: Mapping[str, float]) -> float:
        """A tenth of the least sqrt(mu): such a direction moves by 1 % of its step."""
        return 0.1 * _relative(self._levels(state)[-1])

    def propose(self, spectrum: Spectrum, state: Mapping[str, float]) -> Candidates:
        """Damped steps, the most damped first."""
        top = float(spectrum.s[0]) if len(spectrum.s) else 0.0
        dampings = [(_relative(i) * top) ** 2 for i in self._levels(state)]
        steps = [spectrum.inverse(mu) * spectrum.c for mu in dampings]
        none = [0.0] * len(dampings)
        return Candidates(torch.stack(steps), dampings, none, list(self.lengths))

    def choose(
        self,
        spectrum: Spectrum,
        loss: float,
        candidates: Candidates,
        probed: Probed | None,
        state: Mapping[str, float],
    ) -> tuple[Choice | None, PolicyState]:
        """See the class."""
        assert probed is not None
        levels, losses = self._levels(state), probed.losses
        s, least = spectrum.s, state["least"]
        most = max(FEW, int(self.share * spectrum.basis.shape[1]))
        if len(s) > most:
            least = max(least, 10 * float(s[most] / s[0]))
        ceiling = max(loss, state["ceiling"] / 2)
        state = {**state, "ceiling": ceiling, "floor": min(least, 0.1)}
        lower = losses < loss  # false where a loss is not finite
        if not lower.any():
            level = max(1, levels[0] - self.up)
            return None, {**state, "level": float(level)}
        lowest = losses[lower].min()
        lower &= losses <= self.greed * lowest
        steps, lengths = candidates.coordinates, losses.new_tensor(candidates.lengths)
        inverses = torch.stack([spectrum.inverse(mu) for mu in candidates.dampings])
        corrections = (inverses[:, None] * probed.targets).norm(dim=-1)
        theta = corrections / (inverses * spectrum.c).norm(dim=-1, keepdim=True)
        converging = (lengths == 1) & (theta <= self.newton) & (losses <= ceiling)
        natural = (lower & (theta <= 1 - self.slack * lengths)) | converging
        predicted = spectrum.decrease(lengths[:, None] * steps[:, None])
        sufficient = lower & (loss - losses >= self.sufficient * predicted)
        for accepted in (natural, sufficient, losses == lowest):
            if accepted.any():
                break
        step, length = max(
            ((i, j) for i, j in accepted.nonzero().tolist()),
            key=lambda choice: (choice[0], candidates.lengths[choice[1]]),
        )
        return Choice(step, length), {**state, "level": float(levels[step])}


class _OneStep:
    """What policies with one damping and cut-off throughout share."""

    damping: float
    cutoff: float

    def __post_init__(self) -> None:
        if not 0 <= self.damping < float("inf"):
            raise ValueError(f"The damping must be at least 0, got {self.damping}.")
        if not 0 <= self.cutoff < 1:
            raise ValueError(
                f"The relative cut-off must be in [0, 1), got {self.cutoff}; try 1e-10."
            )

    def start(self, eps: float) -> PolicyState:
        """Nothing."""
        del eps
        return {}

    def reach(self, state: Mapping[str, float]) -> float:
        """The cut-off."""
        del state
        return self.cutoff

    def _at(self, lengths: list[float], spectrum: Spectrum) -> Candidates:
        step = spectrum.inverse(self.damping, self.cutoff) * spectrum.c
        return Candidates(step.unsqueeze(0), [self.damping], [self.cutoff], lengths)


@dataclass(frozen=True)
class LineSearch(_OneStep):
    """One damping and cut-off throughout; of the lengths, the one with the lowest loss.

    Args:
        damping: mu, absolute, at least 0.
        cutoff: Relative cut-off of singular values, in [0, 1).
        lengths: Fractions of the full step; 1, 1/2, ..., 1/2048 by default.
    """

    damping: float = 0.0
    cutoff: float = 1e-10
    lengths: tuple[float, ...] = tuple(2.0**-j for j in range(12))

    @property
    def probes(self) -> bool:
        """Always."""
        return True

    def propose(self, spectrum: Spectrum, state: Mapping[str, float]) -> Candidates:
        """The one step."""
        del state
        return self._at(list(self.lengths), spectrum)

    def choose(
        self,
        spectrum: Spectrum,
        loss: float,
        candidates: Candidates,
        probed: Probed | None,
        state: Mapping[str, float],
    ) -> tuple[Choice | None, PolicyState]:
        """The length with the lowest loss, if it is lower than now."""
        del spectrum, candidates, state
        assert probed is not None
        losses = torch.where(probed.losses.isfinite(), probed.losses, torch.inf)[0]
        best = int(losses.argmin())
        return (Choice(0, best) if float(losses[best]) < loss else None), {}


@dataclass(frozen=True)
class Fixed(_OneStep):
    """One damping, cut-off and length throughout, taken without a look: as published.

    Args:
        length: Fraction of the full step, positive.
        damping: mu, absolute, at least 0.
        cutoff: Relative cut-off of singular values, in [0, 1).
    """

    length: float = 0.5
    damping: float = 0.0
    cutoff: float = 1e-10

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.length < float("inf"):
            raise ValueError(
                f"The length of a step must be positive, got {self.length}; try 0.5."
            )

    @property
    def probes(self) -> bool:
        """Never."""
        return False

    def propose(self, spectrum: Spectrum, state: Mapping[str, float]) -> Candidates:
        """The one step."""
        del state
        return self._at([self.length], spectrum)

    def choose(
        self,
        spectrum: Spectrum,
        loss: float,
        candidates: Candidates,
        probed: Probed | None,
        state: Mapping[str, float],
    ) -> tuple[Choice | None, PolicyState]:
        """That step."""
        del spectrum, loss, candidates, probed, state
        return Choice(0, 0), {}


def _relative(level: int) -> float:
    """sqrt(mu) / s_1 of a level: half a decade each."""
    return float(10.0 ** (-level / 2))
