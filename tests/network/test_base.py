"""What a network says of itself, and a network of one's own."""

from dataclasses import replace

import pytest
import torch
from cases import CASES, draw, given, scalar, theta
from reference import jacobian, relative, residual
from torch import Generator, Tensor

from fedsciml import analysis, methods, run
from fedsciml.collocation import strips
from fedsciml.network import MLP, ModuleNetwork, Network, Parallel
from fedsciml.problem import Problem, Term
from fedsciml.residual import AutogradBlock, System, agreement, fingerprint, kronecker


class Waves(Network):
    """u = sum of a_k sin(k x), theta = a; it defines what it must and no more."""

    @property
    def size(self) -> int:
        return 5

    def init(self, generator: Generator, dtype: torch.dtype) -> Tensor:
        return torch.randn(5, generator=generator, dtype=torch.float64).to(dtype)

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        k = torch.arange(1, 6).to(x)
        return (torch.sin(k * x) @ theta).unsqueeze(-1)


class Duck:
    """The same without its base class."""

    size, init, __call__ = 5, Waves.init, Waves.__call__


@pytest.mark.parametrize("network", [Waves(), Duck()])
def test_a_network_of_one_s_own_needs_three_members(network: Network) -> None:
    problem = replace(scalar(), network=network)
    assert problem.unknowns == ()
    assert problem.numbers(theta(problem)) == {}
    system, start = System(problem, problem.pooled()), theta(problem)
    assert all(isinstance(block, AutogradBlock) for block in system.blocks)
    linear = system.linearise(start)
    assert relative(linear.residual, residual(problem, system.shard, start)) < 1e-13
    assert relative(linear.jacobian(), jacobian(problem, system.shard, start)) < 1e-13
    with pytest.raises(ValueError, match="need an MLP"):
        kronecker.factors(system, linear)


def test_a_network_of_one_s_own_is_trained_measured_and_told_from_others() -> None:
    points = draw(30, 1)
    data = Term("data", given, points, target=lambda x: torch.sin(3 * x[:, 0]))
    problem = Problem("waves", Waves(), [data], strips([0, 0.5, 1]), exact=data.target)
    result = run(problem, methods.load("fipa"), 8)
    assert result.errors()[0] < 1e-10  # the solution is one of its own
    assert result.unknowns() == {}
    assert analysis.measure(problem, result.theta).each["u"] < 1e-10
    for hash_of in (agreement, fingerprint):
        assert hash_of(problem) == hash_of(replace(problem, network=Waves()))
        for other in (Duck(), MLP((1, 2, 1))):
            assert hash_of(problem) != hash_of(replace(problem, network=other))


def test_a_network_of_one_s_own_stands_beside_others() -> None:
    network = Parallel([Duck(), MLP((1, 3, 1))], unknowns={"nu": 2.0})
    assert network.jets is None
    assert [*network.description()] == [
        "Duck",
        (1, 3, 1),
        "tanh",
        "fan_in",
        {"nu": 2.0},
        {"nu": "2.00000e+00"},
    ]
    start, x = network.init(Generator().manual_seed(0)), draw(4, 1)
    assert torch.equal(network(start, x)[:, :1], Waves()(start[:5], x))


@pytest.mark.parametrize("network", [torch.nn.Linear(1, 1), torch.sin, None])
def test_what_is_no_network_is_told_how_to_become_one(network: object) -> None:
    for make in (
        lambda: replace(scalar(), network=network),
        lambda: Parallel([network]),
    ):
        with pytest.raises(
            ValueError, match=r"ModuleNetwork.*fedsciml\.network\.Network"
        ):
            make()


@pytest.mark.parametrize("name", CASES)
def test_networks_say_what_they_can(name: str) -> None:
    network = CASES[name]().network
    assert isinstance(network, Network)
    assert (network.jets is None) == isinstance(network, ModuleNetwork)
    assert bool(network.widths) == isinstance(network, MLP)
    assert bool(network.unknowns) == (name in ("inverse", "transformed"))
