r"""Reading points and measured values from what clients send: two attacks.

Both know theta, the network, the domain (the unit square), how many points there are,
and a problem B z ~ c that was told in known coordinates of the rows J(x).

**By the row space** (``guessed``): J(x) of a client's point lies in the row space of B,
so that f(x) = |J(x) - J(x) B^+ B| / |J(x)| is zero there while nothing is truncated and
there are fewer rows than directions. The lowest minima are taken for the points.

**By the gramian** (``fitted``): B^T B is the sum of J(x)^T J(x) over the points, a
positive measure with as many atoms as points, of which k (k + 1) / 2 moments are known.
It is found by nonnegative least squares on a grid, neighbours made one, then places and
weights by Levenberg-Marquardt (one pass of: Boyd, Schiebinger, Recht, SIAM J. Optim.
27, 2017, arXiv 1507.01562). There may be more points than directions. The moments are
random products (J g)(J h), made orthonormal on the grid down to ``WEAK``.

The values are those of the step D = B^+ c, as J(x) D = y - u(x) at the points; u + J D
is the model that the sender would step to.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from fedsciml import MLP, Problem, Term
from fedsciml.collocation import explicit
from fedsciml.linalg.basis import Basis
from fedsciml.linalg.sketch import Sketch
from fedsciml.linalg.solve import spectrum
from fedsciml.network.jet import Jet
from fedsciml.problem import Row
from fedsciml.residual import System

NETWORK = MLP((2, 16, 16, 1))

GRID, STEPS, SHRINK, APART = 100, 40, 0.6, 1e-3
"""Points of the grid a side; steps of the refinement, each smaller by a factor; how far
two guesses must be from each other."""

MOMENTS, COARSE, WEAK, SURE = 1200, 50, 1e-7, 1e-13
"""Random products at most; points a side of their grid; singular value from which one
of their directions weighs less, and least one that is taken."""

SWEEPS, LIGHT, TWO, STRIDE = 15, 0.02, 1.5, 0.05
"""Of the refinement; part of a mean weight below which an atom is dropped, and above
which neighbours are not one; longest step of an atom."""

REFINED = 600
"""Atoms at most: of more the places stay those of the grid."""


class Observed(NamedTuple):
    """What an observer has.

    Attributes:
        theta: Shape [p].
        sketch: B [r, k] and c [r] in the coordinates of ``rows``.
        points: How many there are.
        basis: In which it was told, whitened if it has a whitening; None for k = p.
    """

    theta: Tensor
    sketch: Sketch
    points: int
    basis: Basis | None = None

    def rows(self, points: Tensor) -> Tensor:
        """J(x) in the coordinates of the sketch, shape [m, k]."""
        rows, _ = linearised(self.theta, points)
        if self.basis is None:
            return rows
        rows = self.basis.restricted(rows)
        return rows if self.basis.whitening is None else self.basis.whitened(rows)

    def step(self) -> Tensor:
        """D = B^+ c, shape [p]."""
        sketch = self.sketch
        if self.basis is not None:
            factor = sketch.factor
            if self.basis.whitening is not None:
                factor = factor @ self.basis.whitening
            sketch = sketch._replace(factor=self.basis.steps(factor))
        return spectrum(sketch).step(cutoff=1e-10)


def given(u: Jet, row: Row) -> Tensor:
    """u - y."""
    return u.value - row.target


def linearised(theta: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """J(x) [m, p] and u(x) [m] at points [m, 2], not weighted."""
    m = len(points)
    term = Term("u", given, [points], torch.zeros(m, dtype=theta.dtype), weight=m)
    whole = Problem("points", NETWORK, [term], explicit(1), coordinates="xy")
    linear = System(whole, whole.pooled()).linearise(theta)
    return linear.jacobian(), linear.residual


def own_model(seen: Observed, points: Tensor) -> Tensor:
    """u(x) + J(x) B^+ c at points [m, 2]: shape [m]."""
    rows, u = linearised(seen.theta, points)
    return u + rows @ seen.step()


def guessed(seen: Observed) -> tuple[Tensor, Tensor]:
    """The points [n, 2] and values [n] that the row space of B gives.

    There may be fewer where f has fewer minima.
    """
    basis, _ = torch.linalg.qr(seen.sketch.factor.mT)

    def f(points: Tensor) -> Tensor:
        rows = seen.rows(points)
        return (rows - rows @ basis @ basis.mT).norm(dim=1) / rows.norm(dim=1)

    grid = _grid(GRID)
    on_grid = f(grid)
    square = on_grid.view(1, GRID, GRID)
    lowest = -torch.nn.functional.max_pool2d(-square, 3, stride=1, padding=1)
    minima = (square == lowest).flatten().nonzero().flatten()
    minima = minima[on_grid[minima].argsort()][: 2 * seen.points + 20]
    x, step = grid[minima], 0.5 / GRID
    ways = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0], dtype=x.dtype)] * 2)
    each = torch.arange(len(x))
    for _ in range(STEPS):
        around = (x[:, None] + step * ways).clamp(0, 1)
        x = around[each, f(around.flatten(0, 1)).view(len(x), -1).argmin(1)]
        step *= SHRINK
    kept: list[Tensor] = []
    for point in x[f(x).argsort()]:
        if all((point - other).norm() > APART for other in kept):
            kept.append(point)
    points = torch.stack(kept[: seen.points])
    return points, own_model(seen, points)


def fitted(seen: Observed) -> tuple[Tensor, Tensor]:
    """The points [n, 2] and values [n] that B^T B gives.

    There may be fewer where fewer atoms fit.
    """
    from scipy.optimize import nnls

    factor = seen.sketch.factor
    random = Generator().manual_seed(0)
    count = min(6 * seen.points + 100, MOMENTS)
    shape = (2, factor.shape[1], count)
    g, h = torch.randn(shape, generator=random, dtype=factor.dtype)

    def products(points: Tensor) -> Tensor:
        rows = seen.rows(points)
        return (rows @ g) * (rows @ h)

    grid = _grid(COARSE)
    _, s, directions = torch.linalg.svd(products(grid), full_matrices=False)
    some = s > SURE * s[0]
    scale = len(grid) ** 0.5 / s[some].clamp(min=WEAK * s[0])
    orthonormal = directions[some].mT * scale
    goal = ((factor @ g) * (factor @ h)).sum(0) @ orthonormal

    def moments(points: Tensor) -> Tensor:
        return products(points) @ orthonormal

    found, _ = nnls(moments(grid).mT.numpy(), goal.numpy(), maxiter=100_000)
    weights = torch.from_numpy(found)
    mean = float(weights.sum()) / seen.points
    x, weights = _joined(grid, weights / mean)
    if len(x) <= REFINED:
        x, weights = _refined(moments, goal / mean, x, weights)
    points = x[weights.argsort(descending=True)[: seen.points]]
    return points, own_model(seen, points)


def _grid(side: int) -> Tensor:
    """Midpoints [side^2, 2] of the cells of the unit square."""
    axis = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    return torch.cartesian_prod(axis, axis)


def _joined(x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Atoms of which neighbours on the grid became one, if they weigh about one."""
    some = weights > LIGHT
    x, weights = x[some], weights[some]
    order = weights.argsort(descending=True)
    x, weights = x[order], weights[order]
    left = torch.ones(len(x), dtype=torch.bool)
    places, masses = [], []
    for i in range(len(x)):
        if not left[i]:
            continue
        near = left & ((x - x[i]).norm(dim=1) < 1.5 / COARSE)
        if weights[near].sum() > TWO:
            near = torch.arange(len(x)) == i
        left &= ~near
        masses.append(weights[near].sum())
        places.append((x[near] * weights[near, None]).sum(0) / masses[-1])
    return torch.stack(places), torch.stack(masses)


def _refined(
    moments: Callable[[Tensor], Tensor], goal: Tensor, x: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Places and weights whose moments are nearer to the goal."""
    m, mu, h = len(x), 1e-3, 1e-6
    axes = torch.eye(2, dtype=x.dtype)
    rest = weights @ moments(x) - goal
    for _ in range(SWEEPS):
        slopes = [(moments(x + h * e) - moments(x - h * e)) / (2 * h) for e in axes]
        jacobian = torch.cat([*(w * weights[:, None] for w in slopes), moments(x)])
        scale = jacobian.norm(dim=1)
        jacobian = jacobian / scale[:, None]
        gram, gradient = jacobian @ jacobian.mT, jacobian @ rest
        while mu < 1e3:
            step = torch.linalg.solve(gram + mu * torch.eye(3 * m).to(gram), gradient)
            step = -step / scale
            moved = step[: 2 * m].view(2, m).mT.clamp(-STRIDE, STRIDE)
            there = (x + moved).clamp(0, 1)
            heavy = (weights + step[2 * m :]).clamp(min=LIGHT**2)
            now = heavy @ moments(there) - goal
            if now.norm() < rest.norm():
                x, weights, rest, mu = there, heavy, now, max(mu / 5, 1e-14)
                break
            mu *= 5
        else:
            break
    return x, weights
