"""Checks of the parts of a problem: points, values, terms, names and network."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Generator, Tensor

from fedsciml.problem import parts
from fedsciml.problem.outward import SiteError

if TYPE_CHECKING:
    from fedsciml.problem.problem import Problem
    from fedsciml.problem.term import Term

RESERVED = {"laplacian", "partner", "points", "target", "value", "values"}
"""Names that a coordinate, an output or an unknown number cannot have."""


def joined(values: Tensor | np.ndarray | Sequence[Tensor]) -> Tensor:
    """One tensor on the CPU from a tensor, an array, numbers, or a part per client."""
    if isinstance(values, (Tensor, np.ndarray)):
        return torch.as_tensor(values, device="cpu").detach()
    if len(values) == 0 or not isinstance(values[0], (Tensor, np.ndarray)):
        return torch.as_tensor(values, dtype=torch.float64, device="cpu")
    return torch.cat([joined(part) for part in values])


def finite(values: Tensor, where: str) -> None:
    """Raise SiteError for the first value that is not finite."""
    bad = ~values.isfinite()
    if bad.any():
        place = bad.nonzero()[0].tolist()
        raise SiteError(f"Value at index {place} of the {where} is not finite.")


def matrix(values: Tensor, n: int, c: int, where: str) -> Tensor:
    """Values [n] or [n, c] as float64 [n, c], checked; a whole column may be NaN."""
    values = joined(values).to(torch.float64)
    values = values.unsqueeze(-1) if values.ndim == 1 else values
    if list(values.shape) != [n, c]:
        raise ValueError(
            f"The {where} has shape {list(values.shape)} for {n} points and {c} "
            f"outputs; it must be [{n}, {c}]" + (f" or [{n}]." if c == 1 else ".")
        )
    finite(values[:, ~values.isnan().all(0)], where)
    return values


def shaped(problem: "Problem", values: Tensor | np.ndarray, where: str) -> Tensor:
    """Points as float64 [n, d] on the CPU."""
    result = joined(parts.arranged(values, where))
    d = len(problem.coordinates)
    if result.ndim != 2 or result.shape[1] != d:
        shape = list(result.shape)
        raise ValueError(
            f"Points of {where} have shape {shape}; with coordinates "
            f"{', '.join(problem.coordinates)} they must be [n, {d}]."
            f"{parts.advice(where, shape, problem.coordinates)}"
        )
    if result.is_complex():
        raise ValueError(f"Points of {where} are complex; give real numbers.")
    return result.to(torch.float64)


def points(problem: "Problem", values: Tensor | np.ndarray, where: str) -> Tensor:
    """Points as float64 [n, d], checked to be finite and in the domain."""
    result = shaped(problem, values, where)
    finite(result, f"points of {where}")
    if problem.domain is not None and len(result):
        lower, upper = (
            torch.as_tensor(corner, dtype=torch.float64, device="cpu")
            for corner in problem.domain
        )
        slack = 1e-6 * (upper - lower)
        outside = ((result < lower - slack) | (result > upper + slack)).any(1)
        if outside.any():
            first = int(outside.nonzero()[0])
            raise SiteError(
                f"Point {first} of {where} lies outside the domain {lower.tolist()} to "
                f"{upper.tolist()} of problem '{problem.name}'.",
                f"It is {result[first].tolist()}.",
            )
    return result


def term(problem: "Problem", term: "Term") -> "Term":
    """The term with its points and partners as tensors, checked to fit together."""
    weight = float(term.weight)
    if not 0 < weight < float("inf"):
        raise ValueError(
            f"Term '{term.name}' has weight {weight}; weights are positive."
        )
    where = f"term '{term.name}'"
    points = _placed(problem, term.points, where)
    partner = None
    if term.partner is not None:
        partner = _placed(problem, term.partner, f"the partners of {where}")
        held, paired = _counts(points), _counts(partner)
        if held != paired:
            raise ValueError(
                f"The {where} has {held} points and {paired} partners; give every "
                "point one partner, in the same form."
            )
    if len(joined(points)) == 0 and not problem.partial:
        raise ValueError(f"The {where} has no points.")
    if isinstance(points, tuple) and isinstance(term.target, (list, tuple)):
        held, known = [len(p) for p in points], [len(v) for v in term.target]
        if held != known:
            raise ValueError(
                f"Targets of {where} come for {known} points of the clients, who "
                f"have {held}; give each client one target per point."
            )
    target = term.target
    if isinstance(points, tuple) and isinstance(target, (list, tuple)):
        target = tuple(joined(part) for part in target)
    return replace(term, points=points, partner=partner, target=target, weight=weight)


def names(problem: "Problem") -> None:
    """Raise ValueError if a residual could not tell two names apart."""
    coordinates, outputs = problem.coordinates, problem.outputs
    every = [*coordinates, *outputs, *problem.unknowns]
    if RESERVED & set(every) or len(set(every)) < len(every):
        raise ValueError(
            f"Coordinates {coordinates}, outputs {outputs} and unknowns "
            f"{problem.unknowns} of problem '{problem.name}' must differ from each "
            f"other and from {', '.join(sorted(RESERVED))}; rename them."
        )
    for name in problem.unknowns:
        if name.startswith("_") or re.fullmatch(f"({'|'.join(coordinates)})+", name):
            raise ValueError(
                f"Unknown '{name}' of problem '{problem.name}' cannot be told from a "
                "derivative; rename it."
            )
    if strange := sorted(set(problem.truth) - set(problem.unknowns)):
        raise ValueError(
            f"The truth of problem '{problem.name}' tells a value of '{strange[0]}', "
            f"but its unknowns are {', '.join(problem.unknowns) or 'none'}; name them "
            "in Parallel(networks, unknowns=...)."
        )
    if tuple(coordinates) == parts.numbered("x", len(coordinates)):
        return
    for name in coordinates:
        others = "|".join(re.escape(c) for c in coordinates if c != name)
        if not name.isidentifier() or (others and re.fullmatch(f"({others})+", name)):
            raise ValueError(
                f"Coordinate '{name}' of problem '{problem.name}' cannot be told from "
                f"a derivative along {', '.join(coordinates)}; rename it."
            )


def network(problem: "Problem") -> None:
    """Refuse a network that does not map each point by itself to its values.

    Raises:
        ValueError: If values have not the shape [n, c], differ from one evaluation to
            the next, or depend on the other points.
    """
    points = joined(problem.terms[0].points)[:2]
    start = problem.network.init(Generator().manual_seed(0), torch.float64)
    expected = [len(points), len(problem.outputs)]
    try:
        with torch.no_grad():
            values, again = (problem.network(start, points.to(start)) for _ in "12")
            alone = problem.network(start, points[:1].to(start))
        shape = list(values.shape)
    except RuntimeError as error:
        raise ValueError(
            f"The network of problem '{problem.name}' does not take points "
            f"{list(points.shape)}, that is, coordinates "
            f"{', '.join(problem.coordinates)}: {error}"
        ) from error
    if shape != expected:
        raise ValueError(
            f"The network of problem '{problem.name}' returns shape {shape} for "
            f"points {list(points.shape)}; with outputs {', '.join(problem.outputs)} "
            f"it must be {expected}."
        )
    if not torch.equal(values.nan_to_num(), again.nan_to_num()):
        raise ValueError(
            f"The network of problem '{problem.name}' is random: twice at the same "
            "points it has other values. Build it without dropout or noise, or call "
            "module.eval()."
        )
    if len(points) and not torch.allclose(values[:1], alone, 1e-6, equal_nan=True):
        raise ValueError(
            f"The values of the network of problem '{problem.name}' at a point depend "
            "on the points that are evaluated with it, as with batch normalisation; "
            "take GroupNorm or LayerNorm."
        )


def _placed(
    problem: "Problem", values: Tensor | np.ndarray | Sequence[Tensor], where: str
) -> Tensor | tuple[Tensor, ...]:
    """Checked points: one tensor, or one for each client if they are given so."""
    values = parts.arranged(values, where)
    if isinstance(values, (Tensor, np.ndarray)):
        return points(problem, values, where)
    d = len(problem.coordinates)
    if (
        len(values) == d > 1
        and len(values) != problem.clients
        and all(joined(part).ndim == 1 for part in values)
    ):
        raise ValueError(
            f"Points of {where} are a list of {d} columns; give one point per row, "
            f"torch.stack([{', '.join(problem.coordinates)}], 1)."
        )
    each = tuple(points(problem, part, where) for part in values)
    if len(each) != problem.clients:
        raise ValueError(
            f"Points of {where} come for {len(each)} clients, but the partition has "
            f"{problem.clients}; give one tensor per client, [0, d] for a client "
            "without points."
        )
    return each


def _counts(points: Tensor | tuple[Tensor, ...]) -> int | list[int]:
    return len(points) if isinstance(points, Tensor) else [len(p) for p in points]
