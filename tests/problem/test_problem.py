"""What a Problem accepts, refuses, and hands to the clients."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from cases import CASES, draw, given, scalar, theta
from reference import NaiveJet, relative
from torch import Tensor

from fedsciml.collocation import explicit, strips
from fedsciml.network import MLP, ModuleNetwork
from fedsciml.network.jet import Jet
from fedsciml.network.parallel import Parallel
from fedsciml.problem import Points, Problem, Row, Term
from fedsciml.residual import System

X = draw(6, 1)
NAN = torch.tensor([[0.5], [float("nan")]], dtype=torch.float64)


def with_unknown(name: str) -> Parallel:
    return Parallel([MLP((1, 3, 1))], unknowns={name: 1.0})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"terms": []}, "has no terms"),
        ({"terms": [Term("a", given, X, weight=0.0)]}, "'a' has weight 0.0"),
        ({"terms": [Term("a", given, X, weight=float("nan"))]}, "weight nan"),
        ({"terms": [Term("a", given, draw(3, 2))]}, r"shape \[3, 2\].*\[n, 1\]"),
        ({"terms": [Term("a", given, X[:0])]}, "'a' has no points"),
        ({"terms": [Term("a", given, X, target=[])]}, r"shape \[0\] for 6"),
        ({"terms": [Term("a", given, NAN)]}, r"index \[1, 0\].*'a' is not finite"),
        ({"terms": [Term("a", given, X, target=X[:3])]}, r"shape \[3\] for 6"),
        ({"terms": [Term("a", given, X, target=float("nan"))]}, "targets.*not finite"),
        ({"terms": [Term("a", given, X + 1)]}, "lies outside the domain"),
        ({"terms": [Term("a", given, [X, X])]}, "2 clients, but the partition has 3"),
        (
            {"terms": [Term("a", given, [X, X[:2], X], target=[X, X, X[:2]])]},
            r"come for \[6, 6, 2\] points of the clients, who have \[6, 2, 6\]",
        ),
        ({"terms": [Term("a", given, X / 10)]}, "client 1 of 3 without any point"),
        ({"coordinates": ("value",)}, "must differ"),
        ({"coordinates": ("u",)}, "must differ"),
        ({"coordinates": ("target",)}, "must differ"),
        ({"coordinates": "x t"}, "'x t'.*write coordinates='xt'"),
        ({"coordinates": ("x", "xx")}, "'xx'.*cannot be told"),
        ({"network": MLP((2, 3, 1))}, r"does not take points \[2, 1\]"),
        ({"network": MLP((1, 3, 2))}, r"returns shape \[2, 2\].*must be \[2, 1\]"),
        ({"network": ModuleNetwork(torch.nn.Linear(3, 1))}, "does not take points"),
        ({"terms": [Term("a", given, X, partner=X[:2])]}, "6 points and 2 partners"),
        (
            {"terms": [Term("a", given, X, target=0, partner=[X, X, X])]},
            r"6 points and \[6, 6, 6\] partners",
        ),
        ({"network": with_unknown("xx")}, "Unknown 'xx'.*from a derivative"),
        ({"network": with_unknown("u")}, "must differ"),
        ({"truth": {"nu": 1.0}}, "value of 'nu', but its unknowns are none"),
        ({"test_points": NAN}, "test_points is not finite"),
        ({"test_points": X, "reference": X[:2]}, r"shape \[2, 1\] for 6 points"),
        ({"test_points": X, "reference": draw(6, 2)}, r"must be \[6, 1\] or \[6\]"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(scalar(), **changes)


def test_a_residual_without_partners_is_told_how_to_get_them() -> None:
    jump = Term(
        "jump", lambda u, _: u.value - u.partner.value, scalar().terms[0].points
    )
    with pytest.raises(ValueError, match=r"'jump'.*has none; give Term\(.*partner="):
        replace(scalar(), terms=[jump])


@pytest.mark.parametrize("name", CASES)
def test_clients_add_up_to_the_whole(name: str) -> None:
    problem = CASES[name]()
    start = theta(problem)
    whole = System(problem, problem.pooled()).linearise(start)
    parts = [System(problem, s).linearise(start) for s in problem.shards()]
    assert sum(p.loss for p in parts) == pytest.approx(whole.loss, rel=1e-14)
    # Measured: 3e-16 for both.
    assert relative(sum(p.gradient for p in parts), whole.gradient) < 1e-14
    j = whole.jacobian()
    grams = [p.jacobian().mT @ p.jacobian() for p in parts]
    assert relative(sum(grams), j.mT @ j) < 1e-14


@pytest.mark.parametrize("name", CASES)
def test_a_client_alone_trains_on_the_rows_of_its_shard(name: str) -> None:
    problem = CASES[name]()
    start = theta(problem)
    for shard in problem.shards():
        alone = problem.alone(shard.client)
        (only,) = alone.shards()
        held = [rows for rows in shard.rows if len(rows.points)]
        assert len(alone.terms) == len(held)
        assert only.share == 1
        assert alone.parameters["alone"] == shard.client
        for rows, mine in zip(only.rows, held, strict=True):
            assert torch.equal(rows.points, mine.points)
        here, there = System(problem, shard), System(alone, alone.pooled())
        # The weight comes back from a square: a rounding or two.
        torch.testing.assert_close(
            there.residual(start), here.residual(start), rtol=1e-14, atol=0
        )


def test_a_client_alone_is_measured_on_the_whole_domain() -> None:
    problem = CASES["scalar"]()
    alone = problem.alone(1)
    assert (alone.name, alone.network) == (problem.name, problem.network)
    assert torch.equal(alone.test_points, problem.test_points)
    assert torch.equal(alone.reference, problem.reference)


@pytest.mark.parametrize("client", [-1, 3])
def test_a_client_that_does_not_exist_has_no_problem_alone(client: int) -> None:
    with pytest.raises(ValueError, match=f"clients 0 to 2; got {client}"):
        CASES["scalar"]().alone(client)


def test_row_weights_are_global() -> None:
    problem = scalar()
    for shard in problem.shards():
        assert shard.rows[0].weight == (1 / 23) ** 0.5
        assert shard.rows[1].weight == (10 / 3) ** 0.5


def test_targets_may_be_a_number_a_function_a_column_or_an_array() -> None:
    def pooled_target(target: object) -> torch.Tensor | None:
        terms = [Term("a", lambda u, row: u.value, X.numpy(), target=target)]
        problem = Problem("p", MLP((1, 3, 1)), terms, strips([0, 1]))
        return problem.pooled().rows[0].target

    values = X[:, 0].sin()
    for same in (
        values,
        values.tolist(),
        values.numpy(),
        values[:, None],
        np.sin(X.numpy()),
    ):
        assert torch.equal(pooled_target(same), values)
    assert torch.equal(pooled_target(lambda x: x[:, 0].sin()), values)
    assert torch.equal(pooled_target(0.1), torch.full((6,), 0.1, dtype=torch.float64))
    assert pooled_target(None) is None


def test_targets_given_per_client_stay_with_their_points() -> None:
    parts = [X[:1], X[1:4], X[4:]]
    term = Term("a", given, parts, target=[p[:, 0] ** 2 for p in parts])
    problem = Problem("p", MLP((1, 3, 1)), [term], explicit(3))
    for shard, part in zip(problem.shards(), parts, strict=True):
        assert torch.equal(shard.rows[0].points, part)
        assert torch.equal(shard.rows[0].target, part[:, 0] ** 2)


def test_solution_gives_any_derivative_of_the_trained_network() -> None:
    problem = CASES["hard"]()
    start, points = theta(problem), draw(5, 2, 9)
    u = problem.solution(start, points)
    naive = NaiveJet(
        lambda x: problem.network(start, x.unsqueeze(0)).squeeze(0), points, "xy", "u"
    )
    for name in ("value", "x", "xy", "laplacian", "xxy"):
        assert relative(getattr(u, name), getattr(naive, name)) < 1e-13
        assert not getattr(u, name).requires_grad


def test_solution_gives_the_unknown_numbers() -> None:
    problem = CASES["inverse"]()
    start = theta(problem)
    w = problem.solution(start, draw(5, 1, 9))
    nu, rate = 0.3 * start[-2], start[-1]  # over the sizes of their starts, 0.3 and 1
    assert torch.equal(w.nu, nu.expand(5))
    assert torch.equal(w.rate, rate.expand(5))
    assert w.values.shape == (5, 2)
    assert problem.numbers(start) == {"nu": float(nu), "rate": float(rate)}
    assert CASES["hard"]().numbers(start) == {}


def test_partners_are_seen_of_an_output_as_of_all() -> None:
    seen = []

    def jump(w: Jet, row: Row) -> Tensor:
        seen.append((w.p.partner.x, w.partner.p.x))
        return w.q.value - w.q.partner.value

    problem = CASES["system"]()
    points = problem.terms[0].points
    term = Term("jump", jump, points, partner=points.flip(0))
    problem = replace(problem, terms=[term])
    linear = System(problem, problem.pooled()).linearise(theta(problem))
    q = problem.network(theta(problem), points)[:, 1]
    assert relative(linear.residual, (q - q.flip(0)) / len(q) ** 0.5) < 1e-13
    assert all(torch.equal(a, b) for a, b in seen)


def test_row_names_its_coordinates_only() -> None:
    row = Row(draw(3, 2), None, ("x", "t"))
    assert torch.equal(row.t, row.points[:, 1])
    with pytest.raises(AttributeError, match="no 'y'"):
        _ = row.y
    with pytest.raises(ValueError, match="reads row.target"):
        _ = row.target


def test_default_device_of_torch_does_not_move_the_problem() -> None:
    # As importing DeepXDE does where there is a GPU.
    with torch.device("meta"):
        problem = scalar()
        start = problem.network.init(torch.Generator().manual_seed(0), torch.float64)
        losses = [System(problem, s).linearise(start).loss for s in problem.shards()]
    assert all(loss > 0 for loss in losses)


def test_an_exact_solution_alone_is_compared_at_the_terms_points() -> None:
    points = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]
    problem = Problem(
        "line",
        MLP((1, 3, 1)),
        [Term("data", lambda u, row: u.value - row.target, points, target=points)],
        strips([0, 0.5, 1]),
        exact=lambda x: x[:, 0],
    )
    assert torch.equal(problem.test_points, points)
    assert torch.equal(problem.reference, points)


def test_explicit_wants_a_number_of_clients() -> None:
    with pytest.raises(ValueError, match="needs a number of clients"):
        explicit([torch.zeros(3, 1)])


def test_what_is_printed_of_a_problem_holds_no_point_and_no_target() -> None:
    secret = 0.5076383783267356
    x = torch.full((3, 1), secret, dtype=torch.float64)
    terms = [
        Term("a", given, [x, x.new_zeros(0, 1)], target=[x[:, 0], x.new_zeros(0)]),
        Term("b", partial(given, x), X, target=partial(torch.add, x), partner=X),
    ]
    for term in terms:
        assert term.name in repr(term)
    problem = Problem(
        "secret", MLP((1, 3, 1)), [Term("a", given, [x], [x])], explicit(1)
    )
    shard, points = problem.pooled(), Points([x, x[:0]], [x[:, 0], x[:0, 0]])
    assert "points=Tensor[3, 1], target=Tensor[3]" in repr(shard)
    assert "0.5" not in repr(points)
    shown = (*terms, problem, problem.terms[0], shard, *shard.rows, points)
    for printed in (*map(repr, shown), *map(str, shown)):
        assert "0.50763" not in printed
        assert "tensor(" not in printed


@pytest.mark.parametrize("wide", [8, 50])
def test_what_is_rounding_alone_is_no_dependence_on_other_points(wide: int) -> None:
    torch.manual_seed(0)
    layers = [torch.nn.Linear(2, wide), torch.nn.Tanh(), torch.nn.Linear(wide, 1)]

    class Around(torch.nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            """Periodic: at x and x + 1 the same but for rounding."""
            angle = 2 * torch.pi * x
            values: Tensor = super().forward(torch.cat([angle.sin(), angle.cos()], 1))
            return values

    network = ModuleNetwork(Around(*layers).double())

    def periodic(u: Jet, row: Row) -> tuple[Tensor, Tensor]:
        return 1e6 * (u.value - u.partner.value), u.x - u.partner.x

    def mean(u: Jet, row: Row) -> tuple[Tensor, Tensor]:
        return u.value - u.partner.value, u.x - u.value.mean()

    def made(residual: object) -> Problem:
        term = Term("a", residual, [X], partner=[X + 1])  # type: ignore[arg-type]
        return Problem("p", network, [term], explicit(1))

    made(periodic)
    with pytest.raises(ValueError, match="changes with the other points"):
        made(mean)
