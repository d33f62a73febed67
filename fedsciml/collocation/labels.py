"""Who owns which labelled points: Dirichlet partitions, and how uneven they are."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

TRIES = 1000
"""How many divisions are drawn until every client has enough points."""


def dirichlet(
    labels: Tensor | np.ndarray | Sequence[int],
    clients: int,
    alpha: float,
    seed: int = 0,
    balanced: bool = False,
    least: int = 1,
) -> Tensor:
    """Owners of labelled points, as uneven in the labels as alpha is small.

    By class, each class is divided over the clients in shares that are Dirichlet(alpha)
    (M. Yurochkin et al., ICML 2019): clients differ in size, too. Balanced, all clients
    have equally many points, up to one, and each its own distribution of labels,
    Dirichlet(alpha), from which its points are drawn one by one, without what is used
    up (D. A. E. Acar et al., FedDyn, ICLR 2021).

        owners = dirichlet(labels, clients=5, alpha=0.1)
        term = Term("digits", logits, split(points, owners), split(labels, owners))
        Problem(..., [term], explicit(5))

    Args:
        labels: The class of each point, whole numbers, shape [n].
        clients: Number of clients M.
        alpha: Concentration, positive: 0.1 leaves a client two or three classes of ten,
            100 makes all clients alike.
        seed: Of the draws; the same seed gives the same owners.
        balanced: Whether all clients have equally many points.
        least: Points that every client has at least; by class, divisions are drawn
            until this is so.

    Returns:
        Client numbers 0 to M - 1, a long tensor [n] on the CPU.

    Raises:
        ValueError: If labels are no whole numbers [n], there are too few points for so
            many clients, alpha is not positive and finite, or no division was found
            that leaves every client enough.
    """
    classes = _classes(labels)
    n = len(classes)
    if clients < 1 or least < 1 or n < clients * least:
        raise ValueError(
            f"{n} labelled points cannot give each of {clients} clients {least}: a "
            "Dirichlet partition needs at least 1 client, at least 1 point for each, "
            "and as many points."
        )
    if not 0 < alpha < float("inf") or seed < 0:
        raise ValueError(
            f"A Dirichlet partition needs alpha > 0 and a seed of at least 0; got "
            f"alpha {alpha} and seed {seed}. The smaller alpha, the less alike the "
            "clients."
        )
    generator = np.random.default_rng(seed)
    if balanced:
        return torch.from_numpy(_balanced(classes, clients, alpha, generator))
    for _ in range(TRIES):
        owners = _by_class(classes, clients, alpha, generator)
        if np.bincount(owners, minlength=clients).min() >= least:
            return torch.from_numpy(owners)
    raise ValueError(
        f"None of {TRIES} Dirichlet({alpha}) divisions of {n} points by class leaves "
        f"each of {clients} clients {least}. Take a larger alpha, fewer clients, or "
        "balanced=True."
    )


def split(
    values: Tensor | np.ndarray | Sequence[float], owners: Tensor
) -> list[Tensor]:
    """What each owner holds of points, targets or labels, in their order.

    Args:
        values: Of all points, shape [n, ...].
        owners: Client numbers from 0, shape [n], of which none is left out.

    Returns:
        A tensor [n_m, ...] for each client, as ``Term(points=...)`` takes it with
        ``explicit(clients)``.

    Raises:
        ValueError: If there is not one owner for each point, or a client has none.
    """
    every = torch.as_tensor(values)
    if owners.ndim != 1 or every.ndim < 1 or len(every) != len(owners):
        raise ValueError(
            f"split needs an owner for each value; got values of shape "
            f"{list(every.shape)} and owners of shape {list(owners.shape)}."
        )
    counts = torch.bincount(owners).tolist()
    if 0 in counts or not counts:
        raise ValueError(
            f"Client {counts.index(0) if counts else 0} owns none of {len(every)} "
            "values; number the clients from 0 and give each a point."
        )
    return [every[owners == client] for client in range(len(counts))]


def unevenness(labels: Tensor | np.ndarray | Sequence[int], owners: Tensor) -> float:
    """How differently the clients' labels are distributed; 0 if alike.

    The mean over the clients of the total variation between the distribution of a
    client's labels and that of all labels, 1/2 sum over classes |q_m - q|: the share of
    its points that would need another label. At most 1 - 1 / C for C classes of equal
    size, where each client has one class.

    Args:
        labels: The class of each point, whole numbers, shape [n].
        owners: Client numbers, shape [n].

    Raises:
        ValueError: If labels are no whole numbers [n], or as ``split``.
    """
    classes = torch.from_numpy(_classes(labels))
    counts = torch.stack(
        [
            torch.bincount(own, minlength=int(classes.max()) + 1).double()
            for own in split(classes, owners)
        ]
    )
    shares = counts / counts.sum(1, keepdim=True)
    return float((shares - counts.sum(0) / counts.sum()).abs().sum(1).mean() / 2)


def _classes(labels: Tensor | np.ndarray | Sequence[int]) -> np.ndarray:
    """Labels as numbers 0 to C - 1 of the classes that there are, int64 [n]."""
    found = torch.as_tensor(labels).detach().cpu().numpy()
    whole = found.ndim == 1 and found.size and np.array_equal(found, np.rint(found))
    if not whole:
        raise ValueError(
            f"Labels are whole numbers, one for each point, shape [n]; got "
            f"{found.dtype} of shape {list(found.shape)}."
        )
    return np.unique(found, return_inverse=True)[1].astype(np.int64)


def _by_class(
    classes: np.ndarray, clients: int, alpha: float, generator: Generator
) -> np.ndarray:
    owners = np.empty(len(classes), np.int64)
    for number in range(classes.max() + 1):
        own = generator.permutation(np.flatnonzero(classes == number))
        shares = generator.dirichlet(np.full(clients, alpha))
        cuts = (np.cumsum(shares)[:-1] * len(own)).astype(np.int64)
        for client, part in enumerate(np.split(own, cuts)):
            owners[part] = client
    return owners


def _balanced(
    classes: np.ndarray, clients: int, alpha: float, generator: Generator
) -> np.ndarray:
    n, size = len(classes), int(classes.max()) + 1
    wanted = generator.dirichlet(np.full(size, alpha), clients)
    stock = [
        list(generator.permutation(np.flatnonzero(classes == number)))
        for number in range(size)
    ]
    left = np.array([len(own) for own in stock], np.float64)
    owners = np.empty(n, np.int64)
    # One point after the other to a client at random, so that none chooses first.
    for client in generator.permutation(np.arange(n) % clients):
        odds = wanted[client] * (left > 0)
        odds = odds if odds.sum() > 0 else left
        total = np.cumsum(odds)
        drawn = np.searchsorted(total, generator.random() * total[-1], "right")
        number = min(int(drawn), int(np.flatnonzero(odds)[-1]))  # rounded up
        owners[stock[number].pop()] = client
        left[number] -= 1
    return owners
