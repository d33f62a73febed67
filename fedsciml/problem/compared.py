"""Where the error is measured, and the solution there: of all sites, or of each.

In a family of equations every site has a solution of its own. What is then given as a
list, with an entry for each client, is joined here, with the number of the client
beside each point.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from fedsciml.problem import checks, parts
from fedsciml.problem.checks import joined
from fedsciml.problem.outline import outline

if TYPE_CHECKING:
    from fedsciml.problem.problem import Problem
    from fedsciml.problem.term import Term

COMPARED = ("exact", "test_points", "reference", "test_owners")
"""Fields of a problem that tell its solution."""


class Compared(NamedTuple):
    """Test points [n, d], the solution there [n, c], and whose each point is [n].

    Equal to itself alone.
    """

    points: Tensor | None
    values: Tensor | None
    owners: Tensor | None

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return id(self)


def compared(problem: "Problem", owned: "Callable[[Term], Tensor]") -> Compared:
    """What ``exact``, ``test_points`` and ``reference`` of a problem tell, as tensors.

    Args:
        problem: Its terms are checked already.
        owned: Whose the points of a term are, [n].

    Raises:
        ValueError: If a list has not an entry for each client, lists and single values
            do not go together, or shapes do not fit; says what to write.
    """
    points, owners = _points(problem, owned)
    if points is None:
        return Compared(None, problem.reference, None)
    return Compared(points, _values(problem, points, owners), owners)


def own(problem: "Problem", client: int) -> dict[str, Any]:
    """What one client's own part of the comparison is, by the names of ``Problem``."""
    found: dict[str, Any] = {"truth": problem.true(client), "test_owners": None}
    if isinstance(problem.exact, Sequence):
        found["exact"] = problem.exact[client]
    if problem.test_owners is not None:
        mine = problem.test_owners == client
        some = bool(mine.any())
        for name in ("test_points", "reference"):
            values = getattr(problem, name)
            found[name] = values[mine] if some and values is not None else None
        if not some:
            found["exact"] = None
    return found


def own_test(term: "Term", client: int) -> "Term":
    """A test with the points of one client, where it has a list with those of each."""
    points = parts.arranged(term.points, f"test '{term.name}'")
    if not isinstance(points, tuple):
        return term
    target = term.target_at(joined(points))
    if target is not None:
        target = target.split([len(part) for part in points])[client]
    return replace(term, points=points[client], target=target)


def truths(problem: "Problem") -> dict[str, float | tuple[float, ...]]:
    """The true values of unknown numbers; a tuple where every client has its own.

    Raises:
        ValueError: If there are not as many values as clients, or one is no number.
    """
    found = dict[str, float | tuple[float, ...]]()
    for name, value in problem.truth.items():
        what = f"The truth of '{name}' in problem '{problem.name}'"
        try:
            given = torch.as_tensor(value, dtype=torch.float64, device="cpu")
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"{what} is {outline(value)}; give a number, or a list with one "
                "for each client."
            ) from error
        if given.ndim == 0:
            found[name] = float(given)
            continue
        if name in problem.shared_unknowns:
            raise ValueError(
                f"{what} is a list, but all clients have this number in common; give "
                "one value, or make it Parallel(networks, personal=...)."
            )
        _each(what, given, problem.clients, "one number for each, or one for all")
        if given.ndim > 1:
            raise ValueError(f"{what} has shape {list(given.shape)}; give a list.")
        found[name] = tuple(given.tolist())
    return found


def _points(
    problem: "Problem", owned: "Callable[[Term], Tensor]"
) -> tuple[Tensor | None, Tensor | None]:
    """The test points [n, d], and their clients [n] where these matter."""
    m, where = problem.clients, f"Problem '{problem.name}'"
    exact, reference = problem.exact, problem.reference
    if isinstance(exact, Sequence):
        _each(f"exact= of problem '{problem.name}'", exact, m, "one function for each")
    apart = isinstance(exact, Sequence) or _listed(reference, "reference")
    given = problem.test_points
    if given is None and exact is None:
        return None, None
    if given is None:
        return (
            torch.cat([joined(term.points) for term in problem.terms]),
            torch.cat([owned(term) for term in problem.terms]) if apart else None,
        )
    if _listed(given, "test_points"):
        given = tuple(given)
        _each(f"test_points= of problem '{problem.name}'", given, m, "points for each")
        if reference is not None and not _listed(reference, "reference"):
            raise ValueError(
                f"{where} has test points for each client, but its reference is one "
                f"tensor; give reference= as a list of {m} too, or exact= alone."
            )
        each = [checks.points(problem, part, "test_points") for part in given]
        return torch.cat(each), _numbers([len(part) for part in each])
    points = checks.points(problem, given, "test_points")
    owners = problem.test_owners
    if owners is not None:
        owners = joined(owners)
        fits = list(owners.shape) == [len(points)] and not owners.is_floating_point()
        if not fits or bool(((owners < 0) | (owners >= m)).any()):
            raise ValueError(
                f"{where} has {len(points)} test points, and test_owners of shape "
                f"{list(owners.shape)}; give each point the number of its client, 0 to "
                f"{m - 1}; or test_points as a list, and neither reference nor "
                "test_owners of before."
            )
        return points, owners.long()
    if not apart:
        return points, None
    return points.repeat(m, 1), _numbers([len(points)] * m)


def _values(problem: "Problem", points: Tensor, owners: Tensor | None) -> Tensor | None:
    """The solution [n, c] at the test points; None where it is not known."""
    exact, reference = problem.exact, problem.reference
    n, c = len(points), len(problem.outputs)
    what = f"The exact solution of problem '{problem.name}'"
    if reference is None and callable(exact):
        reference = parts.called(exact, points, what)
    if reference is None and exact is None:
        return None
    if reference is not None and not _listed(reference, "reference"):
        return checks.matrix(reference, n, c, "reference")
    assert owners is not None
    if reference is not None:
        of = f"reference= of problem '{problem.name}'"
        _each(of, reference, problem.clients, "values for each")
    values = points.new_empty(n, c)
    for client in range(problem.clients):
        mine = owners == client
        if reference is not None:
            found = reference[client]
        elif isinstance(exact, Sequence):
            found = parts.called(exact[client], points[mine], what)
        where = f"reference of client {client}"
        values[mine] = checks.matrix(found, int(mine.sum()), c, where)
    return values


def _each(what: str, given: Sequence[Any] | Tensor, clients: int, each: str) -> None:
    if len(given) != clients:
        raise ValueError(
            f"{what[0].upper() + what[1:]} comes for {len(given)} clients, but the "
            f"partition has {clients}; give {each}."
        )


def _listed(values: object, where: str) -> bool:
    """Whether there is an entry for each client."""
    return values is not None and isinstance(parts.arranged(values, where), tuple)


def _numbers(counts: Sequence[int]) -> Tensor:
    """0 as often as the first count, 1 as often as the second, ..."""
    each = torch.tensor(counts, dtype=torch.long, device="cpu")
    return torch.arange(len(counts), device="cpu").repeat_interleave(each)
