"""Hard constraints: the output transform u = lift + distance * N, for jets."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedsciml.network.base import PointFunction
from fedsciml.network.jet import Layout, derivatives


@dataclass(frozen=True, eq=False)
class Constraint:
    """u_k = lift_k + sum of factor * N_j over ``factors`` (k, j, factor [n, c]).

    Here k and j are numbers of channels, and ``lift`` has shape [K, n, c].
    """

    lift: Tensor | None
    factors: tuple[tuple[int, int, Tensor], ...]

    def apply(self, jets: Tensor) -> Tensor:
        """Jets of the solution from jets of the network N, both [K, n, c]."""
        result = jets
        if self.factors:
            result = torch.zeros_like(jets)
            for k, j, factor in self.factors:
                result[k].addcmul_(factor, jets[j])
        return result if self.lift is None else result + self.lift

    def pull(self, cotangent: Tensor) -> Tensor:
        """Transpose of the linear part of ``apply``."""
        if not self.factors:
            return cotangent
        result = torch.zeros_like(cotangent)
        for k, j, factor in self.factors:
            result[j].addcmul_(factor, cotangent[k])
        return result


def constraint(
    lift: PointFunction | None,
    distance: PointFunction | None,
    outputs: int,
    x: Tensor,
    layout: Layout,
) -> Constraint | None:
    """The transform of jets with c outputs at points x [n, d]; None for none."""
    if lift is None and distance is None:
        return None
    added = None
    if lift is not None:
        parts = derivatives(columns(lift, outputs), x, layout.channels)
        added = torch.stack([parts[c] for c in layout.channels])
    if distance is None:
        return Constraint(added, ())
    # Leibniz: (dN)_i = sum over the subsets S of the positions of i: d_{i - S} N_S.
    number = {channel: k for k, channel in enumerate(layout.channels)}
    wanted: dict[tuple[int, int], list[tuple[int, ...]]] = {}
    for k, channel in enumerate(layout.channels):
        wanted[k, k] = [()]
        for index in channel:
            for mask in range(2 ** len(index) - 1):
                inner = tuple(i for b, i in enumerate(index) if mask >> b & 1)
                outer = tuple(i for b, i in enumerate(index) if not mask >> b & 1)
                wanted.setdefault((k, number[(inner,)]), []).append(outer)
    needed = {(index,) for indices in wanted.values() for index in indices}
    parts = derivatives(columns(distance, outputs), x, needed)
    factors = tuple(
        (k, inner, sum((parts[(i,)] for i in rest), parts[(first,)]))
        for (k, inner), (first, *rest) in wanted.items()
    )
    return Constraint(added, factors)


def columns(function: PointFunction, outputs: int) -> PointFunction:
    """The function with its result [n] or [n, c] expanded to [n, c]."""

    def column(x: Tensor) -> Tensor:
        values = function(x)
        if values.ndim == 1:
            values = values.unsqueeze(-1)
        return values.expand(x.shape[0], outputs)  # len is no symbol to torch.export

    return column
