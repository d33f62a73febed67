"""Censored measurements: ammonium in rain, much of it below the limit of detection.

102 samples of precipitation at Hoh Ranger Station, Olympic National Park (site WA14 of
the National Atmospheric Deposition Program, NADP/NTN), of a week or two each, from
January 2009 to December 2011: NH4 in mg/L. Of 46 it is only known that they have less
than the limit, which was 0.006 to 0.018 mg/L. They come with lifelines (MIT).

The logarithm of the concentration in units of 0.01 mg/L, at the time t in years since
2009 began, is normal around a trend and a season:

    log c = m(t) + s e,    m = a (t - 1.5) + b cos 2 pi t + g sin 2 pi t + h

What is trained are m / s, a linear network on the three features, and the unknown
number precision = 1 / s: in these the loss is convex (R. J. Olsen, Econometrica 46,
1978). Clients have intervals of time: each of three has a year. Every fifth sample is
for testing alone.
"""

import csv
import math
from datetime import date

import torch
from torch import Generator, Tensor

from fedsciml.collocation import equal, strips, uniform
from fedsciml.likelihoods import Censored
from fedsciml.network import MLP
from fedsciml.network.jet import Jet
from fedsciml.network.parallel import Parallel
from fedsciml.problem import Drawn, Problem, Row, Term
from fedsciml.problems._data import FIFTH, packaged

UNIT = 0.01
"""Of the concentrations, in mg/L."""

BOX = [0.0], [3.0]
"""Of the times, in years."""

RESOLUTION = 0.1
"""Of the logarithms: a constant of the loss."""


def measured() -> tuple[Tensor, Tensor]:
    """Times [n, 1], and pairs [n, 2] of log concentration and -1 where it is a limit.

    The time is the middle of that in which the sample was collected.

    Raises:
        ModuleNotFoundError: If lifelines is not installed.
        FileNotFoundError: If it came without the data.
    """
    path = packaged("lifelines", "datasets", "nh4.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    days = [
        [
            (date.fromisoformat(row[end]) - date(2009, 1, 1)).days
            for end in ("Date.On", "Date.Off")
        ]
        for row in rows
    ]
    value = [math.log(float(row["NH4.mg.per.L"]) / UNIT) for row in rows]
    side = [-float(row["Censored"] == "TRUE") for row in rows]
    times = torch.tensor(days, dtype=torch.float64).mean(1, keepdim=True) / 365.25
    return times, torch.tensor([value, side], dtype=torch.float64).T


def features(t: Tensor) -> Tensor:
    """Trend and season at times [n, 1], shape [n, 3]."""
    turn = 2 * math.pi * t
    return torch.cat([t - 1.5, turn.cos(), turn.sin()], 1)


def standardised(w: Jet, row: Row) -> tuple[Tensor, Tensor]:
    """m / s and 1 / s."""
    return w.value, w.precision


def anchors(n: int, generator: Generator) -> Drawn:
    """Measured values at any time; one beyond a limit alone does not tell 1 / s."""
    times = uniform(n, *BOX, generator)
    values = torch.randn(n, generator=generator, dtype=times.dtype)
    return Drawn(times, target=torch.stack([values, torch.zeros_like(values)], 1))


def make(clients: int = 3, test: bool = True) -> Problem:
    """The problem.

    Args:
        clients: Number of clients, with equal intervals of time.
        test: Whether every fifth sample is kept for testing; false to train on all.

    Raises:
        ValueError: If a client would have no sample.
        ModuleNotFoundError: If lifelines is not installed.
    """
    times, pairs = measured()
    kept = (torch.arange(len(times)) % FIFTH == FIFTH - 1) & test
    known = Censored(scale=None, resolution=RESOLUTION)
    tests = [Term("NH4", standardised, times[kept], pairs[kept], likelihood=known)]
    return Problem(
        "ammonium",
        Parallel([MLP((3, 1), features=features)], unknowns={"precision": 1.0}),
        [
            Term(
                "NH4",
                standardised,
                times[~kept],
                pairs[~kept],
                sample=anchors,
                likelihood=known,
            )
        ],
        strips(equal(0, 3, clients)),
        coordinates="t",
        outputs=("level",),
        domain=BOX,
        parameters={"clients": clients, "test": test},
        tests=tests if test else [],
    )
