r"""FIPA in a basis that all parties share: k numbers a row instead of p, or only sums.

Server and clients find the same Q [p, k] from public points (``residual.anchors``), and
a client tells of J_m Q alone. It sends either

    rows    B_m Q, as its own sketch but [r, k], with its own rank r, trapezoidal:
            r k - r (r - 1) / 2 numbers; target c_m = -U_m^T r_m, loss_m
    sums    A_m^T A_m and -A_m^T r_m, A_m = J_m W whitened, k (k + 1) / 2 + k numbers,
            and loss_m: all that the server does with them is to add them up

and at each candidate its loss and its target again, r or k numbers. Candidates go down
as k coordinates each. Within the span the step is that of all rows together: the
centralised Gauss-Newton step restricted to D = Q z.

What a client has *outside* of the span restricts the step and does nothing worse: every
step that is damped still descends. It is measured in every round, by products of the
gradients' outside parts with a few random vectors that everybody draws; they add up.
Where more than ``ALARM`` of the whole gradient lies outside, the clients send these
parts, p numbers each, and their sum becomes one more direction of the same round.
"""

import math
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from fedsciml.linalg.basis import CHECKS, Basis
from fedsciml.linalg.ranks import AboveCutoff, Fixed
from fedsciml.methods import _fipa
from fedsciml.methods._agree import another, differs, unlike
from fedsciml.methods._anchored import (
    PRODUCTS,
    TINY,
    Ago,
    Anchored,
    Beyond,
    Coordinates,
    CurveCoordinates,
    Form,
    Known,
    Linear,
    Memory,
    Outward,
    State,
    Told,
    linearised,
)
from fedsciml.methods._base import (
    LOSS,
    REMEMBERS,
    Answers,
    ClientPart,
    Expected,
    Field,
    Info,
    Method,
    Parts,
    Said,
)
from fedsciml.methods._fipa import (
    CurveLosses,
    Curves,
    Fipa,
    Found,
    Last,
    Opening,
    Probe,
    Sketched,
    checked_step,
    told_along,
)
from fedsciml.methods._laws import Inconsistent, bounded, contradicting
from fedsciml.methods._local import train
from fedsciml.methods._records import Record
from fedsciml.methods._rows import ByRows
from fedsciml.methods._sketching import FIRST_RANK
from fedsciml.methods._slopes import Slopes
from fedsciml.methods._summed import BySums
from fedsciml.methods._sums import added, losses, total
from fedsciml.policies import Bent, Candidates, Probed
from fedsciml.problem import Problem
from fedsciml.residual import System
from fedsciml.residual.anchors import Anchors, Span, unusable

Upload = Literal["rows", "sums"]
"""A client's own rows of the shared basis, or what only needs to be added."""

FORMS: dict[Upload, Form] = {"rows": ByRows(), "sums": BySums()}
"""What clients tell, and how that is read."""

ALARM = 0.01
"""Part of the gradient outside of the span from which it is asked for: as much as the
range finder of own sketches may miss."""

COVERED = 1e-4
"""Part of the gradient outside up to which anchors cover the clients' points."""

PATIENCE = 5
"""Rounds with an alarm, nearly in a row, after which own sketches are sent where that
is allowed: more anchors and one more direction in each did not help."""

LARGE = 1 / 3
"""Directions for each parameter at which a shared basis does not pay: an own sketch is
three times as large at most, and found in less time."""

FEW, LAZY, SMALL = 10, 8, 1000
"""Rows of a lazy sketch, rounds from one to the next, and parameters up to which all
rows that matter are sent instead: linear models then converge as Newton's method."""

OWN = (Opening, Probe, Curves)
"""What clients are asked for own sketches."""


@dataclass(frozen=True, eq=False)
class Merged(_fipa.Merged):
    """FIPA's, and the basis that it was told in."""

    basis: Basis = field(kw_only=True)


@dataclass(frozen=True)
class Shared(Fipa):
    """FIPA in a shared basis; bound to a problem before it runs.

    Args:
        upload: What clients send.
        fallback: Whether they send own sketches after ``PATIENCE`` alarms, or where the
            basis has become as large as ``LARGE``.
        anchors: Where the basis comes from; ``bound`` gives them.
    """

    upload: Upload = "rows"
    fallback: bool = False
    anchors: Anchors | None = field(default=None, repr=False)

    _first: ClassVar[type[_fipa.State]] = State
    _fixed: ClassVar[int] = CHECKS + 2 * PRODUCTS

    def bound(
        self,
        problem: Problem,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> Method:
        """With the problem's anchors; by own sketches where it has none."""
        if unusable(problem):
            return Fipa(**_options(self)).bound(problem, device, dtype)
        whiten, made = self._form.whiten, super().bound(problem, device, dtype)
        anchors = Anchors(problem, device, dtype, whiten=whiten)
        assert isinstance(made, Shared)
        return replace(made, anchors=anchors)

    def advice(self, problem: Problem) -> list[str]:
        """That there is no shared basis, if so."""
        wrong = unusable(problem)
        if wrong is None:
            return []
        return [
            "Clients send their own sketches, p numbers a row, as there are no anchors "
            f"for a shared basis: {wrong}"
        ]

    @property
    def apart(self) -> str | None:
        """Rows are of one client; so are the sketches that may be fallen back to."""
        if self.local is not None:
            return REMEMBERS
        if self.upload == "sums" and not self.fallback:
            return None
        return (
            "a client's rows are read by themselves; take upload sums in a shared basis"
        )

    def summed(self, ask: Record, total: Any, clients: int) -> Any:  # noqa: ANN401
        """Check numbers are the same of all, so their mean is that of each."""
        if not isinstance(ask, Anchored):
            return total
        return replace(total, check=total.check / clients)

    def points(self, ask: Record, memory: Memory | None) -> Tensor:
        """theta, or the candidates."""
        if isinstance(ask, Anchored):
            return super().points(ask, memory)
        known = _known(memory)
        if not isinstance(ask, Coordinates | CurveCoordinates):
            return known.theta[None]
        basis = self._anchors.basis(known.theta, known.span)
        if isinstance(ask, CurveCoordinates):
            return ask.plain(basis).candidates(known.theta)
        return ask.plain(basis, known.theta).candidates(known.theta)

    def scaled(self, factors: tuple[float, ...]) -> Method:
        """With anchors whose terms weigh as those of the clients."""
        return replace(self, anchors=self._anchors.scaled(factors))

    @property
    def _form(self) -> Form:
        return FORMS[self.upload]

    @property
    def _anchors(self) -> Anchors:
        if self.anchors is None:
            raise ValueError(
                "A shared basis needs a problem's anchors: run the method by "
                "fedsciml.run, or take method.bound(problem)."
            )
        return self.anchors

    def _gather(
        self, state: _fipa.State
    ) -> Generator[Record, Answers, _fipa.Merged | None]:
        """The exchange of rows or sums; a second one with one more direction."""
        assert isinstance(state, State)
        if self.fallback and (state.alarms >= 2 * PATIENCE or _large(state)):
            return (yield from super()._gather(state))
        span, counts = self._chosen(state)
        ask = self._anchored(state, span)
        sent = yield ask
        if not sent:
            return None
        outside = _outside(sent)
        if outside > ALARM:
            parts = yield Outward(state.round)
            counts, length, loss = self._anchors.more(counts), 0.0, total(sent.values())
            if parts:
                direction = added(part.gradient for part in parts.values())
                length = float(direction.norm())
            if 0 < length < math.inf and loss > 0:
                scale = length / (2 * loss) ** 0.5
                longer = replace(span, beyond=direction, scale=scale)
                again = self._anchored(state, longer)
                if told := (yield again):
                    ask, sent = again, told
        basis = self._anchors.basis(ask.theta, ask.span)
        whole = self._form.whole(self, basis, sent)
        gradients = {m: self._form.gradient(told, basis) for m, told in sent.items()}
        alarms = state.alarms + 2 if outside > ALARM else max(state.alarms - 1, 0)
        # In a span that is too small, what clients cannot do looks like contradiction.
        covered = outside <= COVERED and not alarms
        doubtful = state.doubtful and whole.targets and covered
        info = Info(
            total(sent.values()),
            ranks=whole.ranks,
            losses=losses(sent),
            suspects=contradicting(whole.problem, whole.targets) if doubtful else {},
            gradients={m: float(g.norm()) for m, g in gradients.items()},
            epochs=self.local.epochs if self.local else 1,
            basis=basis.size,
            outside=outside,
            condition=whole.condition,
        )
        kept = {
            "counts": torch.tensor(counts, dtype=torch.int32, device="cpu"),
            "rank": len(span.pivots),
            "limits": whole.limits,
            "alarms": alarms,
        }
        problem = basis.lifted(whole.problem)
        gradient = float(added(gradients.values()).norm())
        aimed = whole.aimed._replace(basis=problem.basis)
        return Merged(problem, aimed, gradient, info, kept, basis=basis)

    def _chosen(self, state: State) -> tuple[Span, tuple[int, ...]]:
        """The basis of the round, and how many anchors the next one begins with."""
        counts = () if state.counts is None else state.counts.tolist()
        reach = self._opening(state).reach
        wanted = state.at, reach, state.top, counts, state.rank, state.seed
        return self._anchors.chosen(*wanted)

    def _anchored(self, state: State, span: Span) -> Anchored:
        ask = self._opening(state)
        return Anchored(
            ask.theta,
            span,
            ask.round,
            ask.seed,
            ask.top,
            ask.gradient,
            ask.reach,
            ask.limits,
        )

    def _asking(
        self,
        state: _fipa.State,
        merged: _fipa.Merged,
        candidates: Candidates,
        steps: Tensor,
    ) -> Record:
        """The ask for losses of all candidates, by their coordinates."""
        if not isinstance(merged, Merged):
            return super()._asking(state, merged, candidates, steps)
        near, checked = checked_step(state.at, steps, merged.problem)
        inside, shrunk = candidates.coordinates @ merged.problem.basis, None
        if merged.beside is not None and merged.beside.outward:
            away = merged.basis.outside(state.at)
            shrunk = (inside @ away) / (away @ away)
        return Coordinates(
            merged.basis.coordinates(inside),
            steps.new_tensor(candidates.lengths),
            near,
            checked,
            candidates.beyond,
            shrunk,
        )

    def _curves(
        self, merged: _fipa.Merged, candidates: Candidates, bent: Bent
    ) -> Record:
        """The ask for losses along curves, by coordinates."""
        if not isinstance(merged, Merged):
            return super()._curves(merged, candidates, bent)
        own, basis = merged.problem.basis, merged.basis
        steps = basis.coordinates(candidates.coordinates[bent.which] @ own)
        lengths = steps.new_tensor(candidates.lengths)
        return CurveCoordinates(steps, basis.coordinates(bent.curves @ own), lengths)

    def _probed(
        self, merged: _fipa.Merged, candidates: Candidates, found: Iterable[Found]
    ) -> Probed:
        """What all clients found together: targets side by side, or their sum."""
        if not isinstance(merged, Merged):
            return super()._probed(merged, candidates, found)
        found = list(found)
        targets = self._form.targets(found) @ merged.problem.left
        return _fipa.probed(candidates, found, targets)

    def _tell(
        self, system: System, ask: Anchored, memory: Memory | None
    ) -> tuple[Record, Memory]:
        """A client's rows or sums."""
        basis = self._anchors.basis(ask.theta, ask.span)
        linear = linearised(system, ask.theta, basis, fold=not self._form.whiten)
        known, carried = (memory.known, memory.carried) if memory else (None, None)
        delta, own = None, None
        if self.local is not None:
            if ask.span.beyond is None or known is None:
                delta, _, carried = train(system, ask.theta, self.local, carried)
            else:  # asked again in the same round
                delta = known.delta
            own = None if delta is None else basis.coordinates(delta)
        who = system.shard.client, system.problem.clients
        answer, left = self._form.tell(self, ask, basis, linear, own, who)
        fold = None
        if linear.fold is not None:
            fold, left = linear.fold.factor, linear.fold.unfolded(left)
        left = left if self.policy.probes else left[:0]
        kept = Known(left.contiguous(), ask.theta, ask.span, delta, fold)
        return answer, Memory(kept, carried)

    def _outward(
        self, system: System, ask: Outward, memory: Memory
    ) -> tuple[Beyond, Memory]:
        """The part of a client's gradient that the span does not hold."""
        known = _known(memory)
        basis = self._anchors.basis(known.theta, known.span)
        return Beyond(basis.outside(system.linearise(known.theta).gradient)), memory

    def _found(
        self, system: System, ask: Coordinates, memory: Memory
    ) -> tuple[Found, Memory]:
        """A client's losses and targets at all steps and lengths."""
        known = _known(memory)
        basis = self._anchors.basis(known.theta, known.span)
        candidates = ask.plain(basis, known.theta).candidates(known.theta)
        losses, residuals = system.judged(candidates, known.theta)
        found = Found(losses, known.targets(system, basis, residuals))
        kept = replace(known, left=known.left[:0]) if self._curved else None
        return found, replace(memory, known=kept)

    def _told_along(
        self, system: System, ask: CurveCoordinates, memory: Memory
    ) -> tuple[CurveLosses, Memory]:
        """A client's losses along curves."""
        known = _known(memory)
        curves = ask.plain(self._anchors.basis(known.theta, known.span))
        losses = system.losses(curves.candidates(known.theta))
        return CurveLosses(losses), replace(memory, known=None)

    @property
    def client(self) -> Parts:
        """Rows or sums; where it is asked for the gradient; then the candidates."""
        shared: dict[type[Record], ClientPart] = {
            Anchored: self._tell,
            Outward: self._outward,
            Coordinates: self._found,
        }
        if self._curved:
            shared |= {CurveCoordinates: self._told_along}
        if not self.fallback:
            return shared
        return {**shared, **{kind: _own(p) for kind, p in super().client.items()}}

    @property
    def kinds(self) -> tuple[type, ...]:
        """The messages, of the local solvers and of the policy."""
        asked = (Anchored, Outward, Coordinates, CurveCoordinates, Span)
        told = (self._form.kind, Beyond, Known, Memory, Ago)
        return (*asked, *told, *super().kinds)

    def expects(self, ask: Record, size: int) -> Expected:
        """Rows or sums; the outside gradient; what is found, which may overflow."""
        if isinstance(ask, OWN):
            return super().expects(ask, size)
        if isinstance(ask, Outward):
            return Expected(Beyond, {"gradient": Field((size,))})
        if isinstance(ask, CurveCoordinates):
            return told_along(ask.curves, ask.lengths)
        if isinstance(ask, Coordinates):
            steps, k = ask.coordinates.shape
            count = steps * len(ask.lengths) + 1
            loss = Field((count,), finite=False, least=0)
            targets = Field((count, self._form.width(k)), finite=False, most=k)
            return Expected(Found, {"losses": loss, "targets": targets})
        assert isinstance(ask, Anchored)
        shared = {"check": Field((CHECKS,)), "products": Field((2, PRODUCTS))}
        own = self._form.fields(self, ask.span.size)
        fields = {"loss": LOSS, **shared, **own}
        return Expected(self._form.kind, fields, anew=True)

    def objection(
        self,
        problem: Problem,
        state: Any,  # noqa: ANN401
        client: int,
        said: Said,
        unit: float = 0.0,
    ) -> ValueError | None:
        """To another basis, or to what FIPA objects to in the sketch that this is."""
        if isinstance(said[0][0], OWN) or isinstance(said[-1][1], CurveLosses):
            return super().objection(problem, state, client, said, unit)
        number = max(i for i, (ask, _) in enumerate(said) if isinstance(ask, Anchored))
        (opening, first), (ask, answer) = said[number], said[-1]
        assert isinstance(opening, Anchored)
        told = first
        basis = self._anchors.basis(opening.theta, opening.span)
        if isinstance(answer, Beyond):
            summand = opening.top * (2 * told.loss) ** 0.5
            return another(opening, basis, told, answer, unit, summand)
        if not bounded(problem):
            told = replace(first, loss=math.inf)  # no law compares with it
        if answer is first:
            if wrong := self._form.wrong(told, basis.size, unit):
                return Inconsistent(wrong)
            if other := differs(basis, opening, told.check):
                return other
        lifted, plain = self._form.lifted(told, basis, unit), opening.plain
        top = plain.top or float(lifted.sketched.factor.norm())
        top = top or float(basis.triangle.norm()) or 1.0
        if answer is first:
            missed = 0.0 if self._form.whiten else plain.reach * top
            complete = self._form.whiten or isinstance(self.rank, AboveCutoff)
            gradient = basis.steps(self._form.gradient(told, basis))
            own = top * (2 * first.loss) ** 0.5
            if complete and (
                wrong := unlike(opening, told, gradient, missed, unit, own)
            ):
                return Inconsistent(wrong)
        reach = max(plain.reach, lifted.unclear / top)
        changed = replace(plain, reach=reach, top=top)
        sketched = replace(lifted.sketched, loss=lifted.slack * first.loss)
        asked: tuple[Record, Any] = changed, sketched
        conversation = [asked]
        if isinstance(ask, Coordinates):
            targets = answer.targets @ lifted.left
            found = Found(lifted.slack * answer.losses, targets)
            conversation.append((ask.plain(basis, opening.theta), found))
        return super().objection(problem, state, client, conversation, unit)

    def remembered(self, ask: Record, answer: Any) -> Record | None:  # noqa: ANN401
        """The problem for D that a client's rows or sums are."""
        if isinstance(ask, OWN):
            return super().remembered(ask, answer)
        if not isinstance(ask, Anchored):
            return None
        basis = self._anchors.basis(ask.theta, ask.span)
        sketched = self._form.lifted(answer, basis).sketched
        return Ago(Last(sketched, ask.theta), ask.span)

    def stand_in(self, ask: Record, last: Any) -> tuple[Record, Record]:  # noqa: ANN401
        """What an absent client with a linear residual would say, as in FIPA.

        Its rows are those of its last problem.
        """
        if isinstance(ask, OWN):
            return super().stand_in(ask, last.last if isinstance(last, Ago) else last)
        plain, theta = last.last.sketched, last.last.theta
        if isinstance(ask, Anchored):
            moved, _ = super().stand_in(ask.plain, last.last)
            assert isinstance(moved, Sketched)
            basis = self._anchors.basis(ask.theta, ask.span)
            linear = _standing(moved, basis)
            answer, left = self._form.tell(self, ask, basis, linear, None, (0, 1))
            ago = Ago(Last(moved, ask.theta), ask.span, left)
            desired = None if moved.desired is None else left.mT @ moved.desired
            return replace(answer, loss=moved.loss, desired=desired), ago
        basis = self._anchors.basis(theta, last.span)
        if isinstance(ask, Outward):
            return Beyond(basis.outside(-(plain.target @ plain.factor))), last
        if curved := isinstance(ask, CurveCoordinates):
            steps: Curves | Probe = ask.plain(basis)
        else:
            assert isinstance(ask, Coordinates)
            steps = ask.plain(basis, theta)
        moves = steps.candidates(torch.zeros_like(theta))
        found = _judged(moves @ plain.factor.mT - plain.target, last.left)
        unseen = plain.loss - float(plain.target @ plain.target) / 2
        losses = (found.losses + unseen).clamp(min=0)
        return CurveLosses(losses) if curved else replace(found, losses=losses), last


@dataclass(frozen=True)
class Sharing(Fipa):
    """FIPA in a shared basis where a problem has anchors, and by own sketches else.

    Until it is bound, and where anchors keep missing what clients have, it is FIPA by
    own sketches.

    Args:
        free: Whether rank and policy may be others where there is no shared basis, the
            loss is no sum of squares, and the network not ``SMALL``: with gradients,
            and lazy sketches of ``FEW`` rows. All rows that matter are hundreds then,
            and steps hardly better for them where the loss is not zero at its least.
    """

    free: bool = False

    def bound(
        self,
        problem: Problem,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> Method:
        """What suits the problem."""
        if problem.personal:  # what clients have of their own is not in the anchors
            return Fipa(**_options(self)).bound(problem, device, dtype)
        many = problem.network.size > SMALL
        if self.free and many and not problem.squares and unusable(problem):
            lazy = Slopes(rank=Fixed(FEW), every=LAZY)
            return lazy.bound(problem, device, dtype)
        shared = Shared(**_options(self), fallback=True)
        return shared.bound(problem, device, dtype)


def _options(method: Fipa) -> dict[str, Any]:
    """The fields of FIPA by own sketches."""
    return {f.name: getattr(method, f.name) for f in fields(Fipa)}


def _own(part: ClientPart) -> ClientPart:
    """A client's half with own sketches, which knows nothing of a shared basis."""

    def answered(
        system: System, ask: Record, memory: Record | None
    ) -> tuple[Record, Record | None]:
        if isinstance(memory, Memory):
            memory = _fipa.Memory(FIRST_RANK, carried=memory.carried)
        return part(system, ask, memory)

    return answered


def _large(state: State) -> bool:
    """Whether the last basis was so large that it did not pay."""
    return state.rank > max(LARGE * len(state.theta), FIRST_RANK)


def _judged(residuals: Tensor, left: Tensor) -> Found:
    """Losses and targets of residuals [N, n]."""
    return Found(residuals.square().sum(1) / 2, -(residuals @ left))


def _standing(moved: Sketched, basis: Basis) -> Linear:
    """The rows of a problem for D in a basis."""
    residual, reduced = -moved.target, basis.restricted(moved.factor)
    return Linear(reduced, residual, residual @ moved.factor)


def _outside(sent: Answers) -> float:
    """Part of the whole gradient outside of the span, from the sums of its products."""
    told: Iterable[Told] = sent.values()
    whole, beyond = added(answer.products for answer in told).norm(dim=1).tolist()
    part = beyond / max(whole, TINY)
    return min(part, 1.0) if math.isfinite(part) else 1.0


def _known(memory: Memory | None) -> Known:
    if memory is None or memory.known is None:
        raise ValueError("A client was asked for losses before it sent rows or sums.")
    return memory.known
