r"""Random test matrices whose products with a Jacobian cost little in wide networks.

The gradient of a row by the weight [b, a] of a layer and its bias is a sum of outer
products over the K channels of the jets, z_k [b] of what goes back through the layer
and h_k [a] of what it is applied to:

    dr/dW = sum_k z_k h_k^T,    dr/dbias = z_0.

With columns of Omega that are outer products as well, of u [b] and (v [a], w), these
being the columns of a Khatri-Rao product, the layer's part of J Omega takes 2 K (a + b)
operations a row instead of 2 a b:

    (J Omega)_j = sum_k (z_k . u_j) (h_k . v_j) + (z_0 . u_j) w_j.

The entries are uncorrelated: u has random signs, v and w are normal. What a range
finder finds by such a matrix was as accurate as by one of independent entries.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Generator, Tensor

WIDE = 24
"""Least a b / (a + b) of some layer where it pays: with a = b = 32 it takes as long as
the product with J itself, with 222 a tenth."""


@dataclass(frozen=True, eq=False)
class KhatriRao:
    """Omega [p, k] for the parameters of an MLP.

    Attributes:
        outer: u of each layer, shape [b, k].
        inner: v of each layer and w below it, shape [a + 1, k].
    """

    outer: list[Tensor]
    inner: list[Tensor]

    @property
    def shape(self) -> tuple[int, int]:
        """p and k."""
        sizes = (len(u) * len(v) for u, v in zip(self.outer, self.inner, strict=True))
        return sum(sizes), self.outer[0].shape[1]

    def matrix(self) -> Tensor:
        """Omega itself, shape [p, k]."""
        parts = list[Tensor]()
        for u, v in zip(self.outer, self.inner, strict=True):
            parts += [(u[:, None] * v[:-1]).flatten(0, 1), u * v[-1]]
        return torch.cat(parts)


def khatri_rao(
    widths: Sequence[int], columns: int, generator: Generator, like: Tensor
) -> KhatriRao:
    """A random one.

    Args:
        widths: Of the MLP.
        columns: Their number k.
        generator: Source of the numbers.
        like: Of the type and on the device wanted.
    """
    outer, inner = list[Tensor](), list[Tensor]()
    for a, b in pairwise(widths):
        place = generator.device
        signs = torch.randint(
            2, (b, columns), generator=generator, device=place, dtype=torch.int8
        )
        normal = torch.randn(
            a + 1, columns, generator=generator, device=place, dtype=torch.float32
        )
        outer.append(signs.to(like).mul_(2).sub_(1))
        inner.append(normal.to(like))
    return KhatriRao(outer, inner)


def pays(widths: Sequence[int]) -> bool:
    """Whether products by such a matrix are faster for an MLP than by any other."""
    return any(a * b > WIDE * (a + b) for a, b in pairwise(widths))
