"""External trainable variables: of any size, and refused where they are not trained."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsciml import deepxde as federated
from fedsciml import methods, run
from fedsciml.deepxde.package import double_precision
from fedsciml.problem import Problem

Made = Callable[[Any, Any, Tensor], Any]
"""Makes the errors of a pde, or a condition, from DeepXDE, a geometry and C."""


def made(start: float, pde: Made, condition: Made | None = None) -> Problem:
    """A pde on (0, 1) with a variable C, sensors and one more condition."""
    with double_precision() as dde:
        dde.config.set_random_seed(0)
        c = dde.Variable(start)
        geometry = dde.geometry.Interval(0, 1)
        at = np.linspace(0, 1, 9)[:, None]
        conditions = [dde.icbc.PointSetBC(at, np.exp(-at))]
        if condition is not None:
            conditions.append(condition(dde, geometry, c))
        data = dde.data.PDE(geometry, pde(dde, geometry, c), conditions, 16, 2)
        net = dde.nn.FNN([1, 8, 8, 1], "tanh", "Glorot normal")
        return federated.problem(data, net, external_trainable_variables={"C": c})


def decay(unit: float) -> Made:
    """y' = -(C / unit) y; C = unit in truth."""
    return lambda dde, _, c: lambda x, y: dde.grad.jacobian(y, x) + c / unit * y


def without(dde: Any, _: Any, c: Tensor) -> Any:  # noqa: ANN401
    return lambda x, y: dde.grad.jacobian(y, x) + y


def end(_: Tensor, on: bool) -> bool:
    return on


@pytest.mark.parametrize(("unit", "start"), [(1e-12, 5e-13), (1e5, 0.0), (1e5, 1.0)])
def test_a_variable_is_found_whatever_its_size(unit: float, start: float) -> None:
    result = run(made(start, decay(unit)), methods.load("fipa"), 12)
    # Measured 6e-6.
    assert result.unknowns()["C"] == pytest.approx(unit, rel=1e-4)


NOT_TRAINED: dict[str, tuple[Made, Made | None, str]] = {
    "forgotten": (without, None, "No residual .* 'C', .* the dde.Variable itself"),
    "float": (
        lambda dde, _, c: lambda x, y: dde.grad.jacobian(y, x) + float(c) * y,
        None,
        "'pde' .* takes the value of the unknown 'C'",
    ),
    "item in an operator": (
        decay(1.0),
        lambda dde, g, c: dde.icbc.OperatorBC(g, lambda x, y, _: y - c.item(), end),
        "'OperatorBC' .* takes the value of the unknown 'C'",
    ),
    "value of a condition": (
        decay(1.0),
        lambda dde, g, c: dde.icbc.NeumannBC(
            g, lambda x: c + torch.zeros(len(x), 1), end
        ),
        r"values of NeumannBC depend on .*'C', .* with 0\.5.* as an OperatorBC",
    ),
    "number in a condition": (
        decay(1.0),
        lambda dde, g, c: dde.icbc.DirichletBC(g, lambda x: c.item(), end),
        "values of DirichletBC depend on",
    ),
}


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
@pytest.mark.parametrize("case", NOT_TRAINED)
def test_a_variable_that_would_not_be_trained_is_refused(case: str) -> None:
    pde, condition, message = NOT_TRAINED[case]
    with pytest.raises(ValueError, match=message):
        made(0.5, pde, condition)


def test_the_check_leaves_the_variables_as_they_were() -> None:
    with double_precision() as dde:
        c = dde.Variable(0.3)
        geometry = dde.geometry.TimeDomain(0, 1)
        initial = dde.icbc.IC(geometry, lambda x: 1, lambda x, on: on)
        data = dde.data.PDE(geometry, decay(1.0)(dde, None, c), initial, 8, 2)
        net = dde.nn.FNN([1, 4, 1], "tanh", "Glorot normal")
        federated.problem(data, net, external_trainable_variables=c)
    assert c.item() == 0.3
    assert c.requires_grad
    assert c.grad is None


def test_a_scale_may_be_given() -> None:
    with double_precision() as dde:
        c = dde.Variable(0.0)
        geometry = dde.geometry.TimeDomain(0, 1)
        data = dde.data.PDE(geometry, decay(1.0)(dde, None, c), [], 8, 2)
        net = dde.nn.FNN([1, 4, 1], "tanh", "Glorot normal")
        problem = federated.problem(
            data, net, external_trainable_variables=[c], scales={"c0": 4.0}
        )
    theta = torch.ones(problem.network.size, dtype=torch.float64)
    assert problem.numbers(theta) == {"c0": 4.0}
    with pytest.raises(ValueError, match="scale of 'k' is 1"):
        federated.problem(
            data, net, external_trainable_variables=[c], scales={"k": 1.0}
        )
