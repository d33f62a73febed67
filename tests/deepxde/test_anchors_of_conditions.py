"""Anchors of DeepXDE models: where they lie, and what they tell of a client's rows."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsciml import deepxde as federated
from fedsciml.deepxde.package import deepxde, double_precision
from fedsciml.problem import Problem, Rows, Shard
from fedsciml.residual import System


def laplace(dde: Any, x: Tensor, y: Tensor) -> Tensor:  # noqa: ANN401
    return dde.grad.hessian(y, x, i=0, j=0) + dde.grad.hessian(y, x, i=1, j=1) - y**2


def made(
    geometry: Any,  # noqa: ANN401
    conditions: Sequence[Any],
    counts: Sequence[int] = (40, 60),
    *widths: int,
    **options: Any,  # noqa: ANN401
) -> Problem:
    """A problem in two coordinates, the second one perhaps the time."""
    dde = deepxde()
    timed = isinstance(geometry, dde.geometry.GeometryXTime)
    kind = dde.data.TimePDE if timed else dde.data.PDE
    dde.config.set_random_seed(0)
    data = kind(
        geometry, lambda x, y: laplace(dde, x, y), list(conditions), *counts, **options
    )
    net = dde.nn.FNN([2, *(widths or [4]), 1], "tanh", "Glorot uniform")
    return federated.problem(data, net)


def rod(dde: Any) -> Any:  # noqa: ANN401
    """x in (-1, 1), t in (2, 3)."""
    return dde.geometry.GeometryXTime(
        dde.geometry.Interval(-1, 1), dde.geometry.TimeDomain(2, 3)
    )


def at_left(x: np.ndarray, on: bool) -> bool:
    return bool(on and np.isclose(x[0], -1))


@pytest.mark.parametrize("double", [False, True])
def test_anchors_on_a_rectangle_have_its_normals(double: bool) -> None:
    with double_precision() if double else nullcontext():
        dde = deepxde()
        square = dde.geometry.Rectangle([0.1, 0], [0.7, 2])
        icbc, whole = dde.icbc, lambda _, on: on
        problem = made(
            square,
            [
                icbc.NeumannBC(square, lambda x: x[:, 1:], whole),
                icbc.RobinBC(square, lambda x, y: y, whole),
                icbc.DirichletBC(square, lambda x: 1, lambda x, on: on and x[1] > 1),
            ],
        )
    pde, neumann, robin, dirichlet = problem.anchors(50, 3)
    lower, upper = torch.tensor([[0.1, 0], [0.7, 2]], dtype=torch.float64)
    assert ((pde.points >= lower) & (pde.points <= upper)).all()
    for rows in (neumann, robin):
        x, y = rows.points.T
        # Exactly on the sides, and of float32 numbers the decimals.
        sides = torch.stack([1.0 * (x == 0.7) - 1.0 * (x == 0.1), 1.0 * (y == 2)], 1)
        sides[:, 1] -= 1.0 * (y == 0)
        assert len(rows.points) == 50
        assert (sides.abs().sum(1) == 1).all()
        assert rows.target is not None
        assert torch.equal(rows.target[:, -2:], sides.double())
    assert neumann.target is not None
    assert torch.equal(neumann.target[:, 0], neumann.points[:, 1])
    assert (dirichlet.points[:, 1] > 1).all()


def test_anchors_on_a_disk_have_its_normals() -> None:
    with double_precision() as dde:
        disk = dde.geometry.Disk([0.5, 0], 2)
        upper = dde.icbc.NeumannBC(disk, lambda x: 0, lambda x, on: on and x[1] > 0)
        problem = made(disk, [upper])
    pde, rows = problem.anchors(50)
    centre = torch.tensor([0.5, 0], dtype=torch.float64)
    outward = rows.points - centre
    assert len(rows.points) == 50
    assert (rows.points[:, 1] > 0).all()
    assert rows.target is not None
    assert torch.allclose(outward.norm(dim=1), torch.tensor(2.0).double())
    assert torch.allclose(rows.target[:, 1:], outward / 2, atol=1e-14)
    assert ((pde.points - centre).norm(dim=1) <= 2 + 1e-14).all()


def test_anchors_in_time_start_with_it_and_repeat_at_the_period() -> None:
    with double_precision() as dde:
        geometry = rod(dde)
        icbc = dde.icbc
        problem = made(
            geometry,
            [
                icbc.IC(geometry, lambda x: x[:, :1], lambda _, on: on),
                icbc.PeriodicBC(geometry, 0, at_left),
                icbc.PeriodicBC(geometry, 0, at_left, derivative_order=1),
                icbc.OperatorBC(geometry, lambda x, y, _: y, at_left),
                icbc.PointSetBC(np.array([[0.0, 2.5], [0.3, 2.1]]), 1.0),
            ],
            (40, 30, 10),
        )
    _, initial, *periodic, left, measured = problem.anchors(40)
    assert (initial.points[:, 1] == 2).all()
    assert initial.points[:, 0].unique().numel() == 40
    for rows in periodic:
        assert rows.partner is not None
        assert len(rows.points) == 40
        assert (rows.points[:, 0] == -1).all()
        assert (rows.partner[:, 0] == 1).all()
        assert torch.equal(rows.partner[:, 1], rows.points[:, 1])
    assert (left.points[:, 0] == -1).all()
    for rows in (left, measured):
        assert ((rows.points[:, 1] >= 2) & (rows.points[:, 1] <= 3)).all()
    assert ((measured.points >= -1) & (measured.points <= 3)).all()


def test_ends_of_an_interval_and_its_beginning_are_anchors_once_each() -> None:
    with double_precision() as dde:
        time = dde.geometry.TimeDomain(1, 2)
        conditions = [
            dde.icbc.IC(time, lambda x: 0, lambda _, on: on),
            dde.icbc.DirichletBC(time, lambda x: 0, lambda _, on: on),
        ]
        data = dde.data.PDE(
            time,
            lambda x, y, aux: dde.grad.jacobian(y, x) - aux,
            conditions,
            30,
            2,
            exclusions=np.array([[2.0]]),
            anchors=np.array([[1.0], [1.5]]),
            auxiliary_var_function=lambda x: np.sin(x),
        )
        problem = federated.problem(
            data, dde.nn.FNN([1, 4, 1], "tanh", "Glorot normal")
        )
    pde, initial, ends = problem.anchors(40)
    assert initial.points.tolist() == [[1.0]]
    assert ends.points.tolist() == [[1.0]]
    assert (pde.points < 2).all()
    assert pde.target is not None
    assert torch.equal(pde.target, pde.points.sin())


def test_a_hole_of_its_own_geometry_is_found_and_nothing_beyond_the_domain() -> None:
    """A condition in the middle, and one on a circle that leaves the square."""
    with double_precision() as dde:
        square = dde.geometry.Rectangle([-1, -1], [1, 1])
        circle = dde.geometry.Disk([1, 0], 0.5)
        angles = np.linspace(0.51, 1.49, 9) * np.pi
        places = np.stack([1 + np.cos(angles) / 2, np.sin(angles) / 2], 1)
        condition = dde.icbc.DirichletBC(circle, lambda x: 0, lambda _, on: on)
        problem = made(square, [condition], anchors=places)
    _, rows = problem.anchors(30)
    away = (rows.points - torch.tensor([1.0, 0])).norm(dim=1)
    assert len(rows.points) == 30
    assert torch.allclose(away, torch.tensor(0.5).double())
    assert (rows.points[:, 0] <= 1).all()


def clouds(dde: Any) -> Any:  # noqa: ANN401
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], 1)
    return dde.geometry.PointCloud(0.5 * circle, circle, circle)


@pytest.mark.parametrize(
    "shape", [clouds, lambda dde: dde.geometry.Disk([0, 0], 1), rod]
)
def test_anchors_are_those_of_their_seed_and_leave_no_trace(
    shape: Callable[[Any], Any],
) -> None:
    with double_precision() as dde:
        geometry = shape(dde)
        calls = []

        def value(x: np.ndarray) -> np.ndarray:
            calls.append(len(x))
            return x[:, :1]

        conditions = [dde.icbc.DirichletBC(geometry, value, lambda _, on: on)]
        problem = made(geometry, conditions)
        before, called = np.random.get_state(), len(calls)
        first = problem.anchors(20, 1)
        bits = dde.config.real.precision
    assert dde.config.real.precision == 32  # whatever the precision around
    second, other = problem.anchors(20, 1), problem.anchors(20, 2)
    assert dde.config.real.precision == 32
    assert bits == 64
    after = np.random.get_state()
    assert len(calls) == called  # derivatives do not depend on values
    assert np.array_equal(before[1], after[1])
    assert before[2:] == after[2:]
    for rows, same, another in zip(first, second, other, strict=True):
        assert torch.equal(rows.points, same.points)
        assert not torch.equal(rows.points, another.points)


def test_a_condition_without_random_points_is_named() -> None:
    with double_precision() as dde:
        square = dde.geometry.Rectangle([0, 0], [1, 1])
        line = np.stack([np.full(9, 0.5), np.linspace(0.1, 0.9, 9)], 1)

        def problem(geometry: Any) -> Problem:  # noqa: ANN401
            inside = dde.icbc.OperatorBC(
                geometry, lambda x, y, _: y, lambda x, _: x[0] == 0.5
            )
            return made(square, [inside], anchors=line)

        unknown = problem(square)
        known = problem(dde.geometry.PointCloud(line, line))
    with pytest.raises(ValueError, match="The condition OperatorBC accepts none"):
        unknown.anchors(20)
    assert sorted(known.anchors(20)[1].points.tolist()) == line.tolist()


def test_terms_that_live_on_their_own_points_have_no_anchors() -> None:
    with double_precision() as dde:
        net = dde.nn.FNN([1, 4, 1], "tanh", "Glorot uniform")
        x = np.linspace(0, 1, 5)[:, None]
        table = dde.data.DataSet(X_train=x, y_train=x, X_test=x, y_test=x)
        square = dde.geometry.Rectangle([0, 0], [1, 1])
        jump = dde.icbc.Interface2DBC(
            square,
            lambda x: 0,
            lambda x, on: on and x[0] == 0,
            lambda x, on: on and x[0] == 1,
        )
        data = dde.data.PDE(
            square,
            lambda x, y: laplace(dde, x, y),
            jump,
            9,
            16,
            train_distribution="uniform",
        )
        problems = {
            "data": federated.problem(table, net),
            "Interface2DBC": federated.problem(
                data, dde.nn.FNN([2, 4, 2], "tanh", "Glorot uniform")
            ),
        }
    for name, problem in problems.items():
        with pytest.raises(ValueError, match=f"'{name}' does not say where it holds"):
            problem.anchors(10)


def in_time(dde: Any) -> Problem:  # noqa: ANN401
    geometry = rod(dde)
    conditions = [
        dde.icbc.IC(geometry, lambda x: x[:, :1], lambda _, on: on),
        dde.icbc.PeriodicBC(geometry, 0, at_left, derivative_order=1),
        dde.icbc.PointSetBC(np.random.uniform([-1, 2], [1, 3], (20, 2)), 1.0),
    ]
    return made(geometry, conditions, (200, 60, 30), 15, 15)


def with_a_hole(dde: Any) -> Problem:  # noqa: ANN401
    square, disk = (
        dde.geometry.Rectangle([-1, -1], [1, 1]),
        dde.geometry.Disk([0, 0], 0.5),
    )
    geometry = square - disk
    conditions = [
        dde.icbc.NeumannBC(square, lambda x: 0, lambda _, on: on),
        dde.icbc.RobinBC(disk, lambda x, y: y, lambda _, on: on),
    ]
    return made(geometry, conditions, (200, 80), 15, 15)


def of_a_function(dde: Any) -> Problem:  # noqa: ANN401
    square = dde.geometry.Rectangle([-1, -1], [1, 1])
    data = dde.data.Function(square, lambda x: x[:, :1], 200, 10, "Hammersley")
    net = dde.nn.FNN([2, 15, 15, 1], "tanh", "Glorot uniform")
    return federated.problem(data, net)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("make", [in_time, with_a_hole, of_a_function])
def test_clients_rows_are_in_the_span_of_the_anchors(
    make: Callable[[Any], Problem], double: bool
) -> None:
    with double_precision() if double else nullcontext():
        problem = make(deepxde())
    theta = problem.network.init(torch.Generator().manual_seed(0), torch.float64)

    def jacobian(rows: tuple[Rows, ...]) -> Tensor:
        return System(problem, Shard(0, rows, 1.0)).linearise(theta).jacobian()

    _, s, v = torch.linalg.svd(jacobian(problem.anchors(200)), full_matrices=False)
    q = v[s > 1e-8 * s[0]].T
    top = torch.linalg.matrix_norm(jacobian(problem.pooled().rows), 2)
    for shard in problem.shards():
        rows = jacobian(shard.rows)
        beyond = torch.linalg.matrix_norm(rows - rows @ q @ q.T, 2)
        # The span ends at 1e-8; measured at most 2e-8 beyond, with 65 to 94 directions.
        assert beyond < 1e-7 * top
    assert q.shape[1] < len(theta) / 2
