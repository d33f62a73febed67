"""Small problems that many tests share, by name.

Together they need every path of the library: one and several coordinates, outputs and
residuals, mixed and fourth derivatives, hard constraints, terms without points on a
client, a network and a residual that only torch's autograd can differentiate.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from fedsciml import problems
from fedsciml.collocation import explicit, strips, uniform
from fedsciml.likelihoods import Categorical
from fedsciml.network import MLP, ModuleNetwork, Personal, lora
from fedsciml.network.factors import Form
from fedsciml.network.jet import Jet
from fedsciml.network.parallel import Parallel
from fedsciml.problem import Drawn, Problem, Row, Sampler, Term
from fedsciml.problem.checks import joined
from fedsciml.residual import System


def draw(n: int, d: int, seed: int = 0) -> Tensor:
    """n points in the unit box."""
    return uniform(n, [0.0] * d, [1.0] * d, Generator().manual_seed(seed))


def once(words: Sequence[str]) -> list[Any]:
    """Parameters of a test: words NAME:OPTIONS after a name's first are slow."""
    seen, found = set[str](), list[Any]()
    for word in words:
        name = word.partition(":")[0]
        marks = [pytest.mark.slow] if name in seen else []
        found.append(pytest.param(word, marks=marks))
        seen.add(name)
    return found


def hold_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on neither J nor J Omega may be in memory as a whole."""
    monkeypatch.setattr("fedsciml.linalg.randomised.HELD", 0)
    monkeypatch.setattr("fedsciml.methods._anchored.HELD", 0)
    monkeypatch.setattr("fedsciml.methods._anchored.PIECE", 0)
    monkeypatch.setattr("fedsciml.methods._fipa.LARGEST_JACOBIAN", 0)


def theta(problem: Problem, seed: int = 0) -> Tensor:
    """Parameters away from the start: no bias is zero."""
    generator = Generator().manual_seed(seed)
    start = problem.network.init(generator, torch.float64)
    return start + 0.3 * torch.randn(len(start), generator=generator, dtype=start.dtype)


LABELLED = frozenset({"digits", "mnist5k"})
"""Problems of images and their classes."""

MEASURED = LABELLED | {"ammonium", "grunfeld", "outliers", "randhie"}
"""Problems of measured rows: no solution makes their residuals vanish, or these are the
predictors of a likelihood."""

MIXED = frozenset({"grunfeld"})
"""Those of them with random effects, at sites that are not to be joined."""

FAMILIES = frozenset({"gauges", "materials", "oscillations"})
"""Problems with solutions or unknown numbers of each site's own."""

SMALL: dict[str, dict[str, float]] = {
    "allen_cahn_time": {"points": 0.005, "width": 6},
    "ammonium": {},
    "euler_beam": {"points": 0.2},
    "gauges": {"points": 12, "clients": 3},
    "gramacy_lee": {"points": 0.1, "width": 10},
    "burgers_inverse": {"measurements": 40, "points": 20},
    "digits": {"size": 60, "width": 4, "alpha": 1.0},
    "grunfeld": {},
    "heat_inverse": {"measurements": 40, "points": 20},
    "helmholtz": {"points": 0.05, "width": 6},
    "inverse_diffusion_reaction": {"points": 0.5, "width": 6},
    "materials": {"points": 8, "collocation": 10, "clients": 3},
    "mnist5k": {"size": 30, "width": 2, "alpha": 1.0},
    "oscillations": {"points": 5, "collocation": 6, "clients": 3},
    "outliers": {},
    "poisson5d": {"points": 0.01},  # 260 rows a client at 0.02
    "poisson_multiscale": {"points": 0.5},
    "poisson_square": {"points": 0.2},  # of the lines of a grid
    "randhie": {},
    "schaffer": {"points": 0.005, "width": 6},
    "terrain": {"measurements": 80},
}
"""With what a problem is small, where it is not with a fiftieth of its points."""


def small(name: str, **parameters: object) -> Problem:
    """A problem of ``problems`` with few points, for those that can be scaled."""
    return problems.load(name, **{**SMALL.get(name, {"points": 0.02}), **parameters})


def given(u: Jet, row: Row) -> Tensor:
    """u - target."""
    return u.value - row.target


ENDS = torch.tensor([[0.0], [0.0], [1.0]], dtype=torch.float64)


def scalar() -> Problem:
    """-u'' + u^3 - u = 1 with soft boundary values; the middle client has none."""

    def pde(u: Jet, row: Row) -> Tensor:
        return -u.xx + u.value**3 - u.value - row.target

    return Problem(
        "scalar",
        MLP((1, 6, 5, 1)),
        [
            Term("pde", pde, draw(23, 1), target=1.0),
            Term("boundary", given, ENDS, target=0.1, weight=10.0),
        ],
        strips([0, 0.3, 0.8, 1]),
        exact=lambda x: torch.sin(3 * x[:, 0]),
        test_points=draw(20, 1, 1),
        domain=([0], [1]),
    )


def low_rank(personal: str = "magnitudes_B", form: Form = "split") -> Problem:
    """The same on low-rank factors, some of which are each client's own."""
    problem = scalar()
    network = lora(problem.network, 2, base="trained", form=form, personal=personal)
    return replace(problem, name="low_rank", network=network)


def mixed() -> Problem:
    """A nonlinear residual with mixed derivatives, sin activation, and data."""

    def pde(u: Jet, row: Row) -> Tensor:
        return u.xy + u.value * u.x + u.yy * u.t - torch.exp(row.x) * u.laplacian

    return Problem(
        "mixed",
        MLP((3, 7, 5, 1), activation="sin", initialisation="glorot"),
        [
            Term("pde", pde, draw(17, 3)),
            Term("data", given, draw(9, 3, 1), target=lambda x: x.prod(1)),
        ],
        strips([0, 0.5, 1], axis=2),
        coordinates="xyt",
    )


def system() -> Problem:
    """Two outputs, two residuals a point; Cauchy-Riemann with a bend."""

    def pde(w: Jet, row: Row) -> tuple[Tensor, Tensor]:
        return w.p.x - w.q.y + w.q.value**2, w.p.y + w.q.x * w.p.value - row.y

    def data(w: Jet, row: Row) -> tuple[Tensor, ...]:
        return (w.values - row.target).unbind(1)

    return Problem(
        "system",
        MLP((2, 6, 2), activation="swish"),
        [
            Term("pde", pde, draw(14, 2), weight=2.0),
            Term("data", data, draw(6, 2, 1), target=lambda x: x.sin()),
        ],
        strips([0, 0.4, 1]),
        coordinates="xy",
        outputs=("p", "q"),
    )


def hard() -> Problem:
    """Hard boundary values: u = sin(x) y + x (1 - x) cos(y) N."""

    def pde(u: Jet, row: Row) -> Tensor:
        return u.laplacian + u.xy * u.value - row.x

    return Problem(
        "hard",
        MLP(
            (2, 6, 5, 1),
            lift=lambda x: torch.sin(x[:, 0]) * x[:, 1],
            distance=lambda x: x[:, 0] * (1 - x[:, 0]) * torch.cos(x[:, 1]),
        ),
        [Term("pde", pde, draw(15, 2))],
        strips([0, 0.5, 1]),
        coordinates="xy",
    )


def beam() -> Problem:
    """u'''' + 1 = 0 with u(0) = u'(0) = 0 hard, u''(1) = u'''(1) = 0 soft."""

    def pde(u: Jet, row: Row) -> Tensor:
        return u.xxxx + 1

    def free(u: Jet, row: Row) -> tuple[Tensor, Tensor]:
        return u.xx, u.xxx

    return Problem(
        "beam",
        MLP((1, 6, 5, 1), activation="sigmoid", distance=lambda x: x**2),
        [Term("pde", pde, draw(11, 1)), Term("free end", free, ENDS[2:], weight=5.0)],
        strips([0, 0.5, 1]),
        exact=lambda x: -(x**4) / 24 + x**3 / 6 - x**2 / 4,
        test_points=draw(10, 1, 1),
    )


def inverse() -> Problem:
    """Two networks, one with hard values, and two unknown numbers; data on one side."""

    def pde(w: Jet, row: Row) -> Tensor:
        return w.nu * w.u.xx - w.k.value * w.u.value + w.k.x * w.rate - row.x

    def data(w: Jet, row: Row) -> Tensor:
        return w.u.value - row.target

    networks = [
        MLP((1, 5, 4, 1), distance=lambda x: x * (1 - x), lift=lambda x: x),
        MLP((1, 4, 1), activation="sin"),
    ]
    return Problem(
        "inverse",
        Parallel(networks, unknowns={"nu": 0.3, "rate": -1.0}),
        [
            Term("pde", pde, draw(14, 1)),
            Term("data", data, draw(6, 1, 1) / 2, target=lambda x: x.cos(), weight=3.0),
        ],
        strips([0, 0.5, 1]),
        outputs=("u", "k"),
        exact=lambda x: torch.cat([x.cos(), torch.full_like(x, math.nan)], 1),
        test_points=draw(10, 1, 2),
        truth={"nu": 0.1},
    )


def periodic() -> Problem:
    """u and u_x agree at x = 0 and 1; the network sees x and the sine of y."""

    def pde(u: Jet, row: Row) -> Tensor:
        return u.xx + u.yy * u.value - row.target

    def around(u: Jet, row: Row) -> tuple[Tensor, Tensor]:
        return u.value - u.partner.value, u.x - u.partner.x + u.value * u.partner.y

    left = draw(7, 2, 1) * torch.tensor([0.0, 1.0], dtype=torch.float64)
    return Problem(
        "periodic",
        MLP(
            (3, 6, 5, 1),
            features=lambda x: torch.stack(
                [x[:, 0], (3 * x[:, 1]).sin(), x.prod(1).exp()], 1
            ),
        ),
        [
            Term("pde", pde, draw(12, 2), target=lambda x: x.prod(1)),
            Term("around", around, left, partner=left + torch.eye(2)[0].double()),
        ],
        strips([0, 0.5, 1], axis=1),
        coordinates="xy",
    )


def transformed() -> Problem:
    """An output transform of two networks that is not affine, and an unknown number."""

    def pde(w: Jet, row: Row) -> Tensor:
        return w.u.xx + w.c * w.v.y - w.v.value * row.x

    def jump(w: Jet, row: Row) -> tuple[Tensor, Tensor]:
        return w.u.value - w.partner.u.value - row.y, w.partner.v.x - w.c

    def transform(x: Tensor, values: Tensor) -> Tensor:
        u, v = values[:, :1], values[:, 1:]
        return torch.cat([x[:, :1] + u * torch.exp(v), u * v], 1)

    left = draw(5, 2, 1) * torch.tensor([0.0, 1.0], dtype=torch.float64)
    return Problem(
        "transformed",
        Parallel([MLP((2, 4, 1)), MLP((2, 3, 3, 1))], {"c": 0.5}, transform),
        [
            Term("pde", pde, draw(11, 2)),
            Term("jump", jump, left, partner=left + torch.eye(2)[0].double()),
        ],
        strips([0, 0.5, 1], axis=1),
        coordinates="xy",
        outputs=("u", "v"),
    )


def module() -> Problem:
    """A network that is a torch module."""

    def pde(u: Jet, row: Row) -> Tensor:
        return u.t - 0.1 * u.xx + u.value * u.x

    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = torch.nn.Sequential(
            torch.nn.Linear(2, 6), torch.nn.Softplus(), torch.nn.Linear(6, 1)
        )
    return Problem(
        "module",
        ModuleNetwork(layers),
        [Term("pde", pde, draw(13, 2)), Term("data", given, draw(5, 2, 1), target=0.5)],
        strips([0, 0.5, 1]),
        coordinates="xt",
    )


def plain() -> Problem:
    """The problem ``scalar`` with its derivatives by torch.autograd in the residual."""

    def pde(u: Jet, row: Row) -> Tensor:
        def slope(values: Tensor) -> Tensor:
            return torch.autograd.grad(values.sum(), row.points, create_graph=True)[0]

        u_xx = slope(slope(u.value)[:, 0])[:, 0]
        return -u_xx + u.value**3 - u.value - row.target

    jets = scalar()
    return Problem(
        "plain",
        jets.network,
        [Term("pde", pde, draw(23, 1), target=1.0, autograd=True), jets.terms[1]],
        jets.partition,
    )


CASES: dict[str, Callable[[], Problem]] = {
    make.__name__: make
    for make in (
        scalar,
        mixed,
        system,
        hard,
        beam,
        inverse,
        periodic,
        transformed,
        module,
        plain,
    )
}


def sampled(problem: Problem, upper: float = 1.0) -> Problem:
    """A case with a sample for each of its terms.

    Points are drawn in the box that holds those of the term; ends are drawn among them.

    Args:
        problem: One of ``CASES``.
        upper: Part of the box in which they are drawn, from its lower corner on.
    """

    def among(term: Term) -> Sampler:
        points = joined(term.points)
        low, high = points.amin(0), points.amax(0)
        apart = None if term.partner is None else joined(term.partner)[0] - points[0]

        def sample(n: int, generator: Generator) -> Drawn:
            if len(points.unique(dim=0)) <= 2:
                draws = torch.randint(len(points), (n,), generator=generator)
                return Drawn(points[draws])
            x = uniform(
                n, [0.0] * points.shape[1], [upper] * points.shape[1], generator
            )
            x = low + (high - low) * x
            return Drawn(x, None if apart is None else x + apart)

        return sample

    terms = [replace(term, sample=among(term)) for term in problem.terms]
    return replace(problem, terms=terms)


def classes(prior: float = 0.0) -> Problem:
    """Points of three classes; the third client has none of the first."""
    random = Generator().manual_seed(0)
    y = torch.randint(3, (60,), generator=random)
    centres = torch.tensor([[0.2, 0.3], [0.5, 0.7], [0.8, 0.3]], dtype=torch.float64)
    x = centres[y] + 0.13 * torch.randn(60, 2, generator=random, dtype=torch.float64)
    x = x.clamp(0, 1)

    def logits(u: Jet, row: Row) -> Tensor:
        return u.values

    def term(chosen: slice) -> Term:
        target = y[chosen].double()
        told = Categorical()
        return Term("classes", logits, x[chosen], target=target, likelihood=told)

    return Problem(
        "classes",
        MLP((2, 6, 5, 3)),
        [term(slice(45))],
        strips([0, 0.35, 0.65, 1]),
        coordinates="xy",
        outputs="abc",
        tests=[term(slice(45, None))],
        prior=prior,
    )


def linear() -> Problem:
    """A straight line through |x - 1/2|: the two clients want opposite slopes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ModuleNetwork(torch.nn.Linear(1, 1))
    data = Term("data", given, draw(20, 1), target=lambda x: (x[:, 0] - 0.5).abs())
    return Problem("linear", network, [data], strips([0, 0.6, 1]))


def optimum(problem: Problem) -> Tensor:
    """The minimum of a problem whose residual is linear in theta."""
    start = torch.zeros(problem.network.size, dtype=torch.float64)
    linear = System(problem, problem.pooled()).linearise(start)
    return torch.linalg.lstsq(linear.jacobian(), -linear.residual).solution


def owned(prior: float = 0.0, clients: int = 4, n: int = 9) -> Problem:
    """Clients with a network, a shift and a rate of their own beside shared ones."""
    network = Parallel(
        [MLP((1, 5, 1)), Personal(MLP((1, 3, 1)))],
        {"k": 0.5},
        personal={"shift": 0.0, "rate": 1.0},
    )

    def data(u: Jet, row: Row) -> Tensor:
        return u.u.value + u.v.value + u.shift - row.target

    def equation(u: Jet, row: Row) -> Tensor:
        return u.u.xx + u.rate * u.v.x + u.k * u.u.value

    points = [draw(n, 1, m) for m in range(clients)]
    truth = [0.3 * m - 0.2 for m in range(clients)]
    exact = [lambda x, s=s: torch.sin(3 * x) + s for s in truth]
    targets = [v(x)[:, 0] for v, x in zip(exact, points, strict=True)]
    terms = [
        Term("data", data, points, target=targets),
        Term("equation", equation, [draw(n, 1, 9 + m) for m in range(clients)]),
    ]
    return Problem(
        "owned",
        network,
        terms,
        explicit(clients),
        outputs=("u", "v"),
        truth={"shift": truth},
        personal_prior=prior,
    )
