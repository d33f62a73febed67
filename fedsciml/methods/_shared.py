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
Where the whole gradient lies outside by more than ``ALARM``, the clients send these
parts, p numbers each, and their sum becomes one more direction of the same round.
"""

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from fedsciml.linalg.basis import (
    CHECKS,
    SEEN,
    Basis,
    gramian,
    packed,
    root,
    summed,
    symmetric,
    trapezoid,
    unpacked,
)
from fedsciml.linalg.randomised import gaussian
from fedsciml.linalg.ranks import Budget
from fedsciml.linalg.sketch import from_jacobian, truncate
from fedsciml.methods import _base, _fipa
from fedsciml.methods._base import (
    LOSS,
    Answers,
    Expected,
    Field,
    Info,
    Method,
    Parts,
    Said,
)
from fedsciml.methods._fipa import Fipa, Found, Last, Sketched, aim, checked_step, merge
from fedsciml.methods._laws import contradicting
from fedsciml.methods._local import CARRIED, Carried, train
from fedsciml.methods._records import Record
from fedsciml.methods._sketching import (
    FIRST_RANK,
    LARGEST_JACOBIAN,
    context,
    generator,
    limits,
)
from fedsciml.methods._sums import added, losses, total
from fedsciml.policies import MARGIN, Candidates, Probed
from fedsciml.problem import Problem
from fedsciml.residual import System
from fedsciml.residual.anchors import Anchors, Span

Upload = Literal["rows", "sums"]
"""A client's own rows of the shared basis, or what only needs to be added."""

PRODUCTS = 8
"""Random products that measure what lies outside: to a third of its norm."""

ALARM = 0.01
"""Part of the gradient outside of the span from which it is asked for."""

AGREE = {torch.float64: 1e-10, torch.float32: 1e-3}
"""Difference of check numbers, relative, up to which two bases are the same. Rounding
makes 1e-15 of it; a step realised in a basis that differs by so much is that step to
four digits and better."""


class State(_fipa.State):
    """FIPA's, and what the next basis begins with.

    Attributes:
        counts: Anchors of each term, shape [T], int32.
        rank: Directions of the last basis.
    """

    counts: Tensor | None = None
    rank: int = FIRST_RANK


class Anchored(_base.Opening):
    """Asks for rows or sums at theta in the basis of a span; else as FIPA's."""

    span: Span
    round: int
    seed: int
    top: float
    gradient: float
    reach: float
    limits: Tensor | None = None

    @property
    def plain(self) -> _fipa.Opening:
        """What it would be with own sketches."""
        return _fipa.Opening(
            self.theta,
            self.round,
            self.seed,
            self.top,
            self.gradient,
            self.reach,
            self.limits,
        )


class Rows(Record):
    """A client's problem B z ~ c in the coordinates z of D = Q z.

    Attributes:
        numbers: Of the trapezoid B [r, k], row by row.
        target: c = -U^T r, shape [r].
        loss: 1/2 |r|^2.
        check: By which the bases are compared, shape [CHECKS].
        outside: Products of the gradient's outside part, shape [PRODUCTS].
        desired: B z of the client's own step, where it trained, shape [r].
        spectrum: As in ``_fipa.Sketched``.
    """

    numbers: Tensor
    target: Tensor
    loss: float
    check: Tensor
    outside: Tensor
    desired: Tensor | None = None
    spectrum: Tensor | None = None


class Sums(Record):
    """What of a client's problem only needs to be added to that of the others.

    Attributes:
        gramian: Upper triangle of A^T A row by row, shape [k (k + 1) / 2].
        target: -A^T r, shape [k].
        loss: 1/2 |r|^2.
        check: By which the bases are compared, shape [CHECKS].
        outside: Products of the gradient's outside part, shape [PRODUCTS].
        desired: A^T A y of the client's own step W y, where it trained, shape [k].
    """

    gramian: Tensor
    target: Tensor
    loss: float
    check: Tensor
    outside: Tensor
    desired: Tensor | None = None


class Outward(Record):
    """Asks for the outside part of the gradient, in the basis of this round."""

    round: int


class Beyond(Record):
    """A client's part of it, shape [p]."""

    gradient: Tensor


class Coordinates(Record):
    """As ``_fipa.Probe``, with steps D = Q z + what is beyond the span.

    Attributes:
        coordinates: z, shape [T, k].
        lengths: t, shape [S].
        near: Length of the step ``checked`` next to theta.
        checked: Number of a step.
        beyond: Shape [T, p]; None for nothing.
    """

    coordinates: Tensor
    lengths: Tensor
    near: float
    checked: int
    beyond: Tensor | None = None

    def plain(self, basis: Basis) -> _fipa.Probe:
        """What it would be with own sketches."""
        steps = basis.steps(self.coordinates)
        steps = steps if self.beyond is None else steps + self.beyond
        return _fipa.Probe(steps, self.lengths, self.near, self.checked)


class Known(Record):
    """What a client remembers of its upload until the round ends.

    Attributes:
        left: U or A, shape [n, r] or [n, k]: targets are -left^T r.
        theta: Where it was made, shape [p].
        span: In what basis.
        delta: Its own step, where it trained, shape [p].
    """

    left: Tensor
    theta: Tensor
    span: Span
    delta: Tensor | None = None


class Memory(Record):
    """As ``_fipa.Memory``."""

    known: Known | None = None
    carried: Carried | None = None


class Ago(Record):
    """A client's last problem [r, p] for D, and the basis that it was told in."""

    last: Last
    span: Span


class Linear(NamedTuple):
    """A client's rows in the coordinates of a basis, linearised.

    Attributes:
        reduced: J Q, shape [n, k].
        residual: r, shape [n].
        outside: Part of J^T r that the span does not hold, shape [p].
    """

    reduced: Tensor
    residual: Tensor
    outside: Tensor


@dataclass(frozen=True, eq=False)
class Merged(_fipa.Merged):
    """FIPA's, and the basis that it was told in."""

    basis: Basis


@dataclass(frozen=True)
class Shared(Fipa):
    """FIPA in a shared basis; bound to a problem before it runs.

    Args:
        upload: What clients send.
        anchors: Where the basis comes from; ``bound`` gives them.
    """

    upload: Upload = "rows"
    anchors: Anchors | None = field(default=None, compare=False, repr=False)

    _first: ClassVar[type[_fipa.State]] = State
    _fixed: ClassVar[int] = CHECKS + PRODUCTS

    def bound(
        self,
        problem: Problem,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> Method:
        """With the problem's anchors; by own sketches where it has none."""
        if missing(problem):
            return Fipa(*_plain_options(self))
        whiten = self.upload == "sums"
        return replace(self, anchors=Anchors(problem, device, dtype, whiten=whiten))

    def advice(self, problem: Problem) -> list[str]:
        """That there is no shared basis, if so."""
        wrong = missing(problem)
        if wrong is None:
            return []
        return [
            "Clients send their own sketches, p numbers a row, as there are no anchors "
            f"for a shared basis: {wrong}"
        ]

    def scaled(self, factors: tuple[float, ...]) -> Method:
        """With anchors whose terms weigh as those of the clients."""
        return replace(self, anchors=self._anchors.scaled(factors))

    @property
    def _anchors(self) -> Anchors:
        if self.anchors is None:
            raise ValueError(
                "A shared basis needs a problem's anchors: run the method by "
                "fedsciml.run, or take method.bound(problem)."
            )
        return self.anchors

    def _gather(self, state: _fipa.State) -> Generator[Record, Answers, Merged]:
        """The exchange of rows or sums; a second one with one more direction."""
        assert isinstance(state, State)
        plain, before = self._opening(state), state.counts
        span, counts = self._anchors.chosen(
            state.at,
            plain.reach,
            state.top,
            () if before is None else before.tolist(),
            state.rank,
            state.seed,
        )
        ask = _anchored(plain, span)
        sent = yield ask
        missed = _norm(sent.values())
        inside = float(self._gradient(ask, sent).norm())
        if missed > ALARM * (missed**2 + inside**2) ** 0.5:
            parts = yield Outward(state.round)
            direction = added(part.gradient for part in parts.values())
            scale = float(direction.norm()) / (2 * total(sent.values())) ** 0.5
            ask = _anchored(plain, replace(span, beyond=direction, scale=scale))
            counts = self._anchors.more(counts)
            sent = yield ask
        return self._merged(state, ask, sent, counts, missed)

    def _gradient(self, ask: Anchored, sent: Answers) -> Tensor:
        """J^T r in coordinates z, of all clients, shape [k]."""
        basis = self._anchors.basis(ask.theta, ask.span)
        return added(_gradient(answer, basis) for answer in sent.values())

    def _merged(
        self,
        state: State,
        ask: Anchored,
        sent: Answers,
        counts: tuple[int, ...],
        missed: float,
    ) -> Merged:
        """All clients' problem from their answers."""
        basis = self._anchors.basis(ask.theta, ask.span)
        gradients = {m: _gradient(answer, basis) for m, answer in sent.items()}
        inside = float(added(gradients.values()).norm())
        kept: dict[str, Any] = {"rank": len(ask.span.pivots)}
        kept["counts"] = torch.tensor(counts, dtype=torch.int32, device="cpu")
        suspects: dict[int, float] = {}
        if self.upload == "sums":
            k = basis.size
            gram = symmetric(added(a.gramian for a in sent.values()), k)
            problem = summed(basis, gram, added(a.target for a in sent.values()))
            aimed, ranks = problem, (k,) * len(sent)
            desired = [a.desired for a in sent.values() if a.desired is not None]
            if desired:
                aimed = problem._replace(c=added(desired) @ problem.left)
        else:
            plain = {m: _plain(answer, basis.size) for m, answer in sent.items()}
            problem, _ = merge(plain.values())
            aimed, targets = aim(problem, plain.values()), _targets(plain)
            suspects = contradicting(problem, targets) if state.doubtful else {}
            ranks = tuple(len(a.target) for a in plain.values())
            rows = self._rows(basis.size, len(sent), state.theta)
            spectra = {m: answer.spectrum for m, answer in sent.items()}
            kept["limits"] = limits(spectra, rows)
        problem = basis.lifted(problem)
        info = Info(
            total(sent.values()),
            ranks=ranks,
            losses=losses(sent),
            suspects=suspects,
            gradients={m: float(g.norm()) for m, g in gradients.items()},
            epochs=self.local.epochs if self.local else 1,
            basis=basis.size,
            outside=missed / max((missed**2 + inside**2) ** 0.5, TINY),
        )
        aimed = aimed._replace(basis=problem.basis)
        return Merged(problem, aimed, inside, info, kept, basis)

    def _asking(
        self,
        state: _fipa.State,
        merged: _fipa.Merged,
        candidates: Candidates,
        steps: Tensor,
    ) -> Record:
        """The ask for losses of all candidates, by their coordinates."""
        assert isinstance(merged, Merged)
        near, checked = checked_step(state.at, steps, merged.problem)
        inside = candidates.coordinates @ merged.problem.basis
        return Coordinates(
            merged.basis.coordinates(inside),
            steps.new_tensor(candidates.lengths),
            near,
            checked,
            candidates.beyond,
        )

    def _probed(
        self, merged: _fipa.Merged, candidates: Candidates, found: Iterable[Found]
    ) -> Probed:
        """What all clients found together: targets side by side, or their sum."""
        if self.upload == "rows":
            return super()._probed(merged, candidates, found)
        found = list(found)
        targets = added(a.targets[:-1] for a in found) @ merged.problem.left
        return _fipa.probed(candidates, found, targets)

    def _anchored(
        self, system: System, ask: Anchored, memory: Memory | None
    ) -> tuple[Record, Memory]:
        """A client's rows or sums."""
        basis = self._anchors.basis(ask.theta, ask.span)
        linear = _linear(system, ask.theta, basis)
        known, carried = (memory.known, memory.carried) if memory else (None, None)
        delta = None
        if self.local is not None:
            if ask.span.beyond is None or known is None:
                delta, _, carried = train(system, ask.theta, self.local, carried)
            else:  # asked again in the same round
                delta = known.delta
        client, clients = system.shard.client, system.problem.clients
        answer, left = self._told(ask, basis, linear, delta, client, clients)
        known = Known(left, ask.theta, ask.span, delta)
        return answer, Memory(known, carried)

    def _told(
        self,
        ask: Anchored,
        basis: Basis,
        linear: Linear,
        delta: Tensor | None,
        client: int,
        clients: int,
    ) -> tuple[Rows | Sums, Tensor]:
        """What is sent of a linear problem, and ``left`` [n, .] of it."""
        random = generator(ask.seed, ask.round, -1)
        check = basis.check(random)
        draws = gaussian(PRODUCTS, len(ask.theta), random, ask.theta)
        outside = draws @ linear.outside
        loss = float(linear.residual @ linear.residual) / 2
        own = None if delta is None else basis.coordinates(delta)
        if self.upload == "sums":
            a = basis.whitened(linear.reduced)
            desired = None if own is None else a.mT @ (linear.reduced @ own)
            sums = gramian(a), -(linear.residual @ a), loss, check, outside, desired
            return Sums(*sums), a
        found = from_jacobian(linear.reduced, linear.residual)
        values = found.singular_values
        cutoff = ask.reach * (ask.top or float(values.norm()))
        least = ask.reach * ask.top / MARGIN  # sqrt(mu) of the steps to come
        rows = self._rows(basis.size, clients, ask.theta)
        known = context(client, clients, ask, cutoff, found.gradient, least**2, rows)
        wanted = found.target if own is None else found.factor @ own
        found = trapezoid(truncate(found, self.rank(values, wanted, known)))
        assert found.left is not None
        desired = None if own is None else found.factor @ own
        told = packed(found.factor), found.target, loss, check, outside, desired
        return Rows(*told, values[:rows] if rows else None), found.left

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
        residuals = system.residuals(ask.plain(basis).candidates(known.theta))
        return _judged(residuals, known.left), replace(memory, known=None)

    @property
    def client(self) -> Parts:
        """Rows or sums; where it is asked for the gradient; then the candidates."""
        return {
            Anchored: self._anchored,
            Outward: self._outward,
            Coordinates: self._found,
        }

    @property
    def kinds(self) -> tuple[type, ...]:
        """The types of this file, of the local solvers and of the policy."""
        own = (State, Anchored, Span, Rows, Sums, Outward, Beyond, Coordinates, Found)
        kept = (Known, Memory, Ago, Last, Sketched)
        return (*own, *kept, *CARRIED, *self.policy.kinds)

    def expects(self, ask: Record, size: int) -> Expected:
        """Rows or sums; the outside gradient; what is found, which may overflow."""
        if isinstance(ask, Outward):
            return Expected(Beyond, {"gradient": Field((size,))})
        if isinstance(ask, Coordinates):
            steps, k = ask.coordinates.shape
            count = steps * len(ask.lengths) + 1
            width: int | str = f"r of {k}" if self.upload == "rows" else k
            loss = Field((count,), finite=False, least=0)
            targets = Field((count, width), finite=False, most=k)
            return Expected(Found, {"losses": loss, "targets": targets})
        assert isinstance(ask, Anchored)
        k = ask.span.size
        triangle = k * (k + 1) // 2
        fields: dict[str, Any] = {
            "loss": LOSS,
            "check": Field((CHECKS,)),
            "outside": Field((PRODUCTS,)),
        }
        # Asked again with one direction more, a client may send more rows.
        own: int | str = f"r of {k}" if self.upload == "rows" else k
        fields["target"] = Field((own,), scale=True, most=k)
        if self.local is not None:
            fields["desired"] = Field((own,), scale=True, most=k)
        if self.upload == "sums":
            fields["gramian"] = Field((triangle,), scale=True, bulk=True)
            return Expected(Sums, fields)
        numbers = Field((f"numbers of {k}",), scale=True, most=triangle, bulk=True)
        fields["numbers"] = numbers
        if isinstance(self.rank, Budget):
            fields["spectrum"] = Field((f"values of {k}",))
        return Expected(Rows, fields)

    def objection(
        self,
        problem: Problem,
        state: Any,  # noqa: ANN401
        client: int,
        said: Said,
        unit: float = 0.0,
    ) -> ValueError | None:
        """To another basis, or to what FIPA objects to in the sketch that this is."""
        number = max(i for i, (ask, _) in enumerate(said) if isinstance(ask, Anchored))
        (opening, told), (ask, answer) = said[number], said[-1]
        assert isinstance(opening, Anchored)
        if isinstance(answer, Beyond):
            return None
        basis = self._anchors.basis(opening.theta, opening.span)
        if answer is told and (wrong := _differs(basis, opening, told)):
            return wrong
        clear = max(CLEAR, 1e3 * unit)
        sketch, left = _lifted(told, basis, clear)
        plain, slack = opening.plain, 1.0
        if self.upload == "sums":  # what is not clear is not there
            slack += 10 * max(unit, torch.finfo(basis.triangle.dtype).eps) / clear
            size = symmetric(told.gramian, basis.size).trace().clamp(min=0) * clear
            unclear = float(basis.scales.norm() * size.sqrt())
            plain = replace(plain, reach=max(plain.reach, unclear / (plain.top or 1.0)))
        sketch = replace(sketch, loss=slack * sketch.loss)
        conversation: list[tuple[Record, Any]] = [(plain, sketch)]
        if isinstance(ask, Coordinates):
            found = Found(slack * answer.losses, answer.targets @ left)
            conversation.append((ask.plain(basis), found))
        return super().objection(problem, state, client, conversation, unit)

    def remembered(self, ask: Record, answer: Any) -> Record | None:  # noqa: ANN401
        """The problem for D that a client's rows or sums are."""
        if not isinstance(ask, Anchored):
            return None
        basis = self._anchors.basis(ask.theta, ask.span)
        return Ago(Last(_lifted(answer, basis, SEEN)[0], ask.theta), ask.span)

    def stand_in(self, ask: Record, last: Any) -> tuple[Record, Record]:  # noqa: ANN401
        """What an absent client with a linear residual would say, as in FIPA.

        Its rows are those of its last problem.
        """
        plain, theta = last.last.sketched, last.last.theta
        if isinstance(ask, Anchored):
            moved, _ = super().stand_in(ask.plain, last.last)
            assert isinstance(moved, Sketched)
            basis, residual = self._anchors.basis(ask.theta, ask.span), -moved.target
            outside = basis.outside(residual @ moved.factor)
            linear = Linear(basis.restricted(moved.factor), residual, outside)
            answer, left = self._told(ask, basis, linear, None, 0, 1)
            if isinstance(answer, Rows):  # the rows as they are told
                factor, target = left.mT @ moved.factor, left.mT @ moved.target
                moved = replace(moved, factor=factor, target=target)
            ago = Ago(Last(moved, ask.theta), ask.span)
            return replace(answer, loss=moved.loss), ago
        basis = self._anchors.basis(theta, last.span)
        if isinstance(ask, Outward):
            return Beyond(basis.outside(-(plain.target @ plain.factor))), last
        assert isinstance(ask, Coordinates)
        moves = ask.plain(basis).candidates(torch.zeros_like(theta))
        left = torch.eye(len(plain.target)).to(theta)
        if self.upload == "sums":
            left = basis.whitened(basis.restricted(plain.factor))
        found = _judged(moves @ plain.factor.mT - plain.target, left)
        unseen = plain.loss - float(plain.target @ plain.target) / 2
        return replace(found, losses=(found.losses + unseen).clamp(min=0)), last


@dataclass(frozen=True)
class Sharing(Fipa):
    """FIPA in a shared basis where a problem has anchors, and by own sketches else.

    Until it is bound it is FIPA by own sketches.
    """

    def bound(
        self,
        problem: Problem,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> Method:
        """What suits the problem."""
        return Shared(*_plain_options(self)).bound(problem, device, dtype)


def _plain_options(method: Fipa) -> tuple[Any, ...]:
    """The fields of FIPA by own sketches."""
    return tuple(getattr(method, f.name) for f in fields(Fipa))


TINY = torch.finfo(torch.float64).tiny

CLEAR = 1e-8
"""Eigenvalue of a client's gramian, relative to the largest, above which its answers
are held against each other: its square root loses half of the digits."""


def missing(problem: Problem) -> str | None:
    """Why a problem has no anchors; None if it has.

    A sample is a user's function, as is a target at the points that it draws.
    """
    try:
        problem.anchors(1)
    except ValueError as error:
        return str(error)
    except Exception as error:
        return f"drawing them raises {type(error).__name__}: {error}"
    return None


def _anchored(plain: _fipa.Opening, span: Span) -> Anchored:
    return Anchored(
        plain.theta,
        span,
        plain.round,
        plain.seed,
        plain.top,
        plain.gradient,
        plain.reach,
        plain.limits,
    )


def _linear(system: System, theta: Tensor, basis: Basis) -> Linear:
    """A client's rows at theta, piece by piece: J is never in memory as a whole."""
    rows = LARGEST_JACOBIAN // (theta.element_size() * system.size)
    reduced = [theta.new_zeros(0, basis.size)]
    residual, gradient = [theta.new_zeros(0)], torch.zeros_like(theta)
    for part in system.parts(theta, rows):
        jacobian = part.jacobian()
        reduced.append(basis.restricted(jacobian))
        residual.append(part.residual)
        gradient += part.residual @ jacobian
    return Linear(torch.cat(reduced), torch.cat(residual), basis.outside(gradient))


def _judged(residuals: Tensor, left: Tensor) -> Found:
    """Losses and targets of residuals [N, n]."""
    return Found(residuals.square().sum(1) / 2, -(residuals @ left))


def _plain(answer: Rows, k: int) -> Sketched:
    """A client's rows as a sketch [r, k]."""
    factor = unpacked(answer.numbers, len(answer.target), k)
    return Sketched(factor, answer.target, answer.loss, answer.desired, answer.spectrum)


def _lifted(told: Rows | Sums, basis: Basis, seen: float) -> tuple[Sketched, Tensor]:
    """A client's problem for D [r, p], and what maps its targets to those of it."""
    if isinstance(told, Rows):
        plain = _plain(told, basis.size)
        left = torch.eye(len(told.target)).to(told.target)
        return replace(plain, factor=basis.steps(plain.factor)), left
    gram = symmetric(told.gramian, basis.size)
    factor, inverse = root(gram, seen)
    factor = basis.steps(factor @ basis.scales)
    return Sketched(factor, told.target @ inverse, told.loss), inverse


def _differs(basis: Basis, ask: Anchored, told: Rows | Sums) -> ValueError | None:
    """Why a client's basis is another one, or its numbers are no trapezoid."""
    k = basis.size
    if isinstance(told, Rows):
        r = len(told.target)
        wanted = r * k - r * (r - 1) // 2
        if len(told.numbers) != wanted:
            return ValueError(
                f"its {r} rows in {k} directions have {len(told.numbers)} numbers, not "
                f"{wanted}"
            )
    own = basis.check(generator(ask.seed, ask.round, -1))
    size = float(basis.triangle.norm()) * k**0.5
    differ = float((told.check - own).abs().max()) / max(size, TINY)
    if differ <= AGREE[own.dtype]:
        return None
    return ValueError(
        f"its basis is not that of the server, the check numbers differ by "
        f"{differ:.1e}: it computes another Jacobian at the anchors. Give it the same "
        "problem, versions and dtype"
    )


def _gradient(answer: Rows | Sums, basis: Basis) -> Tensor:
    """J^T r of a client in the coordinates z, shape [k]."""
    if isinstance(answer, Sums):
        return -(answer.target @ basis.scales)
    plain = _plain(answer, basis.size)
    return -(plain.target @ plain.factor)


def _targets(plain: Mapping[int, Sketched]) -> dict[int, Tensor]:
    return {m: answer.target for m, answer in plain.items()}


def _norm(sent: Iterable[Rows | Sums]) -> float:
    """Of the whole gradient's outside part, from the sum of its random products."""
    return float(added(answer.outside for answer in sent).norm()) / PRODUCTS**0.5


def _known(memory: Memory | None) -> Known:
    if memory is None or memory.known is None:
        raise ValueError("A client was asked for losses before it sent rows or sums.")
    return memory.known
