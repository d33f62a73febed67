r"""What a server, or whoever reads the wire, has where clients send secure sums.

Sensors in the unit square as in experiment `observer`, after ten rounds. *Masked*: the
message of client 0 as it crosses. *Opened*: the sum that comes out of all messages.
*Differences*: the sum over five clients at theta, less that over the four others at the
point to which the model is moved when client 0 drops out. That is read in two ways:

    subtracted   the four clients' gramian in the basis there is written in the basis
                 at theta, and subtracted
    predicted    the gramian is an integral of products of J over the clients' points,
                 and those products at theta are nearly sums of those at the other
                 point: weights v on a grid are sought that give the sums there,
                 minimum norm, and give the sums at theta; these are subtracted

Several sums over the four clients, each at a point of its own, are used together.
"""

from collections.abc import Sequence
from secrets import token_bytes
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from experiments._reading import Observed, linearised
from experiments._trajectories import started
from fedsciml import methods
from fedsciml.federation.inprocess import InProcess, LocalClients
from fedsciml.linalg.basis import Basis, root, symmetric
from fedsciml.linalg.sketch import Sketch
from fedsciml.methods import conclude
from fedsciml.methods._shared import Shared
from fedsciml.problem import Problem
from fedsciml.secure import ring
from fedsciml.secure.opening import opened
from fedsciml.wrappers._layout import Layout
from fedsciml.wrappers._summing import WORD, expected
from fedsciml.wrappers.secure import Secure

ROUND = 10
SEEN = 1e-13
"""Eigenvalue of a gramian, relative to the largest, that is not rounding."""

SIDE, EXACT, PRODUCTS = 40, 1e-12, 1600
"""Points of the grid a side; least singular value of products of J on it, relative to
the largest; how many products are taken of a gramian, random ones, if it has more."""


class Told(NamedTuple):
    """What clients told in sums at a point.

    Attributes:
        theta: The point, shape [p].
        basis: In which they did.
        gramians: Of each client, shape [clients, k, k].
        targets: Shape [clients, k].
    """

    theta: Tensor
    basis: Basis
    gramians: Tensor
    targets: Tensor

    def observed(self, gramian: Tensor, target: Tensor, points: int) -> Observed:
        """As ``_reading`` reads it."""
        factor, inverse = root(gramian, SEEN)
        sketch = Sketch(factor[:points], (target @ inverse)[:points])
        return Observed(self.theta, sketch, points, self.basis)

    def rows(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """A(x) [m, k] and u(x) [m] at points."""
        jacobian, u = linearised(self.theta, points)
        return self.basis.whitened(self.basis.restricted(jacobian)), u


class Wire(NamedTuple):
    """What crossed in the first sum of a round, and what it stood for.

    Attributes:
        masked: Of client 0, as its numbers would be read.
        opened: The sum.
        plain: What each client told, in the open.
        right: Share of ``games`` in which a message of client 0 or of client 1 was told
            from the other by whoever knows both.
    """

    masked: Observed
    opened: Observed
    plain: Told
    right: float


def method(problem: Problem) -> Shared:
    """FIPA with sums."""
    found = methods.load("fipa", basis="shared", upload="sums").bound(problem)
    assert isinstance(found, Shared)
    return found


def told(of: Shared, clients: LocalClients, state: Any) -> Told:  # noqa: ANN401
    """What all clients tell at the start of a round."""
    opening: Any = next(of.round(state))
    assert of.anchors is not None
    basis = of.anchors.basis(opening.theta, opening.span)
    answers: list[Any] = list(clients.exchange(opening).values())
    gramians = torch.stack([symmetric(a.gramian, basis.size) for a in answers])
    targets = torch.stack([a.target for a in answers])
    return Told(opening.theta, basis, gramians, targets)


def wire(problem: Problem, seed: int, games: int) -> Wire:
    """The first sum of a round."""
    plain = method(problem)
    secure = Secure(plain).bound(problem)
    assert isinstance(secure, Secure)
    clients = InProcess().connect(problem, secure)
    state: Any = secure.start(started(problem, seed), seed)
    for _ in range(ROUND - 1):
        state, _ = conclude(secure.round(state), clients.exchange)
    exchanges = secure.round(state)
    ask: Any = next(exchanges)
    uploads: Any = clients.exchange(ask)
    shares: Any = clients.exchange(exchanges.send(uploads))
    part, theta = ask.parts["0"], state.inner.point
    fractions, size = part.fractions.tolist(), len(theta)
    layout = Layout.of(expected(plain, part.ask, size))
    masked = {m: upload.masked for m, upload in uploads.items()}
    given = {m: [row.numpy().tobytes() for row in s.shares] for m, s in shares.items()}
    numbers = opened(state.session["0"].roster, masked, given)
    open_clients = InProcess().connect(problem, plain)
    told_plain = told(plain, open_clients, state.inner)
    counts = [len(shard.rows[0].points) for shard in problem.shards()]

    def read(of: Any, n: int) -> Observed:  # noqa: ANN401
        answer, _ = layout.unpacked(of, fractions, theta)
        gramian = symmetric(answer.gramian, told_plain.basis.size)
        return told_plain.observed(gramian, answer.target, n)

    answers: list[Any] = list(open_clients.exchange(part.ask).values())
    own, other = (layout.packed(a, fractions, len(counts), {}) for a in answers[:2])
    seat, right = secure.seats[0] if secure.seats else None, 0
    assert seat is not None
    random = Generator().manual_seed(seed)
    for _ in range(games):
        truth = int(torch.randint(2, (), generator=random))
        message = seat.masked(token_bytes(WORD), b"", (own, other)[truth], theta[None])
        rest = [
            abs(ring.decode(ring.added(message.numbers, ring.negative(x)), 64)).sum()
            for x in (own, other)
        ]
        right += int(rest[1] < rest[0]) == truth
    seen = read(masked[0].numbers, counts[0]), read(numbers, sum(counts))
    return Wire(*seen, told_plain, right / games if games else 0.5)


class Difference(NamedTuple):
    """What is left for client 0.

    Attributes:
        seen: As ``_reading`` reads it.
        error: Of the gramian, relative to the true one.
    """

    seen: Observed
    error: float


def differences(
    problem: Problem, seed: int, far: float, sums: int
) -> dict[str, Difference]:
    """By way of reading.

    Args:
        problem: Client 0 is the one that drops out.
        seed: Of the start, and of the directions of the moves.
        far: Length of a move, in |theta|.
        sums: Over the four others, each at a point of its own.
    """
    of = method(problem)
    clients = InProcess().connect(problem, of)
    state: Any = of.start(started(problem, seed), seed)
    for _ in range(ROUND - 1):
        state, _ = conclude(of.round(state), clients.exchange)
    here = told(of, clients, state)
    points = len(problem.shards()[0].rows[0].points)
    random, there = Generator().manual_seed(1000 + seed), list[Told]()
    for _ in range(sums):
        step = torch.randn(len(here.theta), generator=random, dtype=here.theta.dtype)
        theta = here.theta + far * here.theta.norm() * step / step.norm()
        there.append(told(of, clients, of.moved(state, theta) if far else state))
    whole = here.gramians.sum(0), here.targets.sum(0)

    def left(gramian: Tensor, target: Tensor) -> Difference:
        rest = whole[0] - gramian, whole[1] - target
        error = (rest[0] - here.gramians[0]).norm() / here.gramians[0].norm()
        return Difference(here.observed(*rest, points), float(error))

    if not far:
        return {"subtracted": left(here.gramians[1:].sum(0), here.targets[1:].sum(0))}
    return {
        "subtracted": left(*_rewritten(here, there[0])),
        "predicted": left(*_predicted(here, there, random)),
    }


def _rewritten(here: Told, there: Told) -> tuple[Tensor, Tensor]:
    """The four's sums there in the basis here, as if J were the same."""
    grid = _grid()
    (a, _), (b, _) = here.rows(grid), there.rows(grid)
    turn = torch.linalg.lstsq(b, a, driver="gelsd").solution
    gramian, target = there.gramians[1:].sum(0), there.targets[1:].sum(0)
    return turn.mT @ gramian @ turn, target @ turn


def _predicted(
    here: Told, there: Sequence[Told], random: Generator
) -> tuple[Tensor, Tensor]:
    """The four's sums here, from a measure on a grid that gives those there."""
    grid = _grid()
    products, moments = list[Tensor](), list[Tensor]()
    singles, values = list[Tensor](), list[Tensor]()
    for one in there:
        rows, u = one.rows(grid)
        gramian = one.gramians[1:].sum(0)
        i, j = torch.triu_indices(*gramian.shape)
        made, wanted = rows[:, i] * rows[:, j], gramian[i, j]
        if len(i) > PRODUCTS:
            shape = len(i), PRODUCTS
            mixed = torch.randn(shape, generator=random, dtype=rows.dtype)
            made, wanted = made @ mixed / len(i) ** 0.5, wanted @ mixed / len(i) ** 0.5
        products.append(made)
        moments.append(wanted)
        singles.append(rows)
        values.append(rows * u[:, None])
    weights = _measure(torch.cat(products, 1), torch.cat(moments))
    rows, u = here.rows(grid)
    # t = -sum A (u - y): the measure of y alone has t + A u.
    known = [
        one.targets[1:].sum(0) + weights @ v
        for one, v in zip(there, values, strict=True)
    ]
    measured = _measure(torch.cat(singles, 1), torch.cat(known))
    target = measured @ rows - weights @ (rows * u[:, None])
    return rows.mT @ (weights[:, None] * rows), target


def _measure(functions: Tensor, moments: Tensor) -> Tensor:
    """Weights [m] on the grid, of minimum norm, that give functions these moments."""
    u, s, v = torch.linalg.svd(functions, full_matrices=False)
    some = s > EXACT * s[0]
    found: Tensor = u[:, some] @ ((v[some] @ moments) / s[some])
    return found


def _grid() -> Tensor:
    """Points [SIDE^2, 2] of Gauss and Legendre, which tell all of smooth functions."""
    axis = torch.from_numpy(np.polynomial.legendre.leggauss(SIDE)[0] / 2 + 0.5)
    return torch.cartesian_prod(axis, axis)
