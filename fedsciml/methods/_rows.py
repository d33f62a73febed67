"""Rows of a client in a shared basis: its sketch of J Q, [r, k] instead of [r, p]."""

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from fedsciml.linalg.basis import Basis, packed, trapezoid, unpacked
from fedsciml.linalg.ranks import Budget
from fedsciml.linalg.sketch import from_jacobian
from fedsciml.methods._anchored import Anchored, Lifted, Linear, Whole, common
from fedsciml.methods._base import Answers, Field
from fedsciml.methods._fipa import Fipa, Found, Sketched, aim, merge
from fedsciml.methods._records import Record
from fedsciml.methods._sketching import limits


class Rows(Record):
    """A client's problem B z ~ c in the coordinates z of D = Q z.

    Attributes:
        numbers: Of the trapezoid B [r, k], row by row.
        target: c = -U^T r, shape [r].
        loss: 1/2 |r|^2.
        check: By which the bases are compared, shape [CHECKS].
        products: Of the gradient and its outside part, shape [2, PRODUCTS].
        desired: B z of the client's own step, where it trained, shape [r].
        spectrum: As in ``_fipa.Sketched``.
    """

    numbers: Tensor
    target: Tensor
    loss: float
    check: Tensor
    products: Tensor
    desired: Tensor | None = None
    spectrum: Tensor | None = None


class ByRows:
    """A client's own rows: they stand side by side in the problem of the whole."""

    kind: ClassVar[type[Rows]] = Rows
    whiten: ClassVar[bool] = False

    def tell(
        self,
        method: Fipa,
        ask: Anchored,
        basis: Basis,
        linear: Linear,
        own: Tensor | None,
        who: tuple[int, int],
    ) -> tuple[Rows, Tensor]:
        """The sketch as far as the rank schedule wants it, as a trapezoid."""
        found = from_jacobian(linear.reduced, linear.residual)
        values = found.singular_values
        cutoff = ask.reach * (ask.top or float(values.norm()))
        rows = method.rows(basis.size, who[1], ask.theta)
        desired = None if own is None else found.factor @ own
        found = trapezoid(method.cut(found, desired, ask.plain, cutoff, who, rows))
        assert found.left is not None
        answer = Rows(
            packed(found.factor),
            found.target,
            *common(ask, basis, linear),
            None if own is None else found.factor @ own,
            values[:rows] if rows else None,
        )
        return answer, found.left

    def fields(self, method: Fipa, k: int) -> dict[str, Field]:
        """Asked again with one direction more, a client may send more rows."""
        most, own = k * (k + 1) // 2, self.width(k)
        fields = {
            "numbers": Field((f"numbers of {k}",), scale=True, most=most, bulk=True),
            "target": Field((own,), scale=True, most=k),
        }
        if method.local is not None:
            fields["desired"] = Field((own,), scale=True, most=k)
        if isinstance(method.rank, Budget):
            fields["spectrum"] = Field((f"values of {k}",))
        return fields

    def width(self, k: int) -> str:
        """The client's own rank, in this basis."""
        return f"r of {k}"

    def whole(self, method: Fipa, basis: Basis, answers: Answers) -> Whole:
        """The clients' rows below each other, as own sketches."""
        plain = {m: _plain(answer, basis.size) for m, answer in answers.items()}
        problem, _ = merge(plain.values())
        spectra = {m: answer.spectrum for m, answer in answers.items()}
        rows = method.rows(basis.size, len(answers), basis.directions)
        return Whole(
            problem,
            aim(problem, plain.values()),
            tuple(len(answer.target) for answer in plain.values()),
            {m: answer.target for m, answer in plain.items()},
            limits(spectra, rows),
        )

    def targets(self, found: list[Found]) -> Tensor:
        """Side by side."""
        return torch.cat([answer.targets[:-1] for answer in found], dim=-1)

    def gradient(self, told: Rows, basis: Basis) -> Tensor:
        """-B^T c."""
        return -(told.target @ _plain(told, basis.size).factor)

    def lifted(self, told: Rows, basis: Basis, unit: float | None = None) -> Lifted:
        """B Q^T."""
        plain = _plain(told, basis.size)
        factor, r = basis.steps(plain.factor), len(told.target)
        left = torch.eye(r, device=factor.device, dtype=factor.dtype)
        return Lifted(replace(plain, factor=factor), left)

    def wrong(self, told: Rows, k: int, unit: float) -> str | None:
        """That they are no trapezoid."""
        r = len(told.target)
        wanted = r * k - r * (r - 1) // 2
        if len(told.numbers) == wanted:
            return None
        return f"its {r} rows of {k} have {len(told.numbers)} numbers, not {wanted}"


def _plain(told: Rows, k: int) -> Sketched:
    """The rows as a sketch [r, k]."""
    factor = unpacked(told.numbers, len(told.target), k)
    return Sketched(factor, told.target, told.loss, told.desired, told.spectrum)
