"""A problem: network, residual terms, reference solution, and who holds which points.

A ``Problem`` is a value; it knows no method. ``Problem.shards()`` is what the clients
hold, ``Problem.pooled()`` the same rows in one place, for the centralised methods.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Generator, Tensor

from fedsciml.collocation import Partition, explicit
from fedsciml.likelihoods import Gaussian
from fedsciml.network import AtSite, Jet, Nested, Network, PointFunction
from fedsciml.network.base import completed
from fedsciml.network.starts import framed
from fedsciml.problem import checks, numbers, parts, trial
from fedsciml.problem.checks import joined
from fedsciml.problem.compared import COMPARED, compared, own, own_test, truths
from fedsciml.problem.outline import Outlined
from fedsciml.problem.outward import SiteError
from fedsciml.problem.rows import Rows, Shard
from fedsciml.problem.term import Term


@dataclass(frozen=True, eq=False, repr=False)
class Problem(Outlined):
    """What a federation trains: the network, the terms, and the parties' points.

    Two problems are equal only if they are the same object.

    Args:
        name: Name in records and messages.
        network: An ``MLP``; several of them, or unknown numbers, by ``Parallel``; any
            torch module by ``ModuleNetwork``; or a class of your own, see ``Network``.
        terms: The residual terms.
        partition: Assigns each point of the terms to a client; see ``collocation``.
        coordinates: Names of the d coordinates, ``"xt"`` or ``("x1", "x2")``; of many
            that need no names, as pixels, ``numbered("x", d)``.
        outputs: Names of the network's c outputs, ``numbered("class", c)``.
        exact: Reference solution as a function of points [n, d]; or give ``reference``.
            NaN at points outside the domain, where maps stay empty. A list with a
            function for each client where every client has a solution of its own.
        test_points: Where the error is measured, shape [n, d]; with ``exact`` alone, at
            the points of the terms. A list with points for each client, whose own
            solution is compared there; they are joined to one tensor. One tensor beside
            a list ``exact`` or ``reference`` stands for the same points at each client.
        reference: Values of the solution at ``test_points``, shape [n] or [n, c]; a
            column of NaN for an output that is not known. A list likewise.
        truth: True values of unknown numbers, as far as they are known; a list where
            each client has its own, with a value for each.
        domain: Corners (lower, upper) of a box that holds all points; checked if given.
        tests: Terms at points that are never trained on, such as a test split, whose
            metrics tell how good a model is.
        prior: lambda of lambda/2 |theta|^2, a part of the loss that needs no data;
            minus the logarithm of a normal prior, also called weight decay.
        personal_prior: lambda of lambda/2 |f - f_0|^2 for the parameters f of each
            client's own, f_0 those that it begins with: a normal prior of what differs
            between clients.
        test_owners: The number of the client whose solution is compared at each test
            point, whole numbers [n]; follows from lists, None without.
        parameters: The arguments that made the problem, for the record.
        partial: Whether terms and clients may lack points because these are elsewhere:
            for the problem as one site makes it, or a server without data.

    Raises:
        ValueError: If the parts do not fit together, a point is not finite or outside
            the domain, no residual depends on an unknown number, or a client would own
            no point at all.
    """

    name: str
    network: Network
    terms: Sequence[Term]
    partition: Partition = None  # type: ignore[assignment]  # refused, in words
    coordinates: Sequence[str] = ("x",)
    outputs: Sequence[str] = ("u",)
    exact: PointFunction | Sequence[PointFunction] | None = None
    test_points: Tensor | Any = None  # a list is joined, and so is a reference
    reference: Tensor | Any = None
    truth: Mapping[str, Any] = field(default_factory=dict)
    domain: tuple[Sequence[float], Sequence[float]] | None = None
    parameters: dict[str, object] = field(default_factory=dict)
    partial: bool = False
    tests: Sequence[Term] = ()
    prior: float = 0.0
    personal_prior: float = 0.0
    test_owners: Tensor | None = None
    testing: "Problem | None" = field(default=None, init=False, repr=False)
    _targets: tuple[Tensor | None, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        parts.check(self, Term)
        for name in ("terms", "coordinates", "outputs", "tests"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.terms:
            raise ValueError(f"Problem '{self.name}' has no terms; give at least one.")
        for term in (*self.terms, *self.tests):
            parts.term(f"problem '{self.name}'", term, Term)
        object.__setattr__(self, "network", completed(self.network))
        checks.names(self)
        parts.domain(self)
        object.__setattr__(self, "network", framed(self.network, self.domain))
        parts.prior(self)
        terms = tuple(checks.term(self, term) for term in self.terms)
        object.__setattr__(self, "terms", terms)
        targets = tuple(t.target_at(joined(t.points)) for t in terms)
        object.__setattr__(self, "_targets", targets)
        checks.network(self)
        begun = isinstance(self.network, AtSite)
        if self.unknowns and "alone" not in self.parameters and not begun:
            object.__setattr__(self, "network", numbers.sized(self))
            numbers.check(self)
        if len(self.network.own):
            object.__setattr__(self, "network", AtSite(self.network))
        object.__setattr__(self, "truth", truths(self))
        known = compared(self, self._owners)
        object.__setattr__(self, "test_points", known.points)
        object.__setattr__(self, "reference", known.values)
        object.__setattr__(self, "test_owners", known.owners)
        empty = [s.client for s in self.shards() if s.points == 0]
        if empty and not self.partial:
            raise ValueError(
                f"Partition '{self.partition.name}' of problem '{self.name}' leaves "
                f"client {empty[0]} of {self.clients} without any point. Use fewer "
                "clients, more points, or other edges."
            )
        trial.check(self)
        if self.tests:
            object.__setattr__(self, "testing", self._testing())

    def _testing(self) -> "Problem":
        """The tests as a problem of one party, which is not trained."""
        terms = []
        for term in self.tests:
            points = checks.points(self, joined(term.points), f"test '{term.name}'")
            target = term.target_at(points)
            terms.append(replace(term, points=[points], target=target, sample=None))
        apart: dict[str, Any] = dict.fromkeys(COMPARED)
        return replace(
            self,
            terms=terms,
            tests=(),
            partition=explicit(1),
            prior=0.0,
            truth={},
            **apart,
        )

    @property
    def squares(self) -> bool:
        """Whether the loss is half a sum of squares, of residuals alone."""
        return all(isinstance(term.likelihood, Gaussian) for term in self.terms)

    @property
    def normalised(self) -> bool:
        """Whether rows of a term weigh less where the solution is steep."""
        return any(term.normalise for term in self.terms)

    def penalty(self, theta: Tensor) -> float:
        """The prior's part of the loss, lambda/2 |theta|^2, of theta [p]."""
        return self.prior / 2 * float(theta @ theta) if self.prior else 0.0

    @property
    def clients(self) -> int:
        """Number of clients."""
        return self.partition.clients

    @property
    def unknowns(self) -> tuple[str, ...]:
        """Names of the unknown numbers that are trained with the network."""
        return tuple(self.network.unknowns)

    @property
    def personal(self) -> AtSite | None:
        """The network where some of its parameters are each client's own; or None."""
        return self.network if isinstance(self.network, AtSite) else None

    @property
    def shared_unknowns(self) -> tuple[str, ...]:
        """Names of the unknown numbers that are not each client's own."""
        own = self.personal.names if self.personal else ()
        return tuple(name for name in self.unknowns if name not in own)

    def numbers(self, theta: Tensor) -> dict[str, float]:
        """The shared unknown numbers at theta [p], by name, in their own units."""
        values = self.network.numbers(theta).tolist()
        found = dict(zip(self.unknowns, values, strict=True))
        return {name: found[name] for name in self.shared_unknowns}

    def true(self, client: int | None = None) -> dict[str, float]:
        """True values of unknown numbers, by name, as far as they are known.

        At one client; or, without its number, those that all clients have in common.
        """
        return {
            name: value if isinstance(value, float) else value[client]
            for name, value in self.truth.items()
            if client is not None or isinstance(value, float)
        }

    def by_term(self, losses: Sequence[float]) -> dict[str, float]:
        """Losses, one for each term or none, by the terms' names.

        Those of terms of the same name are added.
        """
        found = dict[str, float]()
        for term, loss in zip(self.terms, losses, strict=bool(losses)):
            found[term.name] = found.get(term.name, 0.0) + loss
        return found

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
            totals: Number of points of each term at all clients together, from which
                row weights and share follow; as counted here for None. Give it where
                the points of other clients are elsewhere.

        Raises:
            ValueError: If there is no such client.
        """
        self._check_client(client)
        own = [self._owners(term) == client for term in self.terms]
        return self._shard(client, own, totals)

    @property
    def total(self) -> int | None:
        """Points of all clients and terms; None where not all of them are here."""
        if self.partial:
            return None
        return sum(len(rows.points) for rows in self.pooled().rows)

    def counts(self, client: int) -> list[int]:
        """Number of points of each term that a client holds.

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
            self._rows(t, torch.arange(len(joined(term.points)), device="cpu"))
            for t, term in enumerate(self.terms)
        ]
        parts = tuple(self.shards()) if self.personal else ()
        return Shard(0, tuple(rows), 1.0, parts)

    def anchors(self, n: int | Sequence[int], seed: int = 0) -> tuple[Rows, ...]:
        """Rows of each term at public points, the same for every party.

        Points are those of the terms' ``sample``; a row's weight is sqrt(alpha / n), so
        that the rows stand for the whole as well as n points of each term can. What is
        data has targets of 1, as no party's are known to the others.

        Args:
            n: How many points of each term, or a number for each.
            seed: Of the points.

        Raises:
            ValueError: If a term has no ``sample``, or it draws something else, such as
                points that are not finite or outside of the domain; names it.
        """
        counts = list(n) if isinstance(n, Sequence) else [n] * len(self.terms)
        whole = all(type(count) is int and count >= 1 for count in counts)
        if len(counts) != len(self.terms) or not whole:
            raise ValueError(
                f"Problem '{self.name}' has {len(self.terms)} terms; give a number of "
                f"anchors of at least 1 for each, not {counts}."
            )
        found = []
        for t, (term, count) in enumerate(zip(self.terms, counts, strict=True)):
            generator = Generator().manual_seed((seed * 1_000_003 + t) % 2**63)
            try:
                drawn = term.drawn(count, generator)
            except ValueError:
                raise
            except Exception as error:
                raise ValueError(
                    f"The sample of term '{term.name}' raises {type(error).__name__}: "
                    f"{error}"
                ) from error
            where = f"the sample of term '{term.name}'"
            points, target = checks.points(self, drawn.points, where), drawn.target
            if target is None and isinstance(term.target, int | float):
                target = term.target_at(points)
            elif target is None:
                target = self.target(t, points)
            weight = (term.weight / len(points)) ** 0.5
            found.append(Rows(t, points, target, weight, drawn.partner))
        return tuple(found)

    def moved(self, rows: Rows, points: Tensor) -> Rows:
        """Rows of the same weight at other points [n, d], with the targets there.

        Raises:
            ValueError: As ``Term.check_movable``.
        """
        term = self.terms[rows.term]
        term.check_movable()
        return replace(rows, points=points, target=term.target_at(points))

    def target_of(self, number: int) -> Tensor | None:
        """The targets of term ``number`` at all its points; None if it has none."""
        return self._targets[number]

    def target(self, number: int, points: Tensor) -> Tensor | None:
        """The targets of term ``number`` at points [n, d]; 1 if they are data."""
        term, known = self.terms[number], self._targets[number]
        if known is None or term.computed:
            return term.target_at(points)
        return known.new_ones(len(points), *known.shape[1:])

    def alone(self, client: int) -> "Problem":
        """The problem of one client that trains alone.

        It has the client's rows with their weights, without terms of which the client
        has none; network, test points and reference stay, or are the client's own where
        every client has a solution of its own. ``parameters["alone"]`` is the number of
        the client.

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
        return replace(
            self,
            terms=terms,
            partition=explicit(1),
            parameters=parameters,
            tests=[own_test(test, client) for test in self.tests],
            **own(self, client),
        )

    def at(self, values: Tensor | None) -> Network:
        """The network of a client whose own parameters are these, f [p_f].

        Raises:
            ValueError: If clients have some of their own, and none are given.
        """
        if self.personal is None:
            return self.network
        if values is None:
            raise ValueError(
                f"Each client of problem '{self.name}' has parameters of its own, and "
                "so a solution of its own: say whose, as in result.solution(points, "
                "client=0)."
            )
        return self.personal.at(values)

    def solution(
        self, theta: Tensor, points: Tensor, values: Tensor | None = None
    ) -> Jet:
        """u and any of its derivatives at points [n, d]: ``.value``, ``.x``, ``.xx``.

        Also the unknown numbers, by name. Derivatives are computed when they are read,
        by torch.autograd.

        Args:
            theta: Shape [p].
            points: Shape [n, d].
            values: A client's own parameters f [p_f], where clients have some.

        Raises:
            ValueError: If the points have another shape, or it is not said whose the
                solution is.
        """
        theta, unknowns, network = theta.detach(), self.unknowns, self.at(values)
        found = checks.shaped(self, points, "result.solution(points)")
        x = found.to(theta).clone().requires_grad_()
        numbers = network.numbers(theta).expand(len(x), -1)
        with torch.enable_grad():
            nested = Nested(torch.cat([network(theta, x), numbers], 1), x)
        return Jet(
            lambda channel: nested(channel).detach(),
            self.coordinates,
            self.outputs,
            unknowns,
        )

    def _check_client(self, client: int) -> None:
        if not 0 <= client < self.clients:
            raise SiteError(
                f"Problem '{self.name}' has the clients 0 to {self.clients - 1}; got "
                f"{client}."
            )

    def _rows(self, number: int, chosen: Tensor, total: int | None = None) -> Rows:
        term = self.terms[number]
        points, target = joined(term.points), self._targets[number]
        partner = None if term.partner is None else joined(term.partner)
        weight = (term.weight / max(total or len(points), 1)) ** 0.5
        return Rows(number, points, target, weight, partner).part(chosen)

    def _owners(self, term: Term) -> Tensor:
        if isinstance(term.points, Tensor):
            try:
                return self.partition.owner(term.points)
            except ValueError as error:
                raise ValueError(f"Points of term '{term.name}': {error}") from error
        numbers = [k for k, part in enumerate(term.points) for _ in range(len(part))]
        return torch.tensor(numbers, dtype=torch.long, device="cpu")
