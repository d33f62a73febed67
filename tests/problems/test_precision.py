"""How many digits jets and targets have, against mpmath from the same float64 numbers.

Errors are counted in units of 2^-52 of the largest value over the points: what single
points lose by cancellation is no loss beside the others.
"""

from collections.abc import Callable, Sequence
from itertools import product
from math import factorial, prod

import extended
import mpmath
import numpy as np
import pytest
import torch
from cases import draw, theta
from mpmath import mpf
from reference import EXACT
from torch import Tensor

from fedsciml import problems
from fedsciml.network import MLP
from fedsciml.network.jet import channel, layout
from fedsciml.problems.gaussians2d import BUMPS
from fedsciml.residual import System

UNIT = torch.finfo(torch.float64).eps
DIGITS = 50

Series = dict[tuple[int, ...], mpf]
"""Coefficients of a truncated power series in the coordinates, by exponents."""


def units(found: Tensor, exact: Sequence[mpf], largest: float = 0.0) -> float:
    """Largest error in units of 2^-52 of the largest exact value, or of that given."""
    with mpmath.workdps(DIGITS):
        pairs = zip(found.tolist(), exact, strict=True)
        scale = largest or max(abs(e) for e in exact)
        return float(max(abs(mpf(f) - e) for f, e in pairs) / scale) / UNIT


def times(a: Series, b: Series, order: int) -> Series:
    """The product, without what is beyond the order."""
    result: Series = {}
    for (i, p), (j, q) in product(a.items(), b.items()):
        if sum(i) + sum(j) <= order:
            k = tuple(x + y for x, y in zip(i, j, strict=True))
            result[k] = result.get(k, mpf(0)) + p * q
    return result


def composed(f: Callable, z: Series, order: int) -> Series:
    """f(z) as sum of f^(k)(z_0) / k! (z - z_0)^k; higher powers vanish."""
    zero = (0,) * len(next(iter(z)))
    rest = {k: v for k, v in z.items() if k != zero}
    power: Series = {zero: mpf(1)}
    result: Series = {}
    for coefficient in mpmath.taylor(f, z[zero], order):
        for k, v in power.items():
            result[k] = result.get(k, mpf(0)) + coefficient * v
        power = times(power, rest, order)
    return result


def combined(weights: Tensor, bias: Tensor, inputs: list[Series]) -> list[Series]:
    """An affine layer."""
    zero = (0,) * len(next(iter(inputs[0])))
    result = []
    for row, b in zip(weights.tolist(), bias.tolist(), strict=True):
        total: Series = {zero: mpf(b)}
        for w, series in zip(row, inputs, strict=True):
            for k, v in series.items():
                total[k] = total.get(k, mpf(0)) + mpf(w) * v
        result.append(total)
    return result


def exact_series(network: MLP, theta: Tensor, point: Tensor, order: int) -> Series:
    """The power series of the network about a point."""
    d = len(point)
    zero = (0,) * d
    h: list[Series] = [
        {zero: mpf(x), tuple(int(i == j) for j in range(d)): mpf(1)}
        for i, x in enumerate(point.tolist())
    ]
    *hidden, last = network.layers(theta)
    for layer in hidden:
        h = [composed(EXACT[network.activation], z, order) for z in combined(*layer, h)]
    return combined(*last, h)[0]


ONE = ("value", "x", "xx", "xxx", "xxxx", "xxxxx")
TWO = ("xy", "laplacian", "xxy", "xyy", "xxyy", "xyyy")


@pytest.mark.parametrize("names", [ONE, TWO], ids=["one", "two"])
@pytest.mark.parametrize("activation", sorted(EXACT))
def test_jets_of_every_order_lose_only_the_last_digit(
    activation: str, names: tuple[str, ...]
) -> None:
    d, order = (1, 5) if names is ONE else (2, 4)
    network = MLP((d, 6, 5, 1), activation=activation)
    start = network.init(torch.Generator().manual_seed(0))
    start += 0.3 * draw(len(start), 1).squeeze(1)
    points = 2 * draw(5, d) - 1
    with mpmath.workdps(DIGITS):
        series = [exact_series(network, start, point, order) for point in points]
    for name in names:
        wanted = channel(name, "xy"[:d])
        top = layout([wanted])
        jets = network.forward(start, points, top).output[top.channels.index(wanted)]
        exact = []
        for coefficients in series:
            total = mpf(0)
            with mpmath.workdps(DIGITS):
                for index in wanted:
                    counts = tuple(index.count(i) for i in range(d))
                    total += prod(map(factorial, counts)) * coefficients[counts]
            exact.append(total)
        assert units(jets[:, 0], exact) < 10  # measured at most 6.5


def sines(k: int) -> Callable:
    """sin(k pi x)."""
    return lambda x: mpmath.sinpi(k * x)


def waves(*x: mpf) -> mpf:
    """sum_i sin(pi x_i)."""
    return sum(map(mpmath.sinpi, x), mpf(0))


def bumps(x: mpf, y: mpf) -> mpf:
    """The Gaussians, from the decimal numbers of their definition."""
    total = mpf(0)
    for numbers in BUMPS:
        a, mx, my, sx, sy = (mpf(str(number)) for number in numbers)
        total += a * mpmath.exp(-(((x - mx) / sx) ** 2 + ((y - my) / sy) ** 2) / 2)
    return total


SOLUTIONS: dict[str, Callable] = {
    "sine2": sines(2),
    "sine4": sines(4),
    "sine8": sines(8),
    "gaussians2d": bumps,
    **{f"poisson{d}d": waves for d in (1, 2, 3, 5)},
    "allen_cahn": sines(1),
    "bratu": lambda x: x * (1 - x),
    "fisher_kpp": lambda x: x * x * (1 - x),
    "reaction_diffusion": sines(2),
}
SOURCES: dict[str, Callable] = {
    **{f"poisson{d}d": lambda u, *x: mpmath.pi**2 * u for d in (1, 2, 3, 5)},
    "allen_cahn": lambda u, x: mpmath.pi**2 * u + u**3 - u,
    "bratu": lambda u, x: 2 - mpmath.exp(u),
    "fisher_kpp": lambda u, x: 6 * x - 2 + u * (1 - u),
    "reaction_diffusion": lambda u, x: 4 * mpmath.pi**2 * u + u**2,
}
"""f, written down again from the equations: -u'' + u^3 - u for Allen-Cahn."""


@pytest.mark.parametrize("name", sorted(SOLUTIONS))
def test_targets_are_exact_up_to_the_last_digits(name: str) -> None:
    problem = problems.load(name, points=0.1)
    solution = SOLUTIONS[name]

    def value(*x: mpf) -> mpf:
        return SOURCES[name](solution(*x), *x)

    functions = [value, solution] if name in SOURCES else [solution]
    rows = problem.pooled().rows
    known = [(r.points, r.target, f) for r, f in zip(rows, functions, strict=True)]
    known.append((problem.test_points, problem.reference[:, 0], solution))
    largest = float(problem.reference.abs().max())  # u is 0 at the ends of most
    for points, target, function in known:
        every = max(1, len(points) // 200)
        with mpmath.workdps(DIGITS):
            exact = [function(*map(mpf, x)) for x in points[::every].tolist()]
        scale = largest if function is solution else 0.0
        assert units(target[::every], exact, scale) < 3  # measured at most 1.7


@pytest.mark.skipif(
    np.finfo(np.longdouble).eps > 1e-18, reason="long doubles are doubles here"
)
@pytest.mark.parametrize("name", sorted(SOLUTIONS))
def test_residual_in_extended_precision_is_the_residual(name: str) -> None:
    problem = problems.load(name, points=0.02)
    start = theta(problem)
    r = System(problem, problem.pooled()).residual(start)
    for targets in (extended.given_targets(problem), None):
        exact = extended.residual(problem, extended.extended(start), targets)
        gap = extended.norm(extended.extended(r) - exact)
        assert 0 < gap < 4e-15 * extended.norm(r)  # measured at most 9e-16
