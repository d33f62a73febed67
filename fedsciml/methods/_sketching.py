"""How a client of FIPA comes to its sketch."""

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Generator, Tensor

from fedsciml.linalg import (
    OVERSAMPLE,
    POWER_STEPS,
    Budget,
    Context,
    Schedule,
    Sketch,
    compress,
    from_jacobian,
    merge,
    share,
    subspace_iteration,
    truncate,
)
from fedsciml.linalg.randomised import Again, ranged
from fedsciml.residual import Linearisation, System
from fedsciml.residual.pieces import borrowed, rows

Sketcher = Literal["range", "svd", "subspace"]
"""Range finder, full SVD of the explicit Jacobian, or J v and J^T w alone."""

FIRST_RANK = 24
"""Rank looked for in a first round, when nothing is known."""

LARGEST_JACOBIAN = 2**28
"""Bytes of Jacobian held at once; more rows than fit are made piece by piece."""


class Untruncated(NamedTuple):
    """A client's problem: its sketch, not yet truncated, cut-off and loss at theta.

    ``cutoff`` is the absolute singular value down to which the sketch is complete.
    ``again`` makes its ``left`` again where that is too large to hold.
    """

    sketch: Sketch
    cutoff: float
    loss: float
    again: Again | None = None


def shown(dtype: torch.dtype) -> float:
    """Relative size of the singular values that J^T J still shows: sqrt(eps)."""
    return torch.finfo(dtype).eps ** 0.5


def generator(seed: int, round_: int, client: int) -> Generator:
    """The random numbers of a client in a round: the same whatever else happened."""
    mixed = (seed * 1_000_003 + round_) * 1_000_003 + client
    return Generator().manual_seed(mixed % 2**63)


class Asked(Protocol):
    """What a client is told for its rank.

    Attributes:
        round: Number of the round.
        gradient: Norm of the whole gradient, as last known.
        limits: Rows of each client under a byte budget, shape [m]; None in a first
            round.
    """

    @property
    def round(self) -> int: ...

    @property
    def gradient(self) -> float: ...

    @property
    def limits(self) -> Tensor | None: ...


def context(
    client: int,
    clients: int,
    ask: Asked,
    cutoff: float,
    gradient: Tensor,
    damping: float,
    rows: int,
) -> Context:
    """What the rank schedule of a client may look at.

    Args:
        client: Its number.
        clients: How many there are.
        ask: What it is told.
        cutoff: Absolute singular value down to which its sketch is complete.
        gradient: Of its rows, shape [p].
        damping: Least one of the whole's step; 0 if not known.
        rows: Of all clients together, under a byte budget.
    """
    shares = [rows // clients] if ask.limits is None else ask.limits[client:].tolist()
    return Context(
        ask.round,
        cutoff,
        damping=damping / clients,
        gradient_norm=float(gradient.norm()),
        total_gradient_norm=ask.gradient,
        limit=shares[0] if shares else 0,
    )


def budget(rank: Schedule, clients: int, like: Tensor, numbers: int, fixed: int) -> int:
    """Rows of all clients that a byte budget pays for; 0 without one.

    Args:
        rank: Of the clients.
        clients: How many there are.
        like: Of the dtype that is sent.
        numbers: That a client sends for each row of B.
        fixed: Numbers that it sends besides.
    """
    if not isinstance(rank, Budget):
        return 0
    size = like.element_size()
    return rank.rows(clients, numbers, size, fixed=size * fixed + 8)


def limits(spectra: Mapping[int, Tensor | None], rows: int) -> Tensor | None:
    """The clients' rows in the next round; None without a budget.

    Of those that did not report, 0: a round of other clients starts without limits.

    Args:
        spectra: Singular values by client, as far as ``rows`` could pay for them.
        rows: Of all clients together.
    """
    reported = {m: values for m, values in spectra.items() if values is not None}
    if not reported:
        return None
    found = torch.zeros(max(reported) + 1, dtype=torch.int64, device="cpu")
    given = share(list(reported.values()), rows)
    found[list(reported)] = torch.tensor(given, device="cpu")
    return found


def sketched(
    system: System,
    theta: Tensor,
    how: Sketcher,
    reach: float,
    top: float,
    rank: int,
    random: Generator,
    largest: int = LARGEST_JACOBIAN,
    most: int | None = None,
) -> Untruncated:
    """A client's least-squares problem at theta, down to a singular value.

    Args:
        system: The client's residual.
        theta: Where to linearise, shape [p].
        how: See ``Sketcher``.
        reach: Relative singular value down to which the problem is wanted.
        top: What it is relative to; 0 if not known: then to this client's |J|_F.
        rank: About how many there will be, for example those of the round before.
        random: For the randomised sketches.
        largest: Bytes of Jacobian to hold at once.
        most: Rows wanted at most, of a range finder; None for as many as there are
            above the cut-off.
    """
    if how == "subspace":
        return _by_products(system, theta, reach, top, rank, random)
    try:
        if how == "svd":
            return _by_svd(system, theta, reach, top, largest)
        with borrowed() as memory:
            found, loss = rows(system, theta, largest, memory)
            cutoff = reach * (top or found.norm())
            sketch, again = ranged(found, cutoff, rank + OVERSAMPLE, random, most)
    except RuntimeError as error:  # that of torch.linalg
        if all(j.isfinite().all() for j, _, _ in _jacobians(system, theta, largest)):
            raise
        raise FloatingPointError(
            f"The Jacobian of client {system.shard.client} is not finite, though "
            "its residual is: a derivative does not exist there, as of a root or a "
            "logarithm at 0. Mend the residual"
        ) from error
    return Untruncated(sketch, cutoff, loss, again)


def _by_svd(
    system: System, theta: Tensor, reach: float, top: float, largest: int
) -> Untruncated:
    """By the full SVD of J, or of one piece after the other."""
    cutoff, loss, whole = reach * top, 0.0, list[Sketch]()
    for jacobian, residual, part_loss in _jacobians(system, theta, largest):
        loss += part_loss
        if cutoff == 0:
            cutoff = reach * float(torch.linalg.matrix_norm(jacobian))
        part = from_jacobian(jacobian, residual)
        if whole:
            # What lies well below the cut-off would only grow from piece to piece.
            part = truncate(part, int((part.singular_values > 0.1 * cutoff).sum()))
            part = compress(merge([*whole, part]))
        whole = [part]
    nothing = theta.new_zeros
    empty = Sketch(nothing(0, system.size), nothing(0), nothing(0, 0))
    return Untruncated(whole[0] if whole else empty, cutoff, loss)


def _jacobians(
    system: System, theta: Tensor, largest: int
) -> Iterator[tuple[Tensor, Tensor, float]]:
    most = largest // (theta.element_size() * system.size)
    for part in system.parts(theta, most):
        yield part.jacobian(), part.residual, part.loss


def leading(
    linear: Linearisation,
    rank: int,
    random: Generator,
    power_steps: int = POWER_STEPS,
    oversample: int = OVERSAMPLE,
    formed: bool = True,
) -> Sketch:
    """The leading rows of a linearised problem, by subspace iteration.

    Args:
        linear: The client's rows.
        rank: How many.
        random: Where to start.
        power_steps: See ``subspace_iteration``.
        oversample: Likewise.
        formed: Whether J is formed where it is small enough: its products then take far
            less time.
    """
    r, jvp, vjp = linear.residual, linear.jvp, linear.vjp
    if formed and r.element_size() * len(r) * linear.size <= LARGEST_JACOBIAN:
        j = linear.jacobian()
        jvp, vjp = (lambda v: j @ v), (lambda w: j.mT @ w)
    how = random, power_steps, oversample
    return subspace_iteration(jvp, vjp, r, linear.size, rank, *how)


def _by_products(
    system: System,
    theta: Tensor,
    reach: float,
    top: float,
    rank: int,
    random: Generator,
) -> Untruncated:
    """Subspace iteration with the rank doubled until the cut-off is met."""
    linear = system.linearise(theta)
    most = min(len(linear.residual), system.size)
    rank += OVERSAMPLE  # one more at least must be seen below the cut-off
    while True:
        found = subspace_iteration(
            linear.jvp, linear.vjp, linear.residual, system.size, rank, random
        )
        s = found.singular_values
        largest = max(top, float(s[0])) if len(s) else top
        cutoff = max(reach, shown(theta.dtype)) * largest
        if rank >= most or float(s[-1]) <= cutoff:
            return Untruncated(found, cutoff, linear.loss)
        rank = min(2 * rank, most)
