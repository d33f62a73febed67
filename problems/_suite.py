"""What the problems share: their options, points, networks and partitions.

The points are drawn once for the whole domain and do not depend on the number of
clients: only their owners do, so that the centralised problem is the same whatever the
partition. Targets are exact in float64. ``sine``, ``square``, ``dirichlet`` and
``poisson`` make the experiments of Chang, He, Hao, FIPA (2026), arXiv 2601.13608: the
published number of points in each published strip or box.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Literal, TypedDict, Unpack

import torch
from torch import Generator, Tensor

from fedsciml.collocation import (
    Partition,
    boxes,
    equal,
    face,
    in_box,
    on_faces,
    pieces,
    sectors,
    strips,
    uniform,
)
from fedsciml.network import MLP, PointFunction
from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Residual, Row, Term
from fedsciml.registry import Word

LIMITS = {"clients": 10**6, "points": 10**4, "width": 10**5, "depth": 100}
"""The largest values of a setting: beyond them memory ends before any message."""


class Options(TypedDict, total=False):
    """What ``make`` takes besides ``clients``, with defaults; checked by ``Setting``.

    Args:
        clients: Number of clients M.
        seed: Of the points (default 0).
        partition: "strips" along the first axis; "slabs" along the last, which is time
            where there is one; "boxes" over the first two, as square as M allows;
            "pieces:K", see ``collocation.pieces``; "sectors" by angle, where the
            problem has a centre (default the published kind).
        edges: Of the strips or slabs, M + 1 numbers (default the published ones for
            the published M, equal strips for another).
        points: Factor of the published numbers of points (default 1).
        width: Of the hidden layers (default the published one).
        depth: Number of hidden layers (default the published one).
        activation: tanh, sin, sigmoid, swish or relu (default tanh).
        initialisation: Of the weights, fan_in or glorot (default the published one).
        first: Frequency of the first layer at the start, a number or "auto", see
            ``MLP`` (default the start that ``initialisation`` makes).
    """

    seed: int
    partition: str | None
    edges: Sequence[float] | None
    points: float
    width: int | None
    depth: int | None
    activation: str
    initialisation: str
    first: float | Literal["auto"] | None


class Counts(TypedDict, total=False):
    """Published numbers of a PDE; see ``dirichlet``."""

    interior: int
    boundary: int
    weight: float
    test: int
    layers: int
    width: int


@dataclass(frozen=True)
class Setting:
    """What a problem is made with, see ``Options``; None stands for what is published.

    "Published" is the problem's own, where it is ours.

    Raises:
        ValueError: If a value is out of range or the partition is not one of these.
    """

    clients: int
    seed: int = 0
    partition: str | None = None
    edges: Sequence[float] | None = None
    points: float = 1.0
    width: int | None = None
    depth: int | None = None
    activation: str = "tanh"
    initialisation: str = "fan_in"
    first: float | Literal["auto"] | None = None

    def __post_init__(self) -> None:
        if self.clients < 1:
            raise ValueError(
                f"A federation needs at least 1 client, got {self.clients}."
            )
        if not 0 <= self.seed < 2**63:
            raise ValueError(
                f"The seed must be at least 0 and below 2^63, got {self.seed}."
            )
        if not 0 < self.points < math.inf:
            raise ValueError(
                "points, a factor of the published numbers, must be positive and "
                f"finite, got {self.points}."
            )
        if self.width is not None and self.width < 1:
            raise ValueError(
                f"The width of the hidden layers must be at least 1, got {self.width}; "
                "leave it out for the published one."
            )
        if self.depth is not None and self.depth < 1:
            raise ValueError(
                "The depth, the number of hidden layers, must be at least 1, got "
                f"{self.depth}; leave it out for the published one."
            )
        for name, limit in LIMITS.items():
            value = getattr(self, name)
            if value is not None and value > limit:
                raise ValueError(
                    f"The {name} of a problem can be at most {limit}, got {value}; "
                    "more fits into no memory."
                )
        if self.edges is None:
            return
        if self.partition not in (None, "strips", "slabs"):
            raise ValueError(
                f"Edges are those of strips, but the partition is '{self.partition}'; "
                "leave out one of them."
            )
        if len(self.edges) != self.clients + 1:
            raise ValueError(
                f"{self.clients} clients need {self.clients + 1} edges, got "
                f"{len(self.edges)}: {list(self.edges)}. Give the edges of the domain "
                "too, or another number of clients."
            )

    def count(self, published: int) -> int:
        """Number of points instead of the published one."""
        return max(1, round(self.points * published))

    def kind(self, default: str) -> tuple[str, str]:
        """Kind of the partition, and what stands behind its colon, K of "pieces:K"."""
        word = Word("partition", self.partition or default, "pieces:K")
        return word.name, ",".join(word.items)

    def generator(self) -> Generator:
        """Source of the points; another stream than that of theta for the same seed."""
        return torch.Generator().manual_seed(1000 + self.seed)

    def network(
        self,
        d: int,
        layers: int,
        width: int,
        outputs: int = 1,
        lift: PointFunction | None = None,
        distance: PointFunction | None = None,
    ) -> MLP:
        """A network of the published size unless told otherwise; see ``MLP``."""
        width = width if self.width is None else self.width
        hidden = [width] * (layers if self.depth is None else self.depth)
        return MLP(
            (d, *hidden, outputs),
            activation=self.activation,
            initialisation=self.initialisation,
            lift=lift,
            distance=distance,
            first=self.first,
        )

    def divide(
        self,
        lower: Sequence[float],
        upper: Sequence[float],
        default: str = "strips",
        edges: Sequence[float] | None = None,
        angles: tuple[float, float] | None = None,
    ) -> Partition:
        """The partition of the box from ``lower`` to ``upper``.

        Args:
            lower: Lower corner.
            upper: Upper corner.
            default: The published kind.
            edges: The published edges of strips.
            angles: Between which the sectors about the origin lie, in radians.
        """
        kind, piece = self.kind(default)
        m, axis = self.clients, len(lower) - 1 if kind == "slabs" else 0
        if self.edges is not None:
            return strips(self.edges, axis)
        if kind == "strips" and edges is not None and m == len(edges) - 1:
            return strips(edges)
        if kind in ("strips", "slabs") or (kind == "boxes" and len(lower) == 1):
            return strips(equal(lower[axis], upper[axis], m), axis)
        if kind == "boxes":
            second = max(k for k in range(1, math.isqrt(m) + 1) if m % k == 0)
            counts = (m // second, second)
            return boxes([equal(lower[k], upper[k], n) for k, n in enumerate(counts)])
        if kind == "pieces" and piece.isdigit():
            return pieces(lower, upper, int(piece), m)
        if kind == "sectors" and angles is not None:
            return sectors(equal(*angles, m))
        also = "" if angles is None else "sectors, "
        raise ValueError(
            f"Unknown partition '{self.partition}'; choose strips, slabs, boxes, "
            f"{also}or pieces:K with a number K of pieces per client."
        )

    def parameters(self) -> dict[str, object]:
        """For the record."""
        edges = None if self.edges is None else [float(e) for e in self.edges]
        return {**asdict(self), "edges": edges}


def setting(clients: int, options: Options) -> Setting:
    """The options of ``make``, checked.

    Raises:
        ValueError: If an option is out of range.
    """
    return Setting(clients, **options)


def given(u: Jet, row: Row) -> Tensor:
    """u - target, for measured and boundary values."""
    return u.value - row.target


def all_given(w: Jet, row: Row) -> tuple[Tensor, ...]:
    """w - target for each output."""
    return (w.values - row.target).unbind(1)


def only(inside: Callable[[Tensor], Tensor], solution: PointFunction) -> PointFunction:
    """A solution that is nan off its domain, where pictures then stay empty.

    Args:
        inside: Maps points [n, d] to booleans [n].
        solution: Maps points [n, d] to values [n].
    """
    return lambda points: torch.where(inside(points), solution(points), math.nan)


def faces(
    n: int,
    lower: Sequence[float],
    upper: Sequence[float],
    generator: Generator,
    which: Sequence[tuple[int, int]],
) -> Tensor:
    """n points drawn uniformly on each of some faces of a box, one face after another.

    ``which`` are pairs (axis, side), as for ``collocation.on_faces``.
    """
    return torch.cat(
        [face(n, lower, upper, axis, side, generator) for axis, side in which]
    )


def grid(n: int, lower: Sequence[float], upper: Sequence[float]) -> Tensor:
    """About n points of an equispaced grid of a box, faces included, shape [n, d].

    In d dimensions the grid has round(n^(1/d)) lines along each axis, at least 2.
    """
    lines = max(2, round(n ** (1 / len(lower))))
    axes = [
        torch.linspace(a, b, lines, dtype=torch.float64, device="cpu")
        for a, b in zip(lower, upper, strict=True)
    ]
    return torch.cartesian_prod(*axes).reshape(-1, len(axes))


def sinpi(y: Tensor) -> Tensor:
    """sin(pi y), its period taken off y exactly: pi y rounds away digits of large y."""
    return torch.sin(math.pi * (y - 2 * torch.round(y / 2)))


def sine(k: int, edges: Sequence[float], clients: int, options: Options) -> Problem:
    """Regression of sin(k pi x) on [0, 1]: 400 uniform points in each strip."""
    made = setting(clients, options)
    generator, n = made.generator(), made.count(400)

    def solution(x: Tensor) -> Tensor:
        return sinpi(k * x[:, 0])

    drawn = [uniform(n, [a], [b], generator) for a, b in pairwise(edges)]
    return Problem(
        f"sine{k}",
        made.network(1, 3, 20),
        [
            Term(
                "data",
                given,
                torch.cat(drawn),
                target=solution,
                sample=in_box([0.0], [1.0]),
            )
        ],
        made.divide([0.0], [1.0], edges=edges),
        exact=solution,
        test_points=grid(1024, [0.0], [1.0]),
        domain=([0.0], [1.0]),
        parameters=made.parameters(),
    )


def square(
    name: str, solution: PointFunction, side: int, clients: int, options: Options
) -> Problem:
    """Regression on [0, 1]^2: 1000 uniform points in each of side x side boxes."""
    made = setting(clients, options)
    generator, n, h = made.generator(), made.count(1000), 1 / side
    drawn = [
        uniform(n, [i * h, j * h], [(i + 1) * h, (j + 1) * h], generator)
        for i in range(side)
        for j in range(side)
    ]
    return Problem(
        name,
        made.network(2, 4, 20),
        [
            Term(
                "data",
                given,
                torch.cat(drawn),
                target=solution,
                sample=in_box([0.0, 0.0], [1.0, 1.0]),
            )
        ],
        made.divide(
            [0.0, 0.0],
            [1.0, 1.0],
            "boxes" if math.isqrt(clients) ** 2 == clients else "strips",
        ),
        coordinates="xy",
        exact=solution,
        test_points=grid(256**2, [0.0, 0.0], [1.0, 1.0]),
        domain=([0.0, 0.0], [1.0, 1.0]),
        parameters=made.parameters(),
    )


def dirichlet(
    name: str,
    pde: Residual,
    solution: PointFunction,
    source: PointFunction,
    clients: int,
    options: Options,
    *,
    d: int = 1,
    interior: int = 400,
    boundary: int = 20,
    weight: float = 10.0,
    test: int = 1024,
    layers: int = 3,
    width: int = 32,
) -> Problem:
    """A PDE on [0, 1]^d with soft Dirichlet data, published for x_1 < 1/2 and > 1/2.

    Args:
        name: Of the problem.
        pde: Its residual; ``row.target`` is the source f.
        solution: Exact u, which also gives the boundary values.
        source: f as a function of points.
        clients: Number of clients.
        options: See ``Setting``.
        d: Dimension.
        interior: Points in each half.
        boundary: Points that one half holds of a face that meets it; a face that meets
            both has twice as many. In 1-D a face is one point, repeated.
        weight: lambda of the boundary term.
        test: Number of test points: equispaced in 1-D, else uniform.
        layers: Number of hidden layers.
        width: Of each of them.
    """
    made = setting(clients, options)
    generator = made.generator()
    zero, one = [0.0] * d, [1.0] * d
    halves = [(zero, [0.5, *one[1:]]), ([0.5, *zero[1:]], one)]
    n = made.count(interior)
    inside = [uniform(n, *half, generator) for half in halves]
    n = made.count(boundary)
    parts = [
        (part, axis, side)
        for axis in range(d)
        for side in (0, 1)
        for part in (halves if axis else [(zero, one)])
    ]
    around = [face(n, *part, axis, side, generator) for part, axis, side in parts]
    shares = [(axis, side) for _, axis, side in parts]

    return Problem(
        name,
        made.network(d, layers, width),
        [
            Term("pde", pde, torch.cat(inside), source, sample=in_box(zero, one)),
            Term(
                "boundary",
                given,
                torch.cat(around),
                target=solution,
                weight=weight,
                sample=on_faces(zero, one, shares),
            ),
        ],
        made.divide(zero, one),
        coordinates="xyz"[:d] if d <= 3 else [f"x{i + 1}" for i in range(d)],
        exact=solution,
        test_points=(
            grid(test, zero, one) if d == 1 else uniform(test, zero, one, generator)
        ),
        domain=(zero, one),
        parameters=made.parameters(),
    )


def poisson(
    d: int, clients: int, options: Options, **counts: Unpack[Counts]
) -> Problem:
    """-Lap u = f on [0, 1]^d with u = sum_i sin(pi x_i), so f = pi^2 u."""

    def pde(u: Jet, row: Row) -> Tensor:
        return -u.laplacian - row.target

    def solution(x: Tensor) -> Tensor:
        return torch.sin(math.pi * x).sum(1)

    def source(x: Tensor) -> Tensor:
        return math.pi**2 * solution(x)

    name = f"poisson{d}d"
    return dirichlet(name, pde, solution, source, clients, options, d=d, **counts)
