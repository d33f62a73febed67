r"""What is asked and told where FIPA works in a basis that all parties share.

    Anchored      the first exchange of a round: rows or sums, in the basis of a span
    Outward       only where much lies outside of it: that part of the gradient
    Coordinates   losses and targets at candidate steps

What clients tell in the first one is in ``_rows`` and ``_summed``, a ``Form`` each.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from fedsciml.linalg.basis import Basis
from fedsciml.linalg.randomised import HELD, gaussian, triangular
from fedsciml.linalg.solve import Spectrum
from fedsciml.methods import _base, _fipa
from fedsciml.methods._base import Answers, Field
from fedsciml.methods._fipa import Fipa, Found, Last, Sketched
from fedsciml.methods._local import Carried
from fedsciml.methods._records import Record
from fedsciml.methods._sketching import FIRST_RANK, generator
from fedsciml.residual import Linearisation, System
from fedsciml.residual.anchors import Span
from fedsciml.residual.pieces import borrowed
from fedsciml.residual.system import PIECE

PRODUCTS = 8
"""Random vectors by whose products a gradient is measured: to a third of its norm."""

TINY = torch.finfo(torch.float64).tiny


class State(_fipa.State):
    """FIPA's, and what the next basis begins with.

    Attributes:
        counts: Anchors of each term, shape [T], int32.
        rank: Directions of the last basis.
        alarms: Twice the rounds in which much of the gradient lay outside, less those
            in which it did not.
    """

    counts: Tensor | None = None
    rank: int = FIRST_RANK
    alarms: int = 0


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
        shrunk: How far theta's own part outside of the span moves along itself, in
            units of it, shape [T]: what a prior wants there; None for nothing.
    """

    coordinates: Tensor
    lengths: Tensor
    near: float
    checked: int
    beyond: Tensor | None = None
    shrunk: Tensor | None = None

    @property
    def fractions(self) -> Tensor:
        """As of ``_fipa.Probe``."""
        return _fipa.fractions(self.lengths, len(self.coordinates))

    def plain(self, basis: Basis, theta: Tensor) -> _fipa.Probe:
        """What it would be with own sketches, at theta [p]."""
        steps = basis.steps(self.coordinates)
        steps = steps if self.beyond is None else steps + self.beyond
        if self.shrunk is not None:
            steps = steps + self.shrunk[:, None] * basis.outside(theta)
        return _fipa.Probe(steps, self.lengths, self.near, self.checked)


class CurveCoordinates(Record):
    """As ``_fipa.Curves``, in the coordinates of the span.

    Attributes:
        coordinates: Of D, shape [T, k].
        curves: Of C, shape [T, k].
        lengths: t, shape [S].
    """

    coordinates: Tensor
    curves: Tensor
    lengths: Tensor

    def plain(self, basis: Basis) -> _fipa.Curves:
        """What it would be with own sketches."""
        ways = basis.steps(self.coordinates), basis.steps(self.curves)
        return _fipa.Curves(*ways, self.lengths)


class Known(Record):
    """What a client remembers of its upload until the round ends.

    Attributes:
        left: U or A, shape [n, r] or [n, k]: targets are -left^T r.
        theta: Where it was made, shape [p].
        span: In what basis.
        delta: Its own step, where it trained, shape [p].
        fold: Where n is too large for that, F [k, s]: then U is J Q F ``left``, of a
            ``left`` [s, r].
    """

    left: Tensor
    theta: Tensor
    span: Span
    delta: Tensor | None = None
    fold: Tensor | None = None

    def targets(self, system: System, basis: Basis, residuals: Tensor) -> Tensor:
        """-left^T r of a client's residuals r [C, n], shape [C, .]."""
        if self.fold is None:
            return -(residuals @ self.left)
        found, start = residuals.new_zeros(len(residuals), self.fold.shape[1]), 0
        for part, reduced, _ in _reduced(system, self.theta, basis, 0):
            stop = start + len(part.residual)
            found.addmm_(residuals[:, start:stop], reduced @ self.fold)
            start = stop
        return -(found @ self.left)


class Memory(Record):
    """As ``_fipa.Memory``."""

    known: Known | None = None
    carried: Carried | None = None


class Ago(Record):
    """What an absent client said last.

    Attributes:
        last: Its problem [r, p] for D.
        span: The basis that it was told in.
        left: Maps its rows to what was told, shape [r, .], where it was told for it.
    """

    last: Last
    span: Span
    left: Tensor | None = None


class Linear(NamedTuple):
    """A client's rows in the coordinates of a basis, linearised.

    Attributes:
        reduced: J Q, shape [n, k]; where that is too large, (J Q F L^-T)^T J Q [s, k].
        residual: r, shape [n], or (J Q F L^-T)^T r [s].
        gradient: J^T r, shape [p].
        loss: Of the rows; None where it is 1/2 |r|^2.
        fold: Where J Q is too large; else None.
    """

    reduced: Tensor
    residual: Tensor
    gradient: Tensor
    loss: float | None = None
    fold: "Fold | None" = None


class Fold(NamedTuple):
    """F [k, s] and L [s, s] with which the columns of J Q F L^-T are orthonormal."""

    factor: Tensor
    root: Tensor

    def unfolded(self, left: Tensor) -> Tensor:
        """L^-T U for U [s, .], so that J Q F times it is J Q F L^-T U."""
        return torch.linalg.solve_triangular(self.root.mT, left, upper=True)


class Told(Protocol):
    """What every form of an upload has.

    Attributes:
        target: Shape [r] or [k].
        loss: 1/2 |r|^2.
        check: By which the bases are compared, shape [CHECKS].
        products: Of the gradient, and of its part outside of the span, with the same
            random vectors, shape [2, PRODUCTS].
    """

    @property
    def target(self) -> Tensor: ...

    @property
    def loss(self) -> float: ...

    @property
    def check(self) -> Tensor: ...

    @property
    def products(self) -> Tensor: ...


class Whole(NamedTuple):
    """All clients' problem in the coordinates z.

    Attributes:
        problem: With basis [., k].
        aimed: With the target of local training.
        ranks: Of each client.
        targets: Of each client where they stand side by side in the problem, else none.
        limits: Rows of each client under a byte budget; None without.
        condition: Of what was added up; None where nothing was.
    """

    problem: Spectrum
    aimed: Spectrum
    ranks: tuple[int, ...]
    targets: Mapping[int, Tensor]
    limits: Tensor | None = None
    condition: float | None = None


class Lifted(NamedTuple):
    """A client's problem for D.

    Attributes:
        sketched: With factor [r, p].
        left: Maps targets as they are told to those of it.
        slack: Factor by which rounding may make the target too long.
        unclear: Singular value below which the factor is not complete.
    """

    sketched: Sketched
    left: Tensor
    slack: float = 1.0
    unclear: float = 0.0


class Form(Protocol):
    """What clients tell of their rows in a shared basis, and how that is read.

    Attributes:
        kind: Type of the answer.
        whiten: Whether the basis needs its whitening.
    """

    @property
    def kind(self) -> type[Any]: ...

    @property
    def whiten(self) -> bool: ...

    def tell(
        self,
        method: Fipa,
        ask: Anchored,
        basis: Basis,
        linear: Linear,
        own: Tensor | None,
        who: tuple[int, int],
    ) -> tuple[Any, Tensor]:
        """The answer, and ``left`` [n, .]: targets are -left^T r.

        Args:
            method: For rank schedule and policy.
            ask: The server's.
            basis: That of its span.
            linear: The client's rows.
            own: Coordinates of the client's own step, where it trained, shape [k].
            who: Number of the client, and of how many.
        """

    def fields(self, method: Fipa, k: int) -> dict[str, Field]:
        """What the answer's own fields must hold in k directions."""

    def whole(self, method: Fipa, basis: Basis, answers: Answers) -> Whole:
        """All clients' problem."""

    def targets(self, found: list[Found]) -> Tensor:
        """Of all clients at the candidates, but for the near one, as ``left`` reads."""

    def width(self, k: int) -> int | str:
        """Of a client's targets."""

    def gradient(self, told: Any, basis: Basis) -> Tensor:  # noqa: ANN401
        """J^T r of a client in the coordinates z, shape [k]."""

    def lifted(
        self,
        told: Any,  # noqa: ANN401
        basis: Basis,
        unit: float | None = None,
    ) -> Lifted:
        """A client's problem for D; with ``unit``, what of it is clear."""

    def wrong(self, told: Any, k: int, unit: float) -> str | None:  # noqa: ANN401
        """Why its numbers do not fit together, were they rounded to ``unit``."""


def common(ask: Anchored, basis: Basis, linear: Linear) -> tuple[float, Tensor, Tensor]:
    """Loss, check numbers and products of the gradient of a client's rows."""
    check = basis.check(generator(ask.seed, ask.round, -1))
    loss = linear.loss
    if loss is None:
        loss = float(linear.residual @ linear.residual) / 2
    parts = torch.stack([linear.gradient, basis.outside(linear.gradient)])
    return loss, check, parts @ draws(ask).mT


def draws(ask: Anchored) -> Tensor:
    """The random vectors of a round, shape [PRODUCTS, p]: everybody draws them."""
    random = generator(ask.seed, ask.round, -2)
    return gaussian(PRODUCTS, len(ask.theta), random, ask.theta)


def linearised(
    system: System, theta: Tensor, basis: Basis, fold: bool = False
) -> Linear:
    """A client's rows at theta, piece by piece: J is never in memory as a whole.

    Nor, with ``fold``, is J Q where it has more than ``HELD`` bytes. Then R of its QR
    factorisation is found first, R = W diag(s) V^T with what rounding hides left out,
    and in a second pass the gramian L L^T of J Q F, F = V diag(1 / s), near one: the
    columns of J Q F L^-T are orthonormal. In whitened coordinates what rounding hides
    counts as well.
    """
    rows = PIECE // (theta.element_size() * system.size)
    parts = [theta.new_zeros(0, basis.size)]
    residual, gradient = [theta.new_zeros(0)], torch.zeros_like(theta)
    loss = None if system.squares else 0.0
    for part, reduced, slope in _reduced(system, theta, basis, rows):
        parts.append(reduced)
        if fold and theta.element_size() * sum(map(Tensor.numel, parts)) > HELD:
            break
        residual.append(part.residual)
        gradient += slope
        loss = None if loss is None else loss + part.loss
    else:
        return Linear(torch.cat(parts), torch.cat(residual), gradient, loss)
    return _folded(system, theta, basis)  # when the memory for J is given back


def _folded(system: System, theta: Tensor, basis: Basis) -> Linear:
    """Where J Q is too large."""
    triangle = triangular(a for _, a, _ in _reduced(system, theta, basis, 0))
    _, s, vh = torch.linalg.svd(triangle)
    seen = int((s > 100 * torch.finfo(s.dtype).eps * s[:1]).sum())
    fold, zeros = vh[:seen].mT / s[:seen], theta.new_zeros
    gram, reduced, residual = zeros(seen, seen), zeros(seen, basis.size), zeros(seen)
    gradient, loss = torch.zeros_like(theta), 0.0
    for part, a, slope in _reduced(system, theta, basis, 0):
        q = a @ fold
        gram.addmm_(q.mT, q)
        reduced.addmm_(q.mT, a)
        residual.addmv_(q.mT, part.residual)
        gradient += slope
        loss += part.loss
    lower = torch.linalg.cholesky(gram)
    both = torch.cat([reduced, residual[:, None]], dim=1)
    both = torch.linalg.solve_triangular(lower, both, upper=False)
    # Rounding makes of J Q F what no other order of its products makes again: F stays
    # as it was here, and contiguous as it comes from a file.
    fold = Fold(fold.contiguous(), lower)
    return Linear(both[:, :-1].contiguous(), both[:, -1].clone(), gradient, loss, fold)


def _reduced(
    system: System, theta: Tensor, basis: Basis, rows: int
) -> Iterator[tuple[Linearisation, Tensor, Tensor]]:
    """The rows in pieces of so many, or a chunk; each with J Q [m, k] and J^T r [p]."""
    with borrowed() as memory:
        for part in system.parts(theta, rows):
            jacobian = memory.of(part)
            yield part, basis.restricted(jacobian), part.residual @ jacobian
