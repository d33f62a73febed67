"""A problem: network, residual terms, reference solution, and who holds which points.

A ``Problem`` is a value; it knows no method. ``Problem.shards()`` is what the clients
hold, ``Problem.pooled()`` the same rows in one place, for the centralised methods.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Generator, Tensor

from fedsciml.collocation import Partition, explicit
from fedsciml.network import Network, PointFunction
from fedsciml.network.jet import Jet, Nested
from fedsciml.network.parallel import Parallel

RESERVED = {"laplacian", "partner", "points", "target", "value", "values"}
"""What a coordinate, an output or an unknown cannot be called."""


class Row:
    """The rows of a term, as its residual function sees them.

    ``row.points`` has shape [n, d]; ``row.target`` [n], or [n, q] for several targets;
    each coordinate is there by its name: ``row.x``, ``row.t``, shape [n].
    ``row.partner`` are the points' partners, [n, d], in a term that has them.
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
        """What the term was given as target, shape [n] or [n, q]."""
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


@dataclass(frozen=True)
class Term:
    """One term of the loss: a residual that should vanish at some points.

    The loss is ``1/2 sum over terms of weight * mean(residual^2)``; for several
    residuals per point their squares are summed.

    Args:
        name: What the term is called in messages.
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
    points: Tensor | np.ndarray | Sequence[Tensor]
    target: float | Tensor | np.ndarray | PointFunction | Sequence[Tensor] | None = None
    weight: float = 1.0
    autograd: bool = False
    partner: Tensor | np.ndarray | Sequence[Tensor] | None = None
    sample: Sampler | None = None

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


@dataclass(frozen=True)
class Rows:
    """What one party holds of one term: n points with targets, partners, row weight.

    ``weight`` is sqrt(alpha / n_total): the same at every party, so that the parties'
    losses, gradients and gramians add up to those of the whole.
    """

    term: int
    points: Tensor
    target: Tensor | None
    weight: float
    partner: Tensor | None = None

    def part(self, chosen: slice | Tensor) -> "Rows":
        """Some of the rows."""
        target, partner = (
            None if value is None else value[chosen]
            for value in (self.target, self.partner)
        )
        points = self.points[chosen]
        return replace(self, points=points, target=target, partner=partner)


@dataclass(frozen=True)
class Shard:
    """All that client number ``client`` holds; ``share`` is its part of all rows."""

    client: int
    rows: tuple[Rows, ...]
    share: float

    @property
    def points(self) -> int:
        """Number of points, over all terms."""
        return sum(len(rows.points) for rows in self.rows)


@dataclass(frozen=True)
class Problem:
    """What a federation trains: the network, the terms, and the parties' points.

    Args:
        name: A name for records and messages.
        network: Usually an ``MLP``, or several of them and unknown numbers, see
            ``Parallel``; a ``ModuleNetwork`` takes the general path.
        terms: The residual terms.
        partition: Gives each point of the terms its owner; see ``collocation``.
        coordinates: Names of the d coordinates, ``"xt"`` or ``("x1", "x2")``.
        outputs: Names of the network's c outputs.
        exact: Reference solution as a function of points [n, d]; or give ``reference``.
            Where it is nan, off the domain, maps stay empty.
        test_points: Where the error is measured, shape [n, d]; with ``exact`` alone, at
            the points of the terms.
        reference: Values of the solution at ``test_points``, shape [n] or [n, c]; a
            column of NaN for an output that is not known.
        truth: The unknown numbers' values, as far as they are known, to compare with.
        domain: Corners (lower, upper) of a box that holds all points; checked if given.
        parameters: What the problem was made with, for the record.
        partial: It is made at one party, or at a server without data: terms and
            clients may lack points that are elsewhere.

    Raises:
        ValueError: If the parts do not fit together, a point is not finite or outside
            the domain, or a client would own no point at all.
    """

    name: str
    network: Network
    terms: Sequence[Term]
    partition: Partition
    coordinates: Sequence[str] = ("x",)
    outputs: Sequence[str] = ("u",)
    exact: PointFunction | None = None
    test_points: Tensor | None = None
    reference: Tensor | None = None
    truth: Mapping[str, float] = field(default_factory=dict)
    domain: tuple[Sequence[float], Sequence[float]] | None = None
    parameters: dict[str, object] = field(default_factory=dict)
    partial: bool = False
    _targets: tuple[Tensor | None, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("terms", "coordinates", "outputs"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.terms:
            raise ValueError(f"Problem '{self.name}' has no terms; give at least one.")
        self._check_names()
        object.__setattr__(self, "terms", tuple(self._checked(t) for t in self.terms))
        targets = tuple(_target(t, _joined(t.points)) for t in self.terms)
        object.__setattr__(self, "_targets", targets)
        self._check_network()
        if self.test_points is None and self.exact is not None:
            everything = torch.cat([_joined(term.points) for term in self.terms])
            object.__setattr__(self, "test_points", everything)
        if self.test_points is not None:
            points = self._points(self.test_points, "test_points")
            object.__setattr__(self, "test_points", points)
            if self.reference is None and self.exact is not None:
                object.__setattr__(self, "reference", self.exact(points))
            if self.reference is not None:
                c = len(self.outputs)
                values = _matrix(self.reference, len(points), c, "reference")
                object.__setattr__(self, "reference", values)
        empty = [s.client for s in self.shards() if s.points == 0]
        if empty and not self.partial:
            raise ValueError(
                f"Partition '{self.partition.name}' of problem '{self.name}' leaves "
                f"client {empty[0]} of {self.clients} without any point. Use fewer "
                "clients, more points, or other edges."
            )

    @property
    def clients(self) -> int:
        """Number of clients."""
        return self.partition.clients

    @property
    def unknowns(self) -> tuple[str, ...]:
        """Names of the unknown numbers that are trained with the network."""
        network = self.network
        return tuple(network.unknowns) if isinstance(network, Parallel) else ()

    def shards(self) -> list[Shard]:
        """What each client holds, in the order of the clients."""
        owners = [self._owners(term) for term in self.terms]
        return [
            self._shard(m, [owner == m for owner in owners])
            for m in range(self.clients)
        ]

    def shard(self, client: int, totals: Sequence[int] | None = None) -> Shard:
        """What one client holds.

        Args:
            client: Its number.
            totals: Points of each term at all clients together, where those of the
                others are not here: row weights and share are of these.

        Raises:
            ValueError: If there is no such client.
        """
        self._check_client(client)
        own = [self._owners(term) == client for term in self.terms]
        return self._shard(client, own, totals)

    def counts(self, client: int) -> list[int]:
        """How many points of each term a client holds.

        Raises:
            ValueError: If there is no such client.
        """
        return [len(rows.points) for rows in self.shard(client).rows]

    def _shard(
        self, client: int, own: list[Tensor], totals: Sequence[int] | None = None
    ) -> Shard:
        totals = [len(mine) for mine in own] if totals is None else totals
        rows = tuple(
            self._rows(t, mine.nonzero().squeeze(-1), totals[t])
            for t, mine in enumerate(own)
        )
        share = sum(len(r.points) for r in rows) / max(sum(totals), 1)
        return Shard(client, rows, share)

    def pooled(self) -> Shard:
        """All rows in one place: what a centralised method trains on."""
        rows = [
            self._rows(t, torch.arange(len(_joined(term.points)), device="cpu"))
            for t, term in enumerate(self.terms)
        ]
        return Shard(0, tuple(rows), 1.0)

    def moved(self, rows: Rows, points: Tensor) -> Rows:
        """The rows at other points [n, d]: the targets there, and the same weight.

        Raises:
            ValueError: As ``Term.check_movable``.
        """
        term = self.terms[rows.term]
        term.check_movable()
        return replace(rows, points=points, target=_target(term, points))

    def target(self, number: int, points: Tensor) -> Tensor | None:
        """The targets of a term at points [n, d]; 1 where they are data."""
        term, known = self.terms[number], self._targets[number]
        if known is None or (
            callable(term.target) and not torch.is_tensor(term.target)
        ):
            return _target(term, points)
        return known.new_ones(len(points), *known.shape[1:])

    def alone(self, client: int) -> "Problem":
        """The problem of one party that federates with nobody.

        Its rows with their weights, terms without any left out; the network, the test
        points and the reference stay. ``parameters["alone"]`` is the client's number.

        Raises:
            ValueError: If there is no such client.
        """
        self._check_client(client)
        terms = [
            replace(
                self.terms[rows.term],
                points=[rows.points],
                target=rows.target,
                partner=None if rows.partner is None else [rows.partner],
                sample=None,  # it draws in the whole domain
                # A row's weight divides a term's by the points that are left.
                weight=rows.weight**2 * len(rows.points),
            )
            for rows in self.shards()[client].rows
            if len(rows.points)
        ]
        parameters = {**self.parameters, "alone": client}
        return replace(self, terms=terms, partition=explicit(1), parameters=parameters)

    def solution(self, theta: Tensor, points: Tensor) -> Jet:
        """u and any of its derivatives at points [n, d]: ``.value``, ``.x``, ``.xx``.

        And the unknown numbers. Derivatives are found as they are read, by the general
        autograd path.
        """
        theta, unknowns = theta.detach(), self.unknowns
        x = torch.as_tensor(points).to(theta).detach().clone().requires_grad_()
        numbers = theta[len(theta) - len(unknowns) :].expand(len(x), -1)
        with torch.enable_grad():
            nested = Nested(torch.cat([self.network(theta, x), numbers], 1), x)
        return Jet(
            lambda channel: nested(channel).detach(),
            self.coordinates,
            self.outputs,
            unknowns,
        )

    def _check_names(self) -> None:
        coordinates, outputs = self.coordinates, self.outputs
        names = [*coordinates, *outputs, *self.unknowns]
        if RESERVED & set(names) or len(set(names)) < len(names):
            raise ValueError(
                f"Coordinates {coordinates}, outputs {outputs} and unknowns "
                f"{self.unknowns} of problem '{self.name}' must differ from each other "
                f"and from {', '.join(sorted(RESERVED))}; rename them."
            )
        for name in self.unknowns:
            if name.startswith("_") or re.fullmatch(
                f"({'|'.join(coordinates)})+", name
            ):
                raise ValueError(
                    f"Unknown '{name}' of problem '{self.name}' cannot be told from a "
                    "derivative; rename it."
                )
        if strange := sorted(set(self.truth) - set(self.unknowns)):
            raise ValueError(
                f"The truth of problem '{self.name}' tells a value of '{strange[0]}', "
                f"but its unknowns are {', '.join(self.unknowns) or 'none'}; name them "
                "in Parallel(networks, unknowns=...)."
            )
        for name in coordinates:
            others = "|".join(re.escape(c) for c in coordinates if c != name)
            if not name.isidentifier() or (
                others and re.fullmatch(f"({others})+", name)
            ):
                raise ValueError(
                    f"Coordinate '{name}' of problem '{self.name}' cannot be told from "
                    f"a derivative along {', '.join(coordinates)}; rename it."
                )

    def _check_network(self) -> None:
        points = _joined(self.terms[0].points)[:2]
        start = self.network.init(torch.Generator().manual_seed(0), torch.float64)
        expected = [len(points), len(self.outputs)]
        try:
            shape = list(self.network(start, points.to(start)).shape)
        except RuntimeError as error:
            raise ValueError(
                f"The network of problem '{self.name}' does not take points "
                f"{list(points.shape)}, that is, coordinates "
                f"{', '.join(self.coordinates)}: {error}"
            ) from error
        if shape != expected:
            raise ValueError(
                f"The network of problem '{self.name}' returns shape {shape} for "
                f"points {list(points.shape)}; with outputs {', '.join(self.outputs)} "
                f"it must be {expected}."
            )

    def _check_client(self, client: int) -> None:
        if not 0 <= client < self.clients:
            raise ValueError(
                f"Problem '{self.name}' has the clients 0 to {self.clients - 1}; got "
                f"{client}."
            )

    def _rows(self, number: int, chosen: Tensor, total: int | None = None) -> Rows:
        term = self.terms[number]
        points, target = _joined(term.points), self._targets[number]
        partner = None if term.partner is None else _joined(term.partner)
        weight = (term.weight / max(total or len(points), 1)) ** 0.5
        return Rows(number, points, target, weight, partner).part(chosen)

    def _owners(self, term: Term) -> Tensor:
        if isinstance(term.points, Tensor):
            return self.partition.owner(term.points)
        numbers = [k for k, part in enumerate(term.points) for _ in range(len(part))]
        return torch.tensor(numbers, dtype=torch.long, device="cpu")

    def _checked(self, term: Term) -> Term:
        """The term with its points and targets as tensors of the right shape."""
        if not term.weight > 0:
            raise ValueError(
                f"Term '{term.name}' has weight {term.weight}; weights are positive."
            )
        where = f"term '{term.name}'"
        points = self._placed(term.points, where)
        partner = None
        if term.partner is not None:
            partner = self._placed(term.partner, f"the partners of {where}")
            held, paired = _counts(points), _counts(partner)
            if held != paired:
                raise ValueError(
                    f"The {where} has {held} points and {paired} partners; give every "
                    "point one partner, in the same form."
                )
        everything = _joined(points)
        if len(everything) == 0 and not self.partial:
            raise ValueError(f"The {where} has no points.")
        target = term.target
        if isinstance(points, tuple) and isinstance(target, (list, tuple)):
            held, known = [len(p) for p in points], [len(v) for v in target]
            if held != known:
                raise ValueError(
                    f"Targets of {where} come for {known} points of the clients, who "
                    f"have {held}; give each client one target per point."
                )
        return replace(term, points=points, partner=partner)

    def _placed(
        self, points: Tensor | np.ndarray | Sequence[Tensor], where: str
    ) -> Tensor | tuple[Tensor, ...]:
        """The points, checked; of each client where they come so."""
        if isinstance(points, (Tensor, np.ndarray)):
            return self._points(points, where)
        parts = tuple(self._points(part, where) for part in points)
        if len(parts) != self.clients:
            raise ValueError(
                f"Points of {where} come for {len(parts)} clients, but the partition "
                f"has {self.clients}; give one tensor per client, [0, d] for a client "
                "without points."
            )
        return parts

    def _points(self, points: Tensor | np.ndarray, where: str) -> Tensor:
        points = _joined(points).to(torch.float64)
        d = len(self.coordinates)
        if points.ndim != 2 or points.shape[1] != d:
            raise ValueError(
                f"Points of {where} have shape {list(points.shape)}; with coordinates "
                f"{', '.join(self.coordinates)} they must be [n, {d}]."
            )
        _finite(points, f"points of {where}")
        if self.domain is not None and len(points):
            lower, upper = (
                torch.as_tensor(corner, dtype=torch.float64, device="cpu")
                for corner in self.domain
            )
            slack = 1e-6 * (upper - lower)
            outside = ((points < lower - slack) | (points > upper + slack)).any(1)
            if outside.any():
                first = int(outside.nonzero()[0])
                raise ValueError(
                    f"Point {first} of {where}, {points[first].tolist()}, lies outside "
                    f"the domain {lower.tolist()} to {upper.tolist()} of problem "
                    f"'{self.name}'."
                )
        return points


def _target(term: Term, points: Tensor) -> Tensor | None:
    """The term's target at points [n, d]: [n], [n, q] or None."""
    target = term.target
    if callable(target) and not isinstance(target, Tensor):
        target = target(points)
    if isinstance(target, (int, float)):
        target = torch.full_like(points[:, 0], target)
    if target is None:
        return None
    target = _joined(target).to(torch.float64)
    if target.ndim == 2 and target.shape[1] == 1:
        target = target.squeeze(1)
    if target.ndim == 0 or len(target) != len(points) or target.ndim > 2:
        raise ValueError(
            f"Targets of term '{term.name}' have shape {list(target.shape)} for "
            f"{len(points)} points; they must be [n] or [n, q]."
        )
    _finite(target, f"targets of term '{term.name}'")
    return target


def _joined(parts: Tensor | np.ndarray | Sequence[Tensor]) -> Tensor:
    if isinstance(parts, (Tensor, np.ndarray)):
        return torch.as_tensor(parts, device="cpu").detach()
    if len(parts) == 0 or not isinstance(parts[0], (Tensor, np.ndarray)):
        return torch.as_tensor(parts, dtype=torch.float64, device="cpu")
    return torch.cat([_joined(part) for part in parts])


def _counts(points: Tensor | tuple[Tensor, ...]) -> int | list[int]:
    return len(points) if isinstance(points, Tensor) else [len(p) for p in points]


def _matrix(values: Tensor, n: int, c: int, where: str) -> Tensor:
    values = _joined(values).to(torch.float64)
    values = values.unsqueeze(-1) if values.ndim == 1 else values
    if list(values.shape) != [n, c]:
        raise ValueError(
            f"The {where} has shape {list(values.shape)} for {n} points and {c} "
            f"outputs; it must be [{n}, {c}]" + (f" or [{n}]." if c == 1 else ".")
        )
    _finite(values[:, ~values.isnan().all(0)], where)
    return values


def _finite(values: Tensor, where: str) -> None:
    bad = ~values.isfinite()
    if bad.any():
        place = bad.nonzero()[0].tolist()
        raise ValueError(f"Value at index {place} of the {where} is not finite.")
