"""Unknown numbers of a problem: how large a change matters, and who depends on them.

Residuals are evaluated by torch.autograd, which takes any network and any residual.
Where points are elsewhere, and where all parties have to come to the same result, the
points are drawn: see ``probes``.
"""

import warnings
from collections.abc import Set
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from fedsciml.network import Jet, Nested, Network, Parallel
from fedsciml.problem.evaluation import evaluated
from fedsciml.problem.outward import SiteError
from fedsciml.problem.probes import probes
from fedsciml.problem.rows import Rows
from fedsciml.problem.term import Row

if TYPE_CHECKING:
    from fedsciml.problem.problem import Problem

FEW, MANY = 16, 512
"""Points drawn for a scale, and for a dependence that may be confined to a region."""

PRODUCTS = 4
"""Random products with J that estimate the lengths of its columns."""

NOISE = (0.0, 0.1, 1.0, -1.0, 3.0, -3.0)
"""How far from the start a derivative has to be zero before there is none."""

TINY = 1e-2
"""A start below this part of the change that matters is no scale."""


class Untrained(SiteError):
    """An unknown number would not be trained."""


def sized(problem: "Problem") -> Network:
    """The network, with scales for unknowns whose starts are too small to be scales.

    A start at 0 tells no scale, and from one far too small a number does not move: its
    column of J is too short beside those of the network's parameters. The scale then
    makes it as long as these are in the root mean square, near the start and at drawn
    points, so that it is the same at every party. A scale too large does little harm.
    """
    network = problem.network
    if not isinstance(network, Parallel):
        return network
    try:
        with warnings.catch_warnings(action="ignore"):
            sizes = _sizes(problem).tolist()
    except Exception:  # a residual that cannot be evaluated there tells nothing
        return network
    found = {
        name: size
        for (name, start), size in zip(network.unknowns.items(), sizes, strict=True)
        if name not in network.scales and abs(start) < TINY * size < float("inf")
    }
    return replace(network, scales={**network.scales, **found}) if found else network


def check(problem: "Problem") -> None:
    """Raise an error if an unknown number would not be trained.

    One of the residuals at least has to depend on it, and none on its value alone, off
    the graph of autograd. Of a party that has some of the points only, residuals are
    evaluated at drawn points as well; without a domain it can tell nothing.

    Raises:
        Untrained: The unknown is named, and how to write it.
    """
    held = list(problem.pooled().rows)
    if problem.partial and problem.domain is not None:
        held += probes(problem, Generator().manual_seed(0), MANY)
    live, frozen = set[str](), dict[str, str]()
    for rows in held:
        try:
            with warnings.catch_warnings(action="ignore"):  # of torch, on float(u.nu)
                moving, alive = _dependence(problem, rows, live)
        except Exception:  # a residual that cannot be evaluated says so in the run
            return
        live |= alive
        term = problem.terms[rows.term].name
        frozen |= {name: term for name in moving - alive if name not in frozen}
    for name, term in frozen.items():
        raise Untrained(
            f"The residual of term '{term}' of problem '{problem.name}' takes the "
            f"value of the unknown '{name}' without a derivative, so that it would not "
            f"be trained. Compute with u.{name} itself, a tensor: not with "
            f"float(u.{name}), u.{name}.item() or u.{name}.detach(), nor by comparing."
        )
    blind = problem.partial and problem.domain is None
    for name, start in problem.network.unknowns.items():
        if name not in live and not blind:
            raise Untrained(
                f"No residual of problem '{problem.name}' depends on the unknown "
                f"'{name}', which would keep its start {start:g} and look like found. "
                f"Compute with u.{name} in a residual, or leave the unknown out."
            )


def _dependence(
    problem: "Problem", rows: Rows, known: Set[str]
) -> tuple[set[str], set[str]]:
    """Unknowns with which the residuals change; and those of which they have a slope.

    At several parameters, as a factor of an unknown may vanish at the start, until each
    unknown that is not ``known`` to have one elsewhere has one here.
    """
    moving, live = set[str](), set[str]()
    sizes = problem.network.numbers(
        torch.ones(problem.network.size, dtype=torch.float64, device="cpu")
    )
    for draw, noise in enumerate(NOISE if len(rows.points) else ()):
        theta = _near(problem, noise)
        numbers = problem.network.numbers(theta)
        with torch.enable_grad():
            r = residuals(problem, rows, theta, numbers.requires_grad_())
            (slopes,) = _products(r, draw, numbers)
            for k, name in enumerate(problem.unknowns):
                if bool(slopes[k] != 0):  # also what is not finite
                    live.add(name)
                elif name not in live | moving:
                    other = numbers.detach().clone()
                    other[k] += sizes[k]
                    if not torch.equal(residuals(problem, rows, theta, other), r):
                        moving.add(name)
        if moving <= live and live | known >= set(problem.unknowns):
            break
    return moving, live


def _sizes(problem: "Problem") -> Tensor:
    """Changes of the unknowns that matter as much as a parameter's of 1, shape [s].

    At the unknowns' starts, but not at the network's: where u is 0 nothing matters.
    """
    numbers = problem.network.numbers(_near(problem, 0.0)).requires_grad_()
    theta = _near(problem, 0.1).requires_grad_()
    count = len(theta) - len(numbers)
    columns, column = theta.new_zeros(count), torch.zeros_like(numbers)
    for t, rows in enumerate(probes(problem, Generator().manual_seed(0), FEW)):
        with torch.enable_grad():
            r = residuals(problem, rows, theta, numbers)
        for draw in range(PRODUCTS):  # E |J^T w|^2 = |J|^2 column by column
            along, of = _products(r, draw, theta, numbers)
            columns += problem.terms[t].weight * along[:count] ** 2
            column += problem.terms[t].weight * of**2
    return (columns.mean() / column).sqrt()


def residuals(problem: "Problem", rows: Rows, theta: Tensor, numbers: Tensor) -> Tensor:
    """Residuals [q, n] on the graph of theta [p] and, apart, of the unknowns [s]."""
    n = len(rows.points)
    points, partner = (
        None if x is None else x.detach().clone().requires_grad_()
        for x in (rows.points, rows.partner)
    )
    assert points is not None
    x = points if partner is None else torch.cat([points, partner])
    values = problem.network(theta, x)
    nested = Nested(torch.cat([values, numbers.expand(len(x), -1)], 1), x)
    names = problem.coordinates, problem.outputs, problem.unknowns
    there = None if partner is None else Jet(lambda c: nested(c)[n:], *names)
    u = Jet(lambda c: nested(c)[:n], *names, there)
    row = Row(points, rows.target, problem.coordinates, partner)
    return evaluated(problem, rows.term, u, row)


def _near(problem: "Problem", noise: float) -> Tensor:
    """theta at the start, or so far from it, the unknowns farther, shape [p]."""
    generator = Generator().manual_seed(0)
    theta = problem.network.init(generator, torch.float64)
    away = torch.randn(
        len(theta), generator=generator, dtype=torch.float64, device="cpu"
    )
    away[len(away) - len(problem.unknowns) :] = 10
    return theta + noise * away


def _products(r: Tensor, draw: int, *leaves: Tensor) -> list[Tensor]:
    """J^T w for a random w and each leaf of the graph of r; 0 if it is off that."""
    generator = Generator().manual_seed(draw)
    w = torch.randn(r.shape, generator=generator, dtype=torch.float64, device="cpu").to(
        r
    )
    total = (r * w).sum() + sum(leaf[:0].sum() for leaf in leaves)
    found = torch.autograd.grad(total, leaves, retain_graph=True, allow_unused=True)
    pairs = zip(found, leaves, strict=True)
    return [torch.zeros_like(b) if a is None else a for a, b in pairs]
