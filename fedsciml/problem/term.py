"""The terms of a loss, and what a residual function sees of their rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Generator, Tensor

from fedsciml.likelihoods import Gaussian, Likelihood
from fedsciml.network import Jet, PointFunction
from fedsciml.network.stand_in import Misread, StandIn, Unknown, of_a_tensor
from fedsciml.problem.checks import finite, joined
from fedsciml.problem.outline import Outlined
from fedsciml.problem.parts import called
from fedsciml.registry import suggestion


class Row(StandIn):
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
            raise Misread(
                "A residual reads row.target, but its Term has none; give "
                "Term(..., target=...): a number, one value per point, or a function "
                "of the points."
            )
        return self._target

    def __getattr__(self, name: str) -> Tensor:
        if name in self.__dict__.get("_coordinates", ()):
            return self.points[:, self._coordinates.index(name)]
        if name.startswith("_"):
            raise AttributeError(name)
        known = ["points", "target", "partner", *self._coordinates]
        usual = (
            f"A row has the coordinates {', '.join(self._coordinates)}, points, target "
            f"and partner, no '{name}'.{suggestion(name, known)}"
        )
        raise Unknown(self.told(f"{{}}.{name}") if of_a_tensor(name) else usual)

    def told(self, form: str) -> str:
        """What to write instead of what the form shows, with ``{}`` for the rows."""
        first = f"row.{self._coordinates[0]}"
        return (
            f"{form.format('row')} takes row for a tensor, but it stands for "
            f"coordinates and targets. Did you mean {form.format(first)}? Tensors of "
            f"shape [n] are {', '.join(f'row.{name}' for name in self._coordinates)} "
            "and row.target; row.points is [n, d]. A residual is a function (u, row): "
            "first the solution, then the rows."
        )


Residual = Callable[[Jet, Row], "Tensor | Sequence[Tensor]"]
"""Maps the jets and the rows of n points to residuals [n], or to several of them.

Residual i may depend on the jets and rows of point i alone. With a likelihood they are
its predictors, of which [n, q] are several as well.
"""


@dataclass(frozen=True, eq=False, repr=False)
class Drawn(Outlined):
    """Points that a term's ``sample`` draws, where points alone are not enough.

    Equal only to itself, as it holds tensors.

    Attributes:
        points: Shape [n, d].
        partner: Their partners, shape [n, d], of a term that has partners.
        target: What the residual reads as ``row.target`` there, shape [n] or [n, q],
            where its derivative by theta depends on it, as on normals.
    """

    points: Tensor
    partner: Tensor | None = None
    target: Tensor | None = None


Sampler = Callable[[int, Generator], "Tensor | Drawn"]
"""Draws about n points [n, d] of a term, anywhere in the domain, whoever owns them.

It knows no party's points: all parties draw the same from the same generator.
"""


@dataclass(frozen=True, eq=False, repr=False)
class Term(Outlined):
    """One term of the loss: a residual that should vanish at some points.

    The loss is ``1/2 sum over terms of weight * mean(residual^2)``; for several
    residuals per point their squares are summed. With another likelihood than squares
    it is half its mean deviance. Two terms are equal only if they are the same object.

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
        sample: Draws points of the term where it holds, or could be measured: on its
            face, edge or hole, or in the whole domain. They are *anchors*, by which
            parties agree on the directions that they tell of (``Problem.anchors``); and
            points to test at or to train on instead, where the target is known
            everywhere: a function, a number or None.
        likelihood: What the rows are; see ``fedsciml.likelihoods``. Of classes, counts,
            yes or no, and censored measurements, the residual returns the predictor,
            such as logits, and ``target`` is what was observed.
        normalise: "gradient" for rows that weigh less where u is steep, which shocks
            need: residuals are divided by 1 + |grad u|, of the solution as it is when a
            round begins; see ``residual.gentle``. For squares alone.
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
    likelihood: Likelihood = field(default_factory=Gaussian)
    normalise: Literal["gradient"] | None = None

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
            target = called(target, points, f"The target of term '{self.name}'")
        if isinstance(target, (str, Path, Mapping)):
            raise ValueError(
                f"The target of term '{self.name}' is {target!r}; give a number, one "
                "value per point, or a function of the points, target=lambda x: "
                "torch.sin(x[:, 0]). Measured values are read by load_points."
            )
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

    @property
    def movable(self) -> bool:
        """Whether its targets and partners are known at other points than its own."""
        known = self.target
        anywhere = known is None or self.computed or isinstance(known, (int, float))
        return anywhere and self.partner is None

    def drawn(self, n: int, generator: Generator) -> Drawn:
        """About n points of ``sample``, and their partners and targets if it has them.

        Raises:
            ValueError: If the term has no ``sample``, or it draws no points [n, d], or
                none, or partners or targets that are not one for each of them.
        """
        if self.sample is None:
            raise ValueError(
                f"Term '{self.name}' does not say where it holds: give "
                "Term(sample=...), a function (n, generator) -> points [n, d]."
            )
        found = self.sample(n, generator)
        found = found if isinstance(found, Drawn) else Drawn(found)
        points = joined(found.points).to(torch.float64)
        partner, target = (
            None if x is None else joined(x).to(torch.float64)
            for x in (found.partner, found.target)
        )
        d = joined(self.points).shape[1]
        if points.ndim != 2 or points.shape[1] != d or not len(points):
            raise ValueError(
                f"The sample of term '{self.name}' has shape {list(points.shape)}; it "
                f"must be [n, {d}]."
            )
        pairs = None if partner is None else list(partner.shape)
        if pairs != (None if self.partner is None else list(points.shape)):
            wanted = "no" if self.partner is None else f"{list(points.shape)}"
            raise ValueError(
                f"The sample of term '{self.name}' drew {pairs or 'no'} partners; it "
                f"must draw {wanted} partners, as in Drawn(points, partner)."
            )
        if target is not None and len(target) != len(points):
            raise ValueError(
                f"The sample of term '{self.name}' drew {len(points)} points with "
                f"{len(target)} targets; it must draw one target for each."
            )
        return Drawn(points, partner, target)

    def check_movable(self) -> None:
        """Raise ValueError if targets or partners are known at its own points alone."""
        if self.movable:
            return
        if self.partner is None:
            raise ValueError(
                f"Targets of term '{self.name}' are values at its own points; at "
                "others they are not known. Give Term(target=...) as a function of "
                "the points, or do not resample this term."
            )
        raise ValueError(
            f"Term '{self.name}' pairs its points with partners; at others those are "
            "not known. Do not resample this term."
        )
