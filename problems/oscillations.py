"""A family of damped oscillations u'' + 2 gamma u' + (gamma^2 + omega^2) u = 0.

Each site has an oscillator of its own that is let go at t = 0 s where u = 1, with the
slope -gamma, so that u = exp(-gamma t) cos(omega t). Its rate gamma and its frequency
omega, in 1/s, are drawn from 0.2 to 1 and from 3 to 8; u is measured at 12 times
between 0 and 2 s. What the sites have in common is one network; of each are its two
numbers, and a part of the network.

With the equation gamma and omega are found as well. Without it the sites have nothing
but the data: what is to be learnt is the family itself.
"""

from typing import Literal

import torch
from torch import Generator, Tensor

from fedsciml.collocation import explicit, in_box
from fedsciml.network import MLP, Network, Personal, PointFunction, lora
from fedsciml.network.jet import Jet
from fedsciml.network.parallel import Parallel
from fedsciml.problem import Problem, Row, Term
from fedsciml.problems._families import Sites, middle
from fedsciml.problems._suite import given, grid

BOX = [0.0], [2.0]
"""Of the times, in s."""

RANGES = {"gamma": (0.2, 1.0), "omega": (3.0, 8.0)}
"""Of rate and frequency, in 1/s."""

WIDTHS = 20, 20, 1

WAVES, FAST = 50, 8.0
"""Waves of the shared layer where the layer above it is each site's own, and about the
greatest frequency of these."""

SLOW = 1 / 30.0
"""About 1 / omega^2, by which the equation is of the size of u."""

PRIOR, OWN = 5e-6, 1e-5
"""lambda of the parameters that are shared and of those of each site's own where data
are all that there is: found by trial, on families that no experiment has."""

PART = 0.01
"""Of the variance of a measurement, lambda of the prior of what is each site's own
with the equation known. With errors and no prior the 53 numbers follow the errors;
from 1e-9 to 1e-5 at noise .01 it made no difference how large it was."""

Part = Literal["magnitudes", "layer", "inputs"]
"""What of the network is each site's own."""


def oscillator(u: Jet, row: Row) -> Tensor:
    """u'' + 2 gamma u' + (gamma^2 + omega^2) u over omega^2 as it is in the middle."""
    square = u.gamma**2 + u.omega**2
    return SLOW * (u.tt + 2 * u.gamma * u.t + square * u.value)


def start(u: Jet, row: Row) -> tuple[Tensor, Tensor]:
    """u = 1 and u' = -gamma."""
    return u.value - 1, (u.t + u.gamma) * SLOW**0.5


def beginning(n: int, generator: Generator) -> Tensor:
    """t = 0, n times."""
    return torch.zeros(n, 1, dtype=torch.float64)


def solution(gamma: Tensor, omega: Tensor) -> PointFunction:
    """exp(-gamma t) cos(omega t)."""
    return lambda t: torch.exp(-gamma * t[:, 0]) * torch.cos(omega * t[:, 0])


def network(personal: Part) -> Network:
    """The shared network, with the part of it that is each site's own."""
    if personal != "layer":
        base = MLP((2, *WIDTHS), features=with_one)
        layers = [0, 1] if personal == "magnitudes" else [0]
        kept = {"base": "trained", "personal": "magnitudes", "zero": "magnitudes"}
        return lora(base, 2, layers, **kept)  # type: ignore[arg-type]
    waves = MLP((2, WAVES, 1), activation="sin", features=scaled)
    return Personal(waves, "classifier")


def with_one(t: Tensor) -> Tensor:
    """Times on [-1, 1], and 1: what is added to the first layer at a site."""
    return torch.cat([t - 1, torch.ones_like(t)], 1)


def scaled(t: Tensor) -> Tensor:
    """The same, so that the waves of the first layer are as fast as the solutions."""
    return FAST * with_one(t)


def make(
    clients: int = 12,
    seed: int = 0,
    points: int = 12,
    noise: float = 0.0,
    heterogeneity: float = 1.0,
    equation: bool = True,
    personal: Part | None = None,
    collocation: int = 60,
) -> Problem:
    """The problem.

    Args:
        clients: Number of sites.
        seed: Of rates and frequencies, of the times and of the errors.
        points: Measurements of each site.
        noise: Standard deviation of a measurement.
        heterogeneity: How far sites differ: 1 for the whole ranges of rates and
            frequencies, 0 for their middle at every site.
        equation: Whether the equation is known, with the numbers in it unknown; false
            for data alone.
        personal: What of the network is each site's own: the last "layer", above
            waves that all have in common; "magnitudes" of LoRA factors of rank 2 in
            both hidden layers; or "inputs", those in the first one alone, by which time
            is shifted and scaled. The layer with the equation and the magnitudes
            without, if it is not given.
        collocation: Times at which each site asks for the equation.

    Raises:
        ValueError: If a value is out of range.
    """
    part: Part = personal or ("layer" if equation else "magnitudes")
    sites = Sites(clients, seed, points, noise, heterogeneity)
    gamma, omega = sites.numbers(*RANGES.values())
    exact = [solution(g, w) for g, w in zip(gamma, omega, strict=True)]
    times = sites.drawn(BOX)
    values = sites.read([u(t) for u, t in zip(exact, times, strict=True)], 1.0)
    sample = in_box(*BOX)
    terms = [Term("data", given, times, values, sample=sample)]
    trained = network(part)
    if equation:
        trained = Parallel([trained], personal=middle(RANGES))
        inside = sites.drawn(BOX, 3, collocation)
        first = [torch.zeros(1, 1, dtype=torch.float64)] * clients
        terms += [
            Term("equation", oscillator, inside, sample=sample),
            Term("start", start, first, sample=beginning),
        ]
    return Problem(
        "oscillations",
        trained,
        terms,
        explicit(clients),
        coordinates="t",
        exact=exact,
        test_points=grid(201, *BOX),
        truth={"gamma": gamma, "omega": omega} if equation else {},
        domain=BOX,
        parameters={
            **sites.parameters(),
            "equation": equation,
            "personal": part,
            "collocation": collocation,
        },
        prior=0.0 if equation else PRIOR,
        personal_prior=PART * noise**2 if equation else OWN,
    )
