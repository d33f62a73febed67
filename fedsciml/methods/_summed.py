"""What of a client's problem in a shared basis only needs to be added up."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from fedsciml.linalg.basis import SEEN, Basis, gramian, root, summed, symmetric
from fedsciml.methods._anchored import Anchored, Lifted, Linear, Whole, common
from fedsciml.methods._base import Answers, Field
from fedsciml.methods._fipa import Fipa, Found, Sketched
from fedsciml.methods._records import Record
from fedsciml.methods._sums import added

CLEAR = 1e-8
"""Eigenvalue of a client's gramian, relative to the largest, above which its answers
are held against each other: its square root loses half of the digits."""


class Sums(Record):
    """What of a client's problem only needs to be added to that of the others.

    Attributes:
        gramian: Upper triangle of A^T A row by row, shape [k (k + 1) / 2].
        target: -A^T r, shape [k].
        loss: 1/2 |r|^2.
        check: By which the bases are compared, shape [CHECKS].
        products: Of the gradient and its outside part, shape [2, PRODUCTS].
        desired: A^T A y of the client's own step W y, where it trained, shape [k].
    """

    gramian: Tensor
    target: Tensor
    loss: float
    check: Tensor
    products: Tensor
    desired: Tensor | None = None


class BySums:
    """Whitened gramians and targets: the server does nothing but add them up."""

    kind: ClassVar[type[Sums]] = Sums
    whiten: ClassVar[bool] = True

    def tell(
        self,
        method: Fipa,
        ask: Anchored,
        basis: Basis,
        linear: Linear,
        own: Tensor | None,
        who: tuple[int, int],
    ) -> tuple[Sums, Tensor]:
        """A^T A and -A^T r."""
        a = basis.whitened(linear.reduced)
        answer = Sums(
            gramian(a),
            -(linear.residual @ a),
            *common(ask, basis, linear),
            None if own is None else a.mT @ (linear.reduced @ own),
        )
        return answer, a

    def fields(self, method: Fipa, k: int) -> dict[str, Field]:
        """The same sizes from every client."""
        fields = {
            "gramian": Field((k * (k + 1) // 2,), scale=True),
            "target": Field((k,), scale=True, most=k),
        }
        if method.local is not None:
            fields["desired"] = Field((k,), scale=True, most=k)
        return fields

    def width(self, k: int) -> int:
        """k."""
        return k

    def whole(self, method: Fipa, basis: Basis, answers: Answers) -> Whole:
        """From the sums of all."""
        gram = symmetric(added(a.gramian for a in answers.values()), basis.size)
        problem = summed(basis, gram, added(a.target for a in answers.values()))
        desired = [a.desired for a in answers.values() if a.desired is not None]
        aimed = problem
        if desired:
            aimed = problem._replace(c=added(desired) @ problem.left)
        ranks = (basis.size,) * len(answers)
        return Whole(problem, aimed, ranks, {}, condition=_condition(gram))

    def targets(self, found: list[Found]) -> Tensor:
        """Their sum."""
        return added(answer.targets[:-1] for answer in found)

    def gradient(self, told: Sums, basis: Basis) -> Tensor:
        """R_w^T A^T r."""
        return -(told.target @ basis.scales)

    def lifted(self, told: Sums, basis: Basis, unit: float | None = None) -> Lifted:
        """The root of the gramian, in R^p; with a unit, what of it is clear."""
        gram = symmetric(told.gramian, basis.size)
        if unit is None:
            factor, inverse = root(gram)
            slack = unclear = 0.0
        else:
            unit = max(unit, torch.finfo(gram.dtype).eps)
            clear = max(CLEAR, 1e3 * unit)
            factor, inverse = root(gram, clear)
            slack = 10 * unit / clear
            size = gram.trace().clamp(min=0) * clear
            unclear = float(basis.scales.norm() * size.sqrt())
        factor, target = basis.steps(factor @ basis.scales), told.target @ inverse
        desired = None if told.desired is None else told.desired @ inverse
        sketched = Sketched(factor, target, (1 + slack) * told.loss, desired)
        return Lifted(sketched, inverse, 1 + slack, unclear)

    def wrong(self, told: Sums, k: int, unit: float) -> str | None:
        """That they are no gramian, or t_i^2 > 2 loss G_ii (Cauchy-Schwarz)."""
        gram = symmetric(told.gramian, k).double()
        if not k:
            return None
        size = float(gram.abs().max())
        rounded = 10 * k * max(unit, torch.finfo(told.gramian.dtype).eps) * size
        least = float(torch.linalg.eigvalsh(gram)[0])
        if not least >= -rounded:
            return f"its gramian has the eigenvalue {least:.1e}: it is none"
        most = 2 * told.loss * (gram.diagonal() + rounded)
        squares = told.target.double().square()
        if bool((squares > (1 + 1e-6) * most).any()):
            return (
                "its target is longer than its gramian and loss allow, "
                f"{float(squares.sum()):.2e} against {float(most.sum()):.2e}"
            )
        return None


def _condition(gram: Tensor) -> float:
    """Largest over smallest eigenvalue; infinite where one is lost in rounding."""
    w = torch.linalg.eigvalsh(gram)
    if not len(w):
        return 1.0
    least, largest = float(w[0]), float(w[-1])
    return largest / least if least > SEEN * largest else math.inf
