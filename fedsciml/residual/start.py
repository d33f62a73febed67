"""What can be told before the first round: residuals and units that cannot be right."""

from collections.abc import Iterator

import torch
from torch import Generator, Tensor, nn

from fedsciml.likelihoods import Gaussian
from fedsciml.network import MLP, Mapped, ModuleNetwork, Network
from fedsciml.network.parallel import Parallel
from fedsciml.problem import Problem, Rows, Shard, SiteError
from fedsciml.residual.smoothness import orders
from fedsciml.residual.system import System
from fedsciml.residual.taylor import DRAWS

LARGE = 50.0
"""A network begins with weights of about 1: coordinates, or targets over its values,
beyond this are far from what it is made for."""

SMALL = 0.01
"""Width of a coordinate, or targets over its values, below which it hardly differs."""

ROUNDING = 1e-14
"""Targets over its values, below which they are zeros that were computed."""


class NotFiniteError(SiteError, FloatingPointError):
    """A residual that is infinite or NaN where training begins."""


def check_finite(system: System, theta: Tensor, tell_point: bool) -> None:
    """Refuse a start at which a residual is not finite.

    Args:
        system: One party's rows.
        theta: The start, shape [p].
        tell_point: Whether the message may tell the point, or its row alone.

    Raises:
        NotFiniteError: If a residual is infinite or NaN; it names term and row.
    """
    seen: dict[int, int] = {}
    for block in system.blocks:
        n, term = len(block.rows.points), block.rows.term
        first = seen.get(term, 0)
        seen[term] = first + n
        residual = block.residuals(theta[None])[0]
        bad = ~residual.isfinite()
        if not bad.any():
            continue
        which = int(bad.nonzero()[0])
        place, value = "", float(residual[which])
        if tell_point:
            point = block.rows.points[which % n].tolist()
            names = zip(system.problem.coordinates, point, strict=True)
            place = ", " + ", ".join(f"{name} = {x:g}" for name, x in names)
        raise NotFiniteError(
            f"The residual of term '{system.problem.terms[term].name}' of problem "
            f"'{system.problem.name}' is {value} before anything is trained, at row "
            f"{first + which % n} of client {system.shard.client}{place}. Does it "
            "divide by a coordinate, or take a root or a logarithm there? Mend it, or "
            "leave the point out"
        )


def unsuitable(problem: Problem, shard: Shard) -> list[str]:
    """What a network of ordinary size cannot train on: a sentence for each.

    Args:
        problem: With the network.
        shard: The rows that are known here.
    """
    theta = problem.network.init(Generator().manual_seed(0), torch.float64)
    rows = [r for r in shard.rows if len(r.points)]
    found = _coordinates(problem, theta, rows)
    return found + _targets(problem, theta, rows)


def _coordinates(problem: Problem, theta: Tensor, rows: list[Rows]) -> list[str]:
    """Of what the first layers take."""
    known = [r.points for r in rows]
    if problem.domain is not None:
        known.append(torch.tensor(problem.domain, dtype=torch.float64, device="cpu"))
    if not known:
        return []
    points = torch.cat(known)
    for taken in _first(problem.network, theta, points):
        largest = taken.abs().amax(0)
        width = taken.amax(0) - taken.amin(0)
        if bool((largest > LARGE).any()):
            what = f"numbers of up to {float(largest.max()):.0e}"
        elif bool(((width > 0) & (width < SMALL)).any()):
            what = f"numbers that differ by {float(width[width > 0].min()):.0e} alone"
        else:
            continue
        return [
            f"The network of problem '{problem.name}' takes {what}; it is made for "
            "coordinates of about 1 and may fit nothing but single points. Give it the "
            "box of the points, MLP(inputs=(lower, upper)), or scale the coordinates."
        ]
    return []


def _targets(problem: Problem, theta: Tensor, rows: list[Rows]) -> list[str]:
    """Of the values that the solution is asked to have."""
    given = [
        (r.target.abs().max(), r)
        for r in rows
        if r.target is not None
        and isinstance(problem.terms[r.term].likelihood, Gaussian)
    ]
    if not given:
        return []
    with torch.no_grad():  # of all terms: at single points, values may vanish
        points = torch.cat([part.points[:1000] for part in rows])
        values = float(problem.network(theta, points).abs().max())
    low, high = SMALL * values, LARGE * max(values, 1.0)
    sizes = [(float(size), part) for size, part in given if size > ROUNDING * values]
    if all(low <= size <= high for size, _ in sizes):
        return []
    # Others are sources, in units of the equation.
    sizes = [s for s in sizes if not any(orders(problem, s[1].part(slice(DRAWS))))]
    size, part = max(sizes, key=lambda known: known[0], default=(low, rows[0]))
    if low <= size <= high:
        return []
    name = problem.terms[part.term].name
    return [
        f"The targets of term '{name}' are up to {size:.0e}, the values that the "
        f"network of problem '{problem.name}' begins with up to {values:.0e}; it may "
        "not reach them. Give it units, MLP(outputs=(shift, scale)), see "
        "fedsciml.network.standard, or scale the values."
    ]


def _first(network: Network, theta: Tensor, points: Tensor) -> Iterator[Tensor]:
    """What the first layer of each network takes at the points, [n, w_0]."""
    if isinstance(network, Parallel):
        parts = zip(network.networks, network.split(theta), strict=False)
        for part, own in parts:
            yield from _first(part, own, points)
    elif isinstance(network, Mapped):
        yield from _first(network.network, network.whole(theta), points)
    elif isinstance(network, MLP):
        yield network.taken(points)
    elif isinstance(network, ModuleNetwork):
        yield from _seen(network, theta, points)


def _seen(network: ModuleNetwork, theta: Tensor, points: Tensor) -> list[Tensor]:
    """What the first linear layer of a module takes; nothing if it has none."""
    seen: list[Tensor] = []

    def look(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        if not seen and given[0].ndim == 2:
            seen.append(given[0].detach())

    layers = [m for m in network.module.modules() if isinstance(m, nn.Linear)]
    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        with torch.no_grad():
            network(theta, points)
    finally:
        for hook in hooks:
            hook.remove()
    return seen
