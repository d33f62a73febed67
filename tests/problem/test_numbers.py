"""Unknown numbers: in any unit, from any start, and refused where nobody reads them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fedsciml import methods, run
from fedsciml.collocation import strips
from fedsciml.network import MLP, Jet, Parallel
from fedsciml.problem import Problem, Residual, Row, Term

POINTS = torch.linspace(0, 2, 31, dtype=torch.float64)[:, None]
FIPA = methods.load("fipa")


def decay(unit: float, start: float) -> Problem:
    """y' = -(A / unit) y with A = unit, from y = exp(-t) at 16 times."""

    def equation(u: Jet, row: Row) -> Tensor:
        return u.t + u.A / unit * u.value

    return Problem(
        "decay",
        Parallel([MLP((1, 10, 10, 1))], {"A": start}),
        [
            Term("equation", equation, POINTS),
            Term("sensors", given, POINTS[::2], lambda t: torch.exp(-t[:, 0])),
        ],
        strips([0, 1, 2]),
        coordinates="t",
    )


def given(u: Jet, row: Row) -> Tensor:
    return u.value - row.target


@pytest.mark.parametrize("start", [-0.5, 0.0, 1e-9])
def test_the_unit_of_an_unknown_does_not_matter(start: float) -> None:
    first = run(decay(1.0, start), FIPA, 2)
    for unit in (2.0**-40, 2.0**40):
        other = run(decay(unit, start * unit), FIPA, 2)
        assert torch.equal(other.theta, first.theta)
        assert other.unknowns()["A"] == unit * first.unknowns()["A"]
    for unit in (1e-12, 1e12):
        other = run(decay(unit, start * unit), FIPA, 2)
        # Rounding errors, grown in two steps; measured 1e-13.
        assert other.unknowns()["A"] / unit == pytest.approx(
            first.unknowns()["A"], rel=1e-11
        )


@pytest.mark.parametrize("start", [0.0, 1e-9, -0.5])
def test_an_unknown_is_found_from_a_start_of_another_size(start: float) -> None:
    found = run(decay(1.0, start), FIPA, 20).unknowns()["A"]
    assert found == pytest.approx(1, rel=1e-9)


def test_theta_holds_an_unknown_over_the_size_of_its_start() -> None:
    for start, size in ((-0.3, 0.3), (1e5, 1e5)):
        problem = decay(1.0, start)
        theta = problem.network.init(torch.Generator().manual_seed(0), torch.float64)
        assert float(theta[-1]) == start / size
        assert problem.numbers(theta) == {"A": start}
    explicit = Parallel([MLP((1, 2, 1))], {"A": 3.0, "B": 0.0}, scales={"A": 8.0})
    theta = explicit.init(torch.Generator())
    assert theta[-2:].tolist() == [3 / 8, 0.0]
    assert explicit.numbers(theta).tolist() == [3.0, 0.0]


@pytest.mark.parametrize("scales", [{"A": 0.0}, {"A": torch.inf}, {"B": 1.0}])
def test_scales_are_positive_and_of_unknowns(scales: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="give positive scales, of the unknowns A"):
        Parallel([MLP((1, 2, 1))], {"A": 1.0}, scales=scales)


def seeking(equation: Residual, **options: object) -> Problem:
    """An equation that should read the unknown C, and does read D."""
    return Problem(
        "seeking",
        Parallel([MLP((1, 5, 1))], {"C": 0.5, "D": 1.0}),
        [Term("equation", equation, POINTS), Term("data", given, POINTS, 1.0)],
        strips([0, 1, 2]),
        **options,
    )


UNREAD: dict[str, Callable[[Jet, Row], Tensor]] = {
    "forgotten": lambda u, row: u.x + u.D,
    "times zero": lambda u, row: u.x + u.D + 0 * u.C,
}
FROZEN: dict[str, Callable[[Jet, Row], Tensor]] = {
    "float": lambda u, row: u.x + u.D * float(u.C[0].detach()),
    "detach": lambda u, row: u.x + u.D * u.C.detach(),
    "compared": lambda u, row: torch.where(row.x > u.C, u.x, u.D),
}
READ: dict[str, Callable[[Jet, Row], Tensor]] = {
    "somewhere": lambda u, row: u.x + u.D + torch.where(row.x > 1.99, u.C, 0 * u.C),
    "in contact": lambda u, row: u.x + u.D + torch.relu(u.value - u.C - 3),
    "cancelling at the start": lambda u, row: u.x + u.D + (u.D - 1) * u.C,
    "where it is not finite": lambda u, row: u.x + u.D + u.C * (row.x - 3).sqrt(),
}


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize(
    ("equation", "message"),
    [
        *((e, "No residual .* on the unknown 'C', .* its start 0.5") for e in UNREAD),
        *(
            (e, r"'equation' .* value of the unknown 'C' .* not with float")
            for e in FROZEN
        ),
    ],
)
def test_an_unknown_that_no_residual_reads_is_refused(
    equation: str, message: str, partial: bool
) -> None:
    residual = (UNREAD | FROZEN)[equation]
    with pytest.raises(ValueError, match=message):
        seeking(residual, partial=partial, domain=([0.0], [2.0]))


@pytest.mark.parametrize("equation", READ)
def test_an_unknown_that_a_residual_reads_is_not_refused(equation: str) -> None:
    assert seeking(READ[equation]).unknowns == ("C", "D")


def test_a_site_may_lack_the_rows_that_read_an_unknown() -> None:
    whole = decay(1.0, 0.5)
    terms = [whole.terms[0], Term("sensors", given, [POINTS[:0], POINTS], 1.0)]
    terms[0] = Term("equation", whole.terms[0].residual, [POINTS[:0], POINTS[:0]])
    site = Problem(
        "site",
        whole.network,
        terms,
        whole.partition,
        coordinates="t",
        domain=([0.0], [2.0]),
        partial=True,
    )
    assert site.counts(1) == [0, len(POINTS)]


def test_a_client_alone_may_hold_no_row_that_reads_an_unknown() -> None:
    whole = decay(1.0, 0.5)
    halves = [POINTS[:15], POINTS[15:]]
    equation = Term("equation", whole.terms[0].residual, [POINTS[:0], POINTS])
    sensors = Term("sensors", given, halves, 1.0)
    problem = Problem(
        "split", whole.network, [equation, sensors], whole.partition, coordinates="t"
    )
    assert run(problem.alone(0), FIPA, 2).unknowns() == {"A": 0.5}
