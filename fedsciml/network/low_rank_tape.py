r"""Derivatives by low-rank factors, without those by the weights that they change.

The gradient of a row by a weight W of an ``MLP`` is a sum over channels k of outer
products g_k a_k^T, cotangents of the pre-activations and what the layer is applied to.
With W = W_0 + B A it is by the factors, without the matrix [out, in],

    A:  sum_k (B^T g_k) a_k^T,    B:  sum_k g_k (A a_k)^T.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from torch import Tensor

from fedsciml.network.factors import pulled, scaled
from fedsciml.network.mapped import MappedTape
from fedsciml.network.tape import Tape


@dataclass(frozen=True, eq=False)
class FactorTape(MappedTape):
    """A tape of an ``MLP`` with low-rank factors in its weights, the rest fixed."""

    network: Any  # a Lora, whose module imports this one
    tape: Tape

    def jacobian(self, cotangents: Tensor, out: Tensor) -> None:
        """``rows`` of several cotangents [s, K, n, c], into ``out`` [s, n, q]."""
        for cotangent, rows in zip(cotangents, out, strict=True):
            self.rows(cotangent, rows)

    def rows(self, cotangent: Tensor, out: Tensor) -> None:
        """Write the gradient of each row with respect to phi into ``out`` [n, q]."""
        network, found = self.network, list[Sequence[Tensor]]()
        bars = self.tape.sweep(cotangent)
        sizes = ((a + 1) * b for a, b in pairwise(self.tape.widths))
        numbers = {s: k for k, s in enumerate(accumulate(sizes, initial=0))}
        parts = network.parts(self.phi)
        for matrix, own in zip(network.matrices, parts, strict=True):
            number = numbers[matrix.start]
            bar, into = bars[number], self.tape.applied(number)
            a, b = scaled(network.form, own)
            of = _outer(bar @ b, into), _outer(bar, into @ a.mT)
            found.append(pulled(network.form, own, *of))
        network.joined(found, out)


def _outer(left: Tensor, right: Tensor) -> Tensor:
    """Sum over channels of outer products: [K, n, a] and [K, n, b] to [n, a, b]."""
    result = left[0].unsqueeze(-1) * right[0].unsqueeze(-2)
    for one, two in zip(left[1:], right[1:], strict=True):
        result.addcmul_(one.unsqueeze(-1), two.unsqueeze(-2))
    return result
