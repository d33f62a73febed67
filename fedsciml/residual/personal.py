r"""The rows of clients that have parameters of their own beside the shared ones.

Of theta = (theta_s, f) the shared theta_s [p_s] is the federation's, f [p_f] a client's
own. ``Together`` has the rows as a function of both. ``Eliminated`` has them as a
function of theta_s alone, by variable projection (Golub, Pereyra, SIAM J. Numer. Anal.
10, 1973) of the linearised, damped problem of one client,

    min over D, d of  1/2 |r + J_s D + J_f d|^2 + mu_f/2 |d|^2 + mu_s/2 |D|^2.

With the rows r~ = (r, 0), J~_s = (J_s, 0), J~_f = (J_f, sqrt(mu_f) I) and J~_f = Q R

    d(D) = d_0 - K D,      d_0 = -R^-1 Q^T r~,      K = R^-1 Q^T J~_s,

and what is left for D is the least-squares problem of (I - Q Q^T) r~ and
(I - Q Q^T) J~_s: a client's sketch is made of these rows, and D is that of the joint
problem of all clients. On the way from theta_s to theta_s + t D the client goes
t d(D) = t d_0 - K t D, and the rows there are (r, sqrt(mu_f) t d).

Q and R are from an SVD of J_f: a QR would take what rounding makes of directions that
the rows do not see for part of J_f, where mu_f is next to 0, and so eliminate others.

A prior lambda/2 |f - f_0|^2 adds the rows sqrt(lambda) (f - f_0), which are no damping.
"""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from fedsciml.network import AtSite
from fedsciml.problem import Rows
from fedsciml.residual.system import Linearisation, System

if TYPE_CHECKING:
    from fedsciml.residual.system import Linear

LARGEST = 2**28
"""Bytes of a client's Jacobian up to which what is left of it is held at once."""


@dataclass(frozen=True, eq=False)
class Step:
    """What clients need of an elimination for steps from there.

    Attributes:
        start: d_0, shape [S, p_f].
        follow: K, shape [S, p_f, p_s].
        q: Q of all clients' rows r~, one below the other, shape [N, p_f].
        inside: Q^T r~ of each, shape [S, p_f].
    """

    start: Tensor
    follow: Tensor
    q: Tensor
    inside: Tensor


class _Site(NamedTuple):
    """One client's rows at theta_s and f, with its own parameters eliminated.

    Attributes:
        linear: The rows, by all parameters.
        below: Rows beneath them: of the prior, and of the damping; shape [e].
        q: Orthonormal columns of J~_f, and zeros for directions that it does not see,
            shape [n + e, p_f]; none where f is held.
        start: d_0, shape [p_f].
        follow: K, shape [p_f, p_s].
        into: Q^T J~_s, shape [p_f, p_s].
        inside: Q^T r~, shape [p_f].
        left: (I - Q Q^T) r~, shape [n + e].
        matrix: What is left of J_s, shape [n, p_s]; None where it is too large.
    """

    linear: Linearisation
    below: Tensor
    q: Tensor
    start: Tensor
    follow: Tensor
    into: Tensor
    inside: Tensor
    left: Tensor
    matrix: Tensor | None = None


class _OfSites(System):
    """Rows of one client, or of several, as functions of what a subclass says.

    A subclass gives ``judged``, ``slope``, ``on`` and the linearised blocks.

    Args:
        system: Of one client, or of the pooled rows of several.
    """

    def __init__(self, system: System) -> None:
        self.problem, self.shard = system.problem, system.shard
        self._sites, self._system = system.sites, system

    @property
    def squares(self) -> bool:
        """Whether the loss is 1/2 |r|^2."""
        return all(site.squares for site in self.sites)

    def residuals(self, thetas: Tensor) -> Tensor:
        """Rows [C, n] at several parameters [C, q]."""
        return self.judged(thetas)[1]

    def loss(self, theta: Tensor) -> float:
        """The clients' loss, with the prior's part."""
        return float(self.losses(theta[None])[0])

    def losses(self, thetas: Tensor) -> Tensor:
        """The clients' loss at several parameters [C, q], shape [C]."""
        return self.judged(thetas)[0]

    def prior_rows(self, f: Tensor) -> Tensor:
        """Rows of the prior at a client's own f [..., p_f]; none without one."""
        prior = self.problem.personal_prior
        return prior**0.5 * (f - self.view.values.to(f)) if prior else f[..., :0]


class Eliminated(_OfSites):
    """Rows as functions of the shared parameters, each client's own eliminated.

    Args:
        system: Of one client, or of the pooled rows of several.
        theta: Shared parameters where the rows are linearised, shape [p_s].
        values: The clients' own there, shape [S, p_f].
        damping: mu_f, at least 0; infinite to hold the clients' own where they are.
    """

    def __init__(
        self, system: System, theta: Tensor, values: Tensor, damping: float = inf
    ) -> None:
        super().__init__(system)
        self.size = self.view.size
        self.theta, self.values, self.damping = theta, values, damping
        self.fractions: Tensor | None = None
        self._step: Step | None = None
        self._known: list[_Site] | None = None

    def going(self, fractions: Tensor | None, step: Step) -> "Eliminated":
        """The same on its way: at each of several thetas this part of d_0 is gone.

        Args:
            fractions: Shape [C], for ``judged``; none of it where not given.
            step: As it was told, see ``step``.
        """
        found = copy(self)
        found.fractions, found._step = fractions, step
        return found

    @property
    def squares(self) -> bool:
        """Whether the loss is 1/2 |r|^2: not of what is left of the rows."""
        return self.damping == inf and super().squares

    @property
    def step(self) -> Step:
        """How the clients' own parameters go with theta; they stay if they are held."""
        if self._step is None:
            known = self._eliminated()
            follow = torch.stack([site.follow for site in known])
            q = torch.cat([site.q for site in known])
            start = torch.stack([site.start for site in known])
            inside = torch.stack([site.inside for site in known])
            self._step = Step(start, follow, q, inside)
        return self._step

    def own(self, thetas: Tensor) -> Tensor:
        """The clients' own parameters on the way to thetas [C, p_s], [S, C, p_f].

        They stay where no part of the step is gone.
        """
        t, begin = self.fractions, self.values[:, None].to(thetas)
        if t is None or self.damping == inf:
            return begin.expand(-1, len(thetas), -1)
        moved = thetas - self.theta
        steps = t[:, None] * self.step.start[:, None] - moved @ self.step.follow.mT
        return begin + torch.where(t[:, None] > 0, steps, 0.0)

    def judged(self, thetas: Tensor, at: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Losses [C] and rows at thetas [C, p_s], on the way (I - Q Q^T) r~ [C, n].

        The clients' own parameters go with theta. What the damping adds is part of both
        losses and rows. Where they stay on the way, t = 0, told is the loss of what is
        left: next to ``theta`` it changes as the linearised rows say.
        """
        values, found, start = self.own(thetas), [], 0
        for number, site in enumerate(self.sites):
            f, begin = values[number], self.values[number].to(thetas)
            where = None if at is None else self.view.joined(at, begin)
            losses, r = site.judged(self.view.joined(thetas, f), where)
            below = _below(self, f, f - begin)
            rows = torch.cat([r, below], 1)
            losses = losses + below.square().sum(1) / 2
            if self.damping < inf and self.fractions is not None:
                q = self.step.q[start : start + rows.shape[1]]
                start, inside = start + rows.shape[1], rows @ q
                rows = rows - inside @ q.mT
                grown = inside.square().sum(1) - self.step.inside[number].square().sum()
                losses = torch.where(self.fractions > 0, losses, losses - grown / 2)
            found.append((losses, rows))
        losses = torch.stack([loss for loss, _ in found]).sum(0)
        return losses, torch.cat([r for _, r in found], 1)

    def slope(self, theta: Tensor) -> Tensor:
        """Gradient of what is left, shape [p_s]."""
        if self.damping < inf:
            return self.linearise(theta).gradient
        total = torch.zeros_like(theta)
        for site, own in zip(self.sites, self.values.to(theta), strict=True):
            total += site.slope(self.view.joined(theta, own))[self.view.shared]
        return total

    def on(self, rows: Sequence[Rows]) -> System:
        """Another system of the same party: these rows instead of its own."""
        return Eliminated(self._system.on(rows), self.theta, self.values, self.damping)

    def _eliminated(self) -> list[_Site]:
        if self._known is None:
            self._known = [
                _eliminated(self, site, own.to(self.theta))
                for site, own in zip(self.sites, self.values, strict=True)
            ]
        return self._known

    def _linear(self, theta: Tensor) -> Iterator["Linear"]:
        if not torch.equal(theta, self.theta):
            if self.damping < inf:
                raise ValueError(
                    "Personal parameters are eliminated at one theta alone, and rows "
                    "were asked for at another one: take Eliminated(system, theta, ...)"
                    " there."
                )
            yield from Eliminated(self, theta, self.values)._linear(theta)
            return
        for known in self._eliminated():
            start, blocks = 0, known.linear.blocks
            if known.matrix is not None:
                start = len(known.matrix)
                loss = torch.stack([_loss(block) for block in blocks]).sum()
                yield _Dense(known.left[:start], loss, known.matrix)
                blocks = []
            for block in blocks:
                stop = start + len(block.residual)
                rows = known.q[start:stop], known.left[start:stop]
                yield _Left(block, self.view, known.into, *rows, _loss(block))
                start = stop
            rows = known.q[start:], known.left[start:]
            loss = known.below @ known.below / 2
            yield _Left(None, self.view, known.into, *rows, loss)


def _loss(block: "Linear") -> Tensor:
    r = block.residual
    return r @ r / 2 if block.loss is None else block.loss


def _below(whole: Eliminated, f: Tensor, moved: Tensor) -> Tensor:
    """Rows beneath a client's, [..., e], at f [..., p_f] after a move [..., p_f]."""
    above = whole.prior_rows(f)
    if not 0 < whole.damping < inf:
        return above
    return torch.cat([above, whole.damping**0.5 * moved], -1)


def _eliminated(whole: Eliminated, site: System, f: Tensor) -> _Site:
    view, theta = whole.view, whole.theta
    linear = site.linearise(view.joined(theta, f))
    below = _below(whole, f, torch.zeros_like(f))
    above = linear.residual
    if whole.damping == inf:
        none = theta.new_zeros
        return _Site(
            linear,
            below,
            none(len(above) + len(below), 0),
            torch.zeros_like(f),
            none(len(f), view.size),
            none(0, view.size),
            torch.zeros_like(f),
            torch.cat([above, below]),
        )
    eye = torch.eye(len(f), dtype=theta.dtype, device=theta.device)
    every: Tensor | None = None
    if 0 < theta.element_size() * len(above) * view.network.size <= LARGEST:
        every = linear.jacobian()
        j, by_shared = every[:, view.mine], every[:, view.shared]
    else:
        j = linear.jvp(view.joined(theta.new_zeros(len(f), view.size), eye).mT)
    prior = whole.problem.personal_prior
    with_prior = torch.cat([j, prior**0.5 * eye]) if prior else j
    q, back = _factored(with_prior, whole.damping)
    upper = q[: len(j)]
    if every is None:
        into, matrix = linear.vjp(upper).mT[:, view.shared], None
    else:
        into = upper.mT @ by_shared
        matrix = by_shared.addmm(upper, into, alpha=-1)
    rows = torch.cat([above, below])
    inside = q.mT @ rows
    left = rows - q @ inside
    return _Site(
        linear, below, q, -back @ inside, back @ into, into, inside, left, matrix
    )


def _factored(j: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """Q [n + p_f, p_f] and R^-1 [p_f, p_f] of (J, sqrt(mu) I), by an SVD of J [n, p_f].

    Without the rows beneath for mu = 0. In directions that J does not see, to rounding,
    both are zero: nothing is eliminated there, and f stays.
    """
    u, s, vh = torch.linalg.svd(j, full_matrices=False)
    seen = s > torch.finfo(s.dtype).eps * max(j.shape) * s[:1]
    lengths = torch.where(seen, (s.square() + damping).sqrt(), torch.inf)
    back = vh.mT / lengths
    q = torch.cat([u * (s / lengths), *[damping**0.5 * back] * (damping > 0)])
    short = j.shape[1] - len(s)
    return pad(q, (0, short)), pad(back, (0, short))


@dataclass(frozen=True, eq=False, repr=False)
class _Dense:
    """All rows of one client after the elimination, but for those beneath.

    Attributes:
        residual: What is left of them, shape [n].
        loss: Before the elimination, shape [].
        matrix: Their derivative by theta_s, shape [n, p_s].
    """

    residual: Tensor
    loss: Tensor
    matrix: Tensor

    def jacobian(self, out: Tensor) -> None:
        """Write the derivative into ``out`` [n, p_s]."""
        out.copy_(self.matrix)

    def jvp(self, v: Tensor) -> Tensor:
        """J v, shape [n], for v [p_s]; or [n, k] for k columns [p_s, k]."""
        return self.matrix @ v

    def vjp(self, w: Tensor) -> Tensor:
        """J^T w, shape [p_s], for w [n]; or [p_s, k] for k columns [n, k]."""
        return self.matrix.mT @ w


@dataclass(frozen=True, eq=False, repr=False)
class _Left:
    """Some rows of one client after the elimination: a part of (I - Q Q^T) J~_s.

    Attributes:
        block: The rows by all parameters; None of those beneath.
        view: Says which parameters are shared.
        into: Q^T J~_s, shape [p_f, p_s].
        q: The rows' part of Q, shape [n, p_f].
        residual: What is left of them, shape [n].
        loss: Before the elimination, shape [].
    """

    block: "Linear | None"
    view: AtSite
    into: Tensor
    q: Tensor
    residual: Tensor
    loss: Tensor | None

    def jacobian(self, out: Tensor) -> None:
        """Write the rows' derivative by theta_s into ``out`` [n, p_s]."""
        if self.block is None:
            out.zero_()
        else:
            every = out.new_empty(len(out), self.view.network.size)
            self.block.jacobian(every)
            torch.index_select(every, 1, self.view.shared.to(out.device), out=out)
        out.addmm_(self.q, self.into, alpha=-1)

    def jvp(self, v: Tensor) -> Tensor:
        """J v, shape [n], for v [p_s]; or [n, k] for k columns [p_s, k]."""
        below = -(self.q @ (self.into @ v))
        if self.block is None:
            return below
        last = v.movedim(0, -1)
        return self.block.jvp(self.view.tangent(last, last).movedim(-1, 0)) + below

    def vjp(self, w: Tensor) -> Tensor:
        """J^T w, shape [p_s], for w [n]; or [p_s, k] for k columns [n, k]."""
        below = -(self.into.mT @ (self.q.mT @ w))
        if self.block is None:
            return below
        return self.block.vjp(w)[self.view.shared] + below


class Together(_OfSites):
    """Rows as functions of shared and personal parameters, (theta_s, f_1, ..., f_S).

    Args:
        system: Of one client, or of the pooled rows of S of them.
        held: Shared parameters that stay, shape [p_s]: then of (f_1, ..., f_S) alone.
    """

    def __init__(self, system: System, held: Tensor | None = None) -> None:
        super().__init__(system)
        self.held = held
        shared = self.view.size if held is None else 0
        self.size = shared + len(self.sites) * len(self.view.mine)

    def split(self, thetas: Tensor) -> tuple[Tensor, Tensor]:
        """Shared parameters [..., p_s] and each client's own [..., S, p_f]."""
        sides = (len(self.sites), -1)
        if self.held is not None:
            shared = self.held.to(thetas).expand(*thetas.shape[:-1], -1)
            return shared, thetas.unflatten(-1, sides)
        shared, own = thetas.tensor_split([self.view.size], -1)
        return shared, own.unflatten(-1, sides)

    def joined(self, theta: Tensor, values: Tensor) -> Tensor:
        """One vector of shared [p_s] and personal parameters [S, p_f]."""
        own = values.to(theta).flatten()
        return torch.cat([theta, own]) if self.held is None else own

    def common(self, theta: Tensor) -> Tensor:
        """The shared parameters, with zeros for what is each client's own."""
        found = theta.clone()
        self.split(found)[1].zero_()
        return found

    def on(self, rows: Sequence[Rows]) -> System:
        """Another system of the same party: these rows instead of its own."""
        return Together(self._system.on(rows), self.held)

    def judged(self, thetas: Tensor, at: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Losses [C] and rows [C, n] at several parameters [C, q]."""
        found, (shared, own) = [], self.split(thetas)
        for k, site in enumerate(self.sites):
            f = own[..., k, :]
            fixed = None if at is None else self.whole(at, k)
            losses, r = site.judged(self.view.joined(shared, f), fixed)
            below = self.prior_rows(f)
            found.append((losses + below.square().sum(1) / 2, torch.cat([r, below], 1)))
        losses = torch.stack([loss for loss, _ in found]).sum(0)
        return losses, torch.cat([r for _, r in found], 1)

    def slope(self, theta: Tensor) -> Tensor:
        """Gradient of the loss, shape [q]."""
        total, own = torch.zeros_like(theta), self.split(theta)[1]
        for k, site in enumerate(self.sites):
            every = site.slope(self.whole(theta, k))
            if prior := self.problem.personal_prior:
                off = own[k] - self.view.values.to(own)
                every[self.view.mine] += prior * off
            total += self.placed(every, k)
        return total

    def _linear(self, theta: Tensor) -> Iterator["Linear"]:
        for k, site in enumerate(self.sites):
            for block in site.linearise(self.whole(theta, k)).blocks:
                yield _Placed(block.residual, block.loss, block, self, k)
            if self.problem.personal_prior:
                r = self.prior_rows(self.split(theta)[1][k])
                yield _Placed(r, None, None, self, k)

    def whole(self, theta: Tensor, k: int) -> Tensor:
        """All parameters [p] of client k."""
        shared, own = self.split(theta)
        return self.view.joined(shared, own[..., k, :])

    def placed(self, every: Tensor, k: int) -> Tensor:
        """Derivatives [..., q] from those by all parameters [..., p] of client k."""
        found = every.new_zeros(*every.shape[:-1], self.size)
        self.split(found)[1][..., k, :] = every[..., self.view.mine]
        if self.held is None:
            found[..., : self.view.size] = every[..., self.view.shared]
        return found

    def along(self, v: Tensor, k: int) -> Tensor:
        """A tangent [..., p] of all parameters of client k, from one [..., q]."""
        shared, own = self.split(v)
        shared = shared if self.held is None else torch.zeros_like(shared)
        return self.view.joined(shared, own[..., k, :])


@dataclass(frozen=True, eq=False, repr=False)
class _Placed:
    """Rows of client k as functions of all clients' parameters.

    Attributes:
        residual: Shape [n].
        loss: Half the weighted deviance; None where it is that of squares.
        block: The rows by the client's parameters; None of the prior's.
        whole: The system that they are part of.
        k: Number of the client.
    """

    residual: Tensor
    loss: Tensor | None
    block: "Linear | None"
    whole: Together
    k: int

    def jacobian(self, out: Tensor) -> None:
        """Write J into ``out`` [n, q]."""
        view = self.whole.view
        every = out.new_zeros(len(out), view.network.size)
        if self.block is None:
            every[:, view.mine] = self._root * torch.eye(len(out), device="cpu").to(out)
        else:
            self.block.jacobian(every)
        out.copy_(self.whole.placed(every, self.k))

    def jvp(self, v: Tensor) -> Tensor:
        """J v, shape [n], for v [q]; or [n, k] for k columns [q, k]."""
        every = self.whole.along(v.movedim(0, -1), self.k)
        if self.block is None:
            return self._root * every[..., self.whole.view.mine].movedim(-1, 0)
        return self.block.jvp(every.movedim(-1, 0))

    def vjp(self, w: Tensor) -> Tensor:
        """J^T w, shape [q], for w [n]; or [q, k] for k columns [n, k]."""
        if self.block is None:
            last = w.movedim(0, -1)
            every = last.new_zeros(*last.shape[:-1], self.whole.view.network.size)
            every[..., self.whole.view.mine] = self._root * last
        else:
            every = self.block.vjp(w).movedim(0, -1)
        return self.whole.placed(every, self.k).movedim(-1, 0)

    @property
    def _root(self) -> float:
        return self.whole.problem.personal_prior**0.5
