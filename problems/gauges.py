"""Sensors with an offset and a gain of their own, and the one field that all measure.

A field u on x, y in (0, 1) is read at 8 sites, each with an instrument of its own:

    reading = offset + gain u(x, y) + error

Field, offsets and gains are found together. They are so only if something is fixed: for
any a and b the field a + b u with other offsets and gains has the same readings. Here
the first site's instrument is calibrated: it reads the field itself, its offset is 0
and its gain is 1. The others follow because all sites read the same field, each
anywhere in the square.

Data that are made are those of u = sin(3 x) cos(2 y) + x y, with offsets between -0.5
and 0.5 and gains between 0.5 and 1.5.
"""

import torch
from torch import Generator, Tensor

from fedsciml.analysis.laplace import SENSORS
from fedsciml.collocation import explicit, uniform
from fedsciml.network import MLP
from fedsciml.network.jet import Jet
from fedsciml.network.parallel import Parallel
from fedsciml.problem import Drawn, Problem, Row, Term
from fedsciml.problems._families import Sites

BOX = [0.0, 0.0], [1.0, 1.0]

RANGES = {"offset": (-0.5, 0.5), "gain": (0.5, 1.5)}


def reading(u: Jet, row: Row) -> Tensor:
    """offset + gain u, or u of a calibrated instrument, less the reading."""
    value, free = row.target.unbind(1)
    own = u.offset + (u.gain - 1) * u.value
    return u.value + free * own - value


def anchors(n: int, generator: Generator) -> Drawn:
    """Readings of instruments that are not calibrated, anywhere."""
    target = torch.tensor([0.0, 1.0], dtype=torch.float64).expand(n, 2)
    return Drawn(uniform(n, *BOX, generator), target=target)


def field(points: Tensor) -> Tensor:
    """sin(3 x) cos(2 y) + x y."""
    x, y = points.unbind(1)
    return torch.sin(3 * x) * torch.cos(2 * y) + x * y


def make(
    clients: int = 8,
    seed: int = 0,
    points: int = 40,
    noise: float = 0.01,
    heterogeneity: float = 1.0,
) -> Problem:
    """The problem.

    Args:
        clients: Number of sites; the first one's instrument is calibrated.
        seed: Of offsets and gains, of the points and of the errors.
        points: Readings of each site.
        noise: Standard deviation of a reading over the root mean square of all.
        heterogeneity: How far instruments differ: 1 for the whole ranges of offsets
            and gains, 0 for offset 0 and gain 1 at every site.

    Raises:
        ValueError: If a value is out of range.
    """
    sites = Sites(clients, seed, points, noise, heterogeneity)
    offset, gain = sites.numbers(*RANGES.values())
    offset[0], gain[0] = 0.0, 1.0
    where = sites.drawn(BOX)
    told = [a + b * field(x) for a, b, x in zip(offset, gain, where, strict=True)]
    target = [
        torch.stack([value, torch.full_like(value, float(m > 0))], 1)
        for m, value in enumerate(sites.read(told))
    ]
    return Problem(
        "gauges",
        Parallel(
            [MLP((2, 20, 20, 1), inputs=BOX)],
            personal={"offset": 0.0, "gain": 1.0},
            scales={"offset": 1.0},
        ),
        [Term(SENSORS, reading, where, target, sample=anchors)],
        explicit(clients),
        coordinates="xy",
        exact=field,
        test_points=uniform(1000, *BOX, sites.generator(4)),
        truth={"offset": offset, "gain": gain},
        domain=BOX,
        parameters=sites.parameters(),
    )
