"""Checks of the parts of a problem: points, values and names."""

import re
from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Generator, Tensor

from fedsciml.network import Network

RESERVED = {"laplacian", "partner", "points", "target", "value", "values"}
"""Names that a coordinate, an output or an unknown number cannot have."""


def joined(parts: Tensor | np.ndarray | Sequence[Tensor]) -> Tensor:
    """One tensor on the CPU from a tensor, an array, numbers, or a part per client."""
    if isinstance(parts, (Tensor, np.ndarray)):
        return torch.as_tensor(parts, device="cpu").detach()
    if len(parts) == 0 or not isinstance(parts[0], (Tensor, np.ndarray)):
        return torch.as_tensor(parts, dtype=torch.float64, device="cpu")
    return torch.cat([joined(part) for part in parts])


def finite(values: Tensor, where: str) -> None:
    """Raise ValueError for the first value that is not finite."""
    bad = ~values.isfinite()
    if bad.any():
        place = bad.nonzero()[0].tolist()
        raise ValueError(f"Value at index {place} of the {where} is not finite.")


def matrix(values: Tensor, n: int, c: int, where: str) -> Tensor:
    """Values [n] or [n, c] as float64 [n, c]; a whole column may be NaN.

    Raises:
        ValueError: If the shape is another, or a value in another column not finite.
    """
    values = joined(values).to(torch.float64)
    values = values.unsqueeze(-1) if values.ndim == 1 else values
    if list(values.shape) != [n, c]:
        raise ValueError(
            f"The {where} has shape {list(values.shape)} for {n} points and {c} "
            f"outputs; it must be [{n}, {c}]" + (f" or [{n}]." if c == 1 else ".")
        )
    finite(values[:, ~values.isnan().all(0)], where)
    return values


def points(
    values: Tensor | np.ndarray,
    where: str,
    problem: str,
    coordinates: Sequence[str],
    domain: tuple[Sequence[float], Sequence[float]] | None,
) -> Tensor:
    """Points as float64 [n, d].

    Raises:
        ValueError: If the shape is another, or a point not finite or not in the domain.
    """
    result = joined(values).to(torch.float64)
    d = len(coordinates)
    if result.ndim != 2 or result.shape[1] != d:
        raise ValueError(
            f"Points of {where} have shape {list(result.shape)}; with coordinates "
            f"{', '.join(coordinates)} they must be [n, {d}]."
        )
    finite(result, f"points of {where}")
    if domain is not None and len(result):
        lower, upper = (
            torch.as_tensor(corner, dtype=torch.float64, device="cpu")
            for corner in domain
        )
        slack = 1e-6 * (upper - lower)
        outside = ((result < lower - slack) | (result > upper + slack)).any(1)
        if outside.any():
            first = int(outside.nonzero()[0])
            raise ValueError(
                f"Point {first} of {where}, {result[first].tolist()}, lies outside "
                f"the domain {lower.tolist()} to {upper.tolist()} of problem "
                f"'{problem}'."
            )
    return result


def names(
    problem: str,
    coordinates: Sequence[str],
    outputs: Sequence[str],
    unknowns: Sequence[str],
    truth: Collection[str],
) -> None:
    """Raise ValueError if a residual could not tell two names apart."""
    every = [*coordinates, *outputs, *unknowns]
    if RESERVED & set(every) or len(set(every)) < len(every):
        raise ValueError(
            f"Coordinates {coordinates}, outputs {outputs} and unknowns "
            f"{unknowns} of problem '{problem}' must differ from each other "
            f"and from {', '.join(sorted(RESERVED))}; rename them."
        )
    for name in unknowns:
        if name.startswith("_") or re.fullmatch(f"({'|'.join(coordinates)})+", name):
            raise ValueError(
                f"Unknown '{name}' of problem '{problem}' cannot be told from a "
                "derivative; rename it."
            )
    if strange := sorted(set(truth) - set(unknowns)):
        raise ValueError(
            f"The truth of problem '{problem}' tells a value of '{strange[0]}', "
            f"but its unknowns are {', '.join(unknowns) or 'none'}; name them "
            "in Parallel(networks, unknowns=...)."
        )
    for name in coordinates:
        others = "|".join(re.escape(c) for c in coordinates if c != name)
        if not name.isidentifier() or (others and re.fullmatch(f"({others})+", name)):
            raise ValueError(
                f"Coordinate '{name}' of problem '{problem}' cannot be told from "
                f"a derivative along {', '.join(coordinates)}; rename it."
            )


def network(
    problem: str,
    network: Network,
    points: Tensor,
    coordinates: Sequence[str],
    outputs: Sequence[str],
) -> None:
    """Raise ValueError if the network does not map the points [n, d] to [n, c]."""
    start = network.init(Generator().manual_seed(0), torch.float64)
    expected = [len(points), len(outputs)]
    try:
        shape = list(network(start, points.to(start)).shape)
    except RuntimeError as error:
        raise ValueError(
            f"The network of problem '{problem}' does not take points "
            f"{list(points.shape)}, that is, coordinates "
            f"{', '.join(coordinates)}: {error}"
        ) from error
    if shape != expected:
        raise ValueError(
            f"The network of problem '{problem}' returns shape {shape} for "
            f"points {list(points.shape)}; with outputs {', '.join(outputs)} "
            f"it must be {expected}."
        )
