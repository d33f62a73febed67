"""What problems on measured data share: files of packages, test splits, classes.

Which rows are kept for testing depends on no option but which of five fifths it is:
these were drawn once and for all, and nobody ever trains on the one that is kept.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from fedsciml.collocation import dirichlet, explicit, split
from fedsciml.extras import install
from fedsciml.likelihoods import Categorical
from fedsciml.network import Network
from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Row, Term, numbered

FIFTH = 5
"""One row in five is for testing."""

LOT = 18
"""Seed by which rows are drawn for testing."""


def packaged(package: str, *place: str) -> Path:
    """A data file that a package brings; the package is not imported.

    Args:
        package: Its name, as in ``import``.
        place: Folders and name of the file in the package's own folder.

    Raises:
        ModuleNotFoundError: If the package is not installed.
        FileNotFoundError: If it came without the file.
    """
    found = find_spec(package)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(
            f"The data come with the package {package}, which is not installed: "
            f"{install('data')}.",
            name=package,
        )
    path = Path(found.origin).parent.joinpath(*place)
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no {path}: this {package} came without its data. Install the "
            f"one from PyPI, {install('data')}."
        )
    return path


def pixels(path: Path) -> tuple[Tensor, Tensor]:
    """Images [n, d] and classes [n] of a CSV file of bytes, the class last."""
    values = np.loadtxt(path, np.uint8, delimiter=",")  # ten times as fast as floats
    return torch.from_numpy(values[:, :-1]).double(), torch.from_numpy(values[:, -1])


def table(path: Path, columns: Sequence[int] | None = None) -> Tensor:
    """Numbers of a CSV file with a line of names, float64 [rows, columns]."""
    return torch.from_numpy(
        np.loadtxt(path, delimiter=",", usecols=columns, skiprows=1)
    )


LEAST = 10
"""Images of each client, at least, where there are enough: Q. Li, Y. Diao, Q. Chen, B.
He, ICDE 2022."""


class Held(NamedTuple):
    """Numbers of rows to train on, and of those for testing alone."""

    train: Tensor
    test: Tensor


def held_out(groups: Tensor, train: int | None = None, fold: int = 0) -> Held:
    """A fifth of each group for testing; of the others, those to train on.

    Args:
        groups: To which group each row belongs, whole numbers [n]: its class.
        train: Rows to train on, drawn of those that remain; None for all of them.
        fold: Which fifth, 0 to 4.

    Returns:
        Numbers of rows, each part in a random order that is always the same.

    Raises:
        ValueError: If there are not so many rows to train on, or no such fifth.
    """
    if not 0 <= fold < FIFTH:
        raise ValueError(f"Fold must be 0 to {FIFTH - 1}, one fifth, got {fold}.")
    generator = Generator().manual_seed(LOT)
    order = torch.randperm(len(groups), generator=generator)
    apart = torch.zeros(len(groups), dtype=torch.bool)
    for group in groups.unique().tolist():
        own = order[groups[order] == group]
        edges = [round(len(own) * k / FIFTH) for k in (fold, fold + 1)]
        apart[own[slice(*edges)]] = True
    test, rest = order[apart[order]], order[~apart[order]]
    if train is not None and not 1 <= train <= len(rest):
        raise ValueError(
            f"There are {len(groups)} rows, {len(test)} of them to test with; size "
            f"must be 1 to {len(rest)}, got {train}."
        )
    return Held(rest[:train], test)


@dataclass(frozen=True)
class Shares:
    """How classes are divided over the clients; see ``make`` of ``digits``."""

    clients: int
    alpha: float
    seed: int
    balanced: bool
    fold: int = 0


def logits(u: Jet, row: Row) -> Tensor:
    """The network's outputs are the logits of the classes, [n, C]."""
    return u.values


def classification(
    name: str,
    network: Network,
    images: Tensor,
    labels: Tensor,
    shares: Shares,
    size: int | None,
    prior: float,
    more: dict[str, object],
) -> Problem:
    """Images and their classes, divided over the clients by their labels.

    The term has no ``sample``: the rows of pixels drawn at random tell nothing of those
    of images, so that no basis is shared.

    Args:
        name: Of the problem.
        network: From pixels to as many logits as there are classes.
        images: Of all, pixels of -1 to 1, shape [n, d].
        labels: Of all, whole numbers from 0, shape [n].
        shares: Who has which.
        size: How many are trained on, see ``held_out``.
        prior: lambda of lambda / 2 |theta|^2.
        more: Further parameters, for the record.

    Raises:
        ValueError: As ``held_out`` and ``collocation.dirichlet``.
    """
    own, test = held_out(labels, size, shares.fold)
    least = max(1, min(LEAST, len(own) // max(1, 2 * shares.clients)))
    division = shares.clients, shares.alpha, shares.seed, shares.balanced
    owners = dirichlet(labels[own], *division, least=least)
    d, classes = images.shape[1], int(labels.max()) + 1
    corners = [-1.0] * d, [1.0] * d
    known, target = Categorical(), labels.double()
    trained = split(images[own], owners), split(target[own], owners)
    return Problem(
        name,
        network,
        [Term("images", logits, *trained, likelihood=known)],
        explicit(shares.clients),
        coordinates=numbered("x", d),
        outputs=numbered("class", classes),
        domain=corners,
        parameters={**asdict(shares), "prior": prior, "size": size, **more},
        prior=prior,
        tests=[Term("images", logits, images[test], target[test], likelihood=known)],
    )
