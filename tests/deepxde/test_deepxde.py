"""DeepXDE models as problems: compared with what DeepXDE itself computes."""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from reference import relative
from torch import Tensor

from fedsciml import deepxde as federated
from fedsciml import methods, run
from fedsciml.collocation import strips
from fedsciml.deepxde.package import deepxde, double_precision
from fedsciml.deepxde.weights import parameters
from fedsciml.federation import InProcess
from fedsciml.problem import Problem
from fedsciml.residual import AutogradBlock, System, TaylorBlock

ROOT = Path(__file__).parents[2]

FIPA = methods.load("fipa", basis="own")


class Model(NamedTuple):
    """What a DeepXDE script builds."""

    data: Any
    net: Any
    weights: Sequence[float] | None = None
    variables: Sequence[Tensor] | Mapping[str, Tensor] = ()


def fnn(dde: Any, *widths: int, activation: str = "tanh") -> Any:  # noqa: ANN401
    """A network with biases that are not zero."""
    return shaken(dde.nn.FNN(list(widths), activation, "Glorot uniform"))


def shaken(net: Any) -> Any:  # noqa: ANN401
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in net.parameters():
            p += 0.2 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    return net


def left(x: np.ndarray, on: bool) -> bool:
    return bool(on and np.isclose(x[0], -1))


def right(x: np.ndarray, on: bool) -> bool:
    return bool(on and np.isclose(x[0], 1))


def poisson(dde: Any, x: Tensor, y: Tensor) -> Tensor:  # noqa: ANN401
    return -dde.grad.hessian(y, x) - np.pi**2 * torch.sin(np.pi * x)


def line(dde: Any, conditions: Callable[[Any], list[Any]], **options: Any) -> Model:  # noqa: ANN401
    """-u'' = f on (-1, 1) with some conditions."""
    geometry = dde.geometry.Interval(-1, 1)
    data = dde.data.PDE(
        geometry,
        lambda x, y: poisson(dde, x, y),
        conditions(geometry),
        num_domain=6,
        num_boundary=2,
        **options,
    )
    return Model(data, fnn(dde, 1, 5, 4, 1))


def dirichlet(dde: Any) -> Model:  # noqa: ANN401
    def sides(g: Any) -> list[Any]:  # noqa: ANN401
        bc = dde.icbc.DirichletBC
        return [bc(g, lambda x: np.cos(3 * x), left), bc(g, lambda x: 0, right)]

    model = line(dde, sides, solution=lambda x: np.sin(np.pi * x), num_test=9)
    return model._replace(weights=[1, 10, 100])


def neumann(dde: Any) -> Model:  # noqa: ANN401
    """Normals of an interval, and of a circle with a nonlinear equation."""

    def pde(x: Tensor, y: Tensor) -> Tensor:
        u_xy = dde.grad.hessian(y, x, i=0, j=1)
        u_x = dde.grad.jacobian(y, x, i=0, j=0)
        return dde.grad.hessian(y, x, i=0, j=0) * y + u_x**2 - u_xy

    disk = dde.geometry.Disk([0.5, 0], 2)
    bc = dde.icbc.NeumannBC(disk, lambda x: x[:, 1:] ** 2, lambda x, on: on)
    data = dde.data.PDE(disk, pde, bc, num_domain=7, num_boundary=6)
    return Model(data, fnn(dde, 2, 5, 1, activation="sin"), [2.0, 0.5])


def robin(dde: Any) -> Model:  # noqa: ANN401
    bc = dde.icbc.RobinBC
    return line(dde, lambda g: [bc(g, lambda x, y: y**2 - torch.sin(y), right)])


def periodic(dde: Any) -> Model:  # noqa: ANN401
    bc = dde.icbc.PeriodicBC
    return line(
        dde, lambda g: [bc(g, 0, left), bc(g, 0, right, derivative_order=1)]
    )._replace(weights=[1, 3, 4])


def operators(dde: Any) -> Model:  # noqa: ANN401
    """An operator on the boundary and one at points, of a system of two outputs."""

    def pde(x: Tensor, y: Tensor) -> list[Tensor]:
        u, v = y[:, 0:1], y[:, 1:2]
        u_x = dde.grad.jacobian(y, x, i=0, j=0)
        return [u_x - v * u, dde.grad.hessian(y, x, component=1, i=0, j=1) + x[:, :1]]

    def slope(x: Tensor, y: Tensor, points: np.ndarray) -> Tensor:
        known = torch.as_tensor(points[:, 1:])
        return dde.grad.jacobian(y, x, i=1, j=1) * y[:, 0:1] - known

    square = dde.geometry.Rectangle([0, 0], [1, 2])
    points = np.array([[0.1, 0.2], [0.3, 1.4], [0.9, 0.7]])
    conditions = [
        dde.icbc.OperatorBC(square, slope, lambda x, on: on),
        dde.icbc.PointSetOperatorBC(points, points[:, :1], slope),
        dde.icbc.PointSetBC(points, np.sin(points), component=[1, 0]),
        dde.icbc.PointSetBC(points, 0.25, component=1),
    ]
    data = dde.data.PDE(square, pde, conditions, num_domain=5, num_boundary=4)
    return Model(data, fnn(dde, 2, 4, 2), [1, 0.5, 2, 3, 4, 5])


def diffusion(dde: Any) -> Model:  # noqa: ANN401
    """Time, an initial condition, an output transform that is not affine in the net."""

    def pde(x: Tensor, y: Tensor) -> Tensor:
        return dde.grad.jacobian(y, x, i=0, j=1) - dde.grad.hessian(y, x, i=0, j=0)

    rod = dde.geometry.GeometryXTime(
        dde.geometry.Interval(-1, 1), dde.geometry.TimeDomain(0, 0.5)
    )
    conditions = [
        dde.icbc.IC(rod, lambda x: np.sin(x[:, :1]), lambda _, on: on),
        dde.icbc.DirichletBC(rod, lambda x: x[:, 1:], lambda _, on: on),
        dde.icbc.NeumannBC(rod, lambda x: 0, lambda _, on: on),
        dde.icbc.PeriodicBC(rod, 0, left),
    ]
    data = dde.data.TimePDE(
        rod, pde, conditions, num_domain=5, num_boundary=8, num_initial=3
    )
    net = fnn(dde, 2, 4, 3, 1, activation="sigmoid")
    net.apply_output_transform(lambda x, y: x[:, 1:] * torch.exp(y) + y**2)
    return Model(data, net)


def features(dde: Any) -> Model:  # noqa: ANN401
    """Periodic features, and auxiliary variables of the points."""

    def pde(x: Tensor, y: Tensor, aux: Tensor) -> Tensor:
        return dde.grad.hessian(y, x) * aux[:, :1] - aux[:, 1:]

    model = line(dde, lambda g: [dde.icbc.DirichletBC(g, lambda x: 1, left)])
    data = dde.data.PDE(
        model.data.geom,
        pde,
        model.data.bcs,
        num_domain=6,
        num_boundary=2,
        auxiliary_var_function=lambda x: np.hstack([x**2, np.exp(x)]),
    )
    net = fnn(dde, 2, 5, 1, activation="swish")
    net.apply_feature_transform(lambda x: torch.cat([torch.cos(x), torch.sin(x)], 1))
    return Model(data, net)


def inverse(dde: Any) -> Model:  # noqa: ANN401
    """Two networks in parallel, and two unknown numbers."""
    c, k = dde.Variable(0.5), dde.Variable([2.0])

    def pde(x: Tensor, y: Tensor) -> list[Tensor]:
        u, v = y[:, 0], y[:, 1]
        u_x = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
        u_xx = torch.autograd.grad((c * u_x).sum(), x, create_graph=True)[0]
        return [u_xx[:, 0] * v - k**2, torch.exp(c) * dde.grad.jacobian(y, x, i=1)]

    geometry = dde.geometry.TimeDomain(0, 2)
    at = np.linspace(0, 2, 5)[:, None]
    conditions = [
        dde.icbc.PointSetBC(at, np.cos(at), component=0),
        dde.icbc.OperatorBC(geometry, lambda x, y, _: y[:, 1:] - k, lambda x, on: on),
    ]
    data = dde.data.PDE(geometry, pde, conditions, num_domain=5, num_boundary=2)
    net = shaken(dde.nn.PFNN([1, [4, 4], [3, 5], 2], "tanh", "Glorot uniform"))
    return Model(data, net, None, [c, k])


def shared(dde: Any) -> Model:  # noqa: ANN401
    """A network of the general path, an unknown number, and an output transform."""
    model = inverse(dde)
    net = shaken(dde.nn.PFNN([1, 4, [3, 5], 2], "elu", "Glorot uniform"))
    net.apply_output_transform(lambda x, y: y * torch.exp(x))
    return model._replace(net=net)


def bent(dde: Any) -> Model:  # noqa: ANN401
    """Two networks in parallel with an output transform of both, and unknowns."""
    model = inverse(dde)
    model.net.apply_output_transform(lambda x, y: y.flip(1) * torch.exp(x * y))
    return model


def interfaces(dde: Any) -> Model:  # noqa: ANN401
    """A flow that leaves at one side enters at the other, and slips alike."""
    square = dde.geometry.Rectangle([0, 0], [1, 2])
    sides = lambda x, on: on and x[0] == 0, lambda x, on: on and x[0] == 1
    bc, here = dde.icbc.Interface2DBC, lambda x: x[:, 1:]
    data = dde.data.PDE(
        square,
        lambda x, y: dde.grad.jacobian(y, x, i=0, j=0) * y[:, 1:],
        [bc(square, here, *sides), bc(square, here, *sides, "tangent")],
        num_domain=4,
        num_boundary=18,
        train_distribution="uniform",
    )
    return Model(data, fnn(dde, 2, 4, 2), [1, 2, 3])


def beside(dde: Any) -> Model:  # noqa: ANN401
    """A coefficient k(x) by a network of its own, part of the net."""
    model = dirichlet(dde)
    model.net.k = torch.nn.Sequential(torch.nn.Linear(1, 3), torch.nn.Tanh())
    model.net.apply_output_transform(lambda x, y: y * model.net.k(x).sum(1, True))
    return model


def trained_features(dde: Any) -> Model:  # noqa: ANN401
    """Fourier features with trained frequencies, which the transform has in scope."""
    model = dirichlet(dde)
    net, frequencies = fnn(dde, 4, 5, 1), torch.nn.Parameter(torch.tensor([[1.0, 2]]))
    net.frequencies = frequencies

    def waves(x: Tensor) -> Tensor:
        return torch.cat([torch.sin(x @ frequencies), torch.cos(x @ frequencies)], 1)

    net.apply_feature_transform(waves)
    return model._replace(net=net)


def partly_fixed(dde: Any) -> Model:  # noqa: ANN401
    """A net whose first layer is not trained."""
    model = dirichlet(dde)
    model.net.linears[0].requires_grad_(False)
    return model


JETS = [dirichlet, neumann, robin, periodic, operators, diffusion, features, inverse]
GENERAL = [shared, beside, trained_features, partly_fixed]
MODELS = [*JETS, bent, interfaces, *GENERAL]


def errors(model: Model) -> Tensor:
    """DeepXDE's errors, each row weighted as in its loss, in the library's order."""
    inputs = torch.as_tensor(model.data.train_x).requires_grad_()
    outputs = model.net(inputs)
    found = model.data.losses(
        None, outputs, lambda zero, error: error, inputs, model, None
    )
    weights = model.weights or [1.0] * len(found)
    return torch.cat(
        [
            (weight / error.numel()) ** 0.5 * error.mT.flatten()
            if error.ndim == 2
            else (weight / error.numel()) ** 0.5 * error
            for error, weight in zip(found, weights, strict=True)
        ]
    )


def made(model: Model, **options: Any) -> Problem:  # noqa: ANN401
    return federated.problem(
        model.data,
        model.net,
        model.weights,
        external_trainable_variables=model.variables,
        **options,
    )


@pytest.mark.parametrize("make", MODELS)
def test_residual_and_jacobian_are_deepxde_s(make: Callable[[Any], Model]) -> None:
    with double_precision() as dde:
        dde.config.set_random_seed(0)
        model = make(dde)
        if model.data.auxiliary_var_fn is not None:
            aux = torch.as_tensor(model.data.train_aux_vars)
            model.net.auxiliary_vars = aux
        expected = errors(model)
        targets = [*parameters(model.net), *model.variables]
        scales = [1.0] * len(parameters(model.net))
        scales += [abs(variable.item()) for variable in model.variables]
        rows = []
        for error in expected:
            slopes = torch.autograd.grad(
                error, targets, retain_graph=True, allow_unused=True
            )
            parts = [
                torch.zeros_like(target) if slope is None else scale * slope
                for slope, target, scale in zip(slopes, targets, scales, strict=True)
            ]
            rows.append(torch.cat([part.flatten() for part in parts]))
    problem = made(model)
    system = System(problem, problem.pooled())
    start = problem.network.init(torch.Generator(), torch.float64)
    linear = system.linearise(start)
    dense, p = torch.stack(rows), len(start)
    # Measured at most 2e-15, with six sets of points.
    assert relative(linear.residual, expected.detach()) < 1e-13
    assert relative(linear.jacobian(), dense) < 1e-13
    v = torch.linspace(-1, 2, p, dtype=torch.float64)
    w = torch.linspace(2, -1, len(rows), dtype=torch.float64)
    assert relative(linear.jvp(v), dense @ v) < 1e-13
    assert relative(linear.vjp(w), w @ dense) < 1e-13
    general = [isinstance(block, AutogradBlock) for block in system.blocks]
    assert all(general) if make in GENERAL else not any(general)


@pytest.mark.parametrize("make", [dirichlet, partly_fixed])
def test_clients_in_threads_leave_each_other_s_deepxde_alone(
    make: Callable[[Any], Model],
) -> None:
    problem = made(make(deepxde()), partition=strips([-1, -0.4, 0.3, 1]))
    found = [run(problem, FIPA, 2, backend=InProcess(workers=w)) for w in (1, 3)]
    assert found[0].theta_sha256() == found[1].theta_sha256()


@pytest.mark.parametrize("make", MODELS)
def test_weights_come_back_as_they_went(make: Callable[[Any], Model]) -> None:
    with double_precision() as dde:
        dde.config.set_random_seed(0)
        model = make(dde)
    problem = made(model)
    start = problem.network.init(torch.Generator(), torch.float64)
    shift = torch.linspace(0, 1, len(start)).double()
    there = start + shift
    federated.restore(model.net, there, model.variables, problem=problem)
    another = made(model)
    again = another.network.init(torch.Generator(), torch.float64)
    count = len(start) - len(problem.unknowns)
    assert torch.equal(again[:count], there[:count])
    assert another.numbers(again) == problem.numbers(there)
    x = problem.terms[0].points
    assert isinstance(x, Tensor)
    # The net's own arithmetic: what DeepXDE predicts is what was trained.
    assert relative(model.net(x).detach(), problem.network(start + shift, x)) < 1e-14


def test_a_residual_that_vanishes_at_the_start_takes_the_fast_path() -> None:
    with double_precision() as dde:
        model = periodic(dde)
        # Without biases the network is odd, and the same slope at both ends is 0 - 0.
        net = dde.nn.FNN([1, 5, 5, 1], "tanh", "Glorot uniform")
    problem = made(model._replace(net=net))
    start = problem.network.init(torch.Generator(), torch.float64)
    pooled = problem.pooled()
    slopes = System(problem, replace(pooled, rows=pooled.rows[2:]))
    assert slopes.residual(start).abs().max() < 1e-15
    assert isinstance(slopes.blocks[0], TaylorBlock)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("timed", [False, True])
def test_normals_of_a_point_cloud_are_those_of_its_points(
    precision: str, timed: bool
) -> None:
    angles = np.linspace(0, 2 * np.pi, 7, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], 1)
    dde = deepxde()
    before = dde.config.default_float()
    try:
        getattr(dde.config.real, f"set_{precision}")()
        domain = dde.geometry.PointCloud(0.5 * circle, 300 + 9 * circle, circle)
        kind = dde.data.PDE
        if timed:
            times = dde.geometry.TimeDomain(0, 1)
            domain, kind = dde.geometry.GeometryXTime(domain, times), dde.data.TimePDE
        bc = dde.icbc.NeumannBC(domain, lambda x: 0, lambda x, on: on)
        data = kind(domain, lambda x, y: y, bc, num_domain=4, num_boundary=7)
        net = fnn(dde, 2 + timed, 4, 1)
        problem = federated.problem(data, net)
    finally:
        getattr(dde.config.real, f"set_{before}")()
    _, rows = problem.pooled().rows
    assert rows.target is not None
    # The values, then the normals; nearest points are 8 apart, float32 has 3e-5 at 300.
    normals = (rows.points[:, :2] - 300) / 9
    assert relative(rows.target[:, 1:3], normals) < 1e-5
    assert not rows.target[:, [0, *([3] if timed else [])]].any()


def test_a_point_with_two_normals_is_named() -> None:
    with double_precision() as dde:
        corner, normals = np.array([[1.0, 2.0]] * 2), np.eye(2)
        cloud = dde.geometry.PointCloud(np.zeros((1, 2)), corner, normals)
        bc = dde.icbc.NeumannBC(cloud, lambda x: 0, lambda x, on: on)
        data = dde.data.PDE(cloud, lambda x, y: y, bc, 1, 2)
        with pytest.raises(ValueError, match=r"2 normals at .* \[1.0, 2.0\]"):
            federated.problem(data, fnn(dde, 2, 4, 1))


def test_a_coefficient_beside_the_net_is_found_and_put_back() -> None:
    """u' = k with k = 1 + x, from values of u; the constant of u's net is fixed."""
    with double_precision() as dde:
        dde.config.set_random_seed(0)
        net = dde.nn.FNN([1, 5, 1], "tanh", "Glorot normal")
        net.linears[1].bias.requires_grad_(False)
        net.k = torch.nn.Linear(1, 1)
        net.apply_output_transform(lambda x, y: torch.cat([x * y, net.k(x)], 1))
        at = np.linspace(0, 1, 9)[:, None]
        data = dde.data.PDE(
            dde.geometry.Interval(0, 1),
            lambda x, y: dde.grad.jacobian(y, x, i=0) - y[:, 1:],
            dde.icbc.PointSetBC(at, at + at**2 / 2, component=0),
            num_domain=8,
            num_boundary=2,
        )
        result = run(federated.problem(data, net), methods.load("fipa"), rounds=20)
        federated.restore(net, result)
    assert net.k.weight.item() == pytest.approx(1, abs=1e-3)
    assert net.k.bias.item() == pytest.approx(1, abs=1e-3)
    assert net.linears[1].bias.item() == 0


def test_points_and_values_of_single_precision_are_read_as_decimals() -> None:
    dde = deepxde()
    geometry = dde.geometry.Interval(0, 1)
    at = np.array([[0.1], [0.7]])
    data = dde.data.PDE(
        geometry,
        lambda x, y: y,
        [
            dde.icbc.DirichletBC(geometry, lambda x: np.exp(x), lambda x, on: on),
            dde.icbc.PointSetBC(at, at / 7),
        ],
        num_domain=9,
        num_boundary=2,
        train_distribution="uniform",
    )
    assert data.train_x.dtype == np.float32
    data.bcs[0].func(data.train_x, 0, 2, None)  # DeepXDE keeps what it has computed
    problem = federated.problem(data, fnn(dde, 1, 4, 1))
    pde, ends, values = problem.pooled().rows
    assert (10 * pde.points.flatten()).sort().values.tolist() == pytest.approx(
        [0, *range(1, 10), 10], abs=1e-14
    )
    assert ends.target is not None
    assert relative(ends.target, ends.points.exp().flatten()) < 1e-15
    assert values.points.tolist() == at.tolist()
    assert values.target is not None
    assert values.target.tolist() == pytest.approx(at.flatten() / 7, rel=1e-7)


def test_a_federation_of_a_deepxde_model_reaches_the_solution() -> None:
    with double_precision() as dde:
        dde.config.set_random_seed(3)
        geometry = dde.geometry.Interval(-1, 1)
        bc = dde.icbc.DirichletBC(geometry, lambda x: 0, lambda _, on: on)
        data = dde.data.PDE(
            geometry,
            lambda x, y: poisson(dde, x, y),
            bc,
            num_domain=30,
            num_boundary=2,
            solution=lambda x: np.sin(np.pi * x),
            num_test=50,
        )
        net = dde.nn.FNN([1, 12, 12, 1], "tanh", "Glorot normal")
        problem = federated.problem(data, net, [1, 10], clients=2)
        result = run(problem, methods.load("fipa"), rounds=30)
        assert result.errors()[0] < 1e-8
        federated.restore(net, result)
        model = dde.Model(data, net)
        model.compile("adam", lr=1e-3, metrics=["l2 relative error"], verbose=0)
        predicted = model.predict(data.test_x)
        assert dde.metrics.l2_relative_error(data.test_y, predicted) < 1e-8
    assert problem.clients == 2
    sizes = [shard.points for shard in problem.shards()]
    assert abs(sizes[0] - sizes[1]) <= 2


@pytest.mark.parametrize("general", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_unknown_number_is_recovered(general: bool) -> None:
    """u' = -c u, u(0) = 1, with c = 2 from u at some times."""
    with double_precision() as dde:
        dde.config.set_random_seed(1)
        c = dde.Variable(0.7)
        times = dde.geometry.TimeDomain(0, 1)
        at = np.linspace(0, 1, 8)[:, None]
        data = dde.data.PDE(
            times,
            lambda x, y: dde.grad.jacobian(y, x) + c * y,
            dde.icbc.PointSetBC(at, np.exp(-2 * at)),
            num_domain=12,
            num_boundary=2,
        )
        activation = "elu" if general else "tanh"
        net = dde.nn.FNN([1, 8, 8, 1], activation, "Glorot normal")
    problem = federated.problem(
        data, net, external_trainable_variables={"rate": c}, clients=3
    )
    problem = replace(problem, truth={"rate": 2.0})
    result = run(problem, methods.load("fipa"), rounds=12)
    # elu has no second derivative at 0: the residual of the best fit is not zero.
    assert result.history[-1].errors["rate"] < (0.05 if general else 1e-7)
    assert c.item() == 0.7
    federated.restore(net, result, c)
    assert c.item() == result.unknowns()["rate"]
    assert c.requires_grad


def test_unknowns_come_back_to_the_variables_of_their_names() -> None:
    with double_precision() as dde:
        built = inverse(dde)
        a, b = built.variables
        model = dde.Model(built.data, built.net)
        model.compile("adam", lr=1e-3, external_trainable_variables=[a, b], verbose=0)
    problem = made(built._replace(variables={"b": b, "a": a}))
    result = run(problem, methods.load("fipa"), rounds=1)
    found = result.unknowns()
    assert found["a"] != found["b"]

    def found_by(*arguments: Any, **options: Any) -> dict[str, float]:  # noqa: ANN401
        with torch.no_grad():
            a.fill_(0), b.fill_(0)
        federated.restore(*arguments, **options)
        return {"a": a.item(), "b": b.item()}

    assert found_by(built.net, result, {"a": a, "b": b}) == found
    assert found_by(model, result, {"b": b, "a": a}) == found
    by_name = {"a": a, "b": b}
    assert found_by(built.net, result.theta, by_name, problem=problem) == found
    for target, trained, variables, message in [
        (model, result, (), "unknowns of the run are b, a, but the variables are c0"),
        (built.net, result, [b, a], "as a dictionary by the names"),
        (built.net, result, {"a": a, "c": b}, "unknowns of the run are b, a"),
        (built.net, result.theta, {"b": b, "a": a}, "nor the units of its last 2"),
        (model, result.theta, (), "names nor the units of its last 2 numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            found_by(target, trained, variables)
    assert a.item() == b.item() == 0


def test_training_inside_deepxde_fills_its_history(tmp_path: Path) -> None:
    with double_precision() as dde:
        dde.config.set_random_seed(3)
        built = dirichlet(dde)
        model = dde.Model(built.data, built.net)
        metrics = ["l2 relative error"]
        model.compile("L-BFGS", metrics=metrics, loss_weights=[1, 10, 1], verbose=0)
        history, state = federated.train(model, iterations=12, display_every=5)
        assert history is model.losshistory
        assert history.steps == [0, 5, 10, 12]
        assert state.step == state.iteration == 12
        assert np.shape(history.loss_train) == np.shape(history.loss_test) == (4, 3)
        assert np.shape(history.metrics_test) == (4, 1)
        inputs = torch.as_tensor(built.data.train_x).requires_grad_()
        losses = built.data.losses(
            None, built.net(inputs), dde.losses.get("MSE"), inputs, model
        )
        last = [loss.item() for loss in losses]
        assert history.loss_train[-1] == pytest.approx([last[0], 10 * last[1], last[2]])
        assert sum(history.loss_train[-1]) < 1e-6 * sum(history.loss_train[0])
        assert state.best_step == 12
        dde.saveplot(history, state, issave=True, isplot=False, output_dir=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {"loss.dat", "test.dat"}


def compiled(dde: Any) -> Any:  # noqa: ANN401
    built = dirichlet(dde)
    model = dde.Model(built.data, built.net)
    model.compile("adam", lr=1e-3, verbose=0)
    return model


def test_training_that_was_stopped_before_goes_on() -> None:
    with double_precision() as dde:
        model = compiled(dde)
        model.stop_training = True
        history, state = federated.train(model, iterations=3)
    assert history.steps == [0, 1, 2, 3]
    assert state.step == 3


def test_training_that_diverges_says_so_and_keeps_the_last_weights() -> None:
    with double_precision() as dde:
        model = compiled(dde)
        with pytest.raises(FloatingPointError, match="In round 1 of gauss_newton"):
            federated.train(model, iterations=9, policy="fixed:length=1e308")
    assert model.losshistory.steps == [0]
    assert all(p.isfinite().all() for p in model.net.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": -1}, "iterations >= 0 .* got -1 and 1"),
        ({"display_every": 0}, "display_every >= 1, got 100 and 0"),
        ({"sketch": "rang"}, "'sketch' of method 'gauss_newton' must be one of"),
    ],
)
def test_training_with_impossible_arguments_is_refused(
    options: dict[str, Any], message: str
) -> None:
    with double_precision() as dde:
        model = compiled(dde)
        with pytest.raises(ValueError, match=message):
            federated.train(model, **options)


def test_training_inside_deepxde_recovers_an_unknown_number() -> None:
    dde = deepxde()
    dde.config.set_random_seed(1)
    c = dde.Variable(0.7)
    at = np.linspace(0, 1, 8)[:, None]
    data = dde.data.PDE(
        dde.geometry.TimeDomain(0, 1),
        lambda x, y: dde.grad.jacobian(y, x) + c * y,
        dde.icbc.PointSetBC(at, np.exp(-2 * at)),
        num_domain=12,
        num_boundary=2,
    )
    net = dde.nn.FNN([1, 8, 8, 1], "tanh", "Glorot normal")
    model = dde.Model(data, net)
    model.compile("adam", lr=1e-3, external_trainable_variables=c, verbose=0)
    federated.train(model, iterations=30)
    # Data and weights are in single precision.
    assert c.item() == pytest.approx(2, rel=1e-5)
    assert c.dtype == next(net.parameters()).dtype == torch.float32


@pytest.mark.parametrize(
    "make", [inverse, pytest.param(shared, marks=pytest.mark.slow)]
)
def test_torch_s_default_device_does_not_matter(make: Callable[[Any], Model]) -> None:
    """DeepXDE makes an accelerator the default; tensors on "meta" hold no numbers."""
    with double_precision() as dde:
        dde.config.set_random_seed(0)
        model = make(dde)
    with torch.device("meta"):
        result = run(made(model), methods.load("fipa"), rounds=2)
        federated.restore(model.net, result, model.variables)
    assert result.loss < result.history[0].loss


PROGRAM = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "deepxde":
            raise ModuleNotFoundError("No module named 'deepxde'")
sys.meta_path.insert(0, Blocked())
import fedsciml.deepxde
try:
    fedsciml.deepxde.problem(None, None)
except ModuleNotFoundError:
    print("as it must be")
"""


def test_the_package_is_imported_without_deepxde() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("as it must be\n", "")


def test_what_is_global_is_put_back() -> None:
    dde = deepxde()

    def state() -> tuple[object, ...]:
        numbers = np.random.get_state()[1]
        return (
            torch.get_default_dtype(),
            torch.get_default_device(),
            torch.get_rng_state().tolist(),
            numbers.tolist(),
            dde.config.real(np),
            dde.config.real(torch),
            dde.gradients.gradients_reverse.jacobian._Jacobians.Js,
        )

    model = inverse(dde)
    kinds = [type(variable) for variable in model.variables]
    before = state()
    problem = made(model)
    run(problem, methods.load("fipa"), rounds=1)
    assert state() == before
    assert [type(variable) for variable in model.variables] == kinds
    assert all(not vars(variable) for variable in model.variables)


def unsupported(dde: Any) -> dict[str, tuple[Model, str]]:  # noqa: ANN401
    """Models that cannot be federated, and what is said about them."""
    good = dirichlet(dde)
    geometry, points = good.data.geom, np.array([[0.1], [0.2]])

    def pde(function: Callable[[Tensor, Tensor], Any]) -> Model:
        data = dde.data.PDE(geometry, function, [], num_domain=6)
        return Model(data, good.net)

    def condition(bc: Any) -> Model:  # noqa: ANN401
        return line(dde, lambda g: [bc])

    def scaled(x: Tensor, y: Tensor) -> Tensor:
        return c * y

    c = dde.Variable(1.0)
    inside = fnn(dde, 1, 4, 1)
    inside.apply_output_transform(scaled)
    dense = fnn(dde, 1, 4, 1)
    dense.regularizer = ["l2", 1e-4]
    dropout = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Dropout())
    held = fnn(dde, 1, 4, 1)
    held.k = torch.nn.Linear(1, 1)
    held.apply_output_transform(lambda x, y: y * held.k(x))
    idle = fnn(dde, 1, 4, 1)
    idle.spare = torch.nn.Parameter(torch.ones(2))
    apart = fnn(dde, 1, 4, 1)
    factor = torch.nn.Parameter(torch.tensor(3.0))
    apart.apply_output_transform(lambda x, y: factor * y)

    def constant(x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            mean = good.net(torch.linspace(-1, 1, 5)[:, None]).mean()
        return y - mean

    def reading(net: Any, function: Callable[[Tensor, Tensor], Any]) -> Model:  # noqa: ANN401
        return pde(function)._replace(net=net)

    def predicted(x: np.ndarray) -> np.ndarray:
        return good.net(torch.as_tensor(x)).detach().numpy()

    bc = dde.icbc
    return {
        "delay": (
            pde(lambda x, y: y - good.net(x - 0.1)),
            "pde evaluates the net itself, .* as delay and integral terms do",
        ),
        "integral": (pde(constant), "evaluates the net itself"),
        "part": (reading(held, lambda x, y: y - held.k(x)), "calls the part 'k' of"),
        "parameter": (
            reading(held, lambda x, y: y - held.k.bias),
            "reads the net's parameter 'k.bias' itself",
        ),
        "fixed": (
            reading(fnn(dde, 1, 4, 1).requires_grad_(False), lambda x, y: y),
            "There is nothing to train",
        ),
        "idle": (reading(idle, lambda x, y: y), "would not be trained: spare"),
        "apart": (
            reading(apart, lambda x, y: y),
            r"trainable tensor, now 3\.0, that is not among net.parameters\(\)",
        ),
        "predicted": (
            line(dde, lambda g: [bc.DirichletBC(g, predicted, left)])._replace(
                net=good.net
            ),
            "values are computed by the net itself",
        ),
        "mean": (pde(lambda x, y: y - y.mean()), "'pde'.* at a point changes with"),
        "first row": (pde(lambda x, y: y - y[:1]), "'pde'.* at a point changes with"),
        "undeclared": (pde(scaled), r"variable, now 1\.0, that would not be trained"),
        "shape": (pde(lambda x, y: y.sum()), r"shape \[\] for"),
        "weights": (
            good._replace(weights=[1, 2, 3, 4]),
            "errors, but the loss weights",
        ),
        "few": (good._replace(weights=[1]), "each of the 2 conditions"),
        "none": (good._replace(weights=[0, 0, 0]), "positive weight"),
        "batch": (condition(bc.PointSetBC(points, points, batch_size=1)), "batch_size"),
        "empty": (
            condition(bc.DirichletBC(geometry, lambda x: 0, lambda x, on: False)),
            "DirichletBC has no points",
        ),
        "values": (
            condition(bc.DirichletBC(geometry, lambda x: x[:, 0], lambda x, on: on)),
            r"shape \[2\] for 2 points",
        ),
        "transform": (Model(good.data, inside, None, [c]), "transforms read an"),
        "vector": (good._replace(variables=[dde.Variable([1.0, 2.0])]), "single"),
        "regularizer": (Model(good.data, dense), "regularizer"),
        "dropout": (Model(good.data, dropout), "dropout"),
        "data": (Model(dde.data.Triple(*4 * [points]), good.net), "kind Triple"),
        "clients": (pde(lambda x, y: y), "do not make 99 strips"),
    }


def test_what_is_not_supported_is_refused() -> None:
    with double_precision() as dde:
        cases = unsupported(dde)
    for name, (model, message) in cases.items():
        with pytest.raises(ValueError, match=message):
            made(model, clients=99 if name == "clients" else 2)


@pytest.mark.parametrize("place", ["features", "module", "pde", "condition"])
def test_constants_of_single_precision_are_named(place: str) -> None:
    dde = deepxde()
    assert dde.config.default_float() == "float32"
    matrix = torch.ones(1, 1)

    def mixed(x: Tensor, y: Tensor, *_: object) -> Tensor:
        return x @ matrix - y

    class Constant(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x @ matrix)

    geometry = dde.geometry.Interval(-1, 1)
    bc = dde.icbc.OperatorBC(geometry, mixed, lambda x, on: on)
    data = dde.data.PDE(
        geometry,
        mixed if place == "pde" else lambda x, y: y,
        [bc] if place == "condition" else [],
        num_domain=6,
        num_boundary=2,
    )
    net = Constant() if place == "module" else fnn(dde, 1, 4, 1)
    if place == "features":
        net.apply_feature_transform(lambda x: torch.sin(x @ matrix))
    with pytest.raises(ValueError, match=r"model computes with float32.*'float64'"):
        federated.problem(data, net)


def test_functions_and_data_sets_are_regressions() -> None:
    dde = deepxde()
    geometry = dde.geometry.Interval(-1, 1)
    function = dde.data.Function(geometry, lambda x: np.exp(x), 12, 20)
    problem = federated.problem(function, fnn(dde, 1, 4, 1), clients=3)
    (rows,) = problem.pooled().rows
    assert rows.target is not None
    assert relative(rows.target, rows.points.exp().flatten()) < 1e-15
    assert problem.reference is not None
    x = np.linspace(0, 1, 9)[:, None]
    y = np.hstack([x, 1 - x])
    data = dde.data.DataSet(x, y, x[::2], y[::2])
    problem = federated.problem(data, fnn(dde, 1, 4, 2), partition=strips([0, 0.4, 1]))
    assert problem.clients == 2
    assert problem.outputs == ("u0", "u1")
    assert problem.reference is not None
    assert problem.reference.shape == (5, 2)
    start = problem.network.init(torch.Generator(), torch.float64)
    values = problem.network(start, torch.from_numpy(x))
    expected = (values - torch.from_numpy(y)).square().mean() / 2
    found = System(problem, problem.pooled()).loss(start)
    assert found == pytest.approx(float(expected), rel=1e-6)
