"""The least damping whose step still contracts, judged by the targets: the default."""

from dataclasses import dataclass, replace
from math import floor, log10
from typing import ClassVar

import torch
from torch import Tensor

from fedsciml.linalg.solve import Spectrum
from fedsciml.policies._base import (
    MARGIN,
    Bent,
    Candidates,
    Choice,
    Probed,
    check_candidates,
    check_fractions,
    proposal,
    resolved,
)

START = 4
"""Level of the first round, sqrt(mu) = 1e-2 s_1: damped enough for a random start; the
right level is found within two or three rounds."""

DEEP = 1e-6
"""Loss, relative to the greatest one that this policy has seen, below which a stall is
worth a hop: before, slow rounds are usual, and hops lead astray. After a warm-up by
another method it is harder to reach, and hops are rarer."""

OVERSHOT = 2.0
"""Times the loss: if all candidates of level 1 have more, sqrt(mu) may exceed s_1. The
Newton step of a Poisson regression from theta = 0 is about as many times too long as
the mean count; of squares this was not seen."""

MOST_DAMPED = -40
"""Level at which no step moves theta any more."""

PROMISE = 0.5
"""Least fraction of the loss that the linear model predicts to be removed by a hop, or
where steps overshoot. At the rounding level, where no step helps, it predicts next to
nothing."""

PATIENCE = 3
"""Rounds without a halved loss that make a stall; after the round of a hop, taken or
not, three times as many. Doubled by each hop after which the loss is not halved within
twice as many: in three dimensions a hop takes the seconds of ten rounds."""

GROWTH = 1.5
"""Factor of the directions where their number is what a stall is due to."""

STRAIGHT = 0.01
"""Length of the acceleration over that of the step up to which a way is straight."""

FARTHER = 8
"""Levels of less damping, beside the usual ones, that are probed in a stall: four
decades. Hops were seen 4 levels below the last one in sine8, 7 to 9 in allen_cahn."""


@dataclass(frozen=True)
class State:
    """Where the damping stands, and what the losses were.

    Attributes:
        level: Level i of the last step, sqrt(mu) = s_1 10^(-i/2); a whole number.
        least: Relative sqrt(mu) of the least damping; a hop lowers it.
        floor: The same, raised where the sketches have too many directions.
        last: Relative sqrt(mu) of the least damping in the round of a hop.
        ceiling: Loss up to which a converging full step may rise.
        best: Lowest loss at theta so far.
        peak: Greatest loss at theta so far; 0 before the first round.
        slow: Rounds in a row that did not halve the lowest loss; negative for some
            rounds after a stall.
        budget: Directions that the sketches together should cover, as a factor.
        kept: The same, without those that are on trial.
        patience: Slow rounds before a hop.
    """

    level: float
    least: float
    floor: float
    last: float
    ceiling: float = 0.0
    best: float = 0.0
    peak: float = 0.0
    slow: float = 0.0
    budget: float = 1.0
    kept: float = 1.0
    patience: float = float(PATIENCE)


@dataclass(frozen=True)
class Natural:
    r"""The least damping whose step still contracts: the default.

    Candidates are damped steps D(mu) with sqrt(mu) = s_1 10^(-i/2), for a few *levels*
    i around that of the last round, each at the lengths t. A(mu) = V diag(s / (s^2 +
    mu)) W^T is the pseudo-inverse that gave D = A c. Applied to the targets that the
    clients return, it gives the next step as this round's sketch sees it; its length
    relative to this step's is Theta = |A c(theta + t D)| / |A c(theta)|. A candidate is

    * *natural* if it lowers the loss and Theta <= 1 - slack t. This is Deuflhard's
      natural monotonicity test (Newton Methods for Nonlinear Problems, 2004, sections
      3.3 and 4.3). It measures a residual by the step that is still to be made. By the
      loss alone, a long step in the weak directions, whose residual the next step
      removes at once, looks no better than a short one that leads nowhere.
    * natural also if it is a full step with Theta <= ``newton``, as for a converging
      Newton method, even if the loss rises, up to a ceiling: the greatest loss of
      earlier rounds, halved each round.
    * *sufficient* if it lowers the loss by at least the fraction ``sufficient`` of what
      the linear model predicts (Armijo; as a rule for the damping: DSGNAR, arXiv
      2607.02194).

    Candidates that lower the loss but have more than ``greed`` times the lowest loss
    are excluded. Of the natural ones, else of the sufficient ones, that with the least
    damping is taken, at the greatest of its lengths; without one, the candidate of the
    lowest loss. If none lowers the loss no step is made, and the next round damps more:
    down to level 1, and beyond where all candidates overshoot by ``OVERSHOT``.

    In a deep stall, all that is left of the residual may lie in weak directions, along
    which every step that is long enough to matter raises the loss by orders of
    magnitude: it leaves the floor of a curved valley, to which the next step returns.
    So after ``PATIENCE`` rounds that do not halve the loss, a *hop* is taken: of the
    candidates with Theta <= 1 - slack t, a predicted decrease of at least half of the
    loss, and a loss not above the greatest so far, that of the smallest Theta. For this
    one round ``FARTHER`` more levels are probed, but none below 50 rounding units. From
    there on the damping may fall as far as the hop's. A few hops take the errors from
    1e-13 to 1e-15; the method keeps the best theta meanwhile.

    Where no full step converges, the way is *bent*. Along theta + t D the residual is
    r + t J D + t^2/2 r'' with r'' its second derivative along D, of which the targets
    at the two shortest lengths tell W^T U^T r'' to order t^2. The step that removes it,

        D_2 = A(mu) (-U^T r''),    candidates theta + t D + t^2/2 D_2,

    is the geodesic acceleration of Transtrum and Sethna (arXiv 1201.5885): in a curved
    valley the way follows the floor. Where t |D_2| <= |D|, the losses there are asked
    for, one more exchange of a few numbers. Of those that are sufficient, and lower
    than the straight candidate chosen, that with the least damping is taken if it damps
    less or is longer.

    Args:
        slack: Fraction of the ideal decrease of Theta, from 1 to 1 - t, that is asked
            for, in (0, 1). Smaller is bolder; 1/4 is Deuflhard's.
        newton: Largest Theta of a full step that may raise the loss; below 1/2 the
            theory sees quadratic convergence.
        sufficient: Least ratio of actual to predicted decrease, in (0, 1).
        greed: Largest ratio of a candidate's loss to the lowest. Against last rounds of
            tiny steps in weak directions, where one full step would solve the strong
            ones; 30 to 1000 do about the same, 10 is short-sighted.
        up: Levels of more damping that are probed beside the last one.
        down: Levels of less damping; with 2, mu can fall by 100 a round.
        lengths: Fractions of the full steps; 5 x 4 candidates in all, 13 x 4 in the
            round of a hop.
        floor: Relative sqrt(mu) of the least damping before a hop; 50 rounding units
            if that is more, as in float32. A lower one makes hard starts slower: they
            wander in the weakest directions. In five dimensions 1e-5 took half the
            rounds to an error of 1e-5.
        directions: Number of directions that the sketches together should cover. Where
            more are above the cut-off, the least damping is raised, but not in the
            round of a hop: a round costs n p k operations for k directions, and in
            three dimensions the digits 9 to 11 of the error take twice the directions
            and four times the seconds. Where ``PATIENCE`` rounds with the least damping
            that they allow do not halve the loss, it grows by half; if the loss is not
            halved in as many more, it goes back.
        hops: Whether to leave deep stalls by hops.
        curves: Whether to bend steps.
        begin: Relative sqrt(mu) of the least damping at first, in [0, 1). Each full
            step with the least one makes it ten times less, down to ``floor``. Short
            steps of little damping no longer wander on plateaus: in five dimensions
            with 1e-5 the rounds to an error of 1e-5 were half, and the error after 60
            of them 1e-10, not 1e-5; sine8 was later at the rounding level.
    """

    slack: float = 0.25
    newton: float = 0.5
    sufficient: float = 0.25
    greed: float = 100.0
    up: int = 2
    down: int = 2
    lengths: tuple[float, ...] = (1.0, 0.5, 0.25, 0.125)
    floor: float = 1e-11
    directions: int = 700
    hops: bool = True
    curves: bool = True
    begin: float = 0.0
    probes: ClassVar[bool] = True
    kinds: ClassVar[tuple[type, ...]] = (State,)

    def __post_init__(self) -> None:
        check_fractions(self, "slack", "newton", "sufficient", "floor")
        counts = (self.greed, self.up, self.down, self.directions)
        if not all(count >= 1 for count in counts) or not self.lengths:
            raise ValueError(
                "Natural needs greed, up, down and directions of at least 1 and some "
                f"lengths; got {counts} and {self.lengths}."
            )
        if not 0 <= self.begin < 1:
            raise ValueError(f"Natural's begin must be in [0, 1), got {self.begin}.")
        check_candidates((self.up + 1 + self.down + FARTHER) * len(self.lengths))

    def start(self, eps: float) -> State:
        """Level ``START``, and no losses."""
        least = resolved(max(self.floor, self.begin), eps)
        return State(float(START), least, least, last=resolved(0.0, eps))

    def renewed(self, state: State, eps: float) -> State:
        """The level and the bounds of the damping; no losses."""
        bounds = state.least, state.floor, state.last
        return State(state.level, *bounds, budget=state.kept, kept=state.kept)

    def _stalled(self, state: State) -> bool:
        deep = state.best < DEEP * state.peak
        on_trial = state.budget > state.kept
        return self.hops and deep and not on_trial and state.slow >= state.patience

    def _levels(self, state: State) -> range:
        least, down = state.floor, self.down
        if self._stalled(state):
            down, least = down + FARTHER, state.last
        last = _level(least)
        level = min(int(state.level), last)
        first = max(1 if level > 0 else MOST_DAMPED, level - self.up)
        return range(first, min(last, level + down) + 1)

    def reach(self, state: State) -> float:
        """``MARGIN`` times the least relative sqrt(mu), and no more."""
        return MARGIN * min(1.0, _relative(self._levels(state)[-1]))

    def propose(self, spectrum: Spectrum, state: State) -> Candidates:
        """Damped steps, the most damped first."""
        levels = self._levels(state)
        dampings = [(_relative(i) * spectrum.top) ** 2 for i in levels]
        return proposal(spectrum, dampings, [0.0] * len(dampings), self.lengths)

    def choose(
        self,
        spectrum: Spectrum,
        loss: float,
        candidates: Candidates,
        probed: Probed | None,
        state: State,
    ) -> tuple[Choice | None, State]:
        """A hop, or else a step, as the class says."""
        assert probed is not None
        levels, losses = self._levels(state), probed.losses
        stalled, state = self._stalled(state), self._seen(spectrum, loss, state)
        lengths = losses.new_tensor(candidates.lengths)
        contraction = _contraction(spectrum, candidates, probed)
        predicted = spectrum.decrease(
            lengths[:, None] * candidates.coordinates[:, None]
        )
        contracts = contraction <= 1 - self.slack * lengths
        hops = contracts & (predicted >= PROMISE * loss) & (losses <= state.peak)
        lower = losses < loss  # false where a loss is not finite
        if stalled and hops.any():
            first = torch.where(hops, contraction, torch.inf).argmin()
            step, length = divmod(int(first), len(lengths))
            least = min(state.least, _relative(levels[step]))
            bound = self._floor(spectrum, least, state.budget)
            patience = 2 * state.patience
            state = replace(state, least=least, floor=bound, patience=patience)
        elif lower.any():
            lowest = losses[lower].min()
            lower &= losses <= self.greed * lowest
            converging = (lengths == 1) & (contraction <= self.newton)
            converging &= losses <= state.ceiling
            natural = (lower & contracts) | converging
            sufficient = lower & (loss - losses >= self.sufficient * predicted)
            accepted = (natural, sufficient, losses == lowest)
            step, length = _least_damped(
                next(a for a in accepted if a.any()), candidates.lengths
            )
        else:
            # At the rounding level, losses may double, too, but nothing is promised.
            promised = bool((predicted >= PROMISE * loss).any())
            # Of steps that are too long the shorter are better: a client that refuses
            # them all tells the same of each.
            better = bool(losses.nan_to_num(torch.inf).amin() < losses.amax() / 2)
            overshot = promised and better and not (losses <= OVERSHOT * loss).any()
            beyond = levels[0] < 1 or (levels[0] == 1 and overshot)
            level = max(MOST_DAMPED if beyond else 1, levels[0] - self.up)
            return None, replace(state, level=float(level))
        state = self._lowered(spectrum, state, levels[step], candidates.lengths[length])
        return Choice(step, length), replace(state, level=float(levels[step]))

    def bend(
        self,
        spectrum: Spectrum,
        candidates: Candidates,
        probed: Probed,
        choice: Choice | None,
        state: State,
    ) -> Bent | None:
        """Curves of the steps damped no more than the one chosen, unless it converges.

        None in the round of a hop, with a single length, and where all accelerations
        are slight or too large.
        """
        lengths = candidates.lengths
        if not self.curves or self._stalled(state) or len(lengths) < 2:
            return None
        first = 0 if choice is None else choice.step
        if choice is not None and lengths[choice.length] == 1:
            contraction = _contraction(spectrum, candidates, probed)
            if contraction[choice.step, choice.length] <= self.newton:
                return None
        short, longer = sorted(range(len(lengths)), key=lengths.__getitem__)[:2]
        steps = candidates.coordinates[first:]

        def second(i: int) -> Tensor:
            """-U^T r'' [., k] as the candidates of a length tell it."""
            t, targets = lengths[i], probed.targets[first:, i]
            return 2 * (targets - spectrum.c + t * spectrum.s * steps) / t**2

        a, b = lengths[short], lengths[longer]
        curvature = (b * second(short) - a * second(longer)) / (b - a)
        mus = candidates.dampings[first:]
        bent = torch.stack([spectrum.inverse(mu) for mu in mus]) * curvature / 2
        part = _acceleration(bent, steps)
        which = ((part > STRAIGHT) & (a * part <= 1)).nonzero()[:, 0]
        if not len(which):
            return None
        return Bent([first + i for i in which.tolist()], bent[which])

    def choose_bent(
        self,
        spectrum: Spectrum,
        loss: float,
        candidates: Candidates,
        probed: Probed,
        bent: Bent,
        losses: Tensor,
        chosen: tuple[Choice | None, State],
    ) -> tuple[Choice | None, State]:
        """The sufficient curve with the least damping, or what was chosen before."""
        choice, state = chosen
        lengths = losses.new_tensor(candidates.lengths)
        steps = candidates.coordinates[bent.which]
        parts = _acceleration(bent.curves, steps)
        lower = (lengths * parts[:, None] <= 1) & (losses < loss)
        if not lower.any():
            return chosen
        finite = probed.losses[probed.losses.isfinite()]
        lowest = torch.cat([finite, losses[lower]]).min()
        predicted = spectrum.decrease(lengths[:, None] * steps[:, None])
        enough = lower & (loss - losses >= self.sufficient * predicted)
        enough &= losses <= self.greed * lowest
        straight = (-1, 0.0, 0.0)
        if choice is not None:
            known = float(probed.losses[choice.step, choice.length])
            straight = (choice.step, candidates.lengths[choice.length], -known)
            enough &= losses < known
        elif not enough.any():
            enough = losses == losses[lower].min()
        taken = [
            ((bent.which[i], candidates.lengths[j], -float(losses[i, j])), i, j)
            for i, j in enough.nonzero().tolist()
        ]
        if not taken or max(taken)[0] <= straight:
            return chosen
        (step, _, negative), i, j = max(taken)
        mu = candidates.dampings[step]
        level = round(-2 * log10(mu**0.5 / spectrum.top))
        found = Choice(step, j, curve=bent.curves[i], loss=-negative)
        state = self._lowered(spectrum, state, level, candidates.lengths[j])
        return found, replace(state, level=float(level))

    def _seen(self, spectrum: Spectrum, loss: float, state: State) -> State:
        """The state with this round's loss and spectrum in it."""
        halved = loss < 0.5 * state.best
        slow = 0.0 if halved else state.slow + 1
        budget, kept, patience = state.budget, state.kept, state.patience
        if halved:
            kept = budget
            patience = float(PATIENCE) if state.slow <= 0 else patience
        elif slow == 2 * PATIENCE:
            budget = kept
        elif slow == PATIENCE and state.level >= _level(state.floor):
            budget *= GROWTH if state.floor > state.least else 1
        return replace(
            state,
            floor=self._floor(spectrum, state.least, budget),
            ceiling=max(loss, state.ceiling / 2),
            best=loss if state.peak == 0 else min(loss, state.best),
            peak=max(loss, state.peak),
            slow=-2.0 * PATIENCE if self._stalled(state) else slow,
            budget=budget,
            kept=kept,
            patience=patience,
        )

    def _lowered(
        self, spectrum: Spectrum, state: State, level: int, length: float
    ) -> State:
        """A tenth of the least damping, from ``begin`` on, after a full step there."""
        least = max(self.floor, state.last, state.least / 10)
        if length < 1 or level < _level(state.least) or least >= state.least:
            return state
        bound = self._floor(spectrum, least, state.budget)
        return replace(state, least=least, floor=bound)

    def _floor(self, spectrum: Spectrum, least: float, budget: float) -> float:
        """``least``, raised so that no more than wanted are above the cut-off."""
        s, most = spectrum.s, int(budget * self.directions)
        if len(s) > most:
            least = max(least, float(s[most] / s[0]) / MARGIN)
        return min(least, 0.1)


def _contraction(spectrum: Spectrum, candidates: Candidates, probed: Probed) -> Tensor:
    """Theta of the candidates, shape [T, S]."""
    inverses = torch.stack([spectrum.inverse(mu) for mu in candidates.dampings])
    corrections = (inverses[:, None] * probed.targets).norm(dim=-1)
    return corrections / (inverses * spectrum.c).norm(dim=-1, keepdim=True)


def _acceleration(curves: Tensor, steps: Tensor) -> Tensor:
    """|D_2| / |D| of curves C = D_2 / 2 and steps, both [T, k]; shape [T]."""
    return 2 * curves.norm(dim=1) / steps.norm(dim=1)


def _least_damped(accepted: Tensor, lengths: list[float]) -> tuple[int, int]:
    """Indices of the last step accepted, of [T, S], and of its greatest length."""
    found = ((i, j) for i, j in accepted.nonzero().tolist())
    return max(found, key=lambda choice: (choice[0], lengths[choice[1]]))


def _level(relative: float) -> int:
    """The last level, at least 1, of no less damping than sqrt(mu) / s_1."""
    return max(1, floor(-2 * log10(relative) + 1e-6))


def _relative(level: int) -> float:
    """sqrt(mu) / s_1 of a level."""
    return float(10.0 ** (-level / 2))


make = Natural
