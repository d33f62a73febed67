"""Rank schedules: how many singular vectors a client sends in a round.

A schedule is a callable ``(values [k], targets [k], context) -> rank`` of singular
values, descending, and their targets, and plain data otherwise. Linear algebra alone;
it knows no problem.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import torch
from torch import Tensor

from fedsciml.registry import Word, options_of


class Context(NamedTuple):
    """What a client knows when it chooses its rank.

    Attributes:
        round: Round k, from 1.
        cutoff: Absolute singular value below which nothing matters in this round.
        damping: This client's share mu / M of the least damping mu of this round.
        gradient_norm: |g_m| of this client.
        total_gradient_norm: |sum_j g_j| over all clients, as last known.
        limit: Number of rows that a byte budget allows this client.
    """

    round: int = 1
    cutoff: float = 0.0
    damping: float = 0.0
    gradient_norm: float = 0.0
    total_gradient_norm: float = 0.0
    limit: int = 0


Schedule = Callable[[Tensor, Tensor, Context], int]
"""Maps singular values [k], descending, their targets [k] and the context to a rank in
0 ... k."""


@dataclass(frozen=True)
class Fixed:
    """The same rank in every round, clipped to the k there are.

    Raises:
        ValueError: If ``rank < 1``.
    """

    rank: int

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"A fixed rank must be at least 1, got {self.rank}.")

    def __call__(self, values: Tensor, targets: Tensor, context: Context) -> int:
        """min(rank, k)."""
        return min(self.rank, len(values))


@dataclass(frozen=True)
class Energy:
    """The smallest rank r with s_1^2 + ... + s_r^2 >= fraction * |J|_F^2.

    Raises:
        ValueError: If ``fraction`` is not in (0, 1].
    """

    fraction: float

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ValueError(
                f"An energy fraction must be in (0, 1], got {self.fraction}; "
                "0.999 keeps all but a thousandth."
            )

    def __call__(self, values: Tensor, targets: Tensor, context: Context) -> int:
        """The rank; 0 where all singular values are zero."""
        if not len(values):
            return 0
        energy = values.double().square().cumsum(0)
        short = int((energy < self.fraction * energy[-1]).sum())
        return short + 1 if float(energy[-1]) > 0 else 0


@dataclass(frozen=True)
class AboveCutoff:
    """All singular values above the cut-off of the round: the default.

    The step policy gives the cut-off (``policies.Policy.reach``): for a policy of
    cut-offs the least that it proposes, for a policy of dampings a tenth of sqrt(mu),
    mu the least. What is then left out has t <= sqrt(M) / 10 in the notation
    of ``Predictive``: it changes a step by at most (M / 200 + sqrt(M) / 10 |c_T| / |c|)
    |c|, c_T the part of the targets c that is left out.
    """

    def __call__(self, values: Tensor, targets: Tensor, context: Context) -> int:
        """Number of s > cutoff."""
        return int((values > context.cutoff).sum())


@dataclass(frozen=True)
class Published:
    """Eigenvalues s^2 above delta * s_1^2, a threshold that falls like 1 / k.

        delta = min(C / (k (|g_m| + |sum_j g_j|)), 0.99)

    of Chang, He, Hao 2026, arXiv 2601.13608 (their adaptive rank, C = 1).

    Raises:
        ValueError: If ``c`` is not positive.
    """

    c: float = 1.0

    def __post_init__(self) -> None:
        if not self.c > 0:
            raise ValueError(f"The constant C must be positive, got {self.c}; try 1.0.")

    def __call__(self, values: Tensor, targets: Tensor, context: Context) -> int:
        """The rank, at least 1 unless all singular values are zero."""
        if not len(values):
            return 0
        norms = context.gradient_norm + context.total_gradient_norm
        scale = context.round * norms
        delta = min(self.c / scale, 0.99) if scale > 0 else 0.99
        relative = values.double() / values[0].double()
        return int((relative.square() > delta).sum())


@dataclass(frozen=True)
class Budget:
    """As many rows as a number of bytes a round allows all clients together.

    The bytes are those of the uploaded sketches: factor, targets, loss, and the
    singular values by which the rows are shared out (``share``); not those of probes.
    Clients report no more values than there are rows to share, so that the budget
    always holds. In the first round, when nothing is reported yet, the shares are
    equal. No row below the cut-off of the round is sent, whatever the budget.

    Args:
        payload: Bytes a round.

    Raises:
        ValueError: If ``payload`` is not positive.
    """

    payload: int

    def __post_init__(self) -> None:
        if self.payload < 1:
            raise ValueError(f"A budget must be at least 1 byte, got {self.payload}.")

    def __call__(self, values: Tensor, targets: Tensor, context: Context) -> int:
        """Number of s > cutoff, at most the limit."""
        return min(context.limit, AboveCutoff()(values, targets, context))

    def rows(self, clients: int, numbers: int, size: int, fixed: int) -> int:
        """Number of rows allowed, (payload - M fixed) / (size (numbers + M)).

        Args:
            clients: Number of clients M.
            numbers: Numbers in a row, p + 1 with its target.
            size: Bytes of a number.
            fixed: Bytes that each client sends whatever its rank.

        Raises:
            ValueError: If there is not one for each client.
        """
        row = size * (numbers + clients)
        rows = (self.payload - clients * fixed) // row
        if rows < clients:
            raise ValueError(
                f"A budget of {self.payload} bytes a round does not pay for one "
                f"direction of each of {clients} clients; give at least "
                f"bytes:{clients * (row + fixed)}."
            )
        return rows


def share(spectra: Sequence[Tensor], rows: int) -> list[int]:
    """Number of rows for each client, so that the largest singular values are sent.

    This keeps most of sum_m |J_m|_F^2, by a common threshold. Rows beyond the number
    of singular values are shared equally.

    Args:
        spectra: Singular values of each client, shape [k_m], descending.
        rows: Number of rows to share.
    """
    clients = len(spectra)
    owners = [torch.full((len(s),), m, device="cpu") for m, s in enumerate(spectra)]
    order = torch.cat([*spectra]).argsort(descending=True, stable=True)[:rows]
    counts = torch.cat(owners)[order.cpu()].bincount(minlength=clients).tolist()
    each, more = divmod(rows - sum(counts), clients)
    return [count + each + (m < more) for m, count in enumerate(counts)]


@dataclass(frozen=True)
class Predictive:
    r"""The smallest rank that changes a damped step by at most a tolerance.

    All rows B D ~ c of M clients, damped with mu, give D = argmin F(D), F(D) = 1/2 |B D
    - c|^2 + mu/2 |D|^2. Client m leaves out its last rows T_m, with targets c_Tm; the
    others give D'. The normal equations (B^T B + mu) D = B^T c and those of D' differ
    by what was left out,

        (B^T B + mu) (D' - D) = sum_m T_m^T z_m,    z_m = T_m D' - c_Tm.

    In the energy norm e^2 = |D' - D|^2_{B^T B + mu} = 2 (F(D') - F(D)). Each client
    owns mu / M of the damping; since x^T A^-1 x <= sum_m x_m^T A_m^-1 x_m for sums x
    and A, and B_m^T B_m >= T_m^T T_m, the squares of the clients add up: with the
    singular values s_i of T_m and W = diag(s_i / sqrt(s_i^2 + mu / M)),

        e^2 <= sum_m |W z_m|^2,    |W z_m| <= |W T_m D'| + |W c_Tm|.

    D' is not known before the solve, but |D'| <= |c| / (2 sqrt(mu)). With the largest
    of the s_i as t = s_{r+1} / sqrt(mu / M), the first part is at most G |c| / sqrt(M),
    G = t^2 / (2 sqrt(1 + t^2)). Together, with H = |W c_Tm| / |c_m|,

        e <= (max_m G + max_m H) |c|,

    and the rank is the smallest with G and H both at most half the tolerance. All this
    a client knows by itself. With exact local steps |c|^2 is at most twice the loss, so
    F(D') exceeds the least F by at most tolerance^2 times the loss. More damping makes
    G and H smaller, so the bound holds for all dampings of the round.

    What is compared with is the sketch down to the cut-off. mu is the least damping
    that the policy will propose, if the largest singular value stays that of the round
    before; in the first round it is not known, and everything is kept.

    G knows nothing of the targets, so it holds as well for those that the policy probes
    at its candidates. It is pessimistic: mostly |D'| is far below its bound. Estimated
    by the |D'| of the round before instead, allen_cahn's ranks are a third smaller, but
    its errors end at 1e-9 instead of 1e-14: the linear model can do without the weak
    directions, the way to the solution cannot.

    Raises:
        ValueError: If ``tolerance`` is not positive and finite.
    """

    tolerance: float

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < inf:
            raise ValueError(
                f"A tolerance must be positive and finite, got {self.tolerance}; "
                "0.1 gives away at most a hundredth of the loss."
            )

    def __call__(self, values: Tensor, targets: Tensor, context: Context) -> int:
        """The rank, at most the number of s > cutoff."""
        most = AboveCutoff()(values, targets, context)
        g, h = changes(values[:most], targets[:most], context.damping)
        return int((torch.maximum(g, h) > self.tolerance / 2).sum())


def changes(
    singular_values: Tensor, targets: Tensor, damping: float
) -> tuple[Tensor, Tensor]:
    """G and H of ``Predictive`` for the ranks 0 ... k, both [k + 1], descending.

    Args:
        singular_values: Singular values, shape [k], descending.
        targets: Their targets, shape [k].
        damping: The client's share mu / M.
    """
    s, c = singular_values.double(), targets.double()
    g = s.square() / (2 * (damping * (s.square() + damping)) ** 0.5)
    left_out = (s * c).square() / (s.square() + damping)
    h = (left_out.flip(0).cumsum(0).flip(0)).sqrt() / c.norm()
    zero = s.new_zeros(1)
    return torch.cat([g, zero]), torch.cat([h.nan_to_num(0.0), zero])


FORMS = (
    "a rank such as '20', 'energy:0.999', 'cutoff', 'published:1.0', 'bytes:400000' "
    "or 'predictive:0.1'"
)
"""What ``parse`` understands, for messages."""

SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "energy": Energy,
    "cutoff": AboveCutoff,
    "published": Published,
    "bytes": Budget,
    "predictive": Predictive,
}
"""What makes the schedule of a name, with a number as its one option."""


def parse(text: str) -> Schedule:
    """The schedule that a word names, as on the command line.

    Args:
        text: ``"20"`` (fixed), ``"energy:0.999"``, ``"cutoff"``, ``"published:1.0"`` or
            ``"published"``, ``"bytes:400000"``, or ``"predictive:0.1"``.

    Raises:
        ValueError: If the text is none of these, or its number is out of range.
    """
    named = ":" in text or text.strip() in SCHEDULES
    word = Word("rank schedule", text.strip(), FORMS, named)
    try:
        make = SCHEDULES[word.name] if named else Fixed
        number = word.values(options_of(make), positional=1)
    except (KeyError, ValueError):
        raise ValueError(f"'{text}' is no rank schedule; give {FORMS}.") from None
    return make(**number)
