"""Where a trained solution is drawn, and whose: of all clients, or of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsciml.plot.layout import Curve, Panel
from fedsciml.plot.owners import box
from fedsciml.problem import Problem, Row
from fedsciml.problem.evaluation import evaluated

GRID_1D, GRID_2D = 801, 121

SITES = 6
"""Clients of which a solution of their own is drawn."""

MOST = 6
"""Outputs that are drawn."""

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class View:
    """A trained solution, at points.

    Attributes:
        client: Whose; None where all clients have the same.
        points: Shape [n, d].
        trained: Shape [n, c].
        reference: Likewise; None where there is none.
    """

    client: int | None
    points: Tensor
    trained: Values
    reference: Values | None


def common(problem: Problem) -> bool:
    """Whether all clients have the same solution, as where numbers alone are theirs."""
    view = problem.personal
    return view is None or len(view.mine) == len(view.names)


@torch.no_grad()
def views(
    problem: Problem, theta: Tensor, personal: Mapping[int, Tensor] | None = None
) -> list[View]:
    """The solution; or those of some clients, where each has its own.

    Args:
        problem: Gives network and reference.
        theta: Trained parameters, shape [p].
        personal: Parameters of the clients' own, as in a result.

    Raises:
        ValueError: If clients have solutions of their own, and none is known.
    """
    if common(problem):
        points, reference = stage(problem)
        values = problem.network(theta, points.to(theta))
        return [View(None, points, _array(values), reference)]
    if not personal:
        raise ValueError(
            f"Each client of problem '{problem.name}' has a solution of its own: give "
            "its parameters, result.personal."
        )
    found = []
    for m in sorted(personal)[:: -(-len(personal) // SITES)]:
        points, reference = stage(problem, m)
        values = problem.at(personal[m])(theta, points.to(theta))
        found.append(View(m, points, _array(values), reference))
    return found


def pieces(problem: Problem, views: Sequence[View]) -> list[tuple[str, int, View]]:
    """What is drawn: a name, the number of the output, and whose it is.

    An output that is the same for all clients stands there once.
    """
    found = []
    for c, output in enumerate(problem.outputs[:MOST]):
        first = views[0].trained[:, c]
        if len(views) == 1 and views[0].client is None:
            found.append((output, c, views[0]))
        elif all(np.array_equal(first, view.trained[:, c]) for view in views[1:]):
            found.append((f"{output} of all clients", c, views[0]))
        else:
            found += [(f"{output} of client {v.client}", c, v) for v in views]
    return found


def at_sites(
    problem: Problem,
    theta: Tensor,
    personal: Mapping[int, Tensor],
    views: Sequence[View],
) -> list[Panel]:
    """Curves of clients' own solutions along the one coordinate, a panel for each.

    With the reference, and with what was measured there: targets that a term's residual
    takes from the output.
    """
    found = []
    for name, c, view in pieces(problem, views):
        m, x = view.client, view.points[:, 0].tolist()
        assert m is not None
        curves = [Curve("trained", x, view.trained[:, c].tolist(), 0, width=1.5)]
        if view.reference is not None:
            known = Curve("reference", x, view.reference[:, c].tolist(), 6, width=4)
            curves.insert(0, replace(known, alpha=0.4))
        at, values = measured(problem, theta, personal[m], m, c)
        if at:
            curves.append(Curve("measured", at, values, 1, None, 0, size=8))
        panel = Panel(name, problem.coordinates[0], "", curves, "linear", "linear")
        found.append(panel)
    return found


def measured(
    problem: Problem, theta: Tensor, own: Tensor, client: int, output: int
) -> tuple[list[float], list[float]]:
    """Where along the one coordinate a client measured an output, and what."""
    x, y = list[float](), list[float]()
    for rows in problem.shard(client).rows:
        target, term = rows.target, problem.terms[rows.term]
        if target is None or target.ndim > 1 or term.autograd or term.computed:
            continue
        if not len(target) or rows.partner is not None:
            continue
        u = problem.solution(theta, rows.points, own)
        r = evaluated(
            problem, rows.term, u, Row(rows.points, target, problem.coordinates, None)
        )
        off = u.values[:, output] - target.to(theta)
        if len(r) == 1 and torch.allclose(r[0].abs(), off.abs()):
            x += rows.points[:, 0].tolist()
            y += target.tolist()
    return x, y


def of_clients(problem: Problem, views: Sequence[View]) -> str:
    """Whose solutions are drawn, of how many."""
    n = problem.clients
    return f"{len(views)} of {n} clients" if len(views) < n else "each client"


def _array(values: Tensor) -> Values:
    found: Values = values.cpu().double().numpy()
    return found


def stage(
    problem: Problem, client: int | None = None
) -> tuple[Tensor, NDArray[np.float64] | None]:
    """Points to draw at, [n, d], and the reference there, [n, c], or None.

    A reference that is a table is drawn at its own points, if it has at most two
    coordinates.

    Args:
        problem: Gives domain and reference.
        client: Whose solution is the reference where every client has its own; there
            is none without.
    """
    d = len(problem.coordinates)
    exact, table, values = problem.exact, problem.test_points, problem.reference
    if problem.test_owners is not None:
        mine = problem.test_owners == (-1 if client is None else client)
        table, values = (table[mine], values[mine]) if mine.any() else (None, None)
    if isinstance(exact, Sequence):
        exact = None if client is None else exact[client]
    if exact is None and values is not None and d <= 2:
        return _table(table, values)
    lower, upper = box(problem)
    if d == 1:
        points = torch.linspace(
            float(lower[0]), float(upper[0]), GRID_1D, dtype=torch.float64
        ).unsqueeze(-1)
    else:
        side = torch.linspace(0, 1, GRID_2D, dtype=torch.float64)
        points = ((lower + upper) / 2).expand(GRID_2D**2, -1).clone()
        points[:, :2] = lower[:2] + (upper - lower)[:2] * torch.cartesian_prod(
            side, side
        )
    if exact is None:
        return points, None
    values = exact(points)
    return points, values.reshape(len(points), -1).numpy()


def _table(points: Tensor, values: Tensor) -> tuple[Tensor, NDArray[np.float64]]:
    """A reference at its own points, along a line in their order."""
    if points.shape[1] == 1:
        order = points[:, 0].argsort()
        points, values = points[order], values[order]
    return points, values.numpy()


def plane(problem: Problem) -> str:
    """Which plane a map of a problem in more than two coordinates shows."""
    lower, upper = box(problem)
    centre = ((lower + upper) / 2).tolist()
    fixed = [f"{n} = {v:g}" for n, v in zip(problem.coordinates, centre, strict=True)]
    return f", {', '.join(fixed[2:])}" if fixed[2:] else ""
