"""What inverse problems share: sensors' data, from the sites' files or made up.

An unknown number is found from what sensors of several sites measure. The measurements
are the term ``laplace.SENSORS``, where ``laplace`` looks for them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor

from fedsciml.analysis.laplace import SENSORS
from fedsciml.collocation import Partition, equal, in_box, strips, uniform
from fedsciml.network import PointFunction
from fedsciml.network.parallel import Parallel
from fedsciml.problem import Problem, Residual, Term
from fedsciml.problem.datafiles import DataFile, Points, load_points
from fedsciml.problems._suite import given

Data = Path | str | Sequence[DataFile | str | None] | None
"""Where the sites' data are; None where they are made."""

SITES = 4
"""Where data are made."""


@dataclass(frozen=True)
class Setting:
    """What an inverse problem is made with; see ``make`` of ``heat_inverse``."""

    clients: int | None
    seed: int
    noise: float
    data: Data
    measurements: int
    points: int
    weight: float


def inverse(
    name: str,
    network: Parallel,
    equation: Residual,
    solution: PointFunction,
    truth: Mapping[str, float],
    corners: tuple[Sequence[float], Sequence[float]],
    made: Setting,
    parameters: Mapping[str, object] | None = None,
) -> Problem:
    """An equation with unknown numbers, and what sensors measure of its solution.

    Args:
        name: Of the problem.
        network: With the unknowns.
        equation: Its residual.
        solution: Exact u at points (x, t), which the made measurements are of.
        truth: The unknowns there.
        corners: Lower and upper corner of the box of x and t.
        made: Sites, data and numbers of points.
        parameters: For the record, with those of ``made``.

    Raises:
        ValueError: If the setting makes no sense, or as ``readings`` and ``files``.
    """
    if made.clients is not None and made.clients < 1:
        raise ValueError(f"Sensors need at least 1 site, got {made.clients}.")
    if made.data is not None and made.noise:
        raise ValueError(
            f"Noise {made.noise} is for data that are made, but {made.data} has data; "
            "leave out one of them."
        )
    (left, _), (right, _) = corners
    sample = in_box(*corners)
    measured = None if made.data is None else files(made.data, made.clients, "xt")
    clients = made.clients or (len(measured.points) if measured else SITES)
    sites = strips(equal(left, right, clients))
    generator = Generator().manual_seed(made.seed)
    inside = uniform(made.points, *corners, generator)
    test = uniform(1000, *corners, generator)
    where = uniform(made.measurements, *corners, generator)
    data = measured or readings(where, solution, sites, made.noise, generator)
    known = measured is None
    place: dict[str, object] = {}
    if isinstance(made.data, (str, Path)):  # a folder with the data of all
        place["data"] = str(Path(made.data).absolute())
    return Problem(
        name,
        network,
        [
            Term("equation", equation, inside, sample=sample),
            Term(SENSORS, given, data.points, data.target, made.weight, sample=sample),
        ],
        sites,
        coordinates="xt",
        exact=solution if known else None,
        test_points=test if known else None,
        truth=truth if known else {},
        domain=corners,
        parameters={**asdict(made), "clients": clients, **place, **(parameters or {})},
        partial=not (known or place),
    )


def readings(
    points: Tensor,
    solution: PointFunction,
    sites: Partition,
    noise: float,
    generator: Generator,
) -> Points:
    """What sensors read at the points [n, d], with Gaussian errors; a part per site.

    Raises:
        ValueError: If the noise is negative or not finite.
    """
    if not 0 <= noise < float("inf"):
        raise ValueError(
            f"Noise is a standard deviation relative to the values, at least 0; got "
            f"{noise}."
        )
    exact = solution(points)
    errors = torch.randn(len(exact), generator=generator, dtype=exact.dtype)
    values = exact + noise * exact.square().mean().sqrt() * errors
    owner = sites.owner(points)
    own = [owner == site for site in range(sites.clients)]
    return Points([points[mine] for mine in own], [values[mine] for mine in own])


def files(
    data: Path | str | Sequence[DataFile | str | None],
    clients: int | None,
    coordinates: Sequence[str],
) -> Points:
    """The sites' data, a file each: those of a folder by name, or as listed.

    Raises:
        ValueError: If there are not as many files as clients, or as ``load_points``.
    """
    found = load_points(data, list(coordinates), ["u"])
    if clients not in (None, len(found.points)):
        raise ValueError(
            f"There are {len(found.points)} data files, but {clients} clients were "
            "asked for; give one file per client, or leave the number of clients out."
        )
    return found


def write(problem: Problem, directory: Path) -> None:
    """Keep the sensors' data of an inverse problem, a CSV file for each site.

    The numbers are written with all their digits: a run on the files is a run on the
    data of the problem.
    """
    number = [term.name for term in problem.terms].index(SENSORS)
    for shard in problem.shards():
        rows = shard.rows[number]
        assert rows.target is not None
        lines = [[*problem.coordinates, *problem.outputs]]
        for point, value in zip(
            rows.points.tolist(), rows.target.tolist(), strict=True
        ):
            lines.append([repr(x) for x in (*point, value)])
        path = directory / f"site{shard.client + 1:03}.csv"
        path.write_text("".join(",".join(line) + "\n" for line in lines))
