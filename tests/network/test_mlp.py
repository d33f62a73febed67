"""Fully connected networks as functions of theta."""

import pytest
import torch
from cases import draw
from reference import jacobian, relative
from torch import Generator, Tensor

from fedsciml.collocation import strips
from fedsciml.network import MLP, Jet, ModuleNetwork, PointFunction
from fedsciml.problem import Problem, Row, Term
from fedsciml.residual import System


def test_mlp_is_the_torch_module_of_the_same_layers() -> None:
    network = MLP((2, 5, 4, 3))
    theta = torch.randn(network.size, generator=Generator().manual_seed(0)).double()
    layers = []
    for weight, bias in network.layers(theta):
        linear = torch.nn.Linear(*weight.shape[::-1], dtype=torch.float64)
        linear.weight.data, linear.bias.data = weight, bias
        layers += [linear, torch.nn.Tanh()]
    module = torch.nn.Sequential(*layers[:-1])
    x = draw(6, 2)
    torch.testing.assert_close(network(theta, x), module(x), rtol=1e-14, atol=1e-15)
    wrapped = ModuleNetwork(module)
    assert torch.equal(wrapped.init(Generator()), theta)
    assert wrapped.size == network.size == 2 * 5 + 5 + 5 * 4 + 4 + 4 * 3 + 3
    assert torch.equal(wrapped(theta, x), module(x))


@pytest.mark.parametrize(
    ("initialisation", "variance"), [("fan_in", 1 / 200), ("glorot", 2 / 500)]
)
def test_start_has_the_named_variance_and_no_bias(
    initialisation: str, variance: float
) -> None:
    network = MLP((1, 200, 300, 1), initialisation=initialisation)
    theta = network.init(Generator().manual_seed(0))
    weight, bias = network.layers(theta)[1]
    assert not bias.any()
    # 60000 draws: the relative standard error of the variance is 0.6 %.
    assert float(weight.var()) == pytest.approx(variance, rel=0.03)


def test_start_depends_on_the_seed_alone_and_not_on_the_precision() -> None:
    network = MLP((2, 4, 1))
    start = network.init(Generator().manual_seed(3))
    assert torch.equal(start, network.init(Generator().manual_seed(3)))
    assert not torch.equal(start, network.init(Generator().manual_seed(4)))
    single = network.init(Generator().manual_seed(3), torch.float32)
    assert torch.equal(single, start.float())


def test_hard_constraint_holds_for_every_theta() -> None:
    network = MLP(
        (1, 4, 2),
        lift=lambda x: torch.cat([x, 1 - x], 1),
        distance=lambda x: x[:, 0] * (1 - x[:, 0]),
    )
    ends = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    for seed in range(3):
        theta = network.init(Generator().manual_seed(seed))
        assert torch.equal(network(theta, ends), torch.cat([ends, 1 - ends], 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": (2,)}, "needs widths"),
        ({"widths": (2, 0, 1)}, "needs widths"),
        ({"widths": (2, 3, 1), "activation": "ramp"}, "Unknown activation 'ramp'"),
        ({"widths": (2, 3, 1), "initialisation": "he"}, "Unknown initialisation 'he'"),
    ],
)
def test_impossible_network_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLP(**arguments)


@pytest.mark.parametrize("features", [None, lambda x: torch.cat([x, x.sin()], 1)])
def test_a_network_without_hidden_layers_is_affine_and_carries_jets(
    features: PointFunction | None,
) -> None:
    def residual(u: Jet, row: Row) -> tuple[Tensor, Tensor]:
        return u.value**2 + u.x * u.y, u.xx - row.y * u.value

    network = MLP((4 if features else 2, 1), features=features)
    problem = Problem(
        "affine",
        network,
        [Term("all", residual, draw(7, 2))],
        strips([0, 1]),
        coordinates="xy",
    )
    theta = torch.linspace(-1, 2, network.size).double()
    x = problem.terms[0].points
    taken = x if features is None else features(x)
    assert torch.allclose(network(theta, x)[:, 0], taken @ theta[:-1] + theta[-1])
    system = System(problem, problem.pooled())
    linear = system.linearise(theta)
    dense = jacobian(problem, problem.pooled(), theta)
    assert relative(linear.jacobian(), dense) < 1e-14  # measured 2e-16
    v, w = torch.ones(network.size).double(), torch.arange(14).double()
    assert relative(linear.jvp(v), dense @ v) < 1e-14
    assert relative(linear.vjp(w), dense.T @ w) < 1e-14
    several = system.losses(torch.stack([theta, 2 * theta]))
    one = [float(system.linearise(t).loss) for t in (theta, 2 * theta)]
    assert several.tolist() == pytest.approx(one, rel=1e-14)


def test_a_network_starts_where_it_is_told() -> None:
    start = torch.arange(13.0)
    network = MLP((2, 3, 1), start=start)
    drawn = network.init(Generator().manual_seed(5), torch.float64)
    assert torch.equal(drawn, start.double())
    drawn += 1
    assert torch.equal(start, torch.arange(13.0))
    with pytest.raises(ValueError, match=r"from \[13\] parameters; got shape \[12\]"):
        MLP((2, 3, 1), start=start[1:])
