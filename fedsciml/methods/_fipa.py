r"""FIPA, with each client's own sketch: what is sent, and how the server reads it.

Fisher-Informed Parameterwise Aggregation (Chang, He, Hao 2026, arXiv 2601.13608),

    theta += H^+ sum_m H_m delta_m,   H = sum_m H_m,   H_m = J_m^T J_m,

as a sum of small least-squares problems in square-root form: client m sends its sketch
B_m D ~ c_m (see ``sketch``) with c_m = B_m delta_m, the server stacks and solves them.
With the exact local Gauss-Newton step c_m = -U_m^T r_m, so delta_m is never formed, and
without truncation the result is the centralised Gauss-Newton (Levenberg-Marquardt)
step.

A round has two exchanges: sketches up; candidate steps down, losses and targets up.
With a policy that does not probe, the second is left out. Where a policy lets the loss
rise for a while, theta stays at the lowest loss known, and ``at`` is where it stands.
"""

import math
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from math import inf
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedsciml.linalg.beside import Beside, beside
from fedsciml.linalg.randomised import Again, decay
from fedsciml.linalg.ranks import AboveCutoff, Budget, Predictive, Schedule
from fedsciml.linalg.sketch import Sketch, gather, truncate
from fedsciml.linalg.solve import Spectrum, spectrum
from fedsciml.methods._base import (
    EARLY,
    LOSS,
    Answers,
    Exchanges,
    Expected,
    Field,
    Info,
    Method,
    Own,
    Parts,
    Said,
)
from fedsciml.methods._base import Opening as _Opening
from fedsciml.methods._base import State as _State
from fedsciml.methods._laws import (
    Inconsistent,
    bounded,
    contradicting,
    exact,
    near_length,
    near_violation,
    target_violation,
)
from fedsciml.methods._local import CARRIED, Carried, Local, train
from fedsciml.methods._prior import WithPrior
from fedsciml.methods._records import Record
from fedsciml.methods._sketching import (
    FIRST_RANK,
    LARGEST_JACOBIAN,
    Sketcher,
    budget,
    context,
    generator,
    limits,
    sketched,
)
from fedsciml.methods._sums import added, losses, total
from fedsciml.network import Network
from fedsciml.network.frequency import FREQUENCIES
from fedsciml.network.starts import automatic, starts
from fedsciml.policies import MARGIN, Bending, Bent, Candidates, Choice, Policy, Probed
from fedsciml.policies.greedy import Greedy
from fedsciml.policies.natural import Natural
from fedsciml.problem import Problem
from fedsciml.residual import System
from fedsciml.residual.pieces import borrowed, rows
from fedsciml.residual.smoothness import has_kinks

FITTED = 1e-12
"""Loss, relative to the greatest one, at which all clients' data agree."""


SEEN, DAMPED = 0.99, 1e-3
"""Part of the loss that a start should promise to remove, and at what relative sqrt(mu)
it is judged. Where the first rounds stay on a plateau it is below 0.9 (sine8 .2 to .5,
helmholtz .0007), and above 0.99 where they do not (five problems, three starts)."""


ROUNDING = 50
"""Rounding units by which two sums of a loss may differ."""


class State(_State):
    """What the server keeps from round to round.

    Attributes:
        at: Where the next step starts, shape [p].
        seed: Of the randomised sketches.
        round: Number of the next round, from 1.
        top: Largest singular value of the last merged sketch; 0 if not known.
        gradient: |B^T c| of it.
        policy: The step policy's own state.
        limits: Rows of each client under a byte budget, shape [m].
        lowest: Lowest loss known, that of theta.
        peak: Greatest loss where a step started.
        halved: It, when it was last halved.
        still: Rounds since then.
        starts: Before the first round, those of which one is chosen, shape [S, p].
    """

    at: Tensor
    seed: int
    round: int
    top: float
    gradient: float
    policy: Any = None
    limits: Tensor | None = None
    lowest: float | None = None
    peak: float = 0.0
    halved: float = inf
    still: int = 0
    starts: Tensor | None = None

    @property
    def point(self) -> Tensor:
        """``at``."""
        return self.at

    def moved(
        self, at: Tensor | None, loss: float, there: float, slack: float = 0.0
    ) -> "State":
        """The state after a step to ``at``; the model goes along if it is the lowest.

        Args:
            at: Shape [p]; None for no step.
            loss: Where the step started.
            there: Loss at ``at``; infinite where it is not known.
            slack: By which it may be above the lowest and still be as low, relative.
        """
        lowest = loss if self.lowest is None else self.lowest
        fell = lowest < self.halved / 2
        halved, still = (lowest, 0) if fell else (self.halved, self.still + 1)
        peak = max(loss, self.peak)
        state = replace(self, lowest=lowest, peak=peak, halved=halved, still=still)
        if at is None:
            return state
        if there != inf and not there <= (1 + slack) * lowest:
            return replace(state, at=at)
        known = None if there == inf else min(there, lowest)
        return replace(state, at=at, theta=at, lowest=known)

    @property
    def doubtful(self) -> bool:
        """Whether to look for a client that contradicts the others.

        In the first rounds, and every fifth one while the loss stands still; not where
        it has become so small that the data agree.
        """
        stands = self.still > 0 and self.still % 5 == 0
        return self.round <= EARLY or (stands and self.halved > FITTED * self.peak)


class Opening(_Opening):
    """Asks for a sketch at theta: as in ``State``, and the policy's ``reach``."""

    round: int
    seed: int
    top: float
    gradient: float
    reach: float
    limits: Tensor | None = None


class Sketched(Record):
    """A client's least-squares problem B D ~ c at theta.

    Attributes:
        factor: B, shape [k, p].
        target: c = -U^T r, shape [k].
        loss: 1/2 |r|^2.
        desired: B delta, where the client trained, shape [k].
        spectrum: Singular values for the shares of a byte budget, where there is one.
        gradient: All of J^T r, where it goes beside the sketch, shape [p].
    """

    factor: Tensor
    target: Tensor
    loss: float
    desired: Tensor | None = None
    spectrum: Tensor | None = None
    gradient: Tensor | None = None


class Probe(Record):
    """Asks for losses and targets at theta + t D, all steps D with all lengths t.

    One more candidate is so ``near`` theta that the residual is linear there: what a
    client says of it must follow from its sketch (``_laws.near_violation``).

    Attributes:
        steps: D, shape [T, p].
        lengths: t, shape [S].
        near: Length of the step ``checked`` at that candidate.
        checked: Number of a step.
    """

    steps: Tensor
    lengths: Tensor
    near: float
    checked: int

    @property
    def grid(self) -> tuple[int, int]:
        """Numbers of steps and lengths."""
        return len(self.steps), len(self.lengths)

    @property
    def fractions(self) -> Tensor:
        """Part of the step of each candidate, [T S + 1]; 0 of the near one.

        There what clients have of their own stays.
        """
        return fractions(self.lengths, len(self.steps))

    def candidates(self, theta: Tensor) -> Tensor:
        """theta + t D, shape [T S + 1, p]: the lengths of each step, then the near."""
        steps = (self.lengths[:, None] * self.steps[:, None]).flatten(0, 1)
        return theta + torch.cat([steps, self.near * self.steps[self.checked, None]])


def fractions(lengths: Tensor, steps: int) -> Tensor:
    """Lengths [S] of so many steps, [T S + 1]; 0 for the near candidate."""
    return torch.cat([lengths.repeat(steps), lengths.new_zeros(1)])


class Found(Record):
    """A client's losses [T S + 1] and targets -U^T r [T S + 1, k] at the candidates."""

    losses: Tensor
    targets: Tensor


class Curves(Record):
    """Asks for losses at theta + t D + t^2 C, all steps with all lengths t.

    Attributes:
        steps: D, shape [T, p].
        curves: C, shape [T, p].
        lengths: t, shape [S].
    """

    steps: Tensor
    curves: Tensor
    lengths: Tensor

    def candidates(self, theta: Tensor) -> Tensor:
        """Where, shape [T S, p]: the lengths of each step."""
        t = self.lengths[:, None]
        moves = t * self.steps[:, None] + t**2 * self.curves[:, None]
        return theta + moves.flatten(0, 1)


class CurveLosses(Record):
    """A client's losses along curves, shape [T S]."""

    losses: Tensor


class Anew(Record):
    """What makes U again where it is too large to keep, see ``linalg.Again``.

    Attributes:
        seed: Of the sketch.
        round: In which it was made.
        drawn: Numbers of columns of its random matrix, int64.
        triangle: R, shape [l, l].
        mixing: M, shape [l, k].
    """

    seed: int
    round: int
    drawn: Tensor
    triangle: Tensor
    mixing: Tensor


class Basis(Record):
    """U [n, k] of a client's last sketch, and the theta [p] where it was made.

    U is contiguous, as it is where it comes from a file: products have the same bits.
    Where it is not kept it has no rows, and is made anew, by what is contiguous too.
    """

    left: Tensor
    theta: Tensor
    anew: Anew | None = None

    def targets(self, system: System, residuals: Tensor) -> Tensor:
        """-U^T r of a client's residuals r [C, n], shape [C, k]."""
        if self.anew is None:
            return -(residuals @ self.left)
        known = self.anew
        random = generator(known.seed, known.round, system.shard.client)
        again = Again(known.drawn, known.triangle, known.mixing)
        with borrowed() as memory:
            found, _ = rows(system, self.theta, LARGEST_JACOBIAN, memory)
            return again.targets(found, random, residuals)


class Memory(Record):
    """What a client remembers.

    Attributes:
        rank: About how many directions its sketch had.
        basis: Until it was asked for losses; where steps may be bent, without U until
            it is asked for a sketch again.
        carried: By its local solver.
        cutoff: Down to which the sketch had directions; 0 if that is not known.
        decay: Directions there in which singular values fall by a factor e.
    """

    rank: int
    basis: Basis | None = None
    carried: Carried | None = None
    cutoff: float = 0.0
    decay: float = 0.0

    def expected(self, cutoff: float) -> int:
        """About how many directions a sketch down to a cut-off will have."""
        if not 0 < cutoff < self.cutoff:
            return self.rank
        return self.rank + math.ceil(self.decay * math.log(self.cutoff / cutoff))


@dataclass(frozen=True, eq=False)
class Merged:
    """All clients' least-squares problem, as the server reads it.

    Attributes:
        problem: B D ~ c at theta.
        aimed: The same with the target of local training; itself without.
        gradient: |B^T c|.
        info: What is known of the round so far.
        kept: Fields of the next state that follow from the uploads.
        slope: J^T r of all clients where it was sent, shape [p].
        curvature: Outside of the span of the sketches, at most.
        beside: The problem with the prior and the slope; None without either.
    """

    problem: Spectrum
    aimed: Spectrum
    gradient: float
    info: Info
    kept: dict[str, Any]
    slope: Tensor | None = None
    curvature: float = 0.0
    beside: Beside | None = None

    def completed(self, theta: Tensor, prior: float) -> "Merged":
        """With what a solve has beside the sketches."""
        if not prior and self.slope is None:
            return self
        known = beside(self.problem, theta, prior, self.slope, self.curvature)
        return replace(self, problem=known.whole, aimed=known.whole, beside=known)

    def judged(self, candidates: Candidates, probed: Probed) -> Probed:
        """What clients found, with the prior, as the completed problem reads it."""
        if self.beside is None:
            return probed
        known, lengths = self.beside, probed.losses.new_tensor(candidates.lengths)
        penalty = known.penalty(self._moves(candidates))
        moves = lengths[:, None] * candidates.coordinates[:, None]  # [T, S, k]
        return Probed(probed.losses + penalty, known.targets(probed.targets, moves))

    def penalties(self, candidates: Candidates) -> Tensor:
        """By how much the prior's part of the loss rises at candidates, [T, S]."""
        if self.beside is None:
            grid = len(candidates.coordinates), len(candidates.lengths)
            return candidates.coordinates.new_zeros(grid)
        moves = self._moves(candidates)
        return self.beside.penalty(moves) - self.beside.penalty(torch.zeros_like(moves))

    def _moves(self, candidates: Candidates) -> Tensor:
        """t D, shape [T, S, p]."""
        steps = candidates.steps(self.problem.basis)
        return steps.new_tensor(candidates.lengths)[:, None] * steps[:, None]


Chosen = tuple[Choice | None, Any]
"""What a policy chose, and its next state."""


class Last(Record):
    """A client's last sketch, and the theta [p] where it was made."""

    sketched: Sketched
    theta: Tensor


@dataclass(frozen=True)
class Fipa(WithPrior):
    """FIPA by square-root sketches with a step policy.

    Args:
        policy: How far to step.
        rank: How many singular vectors a client sends.
        sketch: How a client finds them: ``range``, ``svd`` or ``subspace``.
        local: Local training that gives delta_m; None for the exact Gauss-Newton step.
        name: As in records.
        pooled: Centralised: one client holds all rows.
        prior: lambda of lambda/2 |theta|^2; ``bound`` takes it from the problem.
        asked: Whether the policy was; else it is greedy where clients have parameters
            of their own: natural goes by what is left of the rows alone, and was far
            behind on every family tried.
        straight: Whether no step is bent: where clients have parameters of their own.
        network: Of which a start is chosen; ``bound`` gives it where one is.
        slack: By which losses differ that are the same to rounding, relative; likewise,
            as the last step to where the loss is least does not change it any more.

    Raises:
        ValueError: In a round, if ``rank`` is a ``Budget`` too small for the clients,
            or ``Predictive`` and a step that the policy proposes has a cut-off or no
            damping.
    """

    policy: Policy[Any] = field(default_factory=Natural)
    rank: Schedule = field(default_factory=AboveCutoff)
    sketch: Sketcher = "range"
    local: Local | None = None
    name: str = "fipa"
    pooled: bool = False
    slack: float = 0.0
    asked: bool = True
    straight: bool = False
    network: Network | None = field(default=None, repr=False)

    compares = True
    stands_in = True
    _first: ClassVar[type[State]] = State
    _fixed: ClassVar[int] = 0
    """Numbers that a client sends beside rows and loss."""

    def bound(
        self,
        problem: Problem,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> Method:
        """With the problem's prior.

        Raises:
            ValueError: If clients are to train locally where there is a prior.
        """
        if problem.personal and not self.asked:
            greedy = replace(self, policy=Greedy(), asked=True)
            return greedy.bound(problem, device, dtype)
        slack = ROUNDING * torch.finfo(dtype).eps
        straight = self.straight or problem.personal is not None
        chosen = automatic(problem.network) and self.policy.probes
        network = problem.network if chosen else None
        known = self.prior, self.slack, self.straight, self.network
        if (problem.prior, slack, straight, network) == known:
            return self
        if self.local is not None and problem.prior:
            raise ValueError(
                f"Problem '{problem.name}' has a prior, which fipa's server solves "
                "with the exact local step alone; leave out local training, or the "
                "prior."
            )
        return replace(
            self, prior=problem.prior, slack=slack, straight=straight, network=network
        )

    def round(self, state: State) -> Exchanges[State]:
        """Sketches up; candidate steps down, losses up; the step that is taken."""
        if state.starts is None:
            merged = yield from self._gather(state)
        else:
            state, merged = yield from self._begun(state, state.starts)
        assert merged is not None  # somebody answers the first ask of a round
        merged = merged.completed(state.at, self.prior)
        problem, before = merged.problem, state.policy
        loss = merged.info.loss + self.penalty(state.at)
        candidates = self._candidates(merged, state)
        steps, probed = candidates.steps(problem.basis), None
        found: Answers = {}
        if self.policy.probes:
            ask = self._asking(state, merged, candidates, steps)
            found = yield ask
            if found:
                probed = self._probed(merged, candidates, found.values())
                probed = merged.judged(candidates, probed)
        if probed is None and self.policy.probes:
            choice: Choice | None = cautious(candidates)
            policy = before
        else:
            told = problem, loss, candidates, probed, before
            choice, policy = self.policy.choose(*told)
        along = 0
        if probed is not None:
            taken = choice, policy
            known = merged, loss, candidates, probed, before
            (choice, policy), along = yield from self._bent(*known, taken)
        info = replace(
            merged.info,
            step=candidates.lengths[choice.length] if choice else 0.0,
            damping=candidates.dampings[choice.step] if choice else 0.0,
            cutoff=candidates.cutoffs[choice.step] if choice else 0.0,
            against=() if choice else _against(merged, found, candidates, self.slack),
            probes=0 if probed is None else probed.losses.numel() + along,
            curve=_curve(candidates, choice),
            promised=_promised(self._removed(merged, candidates, steps), loss),
        )
        at, there = None, inf  # not known
        if choice is not None:
            at = state.at + info.step * steps[choice.step]
            if choice.correction is not None:
                at = at + choice.correction @ problem.basis
            elif choice.curve is not None and choice.loss is not None:
                at = at + info.step**2 * choice.curve @ problem.basis
                there = choice.loss
            elif probed is not None:
                there = float(probed.losses[choice.step, choice.length])
        after = replace(
            state.moved(at, loss, there, self.slack),
            round=state.round + 1,
            top=problem.top,
            gradient=merged.gradient,
            policy=policy,
            **merged.kept,
        )
        return after, info

    def _begun(
        self, state: State, starts: Tensor
    ) -> Generator[Record, Answers, tuple[State, Merged]]:
        """The exchange of sketches at the first of the starts that sees the residual.

        In secure sums nobody may answer after the first ask: what is known decides.
        The start promises the part of the loss that the model removes at sqrt(mu) =
        ``DAMPED`` s_1. The first is taken that promises ``SEEN``. If none does, what
        each leaves is compared: the first that leaves no more than twice the least.
        """
        found = list[tuple[State, Merged]]()
        tried = list[tuple[float, float]]()
        for frequency, theta in zip(FREQUENCIES, starts, strict=True):
            here = replace(state, theta=theta, at=theta, starts=None)
            merged = yield from self._gather(here)
            if merged is None:
                break
            found.append((here, merged))
            tried.append((frequency, _seen(merged.problem, merged.info.loss)))
            if tried[-1][1] >= SEEN:
                break
        left = [1 - promise for _, promise in tried]
        fine = [promise >= SEEN for _, promise in tried]
        small = [x <= 2 * min(left) for x in left]
        which = (fine if any(fine) else small).index(True)
        here, merged = found[which]
        if which < len(found) - 1:  # clients remember their last sketch alone
            merged = (yield from self._gather(here)) or merged
        told = replace(merged.info, first=tried[which][0], tried=tuple(tried))
        return here, replace(merged, info=told)

    def _gather(self, state: State) -> Generator[Record, Answers, Merged | None]:
        """The exchange of sketches: B D ~ c of all clients; None without answers."""
        sent = yield self._opening(state)
        return self._merged(state, sent)

    def _merged(self, state: State, sent: Answers) -> Merged:
        """B D ~ c of all clients, from their sketches."""
        problem, gradient = merge(sent.values())
        targets = {m: answer.target for m, answer in sent.items()}
        info = Info(
            total(sent.values()),
            ranks=tuple(len(a.target) for a in sent.values()),
            losses=losses(sent),
            suspects=contradicting(problem, targets) if state.doubtful else {},
            gradients={m: float((a.target @ a.factor).norm()) for m, a in sent.items()},
            epochs=self.local.epochs if self.local else 1,
        )
        spectra = {m: answer.spectrum for m, answer in sent.items()}
        rows = self.rows(len(state.theta), len(sent), state.theta)
        kept = {"limits": limits(spectra, rows)}
        return Merged(problem, aim(problem, sent.values()), gradient, info, kept)

    def _asking(
        self, state: State, merged: Merged, candidates: Candidates, steps: Tensor
    ) -> Record:
        """The ask for losses of all candidates; the shortest step is checked."""
        near, checked = checked_step(state.at, steps, merged.problem)
        return Probe(steps, steps.new_tensor(candidates.lengths), near, checked)

    def _bent(
        self,
        merged: Merged,
        loss: float,
        candidates: Candidates,
        probed: Probed,
        before: Any,  # noqa: ANN401
        chosen: Chosen,
    ) -> Generator[Record, Answers, tuple[Chosen, int]]:
        """The exchange of losses along curves, where the policy wants one.

        What is known of the second derivatives is that of the rows alone, so with a
        prior or a gradient beside them no step is bent.

        Returns:
            What is chosen now, and how many candidates were asked about.
        """
        policy, problem = self.policy, merged.problem
        if not self._curved or merged.beside is not None:
            return chosen, 0
        assert isinstance(policy, Bending)
        bent = policy.bend(problem, candidates, probed, chosen[0], before)
        if bent is None:
            return chosen, 0
        answers = yield self._curves(merged, candidates, bent)
        if not answers:
            return chosen, 0
        losses = added(a.losses for a in answers.values())
        table = losses.view(len(bent.which), len(candidates.lengths))
        told = problem, loss, candidates, probed, bent, table, chosen
        return policy.choose_bent(*told), losses.numel()

    @cached_property
    def _curved(self) -> bool:
        """Whether steps may be bent: not where sketches suit straight ones alone."""
        suited = self.straight or isinstance(self.rank, Predictive)
        exact = self.local is None and not suited
        return exact and isinstance(self.policy, Bending) and self.policy.curves

    def _curves(self, merged: Merged, candidates: Candidates, bent: Bent) -> Record:
        """The ask for losses along curves."""
        steps = candidates.steps(merged.problem.basis)[bent.which]
        lengths = steps.new_tensor(candidates.lengths)
        return Curves(steps, bent.curves @ merged.problem.basis, lengths)

    def _probed(
        self, merged: Merged, candidates: Candidates, found: Iterable[Found]
    ) -> Probed:
        """What all clients found together, but for the near candidate."""
        found = list(found)
        targets = torch.cat([a.targets[:-1] for a in found], dim=-1)
        return probed(candidates, found, targets @ merged.problem.left)

    def _sketch(
        self, system: System, ask: Opening, memory: Memory | None
    ) -> tuple[Sketched, Memory]:
        """A client's sketch, as far as the rank schedule wants it."""
        memory = memory or Memory(FIRST_RANK)
        at, random = ask.theta, generator(ask.seed, ask.round, system.shard.client)
        wanted = ask.reach, ask.top, memory.expected(ask.reach * ask.top), random
        found, cutoff, loss, again = sketched(
            system, at, self.sketch, *wanted, LARGEST_JACOBIAN, self._most
        )
        values, desired, carried = found.singular_values, None, memory.carried
        if self.local is not None:
            delta, _, carried = train(system, at, self.local, carried)
            desired = found.factor @ delta
        who = system.shard.client, system.problem.clients
        rows = self.rows(len(at), who[1], at)
        found = self.cut(found, desired, ask, cutoff, who, rows)
        answer = Sketched(
            found.factor,
            found.target,
            loss,
            None if desired is None else desired[: found.rank],
            values[:rows] if rows else None,
        )
        rank = max(int((values > cutoff).sum()), 1)
        basis = _kept(found, again, ask) if self.policy.probes else None
        return answer, Memory(rank, basis, carried, cutoff, decay(values[:rank]))

    def cut(
        self,
        found: Sketch,
        desired: Tensor | None,
        ask: Opening,
        cutoff: float,
        who: tuple[int, int],
        rows: int,
    ) -> Sketch:
        """As many rows of a client's sketch as the rank schedule wants.

        Args:
            found: With orthogonal rows, the longest first.
            desired: B delta, where the client trained.
            ask: The server's.
            cutoff: Absolute singular value down to which the sketch is complete.
            who: Number of the client, and of how many.
            rows: Of all clients, under a byte budget.
        """
        least = ask.reach * ask.top / MARGIN  # sqrt(mu) of the steps to come
        known = context(*who, ask, cutoff, found.gradient, least**2, rows)
        wanted = found.target if desired is None else desired
        return truncate(found, self.rank(found.singular_values, wanted, known))

    def _probe(
        self, system: System, ask: Probe, memory: Memory
    ) -> tuple[Found, Memory]:
        """A client's losses and targets at all steps and lengths."""
        basis = asked(memory)
        candidates = ask.candidates(basis.theta)
        losses, residuals = system.judged(candidates, basis.theta)
        targets = basis.targets(system, residuals)
        kept = Basis(basis.left[:0], basis.theta) if self._curved else None
        return Found(losses, targets), replace(memory, basis=kept)

    def _along(
        self, system: System, ask: Curves, memory: Memory
    ) -> tuple[CurveLosses, Memory]:
        """A client's losses along curves."""
        losses = system.losses(ask.candidates(asked(memory).theta))
        return CurveLosses(losses), replace(memory, basis=None)

    @property
    def _most(self) -> int | None:
        """Rows that a sketch needs, where it needs not know of more."""
        return None

    @property
    def personal(self) -> Own:
        """Eliminated; with local training that is not known."""
        return "eliminated" if self.local is None else None

    @property
    def apart(self) -> str | None:
        """A sketch is of one client."""
        return "a client's own sketch is read by itself; take upload sums"

    @property
    def client(self) -> Parts:
        """The sketch; losses and targets at the candidates; losses along curves."""
        parts: Parts = {Opening: self._sketch, Probe: self._probe}
        return {**parts, Curves: self._along} if self._curved else parts

    @property
    def kinds(self) -> tuple[type, ...]:
        """The types of this file, of the local solvers and of the policy."""
        own = (self._first, Opening, Sketched, Probe, Found, Memory, Basis, Anew, Last)
        return (*own, Curves, CurveLosses, *CARRIED, *self.policy.kinds)

    def start(self, theta: Tensor, seed: int) -> State:
        """theta, the policy's state, and what the clients' ranks depend on.

        Where theta is the network's own start, not that of a warm-up, it is chosen,
        unless all are the same, as with parameters that are given.
        """
        policy = self.policy.start(torch.finfo(theta.dtype).eps)
        state = self._first(theta, theta, seed, 1, 0.0, 0.0, policy)
        if self.network is None:
            return state
        known = torch.stack([*starts(self.network, seed, theta.dtype).values()])
        known = known.to(theta.device)
        own = torch.equal(known[0], theta) and not torch.equal(known[0], known[-1])
        return replace(state, starts=known) if own else state

    @property
    def chooses(self) -> bool:
        """Where ``bound`` gave it a network."""
        return self.network is not None

    def _opening(self, state: State) -> Opening:
        eps = torch.finfo(state.theta.dtype).eps
        return Opening(
            theta=state.at,
            round=state.round,
            seed=state.seed,
            top=state.top,
            gradient=state.gradient,
            reach=max(self.policy.reach(state.policy), eps),
            limits=state.limits,
        )

    def rows(self, width: int, clients: int, like: Tensor) -> int:
        """Rows of all clients that a byte budget pays for; 0 without one.

        Args:
            width: Columns of B.
            clients: How many there are.
            like: Of the dtype that is sent.
        """
        sent = 1 if self.local is None else 2  # target, desired
        return budget(self.rank, clients, like, width + sent, self._fixed)

    def _candidates(self, merged: Merged, state: State) -> Candidates:
        found = self.policy.propose(merged.aimed, state.policy)
        damped = all(found.dampings) and not any(found.cutoffs)
        if isinstance(self.rank, Predictive) and not damped:
            raise ValueError(
                "The rank schedule 'predictive' is for damped steps; this policy "
                "proposes one with a cut-off or without damping. Take another rank "
                "schedule, or another policy such as natural."
            )
        return found

    def _removed(self, merged: Merged, candidates: Candidates, steps: Tensor) -> Tensor:
        """What the full steps [T, p] remove of the model of the loss, shape [T]."""
        return merged.problem.decrease(candidates.coordinates)

    def expects(self, ask: Record, size: int) -> Expected:
        """The sketch; then losses and targets at the candidates, which may overflow.

        With local training also B delta; with a byte budget the spectrum.
        """
        if isinstance(ask, Curves):
            return told_along(ask.curves, ask.lengths)
        if isinstance(ask, Probe):
            count = math.prod(ask.grid) + 1
            losses = Field((count,), finite=False, least=0)
            targets = Field((count, "k"), finite=False)
            return Expected(Found, {"losses": losses, "targets": targets})
        fields = {
            "factor": Field(("k", size), scale=True),
            "target": Field(("k",), scale=True),
            "loss": LOSS,
        }
        if self.local is not None:
            fields["desired"] = Field(("k",), scale=True)
        if isinstance(self.rank, Budget):
            fields["spectrum"] = Field(("values",))
        return Expected(Sketched, fields, anew=True)

    def objection(
        self, problem: Problem, state: State, client: int, said: Said, unit: float = 0.0
    ) -> ValueError | None:
        """To answers that break a law of projections, or contradict each other."""
        ask, answer = said[-1]
        if isinstance(answer, CurveLosses):
            return None
        opening, sketched = next(s for s in said[::-1] if isinstance(s[0], Opening))
        assert isinstance(opening, Opening)
        if isinstance(answer, Sketched):
            loss = answer.target.new_tensor([answer.loss], dtype=torch.float64)
            wrong = target_violation(answer.target[None], loss, bounded(problem))
        else:
            assert isinstance(ask, Probe)
            top = opening.top or float(sketched.factor.norm())
            # What an empty sketch leaves out is known if the cut-off made it so.
            told = len(sketched.target) or isinstance(self.rank, AboveCutoff)
            step, slope = ask.near * ask.steps[ask.checked], sketched.gradient
            near = partial(
                near_violation,
                opening.theta,
                sketched.factor,
                sketched.target,
                sketched.loss,
                step=step,
                found=(answer.targets[-1], float(answer.losses[-1])),
                top=top,
                cutoff=opening.reach * top if told else inf,
                unit=unit,
                slope=None if slope is None else float(slope @ step),
                squares=problem.squares,
            )
            law = answer.targets, answer.losses, problem.squares
            wrong = target_violation(*law)
            if (
                not wrong
                and exact(problem)
                and (wrong := near())
                and has_kinks(problem)
            ):
                wrong = near(kinked=True)
        return Inconsistent(wrong) if wrong else None

    def moved(self, state: State, theta: Tensor) -> State:
        """Renewed there; so are starts, by as much."""
        known = state.starts
        moved = None if known is None else known + (theta - state.theta)
        return replace(self.renewed(state), theta=theta, at=theta, starts=moved)

    def renewed(self, state: State) -> State:
        """From theta, with what the policy knows but for losses.

        The lowest loss is forgotten, and the clients' limits of a byte budget, which
        are shared anew. The policy keeps its damping: from the first one it would take
        several rounds back.
        """
        policy = self.policy.renewed(state.policy, torch.finfo(state.theta.dtype).eps)
        return replace(
            state,
            at=state.theta,
            policy=policy,
            limits=None,
            lowest=None,
            peak=0.0,
            halved=inf,
            still=0,
        )

    def remembered(self, ask: Record, answer: Any) -> Record | None:  # noqa: ANN401
        """The sketch."""
        return Last(answer, ask.theta) if isinstance(ask, Opening) else None

    def stand_in(self, ask: Record, last: Any) -> tuple[Record, Record]:  # noqa: ANN401
        """An absent client's answer, as if its residual were linear in theta.

        From the last theta on, by D, the target is c - B D, and of the loss that part
        changes which the sketch sees, |c|^2/2. With local training the desired target
        B delta becomes B (delta - D): the client still wants to get where it wanted to.

        Args:
            ask: What the client is asked.
            last: Its last sketch, or what was returned here.

        Returns:
            The answer; the sketch moved to the theta of the ask.
        """
        before = last.sketched
        factor, target = before.factor, before.target
        unseen = before.loss - float(target @ target) / 2
        if isinstance(ask, Probe | Curves):
            moves = ask.candidates(torch.zeros_like(ask.steps[0]))
            targets = target - moves @ factor.mT
            losses = (unseen + targets.square().sum(-1) / 2).clamp(min=0)
            curved = isinstance(ask, Curves)
            return CurveLosses(losses) if curved else Found(losses, targets), last
        assert isinstance(ask, Opening)
        moved = factor @ (ask.theta - last.theta)
        target = target - moved
        answer = replace(
            before,
            target=target,
            loss=max(unseen + float(target.square().sum()) / 2, 0.0),
            desired=None if before.desired is None else before.desired - moved,
        )
        return answer, Last(answer, ask.theta)


def told_along(curves: Tensor, lengths: Tensor) -> Expected:
    """Losses at all lengths of the curves, all of which may overflow."""
    count = len(curves) * len(lengths)
    losses = Field((count,), finite=False, overflows=True, least=0)
    return Expected(CurveLosses, {"losses": losses})


def cautious(candidates: Candidates) -> Choice:
    """The most damped and shortest: nobody tells how good the candidates are."""
    lengths = candidates.lengths
    dampings = candidates.dampings
    return Choice(dampings.index(max(dampings)), lengths.index(min(lengths)))


def _promised(removed: Tensor, loss: float) -> float | None:
    """Part of the loss that the best of the full steps removes of the model of it."""
    part = float(removed.max()) / loss if loss > 0 else math.nan
    return min(max(part, 0.0), 1.0) if math.isfinite(part) else None


def _curve(candidates: Candidates, choice: Choice | None) -> float | None:
    """|t^2 C| / |t D| of the candidate taken; None for a straight one."""
    if choice is None or choice.curve is None:
        return None
    step = candidates.coordinates[choice.step].norm()
    return candidates.lengths[choice.length] * float(choice.curve.norm() / step)


def _seen(problem: Spectrum, loss: float) -> float:
    """Part of the loss that the model removes at the damping that starts are judged."""
    step = problem.inverse((DAMPED * problem.top) ** 2) * problem.c
    part = float(problem.decrease(step)) / loss if loss > 0 else 1.0
    return min(max(part, 0.0), 1.0) if math.isfinite(part) else 0.0


def checked_step(theta: Tensor, steps: Tensor, problem: Spectrum) -> tuple[float, int]:
    """Length and number of the step next to theta by which answers are checked."""
    checked = int(steps.norm(dim=1).argmin())
    parts = problem.basis.split(2**20 // max(1, len(problem.s)) + 1, dim=1)
    columns = torch.cat([(problem.s[:, None] * part).norm(dim=0) for part in parts])
    return near_length(theta, steps[checked], columns), checked


def probed(candidates: Candidates, found: Iterable[Found], targets: Tensor) -> Probed:
    """What clients found at T steps and S lengths, and the targets [T S, k] there."""
    grid = len(candidates.coordinates), len(candidates.lengths)
    losses = torch.stack([a.losses[:-1] for a in found]).sum(0)
    return Probed(losses.view(grid), targets.view(*grid, -1))


def _against(
    merged: Merged, found: Mapping[int, Found], candidates: Candidates, slack: float
) -> tuple[int, ...]:
    """Clients without each of whom the others' loss would fall at a candidate.

    With the prior's part, and by more than ``slack``, relative.
    """
    losses = merged.info.losses
    changes = {m: a.losses[:-1].double() - losses[m] for m, a in found.items()}
    if not changes:
        return ()
    prior = merged.penalties(candidates).flatten().double()
    whole = torch.stack(list(changes.values())).sum(0) + prior
    if (whole < 0).any():  # a loss so large that the others' are rounding to it
        loss, eps = sum(losses.values()), torch.finfo(whole.dtype).eps
        return tuple(m for m, own in losses.items() if eps * own > loss - own)

    def lowers(m: int) -> bool:
        others = [change for n, change in changes.items() if n != m]
        least = -slack * (sum(losses.values()) - losses[m])
        return bool(others) and bool((torch.stack(others).sum(0) + prior < least).any())

    return tuple(filter(lowers, changes))


def _kept(found: Sketch, again: Again | None, ask: Opening) -> Basis | None:
    """What makes the targets of a sketch at other points."""
    if again is None:
        left = found.left
        return None if left is None else Basis(left.contiguous(), ask.theta)
    triangle = again.triangle.contiguous()
    mixing = again.mixing[:, : found.rank].contiguous()
    anew = Anew(ask.seed, ask.round, again.drawn, triangle, mixing)
    return Basis(mixing[:0], ask.theta, anew)


def asked(memory: Memory | None) -> Basis:
    """The basis of the sketch of this round."""
    if memory is None or memory.basis is None:
        raise ValueError("A client was asked for losses before it sent a sketch.")
    return memory.basis


def merge(answers: Iterable[Sketched]) -> tuple[Spectrum, float]:
    """B D ~ c of all clients, and |B^T c|."""
    whole = gather([Sketch(answer.factor, answer.target) for answer in answers])
    problem = spectrum(whole)
    if whole.left is not None:
        problem = problem._replace(left=whole.left @ problem.left)
    return problem, float(whole.gradient.norm())


def aim(problem: Spectrum, answers: Iterable[Sketched]) -> Spectrum:
    """B D ~ B delta where the clients trained, else the problem itself."""
    desired = [a.desired for a in answers if a.desired is not None]
    return problem._replace(c=torch.cat(desired) @ problem.left) if desired else problem
