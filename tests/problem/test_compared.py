"""Solutions of each client: lists of functions, points, values and true numbers."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fedsciml import plot
from fedsciml.collocation import explicit
from fedsciml.network import MLP
from fedsciml.network.jet import Jet
from fedsciml.network.parallel import Parallel
from fedsciml.problem import Problem, Row, Term
from fedsciml.problem.checks import joined
from tests.cases import draw, given

SITES = 3


def slope(k: int) -> Callable[[Tensor], Tensor]:
    """The solution of client k, (k + 1) x."""
    return lambda x: (k + 1) * x[:, 0]


EXACT = [slope(k) for k in range(SITES)]
HELD = [draw(4 + k, 1, k) for k in range(SITES)]
"""Points of each client, not equally many."""

TEST = [draw(2 + k, 1, 9 + k) for k in range(SITES)]


def family(**more: object) -> Problem:
    """A straight line of its own at each client."""
    target = [slope(k)(x) for k, x in enumerate(HELD)]
    term = Term("data", given, HELD, target=target)
    return Problem("lines", MLP((1, 4, 1)), [term], explicit(SITES), **more)  # type: ignore[arg-type]


def own(problem: Problem, client: int) -> tuple[Tensor, Tensor]:
    """Test points of a client, and the solution there."""
    assert problem.test_owners is not None
    mine = problem.test_owners == client
    return problem.test_points[mine], problem.reference[mine, 0]


@pytest.mark.parametrize(
    ("more", "points"),
    [
        ({"exact": EXACT, "test_points": TEST}, TEST),
        ({"exact": EXACT}, HELD),
        ({"exact": EXACT, "test_points": TEST[0]}, [TEST[0]] * SITES),
        (
            {
                "test_points": TEST,
                "reference": [f(x) for f, x in zip(EXACT, TEST, strict=True)],
            },
            TEST,
        ),
        (
            {"test_points": TEST[0], "reference": [f(TEST[0]) for f in EXACT]},
            [TEST[0]] * SITES,
        ),
    ],
)
def test_each_client_is_compared_with_its_own_solution(
    more: dict[str, object], points: list[Tensor]
) -> None:
    problem = family(**more)
    for made in (problem, replace(problem, prior=0.1)):
        for client in range(SITES):
            x, v = own(made, client)
            assert torch.equal(x, points[client])
            assert torch.equal(v, EXACT[client](x))
    for client in range(SITES):
        alone = problem.alone(client)
        assert alone.test_owners is None
        assert torch.equal(alone.test_points, points[client])
        assert torch.equal(alone.reference[:, 0], EXACT[client](points[client]))


def test_one_function_at_points_of_each_client() -> None:
    problem = family(exact=EXACT[0], test_points=TEST)
    assert torch.equal(problem.reference[:, 0], torch.cat(TEST)[:, 0])
    assert own(problem, 2)[0].tolist() == TEST[2].tolist()
    assert problem.alone(1).exact is EXACT[0]


def test_one_solution_for_all_has_no_owners() -> None:
    assert family(exact=EXACT[0]).test_owners is None
    assert family().test_owners is None


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"exact": EXACT[:2]}, r"Exact= .* for 2 clients, .* has 3; give one function"),
        ({"exact": EXACT, "test_points": TEST[:2]}, r"Test_points= .* for 2 clients"),
        ({"test_points": TEST, "reference": TEST[:2]}, r"Reference= .* for 2 clients"),
        ({"test_points": TEST, "reference": torch.cat(TEST)}, "as a list of 3 too"),
        ({"test_points": TEST, "reference": HELD}, r"of client 0 has shape \[4, 1\]"),
        ({"exact": [1.0, 2.0, 3.0]}, "a function of points"),
        ({"truth": [{"k": 1.0}] * 3}, "true values by name"),
        (
            {"exact": EXACT, "test_points": TEST[0], "test_owners": torch.tensor([0])},
            r"test_owners of shape \[1\]",
        ),
    ],
)
def test_what_does_not_fit_is_refused(more: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        family(**more)


def test_stale_reference_is_refused_where_points_change() -> None:
    problem = family(exact=EXACT, test_points=TEST)
    with pytest.raises(ValueError, match="reference"):
        replace(problem, test_points=HELD)
    with pytest.raises(ValueError, match="test_owners"):
        replace(problem, test_points=TEST[0])
    again = replace(problem, test_points=HELD, reference=None)
    assert torch.equal(own(again, 1)[0], HELD[1])


def test_a_picture_shows_the_solution_of_the_client_that_is_named() -> None:
    problem = family(exact=EXACT, test_points=TEST)
    x, reference = plot.stage(problem, 2)
    assert reference is not None
    assert torch.equal(torch.from_numpy(reference)[:, 0], EXACT[2](x))
    assert plot.stage(problem)[1] is None
    table = replace(problem, exact=None)
    x, reference = plot.stage(table, 1)
    assert reference is not None
    assert torch.equal(torch.from_numpy(reference)[:, 0], EXACT[1](x))
    assert plot.stage(table)[1] is None


def test_a_client_alone_is_tested_at_its_own_points() -> None:
    target = [slope(k)(x) for k, x in enumerate(TEST)]
    problem = family(tests=[Term("test", given, TEST, target=target)])
    for client in range(SITES):
        (test,) = problem.alone(client).tests
        assert torch.equal(joined(test.points), TEST[client])
        assert torch.equal(joined(test.target), target[client])
    common = replace(problem, tests=[Term("test", given, TEST[0], target=0.0)])
    assert common.alone(1).tests[0].points is TEST[0]


def numbered(truth: dict[str, object]) -> Problem:
    """The family with unknown numbers."""

    def data(u: Jet, row: Row) -> Tensor:
        return u.value * u.k + u.shift - row.target

    problem = family(exact=EXACT)
    terms = [replace(problem.terms[0], residual=data)]
    network = Parallel([MLP((1, 4, 1))], {"shift": 0.5}, personal={"k": 1.0})
    return replace(problem, network=network, terms=terms, truth=truth)


def test_true_numbers_of_each_client() -> None:
    problem = numbered({"k": [1, 2.0, 3.0], "shift": 0})
    assert problem.true() == {"shift": 0.0}
    assert problem.true(1) == {"k": 2.0, "shift": 0.0}
    assert problem.alone(2).truth == {"k": 3.0, "shift": 0.0}
    with pytest.raises(ValueError, match="all clients have this number in common"):
        numbered({"shift": [1.0, 2.0, 3.0]})
    for wrong, message in (
        ([1.0], "for 1 clients, .* has 3; give one number for each"),
        ("x", "give a number, or a list"),
        ([[1.0], [2.0], [3.0]], r"shape \[3, 1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            numbered({"k": wrong})
