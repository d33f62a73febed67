"""A family of diffusion equations u_t = k u_xx + s(x): a material of each site's own.

Each site has a rod of 1 m, x in (0, 1) m and t in (0, 1) s, of a material with the
diffusivity k between 0.05 and 0.2 m^2/s. All rods start at 0 K, their ends stay at 0 K,
and all are heated by the same source s in K/s, which nobody knows: the sites find it
together, and each its own k. The term u_t, whose factor is known, tells how large both
are; in a steady state k and s could be told up to a common factor alone.

Data that are made are those of s = sin(pi x) + sin(2 pi x) / 2, by separation of
variables u = sum_n s_n / c_n (1 - exp(-c_n t)) sin(n pi x) with c_n = k n^2 pi^2.
"""

from math import pi
from typing import Literal

import torch
from torch import Tensor

from fedsciml.analysis.laplace import SENSORS
from fedsciml.collocation import explicit, in_box, uniform
from fedsciml.network import MLP, Network, Personal, PointFunction, lora
from fedsciml.network.jet import Jet
from fedsciml.network.parallel import Parallel
from fedsciml.problem import Problem, Row, Term
from fedsciml.problems._families import Sites, middle

BOX = [0.0, 0.0], [1.0, 1.0]
"""Of x in m and t in s."""

RANGES = {"k": (0.05, 0.2)}
"""Of the diffusivity, in m^2/s."""

SOURCE = 1.0, 0.5
"""Amplitudes of sin(pi x) and sin(2 pi x) in the source, in K/s."""

Part = Literal["magnitudes", "layer"]
"""What of the network is each site's own."""


def diffusion(w: Jet, row: Row) -> Tensor:
    """u_t - k u_xx - s, in K/s."""
    return w.u.t - w.k * w.u.xx - w.s.value


def measured(w: Jet, row: Row) -> Tensor:
    """u as it is measured, in K."""
    return w.u.value - row.target


def source(x: Tensor) -> Tensor:
    """s at x [n]."""
    first, second = SOURCE
    return first * torch.sin(pi * x) + second * torch.sin(2 * pi * x)


def solution(k: Tensor) -> PointFunction:
    """u and s of a material at points (x, t), [n, 2]."""

    def values(points: Tensor) -> Tensor:
        x, t = points.unbind(1)
        u = 0 * x
        for n, s in enumerate(SOURCE, 1):
            rate = k * (n * pi) ** 2
            u = u - s / rate * torch.expm1(-rate * t) * torch.sin(n * pi * x)
        return torch.stack([u, source(x)], 1)

    return values


WEIGHT = 0.01
"""Of the equation. With as much as the measurements have, its residual goes down only
slowly, and until then it pulls all diffusivities to one side, by 2 to 3 % after 50
rounds; so by less than the noise does."""


def still(points: Tensor) -> Tensor:
    """x (1 - x) t, which is 0 where u is."""
    x, t = points.unbind(1)
    return x * (1 - x) * t


def along(points: Tensor) -> Tensor:
    """x on [-1, 1], all that the source depends on."""
    return 2 * points[:, :1] - 1


def network(personal: Part) -> Network:
    """u of a site, with the part of the network that is its own."""
    base = MLP((2, 20, 20, 1), inputs=BOX, distance=still)
    if personal == "layer":
        return Personal(base, "classifier")
    kept = {"base": "trained", "personal": "magnitudes", "zero": "magnitudes"}
    return lora(base, 2, **kept)  # type: ignore[arg-type]


def make(
    clients: int = 8,
    seed: int = 0,
    points: int = 40,
    noise: float = 0.01,
    heterogeneity: float = 1.0,
    personal: Part = "layer",
    collocation: int = 100,
) -> Problem:
    """The problem.

    Args:
        clients: Number of sites.
        seed: Of the diffusivities, of the points and of the errors.
        points: Measurements of u at each site.
        noise: Standard deviation of a measurement over the root mean square of what all
            sites measure.
        heterogeneity: How far materials differ: 1 for the whole range of
            diffusivities, 0 for its middle at every site.
        personal: What of the network is each site's own: the last "layer", or the
            "magnitudes" of LoRA factors of rank 2 in every layer.
        collocation: Points at which each site asks for the equation.

    Raises:
        ValueError: If a value is out of range.
    """
    sites = Sites(clients, seed, points, noise, heterogeneity)
    (k,) = sites.numbers(*RANGES.values())
    exact = [solution(each) for each in k]
    where = sites.drawn(BOX)
    u = [of(x)[:, 0] for of, x in zip(exact, where, strict=True)]
    inside = sites.drawn(BOX, 3, collocation)
    sample = in_box(*BOX)
    return Problem(
        "materials",
        Parallel(
            [network(personal), MLP((1, 10, 10, 1), features=along)],
            personal=middle(RANGES),
        ),
        [
            Term("equation", diffusion, inside, weight=WEIGHT, sample=sample),
            Term(SENSORS, measured, where, sites.read(u), sample=sample),
        ],
        explicit(clients),
        coordinates="xt",
        outputs=("u", "s"),
        exact=exact,
        test_points=uniform(400, *BOX, sites.generator(4)),
        truth={"k": k},
        domain=BOX,
        parameters={
            **sites.parameters(),
            "personal": personal,
            "collocation": collocation,
        },
    )
