r"""Changes B A of low rank, and how they are made of factors and magnitudes.

    plain      B A,                    A [r, in], B [out, r]
    diagonal   B diag(m) A,            m [r]
    split      B' diag(b) diag(a) A',  a, b [r]

where A' are the rows of A and B' the columns of B, each divided by its norm: directions
apart from magnitudes. What a change is made of, its *parts*, are A, B, and the
magnitudes of its form in this order.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

Form = Literal["plain", "diagonal", "split"]
"""How a change is made."""

MAGNITUDES: Mapping[str, tuple[str, ...]] = {
    "plain": (),
    "diagonal": ("magnitudes",),
    "split": ("magnitudes_A", "magnitudes_B"),
}
"""Names of the magnitudes of each form."""


def scaled(form: Form, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """A [..., r, in] and B [..., out, r] with their magnitudes; m is in B."""
    a, b, *m = parts
    if form == "plain":
        return a, b
    if form == "diagonal":
        return a, b * _row(m[0])
    return _unit(a, -1)[0] * _column(m[0]), _unit(b, -2)[0] * _row(m[1])


def pushed(
    form: Form, parts: Sequence[Tensor], along: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Derivative of ``scaled`` along tangents of the parts."""
    (a, b, *m), (da, db, *dm) = parts, along
    if form == "plain":
        return da, db
    if form == "diagonal":
        return da, db * _row(m[0]) + b * _row(dm[0])
    (a, x), (b, y) = _unit(a, -1), _unit(b, -2)
    da = (da - _column((a * da).sum(-1)) * a) / x
    db = (db - _row((b * db).sum(-2)) * b) / y
    return (da * _column(m[0]) + a * _column(dm[0]), db * _row(m[1]) + b * _row(dm[1]))


def pulled(
    form: Form, parts: Sequence[Tensor], a_bar: Tensor, b_bar: Tensor
) -> tuple[Tensor, ...]:
    """Transpose of ``pushed``: cotangents of the parts."""
    a, b, *m = parts
    if form == "plain":
        return a_bar, b_bar
    if form == "diagonal":
        return a_bar, b_bar * _row(m[0]), (b * b_bar).sum(-2)
    (a, x), (b, y) = _unit(a, -1), _unit(b, -2)
    of_a, of_b = (a * a_bar).sum(-1), (b * b_bar).sum(-2)
    a_bar = (a_bar - _column(of_a) * a) * _column(m[0]) / x
    b_bar = (b_bar - _row(of_b) * b) * _row(m[1]) / y
    return a_bar, b_bar, of_a, of_b


def _unit(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """x over its norms along ``dim``, and these."""
    norm = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    return x / norm, norm


def _row(m: Tensor) -> Tensor:
    return m.unsqueeze(-2)


def _column(m: Tensor) -> Tensor:
    return m.unsqueeze(-1)
