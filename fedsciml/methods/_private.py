"""FIPA by sums with differential privacy: bounded rows, and noise that hides a point.

``_privacy`` says who is hidden, what a point may weigh and what noise a sum needs. This
module is the rounds: one exchange each, no probe, nothing else that is told of data.
Bounds go to the clients in the ask, and the noise follows from the same ask, so that a
server can name no bounds under which a point is hidden less.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedsciml.linalg.basis import CHECKS, Basis, gramian, summed, symmetric
from fedsciml.methods import _fipa
from fedsciml.methods._agree import differs
from fedsciml.methods._anchored import PRODUCTS, Anchored, State, Whole
from fedsciml.methods._base import Answers, Budget, Expected, Field, Method, Parts, Said
from fedsciml.methods._fipa import Fipa
from fedsciml.methods._privacy import (
    Bounds,
    Privacy,
    check_bounds,
    clipped,
    longest,
    scales,
)
from fedsciml.methods._records import Record
from fedsciml.methods._shared import Shared
from fedsciml.methods._sketching import LARGEST_JACOBIAN, generator
from fedsciml.methods._summed import BySums, Sums
from fedsciml.methods._sums import added
from fedsciml.problem import Problem, SiteError
from fedsciml.residual import System
from fedsciml.residual.anchors import Span, unusable


class PrivateState(State):
    """That of a shared basis, and what bounds the next round.

    Attributes:
        most: C_r of the next round; 0 before the first.
        spent: Releases that are paid for.
    """

    most: float = 0.0
    spent: int = 0


class Bounded(Anchored):
    """Asks for sums in which no point weighs more than it may.

    Attributes:
        row: C_a.
        residual: C_r.
    """

    row: float = 0.0
    residual: float = 0.0

    @property
    def bounds(self) -> Bounds:
        """Both."""
        return Bounds(self.row, self.residual)


class Bare(Record):
    """What is told of a client's points, all of which gets noise but ``check``.

    Attributes:
        target: -A^T r, shape [k].
        loss: 1/2 |r|^2.
        check: By which the bases are compared, shape [CHECKS].
        gramian: As of ``Sums``; None where it is not told.
    """

    target: Tensor
    loss: float
    check: Tensor
    gramian: Tensor | None = None


@dataclass(frozen=True)
class Noisy(BySums):
    """Sums with noise, as the server reads them.

    Args:
        privacy: Says whether the gramian is told.
        points: N.
    """

    privacy: Privacy
    points: int

    def whole(self, method: Fipa, basis: Basis, answers: Answers) -> Whole:
        """From the noisy sum.

        Where the gramian is told, its eigenvalues, but none below sqrt(2 k) z g, the
        spectral norm of noise alone; and else the anchors' own gramian, which is 1.
        """
        k = basis.size
        target = added(a.target for a in answers.values())
        gram = torch.eye(k, dtype=target.dtype, device=target.device)
        if self.privacy.gramian:
            told = symmetric(added(a.gramian for a in answers.values()), k)
            w, x = torch.linalg.eigh(told)
            bounds = Bounds(longest(self.privacy, k, self.points), 1.0)
            noise = self.privacy.multiplier * scales(self.privacy, bounds).gramian
            gram = (x * w.clamp(min=(2 * k) ** 0.5 * noise)) @ x.mT
        problem = summed(basis, gram, target)
        return Whole(problem, problem, (k,) * len(answers), {})


@dataclass(frozen=True)
class Private(Shared):
    """FIPA by sums with noise; a wrapper that forms the sums adds it.

    Args:
        privacy: What may be told of a point.
        total: N, points of all clients and terms; ``bound`` counts them.
        safe: Whether the sums get their noise; see ``noised``.

    Raises:
        ValueError: If the policy probes, clients train, or they send anything but sums.
    """

    privacy: Privacy = field(default_factory=lambda: Privacy(1.0, 1e-5))
    total: int | None = None
    safe: bool = False

    _first: ClassVar[type[_fipa.State]] = PrivateState

    def __post_init__(self) -> None:
        if self.upload != "sums":
            raise ValueError(
                f"Differential privacy is for sums; got upload {self.upload}. Take "
                "basis shared and upload sums."
            )
        if self.policy.probes:
            raise ValueError(
                f"The policy {type(self.policy).__name__} asks for losses at "
                "candidates, each of which would be one more release. Take one that "
                "does not probe: hindsight, or fixed:damping=1e-3."
            )
        if self.local is not None or self.fallback:
            raise ValueError(
                "With differential privacy clients take exact local steps in the "
                "shared basis: leave local training and fallback out."
            )

    def bound(
        self,
        problem: Problem,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> Method:
        """With the problem's anchors and its number of points.

        Raises:
            ValueError: If there are no anchors, or the points cannot be counted.
        """
        if wrong := unusable(problem):
            raise ValueError(
                "Differential privacy needs a basis from public points, and there are "
                f"no anchors: {wrong}"
            )
        if not problem.squares or problem.prior:
            raise ValueError(
                "Differential privacy is derived for losses that are sums of squares; "
                f"problem '{problem.name}' has another likelihood, or a prior."
            )
        if dtype != torch.float64:
            raise ValueError(
                "Differential privacy needs float64: rounding is as large as noise in "
                f"{dtype}."
            )
        points, given = self._counted(problem), self.privacy.points
        known = problem.total
        if given is not None and known is not None and known != given:
            raise ValueError(
                f"Privacy was given {given} points, but the clients have {known}."
            )
        if points is None:
            raise ValueError(
                "How many points all clients have is not known here. Give it as "
                "agreed: points=N of the privacy."
            )
        return Shared.bound(replace(self, total=points), problem, device, dtype)

    def _counted(self, problem: Problem) -> int | None:
        """N; None where it is not known."""
        return problem.total if self.privacy.points is None else self.privacy.points

    def advice(self, problem: Problem) -> list[str]:
        """That there is more noise than there are data, or a large delta, if so."""
        points, needed = self._counted(problem), self.privacy.needed
        if points is None:
            return []
        told = []
        if self.privacy.delta > 1 / points:
            told.append(
                f"Delta {self.privacy.delta:g} is more than one over the number of "
                f"points, {points}: of so many one might be told in full. Take less."
            )
        if points >= needed:
            return told
        return [
            *told,
            f"Of {points} points the noise drowns what they tell: with epsilon "
            f"{self.privacy.epsilon:g} in {self.privacy.releases} releases even the "
            f"loss needs {needed:.0f}, and a step far more. Take more points, fewer "
            "releases, or a larger epsilon.",
        ]

    def scaled(self, factors: tuple[float, ...]) -> Method:
        """Not possible.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "Rows are balanced by what clients tell of their gramians, which would be "
            "one more release: leave out balance, or differential privacy."
        )

    @property
    def _form(self) -> Noisy:
        return Noisy(self.privacy, self._count)

    def noised(self) -> Method:
        """The same, whose clients answer."""
        return replace(self, safe=True)

    @property
    def silent(self) -> bool:
        """Losses outside of rounds are not paid for."""
        return True

    def noise(self, ask: Record, size: int) -> Mapping[str, Tensor]:
        """z times what each field is divided by to have sensitivity 1."""
        assert isinstance(ask, Bounded)
        z, k = self.privacy.multiplier, ask.span.size
        g, h, s = scales(self.privacy, ask.bounds)
        like = ask.theta
        found = {"target": like.new_full((k,), z * h), "loss": like.new_tensor(z * s)}
        if self.privacy.gramian:
            rows, columns = torch.triu_indices(k, k, device=like.device)
            off = like.new_tensor([0.5**0.5, 1.0])[(rows == columns).long()]
            found["gramian"] = z * g * off
        return found

    @property
    def budget(self) -> Budget | None:
        """As it is divided."""
        return Budget(self.privacy.releases, self.privacy.multiplier**-2)

    def finished(self, state: Any) -> str | None:  # noqa: ANN401
        """That the budget is spent, if so."""
        if state.spent < self.privacy.releases:
            return None
        return (
            f"The privacy budget of epsilon {self.privacy.epsilon:g} at delta "
            f"{self.privacy.delta:g} is spent after {state.spent} releases: the run "
            "ends here. For more rounds start another run that divides its budget "
            "among more releases; both together then cost both budgets."
        )

    def interrupted(self, state: Any) -> Any:  # noqa: ANN401
        """With one release more: a sum may have been told of which nothing is left."""
        spent = min(state.spent + 1, self.privacy.releases)
        return replace(state, spent=spent)

    @property
    def _count(self) -> int:
        if self.total is None:
            raise ValueError(
                "Bounds need the number of points: run the method by fedsciml.run, or "
                "take method.bound(problem)."
            )
        return self.total

    def _bounds(self, state: PrivateState, k: int) -> Bounds:
        first = self.privacy.residual / self._count**0.5
        row = longest(self.privacy, k, self._count)
        return Bounds(row, state.most or first)

    def _anchored(self, state: State, span: Span) -> Anchored:
        plain = super()._anchored(state, span)
        assert isinstance(state, PrivateState)
        row, residual = self._bounds(state, span.size)
        given = {f.name: getattr(plain, f.name) for f in fields(plain)}
        return Bounded(**given, row=row, residual=residual)

    def _gather(self, state: _fipa.State) -> Generator[Record, Answers, _fipa.Merged]:
        """The one exchange of a round."""
        assert isinstance(state, PrivateState)
        if wrong := self.finished(state):
            raise ValueError(wrong)
        privacy, spent = self.privacy, state.spent + 1
        merged = yield from super()._gather(state)
        assert merged is not None  # it is the first exchange of a round
        info = merged.info
        assert info.basis is not None
        bounds = self._bounds(state, info.basis)
        error = privacy.multiplier * scales(privacy, bounds).loss
        loss = max(info.loss, error)  # what is below its noise may be anything
        most = privacy.follow * (2 * loss / self._count) ** 0.5
        if info.loss < error:  # which is no reason for a wider bound
            most = min(most, bounds.residual)
        info = replace(
            info,
            loss=loss,
            losses={},
            outside=None,
            epsilon=privacy.spent(spent),
            delta=privacy.delta,
        )
        kept = {**merged.kept, "most": most, "spent": spent}
        return replace(merged, info=info, kept=kept)

    def _bounded(
        self, system: System, ask: Bounded, memory: Record | None
    ) -> tuple[Bare, Record | None]:
        """A client's sums, no point beyond the bounds."""
        check_bounds(ask.bounds)
        if ask.span.beyond is not None:
            raise SiteError(
                "The server asks for sums along a direction of its own, which no "
                "private run does."
            )
        if not self.safe:
            raise ValueError(
                "Sums for differential privacy were asked for where nobody adds their "
                "noise. Run the method in wrappers.Secure, as --dp does."
            )
        basis = self._anchors.basis(ask.theta, ask.span)
        rows, residual = bounded(system, ask.theta, basis, ask.bounds)
        answer = Bare(
            -(residual @ rows),
            float(residual @ residual) / 2,
            basis.check(generator(ask.seed, ask.round, -1)),
            gramian(rows) if self.privacy.gramian else None,
        )
        return answer, memory

    def expects(self, ask: Record, size: int) -> Expected:
        """What gets noise, and check numbers."""
        assert isinstance(ask, Bounded)
        k = ask.span.size
        fields = {"target": Field((k,)), "loss": Field(), "check": Field((CHECKS,))}
        if self.privacy.gramian:
            fields["gramian"] = Field((k * (k + 1) // 2,))
        return Expected(Bare, fields)

    def summed(self, ask: Record, total: Any, clients: int) -> Any:  # noqa: ANN401
        """The sums, of whose outside part nothing is known."""
        target, loss, check = total.target, total.loss, total.check / clients
        nothing = target.new_zeros(2, PRODUCTS)
        gram = target[:0] if total.gramian is None else total.gramian
        return Sums(gram, target, loss, check, nothing)

    def objection(
        self,
        problem: Problem,
        state: Any,  # noqa: ANN401
        client: int,
        said: Said,
        unit: float = 0.0,
    ) -> ValueError | None:
        """To another basis; nothing else of a sum with noise can be checked."""
        ask, told = said[-1]
        assert isinstance(ask, Bounded)
        basis = self._anchors.basis(ask.theta, ask.span)
        return differs(basis, ask, told.check)

    @property
    def client(self) -> Parts:
        """The bounded sums."""
        return {Bounded: self._bounded}

    @property
    def kinds(self) -> tuple[type, ...]:
        """The messages, the state and the memory."""
        own = (PrivateState, Bounded, Bare, Span)
        return (*own, *self.policy.kinds)


def private(method: Method, privacy: Privacy) -> Private:
    """FIPA as it runs with differential privacy.

    Args:
        method: FIPA by sums in a shared basis, or FIPA with nothing chosen.
        privacy: What may be told of a point.

    Raises:
        ValueError: If the method is another one, or probes.
    """
    if not isinstance(method, Fipa) or method.pooled:
        raise ValueError(
            "Differential privacy is there for fipa with upload sums, not for "
            f"{method.name}."
        )
    options = {f.name: getattr(method, f.name) for f in fields(Fipa)}
    upload = method.upload if isinstance(method, Shared) else "rows"
    return Private(**options, upload=upload, privacy=privacy)


def bounded(
    system: System, theta: Tensor, basis: Basis, bounds: Bounds
) -> tuple[Tensor, Tensor]:
    """Whitened rows A [n, k] and residuals r [n], every point within the bounds."""
    most = LARGEST_JACOBIAN // (theta.element_size() * system.size)
    rows, residuals = [theta.new_zeros(0, basis.size)], [theta.new_zeros(0)]
    blocks = iter(system.blocks)
    for part in system.parts(theta, most):
        whitened = basis.whitened(basis.restricted(part.jacobian()))
        sizes = [len(linear.residual) for linear in part.blocks]
        pairs = whitened.split(sizes), part.residual.split(sizes)
        for a, r in zip(*pairs, strict=True):
            n = len(next(blocks).rows.points)
            points = torch.arange(len(r), device=r.device) % n  # [q, n], flattened
            a, r = clipped(a, r, points, bounds)
            rows.append(a)
            residuals.append(r)
    return torch.cat(rows), torch.cat(residuals)
