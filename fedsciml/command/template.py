"""Heat in a rod, u_t = a u_xx: x in (0, 1) m, t in (0, 1) s, u in K, a = 0.1 m^2/s.

u = 0 at both ends and u = sin(pi x) at the start, so u = exp(-a pi^2 t) sin(pi x). The
sites own parts of the rod side by side. Measured values of u may be used, too.

    fedsciml run NAME.py                       train it
    fedsciml run NAME.py --help                what make() below takes
    fedsciml run NAME.py --set points=800      other arguments of make()
    fedsciml run NAME.py --set data=sites      with sites/a.csv, sites/b.csv, ...
"""

import math
from pathlib import Path

import torch
from torch import Tensor

from fedsciml import MLP, Problem, Term, load_points
from fedsciml.collocation import equal, in_box, on_faces, strips
from fedsciml.network.jet import Jet
from fedsciml.problem import Row

A = 0.1  # m^2/s
LOWER, UPPER = [0.0, 0.0], [1.0, 1.0]  # corners of the domain, (x, t)


# Residuals read like equations: u.value, u.x, u.xx, u.xt, ... are [n] each. What they
# return is zero where the equation holds; of several equations return a tuple.


def heat(u: Jet, row: Row) -> Tensor:
    """u_t - a u_xx, in K/s."""
    return u.t - A * u.xx


def given(u: Jet, row: Row) -> Tensor:
    """u - target, in K."""
    return u.value - row.target


def solution(points: Tensor) -> Tensor:
    """exp(-a pi^2 t) sin(pi x) at points [n, 2], to tell the error; if it is known."""
    x, t = points.unbind(1)
    return torch.exp(-A * math.pi**2 * t) * torch.sin(math.pi * x)


def make(
    clients: int = 3, seed: int = 0, points: int = 400, data: Path | None = None
) -> Problem:
    """The problem. Arguments become options of the command line, with this help.

    Args:
        clients: Number of sites; with data there are as many as files.
        seed: Of the points.
        points: Where the equation is asked for.
        data: Folder with a CSV file for each site, with the columns x, t and u.
    """
    measured = None if data is None else load_points(data, ["x", "t"], ["u"])
    if measured is not None:
        clients = len(measured.points)  # each site brings a file
    generator = torch.Generator().manual_seed(seed)
    # Where a term holds: a function that draws points there, for sites to share.
    inside = in_box(LOWER, UPPER)
    ends = on_faces(LOWER, UPPER, [(0, 0), (0, 1)])  # axis x, both sides
    start = on_faces(LOWER, UPPER, [(1, 0)])  # axis t, the lower side
    terms = [
        Term("equation", heat, inside(points, generator), sample=inside),
        Term("ends", given, ends(60, generator), 0.0, weight=10.0, sample=ends),
        Term("start", given, start(60, generator), solution, weight=10.0, sample=start),
    ]
    if measured is not None:
        terms.append(Term("sensors", given, *measured, sample=inside))
    return Problem(
        "NAME",
        MLP((2, 16, 16, 1)),  # 2 coordinates, two hidden layers, 1 output
        terms,
        strips(equal(LOWER[0], UPPER[0], clients)),  # who owns what, along x
        coordinates="xt",
        exact=solution,
        domain=(LOWER, UPPER),
        parameters={
            "clients": clients,
            "seed": seed,
            "points": points,
            "data": data and str(data),
        },
    )
