"""The terms of a loss, and what a residual function sees of their rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Generator, Tensor

from fedsciml.network import Jet, PointFunction
from fedsciml.problem.checks import finite, joined
from fedsciml.problem.outline import Outlined


class Row:
    """The n rows of a term, as its residual function sees them.

    Each coordinate is an attribute of shape [n]: ``row.x``, ``row.t``.

    Attributes:
        points: Shape [n, d].
        partner: Partners of the points, [n, d]; None if the term has none.
    """

    def __init__(
        self,
        points: Tensor,
        target: Tensor | None,
        coordinates: Sequence[str],
        partner: Tensor | None = None,
    ) -> None:
        self.points = points
        self.partner = partner
        self._target = target
        self._coordinates = coordinates

    @property
    def target(self) -> Tensor:
        """Known values at the points, shape [n], or [n, q] for several each."""
        if self._target is None:
            raise ValueError(
                "A residual reads row.target, but its Term has none; give "
                "Term(..., target=...): a number, one value per point, or a function "
                "of the points."
            )
        return self._target

    def __getattr__(self, name: str) -> Tensor:
        if name in self.__dict__.get("_coordinates", ()):
            return self.points[:, self._coordinates.index(name)]
        raise AttributeError(f"Rows have points, target and coordinates, no '{name}'")


Residual = Callable[[Jet, Row], "Tensor | Sequence[Tensor]"]
"""Maps the jets and the rows of n points to residuals [n], or to several of them.

Residual i may depend on the jets and rows of point i alone.
"""

Sampler = Callable[[int, Generator], Tensor]
"""Draws about n points [n, d] of the whole domain, whoever owns them."""


@dataclass(frozen=True, eq=False, repr=False)
class Term(Outlined):
    """One term of the loss: a residual that should vanish at some points.

    The loss is ``1/2 sum over terms of weight * mean(residual^2)``; for several
    residuals per point their squares are summed. Two terms are equal only if they are
    the same object.

    Args:
        name: Name in messages and records.
        residual: Function of the jets and the rows, see ``Residual``.
        points: Shape [n, d]; or one such tensor per client, who then owns those points
            whatever the partition says (clients without points: shape [0, d]).
        target: Known values at the points: a number, a tensor [n] or [n, q], a function
            of the points, or one tensor per client where the points come so. A single
            column [n, 1] becomes [n].
        weight: Factor alpha of the term in the loss, positive.
        autograd: The residual calls ``torch.autograd`` itself on ``u.values`` and
            ``row.points``.
        partner: A second point for every point, given as ``points`` are; the residual
            sees u there as ``u.partner``, for periodic conditions and jumps. Whoever
            owns the point owns the pair.
        sample: Draws other points of the term, for methods that resample; see
            ``resample``. The target must then be a function, a number or None.
    """

    name: str
    residual: Residual
    points: Tensor | np.ndarray | Sequence[Tensor] = field(repr=False)
    target: float | Tensor | np.ndarray | PointFunction | Sequence[Tensor] | None = (
        field(default=None, repr=False)
    )
    weight: float = 1.0
    autograd: bool = False
    partner: Tensor | np.ndarray | Sequence[Tensor] | None = field(
        default=None, repr=False
    )
    sample: Sampler | None = None

    @property
    def computed(self) -> bool:
        """Whether the target is a function of the points."""
        return callable(self.target) and not isinstance(self.target, Tensor)

    def target_at(self, points: Tensor) -> Tensor | None:
        """The target at points [n, d], shape [n] or [n, q]; None if there is none.

        Raises:
            ValueError: If it is not finite, or not one value for each of the points.
        """
        target = self.target
        if callable(target) and not isinstance(target, Tensor):
            target = target(points)
        if isinstance(target, (int, float)):
            target = torch.full_like(points[:, 0], target)
        if target is None:
            return None
        target = joined(target).to(torch.float64)
        if target.ndim == 2 and target.shape[1] == 1:
            target = target.squeeze(1)
        if target.ndim == 0 or len(target) != len(points) or target.ndim > 2:
            raise ValueError(
                f"Targets of term '{self.name}' have shape {list(target.shape)} for "
                f"{len(points)} points; they must be [n] or [n, q]."
            )
        finite(target, f"targets of term '{self.name}'")
        return target

    def check_movable(self) -> None:
        """Raise ValueError if targets or partners are known at its own points alone."""
        known = self.target
        if not (known is None or callable(known) or isinstance(known, (int, float))):
            raise ValueError(
                f"Targets of term '{self.name}' are values at its own points; at "
                "others they are not known. Give Term(target=...) as a function of "
                "the points, or do not resample this term."
            )
        if self.partner is not None:
            raise ValueError(
                f"Term '{self.name}' pairs its points with partners; at others those "
                "are not known. Do not resample this term."
            )
